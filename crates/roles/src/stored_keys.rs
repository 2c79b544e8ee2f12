//! The verifying keys of a process that has no STS in it: the public halves in the shared store.
//!
//! A key set proves who made a token and nothing else; whether its authority stands is judged on the
//! zone's fresh state after it. So a set may be a few seconds old: a key is published ten minutes
//! before it signs, and leaves only when no live token can carry it. A zone that is not known yet is
//! read at once, so the first key of a new zone, which signs from the start, is never missed.

use std::sync::Arc;

use async_trait::async_trait;
use caracal_core::id::ZoneId;
use caracal_core::{Clock, Timestamp};
use caracal_crypto::KeySet;
use caracal_crypto::zone_key::VerifyingKey;
use caracal_store::{Authority, ZoneView};
use moka::sync::Cache;

use crate::{KeySource, KeysUnavailable};

/// Zones whose sets are kept.
const REMEMBERED: u64 = 4_096;

/// How old a set may be, seconds.
const FRESH_SECONDS: i64 = 5;

/// How long an archived zone's last tokens may live, seconds: its keys stay readable so long.
const LONGEST_TOKEN_SECONDS: i64 = 3_600 + 60;

/// Verifying keys read through the shared store. Reads public columns only.
pub struct StoredKeys {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    held: Cache<ZoneId, Held>,
}

#[derive(Clone)]
struct Held {
    keys: Arc<KeySet>,
    read_at: Timestamp,
}

impl StoredKeys {
    /// Reads through `authority`.
    #[must_use]
    pub fn new(authority: Arc<Authority>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            authority,
            clock,
            held: Cache::new(REMEMBERED),
        })
    }

    fn held(&self, zone: &ZoneId, now: Timestamp) -> Option<Arc<KeySet>> {
        let held = self.held.get(zone)?;
        // A clock that stepped back makes nothing fresh.
        let age = now.seconds().checked_sub(held.read_at.seconds())?;
        (0..FRESH_SECONDS).contains(&age).then_some(held.keys)
    }

    async fn read(&self, zone: &ZoneId) -> Result<Option<Arc<KeySet>>, KeysUnavailable> {
        let unavailable = |error: caracal_store::Unavailable| KeysUnavailable(error.to_string());
        let read_at = self.clock.now();
        let view = self.authority.fresh(zone).await.map_err(unavailable)?;
        if !verifies(&view, read_at).await.map_err(unavailable)? {
            self.held.invalidate(zone);
            return Ok(None);
        }
        let rows = view.signing_keys().await.map_err(unavailable)?;
        let published = rows.iter().filter(|row| row.is_published(read_at));
        let readable = published.filter_map(|row| {
            let key = VerifyingKey::from_coordinates(row.id.clone(), &row.x, &row.y);
            if key.is_err() {
                tracing::error!(kid = %row.id, %zone, "unreadable public key skipped");
            }
            key.ok()
        });
        let keys: Arc<KeySet> = Arc::new(readable.collect());
        if keys.is_empty() {
            return Err(KeysUnavailable("the zone has no usable key".to_owned()));
        }
        let held = Held {
            keys: Arc::clone(&keys),
            read_at,
        };
        self.held.insert(zone.clone(), held);
        Ok(Some(keys))
    }
}

/// Whether the zone exists, or was archived so lately that a token of it may be alive.
async fn verifies(view: &ZoneView, now: Timestamp) -> Result<bool, caracal_store::Unavailable> {
    let zone = view.zone().await?;
    Ok(zone.is_some_and(|zone| {
        zone.archived_at
            .is_none_or(|end| end.plus_seconds(LONGEST_TOKEN_SECONDS) > now)
    }))
}

#[async_trait]
impl KeySource for StoredKeys {
    async fn verifying_keys(&self, zone: &ZoneId) -> Result<Option<Arc<KeySet>>, KeysUnavailable> {
        match self.held(zone, self.clock.now()) {
            Some(keys) => Ok(Some(keys)),
            None => self.read(zone).await,
        }
    }
}

#[cfg(test)]
mod tests;
