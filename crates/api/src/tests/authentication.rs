//! Bearer tokens, account assertions, seeds and revocation.

use caracal_core::Secret;
use caracal_crypto::admin_token::ConsoleToken;
use http::Method;
use serde_json::json;

use super::world::{ADMIN, World, options};
use crate::RateLimits;

#[tokio::test]
async fn anything_but_a_live_bearer_is_refused() {
    let world = World::new().await;
    let send = |value: Option<String>| {
        let mut request = http::Request::builder().uri("/v1/zones");
        if let Some(value) = value {
            request = request.header("authorization", value);
        }
        world.send(request.body(axum::body::Body::empty()).unwrap())
    };
    send(None).await.refused(401, "invalid_admin_token");
    for bad in [
        format!("bearer {ADMIN}"),
        format!("Basic {ADMIN}"),
        format!("Bearer{ADMIN}"),
        "Bearer ".to_owned(),
        "Bearer wrong".to_owned(),
        format!("Bearer {}", "x".repeat(4097)),
    ] {
        send(Some(bad)).await.refused(401, "invalid_admin_token");
    }
    assert_eq!(send(Some(format!("Bearer   {ADMIN} "))).await.status, 200);
}

#[tokio::test]
async fn a_revoked_token_is_refused_from_the_next_request_on() {
    let world = World::new().await;
    let made = world
        .bootstrap()
        .post(
            "/v1/admin-tokens",
            json!({ "name": "ci", "scope": "global" }),
        )
        .await;
    let user = world.user(made.text("token"));
    assert_eq!(user.get("/v1/zones").await.status, 200);
    let item = format!("/v1/admin-tokens/{}", made.text("id"));
    assert_eq!(world.bootstrap().delete(&item).await.status, 204);
    user.get("/v1/zones")
        .await
        .refused(401, "invalid_admin_token");
    world
        .bootstrap()
        .delete(&item)
        .await
        .refused(404, "admin_token_not_found");
}

#[tokio::test]
async fn failures_are_counted_and_never_hold_back_a_token_that_verifies() {
    let rates = RateLimits {
        v1: 0,
        auth_failures: 3,
        ready: 0,
    };
    let world = World::with(crate::ApiOptions { rates, ..options() }).await;
    let guesser = world.user("cat_guess");
    for _ in 0..3 {
        guesser
            .get("/v1/zones")
            .await
            .refused(401, "invalid_admin_token");
    }
    let over = guesser.get("/v1/zones").await;
    over.refused(429, "rate_limited");
    assert_eq!(over.headers["retry-after"], "60");
    assert_eq!(world.bootstrap().get("/v1/zones").await.status, 200);
    world.clock.advance_seconds(61);
    guesser
        .get("/v1/zones")
        .await
        .refused(401, "invalid_admin_token");
}

#[tokio::test]
async fn the_caller_is_known_before_the_body_is_read() {
    let world = World::new().await;
    let stranger = world.user("cat_nobody");
    let answer = stranger
        .raw(
            Method::POST,
            "/v1/zones",
            Some("application/json"),
            "{".repeat(2 << 20),
        )
        .await;
    answer.refused(401, "invalid_admin_token");
    let reader = world.global("read").await;
    let answer = reader
        .raw(
            Method::POST,
            "/v1/zones",
            Some("application/json"),
            "{".repeat(2 << 20),
        )
        .await;
    answer.refused(403, "admin_token_read_only");
}

#[tokio::test]
async fn the_derived_tokens_have_the_published_values() {
    let admin = Secret::new(ADMIN.to_owned());
    let world = World::new().await;
    for (token, value) in [
        (
            ConsoleToken::Read,
            "cat_IZCTVHl3_8RrvD46G48qUDSertlNNFHH4NgHKLLgxpY",
        ),
        (
            ConsoleToken::Write,
            "cat_dJgEUXgbJOFzSpGfrowtazy2AqaKTehf8xdPPxKmkgg",
        ),
        (
            ConsoleToken::Approve,
            "cat_55U_vBVP25xevd3R5TOzIEgE105Y9_lIBUxq8g1MvGs",
        ),
    ] {
        assert_eq!(token.derive(&admin).expose(), value);
        let answer = world.user(value).get("/v1/zones").await;
        answer.refused(401, "invalid_account_assertion");
    }
}

