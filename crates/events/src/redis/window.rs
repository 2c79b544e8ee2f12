//! A rate limit that the replicas of a role share, without a round trip for each hit.
//!
//! Each process counts in memory and decides at once on what it knows: its own hits and, up to a tenth
//! of a second old, those of the others. A background task adds what is new to a counter in Redis and
//! takes home the total. So a limit may be passed by what the others do in a tenth of a second. While
//! Redis is down each process holds the limit by itself: a limiter must not make an outage of its own.
//!
//! Windows are aligned to the clock, so that all processes mean the same one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::Clock;
use fred::interfaces::LuaInterface;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::connection::Redis;

/// Pause between two exchanges with Redis.
const PAUSE: Duration = Duration::from_millis(100);

/// The most counters that one exchange takes; the others wait for the next.
const AT_ONCE: usize = 1_000;

/// Adds to a counter that ends with its window, and answers the total.
const ADD: &str = "local total = redis.call('INCRBY', KEYS[1], ARGV[1]) \
    redis.call('PEXPIRE', KEYS[1], ARGV[2]) return total";

/// Counts hits per key over all processes.
#[derive(Debug)]
pub struct SharedWindow {
    counts: Arc<Counts>,
    _exchange: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Counts {
    clock: Arc<dyn Clock>,
    /// Begins every key in Redis.
    prefix: &'static str,
    limit: u32,
    window: Duration,
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Which window the counts are of.
    window: i64,
    keys: HashMap<Box<str>, Count>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// Hits that Redis knows of, of all processes.
    told: u64,
    /// Hits of this process that it does not know of yet.
    new: u64,
}

impl SharedWindow {
    /// At most `limit` hits a `window` for each key over all processes that use the same `prefix`;
    /// 0 switches the limit off. At most `capacity` keys are counted at a time; past that, keys that
    /// are not counted yet pass. Must be made inside a Tokio runtime.
    #[must_use]
    pub fn new(
        redis: Redis,
        clock: Arc<dyn Clock>,
        prefix: &'static str,
        limit: u32,
        window: Duration,
        capacity: usize,
    ) -> Self {
        let counts = Arc::new(Counts {
            clock,
            prefix,
            limit,
            window: window.max(Duration::from_secs(1)),
            capacity,
            state: Mutex::default(),
        });
        let exchanged = Arc::clone(&counts);
        let exchange = tokio::spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                exchanged.exchange(&redis).await;
            }
        });
        Self {
            counts,
            _exchange: AbortOnDropHandle::new(exchange),
        }
    }

    /// Counts one hit.
    ///
    /// # Errors
    /// The time until the next window when this hit is over the limit.
    pub fn check(&self, key: &str) -> Result<(), Duration> {
        self.counts.check(key)
    }
}

impl Counts {
    fn check(&self, key: &str) -> Result<(), Duration> {
        if self.limit == 0 {
            return Ok(());
        }
        let (window, left) = self.now();
        let mut state = self.state.lock();
        state.turn_to(window);
        if state.keys.len() >= self.capacity && !state.keys.contains_key(key) {
            return Ok(());
        }
        let count = state.keys.entry(key.into()).or_default();
        count.new = count.new.saturating_add(1);
        if count.told.saturating_add(count.new) > u64::from(self.limit) {
            Err(left)
        } else {
            Ok(())
        }
    }

    /// The number of the present window and how long it lasts.
    fn now(&self) -> (i64, Duration) {
        let length = i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX);
        let now = self.clock.now().micros();
        let left = length - now.rem_euclid(length);
        let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
        (now.div_euclid(length), left)
    }

    /// Tells Redis what is new and learns the totals. What could not be told stays new.
    async fn exchange(&self, redis: &Redis) {
        let (window, left) = self.now();
        let keep = (left + self.window).as_millis().to_string();
        let news = self.news(window);
        let told = join_all(news.iter().map(|(key, new)| {
            let name = format!("{}:{key}:{window}", self.prefix);
            let arguments = vec![new.to_string(), keep.clone()];
            redis.run(redis.commands().eval::<u64, _, _, _>(ADD, name, arguments))
        }))
        .await;
        let mut state = self.state.lock();
        if state.window != window {
            return;
        }
        for ((key, new), total) in news.iter().zip(told) {
            if let (Ok(total), Some(count)) = (total, state.keys.get_mut(key)) {
                count.told = total;
                count.new -= (*new).min(count.new);
            }
        }
    }

    fn news(&self, window: i64) -> Vec<(Box<str>, u64)> {
        let mut state = self.state.lock();
        state.turn_to(window);
        let fresh = state.keys.iter().filter(|(_, count)| count.new > 0);
        fresh
            .take(AT_ONCE)
            .map(|(key, count)| (key.clone(), count.new))
            .collect()
    }
}

impl State {
    fn turn_to(&mut self, window: i64) {
        if self.window != window {
            self.window = window;
            self.keys.clear();
        }
    }
}

#[cfg(test)]
#[path = "tests/window.rs"]
mod tests;
