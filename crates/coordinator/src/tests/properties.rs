//! What holds whatever callers do.

use std::collections::BTreeSet;

use caracal_store::entity::Delegation;
use caracal_store::{DelegationFilter, Page};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::world::{NOTES, World};

/// One thing that a caller does; numbers pick among what there is.
#[derive(Debug, Clone)]
enum Step {
    Start {
        application: usize,
        parent: Option<usize>,
        inherit: bool,
        service: bool,
    },
    Delegate {
        from: usize,
        to: usize,
        named: Option<usize>,
        scopes: u8,
        hops: u8,
        ttl: i64,
        budget: u8,
    },
    Take {
        edge: usize,
    },
    Revoke {
        edge: usize,
    },
    End {
        session: usize,
    },
    Suspend {
        session: usize,
    },
    Resume {
        session: usize,
    },
    Wait {
        seconds: i64,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let pick = 0..12_usize;
    prop_oneof![
        4 => (0..2_usize, proptest::option::of(pick.clone()), any::<bool>(), any::<bool>()).prop_map(
            |(application, parent, inherit, service)| Step::Start { application, parent, inherit, service }
        ),
        6 => (pick.clone(), pick.clone(), proptest::option::of(pick.clone()), 0..4_u8, 1..5_u8, 30..300_i64, 0..4_u8)
            .prop_map(|(from, to, named, scopes, hops, ttl, budget)| {
                Step::Delegate { from, to, named, scopes, hops, ttl, budget }
            }),
        2 => pick.clone().prop_map(|edge| Step::Take { edge }),
        2 => pick.clone().prop_map(|edge| Step::Revoke { edge }),
        1 => pick.clone().prop_map(|session| Step::End { session }),
        1 => pick.clone().prop_map(|session| Step::Suspend { session }),
        1 => pick.prop_map(|session| Step::Resume { session }),
        1 => (1..60_i64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

const APPLICATIONS: [&str; 2] = ["app", "other"];

#[derive(Default)]
struct Known {
    sessions: Vec<(String, &'static str)>,
    edges: Vec<String>,
}

impl Known {
    fn session(&self, pick: usize) -> Option<&(String, &'static str)> {
        self.sessions.get(pick.checked_rem(self.sessions.len())?)
    }

    fn edge(&self, pick: usize) -> Option<&String> {
        self.edges.get(pick.checked_rem(self.edges.len())?)
    }
}

async fn perform(world: &World, known: &mut Known, step: &Step) {
    match step {
        Step::Start {
            application,
            parent,
            inherit,
            service,
        } => {
            let mut application = APPLICATIONS[*application];
            let mut body = json!({});
            if *service {
                body["lifecycle"] = json!("service");
            }
            if !inherit {
                body["parent_authority"] = json!("none");
            }
            if let Some((id, owner)) = parent.and_then(|pick| known.session(pick)) {
                application = owner;
                body["parent_id"] = json!(id);
            }
            let answer = world.try_start(application, body).await;
            assert!(!answer.status.is_server_error(), "{}", answer.text);
            if answer.status == 201 {
                known
                    .sessions
                    .push((answer.str("agent_session_id").to_owned(), application));
                known.edges.extend(
                    answer.body["delegation_edge_id"]
                        .as_str()
                        .map(str::to_owned),
                );
            }
        }
        Step::Delegate {
            from,
            to,
            named,
            scopes,
            hops,
            ttl,
            budget,
        } => {
            let (Some(from), Some(to)) = (known.session(*from), known.session(*to)) else {
                return;
            };
            let scopes: Vec<&str> = ["notes:read", "notes:write"]
                .into_iter()
                .enumerate()
                .filter_map(|(bit, scope)| (scopes & (1 << bit) != 0).then_some(scope))
                .collect();
            let mut constraints = json!({ "resources": [NOTES], "max_hops": hops });
            if *budget > 0 {
                constraints["budget"] = json!(budget);
            }
            let mut extra =
                json!({ "scopes": scopes, "constraints": constraints, "ttl_seconds": ttl });
            if let Some(edge) = named.and_then(|pick| known.edge(pick)) {
                extra["parent_edge_id"] = json!(edge);
            }
            let answer = world
                .try_delegate((&from.0, from.1), (&to.0, to.1), extra)
                .await;
            assert!(!answer.status.is_server_error(), "{}", answer.text);
            if answer.status == 201 {
                known
                    .edges
                    .push(answer.str("delegation_edge_id").to_owned());
            }
        }
        Step::Take { edge } => {
            let Some(edge) = known.edge(*edge) else {
                return;
            };
            let row = world.edge(edge).await;
            let path = format!("/delegations/inbound/{}/{edge}", row.target_session_id);
            let receiver = row.receiver_application_id.as_str();
            let answer = world.call(receiver, "GET", &path).send().await;
            assert!(!answer.status.is_server_error(), "{}", answer.text);
        }
        Step::Revoke { edge } => {
            let Some(edge) = known.edge(*edge).cloned() else {
                return;
            };
            let issuer = world.edge(&edge).await.issuer_application_id;
            revoke_and_check(world, known, &edge, issuer.as_str()).await;
        }
        Step::End { session } => {
            let Some((id, owner)) = known.session(*session) else {
                return;
            };
            let generation = world.session(id).await.lease_generation.max(1);
            let body = json!({ "lease_generation": generation });
            let call = world
                .call(owner, "DELETE", &format!("/agents/{id}"))
                .json(&body);
            assert!(!call.send().await.status.is_server_error());
        }
        Step::Suspend { session } | Step::Resume { session } => {
            let Some((id, owner)) = known.session(*session) else {
                return;
            };
            let verb = if matches!(step, Step::Suspend { .. }) {
                "suspend"
            } else {
                "resume"
            };
            let call = world.call(owner, "PATCH", &format!("/agents/{id}/{verb}"));
            assert!(!call.send().await.status.is_server_error());
        }
        Step::Wait { seconds } => world.clock.advance_seconds(*seconds),
    }
}

/// A revoke leaves no live descendant, ends no foreign Session, and tells of exactly what fell.
async fn revoke_and_check(world: &World, known: &Known, edge: &str, issuer: &str) {
    let before = statuses(world, known).await;
    let path = format!("/delegations/{edge}/revoke");
    let answer = world.call(issuer, "PATCH", &path).send().await;
    assert!(!answer.status.is_server_error(), "{}", answer.text);
    if answer.status != 200 {
        return;
    }
    for row in all_edges(world).await {
        if lineage(world, &row)
            .await
            .iter()
            .any(|above| above.id.as_str() == edge)
        {
            assert_ne!(
                row.status.as_str(),
                "active",
                "{} derives from {edge}",
                row.id
            );
        }
    }
    let source = world.edge(edge).await.source_session_id;
    let below: BTreeSet<String> = below(world, known, source.as_str()).await;
    for ((id, owner), was_running) in before {
        let session = world.session(id).await;
        let runs = matches!(session.status.as_str(), "active" | "suspended");
        if was_running && !runs && *owner != issuer {
            assert!(
                below.contains(id),
                "{id} of {owner} fell with {issuer}'s edge"
            );
        }
    }
}

async fn statuses<'a>(world: &World, known: &'a Known) -> Vec<(&'a (String, &'static str), bool)> {
    let mut out = Vec::new();
    for entry in &known.sessions {
        let status = world.status(&entry.0).await;
        out.push((entry, matches!(status, "active" | "suspended")));
    }
    out
}

/// The Sessions below one.
async fn below(world: &World, known: &Known, source: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for (id, _) in &known.sessions {
        let mut at = world.session(id).await;
        while let Some(parent) = at.parent_id.clone() {
            if parent.as_str() == source {
                out.insert(id.clone());
            }
            at = world.session(parent.as_str()).await;
        }
    }
    out
}

async fn all_edges(world: &World) -> Vec<Delegation> {
    let zone = world.store.read(&world.zone);
    let page = Page::first(1_000);
    zone.list_delegations(&DelegationFilter::default(), &page)
        .await
        .unwrap()
        .items
}

async fn lineage(world: &World, edge: &Delegation) -> Vec<Delegation> {
    world
        .store
        .read(&world.zone)
        .delegation_lineage(&edge.id)
        .await
        .unwrap()
}

/// Every edge is a part of the edge above it.
async fn edges_only_narrow(world: &World) {
    for edge in all_edges(world).await {
        let lineage = lineage(world, &edge).await;
        let Some(parent) = lineage.get(1) else {
            continue;
        };
        assert!(edge.scopes.is_subset_of(&parent.scopes));
        assert!(edge.expires_at <= parent.expires_at);
        assert_eq!(edge.source_session_id, parent.target_session_id);
        assert_eq!(edge.issuer_application_id, parent.receiver_application_id);
        if edge.mirrored {
            assert_eq!(edge.constraints, parent.constraints);
        } else {
            assert!(edge.constraints.hops() < parent.constraints.hops());
        }
        let within = |child: Option<i64>, parent: Option<i64>| match (child, parent) {
            (_, None) => true,
            (Some(child), Some(parent)) => child <= parent,
            (None, Some(_)) => false,
        };
        assert!(within(
            edge.constraints.ttl_seconds,
            parent.constraints.ttl_seconds
        ));
        let smallest = lineage[1..].iter().filter_map(Delegation::own_budget).min();
        assert!(edge.own_budget().is_none() || within(edge.own_budget(), smallest));
        if let Some(names) = &parent.constraints.resources {
            let mine = edge.constraints.resources.as_ref().unwrap();
            assert!(mine.iter().all(|name| names.contains(name)));
        }
    }
}

/// A Session that an edge of its own application ever narrowed delegates through an edge, or not at
/// all.
async fn narrowed_sessions_stay_narrowed(world: &World) {
    let edges = all_edges(world).await;
    for root in edges.iter().filter(|edge| edge.parent_edge_id.is_none()) {
        let narrowed_before = edges.iter().any(|other| {
            other.target_session_id == root.source_session_id
                && other.issuer_application_id == other.receiver_application_id
                && other.created_at < root.created_at
        });
        assert!(!narrowed_before, "{} restored root authority", root.id);
    }
}

#[test]
fn authority_only_narrows_and_a_revoke_leaves_nothing_behind() {
    let steps = proptest::collection::vec(any_step(), 8..28);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(Config::with_cases(24));
    runner
        .run(&steps, |steps| {
            runtime.block_on(async {
                let world = World::with(|options| options.max_sessions_per_zone = 1_000).await;
                let mut known = Known::default();
                for step in &steps {
                    perform(&world, &mut known, step).await;
                    world.clock.advance_seconds(1);
                }
                edges_only_narrow(&world).await;
                narrowed_sessions_stay_narrowed(&world).await;
            });
            Ok(())
        })
        .unwrap();
}

#[test]
fn bodies_of_any_shape_are_answered() {
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        proptest::collection::vec(any::<String>(), 0..3).prop_map(Value::from),
        Just(json!({ "max_hops": 1 })),
    ];
    let name = prop_oneof![
        Just("application_id"),
        Just("subject_session_id"),
        Just("subject_token"),
        Just("parent_id"),
        Just("lifecycle"),
        Just("labels"),
        Just("ttl_seconds"),
        Just("parent_authority"),
        Just("inherit_parent_edge_id"),
        Just("metadata"),
        Just("source_session_id"),
        Just("target_session_id"),
        Just("issuer_application_id"),
        Just("receiver_application_id"),
        Just("scopes"),
        Just("constraints"),
        Just("constraints_json"),
        Just("expires_at"),
        Just("resource_id"),
        Just("lease_generation"),
        Just("status"),
    ];
    let body = proptest::collection::vec((name, value), 0..8);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(World::new());
    let mut runner = TestRunner::new(Config::with_cases(128));
    runner
        .run(&body, |members| {
            let members = members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value));
            let body = Value::Object(members.collect());
            runtime.block_on(async {
                for path in ["/agents", "/delegations", "/agents/any/heartbeat"] {
                    let answer = world.call("app", "POST", path).json(&body).send().await;
                    assert!(answer.status.as_u16() < 500, "{body}: {}", answer.text);
                    assert!(answer.body.is_object());
                }
            });
            Ok(())
        })
        .unwrap();
}
