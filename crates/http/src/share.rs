//! A bounded pool that one user of it can't take for itself.
//!
//! A key alone may take all places but a small reserve. As soon as another key comes, places are given
//! by *free share*: a key may take another one while it holds fewer than are free, so busy keys end
//! up with equal parts, and whoever comes next finds places. Who must wait, waits in its own key's
//! queue, and the queues are served in turn. A key whose calls hang fills its own share and its own
//! queue, and nobody else's.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::oneshot;

/// The key's queue is full: refuse with 503 and say when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many requests of this zone are waiting")]
pub struct ShareFull;

/// A pool of places, shared fairly between keys.
#[derive(Clone)]
pub struct FairShare<K: Eq + Hash + Clone>(Arc<Pool<K>>);

struct Pool<K> {
    queue: usize,
    state: Mutex<State<K>>,
}

struct State<K> {
    free: usize,
    /// Places that no key takes while it is alone.
    reserve: usize,
    /// Only keys that hold or wait.
    keys: HashMap<K, Key>,
    /// The keys with waiters, in the order in which they are served.
    turns: VecDeque<K>,
}

#[derive(Default)]
struct Key {
    held: usize,
    waiters: VecDeque<oneshot::Sender<()>>,
}

/// A place; dropping it frees it.
pub struct Place<K: Eq + Hash + Clone> {
    pool: Arc<Pool<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> FairShare<K> {
    /// A pool of `places`, at least one, for work that may hang: an eighth stays in reserve. At most
    /// `queue` callers wait for each key.
    #[must_use]
    pub fn new(places: usize, queue: usize) -> Self {
        Self::with_reserve(places, (places / 8).max(1), queue)
    }

    /// A pool of `places`, at least one, for work that always ends soon: a key alone takes them all,
    /// and another one waits for the end of one piece of work, not of all that were asked for before.
    #[must_use]
    pub fn without_reserve(places: usize, queue: usize) -> Self {
        Self::with_reserve(places, 0, queue)
    }

    fn with_reserve(places: usize, reserve: usize, queue: usize) -> Self {
        Self(Arc::new(Pool {
            queue,
            state: Mutex::new(State {
                free: places.max(1),
                reserve,
                keys: HashMap::new(),
                turns: VecDeque::new(),
            }),
        }))
    }

    /// A place for `key`, as soon as its share allows. Bound the wait with a timeout; a caller that
    /// gives up leaves the queue.
    ///
    /// # Errors
    /// [`ShareFull`] when too many of this key wait already.
    pub async fn place(&self, key: &K) -> Result<Place<K>, ShareFull> {
        let Some(turn) = self.enter(key)? else {
            return Ok(self.taken(key));
        };
        let waiting = Leaving {
            pool: &self.0,
            key,
            turn: Some(turn),
        };
        waiting.wait().await?;
        Ok(self.taken(key))
    }

    /// A place for `key` if its share allows one now.
    #[must_use]
    pub fn try_place(&self, key: &K) -> Option<Place<K>> {
        let mut state = self.0.state.lock();
        let taken = state.may_take(key) && !state.waits(key);
        if taken {
            state.take(key);
        }
        drop(state);
        taken.then(|| self.taken(key))
    }

    /// Keys that hold or wait for a place.
    #[must_use]
    pub fn active_keys(&self) -> usize {
        self.0.state.lock().keys.len()
    }

    fn taken(&self, key: &K) -> Place<K> {
        Place {
            pool: Arc::clone(&self.0),
            key: key.clone(),
        }
    }

    /// Takes a place, or a place in the queue.
    fn enter(&self, key: &K) -> Result<Option<oneshot::Receiver<()>>, ShareFull> {
        let mut state = self.0.state.lock();
        if state.may_take(key) && !state.waits(key) {
            state.take(key);
            return Ok(None);
        }
        let entry = state.keys.entry(key.clone()).or_default();
        entry.waiters.retain(|waiter| !waiter.is_closed());
        if entry.waiters.len() >= self.0.queue {
            state.forget_idle(key);
            return Err(ShareFull);
        }
        let (turn, wait) = oneshot::channel();
        entry.waiters.push_back(turn);
        if entry.waiters.len() == 1 && !state.turns.contains(key) {
            state.turns.push_back(key.clone());
        }
        Ok(Some(wait))
    }
}

impl<K: Eq + Hash + Clone> State<K> {
    fn may_take(&self, key: &K) -> bool {
        let held = self.keys.get(key).map_or(0, |entry| entry.held);
        let alone = self.keys.len() == usize::from(self.keys.contains_key(key));
        self.free > 0 && (held < self.free || (alone && self.free > self.reserve))
    }

