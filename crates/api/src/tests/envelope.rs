//! What every answer has in common.

use caracal_core::Secret;
use http::Method;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::world::{World, options};
use crate::{ApiOptions, RateLimits};

#[tokio::test]
async fn every_answer_carries_an_id_and_is_never_stored() {
    let world = World::new().await;
    let user = world.bootstrap().with_header("x-request-id", "req-7:a.b_c");
    for (method, path) in [
        (Method::GET, "/v1/zones"),
        (Method::GET, "/v1/nowhere"),
        (Method::POST, "/v1/zones"),
    ] {
        let answer = user.raw(method, path, None, "").await;
        assert_eq!(answer.headers["x-request-id"], "req-7:a.b_c");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer");
    }
    let answer = world
        .bootstrap()
        .with_header("x-request-id", "a b")
        .get("/v1/zones")
        .await;
    assert_eq!(answer.headers["x-request-id"].len(), 36);
}

#[tokio::test]
async fn where_there_is_no_route_every_method_gets_the_same_answer_after_authentication() {
    let world = World::new().await;
    let user = world.bootstrap();
    for (method, path) in [
        (Method::GET, "/v1/x"),
        (Method::PUT, "/v1/zones"),
        (Method::OPTIONS, "/v1/zones"),
        (Method::POST, "/v1/zones/z/workloads"),
        (Method::GET, "/elsewhere"),
    ] {
        let answer = user.raw(method.clone(), path, None, "").await;
        assert_eq!(answer.status, 404, "{method} {path}");
        assert_eq!(answer.body["error"], "Not Found");
        assert_eq!(answer.body["statusCode"], 404);
        assert_eq!(
            answer.body["message"],
            format!("Route {method}:{path} not found")
        );
        let stranger = world.user("cat_x").raw(method, path, None, "").await;
        stranger.refused(401, "invalid_admin_token");
    }
}

#[tokio::test]
async fn with_a_port_of_their_own_operational_routes_leave_the_service() {
    let world = World::new().await;
    let status = async |router: axum::Router, path: &str| {
        let request = http::Request::get(path).body(axum::body::Body::empty());
        let answer = router.oneshot(request.unwrap()).await.unwrap();
        answer.status().as_u16()
    };
    for path in ["/health", "/ready"] {
        assert_eq!(status(world.api.operations_router(), path).await, 200);
        assert_eq!(status(world.api.service_router(), path).await, 401);
    }
    assert_eq!(
        status(world.api.operations_router(), "/v1/zones").await,
        404
    );
    assert_eq!(status(world.api.service_router(), "/v1/zones").await, 401);
}

#[tokio::test]
async fn head_is_served_wherever_get_is() {
    let world = World::new().await;
    let answer = world
        .bootstrap()
        .raw(Method::HEAD, "/v1/zones", None, "")
        .await;
    assert_eq!((answer.status, answer.raw.as_str()), (200, ""));
}

#[tokio::test]
async fn a_delete_answers_nothing() {
    let world = World::new().await;
    let zone = world.zone("gone").await;
    let answer = world.bootstrap().delete(&format!("/v1/zones/{zone}")).await;
    assert_eq!((answer.status, answer.raw.as_str()), (204, ""));
}

#[tokio::test]
async fn limits_say_when_to_return() {
    let rates = RateLimits {
        v1: 3,
        auth_failures: 0,
        ready: 1,
    };
    let world = World::with(ApiOptions { rates, ..options() }).await;
    for _ in 0..3 {
        assert_eq!(world.bootstrap().get("/v1/zones").await.status, 200);
    }
    world.clock.advance_seconds(10);
    let over = world.bootstrap().get("/v1/zones").await;
    over.refused(429, "rate_limited");
    assert_eq!(over.headers["retry-after"], "50");
    assert_eq!(world.bootstrap().get("/ready").await.status, 200);
    world
        .bootstrap()
        .get("/ready")
        .await
        .refused(429, "rate_limited");
    world.clock.advance_seconds(60);
    assert_eq!(world.bootstrap().get("/v1/zones").await.status, 200);
}

#[tokio::test]
async fn operational_routes_need_no_token() {
    let world = World::new().await;
    let stranger = world.user("cat_x");
    let health = stranger.get("/health").await;
    assert_eq!((health.status, health.body), (200, json!({ "ok": true })));
    let ready = stranger.get("/ready").await;
    assert_eq!((ready.status, ready.body), (200, json!({ "ok": true })));
    let metrics = stranger.get("/metrics").await;
    assert_eq!(metrics.status, 200);
}

#[tokio::test]
async fn metrics_need_the_configured_bearer() {
    let bearer = Some(Secret::new("metrics-bearer".to_owned()));
    let world = World::with(ApiOptions {
        metrics_bearer: bearer,
        ..options()
    })
    .await;
    assert_eq!(world.bootstrap().get("/metrics").await.status, 401);
    assert_eq!(
        world.user("metrics-bearer").get("/metrics").await.status,
        200
    );
}

#[tokio::test]
async fn a_draining_role_is_not_ready() {
    let world = World::new().await;
    let shutdown = CancellationToken::new();
    let jobs = world.api.spawn_jobs(shutdown.clone());
    shutdown.cancel();
    for job in jobs {
        job.await.unwrap();
    }
    let ready = world.bootstrap().get("/ready").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.body["draining"], true);
}

#[tokio::test]
async fn an_unreachable_store_is_503_and_never_a_verdict() {
    let world = World::new().await;
    world.store.close().await;
    let answer = world.bootstrap().get("/v1/zones").await;
    answer.refused(503, "store_unavailable");
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(
        world.bootstrap().get("/ready").await.body["error"],
        "store_unreachable"
    );
}

#[tokio::test]
async fn dead_messages_beyond_the_limit_make_the_role_not_ready() {
    let world = World::with(ApiOptions {
        ready_dead_outbox_max: Some(0),
        ..options()
    })
    .await;
    let zone = World::zone_id(&world.zone("orchard").await);
    let mut unit = world.store.begin(&zone).await.unwrap();
    let id = unit
        .enqueue("caracal.policy.invalidate", "key", vec![])
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert_eq!(world.bootstrap().get("/ready").await.status, 200);
    let mut unit = world.store.begin_platform().await.unwrap();
    unit.mark_outbox_failed(&id, "no stream", None)
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let ready = world.bootstrap().get("/ready").await;
    assert_eq!(
        (ready.status, &ready.body["error"]),
        (503, &json!("outbox_dead_messages"))
    );
    assert_eq!(
        (&ready.body["deadCount"], &ready.body["limit"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn names_of_people_in_headers_are_ignored() {
    let world = World::new().await;
    let user = world
        .bootstrap()
        .with_header("x-caracal-authorized-by", "somebody else")
        .with_header("x-caracal-created-via", "operator");
    let made = user.post("/v1/zones", json!({ "name": "n" })).await;
    assert!(made.text("created_by").starts_with("admin:"));
    assert_eq!(made.body["created_via_operator"], false);
}
