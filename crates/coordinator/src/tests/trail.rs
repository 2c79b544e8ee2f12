//! The audit trail.

use serde_json::json;

use super::world::World;

#[tokio::test]
async fn every_change_has_one_row_with_its_object() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let edge = world.delegate((&a, "app"), (&b, "app"), json!({})).await;
    world
        .call("app", "PATCH", &format!("/agents/{a}/suspend"))
        .send()
        .await
        .ok(200);
    world
        .call("app", "PATCH", &format!("/agents/{a}/resume"))
        .send()
        .await
        .ok(200);
    world
        .operate("PATCH", &format!("/delegations/{edge}/revoke"))
        .send()
        .await
        .ok(200);
    let call = world.call("app", "DELETE", &format!("/agents/{a}?reason=done"));
    call.header("x-request-id", "req-1").send().await.ok(204);
    let rows = world.trail().await;
    let seen: Vec<(&str, &str, &str, u16)> = rows
        .iter()
        .map(|row| {
            (
                row.audit.method.as_str(),
                row.audit.entity_type.as_deref().unwrap(),
                row.audit.entity_id.as_deref().unwrap(),
                row.audit.status_code,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("POST", "agents", &*a, 201),
            ("POST", "agents", &*b, 201),
            ("POST", "delegations", &*edge, 201),
            ("PATCH", "agents", &*a, 200),
            ("PATCH", "agents", &*a, 200),
            ("PATCH", "delegations", &*edge, 200),
            ("DELETE", "agents", &*a, 204),
        ]
    );
    let last = &rows.last().unwrap().audit;
    assert_eq!(last.request_id, "req-1");
    assert_eq!(last.action, format!("DELETE /zones/z1/agents/{a}"));
    assert_eq!(last.actor_id.as_deref(), Some("app"));
    assert_eq!(last.actor_scope.as_deref(), Some("agent:lifecycle"));
    assert_eq!(
        rows[5].audit.actor_name.as_deref(),
        Some("caracal-operator")
    );
}

#[tokio::test]
async fn refusals_of_identified_callers_are_kept() {
    let world = World::new().await;
    let theirs = world.start("other", json!({})).await;
    let before = world.trail().await.len();
    world
        .call("app", "GET", &format!("/agents/{theirs}"))
        .send()
        .await
        .assert(404, "session_not_found");
    world
        .call("app", "POST", "/agents")
        .text("{")
        .send()
        .await
        .assert(400, "invalid_body");
    world
        .plain("GET", "/zones/z1/agents")
        .send()
        .await
        .assert(401, "missing_token");
    let rows = world.trail().await.split_off(before);
    let seen: Vec<(u16, Option<&str>)> = rows
        .iter()
        .map(|row| (row.audit.status_code, row.audit.entity_id.as_deref()))
        .collect();
    assert_eq!(seen, [(404, Some(&*theirs)), (400, None)]);
}

#[tokio::test]
async fn reads_leave_no_row() {
    let world = World::new().await;
    world.start("app", json!({})).await;
    let before = world.trail().await.len();
    world.call("app", "GET", "/agents").send().await.ok(200);
    world
        .call("app", "GET", "/delegations/active")
        .send()
        .await
        .ok(200);
    assert_eq!(world.trail().await.len(), before);
}

#[tokio::test]
async fn a_flood_of_refusals_is_bounded() {
    let world = World::new().await;
    for _ in 0..1_100 {
        world
            .call("app", "GET", "/agents/none")
            .send()
            .await
            .assert(404, "session_not_found");
    }
    assert_eq!(world.trail().await.last().unwrap().chain_seq, 1_024);
}

#[tokio::test]
async fn the_writer_of_refusals_writes_what_is_left_when_it_stops() {
    let world = World::new().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let jobs = world.coordinator.spawn_jobs(&stop);
    world
        .call("app", "GET", "/agents/none")
        .send()
        .await
        .assert(404, "session_not_found");
    stop.cancel();
    for job in jobs {
        job.await.unwrap();
    }
    let zone = world.store.read(&world.zone);
    let page = caracal_store::Page::first(10);
    let rows = zone
        .list_admin_audit(&Default::default(), &page)
        .await
        .unwrap();
    assert_eq!(rows.items.len(), 1);
}
