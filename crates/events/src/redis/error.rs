//! What can go wrong with Redis, told apart by what the caller can do about it.

use fred::error::{Error, ErrorKind};
use thiserror::Error as ThisError;

use super::address::InvalidAddress;

/// Answers with which a server says that it can't serve now, whoever asks.
const UNABLE: &[&str] = &[
    "LOADING",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "READONLY",
    "MISCONF",
    "OOM",
    "NOREPLICAS",
    "TRYAGAIN",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
    "BUSY ",
];

/// A command or connection failed. No text of it holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum RedisError {
    /// The address can't be read.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// Trusted roots can't be loaded.
    #[error("the trusted roots for Redis can't be loaded: {0}")]
    Roots(String),
    /// There is no connection, or the answer did not come in time; the command may have run.
    #[error("Redis is unreachable: {0}")]
    Unreachable(String),
    /// The server is there and can't serve anyone now: it loads, is full, is read-only, wants another
    /// login.
    #[error("Redis can't serve: {0}")]
    Unable(String),
    /// The server refused this command.
    #[error("Redis refused the command: {0}")]
    Refused(String),
    /// The answer has another shape than the command's.
    #[error("Redis gave an unexpected answer to {0}")]
    Unexpected(&'static str),
}

impl RedisError {
    /// Whether it is Redis that fails and not the command: trying again later can help.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unable(_))
    }

    /// Whether the server said that the script is unknown to it.
    pub(super) fn is_unknown_script(&self) -> bool {
        self.refusal().starts_with("NOSCRIPT")
    }

    /// Whether the server said that the consumer group is unknown to it.
    pub(super) fn is_unknown_group(&self) -> bool {
        let refusal = self.refusal();
        refusal.starts_with("NOGROUP") || refusal.contains("no such key")
    }

    /// Whether the server said that the consumer group exists.
    pub(super) fn is_known_group(&self) -> bool {
        self.refusal().starts_with("BUSYGROUP")
    }

    fn refusal(&self) -> &str {
        match self {
            Self::Refused(detail) => detail,
            _ => "",
        }
    }
}

impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        let detail = error.details();
        if UNABLE.iter().any(|prefix| detail.starts_with(prefix)) {
            return Self::Unable(detail.to_owned());
        }
        match error.kind() {
            ErrorKind::IO
            | ErrorKind::Canceled
            | ErrorKind::Timeout
            | ErrorKind::Routing
            | ErrorKind::Backpressure
            | ErrorKind::Tls
            | ErrorKind::Auth
            | ErrorKind::Sentinel
            | ErrorKind::Cluster
            | ErrorKind::Protocol => Self::Unreachable(error.to_string()),
            _ => Self::Refused(detail.to_owned()),
        }
    }
}
