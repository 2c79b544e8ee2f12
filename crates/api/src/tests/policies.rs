//! Policies, sets, activation and simulation.

use caracal_core::Timestamp;
use caracal_crypto::sha256_hex;
use serde_json::{Value, json};

use super::world::{User, World};

const MARKER: &str = "# caracal:data-document\npackage caracal.authz\nimport rego.v1\n";

fn grants(application: &str, role: &str) -> String {
    let grants = json!({ "resource://ledger": { "application": application, "roles": { role: ["ledger:read"] } } });
    let apps = json!({ application: application });
    format!("{MARKER}app_ids := {apps}\ngrants := {grants}\n")
}

struct Place<'w> {
    user: User<'w>,
    zone: String,
    base: String,
}

async fn place(world: &World) -> Place<'_> {
    let zone = world.zone("orchard").await;
    Place {
        user: world.bootstrap(),
        base: format!("/v1/zones/{zone}"),
        zone,
    }
}

impl Place<'_> {
    async fn policy(&self, name: &str, content: &str) -> String {
        let body = json!({ "name": name, "content": content });
        let made = self
            .user
            .post(&format!("{}/policies", self.base), body)
            .await;
        assert_eq!(made.status, 201, "{}", made.raw);
        made.text("version_id").to_owned()
    }

    async fn set(&self, name: &str) -> String {
        let made = self
            .user
            .post(
                &format!("{}/policy-sets", self.base),
                json!({ "name": name }),
            )
            .await;
        assert_eq!(made.status, 201, "{}", made.raw);
        format!("{}/policy-sets/{}", self.base, made.text("id"))
    }

    async fn version(&self, set: &str, policies: &[&str]) -> String {
        let made = self
            .user
            .post(&format!("{set}/versions"), manifest(policies))
            .await;
        assert_eq!(made.status, 201, "{}", made.raw);
        made.text("version_id").to_owned()
    }

    async fn activate(&self, set: &str, version: &str) {
        let body = json!({ "version_id": version });
        assert_eq!(
            self.user
                .post(&format!("{set}/activate"), body)
                .await
                .status,
            202
        );
    }
}

fn manifest(policies: &[&str]) -> Value {
    let entries: Vec<Value> = policies
        .iter()
        .map(|id| json!({ "policy_version_id": id }))
        .collect();
    json!({ "manifest": entries })
}

#[tokio::test]
async fn a_document_is_refused_with_the_code_of_its_first_defect() {
    let world = World::new().await;
    let place = place(&world).await;
    let user = &place.user;
    for (content, code) in [
        ("x := 1", "missing_package_declaration"),
        ("package a\nx := 1", "must_use_package_caracal_authz"),
        (
            "package caracal.authz\ngrants := {}",
            "must_be_data_document",
        ),
        (
            "# caracal:data-document\npackage caracal.authz\nother := 1",
            "data_document_rule_not_allowed:other",
        ),
        (
            "# caracal:data-document\npackage caracal.authz\ngrants := {",
            "unbalanced_delimiters",
        ),
    ] {
        let answer = user
            .post("/v1/policies/validate", json!({ "content": content }))
            .await;
        answer.refused(422, "invalid_rego");
        assert_eq!(answer.body["valid"], false);
        assert_eq!(answer.text("error_description"), code);
        let body = json!({ "name": "n", "content": content });
        let answer = user.post(&format!("{}/policies", place.base), body).await;
        answer.refused(422, "invalid_rego");
        assert_eq!(answer.text("error_description"), code);
        assert!(answer.body.get("valid").is_none());
    }
    user.post("/v1/policies/validate", json!({ "content": "" }))
        .await
        .refused(400, "invalid_body");
    user.post("/v1/policies/validate", json!({ "content": 7 }))
        .await
        .refused(400, "invalid_body");
}

#[tokio::test]
async fn the_hash_is_over_the_exact_bytes() {
    let world = World::new().await;
    let place = place(&world).await;
    let content = grants("app-ü", "closer") + "\n# trailing  \n";
    place.policy("p", &content).await;
    let list = place.user.get(&format!("{}/policies", place.base)).await;
    let item = format!(
        "{}/policies/{}",
        place.base,
        list.items()[0]["id"].as_str().unwrap()
    );
    let detail = place.user.get(&item).await;
    assert_eq!(detail.body["versions"][0]["content"], content);
    assert_eq!(
        detail.body["versions"][0]["content_sha256"],
        sha256_hex(content.as_bytes())
    );
    assert!(list.items()[0].get("content").is_none());
}

