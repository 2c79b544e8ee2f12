//! The checkpoint key of a deployment that was given none.
//!
//! The first replica makes a seed and stores it; all replicas read the same. The row is in a table
//! that only the Audit role's database role may read, sealed under a key that is derived from
//! `AUDIT_HMAC_KEY`: who reads the database or its backups can't sign without that key, and a producer,
//! who holds that key, can't read the row. The public half is readable by the API.

use std::sync::Arc;

use caracal_core::{Clock, Random, Secret};
use caracal_crypto::kek::KekError;
use caracal_crypto::seal::{SealError, SealLocation};
use caracal_crypto::{HmacKey, Kek, KeyRing};
use caracal_evidence::NoteKey;
use caracal_evidence::note::{BadSeed, NoteError};
use caracal_store::{AuditKey, PlatformLane, Store, StoreError};
use thiserror::Error;

const LABEL: &[u8] = b"caracal-audit-checkpoint-seal/1";
/// The name of the key before it has a zone's.
const NAME: &str = "caracal.audit";
const PLACE: SealLocation<'static> = SealLocation {
    table: "audit_keys",
    column: "sealed",
    row: "checkpoint",
    zone: None,
};

/// Why there is no checkpoint key.
#[derive(Debug, Error)]
pub enum CheckpointKeyError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `AUDIT_HMAC_KEY` is another one than the stored key was sealed under.
    #[error(
        "the stored checkpoint key is sealed under another AUDIT_HMAC_KEY: give that one as \
         AUDIT_HMAC_KEY_PREVIOUS once"
    )]
    Rotated,
    /// The stored key does not open.
    #[error("the stored checkpoint key does not open: {0}")]
    Seal(#[from] SealError),
    /// A key can't be made of `AUDIT_HMAC_KEY`.
    #[error("AUDIT_HMAC_KEY gives no sealing key: {0}")]
    Kek(#[from] KekError),
    /// What was stored is no seed.
    #[error(transparent)]
    Seed(#[from] BadSeed),
    /// The key can't be named.
    #[error(transparent)]
    Name(#[from] NoteError),
}

/// The key that this deployment's checkpoints are signed with, made when there is none.
///
/// After a rotation of `AUDIT_HMAC_KEY` the old one is needed once: the same key is sealed anew.
///
/// # Errors
/// [`CheckpointKeyError`].
pub async fn shared_checkpoint_key(
    store: &Store,
    current: &HmacKey,
    previous: Option<&HmacKey>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<NoteKey, CheckpointKeyError> {
    let ring = KeyRing::new(kek(current)?, previous.map(kek).transpose()?);
    if store.platform().newest_audit_key().await?.is_none() {
        let seed = NoteKey::generate_seed(&**random);
        keep(store, &ring, 1, &seed, clock, random).await?;
    }
    // Another replica may have been first.
    let stored = store.platform().newest_audit_key().await?;
    let stored = stored.ok_or_else(|| StoreError::Unavailable("no audit key".to_owned()))?;
    let opened = match ring.open(&PLACE, &stored.sealed) {
        Err(SealError::UnknownKey) => return Err(CheckpointKeyError::Rotated),
        opened => opened?,
    };
    let seed = <[u8; 32]>::try_from(opened.expose().as_slice()).map_err(|_| BadSeed)?;
    let seed = Secret::new(seed);
    if !ring.is_current(&stored.sealed) {
        keep(store, &ring, stored.version + 1, &seed, clock, random).await?;
    }
    Ok(NoteKey::from_seed(&seed)?)
}

async fn keep(
    store: &Store,
    ring: &KeyRing,
    version: u64,
    seed: &Secret<[u8; 32]>,
    clock: &Arc<dyn Clock>,
    random: &Arc<dyn Random>,
) -> Result<(), CheckpointKeyError> {
    let key = AuditKey {
        version,
        sealed: ring.seal(&PLACE, seed.expose(), &**random)?,
        public_key: NoteKey::from_seed(seed)?.verifier(NAME)?.to_string(),
        created_at: clock.now(),
    };
    let mut unit = store.begin_platform_work(PlatformLane::Evidence).await?;
    unit.insert_audit_key(&key).await?;
    Ok(unit.commit().await?)
}

fn kek(key: &HmacKey) -> Result<Kek, KekError> {
    Kek::from_bytes(Secret::new(key.sign(LABEL)))
}
