//! The zones' signing keys.
//!
//! A key is published before it signs, because verifiers keep a key set for minutes and do not fetch
//! it again for an unknown `kid`; and it stays published until the last token that it can have signed
//! has expired. Opened private keys, verifying sets and documents are kept, and each use compares
//! them with the rows of the request's own view, so nothing stale is ever served.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use caracal_core::id::{KeyId, ZoneId};
use caracal_core::{Clock, Random, Timestamp};
use caracal_crypto::zone_key::VerifyingKey;
use caracal_crypto::{KeyRing, KeySet, SealLocation, SigningKey};
use caracal_roles::{KeySource, KeysUnavailable};
use caracal_store::entity::SigningKeyRow;
use caracal_store::{StoreError, ZoneUnit, ZoneView};
use moka::sync::Cache;
use thiserror::Error;

use crate::Sts;
use crate::error::Refusal;
use crate::lifetime::CLIENT_CAP_SECONDS;
use crate::measure::Measures;
use crate::subject::LEEWAY_SECONDS;

/// How long a key is published before it signs: twice the longest time that a published verifier
/// keeps a key set without asking again, seconds.
pub const PUBLISH_AHEAD_SECONDS: i64 = 600;

/// How long after its last signature a key stays published: the longest life of a token and the
/// leeway that verifiers allow, seconds.
pub const PUBLISH_AFTER_SECONDS: i64 = CLIENT_CAP_SECONDS + LEEWAY_SECONDS;

/// Most keys of a zone that are published at a time; verifiers read a few dozen.
const MAX_PUBLISHED: usize = 16;

/// Opened private keys, and zones whose sets are kept.
const REMEMBERED: u64 = 8_192;

/// Where a private key is sealed.
fn seal_location<'a>(kid: &'a KeyId, zone: &'a ZoneId) -> SealLocation<'a> {
    SealLocation {
        table: "signing_keys",
        column: "sealed",
        row: kid.as_str(),
        zone: Some(zone),
    }
}

/// Why a key was not created.
#[derive(Debug, Clone, Error)]
pub enum KeyCreationError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cryptographic module can't make, export or seal a key.
    #[error("the signing key cannot be made: {0}")]
    Module(String),
    /// So many keys are published that verifiers might not read another one.
    #[error("the zone has {0} published keys; rotate again when some have retired")]
    TooManyKeys(usize),
}

