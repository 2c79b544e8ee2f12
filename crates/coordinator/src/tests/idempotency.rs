//! The same request again.

use caracal_core::{Secret, SubjectType};
use caracal_crypto::HmacKey;
use serde_json::{Value, json};

use super::world::{Answer, Mint, World};

async fn start_with(world: &World, key: &str, body: Value) -> Answer {
    let call = world
        .call("app", "POST", "/agents")
        .header("idempotency-key", key);
    call.json(&body).send().await
}

fn body() -> Value {
    json!({ "application_id": "app", "labels": ["a"], "metadata": { "k": 1 } })
}

#[tokio::test]
async fn the_same_start_again_is_a_replay() {
    let world = World::new().await;
    let first = start_with(&world, "k-1", body()).await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    world.clock.advance_seconds(30);
    let second = start_with(&world, "k-1", body()).await;
    assert_eq!(second.status, first.status);
    assert_eq!(second.headers["idempotency-replayed"], "true");
    assert_eq!(second.text, first.text);
    let listed = world.operate("GET", "/agents").send().await.ok(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_same_key_for_another_request_is_a_conflict() {
    let world = World::new().await;
    start_with(&world, "k-1", body()).await.ok(201);
    let other = json!({ "application_id": "app", "labels": ["b"], "metadata": { "k": 1 } });
    start_with(&world, "k-1", other)
        .await
        .assert(409, "idempotency_key_conflict");
}

#[tokio::test]
async fn a_fresh_lifecycle_token_does_not_make_another_request() {
    let world = World::new().await;
    let first = start_with(&world, "k-1", body()).await.ok(201);
    world
        .add_record("rec-fresh", "app", SubjectType::Application, 900)
        .await;
    let token = world.mint(&Mint {
        record: "rec-fresh",
        ..Mint::default()
    });
    let call = world.plain("POST", "/zones/z1/agents").bearer(&token);
    let again = call
        .header("idempotency-key", "k-1")
        .json(&body())
        .send()
        .await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.body["agent_session_id"], first["agent_session_id"]);
}

#[tokio::test]
async fn a_key_belongs_to_its_application() {
    let world = World::new().await;
    let mine = start_with(&world, "k-1", body()).await.ok(201);
    let call = world
        .call("other", "POST", "/agents")
        .header("idempotency-key", "k-1");
    let theirs = call
        .json(&json!({ "application_id": "other" }))
        .send()
        .await
        .ok(201);
    assert_ne!(mine["agent_session_id"], theirs["agent_session_id"]);
}

#[tokio::test]
async fn a_replay_does_not_hand_out_what_is_over() {
    let world = World::new().await;
    let first = start_with(&world, "k-1", body()).await.ok(201);
    let id = first["agent_session_id"].as_str().unwrap();
    world
        .call("app", "PATCH", &format!("/agents/{id}/suspend"))
        .send()
        .await
        .ok(200);
    start_with(&world, "k-1", body()).await.ok(201);
    world.clock.advance_seconds(3_600);
    start_with(&world, "k-1", body())
        .await
        .assert(409, "idempotency_result_inactive");
}

#[tokio::test]
async fn a_delegation_is_replayed_and_refused_once_it_is_revoked() {
    let world = World::new().await;
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("other", json!({})).await,
    );
    let body = World::delegation((&a, "app"), (&b, "other"), json!({}));
    let send = async || {
        let call = world
            .call("app", "POST", "/delegations")
            .header("idempotency-key", "d-1");
        call.json(&body).send().await
    };
    let first = send().await.ok(201);
    let again = send().await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.body, first);
    let edge = first["delegation_edge_id"].as_str().unwrap();
    world
        .call("app", "PATCH", &format!("/delegations/{edge}/revoke"))
        .send()
        .await
        .ok(200);
    send().await.assert(409, "idempotency_result_inactive");
}

