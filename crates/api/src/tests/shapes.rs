//! The documented answers of the happy path, as snapshots of their shapes.

use serde_json::{Value, json};

use super::world::{Answer, World, snapshot};

#[tokio::test]
async fn zones_and_applications() {
    let world = World::new().await;
    let user = world.bootstrap();
    let made = user.post("/v1/zones", json!({ "name": " Orchard " })).await;
    assert_eq!(made.status, 201);
    snapshot("zone", &made.body);
    let zone = format!("/v1/zones/{}", made.text("id"));
    snapshot("zone_list", &user.get("/v1/zones").await.body);
    snapshot(
        "zone_dcr_status",
        &user.get(&format!("{zone}/dcr-status")).await.body,
    );
    snapshot(
        "zone_overview",
        &user.get(&format!("{zone}/overview")).await.body,
    );

    let body =
        json!({ "name": "ledger-bot", "registration_method": "managed", "traits": ["team:a"] });
    let made = user.post(&format!("{zone}/applications"), body).await;
    assert_eq!(made.status, 201);
    snapshot("application_created", &made.body);
    let item = format!("{zone}/applications/{}", made.text("id"));
    snapshot("application", &user.get(&item).await.body);
    snapshot(
        "application_patched",
        &user.patch(&item, json!({ "traits": [] })).await.body,
    );
    snapshot(
        "application_rotated",
        &user
            .post_nothing(&format!("{item}/rotate-secret"))
            .await
            .body,
    );
    snapshot(
        "application_secret",
        &user.get(&format!("{item}/client-secret")).await.body,
    );
    assert_eq!(user.delete(&item).await.status, 204);
}

#[tokio::test]
async fn providers_and_resources() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = format!("/v1/zones/{}", world.zone("orchard").await);
    let body = json!({ "name": "pear-open", "kind": "none", "config_json": {} });
    let provider = user.post(&format!("{zone}/providers"), body).await;
    assert_eq!(provider.status, 201);
    snapshot("provider_none", &provider.body);
    let body = json!({
        "name": "Key", "kind": "api_key",
        "config_json": { "header_name": "X-Api-Key", "api_key": "s3cret" },
    });
    snapshot(
        "provider_api_key",
        &user.post(&format!("{zone}/providers"), body).await.body,
    );

    let body = json!({
        "name": "Ledger", "identifier": "resource://ledger",
        "upstream_url": "http://ledger-upstream:9000", "scopes": ["ledger:read"],
        "credential_provider_id": provider.text("id"),
        "operations": [{ "method": "get", "path": "/entries/{id}", "scope": "ledger:read" }],
    });
    let resource = user.post(&format!("{zone}/resources"), body).await;
    assert_eq!(resource.status, 201);
    snapshot("resource", &resource.body);
}

const DOCUMENT: &str = "# caracal:data-document\npackage caracal.authz\nimport rego.v1\n\
                        app_ids := {\"a\":\"a\"}\n";

#[tokio::test]
async fn policies_and_sets() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = format!("/v1/zones/{}", world.zone("orchard").await);
    snapshot(
        "policy_validated",
        &user
            .post("/v1/policies/validate", json!({ "content": DOCUMENT }))
            .await
            .body,
    );
    let body = json!({ "name": "grants", "description": "d", "content": DOCUMENT });
    let policy = user.post(&format!("{zone}/policies"), body).await;
    assert_eq!(policy.status, 201);
    snapshot("policy_created", &policy.body);
    let item = format!("{zone}/policies/{}", policy.text("id"));
    snapshot(
        "policy_list",
        &user.get(&format!("{zone}/policies")).await.body,
    );
    snapshot("policy_detail", &user.get(&item).await.body);
    let version = user
        .post(&format!("{item}/versions"), json!({ "content": DOCUMENT }))
        .await;
    assert_eq!(version.status, 201);
    snapshot("policy_version_added", &version.body);

    let set = user
        .post(&format!("{zone}/policy-sets"), json!({ "name": "set" }))
        .await;
    assert_eq!(set.status, 201);
    snapshot("policy_set_created", &set.body);
    let item = format!("{zone}/policy-sets/{}", set.text("id"));
    let manifest =
        json!({ "manifest": [{ "policy_version_id": version.text("version_id"), "x": 1 }] });
    let version = user.post(&format!("{item}/versions"), manifest).await;
    assert_eq!(version.status, 201);
    let id = version.text("version_id").to_owned();
    snapshot(
        "policy_set_version_added",
        &without(version, "manifest_sha256").body,
    );
    snapshot(
        "policy_set_version_list",
        &without(
            user.get(&format!("{item}/versions")).await,
            "manifest_sha256",
        )
        .body,
    );
    snapshot(
        "policy_set_version_detail",
        &without(
            user.get(&format!("{item}/versions/{id}")).await,
            "manifest_sha256",
        )
        .body,
    );
    let activated = user
        .post(&format!("{item}/activate"), json!({ "version_id": id }))
        .await;
    assert_eq!(activated.status, 202);
    snapshot("policy_set_activated", &activated.body);
    let status = user.get(activated.text("status_url")).await;
    snapshot(
        "policy_set_activation_status",
        &without(status, "manifest_sha256").body,
    );
    snapshot("policy_set", &user.get(&item).await.body);
    let body = json!({ "version_id": id, "input": { "principal": { "zone_id": "other" } } });
    let simulated = user.post(&format!("{item}/simulate"), body).await;
    snapshot(
        "policy_set_simulated",
        &without(simulated, "manifest_sha256").body,
    );
}

#[tokio::test]
async fn tokens() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let body = json!({ "name": "ci", "scope": "zone", "zone_id": zone, "reveal": true });
    snapshot(
        "admin_token_created",
        &world.bootstrap().post("/v1/admin-tokens", body).await.body,
    );
    snapshot(
        "admin_token_list",
        &world.bootstrap().get("/v1/admin-tokens").await.body,
    );
}

/// Hashes over fresh ids differ from run to run of the suite's other tests.
fn without(mut answer: Answer, member: &str) -> Answer {
    fn blank(value: &mut Value, member: &str) {
        match value {
            Value::Object(members) => {
                for (name, held) in members.iter_mut() {
                    if name == member && held.is_string() {
                        *held = json!("[hash]");
                    } else {
                        blank(held, member);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| blank(item, member)),
            _ => {}
        }
    }
    blank(&mut answer.body, member);
    answer
}
