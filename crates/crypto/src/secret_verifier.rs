//! Verifying presented secrets without letting anybody burn the processor.
//!
//! A keyed hash is compared at once. Argon2id runs on blocking threads, at most `concurrency` at a
//! time, once per (stored text, presented secret) for a while: outcomes are remembered under a keyed
//! digest of both, so a rotated secret never meets an old outcome, and the memory of the process
//! holds nothing that could be tried elsewhere. Callers with the same secret share one derivation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use caracal_core::random::bytes;
use caracal_core::{Clock, Random, Secret, Timestamp};
use moka::sync::Cache;
use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};

use crate::client_secret::{Peppers, has_usable_length, is_slow, verify_slow};
use crate::hmac_key::HmacKey;

/// How long an outcome is remembered, in seconds.
pub const REMEMBER_SECONDS: i64 = 300;
/// How many outcomes of each kind are remembered.
const REMEMBERED: u64 = 8_192;
/// How many callers may wait for a derivation.
const MAX_WAITING: usize = 1_024;
/// How many locks the callers with the same secret are spread over.
const LANES: usize = 64;

/// The verifier cannot decide now: a dependency failure, never a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many secrets are being verified: try again later")]
pub struct VerifierBusy;

/// Verifies presented secrets against their stored form. Cheap to clone.
#[derive(Clone)]
pub struct SecretVerifier(Arc<Inner>);

struct Inner {
    concurrency: usize,
    peppers: Peppers,
    clock: Arc<dyn Clock>,
    cache_key: HmacKey,
    accepted: Cache<[u8; 32], Timestamp>,
    refused: Cache<[u8; 32], Timestamp>,
    lanes: [Mutex<()>; LANES],
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl SecretVerifier {
    /// A verifier that runs at most `concurrency` derivations (`STS_SECRET_VERIFY_CONCURRENCY`) at a
    /// time, 64 MiB each; 0 counts as 1.
    #[must_use]
    pub fn new(
        peppers: Peppers,
        concurrency: usize,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Self {
        let cache_key = Secret::new(bytes::<32>(random));
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self(Arc::new(Inner {
            concurrency,
            peppers,
            clock,
            cache_key: HmacKey::from_secret_bytes(cache_key.expose()),
            accepted: Cache::new(REMEMBERED),
            refused: Cache::new(REMEMBERED),
            lanes: std::array::from_fn(|_| Mutex::new(())),
            slots: Arc::new(Semaphore::new(concurrency)),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// The peppers, for hashing.
    #[must_use]
    pub fn peppers(&self) -> &Peppers {
        &self.0.peppers
    }

    /// How many derivations run at a time.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.0.concurrency
    }

    /// Whether [`SecretVerifier::verify`] would have to derive now, so that callers can queue for it
    /// in an order of their own.
    #[must_use]
    pub fn must_derive(&self, stored: &str, presented: &Secret<String>) -> bool {
        has_usable_length(presented)
            && is_slow(stored)
            && self
                .0
                .remembered(&self.0.digest(stored, presented))
                .is_none()
    }

    /// Whether `presented` is the secret that `stored` was made from.
    ///
    /// # Errors
    /// [`VerifierBusy`] when too many callers wait for a derivation: answer 503, not 401.
    pub async fn verify(
        &self,
        stored: &str,
        presented: &Secret<String>,
    ) -> Result<bool, VerifierBusy> {
        if !has_usable_length(presented) {
            return Ok(false);
        }
        if !is_slow(stored) {
            return Ok(self.0.peppers.verify_keyed(stored, presented));
        }
        let digest = self.0.digest(stored, presented);
        if let Some(outcome) = self.0.remembered(&digest) {
            return Ok(outcome);
        }
        self.verify_slow_once(digest, stored, presented).await
    }

    /// The work of [`SecretVerifier::verify`] for an id that has no stored secret, so that an
    /// unknown id does not answer sooner than a known one.
    pub fn dummy_work(&self, presented: &Secret<String>) {
        if has_usable_length(presented) {
            std::hint::black_box(self.0.peppers.verify_keyed("", presented));
        }
    }

    async fn verify_slow_once(
        &self,
        digest: [u8; 32],
        stored: &str,
        presented: &Secret<String>,
    ) -> Result<bool, VerifierBusy> {
        let _waiting = Waiting::enter(&self.0.waiting)?;
        let _lane = self.0.lanes[usize::from(digest[0]) % LANES].lock().await;
        if let Some(outcome) = self.0.remembered(&digest) {
            return Ok(outcome);
        }
        let outcome = self.derive(stored, presented).await?;
        self.0.remember(digest, outcome);
        Ok(outcome)
    }

    /// The slot goes with the derivation, so an impatient caller frees it only when it has ended.
    async fn derive(&self, stored: &str, presented: &Secret<String>) -> Result<bool, VerifierBusy> {
        let slot = Arc::clone(&self.0.slots)
            .acquire_owned()
            .await
            .map_err(|_| VerifierBusy)?;
        let (stored, presented) = (stored.to_owned(), presented.clone());
        let derivation = tokio::task::spawn_blocking(move || {
            let outcome = verify_slow(&stored, &presented);
            drop(slot);
            outcome
        });
        derivation.await.map_err(|_| VerifierBusy)
    }
}

impl fmt::Debug for SecretVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretVerifier").finish_non_exhaustive()
    }
}

impl Inner {
    fn digest(&self, stored: &str, presented: &Secret<String>) -> [u8; 32] {
        let length = stored.len().to_be_bytes();
        self.cache_key
            .sign_parts(&[&length, stored.as_bytes(), presented.expose().as_bytes()])
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<bool> {
        let now = self.clock.now();
        let fresh = |outcomes: &Cache<[u8; 32], Timestamp>| {
            outcomes.get(digest).is_some_and(|until| until > now)
        };
        if fresh(&self.accepted) {
            Some(true)
        } else if fresh(&self.refused) {
            Some(false)
        } else {
            None
        }
    }

    fn remember(&self, digest: [u8; 32], outcome: bool) {
        let outcomes = if outcome {
            &self.accepted
        } else {
            &self.refused
        };
        outcomes.insert(digest, self.clock.now().plus_seconds(REMEMBER_SECONDS));
    }
}

/// One place among the waiting callers.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Result<Self, VerifierBusy> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING {
            Ok(place)
        } else {
            Err(VerifierBusy)
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "secret_verifier/tests.rs"]
mod tests;
