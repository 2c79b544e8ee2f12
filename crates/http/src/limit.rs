//! Local rate limits.
//!
//! Fixed one-minute (or other) windows per key, in memory: a limiter must not make an outage out of
//! a missing store, and a key that an attacker chooses must not cost memory without bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::{Clock, Timestamp};
use parking_lot::Mutex;

/// Over the limit; try again after this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Timestamp,
    count: u32,
}

/// A fixed-window limiter over bounded keys.
#[derive(Debug)]
pub struct WindowLimiter<K> {
    clock: Arc<dyn Clock>,
    limit: u32,
    window: Duration,
    capacity: usize,
    windows: Mutex<HashMap<K, Window>>,
}

impl<K: Eq + Hash> WindowLimiter<K> {
    /// At most `limit` hits a `window` for each key; 0 switches the limit off. At most `capacity`
    /// keys are remembered: past that, finished windows go first and then the oldest ones.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, limit: u32, window: Duration, capacity: usize) -> Self {
        Self {
            clock,
            limit,
            window,
            capacity: capacity.max(1),
            windows: Mutex::default(),
        }
    }

    /// Counts one hit.
    ///
    /// # Errors
    /// [`RetryAfter`] when this hit is over the limit.
    pub fn check(&self, key: K) -> Result<(), RetryAfter> {
        if self.limit == 0 {
            return Ok(());
        }
        let now = self.clock.now();
        let mut windows = self.windows.lock();
        if windows.len() >= self.capacity && !windows.contains_key(&key) {
            self.make_room(&mut windows, now);
        }
        let entry = windows.entry(key).or_insert(Window {
            began: now,
            count: 0,
        });
        if now.since(entry.began) >= self.window || now < entry.began {
            *entry = Window {
                began: now,
                count: 0,
            };
        }
        entry.count = entry.count.saturating_add(1);
        if entry.count > self.limit {
            Err(RetryAfter(entry.began.plus(self.window).since(now)))
        } else {
            Ok(())
        }
    }

    /// Whether the key is over its limit, without counting a hit.
    pub fn is_exhausted(&self, key: &K) -> Option<RetryAfter> {
        let now = self.clock.now();
        let windows = self.windows.lock();
        let entry = windows.get(key)?;
        let running = now.since(entry.began) < self.window;
        (self.limit > 0 && running && entry.count > self.limit)
            .then(|| RetryAfter(entry.began.plus(self.window).since(now)))
    }

    fn make_room(&self, windows: &mut HashMap<K, Window>, now: Timestamp) {
        windows.retain(|_, window| now.since(window.began) < self.window);
        if windows.len() >= self.capacity {
            let mut begins: Vec<Timestamp> = windows.values().map(|w| w.began).collect();
            let middle = begins.len() / 2;
            let (_, cut, _) = begins.select_nth_unstable(middle);
            let cut = *cut;
            windows.retain(|_, window| window.began > cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::ManualClock;

    fn limiter(limit: u32, capacity: usize) -> (Arc<ManualClock>, WindowLimiter<u32>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000)));
        let limiter = WindowLimiter::new(clock.clone(), limit, Duration::from_secs(60), capacity);
        (clock, limiter)
    }

    #[test]
    fn the_hit_over_the_limit_says_when_to_return() {
        let (clock, limiter) = limiter(2, 10);
        assert_eq!(limiter.check(1), Ok(()));
        assert_eq!(limiter.check(1), Ok(()));
        clock.advance_seconds(20);
        assert_eq!(limiter.check(1), Err(RetryAfter(Duration::from_secs(40))));
        assert_eq!(limiter.check(2), Ok(()));
        clock.advance_seconds(40);
        assert_eq!(limiter.check(1), Ok(()));
    }

    #[test]
    fn zero_switches_the_limit_off() {
        let (_, limiter) = limiter(0, 10);
        assert!((0..1000).all(|_| limiter.check(1).is_ok()));
    }

    #[test]
    fn attacker_chosen_keys_cost_bounded_memory() {
        let (_, limiter) = limiter(1, 100);
        for key in 0..10_000 {
            let _ = limiter.check(key);
        }
        assert!(limiter.windows.lock().len() <= 100);
    }
}
