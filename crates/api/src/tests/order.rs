//! The order of checks that no single object owns.

use http::Method;
use serde_json::json;

use super::world::World;

#[tokio::test]
async fn a_missing_zone_is_told_before_a_bad_body_and_a_bad_body_before_a_missing_object() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("orchard").await;
    for list in [
        "applications",
        "providers",
        "resources",
        "policies",
        "policy-sets",
    ] {
        user.post(&format!("/v1/zones/none/{list}"), json!(7))
            .await
            .refused(404, "zone_not_found");
    }
    for (item, code) in [
        ("applications/none", "invalid_application"),
        ("providers/none", "invalid_provider"),
        ("resources/none", "invalid_resource"),
    ] {
        let path = format!("/v1/zones/{zone}/{item}");
        user.patch(&path, json!(7)).await.refused(400, code);
    }
}

#[tokio::test]
async fn a_broken_body_is_told_before_a_missing_zone() {
    let world = World::new().await;
    let user = world.bootstrap();
    let path = "/v1/zones/none/applications";
    let broken = user
        .raw(Method::POST, path, Some("application/json"), "{")
        .await;
    broken.refused(400, "invalid_json");
}

#[tokio::test]
async fn bad_ids_are_told_before_bad_queries_and_those_before_bad_bodies() {
    let world = World::new().await;
    let user = world.bootstrap();
    user.get("/v1/zones/a%20b/audit?limit=0")
        .await
        .refused(400, "invalid_params");
    let zone = world.zone("orchard").await;
    let path = format!("/v1/zones/{zone}?force=maybe");
    user.delete(&path).await.refused(400, "invalid_query");
}

#[tokio::test]
async fn an_application_is_judged_in_the_documented_order() {
    let world = World::new().await;
    let zone = world.zone("orchard").await;
    let writer = world.in_zone("write", &zone).await;
    let list = format!("/v1/zones/{zone}/applications");
    let body = |name: &str, traits| json!({ "name": name, "registration_method": "managed", "traits": traits });
    assert_eq!(writer.post(&list, body("bot", json!([]))).await.status, 201);
    let mut bad = body("caracal.sys/x", json!(["control:invoke"]));
    bad["registration_method"] = json!("dcr");
    writer
        .post(&list, bad)
        .await
        .refused(400, "invalid_application");
    writer
        .post(&list, body("caracal.sys/x", json!(["control:invoke"])))
        .await
        .refused(409, "reserved_namespace");
    writer
        .post(&list, body("bot", json!(["control:invoke"])))
        .await
        .refused(403, "trait_forbidden");
    writer
        .post(&list, body("bot", json!([])))
        .await
        .refused(409, "application_name_taken");
    let item = format!("{list}/none");
    writer
        .patch(&item, json!({ "name": "caracal.sys/x", "traits": ["1"] }))
        .await
        .refused(409, "reserved_namespace");
    writer
        .patch(&item, json!({ "name": "bot", "traits": ["1"] }))
        .await
        .refused(403, "trait_invalid");
    writer
        .patch(&item, json!({ "name": "bot" }))
        .await
        .refused(409, "application_name_taken");
    writer
        .patch(&item, json!({}))
        .await
        .refused(400, "no_fields");
    writer
        .patch(&item, json!({ "client_secret": "x".repeat(32) }))
        .await
        .refused(404, "application_not_found");
    writer
        .patch(&item, json!({ "name": "free" }))
        .await
        .refused(404, "application_not_found");
}
