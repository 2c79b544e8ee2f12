//! How long a mandate lives: no longer than anything that its authority came through.
//!
//! The caller asks for a time, its class caps it, and then the minimum over every ancestor decides.
//! `iat` and `exp` are whole seconds, and both are rounded so that the mandate ends no later than the
//! earliest of its ancestors.

use std::time::Duration;

use caracal_core::Timestamp;
use thiserror::Error;

/// The life of a mandate whose request names none, seconds.
pub(crate) const DEFAULT_SECONDS: i64 = 900;

/// The longest life of what an application mints for itself, seconds.
pub(crate) const CLIENT_CAP_SECONDS: i64 = 3_600;

/// The longest life of what comes from a subject token, seconds.
pub(crate) const SUBJECT_CAP_SECONDS: i64 = 900;

/// `ttl_seconds` is negative or above the cap of the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("ttl_seconds must be between 1 and {cap}")]
pub(crate) struct TtlOutOfRange {
    cap: i64,
}

/// Something that the authority comes from ends within a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the authority behind this mandate has less than a second left")]
pub(crate) struct NoLifeLeft;

/// The requested life in seconds: what was asked for, or the default.
pub(crate) fn requested(ttl_seconds: Option<i64>, cap: i64) -> Result<i64, TtlOutOfRange> {
    let seconds = ttl_seconds.unwrap_or(DEFAULT_SECONDS);
    if (1..=cap).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(TtlOutOfRange { cap })
    }
}

/// The tightest of the bounds collected so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    end: Timestamp,
    seconds: i64,
}

impl Bound {
    /// Nothing bounds.
    pub(crate) const NONE: Self = Self {
        end: Timestamp::MAX,
        seconds: i64::MAX,
    };

    /// An ancestor ends at `end`.
    pub(crate) fn until(self, end: Timestamp) -> Self {
        Self {
            end: self.end.min(end),
            ..self
        }
    }

    /// An ancestor may end.
    pub(crate) fn until_some(self, end: Option<Timestamp>) -> Self {
        end.map_or(self, |end| self.until(end))
    }

    /// An ancestor caps the life of each mandate.
    pub(crate) fn at_most_some(self, seconds: Option<i64>) -> Self {
        Self {
            seconds: seconds.map_or(self.seconds, |seconds| self.seconds.min(seconds)),
            ..self
        }
    }

    /// Both bounds.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            end: self.end.min(other.end),
            seconds: self.seconds.min(other.seconds),
        }
    }
}

/// `iat` and `exp` of a mandate, whole seconds. Only [`Lifetime::within`] makes one, so whoever signs
/// with it stays within the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    issued: i64,
    expires: i64,
}

impl Lifetime {
    /// The life from `now` on: `seconds`, or less where the bound is tighter.
    pub(crate) fn within(now: Timestamp, seconds: i64, bound: Bound) -> Result<Self, NoLifeLeft> {
        if bound.end.since(now) < Duration::from_secs(1) {
            return Err(NoLifeLeft);
        }
        let issued = now.seconds();
        let expires = issued
            .saturating_add(seconds.min(bound.seconds))
            .min(bound.end.seconds());
        if expires > issued {
            Ok(Self { issued, expires })
        } else {
            Err(NoLifeLeft)
        }
    }

    /// `iat`.
    pub(crate) fn issued_at(self) -> Timestamp {
        Timestamp::from_seconds(self.issued)
    }

    /// `exp`.
    pub(crate) fn expires_at(self) -> Timestamp {
        Timestamp::from_seconds(self.expires)
    }

    /// `expires_in`: at least 1.
    pub(crate) fn seconds(self) -> i64 {
        self.expires - self.issued
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_250_000);

    #[test]
    fn absent_and_zero_mean_the_default() {
        assert_eq!(requested(None, CLIENT_CAP_SECONDS), Ok(900));
    }

    #[test]
    fn above_the_cap_is_refused_not_cut() {
        assert_eq!(requested(Some(3_600), CLIENT_CAP_SECONDS), Ok(3_600));
        assert!(requested(Some(3_601), CLIENT_CAP_SECONDS).is_err());
        assert!(requested(Some(901), SUBJECT_CAP_SECONDS).is_err());
        assert!(requested(Some(-1), CLIENT_CAP_SECONDS).is_err());
    }

    #[test]
    fn unbounded_life_is_exactly_what_was_asked_for() {
        let life = Lifetime::within(NOW, 120, Bound::NONE).unwrap();
        assert_eq!(life.seconds(), 120);
        assert_eq!(
            life.expires_at().seconds() - life.issued_at().seconds(),
            120
        );
    }

    #[test]
    fn less_than_a_second_left_mints_nothing() {
        let end = NOW.plus(Duration::from_millis(999));
        assert_eq!(
            Lifetime::within(NOW, 900, Bound::NONE.until(end)),
            Err(NoLifeLeft)
        );
        assert_eq!(
            Lifetime::within(NOW, 900, Bound::NONE.until(NOW.plus_seconds(-5))),
            Err(NoLifeLeft)
        );
    }

    #[test]
    fn a_constraint_in_seconds_counts_from_the_mint() {
        let life = Lifetime::within(NOW, 900, Bound::NONE.at_most_some(Some(60))).unwrap();
        assert_eq!(life.seconds(), 60);
    }

    proptest! {
        #[test]
        fn no_mandate_outlives_any_ancestor(
            asked in 1_i64..=3_600,
            ends in proptest::collection::vec(-10_000_000_i64..10_000_000_000, 0..8),
            caps in proptest::collection::vec(1_i64..86_400, 0..4),
            fraction in 0_i64..1_000_000,
        ) {
            let now = Timestamp::from_micros(1_767_225_600_000_000 + fraction);
            let ends: Vec<Timestamp> =
                ends.iter().map(|left| Timestamp::from_micros(now.micros() + left)).collect();
            let bound = ends.iter().fold(Bound::NONE, |bound, end| bound.until(*end));
            let bound = caps.iter().fold(bound, |bound, cap| bound.at_most_some(Some(*cap)));
            match Lifetime::within(now, asked, bound) {
                Ok(life) => {
                    prop_assert!(ends.iter().all(|end| life.expires_at() <= *end));
                    prop_assert!(caps.iter().all(|cap| life.seconds() <= *cap));
                    prop_assert!(life.seconds() >= 1 && life.seconds() <= asked);
                }
                Err(NoLifeLeft) => {
                    prop_assert!(ends.iter().any(|end| end.seconds() <= now.seconds() + 1));
                }
            }
        }

        #[test]
        fn one_more_ancestor_never_lengthens_a_life(
            asked in 1_i64..=3_600,
            first in 2_000_000_i64..10_000_000_000,
            second in 2_000_000_i64..10_000_000_000,
        ) {
            let one = Bound::NONE.until(Timestamp::from_micros(NOW.micros() + first));
            let both = one.and(Bound::NONE.until(Timestamp::from_micros(NOW.micros() + second)));
            let alone = Lifetime::within(NOW, asked, one).unwrap();
            let narrowed = Lifetime::within(NOW, asked, both).unwrap();
            prop_assert!(narrowed.expires_at() <= alone.expires_at());
        }
    }
}
