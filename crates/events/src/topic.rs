//! The streams.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A stream, by its name on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Revocation anchors; read by the Gateway and by resource servers.
    SessionsRevoke,
    /// The delegation epoch of a zone; read by resource servers.
    DelegationsInvalidate,
    /// A zone's policies changed.
    PolicyInvalidate,
    /// A zone's signing keys changed.
    KeysInvalidate,
    /// Starts, suspensions, resumptions and ends of Sessions.
    AgentsLifecycle,
    /// Changes of invocations.
    InvocationsLifecycle,
    /// Audit events on their way to the Audit role.
    AuditEvents,
}

impl Topic {
    /// Every stream.
    pub const ALL: [Self; 7] = [
        Self::SessionsRevoke,
        Self::DelegationsInvalidate,
        Self::PolicyInvalidate,
        Self::KeysInvalidate,
        Self::AgentsLifecycle,
        Self::InvocationsLifecycle,
        Self::AuditEvents,
    ];

    /// The stream's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionsRevoke => "caracal.sessions.revoke",
            Self::DelegationsInvalidate => "caracal.delegations.invalidate",
            Self::PolicyInvalidate => "caracal.policy.invalidate",
            Self::KeysInvalidate => "caracal.keys.invalidate",
            Self::AgentsLifecycle => "caracal.agents.lifecycle",
            Self::InvocationsLifecycle => "caracal.invocations.lifecycle",
            Self::AuditEvents => "caracal.audit.events",
        }
    }

    /// Whether messages of this stream withdraw authority: publish them before all others.
    #[must_use]
    pub const fn is_urgent(self) -> bool {
        matches!(self, Self::SessionsRevoke | Self::DelegationsInvalidate)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not the name of a stream")]
pub struct UnknownTopic;

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(text: &str) -> Result<Self, UnknownTopic> {
        Self::ALL
            .into_iter()
            .find(|topic| topic.as_str() == text)
            .ok_or(UnknownTopic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_its_stream() {
        for topic in Topic::ALL {
            assert_eq!(topic.as_str().parse(), Ok(topic));
        }
        assert_eq!("caracal.sessions".parse::<Topic>(), Err(UnknownTopic));
    }
}
