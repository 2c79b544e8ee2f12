//! The conformance cases of the contract, each against the native decision and against the contract
//! in Rego.

use std::sync::Arc;

use caracal_core::Timestamp;
use caracal_core::id::PolicyVersionId;
use caracal_policy::{DecisionInput, PolicyDocument, ZonePolicy};
use serde_json::{Value, json};

use crate::document;
use crate::rego::Contract;

const BASE: &str = r#"
app_ids := {"books": "app-7"}
grants := {
    "resource://ledger": {
        "application": "books",
        "roles": {"closer": ["ledger:read", "ledger:write"], "viewer": ["ledger:read"]},
    },
    "resource://split": {
        "application": "books",
        "roles": {"closer": ["a"], "viewer": ["b"]},
    },
}
"#;
const RISK: &str = r#"risk := [{"scope": "ledger:write", "tier": "high"}]"#;
const TIERS: &str = r#"approval_tiers := [{"tier": "high", "approver": "subject"}]"#;
const CAP: &str = r#"confinement := [{"label_prefix": "tenant:", "scopes": ["ledger:read"]}]"#;
const FROZEN: &str = r#"restrict := ["maintenance"]"#;

pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// What a case must answer: the determining policy and the diagnostics, or the reason.
enum Want {
    Allow(&'static str, Value),
    Deny(&'static str),
}
use Want::{Allow, Deny};

fn decide_both(extra: &[&str], input: &Value) -> Value {
    let documents = [document(BASE), document(&extra.join("\n"))];
    let used = if extra.is_empty() {
        &documents[..1]
    } else {
        &documents[..]
    };
    let versions: Vec<_> = used
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let id = PolicyVersionId::parse(&format!("version-{at}")).unwrap();
            (id, Arc::new(PolicyDocument::parse(text).unwrap()))
        })
        .collect();
    let policy = ZonePolicy::compile(&versions).unwrap();
    let read = DecisionInput::from_json(input).unwrap();
    let native = policy.decide(&read.request(), NOW).to_result_json();
    assert_eq!(
        native,
        Contract::with(used).decide(input, NOW),
        "contract in Rego, {input}"
    );
    native
}

#[track_caller]
fn check(extra: &[&str], input: &Value, want: Want) {
    let got = decide_both(extra, input);
    let (decision, policies, diagnostics) = match want {
        Allow(policy, diagnostics) => ("allow", json!([{ "policy": policy }]), diagnostics),
        Deny(reason) => ("deny", json!([]), json!([{ "reason": reason }])),
    };
    let want = json!({
        "decision": decision,
        "evaluation_status": "complete",
        "determining_policies": policies,
        "diagnostics": diagnostics,
    });
    assert_eq!(got, want, "{input}");
}

fn bootstrap(scopes: &[&str]) -> Value {
    json!({
        "schema_version": "2026-05-20",
        "principal": {"type": "Application", "id": "app-7", "zone_id": "zone-1"},
        "resource": {"type": "Resource", "identifier": "resource://ledger"},
        "action": {"id": "TokenExchange"},
        "context": {"requested_scopes": scopes},
    })
}

fn mint(scopes: &[&str], labels: &[&str]) -> Value {
    let mut input = bootstrap(scopes);
    input["principal"]["labels"] = json!(labels);
    input["context"]["agent_session_id"] = json!("session-1");
    input["delegation_edge"] =
        json!({"id": "edge-1", "scopes": ["ledger:read", "ledger:write", "a", "b"]});
    input
}

fn usage(scope: &str, labels: &[&str]) -> Value {
    let mut input = bootstrap(&[]);
    input["principal"]["labels"] = json!(labels);
    input["context"]["subject_claims"] = json!({
        "delegation_edge_id": "edge-1",
        "target": ["resource://ledger"],
        "scope": scope,
    });
    input
}

fn workload(scopes: &[&str]) -> Value {
    let mut input = bootstrap(scopes);
    input["principal"] = json!({"type": "Workload", "id": "workload-1"});
    input["resource"]["identifier"] = json!("resource://nobody-granted");
    input["action"]["id"] = json!("CredentialInjection");
    input
}

/// The input with one part replaced; `null` removes it.
fn with(mut input: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = input.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(key);
    } else {
        parent.insert(key.to_owned(), value);
    }
    input
}

#[test]
fn bootstrap_needs_exactly_the_lifecycle_scope_and_ownership() {
    check(
        &[],
        &bootstrap(&["agent:lifecycle"]),
        Allow("caracal-bootstrap", json!([])),
    );
    let twice = bootstrap(&["agent:lifecycle", "agent:lifecycle"]);
    check(&[], &twice, Allow("caracal-bootstrap", json!([])));
    check(
        &[],
        &bootstrap(&["agent:lifecycle", "ledger:read"]),
        Deny("no_rule_matched"),
    );
    let lifecycle = bootstrap(&["agent:lifecycle"]);
    let other = with(lifecycle.clone(), "/principal/id", json!("app-8"));
    check(&[], &other, Deny("no_rule_matched"));
    let vault = with(lifecycle, "/resource/identifier", json!("resource://vault"));
    check(&[], &vault, Deny("no_rule_matched"));
}

