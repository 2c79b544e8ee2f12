//! What the published client libraries do, call by call.

use serde_json::{Value, json};

use super::world::{NOTES, World};

#[tokio::test]
async fn an_application_transport_opens_and_closes() {
    let world = World::new().await;
    let start = json!({ "application_id": "app", "ttl_seconds": 1020, "labels": ["app"] });
    let mut sessions = Vec::new();
    for key in [
        "0d5e1a52-2f6f-4a0d-9f3b-0d3f0d6b9c01",
        "0d5e1a52-2f6f-4a0d-9f3b-0d3f0d6b9c02",
    ] {
        let call = world
            .call("app", "POST", "/agents")
            .header("idempotency-key", key);
        let started = call.json(&start).send().await.ok(201);
        assert_eq!(started["lease_generation"], 0);
        sessions.push(started["agent_session_id"].as_str().unwrap().to_owned());
        world.clock.advance_seconds(1);
    }
    let body = json!({
        "issuer_application_id": "app", "source_session_id": sessions[0],
        "target_session_id": sessions[1], "receiver_application_id": "app",
        "scopes": ["notes:read"], "constraints": { "resources": [NOTES] }, "ttl_seconds": 1020,
    });
    let edge = world
        .call("app", "POST", "/delegations")
        .json(&body)
        .send()
        .await
        .ok(201);
    assert!(edge["delegation_edge_id"].is_string());
    assert!(edge["scopes"].is_array());
    assert!(edge["expires_at"].is_string());
    for session in &sessions {
        world
            .call("app", "DELETE", &format!("/agents/{session}"))
            .send()
            .await
            .ok(204);
        let again = world
            .call("app", "DELETE", &format!("/agents/{session}"))
            .send()
            .await;
        again.assert(404, "session_not_found");
    }
    let edge = edge["delegation_edge_id"].as_str().unwrap();
    assert_eq!(world.edge_status(edge).await, "revoked");
}

#[tokio::test]
async fn a_narrowed_child_is_started_bare_and_then_delegated_to() {
    let world = World::new().await;
    let source = world.start("app", json!({})).await;
    let parent = world.start("app", json!({})).await;
    let wide = json!({
        "scopes": ["notes:read", "notes:write"],
        "constraints": { "resources": [NOTES], "max_hops": 2 }
    });
    let bound = world
        .delegate((&source, "app"), (&parent, "app"), wide)
        .await;
    let child = json!({ "parent_id": parent, "parent_authority": "none" });
    let child = world.try_start("app", child).await.ok(201);
    assert_eq!(child["delegation_edge_id"], Value::Null);
    let child = child["agent_session_id"].as_str().unwrap().to_owned();
    let slice = json!({ "parent_edge_id": bound, "ttl_seconds": 60 });
    world
        .delegate((&parent, "app"), (&child, "app"), slice)
        .await;
    let refused = json!({ "parent_edge_id": bound, "ttl_seconds": 60, "constraints": {} });
    let refused = world
        .try_delegate((&parent, "app"), (&child, "app"), refused)
        .await;
    refused.assert(403, "broad_delegation_permission_required");
    world
        .call("app", "DELETE", &format!("/agents/{child}"))
        .send()
        .await
        .ok(204);
}

#[tokio::test]
async fn a_service_beats_and_is_ended_by_its_holder() {
    let world = World::new().await;
    let call = world
        .call("app", "POST", "/agents")
        .header("idempotency-key", &"a".repeat(32));
    let call = call.header("idempotency-key-kind", "generated");
    let body = json!({
        "application_id": "app", "lifecycle": "service", "parent_authority": "inherit",
        "metadata": { "task": "serve" }
    });
    let started = call.json(&body).send().await.ok(201);
    let generation = started["lease_generation"].as_u64().unwrap();
    assert!(generation >= 1);
    let id = started["agent_session_id"].as_str().unwrap();
    let beat = json!({ "status": "healthy", "lease_generation": generation });
    let path = format!("/agents/{id}/heartbeat");
    let beaten = world
        .call("app", "POST", &path)
        .json(&beat)
        .send()
        .await
        .ok(200);
    assert!(beaten["agent"]["lease_generation"].is_u64());
    let end = json!({ "lease_generation": generation });
    world
        .call("app", "DELETE", &format!("/agents/{id}"))
        .json(&end)
        .send()
        .await
        .ok(204);
    let gone = world.call("app", "POST", &path).json(&beat).send().await;
    gone.assert(409, "session_not_live");
}

#[tokio::test]
async fn an_offered_delegation_is_validated_in_either_way() {
    let world = World::new().await;
    let (theirs, mine) = (
        world.start("other", json!({})).await,
        world.start("app", json!({})).await,
    );
    let offer = world
        .delegate((&theirs, "other"), (&mine, "app"), json!({}))
        .await;
    let one = format!("/delegations/inbound/{mine}/{offer}");
    let one = world.call("app", "GET", &one).send().await.ok(200);
    assert_eq!(
        (one["id"].as_str(), one["status"].as_str()),
        (Some(&*offer), Some("active"))
    );
    let list = format!("/delegations/inbound/{mine}");
    let list = world.call("app", "GET", &list).send().await.ok(200);
    assert_eq!(list["items"][0]["id"], offer);
    assert_eq!(list["items"][0]["status"], "active");
    let revoke = format!("/delegations/{offer}/revoke");
    let revoked = world.call("other", "PATCH", &revoke).send().await.ok(200);
    assert!(revoked["revoked_edges"].is_u64());
}

#[tokio::test]
async fn identifiers_in_paths_are_decoded_once() {
    let world = World::new().await;
    let id = world.start("app", json!({})).await;
    let encoded: String = id.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = world
        .call("app", "GET", &format!("/agents/{encoded}"))
        .send()
        .await
        .ok(200);
    assert_eq!(answer["agent_session_id"], id);
}
