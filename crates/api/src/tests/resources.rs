//! Resources, their operations, and the control resource.

use serde_json::{Value, json};

use super::world::{User, World};

struct Place<'w> {
    user: User<'w>,
    list: String,
    provider: String,
}

impl Place<'_> {
    fn body(&self, more: &Value) -> Value {
        let mut body = json!({
            "name": "Ledger", "identifier": "resource://ledger", "upstream_url": "http://up:9000",
            "scopes": ["ledger:read", "ledger:write"], "credential_provider_id": self.provider,
        });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    }
}

async fn place(world: &World) -> Place<'_> {
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    let provider = user
        .post(
            &format!("/v1/zones/{zone}/providers"),
            json!({ "name": "p", "kind": "none" }),
        )
        .await;
    let provider = provider.text("id").to_owned();
    Place {
        user,
        list: format!("/v1/zones/{zone}/resources"),
        provider,
    }
}

#[tokio::test]
async fn each_malformation_has_its_code() {
    let world = World::new().await;
    let place = place(&world).await;
    let long = "x".repeat(513);
    for more in [
        json!({ "name": "" }),
        json!({ "name": "   " }),
        json!({ "name": "x".repeat(201) }),
        json!({ "identifier": "" }),
        json!({ "identifier": long }),
        json!({ "upstream_url": "ftp://x" }),
        json!({ "upstream_url": "http://user:pass@x" }),
        json!({ "upstream_url": " http://x" }),
        json!({ "upstream_url": 7 }),
        json!({ "scopes": [] }),
        json!({ "scopes": [""] }),
        json!({ "scopes": ["a b"] }),
        json!({ "scopes": "a" }),
        json!({ "scopes": null }),
        json!({ "credential_provider_id": 7 }),
        json!({ "operations": {} }),
        json!({ "operations": [{ "method": "GET", "path": "/a" }] }),
        json!({ "operations": [{ "method": "", "path": "/a", "scope": "ledger:read" }] }),
        json!({ "operation_enforcement": "strict" }),
        json!({ "check": 1 }),
    ] {
        let body = place.body(&more);
        place
            .user
            .post(&place.list, body)
            .await
            .refused(400, "invalid_resource");
    }
    let nameless = json!({ "scopes": ["a"] });
    place
        .user
        .post(&place.list, nameless)
        .await
        .refused(400, "invalid_resource");
    let scopeless = json!({ "name": "x" });
    place
        .user
        .post(&place.list, scopeless)
        .await
        .refused(400, "invalid_resource");
}

#[tokio::test]
async fn a_creation_is_judged_in_the_documented_order() {
    let world = World::new().await;
    let place = place(&world).await;
    let (user, list) = (&place.user, &place.list);
    let writer = world.global("write").await;
    let operations = json!([{ "method": " ", "path": "/a", "scope": "ledger:read" }]);
    let mut body = place.body(&json!({
        "identifier": "not a uri", "credential_provider_id": "missing", "operations": operations,
        "scopes": [],
    }));
    user.post(list, body.clone())
        .await
        .refused(400, "invalid_resource");
    body["scopes"] = json!(["ledger:read"]);
    user.post(list, body.clone())
        .await
        .refused(400, "invalid_resource_identifier");
    body["identifier"] = json!("caracal-sys://x");
    writer
        .post(list, body.clone())
        .await
        .refused(409, "reserved_namespace");
    body["identifier"] = json!("resource://ledger");
    user.post(list, body.clone())
        .await
        .refused(404, "provider_not_found");
    body["credential_provider_id"] = json!(null);
    user.post(list, body.clone())
        .await
        .refused(400, "credential_provider_required");
    body["credential_provider_id"] = json!("");
    user.post(list, body.clone())
        .await
        .refused(400, "credential_provider_required");
    body["credential_provider_id"] = json!(place.provider);
    body["upstream_url"] = json!(null);
    user.post(list, body.clone())
        .await
        .refused(400, "upstream_url_required");
    body["upstream_url"] = json!("http://up");
    user.post(list, body.clone())
        .await
        .refused(400, "operation_method_and_path_required");
    body["operations"] = json!([{ "method": "GET", "path": "a", "scope": "ledger:read" }]);
    user.post(list, body.clone())
        .await
        .refused(400, "operation_path_must_be_absolute");
    body["operations"] = json!([{ "method": "GET", "path": "/a", "scope": "other" }]);
    user.post(list, body.clone())
        .await
        .refused(400, "operation_scope_not_in_resource_scopes");
    body["operations"] = json!([
        { "method": "GET", "path": "/a/{x}", "scope": "ledger:read" },
        { "method": "get", "path": "/a/{y}", "scope": "ledger:read" },
    ]);
    user.post(list, body.clone())
        .await
        .refused(400, "operation_duplicate");
    body["operations"] = json!([]);
    assert_eq!(user.post(list, body.clone()).await.status, 201);
    user.post(list, body)
        .await
        .refused(409, "resource_identifier_conflict");
}

