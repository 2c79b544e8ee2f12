//! Admin tokens.

use serde_json::json;

use super::world::World;

#[tokio::test]
async fn each_malformation_has_its_code() {
    let world = World::new().await;
    let user = world.bootstrap();
    let path = "/v1/admin-tokens";
    for body in [
        json!({}),
        json!({ "name": "", "scope": "global" }),
        json!({ "name": "x".repeat(121), "scope": "global" }),
        json!({ "name": "x", "scope": "all" }),
        json!({ "name": "x", "scope": "global", "capability": "admin" }),
        json!({ "name": "x", "scope": "global", "reveal": "yes" }),
        json!({ "name": "x", "scope": "global", "expires_in": 5 }),
        json!({ "name": "x", "scope": "global", "zone_id": null }),
    ] {
        user.post(path, body)
            .await
            .refused(400, "invalid_admin_token_request");
    }
    user.post(path, json!({ "name": "x", "scope": "zone" }))
        .await
        .refused(400, "zone_id_required");
    let body = json!({ "name": "x", "scope": "global", "zone_id": "z" });
    user.post(path, body)
        .await
        .refused(400, "zone_id_not_allowed_for_global");
    let body = json!({ "name": "x", "scope": "zone", "zone_id": "none" });
    user.post(path, body).await.refused(404, "zone_not_found");
    let long = format!("{path}/{}", "x".repeat(129));
    user.delete(&long)
        .await
        .refused(400, "invalid_admin_token_id");
    user.delete(&format!("{path}/a%20b"))
        .await
        .refused(404, "admin_token_not_found");
}

#[tokio::test]
async fn nobody_hands_on_a_right_that_they_do_not_have() {
    let world = World::new().await;
    let writer = world.global("write").await;
    let approver = json!({ "name": "a", "scope": "global", "capability": "approve" });
    writer
        .post("/v1/admin-tokens", approver)
        .await
        .refused(403, "approve_capability_required");
    let revealer = json!({ "name": "r", "scope": "global", "reveal": true });
    writer
        .post("/v1/admin-tokens", revealer.clone())
        .await
        .refused(403, "reveal_capability_required");
    let revealing = world.minted(revealer.clone()).await;
    assert_eq!(
        revealing.post("/v1/admin-tokens", revealer).await.status,
        201
    );
}

#[tokio::test]
async fn a_token_is_shown_once_and_not_kept() {
    let world = World::new().await;
    let user = world.bootstrap();
    let made = user
        .post(
            "/v1/admin-tokens",
            json!({ "name": "ci", "scope": "global" }),
        )
        .await;
    let token = made.text("token").to_owned();
    assert!(token.starts_with("cat_") && token.len() == 47);
    let list = user.get("/v1/admin-tokens").await;
    assert!(!list.raw.contains(&token));
    let kept = std::fs::read(world.log_dir().with_file_name("store.db")).unwrap();
    let wal = std::fs::read(world.log_dir().with_file_name("store.db-wal")).unwrap_or_default();
    for file in [kept, wal] {
        assert!(
            !file
                .windows(token.len())
                .any(|window| window == token.as_bytes())
        );
    }
}

#[tokio::test]
async fn a_token_may_revoke_itself() {
    let world = World::new().await;
    let made = world
        .bootstrap()
        .post(
            "/v1/admin-tokens",
            json!({ "name": "ci", "scope": "global" }),
        )
        .await;
    let user = world.user(made.text("token"));
    let item = format!("/v1/admin-tokens/{}", made.text("id"));
    assert_eq!(user.delete(&item).await.status, 204);
    user.get("/v1/zones")
        .await
        .refused(401, "invalid_admin_token");
}
