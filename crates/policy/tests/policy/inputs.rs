//! Requests as JSON, warnings about them, and what decisions say about themselves.

use std::sync::Arc;

use caracal_core::Scope;
use caracal_core::id::{PolicyVersionId, ZoneId};
use caracal_policy::{
    Action, Approver, CONTRACT_VERSION, Decision, DecisionInput, DecisionRequest, Delegation,
    DenyReason, Explanation, Gate, PolicyDocument, Principal, PrincipalKind, Privacy, Verdict,
    ZonePolicy, contract_sha256, contract_source, input_warnings,
};
use serde_json::{Value, json};

use crate::document;
use crate::truth_table::NOW;

const GRANTS: &str = r#"
app_ids := {"books": "app-7", "desk": "app-8"}
grants := {
    "resource://ledger": {"application": "books", "roles": {"closer": ["read", "write"]}},
    "resource://mail": {"application": "unbound", "roles": {"closer": ["send"]}},
}
"#;
const LIMITS: &str = r#"
confinement := [{"label_prefix": "tenant:", "scopes": ["read"]}]
restrict := {"year-end": {"from": "2026-06-01T00:00:00Z"}}
risk := [{"scope": "write", "tier": "high"}, {"scope": "read", "tier": "low"}]
approval_tiers := [
    {"tier": "high", "approver": "any", "ttl_seconds": 60.0, "privacy": "pseudonymous", "note": 1},
    {"tier": "high"},
    {"tier": "unused"},
]
"#;

fn policy() -> ZonePolicy {
    let version = |id: &str, body: &str| {
        let document = PolicyDocument::parse(&document(body)).unwrap();
        (PolicyVersionId::parse(id).unwrap(), Arc::new(document))
    };
    ZonePolicy::compile(&[version("pv-grants", GRANTS), version("pv-limits", LIMITS)]).unwrap()
}

struct Mint<'a> {
    id: &'a str,
    resource: &'a str,
    labels: &'a [&'a str],
    scopes: &'a [&'a str],
    delegated: &'a [&'a str],
}

const USUAL: Mint<'static> = Mint {
    id: "app-7",
    resource: "resource://ledger",
    labels: &["closer"],
    scopes: &["read"],
    delegated: &["read", "write", "send"],
};

fn decide(mint: &Mint<'_>) -> Decision {
    let scopes = |names: &[&str]| {
        names
            .iter()
            .map(|name| Scope::new(name))
            .collect::<Vec<_>>()
    };
    let labels: Vec<String> = mint
        .labels
        .iter()
        .map(|label| (*label).to_owned())
        .collect();
    let request = DecisionRequest {
        principal: Principal {
            kind: PrincipalKind::Application,
            id: mint.id,
            labels: &labels,
        },
        resource: mint.resource,
        action: Action::TokenExchange,
        requested_scopes: &scopes(mint.scopes),
        agent_session: true,
        delegation: Some(Delegation {
            id: Some("edge-1"),
            scopes: &scopes(mint.delegated),
        }),
        subject: None,
    };
    policy().decide(&request, NOW)
}

#[track_caller]
fn explained(mint: &Mint<'_>, gate: Gate, entry: Option<(&str, &str)>, scope: Option<&str>) {
    let explanation = decide(mint).explanation;
    assert_eq!(explanation.gate, Some(gate));
    let told = explanation.entry.as_ref();
    let told = told.map(|entry| (entry.policy_version_id.as_str(), &*entry.path));
    assert_eq!(told, entry);
    assert_eq!(explanation.scope.as_ref().map(Scope::as_str), scope);
}

#[test]
fn a_denial_names_the_gate_and_the_entry_of_the_version_that_decided() {
    let stranger = Mint {
        id: "app-8",
        ..USUAL
    };
    let ledger = ("pv-grants", "grants[\"resource://ledger\"]");
    explained(&stranger, Gate::Ownership, Some(ledger), None);
    let unbound = Mint {
        resource: "resource://mail",
        ..USUAL
    };
    let mail = ("pv-grants", "grants[\"resource://mail\"]");
    explained(&unbound, Gate::Ownership, Some(mail), None);
    let unknown = Mint {
        resource: "resource://vault",
        ..USUAL
    };
    explained(&unknown, Gate::Ownership, None, None);
    let wide = Mint {
        scopes: &["read", "delete"],
        ..USUAL
    };
    explained(&wide, Gate::DelegationScopes, None, Some("delete"));
    let capped = Mint {
        scopes: &["read", "write"],
        labels: &["tenant:acme", "closer"],
        ..USUAL
    };
    let cap = ("pv-limits", "confinement[0]");
    explained(&capped, Gate::Confinement, Some(cap), Some("write"));
    explained(
        &Mint {
            scopes: &["send"],
            ..USUAL
        },
        Gate::Role,
        Some(ledger),
        None,
    );
    explained(
        &Mint {
            scopes: &[],
            ..USUAL
        },
        Gate::Shape,
        None,
        None,
    );
}

