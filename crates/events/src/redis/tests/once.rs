use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caracal_core::id::{MandateId, ZoneId};
use caracal_core::{Clock as _, SystemClock, SystemRandom};
use caracal_testbed::RedisOptions as ServerOptions;

use super::{connect, recovered, say};
use crate::redis::{Once, OnceGate, Redis, RedisError, RedisMarks};

const LIFE: Duration = Duration::from_secs(900);

static NEXT: AtomicU64 = AtomicU64::new(0);

/// An id and when it was made.
fn made_now() -> (String, u64) {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = u64::try_from(SystemClock.now().millis()).unwrap();
    (format!("id-{number}"), now)
}

async fn pass(gate: &OnceGate, (id, made): &(String, u64)) -> Result<Once, RedisError> {
    gate.pass(id, *made, LIFE).await
}

/// A gate whose server's memory is no longer new.
async fn grown(redis: &Redis) -> OnceGate {
    let gate = OnceGate::on_one_host(redis.clone(), "seen");
    grow(&gate).await;
    gate
}

async fn grow(gate: &OnceGate) {
    let young = gate.check().await.unwrap();
    tokio::time::sleep(young + Duration::from_millis(5)).await;
    assert_eq!(gate.check().await.unwrap(), Duration::ZERO);
}

#[tokio::test]
async fn of_two_uses_over_two_connections_one_is_the_first() {
    let server = caracal_testbed::Redis::start().unwrap();
    let one = grown(&connect(&server.url()).await).await;
    let other = grown(&connect(&server.url()).await).await;
    for _ in 0..50 {
        let id = made_now();
        let (left, right) = tokio::join!(pass(&one, &id), pass(&other, &id));
        let mut uses = [left.unwrap(), right.unwrap()];
        uses.sort_by_key(|once| *once != Once::First);
        assert_eq!(uses, [Once::First, Once::Again]);
    }
}

#[tokio::test]
async fn a_new_memory_accepts_nothing_until_it_is_old_enough() {
    let server = caracal_testbed::Redis::start().unwrap();
    let gate = OnceGate::on_one_host(connect(&server.url()).await, "seen");
    let early = made_now();
    assert_eq!(pass(&gate, &early).await.unwrap(), Once::Predates);
    grow(&gate).await;
    assert_eq!(pass(&gate, &early).await.unwrap(), Once::Predates);
    assert_eq!(pass(&gate, &made_now()).await.unwrap(), Once::First);
}

#[tokio::test]
async fn a_restart_with_its_data_may_have_lost_marks_so_nothing_older_passes() {
    let mut server = caracal_testbed::Redis::start().unwrap();
    let redis = connect(&server.url()).await;
    let gate = grown(&redis).await;
    let (used, unused) = (made_now(), made_now());
    assert_eq!(pass(&gate, &used).await.unwrap(), Once::First);
    server.stop(false);
    server.start_again().unwrap();
    recovered(&redis).await;
    for id in [&used, &unused] {
        assert_eq!(pass(&gate, id).await.unwrap(), Once::Predates);
    }
    grow(&gate).await;
    assert_eq!(pass(&gate, &used).await.unwrap(), Once::Predates);
    assert_eq!(pass(&gate, &made_now()).await.unwrap(), Once::First);
}

#[tokio::test]
async fn a_server_that_comes_back_empty_accepts_nothing_older() {
    let mut server = caracal_testbed::Redis::start().unwrap();
    let redis = connect(&server.url()).await;
    let gate = grown(&redis).await;
    let used = made_now();
    pass(&gate, &used).await.unwrap();
    server.stop(true);
    server.forget().unwrap();
    server.start_again().unwrap();
    recovered(&redis).await;
    assert_eq!(pass(&gate, &used).await.unwrap(), Once::Predates);
}

#[tokio::test]
async fn a_flushed_server_accepts_nothing_older() {
    let server = caracal_testbed::Redis::start().unwrap();
    let gate = grown(&connect(&server.url()).await).await;
    let used = made_now();
    pass(&gate, &used).await.unwrap();
    assert_eq!(say(server.port(), "FLUSHALL"), "+OK");
    assert_eq!(pass(&gate, &used).await.unwrap(), Once::Predates);
}

