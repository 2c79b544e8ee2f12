//! What reconcilers that list, compare and patch rely on.

use serde_json::json;

use super::world::World;

/// The document that the published Admin SDKs write, byte for byte.
fn document(app_ids: &str, grants: &str) -> String {
    format!(
        "# caracal:data-document\npackage caracal.authz\nimport rego.v1\n\
         app_ids := {app_ids}\ngrants := {grants}\n"
    )
}

#[tokio::test]
async fn the_published_grant_documents_have_the_published_hashes() {
    let world = World::new().await;
    let user = world.bootstrap();
    let list = format!("/v1/zones/{}/policies", world.zone("orchard").await);
    for (name, content, sha256) in [
        (
            "one",
            document(
                r#"{"app-ledger-bot":"app-ledger-bot"}"#,
                r#"{"resource://ledger":{"application":"app-ledger-bot","roles":{"app-ledger-bot":["ledger:read"]}}}"#,
            ),
            "33e16311192e05a8690c76baf07ab974ce6200d42078dba62d91d0465e666079",
        ),
        (
            "two",
            document(
                r#"{"app-7":"app-7"}"#,
                r#"{"resource://ledger":{"application":"app-7","roles":{"closer":["ledger:read","ledger:write"]}}}"#,
            ),
            "2ce54376975c40e64e4cb9749946eb75a2e389eb3b21cc35132ae2e401322591",
        ),
        (
            "empty",
            document("{}", "{}"),
            "76673b82ca2011cf265750fe015f9441c3c6f311a84ab5f45d8c4e58218366c2",
        ),
    ] {
        let made = user
            .post(&list, json!({ "name": name, "content": content }))
            .await;
        assert_eq!(made.status, 201, "{}", made.raw);
        assert_eq!(made.body["version"]["content_sha256"], sha256, "{name}");
        let detail = user.get(&format!("{list}/{}", made.text("id"))).await;
        let version = &detail.body["versions"][0];
        assert_eq!(version["content_sha256"], sha256);
        assert_eq!(
            (version["version"].as_i64(), &version["id"]),
            (Some(1), &made.body["version_id"])
        );
    }
}

#[tokio::test]
async fn a_resource_reads_back_equal_to_what_was_sent() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = format!("/v1/zones/{}", world.zone("orchard").await);
    let provider = user
        .post(
            &format!("{zone}/providers"),
            json!({ "name": "p", "kind": "none" }),
        )
        .await;
    let desired = json!({
        "name": "Ledger", "identifier": "resource://ledger", "scopes": ["b", "a"],
        "upstream_url": "https://Example.com/API/", "credential_provider_id": provider.text("id"),
        "operation_enforcement": "enforced",
        "operations": [{ "method": "GET", "path": "/a", "scope": "a" }],
    });
    user.post(&format!("{zone}/resources"), desired.clone())
        .await;
    let list = user.get(&format!("{zone}/resources")).await;
    for field in [
        "scopes",
        "upstream_url",
        "credential_provider_id",
        "operation_enforcement",
        "operations",
    ] {
        assert_eq!(list.items()[0][field], desired[field], "{field}");
    }
}

#[tokio::test]
async fn an_application_reads_back_managed_with_its_traits_and_takes_a_chosen_secret() {
    let world = World::new().await;
    let user = world.bootstrap();
    let list = format!("/v1/zones/{}/applications", world.zone("orchard").await);
    let body = json!({ "name": "bot", "registration_method": "managed", "traits": ["x"] });
    let made = user.post(&list, body).await;
    let seen = user.get(&list).await;
    let row = &seen.items()[0];
    assert_eq!(
        (&row["registration_method"], &row["traits"]),
        (&json!("managed"), &json!(["x"]))
    );
    assert!(row["expires_at"].is_null());
    let item = format!("{list}/{}", made.text("id"));
    for _ in 0..2 {
        let chosen = json!({ "client_secret": "0123456789abcdef0123456789abcdef" });
        assert_eq!(user.patch(&item, chosen).await.status, 200);
    }
}

#[tokio::test]
async fn a_placement_edit_needs_no_secret_and_a_kind_reseals() {
    let world = World::new().await;
    let user = world.bootstrap();
    let list = format!("/v1/zones/{}/providers", world.zone("orchard").await);
    let config = |more: serde_json::Value| {
        let mut config = json!({ "auth_location": "header", "header_name": "X-Key" });
        if let Some(key) = more.as_str() {
            config["api_key"] = json!(key);
        }
        config
    };
    let body = json!({
        "name": "Key", "identifier": "provider://key", "kind": "api_key", "config_json": config(json!("k1")),
    });
    let made = user.post(&list, body).await;
    let item = format!("{list}/{}", made.text("id"));
    let public = user
        .patch(&item, json!({ "config_json": config(json!(null)) }))
        .await;
    assert_eq!(
        (public.status, &public.body["secret_config_keys"]),
        (200, &json!(["api_key"]))
    );
    let body = json!({ "kind": "api_key", "config_json": config(json!("k2")) });
    assert_eq!(user.patch(&item, body).await.status, 200);
}

#[tokio::test]
async fn a_set_tells_which_version_governs() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = format!("/v1/zones/{}", world.zone("orchard").await);
    let content = document("{}", "{}");
    let policy = user
        .post(
            &format!("{zone}/policies"),
            json!({ "name": "application-grants", "content": content }),
        )
        .await;
    let set = user
        .post(
            &format!("{zone}/policy-sets"),
            json!({ "name": "application-grant-policy" }),
        )
        .await;
    let sets = user.get(&format!("{zone}/policy-sets")).await;
    assert!(sets.items()[0]["active_version_id"].is_null());
    let item = format!("{zone}/policy-sets/{}", set.text("id"));
    let manifest = json!({ "manifest": [{ "policy_version_id": policy.text("version_id") }] });
    let version = user.post(&format!("{item}/versions"), manifest).await;
    let body = json!({ "version_id": version.text("version_id") });
    assert_eq!(
        user.post(&format!("{item}/activate"), body).await.status,
        202
    );
    let sets = user.get(&format!("{zone}/policy-sets")).await;
    assert_eq!(
        sets.items()[0]["active_version_id"],
        version.body["version_id"]
    );
}
