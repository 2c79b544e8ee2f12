//! The native decision and the contract in Rego agree on random zones and requests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use caracal_core::id::PolicyVersionId;
use caracal_policy::{Decision, DecisionInput, PolicyDocument, Verdict, ZonePolicy};
use proptest::collection::vec;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use crate::rego::Contract;
use crate::zones::{request, zone};

/// How many requests each random zone is asked.
const PER_ZONE: u32 = 25;

/// Every rule of the contract that data which passed validation can reach.
const EVERY_RULE: [&str; 18] = [
    "allow bootstrap",
    "allow mint",
    "allow mint, classified",
    "allow mint, gated",
    "allow workload",
    "allow workload, classified",
    "allow workload, gated",
    "allow use",
    "mint confinement_violation",
    "mint delegation_scope_exceeded",
    "mint resource_not_granted",
    "mint role_scope_mismatch",
    "no_rule_matched",
    "restriction_active",
    "use confinement_violation",
    "use mandate_target_mismatch",
    "use resource_not_granted",
    "use role_scope_mismatch",
];

/// The number of (zone, request) pairs: `CARACAL_ORACLE_CASES`, 20,000 unless set.
fn cases() -> u32 {
    std::env::var("CARACAL_ORACLE_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(20_000)
}

fn compile(documents: &[String]) -> ZonePolicy {
    let versions: Vec<_> = documents
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let id = PolicyVersionId::parse(&format!("version-{at}")).unwrap();
            let document = PolicyDocument::parse(text);
            (
                id,
                Arc::new(document.unwrap_or_else(|error| panic!("{error}\n{text}"))),
            )
        })
        .collect();
    ZonePolicy::compile(&versions).unwrap()
}

fn rule(decision: &Decision, input: &Value) -> String {
    let part = match input.pointer("/context/subject_claims") {
        Some(_) => "use",
        None => "mint",
    };
    match &decision.verdict {
        Verdict::Allow {
            policy_name,
            gates,
            risk,
        } => {
            let kind = match &**policy_name {
                "caracal-bootstrap" => "bootstrap",
                "caracal-workload-mint" => "workload",
                name if name.ends_with("-mint") => "mint",
                _ => "use",
            };
            let suffix = match (gates.is_empty(), risk.is_empty()) {
                (false, _) => ", gated",
                (true, false) => ", classified",
                (true, true) => "",
            };
            format!("allow {kind}{suffix}")
        }
        Verdict::Deny { reason } => match reason.as_str() {
            reason @ ("no_rule_matched" | "restriction_active") => reason.to_owned(),
            reason => format!("{part} {reason}"),
        },
    }
}

#[test]
fn native_decision_and_contract_agree_on_every_random_request() {
    let cases = cases().div_ceil(PER_ZONE);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, seed);
    let met: RefCell<BTreeMap<String, u32>> = RefCell::default();
    let requests = vec(request(), PER_ZONE as usize);
    let outcome = runner.run(&(zone(), requests), |(documents, requests)| {
        let policy = compile(&documents);
        let mut contract = Contract::with(&documents);
        for (input, now) in requests {
            let read = DecisionInput::from_json(&input).unwrap();
            let decision = policy.decide(&read.request(), now);
            let expected = contract.decide(&input, now);
            proptest::prop_assert_eq!(decision.to_result_json(), expected, "{}", input);
            proptest::prop_assert_eq!(&decision, &policy.decide(&read.request(), now));
            *met.borrow_mut().entry(rule(&decision, &input)).or_default() += 1;
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let met = met.into_inner();
    for rule in EVERY_RULE {
        assert!(met.contains_key(rule), "no request met {rule:?}: {met:#?}");
    }
    println!("{met:#?}");
}
