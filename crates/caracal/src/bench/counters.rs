//! What the stores were asked: statements from `pg_stat_statements`, commands from Redis's
//! `INFO commandstats`.

use std::collections::BTreeMap;

use fred::interfaces::ClientLike;
use fred::prelude::{Builder, Client, Config};
use fred::types::InfoKind;
use sqlx::{Connection, PgConnection};

use crate::config::Environment;

type Failure = Box<dyn std::error::Error>;

/// Statements of every user in this database, maintenance left out.
const STATEMENTS: &str = "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements \
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// What the roles' scripts run inside the server, and no role sends by itself: the server counts both
/// alike, but they cost no round trip.
const INSIDE_SCRIPTS: [&str; 5] = ["get", "set", "time", "incrby", "pexpire"];

/// Connections to the stores of a deployment.
pub(crate) struct Counters {
    database_url: String,
    redis: Client,
}

/// A reading, or the difference of two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// `None` where the extension is missing or may not be read.
    pub(crate) statements: Option<u64>,
    /// Calls of each command.
    pub(crate) commands: BTreeMap<String, u64>,
}

impl Counters {
    /// Of the stores that the environment names; `None` when it names none.
    pub(crate) async fn of(environment: &Environment) -> Result<Option<Self>, Failure> {
        let (Some(database_url), Some(redis_url)) = (
            value_of(environment, "DATABASE_URL")?,
            value_of(environment, "REDIS_URL")?,
        ) else {
            return Ok(None);
        };
        let redis = Builder::from_config(Config::from_url(&redis_url)?).build()?;
        redis.init().await?;
        Ok(Some(Self {
            database_url,
            redis,
        }))
    }

    pub(crate) async fn read(&self) -> Result<Counted, Failure> {
        let mut connection = PgConnection::connect(&self.database_url).await?;
        let statements: Result<i64, _> = sqlx::query_scalar(STATEMENTS)
            .fetch_one(&mut connection)
            .await;
        connection.close().await?;
        let text: String = self.redis.info(Some(InfoKind::CommandStats)).await?;
        Ok(Counted {
            statements: statements.ok().and_then(|n| u64::try_from(n).ok()),
            commands: parse(&text),
        })
    }
}

impl Counted {
    /// What was counted after `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let statements = self.statements.zip(before.statements);
        let commands = self.commands.iter().filter_map(|(name, calls)| {
            let earlier = before.commands.get(name).copied().unwrap_or_default();
            let more = calls.saturating_sub(earlier);
            (more > 0).then(|| (name.clone(), more))
        });
        Self {
            statements: statements.map(|(after, before)| after.saturating_sub(before)),
            commands: commands.collect(),
        }
    }

    /// The commands that were sent.
    pub(crate) fn sent(&self) -> u64 {
        let sent = |name: &str| !INSIDE_SCRIPTS.contains(&name);
        let sent = self.commands.iter().filter(|(name, _)| sent(name));
        sent.map(|(_, calls)| calls).sum()
    }
}

fn value_of(environment: &Environment, name: &str) -> Result<Option<String>, Failure> {
    if let Some(value) = environment.get(name) {
        return Ok(Some(value.to_owned()));
    }
    match environment.get(&format!("{name}_FILE")) {
        Some(path) => Ok(Some(std::fs::read_to_string(path)?.trim_end().to_owned())),
        None => Ok(None),
    }
}

/// `cmdstat_set:calls=3,usec=…` lines; the bench's own INFO is left out.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        let calls = fields.strip_prefix("calls=")?.split(',').next()?;
        Some((name.to_owned(), calls.parse().ok()?))
    };
    let mut commands: BTreeMap<String, u64> = text.lines().filter_map(line).collect();
    commands.remove("info");
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_between_two_readings_and_what_scripts_ran_was_not_sent() {
        let reading = |set: u64, info: u64| Counted {
            statements: Some(set * 2),
            commands: parse(&format!(
                "# Commandstats\r\ncmdstat_set:calls={set},usec=9,usec_per_call=3.0\r\n\
                 cmdstat_evalsha:calls={set},usec=9\r\n\
                 cmdstat_info:calls={info},usec=1\r\ncmdstat_config|get:calls=1,usec=1\r\n"
            )),
        };
        let counted = reading(10, 2).since(&reading(4, 1));
        let each = ["evalsha", "set"].map(|name| (name.to_owned(), 6));
        assert_eq!(counted.commands, BTreeMap::from(each));
        assert_eq!(counted.sent(), 6);
        assert_eq!(counted.statements, Some(12));
    }
}
