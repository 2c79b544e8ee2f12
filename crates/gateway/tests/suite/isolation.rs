//! One zone's trouble is that zone's.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::upstream::{Behaviour, OK};
use crate::world::World;

/// Longest time that a call of the well zone may take here: far below every timeout.
const QUICK: Duration = Duration::from_secs(2);

async fn is_quick(world: &World, mandate: String) -> bool {
    let began = Instant::now();
    let status = world.get_with(&mandate).await.status;
    status == 200 && began.elapsed() < QUICK
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_whose_decisions_hang_delays_no_other_zone() {
    let world = Arc::new(World::with(|options| options.sts_timeout = 2 * QUICK).await);
    let well = world.second_zone().await;
    world.sts.hanging.lock().insert(world.zone.clone());
    let hanging: Vec<_> = (0..200)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.get("/v1/items").await.status })
        })
        .collect();
    while world.sts.exchanged() < 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for _ in 0..20 {
        assert!(is_quick(&world, world.mandate_of(&well)).await);
    }
    for call in hanging {
        assert_eq!(call.await.unwrap(), 504);
    }
    // The slow zone is left alone for a while, the other one is not.
    assert_eq!(world.get("/v1/items").await.status, 503);
    assert!(is_quick(&world, world.mandate_of(&well)).await);
    assert_eq!(world.counter("sts_circuit_open").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_whose_calls_hang_at_a_shared_upstream_leaves_places_to_others() {
    let world = World::with(|options| {
        options.upstream_concurrency = 8;
        options.upstream_queue_timeout = Duration::from_secs(20);
    });
    let world = Arc::new(world.await);
    let well = world.second_zone().await;
    world.upstream.behaves(Behaviour::Silent);
    let hanging: Vec<_> = (0..40)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.get("/v1/items").await.status })
        })
        .collect();
    while world.upstream.seen.lock().len() < 7 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.upstream.answers(OK);
    for _ in 0..20 {
        assert!(is_quick(&world, world.mandate_of(&well)).await);
    }
    assert!(hanging.iter().all(|call| !call.is_finished()));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_whose_calls_fail_at_a_shared_upstream_pauses_itself_only() {
    let world = World::new().await;
    let well = world.second_zone().await;
    world
        .upstream
        .behaves(Behaviour::AnswerAndClose(b"\0\0\r\n\r\n".to_vec()));
    for _ in 0..5 {
        assert_eq!(world.get("/v1/items").await.status, 502);
    }
    world.upstream.answers(OK);
    let paused = world.get("/v1/items").await;
    assert_eq!(
        (paused.status, paused.code().as_str()),
        (503, "internal_error")
    );
    assert!(is_quick(&world, world.mandate_of(&well)).await);
}
