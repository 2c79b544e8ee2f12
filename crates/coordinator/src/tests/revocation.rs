//! Revoking delegations: what falls, what does not, and who hears of it.

use std::collections::BTreeSet;

use caracal_core::id::{DelegationId, SessionId};
use serde_json::{Value, json};

use super::world::{Answer, LIFECYCLE, NOTES, World, merged};

fn hops(max_hops: u8, ttl: i64) -> Value {
    json!({ "ttl_seconds": ttl, "constraints": { "resources": [NOTES], "max_hops": max_hops } })
}

async fn revoke(world: &World, application: &str, edge: &str) -> Answer {
    world
        .call(application, "PATCH", &format!("/delegations/{edge}/revoke"))
        .send()
        .await
}

#[tokio::test]
async fn a_revoke_ends_the_target_of_the_same_application() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let child = world.start("app", json!({ "parent_id": b })).await;
    let edge = world.delegate((&a, "app"), (&b, "app"), json!({})).await;
    let answer = revoke(&world, "app", &edge).await.ok(200);
    assert_eq!(
        answer,
        json!({ "revoked_edges": 1, "affected_sessions": 1, "terminated_sessions": 2 })
    );
    assert_eq!(world.edge_status(&edge).await, "revoked");
    assert_eq!(world.edge(&edge).await.edge_version, 1);
    for ended in [&b, &child] {
        assert_eq!(world.status(ended).await, "terminated");
    }
    let reason = world.session(&b).await.termination_reason;
    assert_eq!(reason.as_deref(), Some("delegation_revoked"));
    assert_eq!(world.status(&a).await, "active");
    revoke(&world, "app", &edge)
        .await
        .assert(404, "delegation_not_found");
    assert_eq!(world.epoch().await, 1);
}

#[tokio::test]
async fn nobody_ends_another_applications_session_by_delegating_to_it() {
    let world = World::new().await;
    let attacker = world.start("other", json!({})).await;
    let victim = world.start("app", json!({})).await;
    let child = world.start("app", json!({ "parent_id": victim })).await;
    let edge = world
        .delegate((&attacker, "other"), (&victim, "app"), json!({}))
        .await;
    world
        .call(
            "app",
            "GET",
            &format!("/delegations/inbound/{victim}/{edge}"),
        )
        .send()
        .await
        .ok(200);
    let answer = revoke(&world, "other", &edge).await.ok(200);
    assert_eq!(answer["terminated_sessions"], 0);
    assert_eq!(world.edge_status(&edge).await, "revoked");
    assert_eq!(world.status(&victim).await, "active");
    assert_eq!(world.status(&child).await, "active");
    let announced = world.stream("caracal.sessions.revoke").await;
    assert_eq!(
        announced,
        [json!({ "zone_id": "z1", "delegation_edge_id": edge, "reason": "delegation_revoked" })]
    );
}

#[tokio::test]
async fn a_revoke_ends_a_descendant_of_another_application() {
    let world = World::new().await;
    let root = world.start("app", json!({})).await;
    let token = world.token_with("other", &format!("{LIFECYCLE} coordinator.spawn_under:app"));
    let body = json!({ "application_id": "other", "parent_id": root });
    let call = world
        .plain("POST", "/zones/z1/agents")
        .bearer(&token)
        .json(&body);
    let child = call.send().await.ok(201)["agent_session_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let edge = world
        .delegate((&root, "app"), (&child, "other"), json!({}))
        .await;
    let answer = revoke(&world, "app", &edge).await.ok(200);
    assert_eq!(answer["terminated_sessions"], 1);
    assert_eq!(world.status(&child).await, "terminated");
}

#[tokio::test]
async fn a_revoke_follows_the_lineage_and_nothing_else() {
    let world = World::new().await;
    let (a, x) = (
        world.start("app", json!({})).await,
        world.start("third", json!({})).await,
    );
    let b = world.start("other", json!({})).await;
    let c = world.start("third", json!({})).await;
    let first = world
        .delegate((&a, "app"), (&b, "other"), hops(3, 600))
        .await;
    let from_x = world
        .delegate((&x, "third"), (&b, "other"), hops(3, 600))
        .await;
    let derived = merged(hops(2, 60), json!({ "parent_edge_id": first }));
    let derived = world.delegate((&b, "other"), (&c, "third"), derived).await;
    let unrelated = merged(hops(2, 60), json!({ "parent_edge_id": from_x }));
    let unrelated = world
        .delegate((&b, "other"), (&c, "third"), unrelated)
        .await;
    let answer = revoke(&world, "app", &first).await.ok(200);
    assert_eq!(answer["revoked_edges"], 2);
    assert_eq!(world.edge_status(&derived).await, "revoked");
    assert_eq!(world.edge_status(&from_x).await, "active");
    assert_eq!(world.edge_status(&unrelated).await, "active");
    assert_eq!(world.status(&b).await, "active");
    assert_eq!(world.status(&c).await, "active");
}

#[tokio::test]
async fn a_lineage_longer_than_ten_edges_falls_as_a_whole() {
    let world = World::with(|options| options.max_sessions_per_zone = 100).await;
    let source = world.start("other", json!({})).await;
    let mut at = world.start("app", json!({})).await;
    let first = world
        .delegate((&source, "other"), (&at, "app"), hops(10, 600))
        .await;
    let path = format!("/delegations/inbound/{at}/{first}");
    world.call("app", "GET", &path).send().await.ok(200);
    let mut edges = vec![first.clone()];
    for turn in 0..8_u8 {
        let child = world
            .try_start("app", json!({ "parent_id": at }))
            .await
            .ok(201);
        edges.push(child["delegation_edge_id"].as_str().unwrap().to_owned());
        let child = child["agent_session_id"].as_str().unwrap().to_owned();
        at = world.start("app", json!({})).await;
        let narrow = hops(9 - turn, 500 - i64::from(turn));
        edges.push(world.delegate((&child, "app"), (&at, "app"), narrow).await);
    }
    let answer = revoke(&world, "other", &first).await.ok(200);
    assert_eq!(answer["revoked_edges"], 17);
    for edge in &edges {
        assert_eq!(world.edge_status(edge).await, "revoked");
    }
    assert_eq!(
        world.status(&at).await,
        "active",
        "the issuer has no say over it"
    );
}

#[tokio::test]
async fn every_edge_and_every_session_that_falls_is_announced_once() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let edge = world.delegate((&a, "app"), (&b, "app"), hops(3, 600)).await;
    let child = world
        .try_start("app", json!({ "parent_id": b }))
        .await
        .ok(201);
    let mirror = child["delegation_edge_id"].as_str().unwrap().to_owned();
    let child = child["agent_session_id"].as_str().unwrap().to_owned();
    let outward = world.start("other", json!({})).await;
    let out = merged(hops(2, 60), json!({ "parent_edge_id": mirror }));
    let out = world
        .delegate((&child, "app"), (&outward, "other"), out)
        .await;
    let answer = revoke(&world, "app", &edge).await.ok(200);
    assert_eq!(answer["revoked_edges"], 3);
    let announced = world.stream("caracal.sessions.revoke").await;
    let anchors: BTreeSet<&str> = announced
        .iter()
        .filter_map(|event| {
            event["delegation_edge_id"]
                .as_str()
                .or(event["agent_session_id"].as_str())
        })
        .collect();
    assert_eq!(announced.len(), 5);
    let expected: BTreeSet<&str> = [&edge, &mirror, &out, &b, &child]
        .map(String::as_str)
        .into();
    assert_eq!(anchors, expected);
    assert!(
        announced
            .iter()
            .all(|event| event.get("session_id").is_none())
    );
    let epochs = world.stream("caracal.delegations.invalidate").await;
    assert_eq!(epochs.len(), 1);
    assert_eq!(epochs[0]["epoch"], "1");
    assert_eq!(epochs[0]["affected_edges"], "3");
}

