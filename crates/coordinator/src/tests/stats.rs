//! `/stats`.

use caracal_core::Secret;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::world::{OPERATOR, World};
use crate::sweep::Sweep;

async fn stats(world: &World) -> Value {
    let call = world.plain("GET", "/stats").bearer(OPERATOR);
    call.send().await.ok(200)
}

#[tokio::test]
async fn stats_take_the_metrics_bearer_or_the_operators_token() {
    let world = World::with(|options| {
        options.metrics_bearer = Some(Secret::new("scrape".to_owned()));
    })
    .await;
    let answer = world.plain("GET", "/stats").send().await;
    answer.assert(401, "unauthorized");
    let answer = world.plain("GET", "/stats").bearer("wrong").send().await;
    answer.assert(403, "operator_token_required");
    let answer = world.plain("GET", "/stats").bearer("scrape").send().await;
    answer.ok(200);
    stats(&world).await;
}

#[tokio::test]
async fn a_role_that_did_nothing_shows_every_figure_as_zero() {
    let world = World::new().await;
    let expected = json!({
        "invocations": {},
        "outbox": { "pending": 0, "published": 0, "dead": 0 },
        "idempotency": {
            "rows": 0, "oldestSeconds": 0,
            "outcomes": { "created": 0, "replayed": 0, "conflicts": 0, "invalid": 0, "expired": 0 },
        },
        "ttl_sweeper": { "runs": 0, "failures": 0, "terminated": 0 },
        "service_lease_sweeper": { "runs": 0, "failures": 0, "suspended": 0 },
        "retention_cleaner": {
            "runs": 0, "failures": 0, "expired_edges": 0, "deleted_edges": 0,
            "deleted_sessions": 0, "deleted_outbox": 0, "deleted_idempotency_receipts": 0,
        },
    });
    assert_eq!(stats(&world).await, expected);
}

#[tokio::test]
async fn what_was_done_is_counted_and_tables_are_counted_every_fifteen_seconds() {
    let world = World::new().await;
    stats(&world).await;
    for _ in 0..2 {
        let call = world
            .call("app", "POST", "/agents")
            .header("idempotency-key", "k");
        let body = json!({ "application_id": "app", "ttl_seconds": 10 });
        call.json(&body).send().await.ok(201);
    }
    let seen = stats(&world).await;
    assert_eq!(seen["outbox"]["pending"], 0);
    assert_eq!(seen["idempotency"]["rows"], 0);
    assert_eq!(seen["idempotency"]["outcomes"]["created"], 1);
    assert_eq!(seen["idempotency"]["outcomes"]["replayed"], 1);
    world.clock.advance_seconds(15);
    let stop = CancellationToken::new();
    world.coordinator.sweep(Sweep::Lifetimes, &stop).await;
    let seen = stats(&world).await;
    assert_ne!(seen["outbox"]["pending"], 0);
    assert_eq!(seen["idempotency"]["rows"], 1);
    assert_eq!(seen["idempotency"]["oldestSeconds"], 15);
    let expected = json!({ "runs": 1, "failures": 0, "terminated": 1 });
    assert_eq!(seen["ttl_sweeper"], expected);
}

#[tokio::test]
async fn without_the_store_there_are_no_stats_and_sweeps_fail() {
    let world = World::new().await;
    world.store.close().await;
    let stop = CancellationToken::new();
    world.coordinator.sweep(Sweep::Leases, &stop).await;
    assert_eq!(world.coordinator.tally.leases.failures.get(), 1);
    let answer = world.plain("GET", "/stats").bearer(OPERATOR).send().await;
    answer.assert(503, "store_unavailable");
}
