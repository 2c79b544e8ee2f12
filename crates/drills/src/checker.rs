//! Judges a history. It knows the rules and nothing of the fault that was played.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::evidence::Evidence;
use crate::history::{Action, Fact, Outcome, Record, Written};

/// What a drill may and may not excuse.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// From the end of the cause to the last trouble.
    pub(crate) recovery: Duration,
    /// Whether good authority may be refused while the fault lasts: a replica whose clock is wrong
    /// takes mandates for not yet valid or over.
    pub(crate) may_refuse_during_fault: bool,
}

/// What a checked history holds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Verdict {
    pub(crate) mints: usize,
    pub(crate) calls: usize,
    pub(crate) revocations: usize,
    pub(crate) refusals: usize,
    pub(crate) unavailable: usize,
    pub(crate) unanswered: usize,
    /// From the end of the cause to the last trouble.
    pub(crate) recovered_in: Option<Duration>,
    /// Each broken rule, for people.
    pub(crate) violations: Vec<String>,
}

struct Bench<'a> {
    written: &'a Written,
    rules: Rules,
    /// First begin of a revocation of each chain, answered or not.
    revoking: BTreeMap<u64, Duration>,
    /// First acknowledged end of a revocation of each chain.
    revoked: BTreeMap<u64, Duration>,
    /// When each mandate was minted.
    minted: BTreeMap<&'a str, Duration>,
    fault: Option<Duration>,
    healed: Option<Duration>,
}

/// Checks a history against the rules, the upstream's book (how often a call with each mandate
/// arrived) and the evidence.
pub(crate) fn check(
    written: &Written,
    arrivals: &BTreeMap<String, usize>,
    evidence: &Evidence,
    rules: Rules,
) -> Verdict {
    let bench = Bench::of(written, rules);
    let mut verdict = Verdict::default();
    for record in &written.records {
        bench.count(record, &mut verdict);
        if let Some(broken) = bench.judge(record) {
            verdict.violations.push(describe(record, broken));
        }
    }
    verdict.violations.extend(accepted_twice(written, arrivals));
    verdict.violations.extend(missing(written, evidence));
    if let Some(healed) = bench.healed {
        let unsettled = |r: &&Record| r.outcome.is_trouble() || bench.is_excused(r);
        let unsettled = written.records.iter().filter(unsettled);
        let last = unsettled.map(|r| r.end).max().unwrap_or_default();
        let took = last.saturating_sub(healed);
        verdict.recovered_in = Some(took);
        if took > rules.recovery {
            let bound = rules.recovery;
            let text = format!("recovered only after {took:.1?}, the bound is {bound:.1?}");
            verdict.violations.push(text);
        }
    }
    if verdict.calls == 0 {
        let text = "no call succeeded: the load tells nothing".to_owned();
        verdict.violations.push(text);
    }
    verdict
}

impl<'a> Bench<'a> {
    fn of(written: &'a Written, rules: Rules) -> Self {
        let mut bench = Self {
            written,
            rules,
            revoking: BTreeMap::new(),
            revoked: BTreeMap::new(),
            minted: BTreeMap::new(),
            fault: written.when(&Fact::Fault),
            healed: written.when(&Fact::Healed),
        };
        for record in &written.records {
            match (&record.action, &record.outcome) {
                (Action::Revoke { chain }, outcome) => {
                    let begin = bench.revoking.entry(*chain).or_insert(record.begin);
                    *begin = record.begin.min(*begin);
                    if outcome.is_success() {
                        let end = bench.revoked.entry(*chain).or_insert(record.end);
                        *end = record.end.min(*end);
                    }
                }
                (
                    Action::Mint { .. },
                    Outcome::Answer {
                        mandate: Some(mandate),
                        ..
                    },
                ) => {
                    bench.minted.insert(mandate, record.begin);
                }
                _ => {}
            }
        }
        bench
    }

    fn count(&self, record: &Record, verdict: &mut Verdict) {
        match (&record.action, &record.outcome) {
            (_, Outcome::None { .. }) => verdict.unanswered += 1,
            (_, outcome) if outcome.is_refusal() => verdict.refusals += 1,
            (_, outcome) if !outcome.is_success() => verdict.unavailable += 1,
            (Action::Mint { .. }, _) => verdict.mints += 1,
            (Action::Call { .. }, _) => verdict.calls += 1,
            (Action::Revoke { .. }, _) => verdict.revocations += 1,
            (Action::Open { .. }, _) => {}
        }
    }