    fn waits(&self, key: &K) -> bool {
        let waiters = self.keys.get(key).map(|entry| &entry.waiters);
        waiters.is_some_and(|waiters| waiters.iter().any(|waiter| !waiter.is_closed()))
    }

    fn take(&mut self, key: &K) {
        self.free -= 1;
        self.keys.entry(key.clone()).or_default().held += 1;
    }

    fn release(&mut self, key: &K) {
        self.free += 1;
        if let Some(entry) = self.keys.get_mut(key) {
            entry.held = entry.held.saturating_sub(1);
        }
        self.forget_idle(key);
        self.serve();
    }

    /// Gives free places to the queues in turn, as far as their shares allow.
    fn serve(&mut self) {
        let mut skipped = 0;
        while self.free > 0 && skipped < self.turns.len() {
            let Some(key) = self.turns.pop_front() else {
                return;
            };
            if !self.may_take(&key) {
                self.turns.push_back(key);
                skipped += 1;
                continue;
            }
            if self.hand_over(&key) {
                skipped = 0;
            }
            if self.waits(&key) {
                self.turns.push_back(key);
            } else {
                self.forget_idle(&key);
            }
        }
    }

    /// Gives a place to the first waiter of the key that is still there.
    fn hand_over(&mut self, key: &K) -> bool {
        while let Some(waiter) = self
            .keys
            .get_mut(key)
            .and_then(|entry| entry.waiters.pop_front())
        {
            if waiter.send(()).is_ok() {
                self.take(key);
                return true;
            }
        }
        false
    }

    fn forget_idle(&mut self, key: &K) {
        let idle = self
            .keys
            .get(key)
            .is_some_and(|entry| entry.held == 0 && entry.waiters.is_empty());
        if idle {
            self.keys.remove(key);
            self.turns.retain(|turn| turn != key);
        }
    }
}

/// A waiter. When it is dropped before its turn it leaves the queue; when its turn came at that very
/// moment, the place goes on to the next.
struct Leaving<'a, K: Eq + Hash + Clone> {
    pool: &'a Arc<Pool<K>>,
    key: &'a K,
    turn: Option<oneshot::Receiver<()>>,
}

impl<K: Eq + Hash + Clone> Leaving<'_, K> {
    async fn wait(mut self) -> Result<(), ShareFull> {
        let Some(turn) = &mut self.turn else {
            return Err(ShareFull);
        };
        let given = turn.await.is_ok();
        self.turn = None;
        if given { Ok(()) } else { Err(ShareFull) }
    }
}

impl<K: Eq + Hash + Clone> Drop for Leaving<'_, K> {
    fn drop(&mut self) {
        let Some(mut turn) = self.turn.take() else {
            return;
        };
        let mut state = self.pool.state.lock();
        turn.close();
        if turn.try_recv().is_ok() {
            state.release(self.key);
        } else {
            if let Some(entry) = state.keys.get_mut(self.key) {
                entry.waiters.retain(|waiter| !waiter.is_closed());
            }
            state.forget_idle(self.key);
            state.serve();
        }
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        self.pool.state.lock().release(&self.key);
    }
}

impl<K: Eq + Hash + Clone + fmt::Debug> fmt::Debug for Place<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.key).finish()
    }
}

