//! However a path is spelled, the guards judge what the handler would be given.

use http::Method;
use serde_json::json;

use super::world::World;

#[tokio::test]
async fn an_encoded_zone_id_is_the_same_zone() {
    let world = World::new().await;
    let own = world.zone("own").await;
    let other = world.zone("other").await;
    let user = world.in_zone("write", &own).await;
    let encode = |id: &str| id.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
    let path = |id: &str| format!("/v1/zones/{}/overview", encode(id));
    assert_eq!(user.get(&path(&own)).await.status, 200);
    user.get(&path(&other))
        .await
        .refused(403, "admin_token_zone_mismatch");
}

#[tokio::test]
async fn no_spelling_of_a_guarded_path_reaches_a_handler() {
    let world = World::new().await;
    let own = world.zone("own").await;
    let reserved = world.zone("caracal.sys/system").await;
    let reader = world.in_zone("read", &own).await;
    let writer = world.global("write").await;
    let body = json!({ "name": "bot", "registration_method": "managed" }).to_string();
    let spelled = [
        format!("/v1/zones/{reserved}/applications"),
        format!("/v1/%7Aones/{reserved}/applications"),
        format!("/v1/zones/{reserved}/%61pplications"),
        format!("/%76%31/zones/{reserved}/applications"),
        format!("//v1/zones/{reserved}/applications"),
        format!("/v1//zones/{reserved}/applications"),
        format!("/v1/zones/{reserved}/applications/"),
        format!("/v1/./zones/{reserved}/applications"),
        format!("/v1/zones/{own}/../{reserved}/applications"),
        format!("/v1/zones/{own}%2F..%2F{reserved}/applications"),
        format!("/v1/zones/{reserved}/applications?zone_id={own}"),
        format!("/v1/zones/{reserved};x=1/applications"),
        format!("/V1/zones/{reserved}/applications"),
        format!("http://elsewhere.example/v1/zones/{reserved}/applications"),
        format!("http://elsewhere.example/v1/%7Aones/{reserved}/applications"),
    ];
    for path in &spelled {
        for user in [&reader, &writer] {
            let kind = Some("application/json");
            let answer = user.raw(Method::POST, path, kind, body.clone()).await;
            let refused = matches!(answer.status, 400 | 403 | 404);
            assert!(refused, "{path} answered {} {}", answer.status, answer.raw);
        }
    }
    let list = world
        .bootstrap()
        .get(&format!("/v1/zones/{reserved}/applications"))
        .await;
    assert!(list.items().is_empty());
}

#[tokio::test]
async fn an_absolute_target_is_judged_like_any_other() {
    let world = World::new().await;
    let own = world.zone("own").await;
    let other = world.zone("other").await;
    let user = world.in_zone("read", &own).await;
    let target = format!("http://elsewhere.example/v1/zones/{other}");
    user.get(&target)
        .await
        .refused(403, "admin_token_zone_mismatch");
}

#[tokio::test]
async fn a_malformed_id_is_refused_before_anything_is_looked_up() {
    let world = World::new().await;
    let user = world.bootstrap();
    let zone = world.zone("own").await;
    for bad in ["a%20b", "a%2Fb", "%C3%A9", "a%00", &"x".repeat(129)] {
        user.get(&format!("/v1/zones/{bad}"))
            .await
            .refused(400, "invalid_params");
        let item = format!("/v1/zones/{zone}/applications/{bad}");
        user.get(&item).await.refused(400, "invalid_params");
    }
    user.get("/v1/zones/%FF")
        .await
        .refused(400, "invalid_params");
}
