//! Random zones and requests, biased so that every rule of the contract is met.

use std::collections::BTreeMap;

use caracal_core::Timestamp;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

use crate::document;
use crate::truth_table::NOW;

const APPLICATIONS: [&str; 3] = ["app-1", "app-2", "app-3"];
const KEYS: [&str; 4] = ["books", "desk", "audit", "nobody"];
const RESOURCES: [&str; 3] = ["resource://ledger", "resource://mail", "resource://vault"];
const LABELS: [&str; 6] = [
    "closer",
    "viewer",
    "tenant:acme",
    "tenant:beta",
    "tenant:",
    "ops",
];
const SCOPES: [&str; 5] = ["read", "write", "send", "delete", "read:all"];
const TIERS: [&str; 3] = ["low", "high", "critical"];

/// A zone: the text of its policy versions, in manifest order.
pub(crate) type Zone = Vec<String>;

/// A zone's documents, some of them missing, spread over one to three versions.
pub(crate) fn zone() -> BoxedStrategy<Zone> {
    let documents = (
        app_ids(),
        grants(),
        confinement(),
        restrict(),
        risk(),
        tiers(),
    );
    (documents, vec(0..3_usize, 6))
        .prop_map(|((ids, grants, caps, freeze, risk, tiers), homes)| {
            let mut versions: BTreeMap<usize, String> = BTreeMap::new();
            let written = [ids, grants, caps, freeze, risk, tiers];
            for (text, home) in written.into_iter().zip(homes) {
                if let Some(text) = text {
                    versions
                        .entry(home)
                        .or_default()
                        .push_str(&format!("{text}\n"));
                }
            }
            versions.into_values().map(|body| document(&body)).collect()
        })
        .boxed()
}

fn rule(name: &str, value: &Value) -> String {
    format!("{name} := {value}")
}

fn mostly<T: std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    option::weighted(0.95, strategy)
}

fn app_ids() -> BoxedStrategy<Option<String>> {
    let usual = json!({"books": "app-1", "desk": "app-2", "audit": "app-1"});
    let any = btree_map(select(&KEYS[..]), select(&APPLICATIONS[..]), 0..4);
    mostly(prop_oneof![8 => Just(usual), 1 => any.prop_map(|ids| json!(ids))])
        .prop_map(|ids| ids.map(|ids| rule("app_ids", &ids)))
        .boxed()
}

/// A collection of scopes as JSON arrays, Rego sets or objects.
fn scopes(forms: usize) -> BoxedStrategy<String> {
    (subsequence(SCOPES.to_vec(), 2..=5), 0..forms)
        .prop_map(|(scopes, form)| match form {
            0 => json!(scopes).to_string(),
            1 => set(scopes.iter().map(|scope| json!(scope).to_string())),
            _ => {
                let numbered = scopes.iter().enumerate();
                Value::Object(
                    numbered
                        .map(|(at, scope)| (at.to_string(), json!(scope)))
                        .collect(),
                )
                .to_string()
            }
        })
        .boxed()
}

fn set(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        "set()".to_owned()
    } else {
        format!("{{{}}}", items.join(", "))
    }
}

fn grants() -> BoxedStrategy<Option<String>> {
    let application = prop_oneof![12 => Just("books"), 1 => select(&KEYS[..])];
    let roles = btree_map(select(&LABELS[..]), scopes(3), 3..6);
    let grant = (application, roles).prop_map(|(application, roles)| {
        let roles: Vec<String> = roles
            .iter()
            .map(|(label, scopes)| format!("{label:?}: {scopes}"))
            .collect();
        format!(
            "{{\"application\": {application:?}, \"roles\": {{{}}}}}",
            roles.join(", ")
        )
    });
    mostly(btree_map(
        prop_oneof![5 => Just(RESOURCES[0]), 1 => Just(RESOURCES[1])],
        grant,
        1..3,
    ))
    .prop_map(|grants| {
        let grants = grants?;
        let views: Vec<String> = grants
            .iter()
            .map(|(resource, grant)| format!("{resource:?}: {grant}"))
            .collect();
        Some(format!("grants := {{{}}}", views.join(", ")))
    })
    .boxed()
}

fn confinement() -> BoxedStrategy<Option<String>> {
    let prefix = prop_oneof![5 => select(&["tenant:", "tenant:a", "ops"][..]), 1 => Just("")];
    let cap = (prefix, scopes(2)).prop_map(|(prefix, scopes)| {
        format!("{{\"label_prefix\": {prefix:?}, \"scopes\": {scopes}}}")
    });
    option::weighted(0.35, vec(cap, 0..3))
        .prop_map(|caps| Some(format!("confinement := [{}]", caps?.join(", "))))
        .boxed()
}