#[tokio::test]
async fn an_assertion_is_bound_to_account_time_and_token() {
    let world = World::new().await;
    let console = || world.user("cat_dJgEUXgbJOFzSpGfrowtazy2AqaKTehf8xdPPxKmkgg");
    let assertion =
        "v1.YWNjdF83UW0y.1893456000.psWLXYmGralfjgXppGhcNmyeE1yyPV807fwN04UtWT4".to_owned();
    let try_with = |assertion: String| {
        let user = console().with_header("x-caracal-account", &assertion);
        async move { user.get("/v1/zones").await }
    };
    assert_eq!(try_with(assertion.clone()).await.status, 200);
    for bad in [
        assertion.replace("1893456000", "1893456001"),
        assertion.replace("YWNjdF83UW0y", "YWNjdF83UW0z"),
        assertion.replace("v1.", "v2."),
        format!("{assertion}.x"),
        String::new(),
    ] {
        try_with(bad)
            .await
            .refused(401, "invalid_account_assertion");
    }
    world
        .clock
        .set(caracal_core::Timestamp::from_seconds(1_893_456_000));
    try_with(assertion)
        .await
        .refused(401, "invalid_account_assertion");
}

#[tokio::test]
async fn an_assertion_on_another_token_binds_nothing() {
    let world = World::new().await;
    let forged = world
        .bootstrap()
        .with_header("x-caracal-account", "v1.x.1.y");
    let made = forged.post("/v1/zones", json!({ "name": "n" })).await;
    assert!(made.text("created_by").starts_with("admin:"));
}

#[tokio::test]
async fn a_configured_token_works_after_a_restart_also_when_somebody_revoked_it() {
    let mut world = World::new().await;
    let tokens = world.bootstrap().get("/v1/admin-tokens").await;
    let bootstrap = tokens
        .items()
        .iter()
        .find(|token| token["name"] == "bootstrap")
        .unwrap();
    let item = format!("/v1/admin-tokens/{}", bootstrap["id"].as_str().unwrap());
    assert_eq!(world.bootstrap().delete(&item).await.status, 204);
    world
        .bootstrap()
        .get("/v1/zones")
        .await
        .refused(401, "invalid_admin_token");
    world.restart(options()).await;
    assert_eq!(world.bootstrap().get("/v1/zones").await.status, 200);
}

#[tokio::test]
async fn a_new_configured_token_replaces_the_old_one_and_its_derived_ones() {
    let mut world = World::new().await;
    let rotated = crate::ApiOptions {
        admin_token: Some(Secret::new(
            "another-admin-token-0123456789abcdef".to_owned(),
        )),
        ..options()
    };
    world.restart(rotated).await;
    world
        .bootstrap()
        .get("/v1/zones")
        .await
        .refused(401, "invalid_admin_token");
    let derived = world.user("cat_IZCTVHl3_8RrvD46G48qUDSertlNNFHH4NgHKLLgxpY");
    derived
        .get("/v1/zones")
        .await
        .refused(401, "invalid_admin_token");
    world.restart(options()).await;
    assert_eq!(world.bootstrap().get("/v1/zones").await.status, 200);
}

#[tokio::test]
async fn a_left_over_console_token_acts_for_nobody_without_the_configured_one() {
    let mut world = World::new().await;
    world
        .restart(crate::ApiOptions {
            admin_token: None,
            ..options()
        })
        .await;
    let assertion = "v1.YWNjdF83UW0y.1893456000.psWLXYmGralfjgXppGhcNmyeE1yyPV807fwN04UtWT4";
    let console = world
        .user("cat_dJgEUXgbJOFzSpGfrowtazy2AqaKTehf8xdPPxKmkgg")
        .with_header("x-caracal-account", assertion);
    console
        .get("/v1/zones")
        .await
        .refused(401, "invalid_account_assertion");
}

#[tokio::test]
async fn uses_are_written_in_groups() {
    let world = World::new().await;
    let user = world.global("read").await;
    user.get("/v1/zones").await;
    let used = || async {
        let tokens = world.bootstrap().get("/v1/admin-tokens").await;
        let read = tokens
            .items()
            .iter()
            .find(|token| token["name"] == "read")
            .unwrap()
            .clone();
        read["last_used_at"].clone()
    };
    assert!(used().await.is_null());
    world.api.last_used.flush(&world.store).await.unwrap();
    assert_eq!(used().await, "2026-01-01T00:00:00.000Z");
}