#[test]
fn bootstrap_heeds_a_freeze_and_no_caps() {
    check(
        &[FROZEN],
        &bootstrap(&["agent:lifecycle"]),
        Deny("restriction_active"),
    );
    let labelled = with(
        bootstrap(&["agent:lifecycle"]),
        "/principal/labels",
        json!(["tenant:a"]),
    );
    check(&[CAP], &labelled, Allow("caracal-bootstrap", json!([])));
}

#[test]
fn a_mint_needs_one_role_that_holds_every_scope() {
    let allowed = Allow("caracal-books-mint", json!([]));
    check(&[], &mint(&["ledger:write"], &["closer"]), allowed);
    check(
        &[],
        &mint(&["ledger:write"], &["viewer"]),
        Deny("role_scope_mismatch"),
    );
    check(
        &[],
        &mint(&["ledger:write"], &[]),
        Deny("role_scope_mismatch"),
    );
    let both = mint(&["ledger:read", "ledger:write"], &["viewer", "closer"]);
    check(&[], &both, Allow("caracal-books-mint", json!([])));
    let split = mint(&["a", "b"], &["closer", "viewer"]);
    let split = with(split, "/resource/identifier", json!("resource://split"));
    check(&[], &split, Deny("role_scope_mismatch"));
}

#[test]
fn a_mint_stays_within_its_delegation() {
    let narrow = mint(&["ledger:write"], &["closer"]);
    let narrow = with(narrow, "/delegation_edge/scopes", json!(["ledger:read"]));
    check(&[], &narrow, Deny("delegation_scope_exceeded"));
    let bare = with(
        mint(&["ledger:write"], &["closer"]),
        "/delegation_edge/scopes",
        Value::Null,
    );
    check(&[], &bare, Deny("delegation_scope_exceeded"));
}

#[test]
fn a_mint_is_for_the_owner_of_the_exact_resource() {
    for (pointer, value) in [
        ("/resource/identifier", "resource://vault"),
        ("/resource/identifier", "Resource://Ledger"),
        ("/principal/id", "app-8"),
    ] {
        let input = with(mint(&["ledger:write"], &["closer"]), pointer, json!(value));
        check(&[], &input, Deny("resource_not_granted"));
    }
}

#[test]
fn a_request_without_the_shape_of_a_mint_matches_no_rule() {
    let input = || mint(&["ledger:write"], &["closer"]);
    let sessionless = with(input(), "/context/agent_session_id", Value::Null);
    check(&[], &sessionless, Deny("no_rule_matched"));
    let claimed = with(
        input(),
        "/context/subject_claims",
        json!({"sub": "someone"}),
    );
    check(&[], &claimed, Deny("no_rule_matched"));
    check(&[], &mint(&[], &["closer"]), Deny("no_rule_matched"));
    let lifecycle = mint(&["ledger:write", "agent:lifecycle"], &["closer"]);
    check(&[], &lifecycle, Deny("no_rule_matched"));
    let nameless = with(input(), "/delegation_edge/id", Value::Null);
    check(&[], &nameless, Deny("no_rule_matched"));
    let empty_id = with(input(), "/delegation_edge/id", json!(""));
    check(&[], &empty_id, Allow("caracal-books-mint", json!([])));
}

#[test]
fn a_cap_binds_every_session_with_a_label_under_its_prefix() {
    let write = mint(&["ledger:write"], &["closer", "tenant:acme"]);
    check(&[CAP], &write, Deny("confinement_violation"));
    let read = mint(&["ledger:read"], &["closer", "tenant:acme"]);
    check(&[CAP], &read, Allow("caracal-books-mint", json!([])));
    let free = mint(&["ledger:write"], &["closer"]);
    check(&[CAP], &free, Allow("caracal-books-mint", json!([])));
    let all = r#"confinement := [{"label_prefix": "", "scopes": []}]"#;
    check(&[all], &free, Deny("confinement_violation"));
    check(
        &[all],
        &mint(&["ledger:write"], &[]),
        Deny("role_scope_mismatch"),
    );
}