#[tokio::test]
async fn a_zone_token_cannot_touch_the_control_resource() {
    let world = World::new().await;
    let place = place(&world).await;
    let zone = place.list.split('/').nth(3).unwrap().to_owned();
    let control = json!({ "name": "Control", "identifier": "caracal-control", "scopes": ["control:app:read"] });
    let bound = world.in_zone("write", &zone).await;
    bound
        .post(&place.list, control.clone())
        .await
        .refused(409, "protected_resource");
    let made = place.user.post(&place.list, control).await;
    assert_eq!(made.status, 201, "{}", made.raw);
    assert_eq!(
        made.text("credential_provider_id"),
        format!("provider-none-{zone}")
    );
    assert!(made.body["upstream_url"].is_null());
    let item = format!("{}/{}", place.list, made.text("id"));
    bound.get(&item).await.refused(404, "resource_not_found");
    bound
        .patch(&item, json!({ "name": "x" }))
        .await
        .refused(404, "resource_not_found");
    assert!(bound.get(&place.list).await.items().is_empty());
    assert_eq!(place.user.get(&place.list).await.items().len(), 1);
    place
        .user
        .delete(&item)
        .await
        .refused(409, "protected_resource");
}

#[tokio::test]
async fn the_provider_of_no_credential_is_revived_when_it_is_needed_again() {
    let world = World::new().await;
    let place = place(&world).await;
    let zone = place.list.split('/').nth(3).unwrap().to_owned();
    let control = json!({ "identifier": "caracal-control", "scopes": ["control:app:read"] });
    let made = place.user.post(&place.list, control).await;
    let provider = format!("/v1/zones/{zone}/providers/provider-none-{zone}");
    assert_eq!(place.user.delete(&provider).await.status, 204);
    let item = format!("{}/{}", place.list, made.text("id"));
    let body = json!({ "credential_provider_id": null, "name": "Control" });
    assert_eq!(place.user.patch(&item, body).await.status, 200);
    assert_eq!(place.user.get(&provider).await.text("kind"), "none");
}

#[tokio::test]
async fn what_was_sent_is_kept_verbatim() {
    let world = World::new().await;
    let place = place(&world).await;
    let sent = place.body(&json!({
        "upstream_url": "HTTPS://Example.COM:443/API/../v1?x=%41", "name": " Ledger ",
        "scopes": ["b", "a"], "operation_enforcement": "transport_uniform",
    }));
    let made = place.user.post(&place.list, sent.clone()).await;
    for field in [
        "upstream_url",
        "name",
        "scopes",
        "operation_enforcement",
        "credential_provider_id",
    ] {
        assert_eq!(made.body[field], sent[field], "{field}");
    }
}

#[tokio::test]
async fn a_patch_is_judged_as_the_resource_would_then_be() {
    let world = World::new().await;
    let place = place(&world).await;
    let operations = json!([{ "method": "GET", "path": "/a", "scope": "ledger:read" }]);
    let made = place
        .user
        .post(
            &place.list,
            place.body(&json!({ "operations": operations })),
        )
        .await;
    let item = format!("{}/{}", place.list, made.text("id"));
    let user = &place.user;
    user.patch(&item, json!({ "scopes": ["ledger:write"] }))
        .await
        .refused(400, "operation_scope_not_in_resource_scopes");
    user.patch(&item, json!({ "upstream_url": null }))
        .await
        .refused(400, "upstream_url_required");
    user.patch(&item, json!({ "credential_provider_id": null }))
        .await
        .refused(400, "credential_provider_required");
    user.patch(&item, json!({ "name": null }))
        .await
        .refused(400, "invalid_resource");
    user.patch(&item, json!({})).await.refused(400, "no_fields");
    user.patch(&item, json!({ "unknown": 1 }))
        .await
        .refused(400, "no_fields");
    let missing = format!("{}/missing", place.list);
    user.patch(&missing, json!({ "credential_provider_id": "missing" }))
        .await
        .refused(404, "provider_not_found");
    user.patch(&missing, json!({}))
        .await
        .refused(404, "resource_not_found");
    let both = json!({ "scopes": ["ledger:write"], "operations": [] });
    let patched = user.patch(&item, both).await;
    assert_eq!(
        (patched.status, &patched.body["operations"]),
        (200, &json!([]))
    );
}

#[tokio::test]
async fn identifiers_are_generated_and_reusable_after_archiving() {
    let world = World::new().await;
    let place = place(&world).await;
    let user = &place.user;
    let mut body = place.body(&json!({}));
    body.as_object_mut().unwrap().remove("identifier");
    for identifier in ["resource://ledger", "resource://ledger-2"] {
        assert_eq!(
            user.post(&place.list, body.clone())
                .await
                .text("identifier"),
            identifier
        );
    }
    let first = user.get(&place.list).await;
    let id = first
        .items()
        .iter()
        .find(|r| r["identifier"] == "resource://ledger")
        .unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let item = format!("{}/{id}", place.list);
    assert_eq!(user.delete(&item).await.status, 204);
    user.get(&item).await.refused(404, "resource_not_found");
    assert_eq!(
        user.post(&place.list, place.body(&json!({}))).await.status,
        201
    );
}

#[tokio::test]
async fn a_zone_has_at_most_its_quota() {
    let options = crate::ApiOptions {
        max_resources_per_zone: 1,
        ..super::world::options()
    };
    let world = World::with(options).await;
    let place = place(&world).await;
    assert_eq!(
        place
            .user
            .post(&place.list, place.body(&json!({})))
            .await
            .status,
        201
    );
    let next = place.body(&json!({ "identifier": "resource://next" }));
    place
        .user
        .post(&place.list, next)
        .await
        .refused(409, "resource_quota_exceeded");
}
