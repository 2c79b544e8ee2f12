//! Health, readiness, metrics, reload, shutdown.

use std::sync::atomic::Ordering;
use std::time::Duration;

use caracal_core::{Mode, Secret};

use crate::caller::Caller;
use crate::world::World;

async fn at(world: &World, method: &str, path: &str, more: &str) -> crate::caller::Reply {
    world
        .raw(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n"))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_readiness_answer_any_method() {
    let world = World::new().await;
    for method in ["GET", "POST", "DELETE"] {
        let health = at(&world, method, "/health", "").await;
        assert_eq!((health.status, health.text().as_str()), (200, ""));
        let ready = at(&world, method, "/ready", "").await;
        assert_eq!(
            (ready.status, ready.json()["ready"].as_bool()),
            (200, Some(true))
        );
    }
    assert_eq!(world.counter("requests_total").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_exact_paths_are_taken() {
    let world = World::new().await;
    for path in [
        "/health/",
        "/health/x",
        "/metricsx",
        "/internal/revocations/reload",
    ] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
    assert_eq!(world.upstream.seen.lock().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_can_move_to_a_port_of_their_own() {
    let world = World::with(|options| options.operations_on_service_port = false).await;
    assert_eq!(world.get("/health").await.status, 200);
    assert_eq!(world.upstream.only().line, "GET /health HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_for_the_bearer() {
    let world = World::with(|options| {
        options.mode = Mode::Stable;
        options.metrics_bearer = Some(Secret::new("m-token".to_owned()));
    })
    .await;
    for path in ["/metrics", "/metrics.json"] {
        assert_eq!(at(&world, "GET", path, "").await.status, 401);
        assert_eq!(
            at(&world, "GET", path, "Authorization: bearer m-token\r\n")
                .await
                .status,
            401
        );
        assert_eq!(
            at(&world, "GET", path, "Authorization: Bearer m-token\r\n")
                .await
                .status,
            200
        );
    }
    let text = at(
        &world,
        "GET",
        "/metrics",
        "Authorization: Bearer m-token\r\n",
    )
    .await;
    assert_eq!(
        text.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reload_exists_for_the_admin_token_only() {
    let world = World::with(|options| {
        options.admin_token = Some(Secret::new("admin".to_owned()));
    })
    .await;
    let path = "/internal/revocations/reload";
    assert_eq!(at(&world, "POST", path, "").await.status, 404);
    assert_eq!(
        at(&world, "POST", path, "Authorization: Bearer other\r\n")
            .await
            .status,
        404
    );
    let reply = at(&world, "POST", path, "Authorization: Bearer admin\r\n").await;
    assert_eq!(
        (reply.status, reply.json()["ok"].as_bool()),
        (200, Some(true))
    );
    assert!(reply.json()["revocations"].is_u64());
    assert_eq!(world.counter("revocation_reloads").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_names_what_is_missing() {
    let world = World::new().await;
    world.sts.reachable.store(false, Ordering::SeqCst);
    let ready = at(&world, "GET", "/ready", "").await;
    assert_eq!(
        (ready.status, ready.json()["reason"].as_str()),
        (503, Some("sts_unreachable"))
    );
    world.store.close().await;
    let ready = at(&world, "GET", "/ready", "").await;
    assert_eq!(ready.json()["reason"], "revocation_snapshot_stale");
    assert_eq!(world.counter("revocation_snapshot_fresh").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_lets_running_calls_finish_and_says_so() {
    let world = World::new().await;
    let body = world
        .upstream
        .streams("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    let mut running = world.caller().await;
    running.send(world.head("GET", "/", "")).await;
    body.send(b"ab".to_vec()).unwrap();
    running.read_until("\r\n\r\nab").await;
    let mut idle = Caller::connect(world.address).await;
    idle.send("GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.reply().await.status, 200);
    world.shutdown.cancel();
    // Idle connections close, new ones are not taken, the running call goes on.
    assert_eq!(idle.read_to_close().await.0, "");
    body.send(b"cd".to_vec()).unwrap();
    running.read_until("cd").await;
    tokio::time::timeout(Duration::from_secs(5), world.served)
        .await
        .unwrap()
        .unwrap();
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err());
    assert_eq!(
        world.journal.last().get(),
        2,
        "the final event is in the log"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_outlasts_the_drain_is_cut() {
    let world = World::with(|options| options.drain_timeout = Duration::from_millis(200)).await;
    let body = world
        .upstream
        .streams("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
    let mut running = world.caller().await;
    running.send(world.head("GET", "/", "")).await;
    body.send(b"ab".to_vec()).unwrap();
    running.read_until("\r\n\r\nab").await;
    world.shutdown.cancel();
    assert_eq!(running.read_to_close().await.0, "");
    tokio::time::timeout(Duration::from_secs(5), world.served)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        world.journal.last().get(),
        2,
        "the final event is in the log"
    );
}