#[tokio::test]
async fn a_policy_is_judged_in_the_documented_order() {
    let world = World::new().await;
    let place = place(&world).await;
    let list = format!("{}/policies", place.base);
    let writer = world.global("write").await;
    writer
        .post("/v1/zones/none/policies", json!({}))
        .await
        .refused(404, "zone_not_found");
    writer
        .post(&list, json!({ "name": "caracal.sys/x" }))
        .await
        .refused(400, "invalid_body");
    let body = json!({ "name": " Caracal.Sys/x", "content": "bad" });
    writer
        .post(&list, body)
        .await
        .refused(409, "reserved_namespace");
    place
        .policy(
            "p",
            MARKER.replace("import rego.v1\n", "grants := {}").as_str(),
        )
        .await;
    let body = json!({ "name": "p", "content": "bad" });
    writer.post(&list, body).await.refused(422, "invalid_rego");
    let body = json!({ "name": "p", "content": grants("a", "r") });
    writer
        .post(&list, body)
        .await
        .refused(409, "policy_name_conflict");
    let versions = format!("{list}/missing/versions");
    writer
        .post(&versions, json!({ "content": "bad" }))
        .await
        .refused(422, "invalid_rego");
    writer
        .post(&versions, json!({ "content": grants("a", "r") }))
        .await
        .refused(404, "policy_not_found");
    writer
        .delete(&format!("{list}/missing"))
        .await
        .refused(404, "policy_not_found");
    writer
        .get(&format!("{list}/missing"))
        .await
        .refused(404, "policy_not_found");
}

#[tokio::test]
async fn a_manifest_is_checked_before_it_becomes_a_version() {
    let world = World::new().await;
    let place = place(&world).await;
    let set = place.set("s").await;
    let versions = format!("{set}/versions");
    let id = place.policy("p", &grants("a", "r")).await;
    let user = &place.user;
    for body in [
        json!({}),
        json!({ "manifest": [] }),
        json!({ "manifest": [{}] }),
        json!({ "manifest": [id] }),
        json!({ "manifest": vec![json!({ "policy_version_id": id }); 257] }),
    ] {
        user.post(&versions, body)
            .await
            .refused(400, "invalid_body");
    }
    let missing = format!("{}/policy-sets/missing/versions", place.base);
    user.post(&missing, manifest(&["nope"]))
        .await
        .refused(404, "policy_set_not_found");
    for bad in [
        manifest(&["nope"]),
        manifest(&["a b"]),
        manifest(&[&id, &id]),
    ] {
        user.post(&versions, bad)
            .await
            .refused(422, "invalid_policy_contract");
    }
    let elsewhere = world.zone("elsewhere").await;
    let other = Place {
        user: world.bootstrap(),
        base: format!("/v1/zones/{elsewhere}"),
        zone: elsewhere,
    };
    let foreign = other.policy("p", &grants("a", "r")).await;
    user.post(&versions, manifest(&[&foreign]))
        .await
        .refused(422, "invalid_policy_contract");
}

#[tokio::test]
async fn documents_that_contradict_each_other_make_no_version() {
    let world = World::new().await;
    let place = place(&world).await;
    let set = place.set("s").await;
    let one = place.policy("one", &grants("a", "r")).await;
    let two = place.policy("two", &grants("b", "r")).await;
    let refused = place
        .user
        .post(&format!("{set}/versions"), manifest(&[&one, &two]))
        .await;
    refused.refused(422, "invalid_policy_bundle");
    assert!(refused.text("error_description").contains(&one));
    assert!(refused.text("error_description").contains(&two));
    assert!(
        place
            .user
            .get(&format!("{set}/versions"))
            .await
            .items()
            .is_empty()
    );
}