#[test]
fn classified_scopes_are_told_and_gated_ones_are_held() {
    let risk = json!({"risk": [{"scope": "ledger:write", "tier": "high"}]});
    let step_up = json!({
        "step_up_required": {
            "type": "human_approval",
            "tiers": [{"tier": "high", "approver": "subject"}],
        },
    });
    let write = mint(&["ledger:write"], &["closer"]);
    check(&[RISK], &write, Allow("caracal-books-mint", json!([risk])));
    let both = mint(&["ledger:read", "ledger:write"], &["closer"]);
    check(
        &[RISK, TIERS],
        &both,
        Allow("caracal-books-mint", json!([step_up, risk])),
    );
    let read = mint(&["ledger:read"], &["closer"]);
    check(
        &[RISK, TIERS],
        &read,
        Allow("caracal-books-mint", json!([])),
    );
}

#[test]
fn a_mandate_is_used_within_todays_role() {
    check(
        &[],
        &usage("ledger:read", &["closer"]),
        Allow("caracal-books-use", json!([])),
    );
    let wide = usage("ledger:read ledger:write", &["viewer"]);
    check(&[], &wide, Deny("role_scope_mismatch"));
    check(
        &[],
        &usage("ledger:read\tledger:write", &["closer"]),
        Deny("role_scope_mismatch"),
    );
    check(
        &[],
        &usage(" ledger:read  ", &["viewer"]),
        Allow("caracal-books-use", json!([])),
    );
    let other = with(
        usage("ledger:read", &["closer"]),
        "/principal/id",
        json!("app-8"),
    );
    check(&[], &other, Deny("resource_not_granted"));
}

#[test]
fn a_mandate_is_good_for_its_targets_only() {
    for target in [
        json!(["resource://other"]),
        json!("resource://ledger"),
        json!([]),
    ] {
        let pointer = "/context/subject_claims/target";
        let input = with(usage("ledger:read", &["closer"]), pointer, target);
        check(&[], &input, Deny("mandate_target_mismatch"));
    }
}

#[test]
fn a_use_that_asks_for_scopes_or_carries_none_matches_no_rule() {
    let asking = with(
        usage("ledger:read", &["closer"]),
        "/context/requested_scopes",
        json!(["ledger:read"]),
    );
    check(&[], &asking, Deny("no_rule_matched"));
    check(&[], &usage("", &["closer"]), Deny("no_rule_matched"));
    check(&[], &usage("  ", &["closer"]), Deny("no_rule_matched"));
    for id in [json!(""), Value::Null, json!(false)] {
        let pointer = "/context/subject_claims/delegation_edge_id";
        let input = with(usage("ledger:read", &["closer"]), pointer, id);
        check(&[], &input, Deny("no_rule_matched"));
    }
    let listed = with(
        usage("x", &["closer"]),
        "/context/subject_claims/scope",
        json!(["ledger:read"]),
    );
    check(&[], &listed, Deny("no_rule_matched"));
}

#[test]
fn a_cap_bites_on_mandates_that_are_out_already() {
    let carried = usage("ledger:read ledger:write", &["closer", "tenant:acme"]);
    check(&[CAP], &carried, Deny("confinement_violation"));
    let within = usage("ledger:read", &["closer", "tenant:acme"]);
    check(&[CAP], &within, Allow("caracal-books-use", json!([])));
}

#[test]
fn a_workload_mints_what_its_binding_says() {
    check(
        &[],
        &workload(&["ledger:write"]),
        Allow("caracal-workload-mint", json!([])),
    );
    check(
        &[FROZEN],
        &workload(&["ledger:write"]),
        Deny("restriction_active"),
    );
    check(
        &[RISK, TIERS],
        &workload(&[]),
        Allow("caracal-workload-mint", json!([])),
    );
    let got = decide_both(&[RISK, TIERS], &workload(&["ledger:write"]));
    assert_eq!(got["decision"], "allow");
    assert_eq!(
        got["diagnostics"][0]["step_up_required"]["type"],
        "human_approval"
    );
    let sessioned = with(
        workload(&["ledger:write"]),
        "/context/agent_session_id",
        json!("s"),
    );
    check(&[], &sessioned, Deny("no_rule_matched"));
    let exchanging = with(
        workload(&["ledger:write"]),
        "/action/id",
        json!("TokenExchange"),
    );
    check(&[], &exchanging, Deny("no_rule_matched"));
}

#[test]
fn a_workload_that_is_an_owner_bootstraps() {
    let owner = with(
        workload(&["agent:lifecycle"]),
        "/principal/id",
        json!("app-7"),
    );
    let owner = with(owner, "/resource/identifier", json!("resource://ledger"));
    check(&[], &owner, Allow("caracal-bootstrap", json!([])));
    let stranger = workload(&["agent:lifecycle"]);
    check(&[], &stranger, Allow("caracal-workload-mint", json!([])));
}

#[test]
fn a_freeze_goes_before_everything() {
    for input in [
        bootstrap(&["agent:lifecycle"]),
        mint(&["ledger:write"], &["viewer"]),
        usage("ledger:read", &["closer"]),
        workload(&[]),
        json!({}),
    ] {
        check(&[FROZEN], &input, Deny("restriction_active"));
    }
}

