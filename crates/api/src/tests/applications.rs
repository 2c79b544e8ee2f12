//! Applications and their secrets.

use caracal_core::Clock;
use caracal_core::Secret;
use caracal_core::id::ApplicationId;
use caracal_crypto::SecretVerifier;
use caracal_evidence::Position;
use caracal_store::entity::Author;
use serde_json::{Value, json};

use super::world::{Answer, World};

async fn created(world: &World, zone: &str, name: &str) -> Answer {
    let body = json!({ "name": name, "registration_method": "managed" });
    world
        .bootstrap()
        .post(&format!("/v1/zones/{zone}/applications"), body)
        .await
}

/// Whether the secret is the application's.
async fn verifies(world: &World, zone: &str, id: &str, secret: &str) -> bool {
    let id = ApplicationId::parse(id).unwrap();
    let row = world
        .store
        .read(&World::zone_id(zone))
        .get_application(&id)
        .await
        .unwrap()
        .unwrap();
    let api = &world.api;
    let verifier = SecretVerifier::new(api.peppers.clone(), 1, api.clock.clone(), &*api.random);
    let hash = row.secret_hash.unwrap();
    verifier
        .verify(&hash, &Secret::new(secret.to_owned()))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_rotation_replaces_the_secret_at_once() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let made = created(&world, &zone, "bot").await;
    let (id, first) = (made.text("id"), made.text("client_secret"));
    assert!(first.starts_with("cs_") && first.len() == 46);
    let item = format!("/v1/zones/{zone}/applications/{id}");
    let rotated = world
        .bootstrap()
        .post_nothing(&format!("{item}/rotate-secret"))
        .await;
    let second = rotated.text("client_secret");
    assert!(verifies(&world, &zone, id, second).await);
    assert!(!verifies(&world, &zone, id, first).await);
    let shown = world
        .bootstrap()
        .get(&format!("{item}/client-secret"))
        .await;
    assert_eq!(shown.text("client_secret"), second);
}

#[tokio::test]
async fn a_chosen_secret_is_set_and_never_echoed() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let made = created(&world, &zone, "bot").await;
    let (id, first) = (made.text("id"), made.text("client_secret"));
    let item = format!("/v1/zones/{zone}/applications/{id}");
    let chosen = "chosen-by-the-operator-0123456789";
    let patched = world
        .bootstrap()
        .patch(&item, json!({ "client_secret": chosen }))
        .await;
    assert_eq!(patched.status, 200);
    assert!(!patched.raw.contains(chosen));
    assert!(verifies(&world, &zone, id, chosen).await);
    assert!(!verifies(&world, &zone, id, first).await);
    let audit = world
        .bootstrap()
        .get(&format!("/v1/zones/{zone}/admin-audit"))
        .await;
    assert_eq!(
        audit.row_of(&format!("PATCH {item}"))["payload_json"]["change_kind"],
        "secret_rotation"
    );
    assert_eq!(
        audit.row_of(&format!("PATCH {item}"))["payload_json"]["secret_rotated"],
        true
    );
    assert!(!audit.raw.contains(chosen) && !audit.raw.contains(first));
    let user = world.bootstrap();
    for short in ["short", &"x".repeat(31)] {
        user.patch(&item, json!({ "client_secret": short }))
            .await
            .refused(400, "invalid_application");
    }
}

#[tokio::test]
async fn a_reveal_is_logged_before_it_answers_and_needs_the_right() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let made = created(&world, &zone, "bot").await;
    let path = format!(
        "/v1/zones/{zone}/applications/{}/client-secret",
        made.text("id")
    );
    for user in [
        world.global("read").await,
        world.global("write").await,
        world.global("approve").await,
        world.in_zone("write", &zone).await,
    ] {
        user.get(&path)
            .await
            .refused(403, "reveal_capability_required");
    }
    assert!(events(&world).await.is_empty());
    let request = json!({ "name": "r", "scope": "zone", "zone_id": zone, "capability": "read", "reveal": true });
    let revealer = world
        .minted(request)
        .await
        .with_header("x-request-id", "reveal-1");
    let shown = revealer.get(&path).await;
    assert_eq!(
        shown.body,
        json!({ "client_secret": made.text("client_secret") })
    );
    assert_eq!(shown.headers["cache-control"], "no-store");
    let events = events(&world).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["event_type"], "credential_revealed");
    assert_eq!(events[0]["request_id"], "reveal-1");
    assert_eq!(
        events[0]["metadata_json"]["credential"],
        "application_client_secret"
    );
    assert_eq!(events[0]["metadata_json"]["application_name"], "bot");
    assert!(
        events[0]["metadata_json"]["actor"]
            .as_str()
            .unwrap()
            .starts_with("admin:")
    );
    let audit = world
        .bootstrap()
        .get(&format!("/v1/zones/{zone}/admin-audit"))
        .await;
    audit.row_of(&format!("GET {path}"));
    assert!(!audit.raw.contains(made.text("client_secret")));
}

/// The events in the local log.
async fn events(world: &World) -> Vec<Value> {
    if world.journal.gauges(world.clock.now()).appended == 0 {
        return Vec::new();
    }
    let batch = world
        .journal
        .reader(Position::new(0))
        .next_batch(100, 1 << 20)
        .await;
    let parse = |data: &[u8]| serde_json::from_slice(data).unwrap();
    batch
        .unwrap()
        .unwrap()
        .frames
        .iter()
        .map(|frame| parse(&frame.data))
        .collect()
}