#[tokio::test]
async fn an_activation_replaces_whatever_governed() {
    let world = World::new().await;
    let place = place(&world).await;
    let policy = place.policy("p", &grants("a", "r")).await;
    let (one, two) = (place.set("one").await, place.set("two").await);
    let (first, second) = (
        place.version(&one, &[&policy]).await,
        place.version(&two, &[&policy]).await,
    );
    place.activate(&one, &first).await;
    place.activate(&two, &second).await;
    assert!(place.user.get(&one).await.body["active_version_id"].is_null());
    assert_eq!(place.user.get(&two).await.body["active_version_id"], second);
    let governing = world
        .store
        .read(&World::zone_id(&place.zone))
        .active_policy()
        .await
        .unwrap();
    assert_eq!(governing.unwrap().version_id.as_str(), second);
    let status = place
        .user
        .get(&format!("{one}/activation-status?version_id={first}"))
        .await;
    assert_eq!(status.text("propagation_status"), "waiting_for_activation");
    assert_eq!(status.body["active"], false);
    let status = place.user.get(&format!("{two}/activation-status")).await;
    assert_eq!(status.text("propagation_status"), "loaded");
    assert_eq!(status.body["outbox"]["state"], "pending");
    assert_eq!(status.body["sts"]["policy_set_version_id"], second);
    let sent = world
        .store
        .platform()
        .pending_outbox_messages(Timestamp::MAX, 10)
        .await
        .unwrap();
    let message = sent.last().unwrap();
    assert_eq!(message.topic, "caracal.policy.invalidate");
    let names: Vec<&str> = message
        .payload
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["zone_id", "policy_set_id", "policy_set_version_id"]);
}

#[tokio::test]
async fn the_outbox_state_is_that_of_the_message() {
    let world = World::new().await;
    let place = place(&world).await;
    let policy = place.policy("p", &grants("a", "r")).await;
    let (one, two) = (place.set("one").await, place.set("two").await);
    let first = place.version(&one, &[&policy]).await;
    let second = place.version(&two, &[&policy]).await;
    let answer = place
        .user
        .post(&format!("{one}/activate"), json!({ "version_id": first }))
        .await;
    let outbox = answer.text("outbox_id");
    let state = |set: String, query: String| {
        let user = &place.user;
        async move {
            user.get(&format!("{set}/activation-status?{query}"))
                .await
                .body["outbox"]["state"]
                .clone()
        }
    };
    assert_eq!(
        state(one.clone(), format!("outbox_id={outbox}")).await,
        "pending"
    );
    assert_eq!(
        state(one.clone(), "outbox_id=unknown".to_owned()).await,
        "missing"
    );
    let other = format!("version_id={second}&outbox_id={outbox}");
    assert_eq!(state(two.clone(), other).await, "mismatch");
    let id = caracal_core::id::OutboxId::parse(outbox).unwrap();
    let mut unit = world.store.begin_platform().await.unwrap();
    unit.mark_outbox_published(&[id]).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(
        state(one, format!("outbox_id={outbox}")).await,
        "dispatched"
    );
}

#[tokio::test]
async fn activation_refuses_what_is_not_there() {
    let world = World::new().await;
    let place = place(&world).await;
    let policy = place.policy("p", &grants("a", "r")).await;
    let (one, two) = (place.set("one").await, place.set("two").await);
    let version = place.version(&one, &[&policy]).await;
    let user = &place.user;
    let body = json!({ "version_id": version });
    user.post(&format!("{one}/activate"), json!({}))
        .await
        .refused(400, "invalid_body");
    for path in [
        format!("{two}/activate"),
        format!("{}/policy-sets/none/activate", place.base),
    ] {
        user.post(&path, body.clone())
            .await
            .refused(404, "version_not_found");
    }
    user.post(&format!("{one}/activate"), json!({ "version_id": "a b" }))
        .await
        .refused(404, "version_not_found");
    let status = format!("{}/policy-sets/none/activation-status", place.base);
    user.get(&status)
        .await
        .refused(404, "policy_set_binding_not_found");
    user.get(&format!("{two}/activation-status"))
        .await
        .refused(404, "active_policy_set_version_not_found");
    user.get(&format!("{one}/versions/none"))
        .await
        .refused(404, "policy_set_version_not_found");
    user.get(&format!("{}/policy-sets/none", place.base))
        .await
        .refused(404, "policy_set_not_found");
    user.get(&format!("{}/policy-sets/none/versions", place.base))
        .await
        .refused(404, "policy_set_not_found");
    let again = json!({ "name": "one" });
    user.post(&format!("{}/policy-sets", place.base), again)
        .await
        .refused(409, "policy_set_name_conflict");
}

