//! Health, readiness and metrics.

use caracal_core::{Mode, Secret};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::world::{OPERATOR, World};

#[tokio::test]
async fn health_and_readiness_answer_without_credentials() {
    let world = World::new().await;
    for path in ["/health", "/ready"] {
        let answer = world.plain("GET", path).send().await.ok(200);
        assert_eq!(answer, json!({ "ok": true }));
    }
}

#[tokio::test]
async fn a_role_that_stops_says_so() {
    let world = World::new().await;
    let stop = CancellationToken::new();
    let jobs = world.coordinator.spawn_jobs(&stop);
    world.plain("GET", "/ready").send().await.ok(200);
    stop.cancel();
    let answer = world.plain("GET", "/ready").send().await;
    assert_eq!(answer.status.as_u16(), 503);
    assert_eq!(answer.body["draining"], true);
    for job in jobs {
        job.await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_is_gone_makes_the_role_unready() {
    let world = World::new().await;
    world.store.close().await;
    let answer = world.plain("GET", "/ready").send().await;
    answer.assert(503, "postgres_unreachable");
    assert_eq!(answer.body["dependency"], "postgres");
    let answer = world
        .call("app", "POST", "/agents")
        .text("{\"application_id\":\"app\"}");
    let answer = answer.send().await;
    assert_eq!(answer.status.as_u16(), 503, "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn readiness_has_a_limit_of_its_own() {
    let world = World::with(|options| options.ready_checks_per_minute = 1).await;
    world.plain("GET", "/ready").send().await.ok(200);
    world
        .plain("GET", "/ready")
        .send()
        .await
        .assert(429, "rate_limited");
    world.plain("GET", "/health").send().await.ok(200);
}

#[tokio::test]
async fn metrics_take_their_bearer_or_the_operators_token() {
    let world = World::with(|options| {
        options.metrics_bearer = Some(Secret::new("scrape".to_owned()));
    })
    .await;
    world
        .plain("GET", "/metrics")
        .send()
        .await
        .assert(401, "unauthorized");
    let wrong = world.plain("GET", "/metrics").bearer("wrong").send().await;
    wrong.assert(403, "operator_token_required");
    for token in ["scrape", OPERATOR] {
        let answer = world.plain("GET", "/metrics").bearer(token).send().await;
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(
            answer.headers["content-type"],
            "text/plain; version=0.0.4; charset=utf-8"
        );
    }
}

#[tokio::test]
async fn unprotected_metrics_are_open_on_a_developers_machine_only() {
    for (mode, status) in [(Mode::Dev, 200), (Mode::Stable, 401)] {
        let world = World::with(|options| {
            options.mode = mode;
            options.operator_tokens.clear();
        })
        .await;
        let answer = world.plain("GET", "/metrics").send().await;
        assert_eq!(answer.status.as_u16(), status);
    }
}
