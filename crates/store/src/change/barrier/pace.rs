//! When the next read starts.
//!
//! A read costs the database the same for one caller as for many, so under load it pays to let a
//! crowd gather first; but a caller that is alone must not wait for company. Neither the rate of
//! arrivals nor the size of the last round tells the two apart: callers that come back as soon as they
//! are answered arrive fast, and lingering gathers no more of them. What tells is what lingering
//! gathers. So it is tried now and then while callers overlap, kept up for as long as it gathers a
//! crowd, and tried less and less often while it does not. A caller that is always alone never waits.
//!
//! How large a crowd comes is learned as well: to wait for more than come keeps those who have come
//! from their work. One round in [`LOOK_AFTER`] waits for all it can get; those behind it start when
//! nearly as many are there.

use std::time::Duration;

/// A crowd that is worth waiting for.
const WORTH: usize = 8;
/// A crowd that was not; one in between may have been a pause in the arrivals.
const NOT_WORTH: usize = 4;
/// A crowd that is large enough: the read starts at once.
const ENOUGH: usize = 40;
/// The longest that a crowd is let gather.
const AT_MOST: Duration = Duration::from_millis(10);
/// A pause in the arrivals after which nobody more is expected.
const QUIET: Duration = Duration::from_millis(3);
/// Rounds with overlapping callers between two tries, at least and at most.
const TRY_AFTER: (u32, u32) = (16, 4096);
/// Rounds of a crowd between two looks at how large it is.
const LOOK_AFTER: u32 = 16;

/// How long to linger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    /// No longer than this.
    pub(crate) at_most: Duration,
    /// No longer than until nobody has come for this long.
    pub(crate) quiet: Duration,
    /// No longer than until so many wait.
    pub(crate) enough: usize,
}

/// What the last rounds have taught.
#[derive(Debug)]
pub(super) struct Pace {
    gathering: bool,
    lingered: bool,
    overlaps: u32,
    try_after: u32,
    /// Callers that are worth waiting for, while a crowd gathers.
    expected: usize,
    /// Rounds until the next look at how many come.
    look_in: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            gathering: false,
            lingered: false,
            overlaps: 0,
            try_after: TRY_AFTER.0,
            expected: ENOUGH,
            look_in: 0,
        }
    }
}

impl Pace {
    /// How to linger before the next read, with so many waiting.
    pub(super) fn patience(&mut self, waiting: usize) -> Option<Patience> {
        let enough = if self.look_in == 0 {
            ENOUGH
        } else {
            self.expected
        };
        let wanted = self.gathering || self.overlaps >= self.try_after;
        self.lingered = wanted && waiting < enough;
        self.lingered.then_some(Patience {
            at_most: AT_MOST,
            quiet: QUIET,
            enough,
        })
    }

    /// A round has served `callers`; `behind` came while it ran.
    pub(super) fn served(&mut self, callers: usize, behind: usize) {
        if callers >= WORTH {
            self.gathering = true;
            self.overlaps = 0;
            self.try_after = TRY_AFTER.0;
            self.learn(callers);
        } else if self.gathering && callers >= NOT_WORTH {
            self.learn(WORTH);
        } else if self.lingered {
            self.gathering = false;
            self.overlaps = 0;
            self.try_after = (self.try_after * 2).min(TRY_AFTER.1);
            self.look_in = 0;
        } else if callers > 1 || behind > 0 {
            self.overlaps += 1;
        }
    }

    fn learn(&mut self, callers: usize) {
        if self.look_in > 0 {
            self.look_in -= 1;
        } else if self.lingered || callers >= ENOUGH {
            self.look_in = LOOK_AFTER;
            self.expected = (callers - callers / 8).clamp(WORTH, ENOUGH);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With how many the next read starts at once.
    fn enough(pace: &mut Pace) -> Option<usize> {
        pace.patience(1).map(|patience| patience.enough)
    }

    #[test]
    fn a_caller_that_is_alone_never_waits_for_company() {
        let mut pace = Pace::default();
        for _ in 0..100_000 {
            assert_eq!(pace.patience(1), None);
            pace.served(1, 0);
        }
    }

    #[test]
    fn a_crowd_is_let_gather_for_as_long_as_it_is_one() {
        let mut pace = Pace::default();
        pace.served(WORTH, 3);
        for _ in 0..100 {
            assert!(pace.patience(1).is_some());
            pace.served(WORTH, 0);
        }
        assert!(pace.patience(1).is_some());
        pace.served(NOT_WORTH - 1, 0);
        assert_eq!(pace.patience(1), None);
    }

    #[test]
    fn a_pause_in_the_arrivals_does_not_end_the_gathering() {
        let mut pace = Pace::default();
        pace.served(WORTH, 0);
        assert!(enough(&mut pace).is_some());
        pace.served(NOT_WORTH, 0);
        assert_eq!(enough(&mut pace), Some(WORTH));
    }

    #[test]
    fn a_round_waits_for_nearly_as_many_as_have_come_and_looks_now_and_then_for_more() {
        let mut pace = Pace::default();
        pace.served(WORTH, 0);
        assert_eq!(enough(&mut pace), Some(ENOUGH), "it does not know yet");
        pace.served(16, 0);
        for _ in 0..LOOK_AFTER {
            assert_eq!(enough(&mut pace), Some(14));
            pace.served(16, 0);
        }
        assert_eq!(enough(&mut pace), Some(ENOUGH));
    }

    #[test]
    fn a_crowd_that_is_there_already_is_not_kept_waiting() {
        let mut pace = Pace::default();
        pace.served(64, 0);
        assert_eq!(pace.patience(ENOUGH), None);
    }

    #[test]
    fn few_callers_are_kept_waiting_less_and_less_often() {
        let mut pace = Pace::default();
        let mut lingered = 0;
        for _ in 0..100_000 {
            lingered += u32::from(pace.patience(3).is_some());
            pace.served(3, 1);
        }
        assert!((8..40).contains(&lingered), "{lingered} of 100,000 rounds");
    }
}
