//! This host's clock against another's.

use std::time::Duration;

use caracal_core::Timestamp;

use super::check::Check;

/// More than this shortens or lengthens lives that others judge.
const SKEW: Duration = Duration::from_secs(2);

/// Judges what `whose` clock said at some moment between `before` and `after`.
pub(super) fn judge(whose: &str, said: Timestamp, before: Timestamp, after: Timestamp) -> Check {
    const NAME: &str = "clock";
    let (ahead, behind) = (said.since(after), before.since(said));
    let skew = ahead.max(behind);
    let found = format!("{whose} differs by {} ms", skew.as_millis());
    if skew > SKEW {
        let remedy = format!("run NTP here and at {whose}: lives of mandates are judged by clocks");
        Check::warn(NAME, found, remedy)
    } else {
        Check::ok(NAME, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn only_what_the_round_trip_does_not_explain_is_skew() {
        let at = Timestamp::from_seconds;
        let verdict = |said, before, after| judge("redis", at(said), at(before), at(after)).verdict;
        assert_eq!(verdict(105, 100, 110), Verdict::Ok);
        assert_eq!(verdict(112, 100, 110), Verdict::Ok);
        assert_eq!(verdict(113, 100, 110), Verdict::Warn);
        assert_eq!(verdict(97, 100, 110), Verdict::Warn);
    }
}
