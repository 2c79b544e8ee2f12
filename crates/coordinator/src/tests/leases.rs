//! Services: taking over, heartbeats, fencing, loss.

use caracal_core::SubjectType;
use serde_json::{Value, json};

use super::world::{Answer, LIFECYCLE, Mint, World};

async fn service(world: &World) -> String {
    world.start("app", json!({ "lifecycle": "service" })).await
}

async fn attach(world: &World, id: &str) -> Answer {
    world
        .call("app", "POST", &format!("/agents/{id}/lease"))
        .send()
        .await
}

async fn beat(world: &World, id: &str, generation: u32) -> Answer {
    let body = json!({ "status": "healthy", "lease_generation": generation });
    world
        .call("app", "POST", &format!("/agents/{id}/heartbeat"))
        .json(&body)
        .send()
        .await
}

#[tokio::test]
async fn a_takeover_fences_the_holder_before() {
    let world = World::new().await;
    let id = service(&world).await;
    world.clock.advance_seconds(30);
    let taken = attach(&world, &id).await.ok(200);
    assert_eq!(
        taken,
        json!({
            "status": "active", "heartbeat_deadline_at": "2026-07-29T10:02:30.000Z",
            "lease_generation": 2
        })
    );
    beat(&world, &id, 1)
        .await
        .assert(409, "session_lease_fenced");
    beat(&world, &id, 2).await.ok(200);
}

#[tokio::test]
async fn a_heartbeat_moves_the_deadline_and_leaves_no_audit_row() {
    let world = World::new().await;
    let id = service(&world).await;
    let rows = world.trail().await.len();
    world.clock.advance_seconds(100);
    let body = json!({ "lease_generation": 1, "active_invocations": 3, "metadata": {} });
    let call = world.call("app", "POST", &format!("/agents/{id}/heartbeat"));
    let answer = call.json(&body).send().await.ok(200);
    assert_eq!(
        answer,
        json!({
            "agent": {
                "id": id, "zone_id": "z1", "application_id": "app", "status": "active",
                "last_active_at": "2026-07-29T10:01:40.000Z",
                "last_heartbeat_at": "2026-07-29T10:01:40.000Z",
                "heartbeat_deadline_at": "2026-07-29T10:03:40.000Z", "lease_generation": 1,
            },
            "service": null, "active_invocations": 3,
        })
    );
    world.clock.advance_seconds(100);
    beat(&world, &id, 1).await.ok(200);
    assert_eq!(world.trail().await.len(), rows);
}

#[tokio::test]
async fn a_lapsed_lease_suspends_the_service_for_good_until_somebody_resumes_it() {
    let world = World::new().await;
    let id = service(&world).await;
    let child = world.start("app", json!({ "parent_id": id })).await;
    world.clock.advance_seconds(120);
    beat(&world, &id, 1)
        .await
        .assert(409, "session_lease_expired");
    assert_eq!(
        world.status(&id).await,
        "suspended",
        "the refusal has been committed"
    );
    assert_eq!(world.status(&child).await, "suspended");
    let trail = world.trail().await;
    let last = trail.last().unwrap();
    assert_eq!(
        (last.audit.status_code, last.audit.entity_id.as_deref()),
        (409, Some(&*id))
    );
    let lifecycle = world.stream("caracal.agents.lifecycle").await;
    let lost = lifecycle
        .iter()
        .filter(|event| event["reason"] == "service_heartbeat_lost");
    assert_eq!(lost.count(), 2);

    attach(&world, &id).await.assert(409, "session_suspended");
    world
        .call("app", "PATCH", &format!("/agents/{id}/resume"))
        .send()
        .await
        .ok(200);
    let taken = attach(&world, &id).await.ok(200);
    assert_eq!(taken["lease_generation"], 2);
}

#[tokio::test]
async fn a_takeover_of_a_lapsed_service_suspends_it() {
    let world = World::new().await;
    let id = service(&world).await;
    world.clock.advance_seconds(120);
    attach(&world, &id)
        .await
        .assert(409, "session_lease_expired");
    assert_eq!(world.status(&id).await, "suspended");
}

#[tokio::test]
async fn a_suspended_service_tells_its_holder_and_keeps_its_deadline() {
    let world = World::new().await;
    let id = service(&world).await;
    world
        .call("app", "PATCH", &format!("/agents/{id}/suspend"))
        .send()
        .await
        .ok(200);
    world.clock.advance_seconds(60);
    let answer = beat(&world, &id, 1).await.ok(200);
    assert_eq!(answer["agent"]["status"], "suspended");
    assert_eq!(
        answer["agent"]["heartbeat_deadline_at"],
        "2026-07-29T10:02:00.000Z"
    );
    beat(&world, &id, 7)
        .await
        .assert(409, "session_lease_fenced");
}

