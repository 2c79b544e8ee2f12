//! The Audit role: stores what the producers logged, in order, and lets it be searched and proven.
//!
//! 1. `ingest` reads the producer's log, checks each event (`admit`), gives it its place in its
//!    zone's chain (`place`) and stores it; only then the log may forget it.
//! 2. `checkpoint` signs the heads of the chains that grew.
//! 3. `tamper` reads it again, to find what was changed behind the role's back.
//! 4. `search` and `export` serve it; `routes` is the HTTP surface, `ready` says whether the role
//!    works.
//!
//! What the role needs from the store is the trait [`Ledger`].

mod checkpoint;
mod export;
mod ingest;
pub mod ledger;
mod metrics;
mod ready;
mod routes;
mod search;
mod tamper;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use caracal_core::id::ZoneId;
use caracal_core::{Clock, Random, Secret};
use caracal_crypto::HmacKey;
use caracal_evidence::note::NoteError;
use caracal_evidence::{Checkpoint, Journal, NoteKey, VerifierKey};
use caracal_http::Readiness;
use caracal_http::ops::JsonMetrics;
use thiserror::Error;

use crate::ingest::Progress;
use crate::metrics::Counters;

pub use ledger::{Ledger, StoreLedger};

/// The bounds of the role.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// The most events of one transaction.
    pub batch_events: usize,
    /// About the most bytes of one transaction.
    pub batch_bytes: usize,
    /// How long a small batch waits for more events. Somebody who waits to read them cuts it short.
    pub linger: Duration,
    /// How often the heads of grown chains are signed.
    pub checkpoint_interval: Duration,
    /// `AUDIT_TAMPER_ROLLING_HOURS`: how far back the hourly tamper sweep looks.
    pub tamper_lookback: Duration,
    /// `AUDIT_READY_LAG_MAX`: not ready when more events than this wait.
    pub ready_lag_max: Option<u64>,
    /// `AUDIT_READY_PEL_OLDEST_SECS_MAX`: not ready when an event waits longer than this.
    pub ready_oldest_max: Option<Duration>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            batch_events: 500,
            batch_bytes: 4 << 20,
            linger: Duration::from_millis(50),
            checkpoint_interval: Duration::from_secs(5),
            tamper_lookback: Duration::from_secs(4 * 60 * 60),
            ready_lag_max: None,
            ready_oldest_max: None,
        }
    }
}

/// What the role is made of.
#[derive(Debug)]
pub struct AuditParts {
    /// Where events are stored.
    pub ledger: Arc<dyn Ledger>,
    /// The log that producers append to.
    pub journal: Journal,
    /// `AUDIT_HMAC_KEY`; without it (development) signatures are not checked.
    pub producer_key: Option<HmacKey>,
    /// What checkpoints are signed with; no producer holds it.
    pub checkpoint_key: NoteKey,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// The bounds.
    pub options: AuditOptions,
}

/// The role. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) parts: AuditParts,
    pub(crate) progress: Progress,
    pub(crate) counters: Counters,
    pub(crate) signing: tokio::sync::Mutex<()>,
}

/// The events appended before the call are not all stored yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the audit ledger has not caught up")]
pub struct NotCaughtUp;

impl Audit {
    /// Puts the role together; nothing runs yet.
    #[must_use]
    pub fn new(parts: AuditParts) -> Self {
        let progress = Progress::new(parts.journal.released());
        Self(Arc::new(Inner {
            parts,
            progress,
            counters: Counters::default(),
            signing: tokio::sync::Mutex::new(()),
        }))
    }

    /// Ingests, signs and looks for tampering until the log is closed and everything in it is stored.
    ///
    /// While the ledger does not answer this waits for it, so whoever shuts down bounds the wait.
    pub async fn run(&self) {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let ingesting = async {
            ingest::run(&self.0).await;
            // The signer ends only when it is told to.
            let _ = stop.send(());
        };
        let storing = async {
            tokio::join!(ingesting, checkpoint::run(&self.0, stopped));
        };
        tokio::select! {
            () = storing => {}
            // A sweep only reads, so it may end anywhere.
            never = tamper::run(&self.0) => match never {},
        }
    }

    /// Waits until every event that was appended before this call is stored.
    ///
    /// # Errors
    /// [`NotCaughtUp`] when that takes longer than `wait`.
    pub async fn caught_up(&self, wait: Duration) -> Result<(), NotCaughtUp> {
        self.0.caught_up(wait).await
    }

    /// The HTTP surface, without the operational routes. Without an admin token its routes answer 404.
    pub fn router(&self, admin_token: Option<Secret<String>>) -> Router {
        routes::router(Arc::clone(&self.0), admin_token)
    }

    /// What `/ready` checks.
    #[must_use]
    pub fn readiness(&self) -> Arc<dyn Readiness> {
        Arc::new(ready::AuditReadiness(Arc::clone(&self.0)))
    }

    /// The document of `/metrics.json`.
    #[must_use]
    pub fn json_metrics(&self) -> JsonMetrics {
        let inner = Arc::clone(&self.0);
        Arc::new(move || inner.counters.to_json(&inner.parts))
    }

    /// The public key that verifies a zone's checkpoints and exports.
    ///
    /// # Errors
    /// [`NoteError`] when the key can't be named.
    pub fn verifier(&self, zone: &ZoneId) -> Result<VerifierKey, NoteError> {
        Checkpoint::verifier(&self.0.parts.checkpoint_key, zone)
    }
}
