//! Identifiers.
//!
//! Ids that we make are UUIDv7 text, so that they sort by time. Ids that we read are any text of the
//! id alphabet (1 to 128 of `A-Z a-z 0-9 _ . - :`): whoever holds an id type holds a checked value.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use uuid::Uuid;

use crate::clock::Clock;
use crate::random::{Random, bytes};

/// A text is not an id: empty, longer than 128 bytes, or outside the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an id has 1 to 128 letters, digits, '_', '.', '-' or ':'")]
pub struct InvalidId;

/// Whether `text` is 1 to 128 bytes of the id alphabet.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b':'))
}

/// A fresh UUIDv7 (RFC 9562 §5.7) from the given clock and random source.
#[must_use]
pub fn uuid_v7(clock: &dyn Clock, random: &dyn Random) -> Uuid {
    let millis = u64::try_from(clock.now().millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes(random)).into_uuid()
}

/// A fresh UUIDv4: for ids that are capabilities and must not be guessable from the time.
#[must_use]
pub fn uuid_v4(random: &dyn Random) -> Uuid {
    uuid::Builder::from_random_bytes(bytes(random)).into_uuid()
}

/// The instant, in Unix milliseconds, that a UUIDv7 text carries; `None` for any other text.
#[must_use]
pub fn uuid_v7_millis(text: &str) -> Option<u64> {
    let id = Uuid::try_parse(text).ok()?;
    if id.get_version_num() != 7 {
        return None;
    }
    let raw = id.as_bytes();
    Some(
        raw[..6]
            .iter()
            .fold(0, |millis, byte| millis << 8 | u64::from(*byte)),
    )
}

macro_rules! text_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the id alphabet and length.
            ///
            /// # Errors
            /// [`InvalidId`] for any other text.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if is_id(text) { Ok(Self(text.into())) } else { Err(InvalidId) }
            }

            /// A fresh UUIDv7 id.
            #[must_use]
            pub fn generate(clock: &dyn Clock, random: &dyn Random) -> Self {
                Self(uuid_v7(clock, random).hyphenated().to_string().into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

text_id! {
    /// A tenant: everything but admin tokens belongs to exactly one zone.
    ZoneId;
    /// A client of the STS; the mandate's `client_id`.
    ApplicationId;
    /// A protected resource's row id. Its name on the wire is a [`crate::ResourceIdentifier`].
    ResourceId;
    /// A credential provider.
    ProviderId;
    /// A policy.
    PolicyId;
    /// One immutable version of a policy.
    PolicyVersionId;
    /// A policy set.
    PolicySetId;
    /// One immutable version of a policy set.
    PolicySetVersionId;
    /// A governed Session: `agent_session_id` on the wire.
    SessionId;
    /// A delegation edge: `delegation_edge_id` on the wire.
    DelegationId;
    /// An authority record: `sid` and `root_sid` in mandates, `session_id` in the token form.
    AuthorityRecordId;
    /// A zone signing key; the JWS `kid`.
    KeyId;
    /// A mandate's `jti`.
    MandateId;
    /// An admin token's row id.
    AdminTokenId;
    /// An audit event.
    EventId;
    /// A row of the outbox.
    OutboxId;
}

/// A correlation id: `[A-Za-z0-9_.:-]{1,128}`, one rule on every role. The caller may choose it, so
/// it is never a key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Takes the caller's id when it is well formed, else makes a UUIDv7.
    #[must_use]
    pub fn accept(offered: Option<&str>, clock: &dyn Clock, random: &dyn Random) -> Self {
        match offered {
            Some(text) if is_id(text) => Self(text.into()),
            _ => Self(uuid_v7(clock, random).hyphenated().to_string().into()),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::random::SeededRandom;

    #[test]
    fn generated_ids_sort_by_time_and_carry_it() {
        let clock = ManualClock::at(Timestamp::from_seconds(1_767_225_600));
        let random = SeededRandom::new(1);
        let first = SessionId::generate(&clock, &random);
        clock.advance_seconds(1);
        let second = SessionId::generate(&clock, &random);
        assert!(first < second);
        assert_eq!(uuid_v7_millis(first.as_str()), Some(1_767_225_600_000));
    }

    #[test]
    fn ids_outside_the_alphabet_are_refused() {
        for bad in ["", "a b", "a/b", "é", "a\n", &"x".repeat(129)] {
            assert_eq!(ZoneId::parse(bad), Err(InvalidId), "{bad:?}");
        }
        assert!(ZoneId::parse("zone-9:a_b.c").is_ok());
    }

    #[test]
    fn a_malformed_request_id_is_replaced() {
        let clock = ManualClock::at(Timestamp::from_seconds(1));
        let random = SeededRandom::new(2);
        assert_eq!(
            RequestId::accept(Some("abc-123"), &clock, &random).as_str(),
            "abc-123"
        );
        let made = RequestId::accept(Some("a b"), &clock, &random);
        assert!(uuid_v7_millis(made.as_str()).is_some());
    }
}
