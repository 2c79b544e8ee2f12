//! Providers and their sealed configuration.

use caracal_core::id::ProviderId;
use caracal_crypto::SealLocation;
use serde_json::{Value, json};

use super::world::{Answer, World};

async fn api_key(world: &World, list: &str) -> Answer {
    let body = json!({
        "identifier": "provider://key", "kind": "api_key",
        "config_json": { "header_name": "X-Key", "api_key": "first" },
    });
    world.bootstrap().post(list, body).await
}

/// The sealed document of a provider, opened.
async fn sealed(world: &World, zone: &str, id: &str) -> Option<Value> {
    let (zone, id) = (World::zone_id(zone), ProviderId::parse(id).unwrap());
    let row = world
        .store
        .read(&zone)
        .get_provider(&id)
        .await
        .unwrap()
        .unwrap();
    let location = SealLocation::provider_config(&zone, &id);
    let sealed = row.sealed_config?;
    let opened = world.api.keys.open(&location, &sealed).unwrap();
    Some(serde_json::from_slice(opened.expose()).unwrap())
}

#[tokio::test]
async fn identifiers_are_made_from_names() {
    let world = World::new().await;
    let user = world.bootstrap();
    let list = format!("/v1/zones/{}/providers", world.zone("orchard").await);
    for identifier in ["provider://pear-open", "provider://pear-open-2"] {
        let made = user
            .post(
                &list,
                json!({ "name": "provider://Pear Open", "kind": "none" }),
            )
            .await;
        assert_eq!(made.text("identifier"), identifier);
    }
    let named = user
        .post(
            &list,
            json!({ "identifier": "provider://x", "kind": "none" }),
        )
        .await;
    assert_eq!(named.text("name"), "provider://x");
    user.post(
        &list,
        json!({ "identifier": "provider://x", "kind": "none" }),
    )
    .await
    .refused(409, "provider_identifier_conflict");
}

#[tokio::test]
async fn each_malformation_has_its_code_in_the_documented_order() {
    let world = World::new().await;
    let user = world.bootstrap();
    let writer = world.global("write").await;
    let list = format!("/v1/zones/{}/providers", world.zone("orchard").await);
    for body in [
        json!({}),
        json!({ "kind": "none" }),
        json!({ "name": " ", "kind": "none" }),
        json!({ "name": "a" }),
        json!({ "name": "a", "kind": "ldap" }),
        json!({ "name": "a", "kind": "oauth2_client_credentials", "config_json": {} }),
        json!({ "name": "a", "kind": "oauth2_authorization_code" }),
        json!({ "name": "a", "kind": "none", "config_json": [] }),
        json!({ "name": 7, "kind": "none" }),
        json!({ "name": "a", "kind": "none", "check": "yes" }),
    ] {
        user.post(&list, body)
            .await
            .refused(400, "invalid_provider");
    }
    let bad_all = json!({
        "identifier": "provider://Caracal", "kind": "none", "config_json": { "x": 1 }, "check": true,
    });
    user.post(&list, bad_all)
        .await
        .refused(400, "invalid_provider_identifier");
    let bad_config = json!({
        "identifier": "provider://caracal-sys-x", "kind": "none", "config_json": { "x": 1 }, "check": true,
    });
    let refused = writer.post(&list, bad_config).await;
    refused.refused(400, "invalid_provider_config");
    assert!(refused.text("error_description").contains("'none'"));
    assert!(refused.text("error_description").contains('x'));
    let check = json!({ "identifier": "provider://caracal-sys-x", "kind": "none", "check": true });
    writer
        .post(&list, check)
        .await
        .refused(400, "provider_check_unsupported");
    let reserved = json!({ "identifier": "provider://caracal-sys-x", "kind": "none" });
    writer
        .post(&list, reserved)
        .await
        .refused(409, "reserved_namespace");
    let reserved = json!({ "name": "Caracal Sys X", "kind": "none" });
    writer
        .post(&list, reserved)
        .await
        .refused(409, "reserved_namespace");
}