#[test]
fn a_freeze_names_its_entry() {
    let input = DecisionInput::from_json(&json!({})).unwrap();
    let decision = policy().decide(&input.request(), NOW.plus_seconds(366 * 86_400));
    assert_eq!(
        decision.verdict,
        Verdict::Deny {
            reason: DenyReason::RestrictionActive
        }
    );
    let explained = serde_json::to_value(&decision.explanation).unwrap();
    let entry = json!({"policy_version_id": "pv-limits", "path": "restrict[\"year-end\"]"});
    assert_eq!(explained, json!({"gate": "restriction", "entry": entry}));
}

#[test]
fn an_allow_names_the_role_that_held() {
    let decision = decide(&USUAL);
    let explained = serde_json::to_value(&decision.explanation).unwrap();
    let path = "grants[\"resource://ledger\"].roles.closer";
    assert_eq!(
        explained,
        json!({"entry": {"policy_version_id": "pv-grants", "path": path}})
    );
    assert_eq!(
        ZonePolicy::deny_all()
            .decide(&no_request().request(), NOW)
            .explanation,
        {
            Explanation {
                gate: Some(Gate::ActiveSet),
                ..Explanation::default()
            }
        }
    );
}

fn no_request() -> DecisionInput {
    DecisionInput::from_json(&json!({})).unwrap()
}

#[test]
fn gates_are_typed_and_kept_as_written() {
    let decision = decide(&Mint {
        scopes: &["write", "read", "write"],
        ..USUAL
    });
    let Verdict::Allow { gates, risk, .. } = &decision.verdict else {
        panic!("{decision:?}");
    };
    let classes: Vec<_> = risk
        .iter()
        .map(|(scope, tier)| (scope.as_str(), &**tier))
        .collect();
    assert_eq!(classes, [("read", "low"), ("write", "high")]);
    let [full, bare] = gates.as_slice() else {
        panic!("{gates:?}");
    };
    assert_eq!(
        (full.approver, full.privacy),
        (Approver::Any, Privacy::Pseudonymous)
    );
    assert_eq!((full.ttl_seconds, &*full.tier), (Some(60), "high"));
    assert_eq!(full.authored["note"], json!(1));
    assert_eq!(
        (bare.approver, bare.privacy),
        (Approver::Operator, Privacy::Identified)
    );
    assert_eq!(
        (bare.ttl_seconds, &bare.authored),
        (None, &json!({"tier": "high"}))
    );
}

#[test]
fn an_input_of_a_wrong_type_is_refused_by_its_path() {
    for (input, path) in [
        (json!([]), "input"),
        (json!({"schema_version": "2020-01-01"}), "schema_version"),
        (json!({"schema_version": 7}), "schema_version"),
        (json!({"principal": "app-7"}), "principal"),
        (json!({"principal": {"id": 7}}), "principal.id"),
        (json!({"principal": {"type": []}}), "principal.type"),
        (
            json!({"principal": {"labels": "closer"}}),
            "principal.labels",
        ),
        (json!({"principal": {"labels": [7]}}), "principal.labels"),
        (
            json!({"resource": {"identifier": {}}}),
            "resource.identifier",
        ),
        (json!({"action": {"id": 1}}), "action.id"),
        (json!({"context": []}), "context"),
        (
            json!({"context": {"requested_scopes": "read"}}),
            "context.requested_scopes",
        ),
    ] {
        let error = DecisionInput::from_json(&input).unwrap_err();
        assert_eq!(error.path, path, "{input}");
    }
}

#[test]
fn absent_and_null_parts_are_an_empty_request() {
    for input in [
        json!({}),
        json!({"schema_version": ""}),
        json!({"principal": null, "context": null}),
    ] {
        let read = DecisionInput::from_json(&input).unwrap();
        let decision = policy().decide(&read.request(), NOW);
        assert_eq!(
            decision.verdict,
            Verdict::Deny {
                reason: DenyReason::NoRuleMatched
            }
        );
    }
}

#[test]
fn warnings_name_what_a_simulation_lacks_in_order() {
    let zone = ZoneId::parse("zone-1").unwrap();
    let warned = |input: Value| input_warnings(&input, &zone);
    assert_eq!(
        warned(json!({})),
        [
            "principal_zone_mismatch",
            "missing_resource",
            "missing_action",
            "missing_context"
        ]
    );
    assert_eq!(
        warned(json!({
            "schema_version": "2020-01-01",
            "principal": {"zone_id": "zone-2"},
            "resource": {}, "action": {}, "context": {},
        })),
        [
            "input_schema_mismatch:2020-01-01",
            "principal_zone_mismatch"
        ]
    );
    assert!(
        warned(json!({
            "schema_version": "2026-05-20",
            "principal": {"zone_id": "zone-1"},
            "resource": {}, "action": {}, "context": {},
        }))
        .is_empty()
    );
}

#[test]
fn the_contract_names_its_version_and_has_a_stable_hash() {
    assert!(contract_source().contains(&format!("version {CONTRACT_VERSION}.")));
    assert_eq!(contract_sha256().len(), 64);
    assert!(
        contract_sha256()
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit())
    );
}

#[test]
fn policies_are_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<ZonePolicy>();
    shared::<PolicyDocument>();
}