#[tokio::test]
async fn the_checks_of_a_takeover_and_a_heartbeat_come_in_their_order() {
    let world = World::new().await;
    let task = world.start("app", json!({})).await;
    attach(&world, &task)
        .await
        .assert(409, "session_not_service");
    beat(&world, &task, 1)
        .await
        .assert(409, "session_not_service");
    world
        .call("app", "DELETE", &format!("/agents/{task}"))
        .send()
        .await
        .ok(204);
    attach(&world, &task)
        .await
        .assert(409, "session_not_service");
    beat(&world, &task, 1).await.assert(409, "session_not_live");

    let ended = service(&world).await;
    world
        .operate("DELETE", &format!("/agents/{ended}"))
        .send()
        .await
        .ok(204);
    attach(&world, &ended).await.assert(409, "session_not_live");
    attach(&world, "none")
        .await
        .assert(404, "session_not_found");
    beat(&world, "none", 1)
        .await
        .assert(404, "session_not_found");
}

#[tokio::test]
async fn another_application_neither_takes_over_nor_beats() {
    let world = World::new().await;
    let id = service(&world).await;
    let path = format!("/agents/{id}/lease");
    let answer = world.call("other", "POST", &path).send().await;
    answer.assert(403, "application_ownership_required");
    let path = format!("/agents/{id}/heartbeat");
    let body = json!({ "lease_generation": 1 });
    let answer = world.call("other", "POST", &path).json(&body).send().await;
    answer.assert(403, "application_ownership_required");
}

#[tokio::test]
async fn the_holder_of_a_lease_is_the_application_itself() {
    let world = World::new().await;
    let id = service(&world).await;
    let for_a_user = world.mint(&Mint {
        record: "rec-user",
        subject: Some("user-1"),
        ..Mint::default()
    });
    let call = world.plain("POST", &format!("/zones/z1/agents/{id}/lease"));
    call.bearer(&for_a_user)
        .send()
        .await
        .assert(401, "identity_revoked");
    let admin = world.token_with("other", &format!("{LIFECYCLE} coordinator.admin"));
    let call = world.plain("POST", &format!("/zones/z1/agents/{id}/lease"));
    call.bearer(&admin)
        .send()
        .await
        .assert(401, "identity_revoked");
}

#[tokio::test]
async fn a_service_of_a_user_ends_when_the_users_record_ends() {
    let world = World::new().await;
    let anchored = json!({ "lifecycle": "service", "subject_session_id": "rec-user" });
    let (a, b) = (
        world.start("app", anchored.clone()).await,
        world.start("app", anchored).await,
    );
    world.revoke_record("rec-user").await;
    beat(&world, &a, 1)
        .await
        .assert(409, "session_subject_inactive");
    attach(&world, &b)
        .await
        .assert(409, "session_subject_inactive");
    for id in [a, b] {
        let session = world.session(&id).await;
        assert_eq!(session.status.as_str(), "terminated");
        let reason = session.termination_reason.as_deref();
        assert_eq!(reason, Some("subject_authority_inactive"));
    }
}

#[tokio::test]
async fn a_renewal_under_a_newer_token_keeps_the_subject_record() {
    let world = World::new().await;
    let id = service(&world).await;
    world
        .add_record("rec-new", "app", SubjectType::Application, 900)
        .await;
    let token = world.mint(&Mint {
        record: "rec-new",
        ..Mint::default()
    });
    let call = world.plain("POST", &format!("/zones/z1/agents/{id}/lease"));
    call.bearer(&token).send().await.ok(200);
    let session = world.session(&id).await;
    assert_eq!(session.subject_authority_record_id.as_str(), "rec-app");
}

#[tokio::test]
async fn a_heartbeat_for_an_unknown_service_renews_nothing() {
    let world = World::new().await;
    let id = service(&world).await;
    world.clock.advance_seconds(10);
    let body = json!({ "lease_generation": 1, "service_id": "svc" });
    let call = world
        .call("app", "POST", &format!("/agents/{id}/heartbeat"))
        .json(&body);
    call.send().await.assert(404, "agent_service_not_found");
    let kept = json!(world.session(&id).await.last_active_at);
    assert_eq!(kept, "2026-07-29T10:00:00.000Z");
}

#[tokio::test]
async fn ending_a_service_takes_its_current_generation() {
    let world = World::new().await;
    let id = service(&world).await;
    attach(&world, &id).await.ok(200);
    let path = format!("/agents/{id}");
    let end = |body: Option<Value>| {
        let call = world.call("app", "DELETE", &path);
        match body {
            Some(body) => call.json(&body),
            None => call,
        }
    };
    end(None)
        .send()
        .await
        .assert(400, "lease_generation_required");
    end(Some(json!({})))
        .send()
        .await
        .assert(400, "lease_generation_required");
    let stale = json!({ "lease_generation": 1 });
    end(Some(stale))
        .send()
        .await
        .assert(409, "session_lease_fenced");
    end(Some(json!({ "lease_generation": 2 })))
        .send()
        .await
        .ok(204);
}