#[tokio::test]
async fn a_failed_request_leaves_no_receipt() {
    let world = World::new().await;
    let child = json!({ "application_id": "app", "parent_id": "none" });
    start_with(&world, "k-1", child)
        .await
        .assert(404, "parent_not_found");
    start_with(&world, "k-1", body()).await.ok(201);
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_refused() {
    let world = World::new().await;
    for key in ["", "x ", &"k".repeat(256)] {
        // A header value loses the white space around it on the way, so an empty one stands for it.
        let key = key.trim();
        let answer = start_with(&world, key, body()).await;
        if key == "x" {
            answer.ok(201);
        } else {
            answer.assert(400, "idempotency_key_invalid");
        }
    }
    let call = world
        .call("app", "POST", "/agents")
        .header("idempotency-key", "a");
    let answer = call
        .header("idempotency-key", "b")
        .json(&body())
        .send()
        .await;
    answer.assert(400, "idempotency_key_multiple");
    assert!(!answer.str("message").is_empty());
}

#[tokio::test]
async fn receipts_are_bounded_and_give_way_when_they_expire() {
    let world = World::with(|options| options.max_receipts_per_scope = 1).await;
    let call = world
        .call("app", "POST", "/agents")
        .header("idempotency-key", "k-1");
    call.header("idempotency-key-kind", "generated")
        .json(&body())
        .send()
        .await
        .ok(201);
    let full = start_with(&world, "k-2", body()).await;
    full.assert(429, "idempotency_receipt_limit_exceeded");
    assert!(full.headers.contains_key("retry-after"));
    world.clock.advance_seconds(86_400 - 1);
    world
        .add_record("rec-late", "app", SubjectType::Application, 900)
        .await;
    let late = |key: &str| {
        let token = world.mint(&Mint {
            record: "rec-late",
            ..Mint::default()
        });
        let call = world.plain("POST", "/zones/z1/agents").bearer(&token);
        call.header("idempotency-key", key).json(&body())
    };
    late("k-2")
        .send()
        .await
        .assert(429, "idempotency_receipt_limit_exceeded");
    world.clock.advance_seconds(1);
    late("k-2").send().await.ok(201);
}

#[tokio::test]
async fn the_generated_kind_counts_for_delegations_too() {
    let world = World::with(|options| options.max_receipts_per_scope = 1).await;
    let (a, b) = (
        world.start("app", json!({ "ttl_seconds": 86_400 })).await,
        world.start("app", json!({ "ttl_seconds": 86_400 })).await,
    );
    let body = World::delegation((&a, "app"), (&b, "app"), json!({}));
    let call = world
        .call("app", "POST", "/delegations")
        .header("idempotency-key", "d-1");
    call.header("idempotency-key-kind", "generated")
        .json(&body)
        .send()
        .await
        .ok(201);
    let zone = world.store.read(&world.zone);
    let later = caracal_core::Clock::now(&*world.clock).plus_seconds(86_400);
    let held = zone
        .held_receipts("delegation.create.v2", "app", 1, later)
        .await
        .unwrap();
    assert_eq!(held, 0, "a generated key is forgotten after a day");
}

#[tokio::test]
async fn a_key_is_found_under_the_previous_secret() {
    let old = HmacKey::from_secret_bytes(&(0..32).collect::<Vec<u8>>());
    let new = Secret::new("ab".repeat(32));
    let world = World::with(move |options| {
        options.idempotency_key = HmacKey::from_hex(&new).unwrap();
        options.previous_idempotency_key = Some(old);
    })
    .await;
    // A receipt of the time before the rotation.
    let first = start_with(&world, "k-new", body()).await.ok(201);
    let zone = world.store.read(&world.zone);
    let now = caracal_core::Clock::now(&*world.clock);
    let digest = |key: &HmacKey| {
        hex::encode(key.sign_parts(&[b"caracal:coordinator:idempotency:v1\0", b"k-old"]))
    };
    let old = HmacKey::from_secret_bytes(&(0..32).collect::<Vec<u8>>());
    let current = {
        let key = HmacKey::from_hex(&Secret::new("ab".repeat(32))).unwrap();
        hex::encode(key.sign_parts(&[b"caracal:coordinator:idempotency:v1\0", b"k-new"]))
    };
    let stored = zone
        .find_receipt("session.start.v2", "app", &[current], now)
        .await
        .unwrap();
    let mut receipt = stored.unwrap();
    receipt.key_digest = digest(&old);
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.insert_receipt(&receipt).await.unwrap();
    unit.commit().await.unwrap();
    let again = start_with(&world, "k-old", body()).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.body, first);
}

#[tokio::test]
async fn an_answer_too_large_for_a_replay_is_refused() {
    let world = World::new().await;
    let token = world.token_with("app", "agent:lifecycle coordinator.delegate_broad");
    let (a, b) = (
        world.start("app", json!({})).await,
        world.start("app", json!({})).await,
    );
    let scopes: Vec<String> = (0..3_000).map(|n| format!("scope:{n:020}")).collect();
    let extra = json!({ "constraints": {}, "scopes": scopes });
    let body = World::delegation((&a, "app"), (&b, "app"), extra);
    let call = world.plain("POST", "/zones/z1/delegations").bearer(&token);
    let answer = call.header("idempotency-key", "d").json(&body).send().await;
    answer.assert(400, "invalid_body");
    assert_eq!(
        answer.body["details"]["issues"][0]["path"],
        json!(["scopes"])
    );
}

#[tokio::test]
async fn of_equal_requests_at_once_one_starts_and_the_others_replay() {
    let world = World::new().await;
    let (a, b, c) = tokio::join!(
        start_with(&world, "k", body()),
        start_with(&world, "k", body()),
        start_with(&world, "k", body()),
    );
    let answers = [a, b, c];
    let replays = answers
        .iter()
        .filter(|answer| answer.headers.contains_key("idempotency-replayed"));
    assert_eq!(replays.count(), 2);
    assert!(answers.iter().all(|answer| answer.text == answers[0].text));
}