#[tokio::test]
async fn only_the_issuer_and_admins_revoke() {
    let world = World::new().await;
    let a = world.start("app", json!({})).await;
    let b = world.start("other", json!({})).await;
    let edge = world.delegate((&a, "app"), (&b, "other"), json!({})).await;
    for stranger in ["other", "third"] {
        revoke(&world, stranger, &edge)
            .await
            .assert(403, "issuer_ownership_required");
    }
    revoke(&world, "app", "none")
        .await
        .assert(404, "delegation_not_found");
    let path = format!("/delegations/{edge}/revoke");
    world.operate("PATCH", &path).send().await.ok(200);
}

#[tokio::test]
async fn an_edge_past_its_end_can_be_revoked_until_it_is_swept() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let edge = world
        .delegate((&a, "app"), (&b, "app"), json!({ "ttl_seconds": 60 }))
        .await;
    world.clock.advance_seconds(61);
    revoke(&world, "app", &edge).await.ok(200);
}

#[tokio::test]
async fn affected_sessions_counts_subject_records() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let c = world
        .start("app", json!({ "subject_session_id": "rec-user" }))
        .await;
    let edge = world.delegate((&a, "app"), (&b, "app"), hops(3, 600)).await;
    world.delegate((&b, "app"), (&c, "app"), hops(2, 60)).await;
    let answer = revoke(&world, "app", &edge).await.ok(200);
    assert_eq!(answer["affected_sessions"], 2);
    assert_eq!(answer["terminated_sessions"], 2);
}

#[tokio::test]
async fn the_view_is_fresh_when_the_answer_arrives() {
    let world = World::new().await;
    let now = caracal_core::Clock::now(&*world.clock);
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let edge = world.delegate((&a, "app"), (&b, "app"), json!({})).await;
    let (a, b) = (SessionId::parse(&a).unwrap(), SessionId::parse(&b).unwrap());
    let edge = DelegationId::parse(&edge).unwrap();
    let live = async || {
        let view = world
            .coordinator
            .authority
            .fresh(&world.zone)
            .await
            .unwrap();
        let session = async |id| {
            let session = view.session(id).await.unwrap().unwrap();
            session.is_effectively_live(now)
        };
        let edge = view.delegation(&edge).await.unwrap().unwrap();
        (session(&a).await, session(&b).await, edge.is_live(now))
    };
    assert_eq!(live().await, (true, true, true));
    let call = world.call("app", "PATCH", &format!("/agents/{a}/suspend"));
    call.send().await.ok(200);
    assert_eq!(live().await, (false, true, true));
    let call = world.call("app", "PATCH", &format!("/agents/{a}/resume"));
    call.send().await.ok(200);
    assert_eq!(live().await, (true, true, true));
    revoke(&world, "app", edge.as_str()).await.ok(200);
    assert_eq!(live().await, (true, false, false));
    let call = world.call("app", "DELETE", &format!("/agents/{a}"));
    call.send().await.ok(204);
    assert_eq!(live().await, (false, false, false));
}
