//! Many calls at once: places, queues, and no crosstalk.

use std::sync::Arc;
use std::time::Duration;

use crate::upstream::Behaviour;
use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_upstream_refuses_after_a_bounded_wait() {
    let world = Arc::new(
        World::with(|options| {
            options.upstream_concurrency = 1;
            options.upstream_queue = 1;
            options.upstream_queue_timeout = Duration::from_millis(200);
        })
        .await,
    );
    world.upstream.behaves(Behaviour::Silent);
    let mut holder = world.caller().await;
    holder.send(world.head("GET", "/", "")).await;
    world.upstream.arrived.notified().await;
    let reply = world.get("/").await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (503, "internal_error")
    );
    assert!(reply.header("retry-after").is_some());
    // When the holder leaves, its place is free again.
    drop(holder);
    world.upstream.abandoned.notified().await;
    world.upstream.answers(crate::upstream::OK);
    assert_eq!(world.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_call_runs_when_a_place_becomes_free() {
    let world = Arc::new(World::with(|options| options.upstream_concurrency = 1).await);
    let stream = world
        .upstream
        .streams("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n");
    let mut first = world.caller().await;
    first.send(world.head("GET", "/", "")).await;
    stream.send(b"ab".to_vec()).unwrap();
    first.read_until("\r\n\r\nab").await;
    world.upstream.answers(crate::upstream::OK);
    let queued = Arc::clone(&world);
    let second = tokio::spawn(async move { queued.get("/").await.status });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished());
    stream.send(b"cd".to_vec()).unwrap();
    first.read_until("cd").await;
    assert_eq!(second.await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_calls_get_their_own_answers_and_leave_all_their_events() {
    let world = Arc::new(World::new().await);
    let calls = (0..100).map(|number| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            let id = format!("X-Request-Id: call-{number}\r\n");
            let reply = world
                .raw(world.head("GET", &format!("/{number}"), &id))
                .await;
            assert_eq!(reply.status, 200);
            assert_eq!(
                reply.header("x-request-id"),
                Some(format!("call-{number}").as_str())
            );
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let events = world.events(200).await;
    assert_eq!(events.len(), 200);
    for number in 0..100 {
        let of_call = events
            .iter()
            .filter(|event| event["request_id"] == format!("call-{number}"));
        assert_eq!(of_call.count(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_uses_at_once_one_passes() {
    let world = Arc::new(World::new().await);
    let mandate = world.mandate();
    let uses = (0..20).map(|_| {
        let (world, mandate) = (Arc::clone(&world), mandate.clone());
        tokio::spawn(async move { world.get_with(&mandate).await.status })
    });
    let mut passed = 0;
    for used in uses.collect::<Vec<_>>() {
        passed += usize::from(used.await.unwrap() == 200);
    }
    assert_eq!(passed, 1);
    assert_eq!(world.upstream.seen.lock().len(), 1);
}
