//! PostgreSQL, as each role's login and as the administrative one.

use std::collections::BTreeSet;
use std::sync::Arc;

use caracal_core::{Clock, Secret, SystemClock, SystemRandom};
use caracal_store::{
    PostgresFindings, PostgresOptions, ServiceRole, Store, can_act_as, inspect_postgres,
};

use super::check::Check;
use super::{clocks, store};
use crate::config::{Environment, Role};
use crate::deployment::options;
use crate::migrate::server_version;

const NAME: &str = "postgres";

/// The major versions that are tested.
const VERSIONS: std::ops::RangeInclusive<i64> = 14..=18;

pub(super) async fn examine(environment: &Environment, roles: &BTreeSet<Role>) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut server = None;
    for role in roles.iter().copied() {
        let Some(options) = login_of(environment, role, &mut checks) else {
            continue;
        };
        let before = SystemClock.now();
        match inspect_postgres(&options).await {
            Ok(findings) => {
                checks.extend(may_act(&options, role, &findings).await);
                server = server.or(Some((options, findings, before, SystemClock.now())));
            }
            Err(error) => checks.push(Check::fail(
                NAME,
                format!("the {role} role's login: {error}"),
                format!(
                    "correct {} or DATABASE_URL, and make the server reachable from here",
                    role.database_variable()
                ),
            )),
        }
    }
    if let Some((options, findings, before, after)) = server {
        checks.extend(judge(&options, &findings));
        checks.push(clocks::judge("postgres", findings.now, before, after));
        if findings.pending == 0 {
            checks.extend(content(environment, options).await);
        }
    }
    checks
}

fn login_of(
    environment: &Environment,
    role: Role,
    checks: &mut Vec<Check>,
) -> Option<PostgresOptions> {
    let url = environment
        .secret(role.database_variable())
        .and_then(|own| Ok(own.or(environment.secret("DATABASE_URL")?)));
    match url {
        Ok(Some(url)) => Some(options(environment, url)),
        // The configuration's check tells of it.
        Ok(None) => None,
        Err(error) => {
            let remedy = format!("correct {}_FILE", role.database_variable());
            checks.push(Check::fail(NAME, error.to_string(), remedy));
            None
        }
    }
}

/// Whether a login may act as its role, tried, and does not stand above the rules.
async fn may_act(
    options: &PostgresOptions,
    role: Role,
    findings: &PostgresFindings,
) -> Option<Check> {
    const NAME: &str = "database role";
    let service = service_role(role);
    let (name, login) = (service.name(), &findings.login);
    if !findings.known_roles.contains(&service) {
        return Some(Check::fail(
            NAME,
            format!("{name} does not exist on the server"),
            "run `caracal migrate` with a login that may make roles",
        ));
    }
    if !matches!(can_act_as(options, service).await, Ok(true)) {
        return Some(Check::fail(
            NAME,
            format!("{login} can't act as {name}"),
            format!("GRANT {name} TO {login}, or let the role log in with its own URL"),
        ));
    }
    Some(if findings.bypasses_rules {
        Check::warn(
            NAME,
            format!("{login} acts as {name}, but is a superuser or bypasses row-level security"),
            "use a login that is neither: nothing here needs it",
        )
    } else {
        Check::ok(NAME, format!("{login} acts as {name}"))
    })
}

fn service_role(role: Role) -> ServiceRole {
    match role {
        Role::Api => ServiceRole::Api,
        Role::Sts => ServiceRole::Sts,
        Role::Gateway => ServiceRole::Gateway,
        Role::Audit => ServiceRole::Audit,
        Role::Coordinator => ServiceRole::Coordinator,
    }
}

fn judge(options: &PostgresOptions, findings: &PostgresFindings) -> Vec<Check> {
    vec![
        version(findings),
        tls(options, findings),
        migrations(findings),
        row_security(findings),
        connections(findings),
    ]
}

fn version(findings: &PostgresFindings) -> Check {
    let shown = format!("version {}", server_version(findings.version));
    if VERSIONS.contains(&(findings.version / 10_000)) {
        Check::ok(NAME, shown)
    } else {
        Check::fail(NAME, shown, "run PostgreSQL 14 to 18")
    }
}

fn tls(options: &PostgresOptions, findings: &PostgresFindings) -> Check {
    const NAME: &str = "postgres tls";
    match &findings.tls {
        Some(version) => Check::ok(NAME, version.clone()),
        None if is_near(&options.url) => Check::ok(NAME, "in the clear, to this host"),
        None => Check::warn(
            NAME,
            "the connection is in the clear",
            "add sslmode=verify-full to the database URLs",
        ),
    }
}

/// Whether the connection never leaves this host.
fn is_near(url: &Secret<String>) -> bool {
    let Ok(url) = url::Url::parse(url.expose()) else {
        return false;
    };
    match url.host_str() {
        None | Some("" | "localhost" | "127.0.0.1" | "[::1]") => true,
        Some(host) => host.starts_with("%2F") || host.starts_with("%2f"),
    }
}

fn migrations(findings: &PostgresFindings) -> Check {
    const NAME: &str = "migrations";
    match &findings.migrations {
        None => Check::fail(
            NAME,
            "the database has no schema",
            "run `caracal migrate` with the administrative login",
        ),
        Some(_) if findings.pending > 0 => Check::fail(
            NAME,
            format!("{} to apply", findings.pending),
            "run `caracal migrate` with the administrative login",
        ),
        Some(applied) => {
            let newest = applied.last().map_or(0, |row| row.version);
            Check::ok(NAME, format!("complete, version {newest}"))
        }
    }
}

fn row_security(findings: &PostgresFindings) -> Check {
    const NAME: &str = "row security";
    if findings.unprotected.is_empty() {
        Check::ok(NAME, "forced on every table of a zone")
    } else {
        Check::fail(
            NAME,
            format!("not forced on {}", findings.unprotected.join(", ")),
            "find out who altered the tables, and restore the schema from a backup",
        )
    }
}

fn connections(findings: &PostgresFindings) -> Check {
    const NAME: &str = "connections";
    let (used, most) = (findings.used_connections, findings.max_connections);
    let found = format!("{used} of {most} in use");
    if used.saturating_mul(10) > most.saturating_mul(9) {
        Check::warn(
            NAME,
            found,
            "raise max_connections, or lower DB_MAX_CONNS and DB_POOL_MAX of the roles",
        )
    } else {
        Check::ok(NAME, found)
    }
}

/// What the tables hold, read as the Admin API, which may read all that is checked.
async fn content(environment: &Environment, options: PostgresOptions) -> Vec<Check> {
    let options = options.acting_as(ServiceRole::Api);
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    match Store::open_postgres(options, clock, random).await {
        Ok(store) => {
            let checks = store::examine(&store, environment).await;
            store.close().await;
            checks
        }
        Err(error) => vec![Check::warn(
            "content",
            error.to_string(),
            "run this with the Admin API's database URL to check what the tables hold",
        )],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_in_the_clear_is_fine_only_on_this_host() {
        let near = |url: &str| is_near(&Secret::new(url.to_owned()));
        assert!(near("postgres://u:p@127.0.0.1:5432/d"));
        assert!(near("postgres://u:p@localhost/d"));
        assert!(near("postgres://u@%2Fvar%2Frun%2Fpostgresql/d"));
        assert!(!near("postgres://u:p@10.0.0.5/d"));
        assert!(!near("no url"));
    }
}