/// Creates a zone's first key, which signs at once. Call it in the transaction that creates the zone.
///
/// # Errors
/// [`KeyCreationError`] when the key can't be made or stored; the zone must not be created then.
pub async fn create_zone_key(
    unit: &mut ZoneUnit,
    ring: &KeyRing,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<KeyId, KeyCreationError> {
    let now = clock.now();
    let row = new_key(unit.zone_id(), ring, clock, random, now, now)?;
    unit.insert_signing_key(&row).await?;
    Ok(row.id)
}

/// Creates a zone's next key: published now, signing after [`PUBLISH_AHEAD_SECONDS`]. The keys before
/// it get the end of their publication.
///
/// # Errors
/// [`KeyCreationError`] when the key can't be made or stored, or too many are published.
pub async fn rotate_zone_key(
    unit: &mut ZoneUnit,
    ring: &KeyRing,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<KeyId, KeyCreationError> {
    let now = clock.now();
    let signs_from = now.plus_seconds(PUBLISH_AHEAD_SECONDS);
    let known = unit.list_signing_keys().await?;
    if known.iter().filter(|key| key.is_published(now)).count() >= MAX_PUBLISHED {
        return Err(KeyCreationError::TooManyKeys(MAX_PUBLISHED));
    }
    let row = new_key(unit.zone_id(), ring, clock, random, now, signs_from)?;
    let retires_at = signs_from.plus_seconds(PUBLISH_AFTER_SECONDS);
    for key in known.iter().filter(|key| key.retires_at.is_none()) {
        unit.retire_signing_key(&key.id, retires_at).await?;
    }
    unit.insert_signing_key(&row).await?;
    Ok(row.id)
}

fn new_key(
    zone: &ZoneId,
    ring: &KeyRing,
    clock: &dyn Clock,
    random: &dyn Random,
    now: Timestamp,
    signs_from: Timestamp,
) -> Result<SigningKeyRow, KeyCreationError> {
    let failed = |error: &dyn std::error::Error| KeyCreationError::Module(error.to_string());
    let id = KeyId::generate(clock, random);
    let key = SigningKey::generate(id.clone()).map_err(|error| failed(&error))?;
    let pkcs8 = key.to_pkcs8().map_err(|error| failed(&error))?;
    let sealed = ring
        .seal(&seal_location(&id, zone), pkcs8.expose(), random)
        .map_err(|error| failed(&error))?;
    let public = key.verifying_key();
    Ok(SigningKeyRow {
        zone_id: zone.clone(),
        sealed,
        x: public.x(),
        y: public.y(),
        created_at: now,
        signs_from,
        retires_at: None,
        id,
    })
}

/// The public half of a zone's keys at one instant.
#[derive(Debug)]
pub(crate) struct ZoneKeys {
    kids: Vec<KeyId>,
    set: Arc<KeySet>,
    document: Bytes,
}

impl ZoneKeys {
    /// The keys that live mandates may carry.
    pub(crate) fn set(&self) -> &KeySet {
        &self.set
    }

    /// The JWKS document, active key first.
    pub(crate) fn document(&self) -> Bytes {
        self.document.clone()
    }

    fn of(rows: &[&SigningKeyRow], measures: &Measures) -> Self {
        let readable = rows.iter().filter_map(|row| {
            let key = VerifyingKey::from_coordinates(row.id.clone(), &row.x, &row.y);
            if key.is_err() {
                measures.unreadable_key();
                tracing::error!(kid = %row.id, zone = %row.zone_id, "unreadable public key skipped");
            }
            key.ok()
        });
        let set: KeySet = readable.collect();
        let document = Bytes::from(set.to_jwks_json());
        let kids = rows.iter().map(|row| row.id.clone()).collect();
        Self {
            kids,
            set: Arc::new(set),
            document,
        }
    }
}

/// What is kept of the zones' keys.
#[derive(Debug)]
pub(crate) struct Keys {
    ring: Arc<KeyRing>,
    measures: Arc<Measures>,
    public: Cache<ZoneId, Arc<ZoneKeys>>,
    private: Cache<KeyId, Arc<SigningKey>>,
}

impl Keys {
    pub(crate) fn new(ring: Arc<KeyRing>, measures: Arc<Measures>) -> Self {
        Self {
            ring,
            measures,
            public: Cache::new(REMEMBERED),
            private: Cache::new(REMEMBERED),
        }
    }

    /// The published keys of the view's zone.
    pub(crate) async fn of_view(
        &self,
        view: &ZoneView,
        now: Timestamp,
    ) -> Result<Arc<ZoneKeys>, Refusal> {
        let rows = view.signing_keys().await?;
        let mut published: Vec<&SigningKeyRow> =
            rows.iter().filter(|row| row.is_published(now)).collect();
        published.sort_by_key(|row| (row.signs_from > now, std::cmp::Reverse(row.signs_from)));
        if let Some(known) = self.public.get(view.zone_id())
            && known.kids.iter().eq(published.iter().map(|row| &row.id))
        {
            return Ok(known);
        }
        let keys = Arc::new(ZoneKeys::of(&published, &self.measures));
        self.public
            .insert(view.zone_id().clone(), Arc::clone(&keys));
        Ok(keys)
    }

    /// The key that signs now: of those whose time has come, the latest.
    pub(crate) async fn signing(
        &self,
        view: &ZoneView,
        now: Timestamp,
    ) -> Result<Arc<SigningKey>, Refusal> {
        let rows = view.signing_keys().await?;
        let active = rows
            .iter()
            .filter(|row| row.signs_from <= now && row.is_published(now))
            .max_by_key(|row| row.signs_from)
            .ok_or_else(|| Refusal::unavailable("the zone has no signing key"))?;
        if let Some(key) = self.private.get(&active.id) {
            return Ok(key);
        }
        let key = Arc::new(self.open(active)?);
        self.private.insert(active.id.clone(), Arc::clone(&key));
        Ok(key)
    }

    fn open(&self, row: &SigningKeyRow) -> Result<SigningKey, Refusal> {
        let unusable = |error: &dyn std::error::Error| {
            Refusal::unavailable(format!("signing key {} does not open: {error}", row.id))
        };
        let pkcs8 = self
            .ring
            .open(&seal_location(&row.id, &row.zone_id), &row.sealed)
            .map_err(|error| unusable(&error))?;
        SigningKey::from_pkcs8(row.id.clone(), &pkcs8).map_err(|error| unusable(&error))
    }
}

impl Sts {
    /// The published keys of a zone, read through a view taken now; `None` for a zone that does not
    /// exist, or that was archived so long ago that no token of it can be alive.
    pub(crate) async fn published_keys(
        &self,
        zone: &ZoneId,
    ) -> Result<Option<Arc<ZoneKeys>>, Refusal> {
        let view = self.authority.fresh(zone).await?;
        let now = self.clock.now();
        let known = view.zone().await?.is_some_and(|zone| {
            zone.archived_at
                .is_none_or(|end| end.plus_seconds(PUBLISH_AFTER_SECONDS) > now)
        });
        if !known {
            return Ok(None);
        }
        self.keys.of_view(&view, now).await.map(Some)
    }
}

#[async_trait]
impl KeySource for Sts {
    async fn verifying_keys(&self, zone: &ZoneId) -> Result<Option<Arc<KeySet>>, KeysUnavailable> {
        match self.published_keys(zone).await {
            Ok(keys) => Ok(keys.map(|keys| Arc::clone(&keys.set))),
            Err(refusal) => {
                let cause = refusal
                    .cause()
                    .map_or_else(|| refusal.to_string(), str::to_owned);
                Err(KeysUnavailable(cause))
            }
        }
    }
}