#[tokio::test]
async fn a_reveal_that_cannot_be_logged_shows_nothing() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let made = created(&world, &zone, "bot").await;
    let path = format!(
        "/v1/zones/{zone}/applications/{}/client-secret",
        made.text("id")
    );
    world.journal.close().await;
    let answer = world.bootstrap().get(&path).await;
    answer.refused(503, "audit_unavailable");
    assert!(!answer.raw.contains(made.text("client_secret")));
}

#[tokio::test]
async fn names_are_unique_in_any_case_among_live_ones() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let first = created(&world, &zone, "Bot").await;
    created(&world, &zone, "bOT")
        .await
        .refused(409, "application_name_taken");
    let list = format!("/v1/zones/{zone}/applications");
    let user = world.bootstrap();
    user.patch(&format!("{list}/missing"), json!({ "name": "bot" }))
        .await
        .refused(409, "application_name_taken");
    let item = format!("{list}/{}", first.text("id"));
    assert_eq!(
        user.patch(&item, json!({ "name": "BOT" })).await.status,
        200
    );
    assert_eq!(user.delete(&item).await.status, 204);
    assert_eq!(created(&world, &zone, "bot").await.status, 201);
}

#[tokio::test]
async fn an_archived_application_is_listed_but_not_found() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let list = format!("/v1/zones/{zone}/applications");
    let made = created(&world, &zone, "bot").await;
    let item = format!("{list}/{}", made.text("id"));
    let user = world.bootstrap();
    assert_eq!(user.delete(&item).await.status, 204);
    assert!(user.get(&list).await.items().is_empty());
    assert_eq!(
        user.get(&format!("{list}?status=archived"))
            .await
            .items()
            .len(),
        1
    );
    user.get(&format!("{list}?status=all"))
        .await
        .refused(400, "invalid_query");
    for answer in [
        user.get(&item).await,
        user.patch(&item, json!({ "name": "x" })).await,
        user.patch(&item, json!({ "client_secret": "x".repeat(32) }))
            .await,
        user.post_nothing(&format!("{item}/rotate-secret")).await,
        user.get(&format!("{item}/client-secret")).await,
        user.delete(&item).await,
    ] {
        answer.refused(404, "application_not_found");
    }
}

#[tokio::test]
async fn another_zones_application_is_not_found() {
    let world = World::new().await;
    let (one, two) = (world.zone("one").await, world.zone("two").await);
    let made = created(&world, &one, "bot").await;
    let item = format!("/v1/zones/{two}/applications/{}", made.text("id"));
    let user = world.bootstrap();
    user.get(&item).await.refused(404, "application_not_found");
    user.delete(&item)
        .await
        .refused(404, "application_not_found");
    user.get(&format!("{item}/client-secret"))
        .await
        .refused(404, "application_not_found");
}

#[tokio::test]
async fn traits_are_for_global_eyes_and_control_traits_for_global_hands() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let list = format!("/v1/zones/{zone}/applications");
    let user = world.in_zone("write", &zone).await;
    let body =
        |traits: Value| json!({ "name": "b", "registration_method": "managed", "traits": traits });
    user.post(&list, body(json!(["control:invoke"])))
        .await
        .refused(403, "trait_forbidden");
    user.post(&list, body(json!(["a", "a"])))
        .await
        .refused(403, "trait_duplicate");
    user.post(&list, body(json!(["1"])))
        .await
        .refused(403, "trait_invalid");
    let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
    user.post(&list, body(json!(many)))
        .await
        .refused(403, "trait_count_exceeded");
    let made = user.post(&list, body(json!(["team:a"]))).await;
    assert_eq!(made.status, 201);
    let item = format!("{list}/{}", made.text("id"));
    assert!(user.get(&item).await.body.get("traits").is_none());
    assert_eq!(
        world.bootstrap().get(&item).await.body["traits"],
        json!(["team:a"])
    );
}

#[tokio::test]
async fn the_stored_copy_is_sealed() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let made = created(&world, &zone, "bot").await;
    let secret = made.text("client_secret");
    for file in ["store.db", "store.db-wal"] {
        let bytes = std::fs::read(world.log_dir().with_file_name(file)).unwrap_or_default();
        assert!(
            !bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes()),
            "{file}"
        );
    }
}

/// Replaces what is stored of an application's secret.
async fn store_secret(
    world: &World,
    zone: &str,
    id: &str,
    hash: Option<&str>,
    sealed: Option<&[u8]>,
) {
    let mut unit = world.store.begin(&World::zone_id(zone)).await.unwrap();
    let id = ApplicationId::parse(id).unwrap();
    unit.set_application_secret(&id, hash, sealed, &Author::default())
        .await
        .unwrap();
    unit.commit().await.unwrap();
}

#[tokio::test]
async fn what_is_not_stored_is_neither_replaced_nor_shown() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let made = created(&world, &zone, "bot").await;
    let id = made.text("id");
    let item = format!("/v1/zones/{zone}/applications/{id}");
    let user = world.bootstrap();
    store_secret(&world, &zone, id, None, None).await;
    user.get(&format!("{item}/client-secret"))
        .await
        .refused(404, "client_secret_not_stored");
    user.patch(&item, json!({ "client_secret": "x".repeat(32) }))
        .await
        .refused(400, "client_secret_not_configured");
}

#[tokio::test]
async fn a_copy_that_does_not_open_is_a_failure_and_shows_nothing() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let made = created(&world, &zone, "bot").await;
    let id = made.text("id");
    store_secret(&world, &zone, id, Some("hash"), Some(&[7; 200])).await;
    let path = format!("/v1/zones/{zone}/applications/{id}/client-secret");
    let answer = world.bootstrap().get(&path).await;
    answer.refused(502, "secret_backend_unavailable");
    assert!(events(&world).await.is_empty());
}