#[tokio::test]
async fn a_public_edit_keeps_the_sealed_secret() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let list = format!("/v1/zones/{zone}/providers");
    let made = api_key(&world, &list).await;
    let id = made.text("id");
    assert!(!made.raw.contains("first"));
    assert_eq!(made.body["secret_config_keys"], json!(["api_key"]));
    let item = format!("{list}/{id}");
    let user = world.bootstrap();
    let edit = json!({ "config_json": { "header_name": "X-Other" } });
    let patched = user.patch(&item, edit).await;
    assert_eq!(
        patched.body["config_json"],
        json!({ "header_name": "X-Other", "auth_location": "header" })
    );
    assert_eq!(patched.body["secret_config_keys"], json!(["api_key"]));
    assert_eq!(
        sealed(&world, &zone, id).await,
        Some(json!({ "api_key": "first" }))
    );
    let edit = json!({ "config_json": { "header_name": "X-Other", "api_key": "second" } });
    assert_eq!(user.patch(&item, edit).await.status, 200);
    assert_eq!(
        sealed(&world, &zone, id).await,
        Some(json!({ "api_key": "second" }))
    );
}

#[tokio::test]
async fn a_named_kind_demands_its_secret_anew() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let list = format!("/v1/zones/{zone}/providers");
    let made = api_key(&world, &list).await;
    let (id, user) = (made.text("id"), world.bootstrap());
    let item = format!("{list}/{id}");
    user.patch(&item, json!({ "kind": "api_key" }))
        .await
        .refused(400, "provider_config_required");
    let same = json!({ "kind": "api_key", "config_json": { "header_name": "X" } });
    user.patch(&item, same)
        .await
        .refused(400, "invalid_provider_config");
    let basic =
        json!({ "kind": "http_basic", "config_json": { "username": "u", "password": "p" } });
    let patched = user.patch(&item, basic).await;
    assert_eq!(patched.body["secret_config_keys"], json!(["password"]));
    assert_eq!(
        sealed(&world, &zone, id).await,
        Some(json!({ "password": "p" }))
    );
    let none = json!({ "kind": "none", "config_json": {} });
    assert_eq!(
        user.patch(&item, none).await.body["secret_config_keys"],
        json!([])
    );
    assert_eq!(sealed(&world, &zone, id).await, None);
}

#[tokio::test]
async fn a_patch_is_judged_in_the_documented_order() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    let list = format!("/v1/zones/{zone}/providers");
    let made = api_key(&world, &list).await;
    user.post(
        &list,
        json!({ "identifier": "provider://taken", "kind": "none" }),
    )
    .await;
    let item = format!("{list}/{}", made.text("id"));
    user.patch(&item, json!({})).await.refused(400, "no_fields");
    user.patch(&item, json!({ "name": " " }))
        .await
        .refused(400, "no_fields");
    user.patch(&item, json!({ "identifier": "x" }))
        .await
        .refused(400, "invalid_provider_identifier");
    user.patch(
        &item,
        json!({ "kind": "oauth2_client_credentials", "config_json": {} }),
    )
    .await
    .refused(400, "invalid_provider");
    let missing = format!("{list}/missing");
    user.patch(&missing, json!({ "config_json": { "zz": 1 } }))
        .await
        .refused(404, "provider_not_found");
    user.patch(&item, json!({ "identifier": "provider://taken" }))
        .await
        .refused(409, "provider_identifier_conflict");
}

#[tokio::test]
async fn archiving_forgets_the_secret_and_frees_the_identifier() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let list = format!("/v1/zones/{zone}/providers");
    let made = api_key(&world, &list).await;
    let user = world.bootstrap();
    let item = format!("{list}/{}", made.text("id"));
    assert_eq!(user.delete(&item).await.status, 204);
    assert_eq!(sealed(&world, &zone, made.text("id")).await, None);
    user.get(&item).await.refused(404, "provider_not_found");
    user.delete(&item).await.refused(404, "provider_not_found");
    assert_eq!(api_key(&world, &list).await.status, 201);
    assert_eq!(
        user.get(&format!("{list}?status=archived"))
            .await
            .items()
            .len(),
        1
    );
}

#[tokio::test]
async fn checks_and_discovery_are_not_offered() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let list = format!("/v1/zones/{zone}/providers");
    let made = api_key(&world, &list).await;
    for path in [
        format!("{list}/{}/test", made.text("id")),
        format!("{list}/discovery/x"),
    ] {
        assert_eq!(world.bootstrap().post_nothing(&path).await.status, 404);
    }
    assert_eq!(
        world
            .bootstrap()
            .post_nothing(&format!("{list}/discovery"))
            .await
            .status,
        404
    );
}