#[test]
fn elements_of_any_value_freeze_and_empty_collections_do_not() {
    let input = mint(&["ledger:read"], &["closer"]);
    for frozen in [
        "restrict := [false]",
        "restrict := [null]",
        r#"restrict := {"a"}"#,
        r#"restrict := {"a": false}"#,
        r#"restrict contains "a""#,
        r#"restrict := [{"note": "no window"}]"#,
    ] {
        check(&[frozen], &input, Deny("restriction_active"));
    }
    for open in ["restrict := []", "restrict := {}", "restrict := set()"] {
        check(&[open], &input, Allow("caracal-books-mint", json!([])));
    }
}

#[test]
fn a_window_freezes_from_its_start_until_just_before_its_end() {
    let input = mint(&["ledger:read"], &["closer"]);
    for (window, frozen) in [
        (r#"{"from": "2026-01-01T00:00:00Z"}"#, true),
        (r#"{"from": "2026-01-01T00:00:01Z"}"#, false),
        (r#"{"until": "2026-01-01T00:00:01Z"}"#, true),
        (r#"{"until": "2026-01-01T00:00:00Z"}"#, false),
        (
            r#"{"from": "2025-12-31T23:00:00Z", "until": "2026-01-01T01:00:00Z"}"#,
            true,
        ),
        (
            r#"{"from": "2026-01-01T00:30:00+01:00", "until": "2027-01-01T00:00:00Z"}"#,
            true,
        ),
    ] {
        let want = match frozen {
            true => Deny("restriction_active"),
            false => Allow("caracal-books-mint", json!([])),
        };
        check(&[&format!("restrict := [{window}]")], &input, want);
        let want = match frozen {
            true => Deny("restriction_active"),
            false => Allow("caracal-books-use", json!([])),
        };
        check(
            &[&format!("restrict := {{\"w\": {window}}}")],
            &usage("ledger:read", &["closer"]),
            want,
        );
    }
}

#[test]
fn malformed_risk_or_approval_data_never_becomes_active_and_the_contract_denies_it() {
    let mint = mint(&["ledger:read"], &["closer"]);
    let vault = with(
        mint.clone(),
        "/resource/identifier",
        json!("resource://vault"),
    );
    for (name, reason) in [
        ("risk", "malformed_risk_data"),
        ("approval_tiers", "malformed_approval_data"),
    ] {
        for value in [
            "{}",
            r#"{"high"}"#,
            "7",
            "[7]",
            "[{}]",
            r#"[{"scope": "", "tier": "high", "ttl_seconds": 0}]"#,
            r#"[{"scope": "a", "tier": ""}]"#,
            r#"[{"scope": "a", "tier": null}]"#,
        ] {
            let text = document(&format!("{name} := {value}"));
            assert!(PolicyDocument::parse(&text).is_err(), "{text}");
            let mut contract = Contract::with(&[document(BASE), text]);
            let workload = workload(&["ledger:read"]);
            for minting in [&mint, &vault, &workload] {
                let result = contract.decide(minting, NOW);
                assert_eq!(
                    result["diagnostics"],
                    json!([{ "reason": reason }]),
                    "{name} {value}"
                );
            }
            for free in [
                bootstrap(&["agent:lifecycle"]),
                usage("ledger:read", &["closer"]),
            ] {
                assert_eq!(
                    contract.decide(&free, NOW)["decision"],
                    "allow",
                    "{name} {value}"
                );
            }
        }
    }
}

#[test]
fn a_zone_without_an_active_set_denies_everything_with_its_own_reason() {
    for input in [bootstrap(&["agent:lifecycle"]), workload(&[]), json!({})] {
        let read = DecisionInput::from_json(&input).unwrap();
        let decision = ZonePolicy::deny_all().decide(&read.request(), NOW);
        let result = decision.to_result_json();
        assert_eq!(result["decision"], "deny");
        assert_eq!(
            result["diagnostics"],
            json!([{"reason": "no_active_policy_set"}])
        );
    }
}

#[test]
fn an_empty_set_of_documents_grants_nothing_but_workload_mints() {
    let policy = ZonePolicy::compile(&[]).unwrap();
    for (input, want) in [
        (mint(&["ledger:read"], &["closer"]), "resource_not_granted"),
        (bootstrap(&["agent:lifecycle"]), "no_rule_matched"),
        (usage("ledger:read", &["closer"]), "resource_not_granted"),
        (json!({}), "no_rule_matched"),
    ] {
        let read = DecisionInput::from_json(&input).unwrap();
        let result = policy.decide(&read.request(), NOW).to_result_json();
        assert_eq!(result["diagnostics"], json!([{ "reason": want }]));
        assert_eq!(result, Contract::new().decide(&input, NOW));
    }
}
