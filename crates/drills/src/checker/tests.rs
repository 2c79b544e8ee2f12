use super::*;
use crate::evidence::Evidence;

const RULES: Rules = Rules {
    recovery: Duration::from_secs(5),
    may_refuse_during_fault: false,
};

/// A history in whole seconds.
#[derive(Default)]
struct Script(Written);

impl Script {
    fn add(mut self, begin: u64, end: u64, action: Action, outcome: Outcome) -> Self {
        self.0.records.push(Record {
            action,
            begin: Duration::from_secs(begin),
            end: Duration::from_secs(end),
            outcome,
        });
        self
    }

    fn fact(mut self, at: u64, fact: Fact) -> Self {
        self.0.facts.push((Duration::from_secs(at), fact));
        self
    }

    /// Chain 1, a mandate `m` over it, a call with it.
    fn good() -> Self {
        Self::default()
            .add(1, 2, Action::Mint { chain: 1 }, minted("m"))
            .add(3, 4, call("m", false), answer(200))
    }

    fn check(self) -> Vec<String> {
        self.check_with(&BTreeMap::new(), RULES)
    }

    fn check_with(self, arrivals: &BTreeMap<String, usize>, rules: Rules) -> Vec<String> {
        let evidence = Evidence::of_decisions(acknowledged(&self.0));
        check(&self.0, arrivals, &evidence, rules).violations
    }
}

fn answer(status: u16) -> Outcome {
    Outcome::Answer {
        status,
        code: (status >= 400).then(|| "code".to_owned()),
        retry_after: status == 503,
        request: Some("r".to_owned()),
        mandate: None,
    }
}

fn minted(mandate: &str) -> Outcome {
    Outcome::Answer {
        status: 200,
        code: None,
        retry_after: false,
        request: Some("r".to_owned()),
        mandate: Some(mandate.to_owned()),
    }
}

fn call(mandate: &str, again: bool) -> Action {
    Action::Call {
        chain: 1,
        mandate: mandate.to_owned(),
        again,
    }
}

fn only(violations: &[String], text: &str) {
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert!(violations[0].contains(text), "{violations:?}");
}

#[test]
fn a_good_history_breaks_nothing() {
    assert!(Script::good().check().is_empty());
}

#[test]
fn an_allow_that_starts_after_an_answered_revocation_is_found() {
    let revoked = Script::good().add(5, 6, Action::Revoke { chain: 1 }, answer(200));
    let late = revoked.add(7, 8, Action::Mint { chain: 1 }, minted("late"));
    only(&late.check(), "after the revocation");
}

#[test]
fn an_allow_that_starts_before_the_answer_is_good() {
    let revoked = Script::good().add(5, 8, Action::Revoke { chain: 1 }, answer(200));
    let racing = revoked.add(7, 9, Action::Mint { chain: 1 }, minted("n"));
    assert!(racing.check().is_empty());
}

#[test]
fn a_mandate_accepted_twice_is_found_by_answers_and_by_arrivals() {
    let twice = Script::good().add(5, 6, call("m", true), answer(200));
    only(&twice.check(), "accepted 2 times");
    let unseen = BTreeMap::from([("m".to_owned(), 2)]);
    only(
        &Script::good().check_with(&unseen, RULES),
        "accepted 2 times",
    );
}

#[test]
fn a_refusal_of_good_authority_is_found() {
    let refused = Script::good()
        .add(5, 6, Action::Mint { chain: 1 }, minted("n"))
        .add(7, 8, call("n", false), answer(401));
    only(&refused.check(), "refused as if");
}

#[test]
fn a_refusal_of_a_mandate_sent_before_is_good() {
    let again = Script::good().add(5, 6, call("m", true), answer(401));
    assert!(again.check().is_empty());
}

#[test]
fn a_mandate_older_than_a_loss_of_marks_may_be_refused() {
    let script = Script::good()
        .add(5, 6, Action::Mint { chain: 1 }, minted("n"))
        .fact(7, Fact::Fault)
        .fact(7, Fact::MarksLost)
        .fact(8, Fact::Healed)
        .add(9, 10, call("n", false), answer(401));
    assert!(script.check().is_empty());
}

#[test]
fn trouble_outside_the_fault_and_its_recovery_is_found() {
    let before = Script::good().fact(20, Fact::Fault).fact(30, Fact::Healed);
    let before = before.add(10, 11, Action::Mint { chain: 1 }, answer(503));
    only(&before.check(), "though nothing is broken");

    let during = Script::good().fact(20, Fact::Fault).fact(30, Fact::Healed);
    let during = during.add(21, 29, Action::Mint { chain: 1 }, answer(503));
    assert!(during.check().is_empty());

    let after = Script::good().fact(20, Fact::Fault).fact(30, Fact::Healed);
    let after = after.add(40, 41, Action::Mint { chain: 1 }, answer(503));
    let found = after.check();
    assert!(found.iter().any(|v| v.contains("recovered only after")));
    assert!(found.iter().any(|v| v.contains("though nothing is broken")));
}

#[test]
fn trouble_that_is_no_typed_503_is_found() {
    let mut bare = answer(503);
    if let Outcome::Answer { retry_after, .. } = &mut bare {
        *retry_after = false;
    }
    for outcome in [answer(500), answer(502), answer(429), bare] {
        let script = Script::good().fact(20, Fact::Fault).fact(30, Fact::Healed);
        let script = script.add(21, 22, Action::Mint { chain: 1 }, outcome);
        only(&script.check(), "must be a 503 or 504");
    }
}

#[test]
fn a_refusal_during_the_fault_is_good_only_where_the_drill_says_so() {
    let script = || {
        let script = Script::good().fact(20, Fact::Fault).fact(30, Fact::Healed);
        script.add(21, 22, Action::Mint { chain: 1 }, answer(401))
    };
    only(&script().check(), "refused as if");
    let rules = Rules {
        may_refuse_during_fault: true,
        ..RULES
    };
    assert!(script().check_with(&BTreeMap::new(), rules).is_empty());
}

#[test]
fn an_acknowledged_decision_without_evidence_is_found() {
    let written = Script::good().0;
    let evidence = Evidence::of_decisions(vec![Decision::Mandate("m".to_owned())]);
    let found = check(&written, &BTreeMap::new(), &evidence, RULES).violations;
    only(&found, "no evidence of Call");
}

#[test]
fn a_history_without_a_single_success_says_nothing() {
    let empty = Script::default().check();
    only(&empty, "no call succeeded");
}