fn restrict() -> BoxedStrategy<Option<String>> {
    let hours = || option::of(-3..=3_i64);
    let window = (hours(), hours()).prop_map(|(from, until)| {
        let until = match (from, until) {
            (Some(from), Some(until)) if until <= from => Some(from + 1),
            (_, until) => until,
        };
        let mut window = Map::new();
        for (name, hour) in [("from", from), ("until", until)] {
            if let Some(hour) = hour {
                let at = NOW.plus_seconds(hour * 3_600).to_rfc3339_seconds();
                window.insert(name.to_owned(), json!(at));
            }
        }
        Value::Object(window)
    });
    let element = prop_oneof![12 => window, 1 => Just(json!(false)), 1 => Just(json!("freeze"))];
    let form = prop_oneof![Just(0), Just(1), Just(2), Just(3)];
    option::weighted(0.3, (vec(element, 0..2), form))
        .prop_map(|restrict| {
            let (elements, form) = restrict?;
            let texts = elements.iter().map(Value::to_string);
            Some(match form {
                0 => rule("restrict", &json!(elements)),
                1 => format!("restrict := {}", set(texts)),
                2 => {
                    let named = elements.iter().enumerate();
                    let named = named.map(|(at, element)| (format!("f{at}"), element.clone()));
                    rule("restrict", &Value::Object(named.collect()))
                }
                _ if elements.is_empty() => "restrict := {}".to_owned(),
                _ => texts
                    .map(|text| format!("restrict contains {text}\n"))
                    .collect(),
            })
        })
        .boxed()
}

fn risk() -> BoxedStrategy<Option<String>> {
    let rules = btree_map(select(&SCOPES[..]), select(&TIERS[..]), 0..4).prop_map(|tiers| {
        let rules: Vec<Value> = tiers
            .iter()
            .map(|(scope, tier)| json!({"scope": scope, "tier": tier, "note": "kept apart"}))
            .collect();
        rule("risk", &json!(rules))
    });
    option::weighted(0.7, rules).boxed()
}

fn tiers() -> BoxedStrategy<Option<String>> {
    let words = |words: &'static [&'static str]| option::of(select(words));
    let ttl = option::of(select(&[60_u32, 900, 3_600][..]));
    let tier = (
        select(&TIERS[..]),
        words(&["operator", "subject", "any"]),
        words(&["identified", "pseudonymous", "anonymous"]),
        ttl,
        option::weighted(0.3, select(&["x", "y"][..])),
    )
        .prop_map(|(tier, approver, privacy, ttl, note)| {
            let mut declared = Map::new();
            declared.insert("tier".to_owned(), json!(tier));
            let optional = [
                ("approver", approver.map(|word| json!(word))),
                ("privacy", privacy.map(|word| json!(word))),
                ("ttl_seconds", ttl.map(|seconds| json!(seconds))),
                ("note", note.map(|note| json!({"more": [note]}))),
            ];
            for (name, value) in optional {
                if let Some(value) = value {
                    declared.insert(name.to_owned(), value);
                }
            }
            Value::Object(declared)
        });
    option::weighted(
        0.5,
        vec(tier, 1..5).prop_map(|tiers| rule("approval_tiers", &json!(tiers))),
    )
    .boxed()
}

/// An input document and the instant at which it is judged.
pub(crate) fn request() -> BoxedStrategy<(Value, Timestamp)> {
    let input = prop_oneof![
        2 => bootstrap(),
        8 => mint(),
        2 => workload(),
        5 => usage(),
        2 => odd(),
    ];
    (input, -4..=4_i64)
        .prop_map(|(input, hours)| (input, NOW.plus_seconds(hours * 3_600)))
        .boxed()
}

fn principal() -> BoxedStrategy<Value> {
    let id = prop_oneof![15 => Just("app-1"), 2 => select(&APPLICATIONS[..])];
    (id, labels())
        .prop_map(|(id, labels)| json!({"type": "Application", "id": id, "labels": labels}))
        .boxed()
}

fn labels() -> BoxedStrategy<Vec<&'static str>> {
    prop_oneof![1 => Just(vec![]), 9 => subsequence(LABELS.to_vec(), 1..4)].boxed()
}

fn resource() -> BoxedStrategy<Value> {
    let identifier = prop_oneof![9 => Just(RESOURCES[0]), 2 => select(&RESOURCES[..])];
    identifier
        .prop_map(|identifier| json!({"type": "Resource", "identifier": identifier}))
        .boxed()
}

fn asked(range: std::ops::Range<usize>) -> BoxedStrategy<Vec<&'static str>> {
    let usual = vec(
        prop_oneof![3 => Just("read"), 2 => select(&SCOPES[..])],
        range,
    );
    prop_oneof![24 => usual, 1 => Just(vec!["agent:lifecycle"]), 1 => Just(vec!["read", "agent:lifecycle"])].boxed()
}

