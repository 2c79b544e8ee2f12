use std::sync::Arc;
use std::time::Duration;

use caracal_core::{ManualClock, Timestamp};

use super::*;
use crate::redis::tests::{PATIENCE, connect};

const MINUTE: Duration = Duration::from_secs(60);

async fn limit(url: &str, clock: &Arc<ManualClock>) -> SharedWindow {
    SharedWindow::new(connect(url).await, clock.clone(), "rl", 10, MINUTE, 100)
}

/// Waits for what the window's own task tells and learns.
async fn until(reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}

fn told(window: &SharedWindow, key: &str) -> u64 {
    let state = window.counts.state.lock();
    state.keys.get(key).map_or(0, |count| count.told)
}

#[tokio::test]
async fn two_processes_hold_one_limit_and_the_next_window_begins_anew() {
    let server = caracal_testbed::Redis::start().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_200)));
    let one = limit(&server.url(), &clock).await;
    let other = limit(&server.url(), &clock).await;
    assert!((0..6).all(|_| one.check("k").is_ok()));
    until(|| told(&one, "k") == 6).await;
    assert!((0..4).all(|_| other.check("k").is_ok()));
    until(|| told(&other, "k") == 10).await;
    clock.advance_seconds(20);
    assert_eq!(other.check("k"), Err(Duration::from_secs(40)));
    assert_eq!(other.check("another"), Ok(()));
    clock.advance_seconds(40);
    assert_eq!(other.check("k"), Ok(()));
}

#[tokio::test]
async fn without_the_server_each_process_holds_the_limit_by_itself() {
    let mut server = caracal_testbed::Redis::start().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_200)));
    let window = limit(&server.url(), &clock).await;
    server.stop(true);
    assert!((0..10).all(|_| window.check("k").is_ok()));
    assert!(window.check("k").is_err());
    server.start_again().unwrap();
    until(|| told(&window, "k") == 11).await;
    assert!(window.check("k").is_err());
}

#[tokio::test]
async fn keys_that_callers_choose_cost_bounded_memory() {
    let server = caracal_testbed::Redis::start().unwrap();
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_200)));
    let window = limit(&server.url(), &clock).await;
    for number in 0..10_000 {
        assert_eq!(window.check(&number.to_string()), Ok(()));
    }
    assert!(window.counts.state.lock().keys.len() <= 100);
}