    fn judge(&self, record: &Record) -> Option<&'static str> {
        if record.outcome.is_success() {
            return self.without_authority(record);
        }
        match &record.outcome {
            Outcome::None { .. } => self
                .out_of_time(record)
                .then_some("unanswered though nothing is broken"),
            outcome if outcome.is_refusal() => (!self.may_refuse(record))
                .then_some("authority that is there was refused as if it were not"),
            Outcome::Answer {
                status: 503 | 504,
                code: Some(_),
                retry_after: true,
                ..
            } => self
                .out_of_time(record)
                .then_some("unavailable though nothing is broken"),
            Outcome::Answer { .. } => {
                Some("trouble must be a 503 or 504 with an error and Retry-After")
            }
        }
    }

    fn without_authority(&self, record: &Record) -> Option<&'static str> {
        let (Action::Mint { chain } | Action::Call { chain, .. }) = &record.action else {
            return None;
        };
        let revoked = self.revoked.get(chain)?;
        (record.begin > *revoked).then_some("allowed after the revocation was answered")
    }

    fn may_refuse(&self, record: &Record) -> bool {
        self.rightly_refused(record) || self.excuse(record)
    }

    /// Whether good authority was refused, and the fault excuses it.
    fn is_excused(&self, record: &Record) -> bool {
        record.outcome.is_refusal() && !self.rightly_refused(record) && self.excuse(record)
    }

    /// The authority had ended, or the mandate was used.
    fn rightly_refused(&self, record: &Record) -> bool {
        match &record.action {
            Action::Mint { chain } => self.ends_before(*chain, record.end),
            Action::Call { chain, again, .. } => *again || self.ends_before(*chain, record.end),
            Action::Open { .. } | Action::Revoke { .. } => false,
        }
    }

    fn excuse(&self, record: &Record) -> bool {
        let during = self.fault.is_some_and(|fault| record.end > fault);
        if self.rules.may_refuse_during_fault && during && !self.out_of_time(record) {
            return true;
        }
        match &record.action {
            Action::Call { mandate, .. } => self.forgotten(mandate),
            _ => false,
        }
    }

    fn ends_before(&self, chain: u64, end: Duration) -> bool {
        self.revoking.get(&chain).is_some_and(|begin| *begin < end)
    }

    /// Whether the mandate is older than a loss of replay marks, or was made while the deployment
    /// recovered from it.
    fn forgotten(&self, mandate: &str) -> bool {
        let Some(minted) = self.minted.get(mandate) else {
            return false;
        };
        let lost = self.written.facts.iter();
        lost.filter(|(_, fact)| *fact == Fact::MarksLost)
            .any(|(at, _)| *at + self.rules.recovery > *minted)
    }

    /// Whether the request ran while everything was whole and had had its time to recover.
    fn out_of_time(&self, record: &Record) -> bool {
        let before = self.fault.is_none_or(|fault| record.end < fault);
        let after = self
            .healed
            .is_some_and(|healed| record.begin > healed + self.rules.recovery);
        before || after
    }
}

/// A mandate works once, whatever the client saw: what counts is what reached the upstream.
fn accepted_twice(written: &Written, arrivals: &BTreeMap<String, usize>) -> Vec<String> {
    let mut accepted: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &written.records {
        if let Action::Call { mandate, .. } = &record.action
            && record.outcome.is_success()
        {
            *accepted.entry(mandate).or_default() += 1;
        }
    }
    for (mandate, count) in arrivals {
        let answered = accepted.entry(mandate).or_default();
        *answered = (*answered).max(*count);
    }
    let twice = accepted.into_iter().filter(|(_, count)| *count > 1);
    twice
        .map(|(mandate, count)| format!("mandate {mandate} was accepted {count} times"))
        .collect()
}

/// Every decision that a client got is in the evidence.
fn missing(written: &Written, evidence: &Evidence) -> Vec<String> {
    let lost: BTreeSet<String> = acknowledged(written)
        .into_iter()
        .filter(|decision| !evidence.holds(decision))
        .map(|decision| format!("no evidence of {decision:?}"))
        .collect();
    lost.into_iter().collect()
}

/// A decision that a client got an answer for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Decision {
    /// A mandate was given.
    Mandate(String),
    /// A mint was refused.
    Denial { request: String },
    /// A call was let through.
    Call { request: String },
}

pub(crate) fn acknowledged(written: &Written) -> Vec<Decision> {
    let decision = |record: &Record| match (&record.action, &record.outcome) {
        (
            _,
            Outcome::Answer {
                mandate: Some(mandate),
                ..
            },
        ) => Some(Decision::Mandate(mandate.clone())),
        (
            Action::Mint { .. },
            Outcome::Answer {
                status: 403,
                request: Some(request),
                ..
            },
        ) => Some(Decision::Denial {
            request: request.clone(),
        }),
        (
            Action::Call { .. },
            Outcome::Answer {
                status: 200,
                request: Some(request),
                ..
            },
        ) => Some(Decision::Call {
            request: request.clone(),
        }),
        _ => None,
    };
    written.records.iter().filter_map(decision).collect()
}

fn describe(record: &Record, broken: &str) -> String {
    let shown = serde_json::to_string(record).unwrap_or_default();
    format!("{broken}: {shown}")
}

#[cfg(test)]
mod tests;