fn request_of(
    principal: &Value,
    resource: &Value,
    action: &str,
    context: &Value,
    edge: Option<Value>,
) -> Value {
    let mut input = json!({
        "schema_version": "2026-05-20",
        "principal": principal,
        "resource": resource,
        "action": {"id": action},
        "context": context,
    });
    if let Some(edge) = edge {
        input["delegation_edge"] = edge;
    }
    input
}

fn bootstrap() -> BoxedStrategy<Value> {
    let scopes = prop_oneof![
        6 => vec(Just("agent:lifecycle"), 1..3),
        1 => Just(vec!["agent:lifecycle", "read"]),
        1 => Just(vec![]),
    ];
    (principal(), resource(), scopes)
        .prop_map(|(principal, resource, scopes)| {
            request_of(
                &principal,
                &resource,
                "TokenExchange",
                &json!({"requested_scopes": scopes}),
                None,
            )
        })
        .boxed()
}

fn mint() -> BoxedStrategy<Value> {
    let edge = prop_oneof![
        40 => btree_set(select(&SCOPES[..]), 3..6)
            .prop_map(|scopes| json!({"id": "edge-1", "scopes": scopes})),
        1 => Just(json!({"id": "", "scopes": ["read"]})),
        1 => Just(json!({"id": false, "scopes": ["read"]})),
        1 => Just(json!({"scopes": ["read"]})),
        1 => Just(json!({"id": "edge-1"})),
        1 => Just(json!({"id": "edge-1", "scopes": "read"})),
        1 => Just(json!({"id": "edge-1", "scopes": [1, null, "read"]})),
    ];
    let session =
        prop_oneof![24 => Just(json!("session-1")), 1 => Just(json!("")), 1 => Just(json!(false))];
    (principal(), resource(), asked(1..4), edge, session)
        .prop_map(|(principal, resource, scopes, edge, session)| {
            let context = json!({"requested_scopes": scopes, "agent_session_id": session});
            request_of(&principal, &resource, "TokenExchange", &context, Some(edge))
        })
        .boxed()
}

fn workload() -> BoxedStrategy<Value> {
    let id = select(&["workload-1", "app-1"][..]);
    let action = prop_oneof![8 => Just("CredentialInjection"), 1 => Just("TokenExchange")];
    (id, resource(), asked(0..4), action)
        .prop_map(|(id, resource, scopes, action)| {
            let principal = json!({"type": "Workload", "id": id});
            request_of(
                &principal,
                &resource,
                action,
                &json!({"requested_scopes": scopes}),
                None,
            )
        })
        .boxed()
}

fn usage() -> BoxedStrategy<Value> {
    (
        principal(),
        resource(),
        claims(),
        prop_oneof![10 => Just(vec![]), 1 => asked(1..2)],
    )
        .prop_map(|(principal, resource, claims, scopes)| {
            let context = json!({"requested_scopes": scopes, "subject_claims": claims});
            request_of(&principal, &resource, "TokenExchange", &context, None)
        })
        .boxed()
}

fn claims() -> BoxedStrategy<Value> {
    let id = prop_oneof![
        12 => Just(json!("edge-1")),
        1 => Just(json!("")),
        1 => Just(json!(false)),
        1 => Just(json!(7)),
    ];
    let target = prop_oneof![
        8 => Just(json!([RESOURCES[0]])),
        3 => Just(json!(RESOURCES)),
        1 => Just(json!([7, RESOURCES[1]])),
        1 => Just(json!(RESOURCES[0])),
    ];
    let scope = prop_oneof![
        6 => vec(select(&SCOPES[..]), 1..3).prop_map(|scopes| json!(scopes.join(" "))),
        4 => Just(json!("read")),
        1 => Just(json!("")),
        1 => Just(json!("  read   write ")),
        1 => Just(json!("read\twrite")),
        1 => Just(json!(["read"])),
    ];
    (id, target, scope).prop_map(|(id, target, scope)| {
        json!({"delegation_edge_id": id, "target": target, "scope": scope})
    }).boxed()
}

/// Shapes that mix what belongs to different rules, and inputs with parts missing.
fn odd() -> BoxedStrategy<Value> {
    let drop = select(
        &[
            "principal",
            "resource",
            "action",
            "context",
            "delegation_edge",
        ][..],
    );
    let claimed = (mint(), claims()).prop_map(|(mut input, claims)| {
        input["context"]["subject_claims"] = claims;
        input
    });
    let edged = bootstrap().prop_map(|mut input| {
        input["delegation_edge"] = json!({"id": "edge-1", "scopes": ["agent:lifecycle"]});
        input
    });
    let missing = (prop_oneof![mint(), usage()], drop).prop_map(|(mut input, drop)| {
        if let Some(input) = input.as_object_mut() {
            input.remove(drop);
        }
        input
    });
    prop_oneof![claimed, edged, missing, Just(json!({}))].boxed()
}
