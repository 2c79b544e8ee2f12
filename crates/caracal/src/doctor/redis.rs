//! Redis: reachable, new enough, and set up to keep what it is given.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use caracal_core::{Clock, SystemClock};
use caracal_events::redis::{Redis, RedisAddress, RedisError, RedisOptions, ServerReport};

use super::check::Check;
use super::clocks;
use crate::config::{Environment, Role};

const NAME: &str = "redis";
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn examine(environment: &Environment, _: &BTreeSet<Role>) -> Vec<Check> {
    let address = match environment.secret("REDIS_URL") {
        // The configuration's check tells of it.
        Ok(None) => return Vec::new(),
        Ok(Some(url)) => match RedisAddress::parse(&url) {
            Ok(address) => address,
            Err(error) => {
                return vec![Check::fail(NAME, error.to_string(), "correct REDIS_URL")];
            }
        },
        Err(error) => {
            return vec![Check::fail(
                NAME,
                error.to_string(),
                "correct REDIS_URL_FILE",
            )];
        }
    };
    let in_the_clear = !address.is_tls();
    let options = RedisOptions {
        extra_ca_file: environment
            .get("CARACAL_TLS_EXTRA_CA_FILE")
            .map(PathBuf::from),
        ..RedisOptions::new(address)
    };
    let before = SystemClock.now();
    match ask(&options).await {
        Ok(reports) => {
            let after = SystemClock.now();
            let mut checks: Vec<Check> = reports.iter().flat_map(judge).collect();
            for (server, clock) in reports.iter().filter_map(|r| Some((&r.server, r.clock?))) {
                let whose = format!("redis {server}");
                checks.push(clocks::judge(&whose, clock, before, after));
            }
            if in_the_clear && !reports.iter().all(|report| is_near(&report.server)) {
                checks.push(Check::warn(
                    "redis tls",
                    "the connection is in the clear",
                    "use a rediss: URL",
                ));
            }
            checks
        }
        Err(error) => vec![Check::fail(
            NAME,
            error.to_string(),
            "correct REDIS_URL, and make the server reachable from here",
        )],
    }
}

async fn ask(options: &RedisOptions) -> Result<Vec<ServerReport>, RedisError> {
    let redis = Redis::open(options)?;
    redis.connected(PATIENCE).await?;
    redis.server_findings().await
}

fn is_near(server: &str) -> bool {
    server.starts_with('/')
        || ["127.0.0.1:", "localhost:", "[::1]:", "::1:"]
            .iter()
            .any(|near| server.starts_with(near))
}

fn judge(report: &ServerReport) -> Vec<Check> {
    let who = format!("{} version {}", report.server, report.version);
    if report.findings.is_empty() {
        return vec![Check::ok(NAME, who)];
    }
    let finding = |finding: &caracal_events::redis::ServerFinding| {
        let text = finding.to_string();
        let (found, remedy) = text
            .split_once(": ")
            .unwrap_or((&text, "see the server's log"));
        let found = format!("{who}: {found}");
        if finding.is_fatal() {
            Check::fail(NAME, found, remedy)
        } else {
            Check::warn(NAME, found, remedy)
        }
    };
    report.findings.iter().map(finding).collect()
}
