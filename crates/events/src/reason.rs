//! The reason of a change: the one free text that a message may carry.
//!
//! The signed form of a message separates fields by line feeds and escapes nothing. A reason with a
//! line feed in it could spell another field, so control characters are refused where it comes in.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

/// The longest reason, in characters.
pub const MAX_REASON_CHARS: usize = 512;

/// Why authority changed: 1 to [`MAX_REASON_CHARS`] characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Cow<'static, str>);

/// A text cannot be a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a reason has 1 to {MAX_REASON_CHARS} characters and no control characters")]
pub struct InvalidReason;

impl Reason {
    /// Somebody asked, and said no more.
    pub const REQUESTED: Self = Self(Cow::Borrowed("requested"));
    /// A delegation was revoked.
    pub const DELEGATION_REVOKED: Self = Self(Cow::Borrowed("delegation_revoked"));
    /// A grant was revoked.
    pub const GRANT_REVOKED: Self = Self(Cow::Borrowed("grant_revoked"));
    /// A subject lost everything.
    pub const SUBJECT_REVOKED: Self = Self(Cow::Borrowed("subject_revoked"));
    /// The authority behind the subject ended.
    pub const SUBJECT_AUTHORITY_INACTIVE: Self = Self(Cow::Borrowed("subject_authority_inactive"));
    /// A parent Session ended.
    pub const PARENT_TERMINATED: Self = Self(Cow::Borrowed("parent_terminated"));
    /// A service stopped sending heartbeats.
    pub const SERVICE_HEARTBEAT_LOST: Self = Self(Cow::Borrowed("service_heartbeat_lost"));
    /// A Session's time was over.
    pub const TTL: Self = Self(Cow::Borrowed("ttl"));
    /// Dynamic registration of a zone was shut down.
    pub const DCR_SHUTDOWN: Self = Self(Cow::Borrowed("dcr_shutdown"));
    /// A zone was deleted.
    pub const ZONE_DELETED: Self = Self(Cow::Borrowed("zone_deleted"));

    /// Checks a caller's text.
    ///
    /// # Errors
    /// [`InvalidReason`] for an empty or overlong text, or one with a control character.
    pub fn parse(text: &str) -> Result<Self, InvalidReason> {
        let length = text.chars().take(MAX_REASON_CHARS + 1).count();
        if (1..=MAX_REASON_CHARS).contains(&length) && !text.chars().any(char::is_control) {
            Ok(Self(Cow::Owned(text.to_owned())))
        } else {
            Err(InvalidReason)
        }
    }

    /// The reason as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_refused() {
        for bad in [
            "",
            "a\nzone_id=z2",
            "a\r",
            "tab\t",
            "\u{7f}",
            "\u{85}",
            "nul\0",
        ] {
            assert_eq!(Reason::parse(bad), Err(InvalidReason), "{bad:?}");
        }
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert!(Reason::parse(&"é".repeat(MAX_REASON_CHARS)).is_ok());
        assert_eq!(
            Reason::parse(&"é".repeat(MAX_REASON_CHARS + 1)),
            Err(InvalidReason)
        );
    }
}