#[tokio::test]
async fn a_deleted_set_stops_governing_and_a_deleted_policy_does_not() {
    let world = World::new().await;
    let place = place(&world).await;
    let policy = place.policy("p", &grants("a", "r")).await;
    let set = place.set("s").await;
    let version = place.version(&set, &[&policy]).await;
    place.activate(&set, &version).await;
    let reader = world.store.read(&World::zone_id(&place.zone));
    let list = place.user.get(&format!("{}/policies", place.base)).await;
    let item = format!(
        "{}/policies/{}",
        place.base,
        list.items()[0]["id"].as_str().unwrap()
    );
    assert_eq!(place.user.delete(&item).await.status, 204);
    place.user.get(&item).await.refused(404, "policy_not_found");
    assert!(reader.active_policy().await.unwrap().is_some());
    world.clock.advance_seconds(1);
    assert_eq!(place.user.delete(&set).await.status, 204);
    assert!(reader.active_policy().await.unwrap().is_none());
    place
        .user
        .get(&set)
        .await
        .refused(404, "policy_set_not_found");
    assert_eq!(
        place
            .user
            .get(&format!("{set}/versions/{version}"))
            .await
            .status,
        200
    );
    place
        .user
        .delete(&set)
        .await
        .refused(404, "policy_set_not_found");
    let sent = world
        .store
        .platform()
        .pending_outbox_messages(Timestamp::MAX, 10)
        .await
        .unwrap();
    assert!(sent.iter().any(|message| {
        message
            .payload
            .iter()
            .all(|(name, _)| name != "policy_set_version_id")
    }));
}

#[tokio::test]
async fn a_simulation_decides_without_activating() {
    let world = World::new().await;
    let place = place(&world).await;
    let policy = place.policy("p", &grants("app-7", "closer")).await;
    let set = place.set("s").await;
    let version = place.version(&set, &[&policy]).await;
    let simulate = format!("{set}/simulate");
    let user = &place.user;
    let input = |scope: &str| {
        json!({
            "schema_version": "2026-05-20",
            "principal": { "type": "Application", "id": "app-7", "zone_id": place.zone, "labels": ["closer"] },
            "resource": { "identifier": "resource://ledger" },
            "action": { "id": "TokenExchange" },
            "delegation_edge": { "id": "e-1", "scopes": ["ledger:read", "ledger:write"] },
            "context": { "requested_scopes": [scope], "agent_session_id": "s-1" },
        })
    };
    let allowed = user
        .post(
            &simulate,
            json!({ "version_id": version, "input": input("ledger:read") }),
        )
        .await;
    assert_eq!(
        allowed.body["result"]["decision"], "allow",
        "{}",
        allowed.raw
    );
    assert_eq!(
        allowed.body["result"]["determining_policies"],
        json!([{ "policy": "caracal-app-7-mint" }])
    );
    assert_eq!(
        (&allowed.body["dry_run"], &allowed.body["would_activate"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(allowed.body["explanation"]["evaluation"], "executed");
    let denied = user
        .post(
            &simulate,
            json!({ "version_id": version, "input": input("ledger:write") }),
        )
        .await;
    assert_eq!(
        denied.body["result"]["diagnostics"],
        json!([{ "reason": "role_scope_mismatch" }])
    );
    let without = user.post(&simulate, json!({ "version_id": version })).await;
    assert_eq!(without.body["explanation"]["evaluation"], "not_executed");
    assert!(without.body["result"].is_null());
    let poor = user
        .post(&simulate, json!({ "version_id": version, "input": {} }))
        .await;
    let warnings = json!([
        "principal_zone_mismatch",
        "missing_resource",
        "missing_action",
        "missing_context"
    ]);
    assert_eq!(
        (&poor.body["warnings"], &poor.body["would_activate"]),
        (&warnings, &json!(false))
    );
    user.post(&simulate, json!({ "version_id": "none" }))
        .await
        .refused(404, "version_not_found");
    assert!(user.get(&set).await.body["active_version_id"].is_null());
}

#[tokio::test]
async fn templates_are_a_bare_array_and_each_is_accepted() {
    let world = World::new().await;
    let answer = world.bootstrap().get("/v1/policy-templates").await;
    let templates = answer.body.as_array().unwrap();
    for id in [
        "application-bindings",
        "resource-grants",
        "label-confinement",
        "zone-restriction",
    ] {
        assert!(
            templates.iter().any(|template| template["id"] == id),
            "{id}"
        );
    }
    for template in templates {
        let body = json!({ "content": template["content"] });
        let checked = world.bootstrap().post("/v1/policies/validate", body).await;
        assert_eq!(checked.status, 200, "{}", template["id"]);
    }
}