impl<K: Eq + Hash + Clone> fmt::Debug for FairShare<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairShare")
            .field("free", &self.0.state.lock().free)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    fn fill(pool: &FairShare<&'static str>, key: &'static str) -> Vec<Place<&'static str>> {
        std::iter::from_fn(|| pool.try_place(&key)).collect()
    }

    #[test]
    fn a_key_alone_leaves_a_reserve_and_the_next_ones_always_find_places() {
        let pool = FairShare::new(64, 10);
        let first = fill(&pool, "a");
        assert_eq!(first.len(), 56);
        let second = fill(&pool, "b");
        assert_eq!(second.len(), 4);
        assert_eq!(fill(&pool, "c").len(), 2);
    }

    #[test]
    fn busy_keys_end_up_with_equal_parts() {
        let pool = FairShare::new(60, 10);
        let mut early = fill(&pool, "early");
        let mut late = fill(&pool, "late");
        for _ in 0..100 {
            early.pop();
            late.extend(fill(&pool, "late"));
            early.extend(fill(&pool, "early"));
        }
        assert!(early.len().abs_diff(late.len()) <= 1);
        assert!((40..=41).contains(&(early.len() + late.len())));
    }

    #[test]
    fn without_a_reserve_a_key_alone_takes_everything() {
        let pool = FairShare::without_reserve(2, 10);
        let all = fill(&pool, "a");
        assert_eq!(all.len(), 2);
        assert!(pool.try_place(&"b").is_none());
    }

    #[test]
    fn a_pool_of_two_never_goes_to_one_key() {
        let pool = FairShare::new(2, 10);
        let hog = fill(&pool, "hog");
        assert_eq!(hog.len(), 1);
        assert!(pool.try_place(&"other").is_some());
    }

    #[test]
    fn a_pool_of_one_still_works() {
        let pool = FairShare::new(1, 10);
        let held = pool.try_place(&"a");
        assert!(held.is_some());
        assert!(pool.try_place(&"b").is_none());
        drop(held);
        assert!(pool.try_place(&"b").is_some());
    }

    #[tokio::test]
    async fn a_key_whose_calls_hang_makes_nobody_else_wait() {
        let pool = FairShare::new(8, 100);
        let hanging = fill(&pool, "slow");
        let stuck: Vec<_> = (0..50).map(|_| Box::pin(pool.place(&"slow"))).collect();
        let mut stuck = futures_util::future::join_all(stuck);
        assert!((&mut stuck).now_or_never().is_none());
        for _ in 0..1_000 {
            let place = pool.place(&"quick").now_or_never();
            assert!(place.expect("no wait").is_ok());
        }
        drop(hanging);
    }

    #[tokio::test]
    async fn queues_are_served_in_turn() {
        let pool = FairShare::new(1, 100);
        let held = pool.try_place(&"x").unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for key in ["a", "a", "a", "b", "a", "b"] {
            let (pool, order) = (pool.clone(), Arc::clone(&order));
            waiting.push(tokio::spawn(async move {
                let place = pool.place(&key).await.unwrap();
                order.lock().push(key);
                tokio::task::yield_now().await;
                drop(place);
            }));
            tokio::task::yield_now().await;
        }
        drop(held);
        for waiter in waiting {
            waiter.await.unwrap();
        }
        assert_eq!(*order.lock(), ["a", "b", "a", "b", "a", "a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_queue_and_takes_no_place_with_it() {
        let pool = FairShare::new(1, 1);
        let held = pool.try_place(&"a").unwrap();
        let gave_up = tokio::time::timeout(Duration::from_secs(1), pool.place(&"b")).await;
        assert!(gave_up.is_err());
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.place(&"b").await }
        });
        tokio::task::yield_now().await;
        assert_eq!(pool.place(&"b").await.unwrap_err(), ShareFull);
        drop(held);
        let place = waiting.await.unwrap().unwrap();
        drop(place);
        assert_eq!(pool.active_keys(), 0);
        assert!(pool.try_place(&"c").is_some());
    }

    #[tokio::test]
    async fn a_turn_that_comes_as_its_waiter_leaves_goes_on() {
        let pool = FairShare::new(1, 10);
        let held = pool.try_place(&"a").unwrap();
        let mut leaver = Box::pin(pool.place(&"b"));
        assert!((&mut leaver).now_or_never().is_none());
        drop(held);
        drop(leaver);
        assert!(pool.try_place(&"c").is_some());
    }
}
