//! What time ends.

use caracal_core::Clock as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::world::{NOTES, World};
use crate::sweep::Sweep;

async fn sweep(world: &World, sweep: Sweep) {
    world
        .coordinator
        .sweep(sweep, &CancellationToken::new())
        .await;
}

#[tokio::test]
async fn a_task_past_its_lifetime_expires_with_what_is_below() {
    let world = World::new().await;
    let task = world.start("app", json!({ "ttl_seconds": 60 })).await;
    let child = world.start("app", json!({ "parent_id": task })).await;
    let other = world.start("app", json!({})).await;
    let edge = world
        .delegate((&other, "app"), (&task, "app"), json!({}))
        .await;
    world.clock.advance_seconds(59);
    sweep(&world, Sweep::Lifetimes).await;
    assert_eq!(world.status(&task).await, "active");
    world.clock.advance_seconds(1);
    sweep(&world, Sweep::Lifetimes).await;
    let ended = world.session(&task).await;
    assert_eq!(ended.status.as_str(), "expired");
    assert_eq!(ended.termination_reason.as_deref(), Some("ttl"));
    assert_eq!(world.status(&child).await, "terminated");
    assert_eq!(world.edge_status(&edge).await, "revoked");
    assert_eq!(world.status(&other).await, "active");
    let anchors = world.stream("caracal.sessions.revoke").await;
    assert!(
        anchors
            .iter()
            .any(|event| event["agent_session_id"] == *task)
    );
    assert_eq!(world.epoch().await, 0);
    assert_eq!(world.session(&task).await.child_count, 0);
}

#[tokio::test]
async fn the_life_of_a_suspended_task_runs_on() {
    let world = World::new().await;
    let task = world.start("app", json!({ "ttl_seconds": 60 })).await;
    world
        .call("app", "PATCH", &format!("/agents/{task}/suspend"))
        .send()
        .await
        .ok(200);
    world.clock.advance_seconds(60);
    sweep(&world, Sweep::Lifetimes).await;
    assert_eq!(world.status(&task).await, "expired");
}

#[tokio::test]
async fn a_service_past_its_lease_is_suspended() {
    let world = World::new().await;
    let lost = world.start("app", json!({ "lifecycle": "service" })).await;
    let child = world.start("app", json!({ "parent_id": lost })).await;
    world.clock.advance_seconds(100);
    let kept = world.start("app", json!({ "lifecycle": "service" })).await;
    world.clock.advance_seconds(20);
    sweep(&world, Sweep::Leases).await;
    assert_eq!(world.status(&lost).await, "suspended");
    assert_eq!(world.status(&child).await, "suspended");
    assert_eq!(world.status(&kept).await, "active");
    sweep(&world, Sweep::Leases).await;
    assert!(world.stream("caracal.sessions.revoke").await.is_empty());
}

#[tokio::test]
async fn a_sweep_goes_on_until_nothing_is_due() {
    let world = World::with(|options| options.sweep_batch = 2).await;
    for _ in 0..5 {
        world.start("app", json!({ "ttl_seconds": 1 })).await;
    }
    world.clock.advance_seconds(1);
    sweep(&world, Sweep::Lifetimes).await;
    let list = world
        .operate("GET", "/agents?status=expired")
        .send()
        .await
        .ok(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn edges_past_their_end_expire_and_end_nothing() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let edge = world
        .delegate((&a, "app"), (&b, "app"), json!({ "ttl_seconds": 60 }))
        .await;
    world.clock.advance_seconds(60);
    sweep(&world, Sweep::Retention).await;
    assert_eq!(world.edge_status(&edge).await, "expired");
    assert_eq!(world.edge(&edge).await.edge_version, 0);
    assert_eq!(world.status(&b).await, "active");
    let path = format!("/delegations/{edge}/revoke");
    world
        .call("app", "PATCH", &path)
        .send()
        .await
        .assert(404, "delegation_not_found");
    assert_eq!(world.epoch().await, 0);
}

#[tokio::test]
async fn what_is_kept_no_longer_is_deleted_leaves_first() {
    let world = World::with(|options| options.retention_batch = 1).await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let wide = json!({ "constraints": { "resources": [NOTES], "max_hops": 3 } });
    world.delegate((&a, "app"), (&b, "app"), wide).await;
    world.start("app", json!({ "parent_id": b })).await;
    world.clock.advance_seconds(3_600);
    sweep(&world, Sweep::Lifetimes).await;
    world.clock.advance_seconds(89 * 86_400);
    sweep(&world, Sweep::Retention).await;
    let kept = world.operate("GET", "/agents").send().await.ok(200);
    assert_eq!(kept["items"].as_array().unwrap().len(), 3);
    world.clock.advance_seconds(2 * 86_400);
    sweep(&world, Sweep::Retention).await;
    let gone = world.operate("GET", "/agents").send().await.ok(200);
    assert_eq!(gone["items"], json!([]));
    let stats = world.store.platform().receipt_stats().await.unwrap();
    assert_eq!(stats.rows, 0);
    assert!(world.clock.now().seconds() > 0);
}

#[tokio::test]
async fn expired_receipts_are_deleted() {
    let world = World::new().await;
    let call = world
        .call("app", "POST", "/agents")
        .header("idempotency-key", "k");
    call.json(&json!({ "application_id": "app" }))
        .send()
        .await
        .ok(201);
    assert_eq!(
        world.store.platform().receipt_stats().await.unwrap().rows,
        1
    );
    world.clock.advance_seconds(7 * 86_400);
    sweep(&world, Sweep::Retention).await;
    assert_eq!(
        world.store.platform().receipt_stats().await.unwrap().rows,
        0
    );
}
