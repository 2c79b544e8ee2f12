//! What a server's settings mean for evidence and replay marks.
//!
//! A server that evicts keys forgets marks and evidence on its own; one that writes nothing to disk
//! loses the whole stream with the process. Readiness and `caracal doctor` tell of both. Managed
//! services often forbid `CONFIG`: what `INFO` does not tell is then told as unknown.

use std::collections::HashMap;
use std::fmt;

use caracal_core::Timestamp;
use fred::clients::{Client, WithOptions};
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, InfoKind, Value};

use super::connection::Redis;
use super::entry::{array, text};
use super::error::RedisError;

/// The oldest server whose commands suffice.
const OLDEST: (u32, u32) = (6, 2);

/// Something about a server that should be otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerFinding {
    /// It is older than Redis 6.2.
    TooOld(String),
    /// It removes keys when memory is full: `maxmemory-policy` is this and not `noeviction`.
    Evicts(String),
    /// Neither an append-only file nor snapshots are written.
    NotPersistent,
    /// There is no append-only file, and the server does not tell whether it writes snapshots.
    PersistenceUnknown,
    /// The last write to disk failed, so it takes no writes or will lose them.
    DiskFails,
}

impl ServerFinding {
    /// Whether nothing works with such a server.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::TooOld(_))
    }
}

impl fmt::Display for ServerFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld(version) => {
                write!(f, "Redis {version} is too old: run 6.2 or later, or Valkey")
            }
            Self::Evicts(policy) => write!(
                f,
                "maxmemory-policy is {policy}: set noeviction, or evidence and replay marks vanish when memory is full"
            ),
            Self::NotPersistent => {
                f.write_str("nothing is written to disk: set appendonly yes")
            }
            Self::PersistenceUnknown => f.write_str(
                "there is no append-only file and CONFIG is forbidden: make sure that snapshots are on, or set appendonly yes",
            ),
            Self::DiskFails => {
                f.write_str("the last write to disk failed: look at the server's log and disk")
            }
        }
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// `host:port`, or the socket.
    pub server: String,
    /// Its version, of Valkey where it is one.
    pub version: String,
    /// Its clock, where it tells.
    pub clock: Option<Timestamp>,
    /// What should be otherwise.
    pub findings: Vec<ServerFinding>,
}

impl Redis {
    /// Asks every server that this connection talks to for its settings.
    ///
    /// # Errors
    /// [`RedisError`] when a server does not answer.
    pub async fn server_findings(&self) -> Result<Vec<ServerReport>, RedisError> {
        let mut reports = Vec::new();
        for (server, commands) in self.each_server() {
            reports.push(self.inspect(server, &commands).await?);
        }
        Ok(reports)
    }

    async fn inspect(
        &self,
        server: String,
        commands: &WithOptions<Client>,
    ) -> Result<ServerReport, RedisError> {
        let general = self.told(commands, InfoKind::Server).await?;
        let memory = self.told(commands, InfoKind::Memory).await?;
        let persistence = self.told(commands, InfoKind::Persistence).await?;
        let redis = general.get("redis_version").cloned().unwrap_or_default();
        let mut findings = Vec::new();
        if is_too_old(&redis) {
            findings.push(ServerFinding::TooOld(redis.clone()));
        }
        if let Some(policy) = memory.get("maxmemory_policy")
            && policy != "noeviction"
        {
            findings.push(ServerFinding::Evicts(policy.clone()));
        }
        if persistence.get("aof_enabled").map(String::as_str) != Some("1") {
            findings.extend(match self.snapshots(commands).await {
                Some(true) => None,
                Some(false) => Some(ServerFinding::NotPersistent),
                None => Some(ServerFinding::PersistenceUnknown),
            });
        }
        let failed = ["aof_last_write_status", "rdb_last_bgsave_status"]
            .iter()
            .any(|name| persistence.get(*name).is_some_and(|status| status != "ok"));
        if failed {
            findings.push(ServerFinding::DiskFails);
        }
        let version = general.get("valkey_version").cloned().unwrap_or(redis);
        let clock = general.get("server_time_usec");
        let clock = clock.and_then(|micros| micros.parse().ok());
        Ok(ServerReport {
            server,
            version,
            clock: clock.map(Timestamp::from_micros),
            findings,
        })
    }

    async fn told(
        &self,
        commands: &WithOptions<Client>,
        section: InfoKind,
    ) -> Result<HashMap<String, String>, RedisError> {
        let told: String = self.run(commands.info(Some(section))).await?;
        let lines = told.lines().filter_map(|line| line.split_once(':'));
        Ok(lines
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect())
    }

    /// Whether snapshots are written, where the server tells.
    async fn snapshots(&self, commands: &WithOptions<Client>) -> Option<bool> {
        let config = CustomCommand::new_static("CONFIG", ClusterHash::Random, false);
        let asked = commands.custom::<Value, _>(config, vec!["GET", "save"]);
        let answer = array(self.run(asked).await.ok()?, "CONFIG GET").ok()?;
        let save = text(answer.get(1)?, "CONFIG GET").ok()?;
        Some(!save.is_empty())
    }
}

fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for old in ["5.0.14", "6.0.16", "6.1"] {
            assert!(is_too_old(old), "{old}");
        }
        for fine in ["6.2.0", "7.0.15", "8.0", "10.1.0", "255.255.255"] {
            assert!(!is_too_old(fine), "{fine}");
        }
    }
}
