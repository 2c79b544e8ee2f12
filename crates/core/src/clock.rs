//! Time as an input.
//!
//! All expiry decisions are made on [`Timestamp`]s, microseconds since the Unix epoch: the precision
//! that the store keeps and that page cursors need so that no row is lost at a page border.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The largest instant that still prints as a four-digit year.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds since the Unix epoch.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Whole seconds since the Unix epoch, rounded down: the unit of `iat` and `exp`.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This instant plus `seconds`, saturating.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// This instant plus `duration`, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long from `earlier` to this instant; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339, UTC, exactly three fraction digits and `Z`: the form of every timestamp on the wire.
    #[must_use]
    pub fn to_rfc3339_millis(self) -> String {
        let date = self.to_offset_date_time();
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second(),
            date.millisecond()
        )
    }

    /// RFC 3339, UTC, whole seconds and `Z`.
    #[must_use]
    pub fn to_rfc3339_seconds(self) -> String {
        let mut text = self.to_rfc3339_millis();
        text.truncate(19);
        text.push('Z');
        text
    }

    /// RFC 3339, UTC, six fraction digits and `Z`: audit events.
    #[must_use]
    pub fn to_rfc3339_micros(self) -> String {
        let mut text = self.to_rfc3339_seconds();
        text.truncate(19);
        text.push_str(&format!(".{:06}Z", self.0.rem_euclid(1_000_000)));
        text
    }

    /// Parses any RFC 3339 instant; the offset is required, precision beyond microseconds is cut.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(date.unix_timestamp_nanos().div_euclid(1_000))
            .ok()
            .map(Self)
    }

    /// Parses the strict input form of the Coordinator and the Admin API: full date, `T`, `hh:mm:ss`
    /// with an optional fraction, and a literal upper-case `Z`.
    #[must_use]
    pub fn parse_utc(text: &str) -> Option<Self> {
        let shaped = text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z');
        if shaped {
            Self::parse_rfc3339(text)
        } else {
            None
        }
    }

    fn to_offset_date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339_micros())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339_millis())
    }
}

/// On the wire a timestamp is RFC 3339 with milliseconds.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_rfc3339_millis())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// The source of time of everything that decides.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the system clock"
    )]
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(elapsed) => Timestamp::default().plus(elapsed),
            Err(_) => Timestamp::default(),
        }
    }
}

/// A clock that tests set and move.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.micros()))
    }

    /// Moves the clock by whole seconds, backwards when negative.
    pub fn advance_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1_000_000, Ordering::SeqCst);
    }

    /// Sets the clock.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_exactly_three_fraction_digits() {
        let at = Timestamp::from_micros(1_767_225_600_120_999);
        assert_eq!(at.to_rfc3339_millis(), "2026-01-01T00:00:00.120Z");
        assert_eq!(at.to_rfc3339_seconds(), "2026-01-01T00:00:00Z");
        assert_eq!(at.to_rfc3339_micros(), "2026-01-01T00:00:00.120999Z");
    }

    #[test]
    fn strict_form_refuses_offsets_and_missing_seconds() {
        assert!(Timestamp::parse_utc("2026-07-29T10:00:00Z").is_some());
        assert!(Timestamp::parse_utc("2026-07-29T10:00:00.5Z").is_some());
        for bad in [
            "2026-07-29T10:00:00+00:00",
            "2026-07-29T10:00Z",
            "2026-07-29T10:00:00z",
            "2026-02-30T10:00:00Z",
            "2026-07-29 10:00:00Z",
            "",
        ] {
            assert_eq!(Timestamp::parse_utc(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_clock_that_ran_backwards_gives_no_elapsed_time() {
        let earlier = Timestamp::from_seconds(10);
        assert_eq!(earlier.since(Timestamp::from_seconds(20)), Duration::ZERO);
    }
}