#[tokio::test]
async fn a_promoted_replica_and_a_promoted_former_primary_accept_nothing_older() {
    let first = caracal_testbed::Redis::start().unwrap();
    let gate = grown(&connect(&first.url()).await).await;
    let used = made_now();
    pass(&gate, &used).await.unwrap();
    // The role is lost and regained on the same process, over the same connection.
    let second = caracal_testbed::Redis::start().unwrap();
    say(
        first.port(),
        &format!("REPLICAOF 127.0.0.1 {}", second.port()),
    );
    let refused = pass(&gate, &made_now()).await.unwrap_err();
    assert!(refused.is_outage(), "{refused}");
    say(first.port(), "REPLICAOF NO ONE");
    let gate = OnceGate::on_one_host(connect(&first.url()).await, "seen");
    assert_eq!(pass(&gate, &used).await.unwrap(), Once::Predates);
    grow(&gate).await;
    assert_eq!(pass(&gate, &made_now()).await.unwrap(), Once::First);
}

#[tokio::test]
async fn an_id_from_the_future_does_not_pass() {
    let server = caracal_testbed::Redis::start().unwrap();
    let gate = grown(&connect(&server.url()).await).await;
    let (id, now) = made_now();
    assert_eq!(
        gate.pass(&id, now + 5_000, LIFE).await.unwrap(),
        Once::Predates
    );
    assert_eq!(gate.pass(&id, now, LIFE).await.unwrap(), Once::First);
}

#[tokio::test]
async fn the_memory_stays_whole_for_a_process_that_starts_later() {
    let server = caracal_testbed::Redis::start().unwrap();
    grown(&connect(&server.url()).await).await;
    let made = made_now();
    let later = OnceGate::on_one_host(connect(&server.url()).await, "seen");
    assert_eq!(pass(&later, &made).await.unwrap(), Once::First);
}

#[tokio::test]
async fn a_full_server_refuses_instead_of_forgetting() {
    let options = ServerOptions {
        arguments: vec!["--maxmemory".to_owned(), "3mb".to_owned()],
        ..ServerOptions::default()
    };
    let server = caracal_testbed::Redis::start_with(options).unwrap();
    let gate = grown(&connect(&server.url()).await).await;
    say(server.port(), "SET ballast x");
    say(server.port(), "CONFIG SET maxmemory 1");
    let refused = pass(&gate, &made_now()).await.unwrap_err();
    assert!(refused.is_outage(), "{refused}");
}

#[tokio::test]
async fn in_a_cluster_ids_are_spread_and_each_passes_once() {
    let server = super::connection::cluster();
    let redis = connect(&super::connection::cluster_url(&server)).await;
    let gate = grown(&redis).await;
    for _ in 0..64 {
        let id = made_now();
        assert_eq!(pass(&gate, &id).await.unwrap(), Once::First);
        assert_eq!(pass(&gate, &id).await.unwrap(), Once::Again);
    }
}

#[tokio::test]
async fn an_undated_mandate_is_not_accepted_and_a_new_server_says_how_long_it_refuses() {
    let server = caracal_testbed::Redis::start().unwrap();
    let marks = RedisMarks::new(connect(&server.url()).await);
    let now = SystemClock.now();
    let zone = ZoneId::parse("zone-9").unwrap();
    let undated = MandateId::parse("jti-1").unwrap();
    let dated = MandateId::generate(&SystemClock, &SystemRandom);
    for jti in [undated, dated] {
        let mark = marks.mark(&zone, &jti, now.plus_seconds(900), now).await;
        assert_eq!(mark.unwrap(), Once::Predates);
    }
    let young = marks.check().await.unwrap().unwrap();
    assert!(
        young <= crate::redis::once::YOUTH + crate::redis::marks::UNTIL_NONCES_PASS
            && young > Duration::from_secs(2)
    );
}
