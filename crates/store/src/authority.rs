//! The in-memory view of a zone's authority that is provably no older than the moment it was asked
//! for.
//!
//! # How it works
//!
//! A [`ZoneView`] is made by [`Authority::fresh`], the barrier: it reads the zone's position in the
//! change feed and brings the zone's cache up to it. The view's reads then take what the cache holds
//! or read through to the store.
//!
//! # Why a read is never older than the barrier
//!
//! Let a commit `C` have returned before `fresh` was called, and let it have changed fact `k`. The
//! feed published `C` before the commit returned, so the position `S` that `fresh` reads covers `C`,
//! and the cache is brought to at least `S`: everything changed up to its new position, `k` included,
//! is evicted. Hence:
//!
//! 1. *A hit* returns an entry that is in the cache after `k` was evicted, so it was put there later.
//!    An entry is put there only by a read-through that began when the cache stood at a position
//!    `T`, and only if the cache still stands at `T` (checked under the cache's lock, which also
//!    guards every eviction). If `T` covers `C`, the read began after `C` was published, which is
//!    after `C` was committed, so it saw `C`. If `T` does not cover `C`, the cache stood before `C`
//!    when the entry was put there, so bringing the cache past `C` evicted it: a contradiction.
//! 2. *A miss* reads the store after `fresh` was called, so after `C` was committed.
//!
//! Nothing else is needed: not an order between commits and reads, nor a clock. Absence is never
//! cached, so that a creation has nothing to tell.
//!
//! Counters in rows (`child_count`, `budget_used`) and lease renewals are not changes; they only
//! matter to the writer, who reads them in its own transaction, except that a lapsed lease may have
//! been renewed since it was cached: a cached service past its deadline is read again.

mod cache;
mod view;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use caracal_core::id::ZoneId;
use parking_lot::RwLock;
use thiserror::Error;
use tokio::sync::{Mutex, watch};

use crate::change::{ChangeFeed, Changes};
use crate::error::StoreError;
use crate::store::Store;

use cache::ZoneCache;
pub use view::ZoneView;

/// The store could not be asked, or holds something impossible. Never a verdict: answer 503.
#[derive(Debug, Clone, Error)]
#[error("the zone's authority can't be read: {0}")]
pub struct Unavailable(#[from] pub StoreError);

/// Bounds of the view's memory.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityLimits {
    /// How many zones have a cache.
    pub zones: usize,
    /// How many entries of each kind a zone's cache holds.
    pub entries: usize,
}

impl Default for AuthorityLimits {
    fn default() -> Self {
        Self {
            zones: 1024,
            entries: 16_384,
        }
    }
}

/// How many reads of different facts may go through to the store at once.
const LANES: usize = 64;

/// The in-memory view of all zones.
#[derive(Debug)]
pub struct Authority {
    store: Store,
    feed: Arc<dyn ChangeFeed>,
    limits: AuthorityLimits,
    zones: RwLock<HashMap<ZoneId, Arc<ZoneCache>>>,
    /// Misses of one fact queue here, so that the first one's read serves them all.
    lanes: Vec<Mutex<()>>,
}

impl Authority {
    /// A view over `store`.
    #[must_use]
    pub fn new(store: Store, limits: AuthorityLimits) -> Arc<Self> {
        let feed = store.changes();
        Arc::new(Self {
            store,
            feed,
            limits,
            zones: RwLock::new(HashMap::new()),
            lanes: (0..LANES).map(|_| Mutex::new(())).collect(),
        })
    }

    /// The barrier: a view of the zone that covers every commit acknowledged before the call.
    ///
    /// # Errors
    /// [`Unavailable`] when the change feed can't be read.
    pub async fn fresh(self: &Arc<Self>, zone: &ZoneId) -> Result<ZoneView, Unavailable> {
        let seq = self.feed.current(zone).await?;
        let cache = self.cache(zone, seq);
        catch_up(&*self.feed, zone, &cache, seq).await?;
        Ok(ZoneView::new(Arc::clone(self), zone.clone(), cache, seq))
    }

    /// Fires on every change of the zone; what changed must then be asked for through
    /// [`Authority::fresh`].
    #[must_use]
    pub fn watch(&self, zone: &ZoneId) -> watch::Receiver<u64> {
        self.feed.watch(zone)
    }

    /// The store behind the view, for what is not cached.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The zone's cache. A new one is empty, so it stands wherever the feed stood before it was made;
    /// it becomes the zone's when the first fact is put in, so that asking for zones that don't exist
    /// takes no memory.
    fn cache(&self, zone: &ZoneId, seq: u64) -> Arc<ZoneCache> {
        match self.zones.read().get(zone) {
            Some(cache) => Arc::clone(cache),
            None => Arc::new(ZoneCache::new(seq, self.limits.entries)),
        }
    }

    /// Makes `cache` the zone's, unless it has one.
    fn adopt(&self, zone: &ZoneId, cache: &Arc<ZoneCache>) {
        if self.zones.read().contains_key(zone) {
            return;
        }
        let mut zones = self.zones.write();
        if zones.len() >= self.limits.zones
            && let Some(other) = zones.keys().next().cloned()
        {
            zones.remove(&other);
        }
        zones
            .entry(zone.clone())
            .or_insert_with(|| Arc::clone(cache));
    }
}

/// Brings a zone's cache to the position `seq` at least.
async fn catch_up(
    feed: &dyn ChangeFeed,
    zone: &ZoneId,
    cache: &ZoneCache,
    seq: u64,
) -> Result<(), StoreError> {
    let from = cache.position();
    if from >= seq {
        return Ok(());
    }
    match feed.since(zone, from).await? {
        Changes::Complete { upto, changes } => cache.apply(upto, &changes),
        Changes::Gap { upto } => cache.forget(upto),
    }
    if cache.position() < seq {
        return Err(StoreError::Unavailable(
            "the change log has not reached its own position".to_owned(),
        ));
    }
    Ok(())
}
