//! The Audit role: stores what the producers logged, in order, and lets it be searched and proven.
//!
//! 1. In the producers' process, `ingest` reads their log, checks each event (`admit`), gives it its
//!    place in its zone's chain (`place`) and stores it; only then the log may forget it. Elsewhere,
//!    [`stream`] does so with what arrives over the audit stream.
//! 2. `checkpoint` signs the heads of the chains that grew.
//! 3. `tamper` reads it again, to find what was changed behind the role's back.
//! 4. `retention` takes old texts away; `lost` keeps lost evidence in sight.
//! 5. `search` and `export` serve it; `routes` is the HTTP surface, `ready` says whether the role
//!    works.
//!
//! What the role needs from the store is the trait [`Ledger`].

mod checkpoint;
mod export;
mod ingest;
pub mod ledger;
mod lost;
mod metrics;
mod ready;
mod retention;
mod routes;
mod search;
mod signing_key;
pub mod stream;
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
use caracal_evidence::{Checkpoint, Journal, NoteKey, Position, VerifierKey};
use caracal_http::Readiness;
use caracal_http::ops::JsonMetrics;
use thiserror::Error;
use tokio::sync::watch;

use crate::ingest::Progress;
use crate::metrics::Counters;
use crate::stream::backlog::Measured;

pub use ledger::{Ledger, StoreLedger};
pub use signing_key::{CheckpointKeyError, shared_checkpoint_key};
pub use stream::{EvidenceQueue, RedisQueue};

/// The bounds of the role.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// The most events of one transaction.
    pub batch_events: usize,
    /// About the most bytes of one transaction.
    pub batch_bytes: usize,
    /// How long a small batch of a log waits for more events, and how long the stream is left alone
    /// after a few entries. Somebody who waits to read a log's events cuts it short.
    pub linger: Duration,
    /// How often the heads of grown chains are signed.
    pub checkpoint_interval: Duration,
    /// `AUDIT_TAMPER_ROLLING_HOURS`: how far back the hourly tamper sweep looks.
    pub tamper_lookback: Duration,
    /// `AUDIT_READY_LAG_MAX`: not ready when more than this waits: events of a log, entries of the
    /// stream.
    pub ready_lag_max: Option<u64>,
    /// `AUDIT_READY_PEL_OLDEST_SECS_MAX`: not ready when something waits longer than this.
    pub ready_oldest_max: Option<Duration>,
    /// `AUDIT_READY_DLQ_MAX`: not ready with more dead letters than this.
    pub ready_dead_max: Option<u64>,
    /// `AUDIT_CLAIM_IDLE_SECS`: an entry that a replica was given this long ago is taken over.
    pub claim_idle: Duration,
    /// `AUDIT_MAX_DELIVERIES`: an entry that the ledger refused this often is set aside.
    pub max_deliveries: u64,
    /// `AUDIT_RETENTION_DAYS`: the longest that texts are kept.
    pub retention_days: i64,
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
            ready_dead_max: None,
            claim_idle: Duration::from_secs(30),
            max_deliveries: 8,
            retention_days: 365,
        }
    }
}

/// Where events come from.
#[derive(Debug)]
pub enum Source {
    /// The log of the producers in this process.
    Log(Journal),
    /// The stream that producers in other processes ship their logs over.
    Stream(Arc<dyn EvidenceQueue>),
}

/// What the role is made of.
#[derive(Debug)]
pub struct AuditParts {
    /// Where events are stored.
    pub ledger: Arc<dyn Ledger>,
    /// Where they come from.
    pub source: Source,
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
    pub(crate) measured: Measured,
    pub(crate) lost: lost::Watch,
    stop: watch::Sender<bool>,
}

/// The events appended before the call are not all stored yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the audit ledger has not caught up")]
pub struct NotCaughtUp;

impl Audit {
    /// Puts the role together; nothing runs yet.
    #[must_use]
    pub fn new(parts: AuditParts) -> Self {
        let stored = match &parts.source {
            Source::Log(journal) => journal.released(),
            Source::Stream(_) => Position::ZERO,
        };
        Self(Arc::new(Inner {
            parts,
            progress: Progress::new(stored),
            counters: Counters::default(),
            signing: tokio::sync::Mutex::new(()),
            measured: Measured::default(),
            lost: lost::Watch::default(),
            stop: watch::Sender::new(false),
        }))
    }

    /// Ingests, signs, sweeps and removes: over a log until it is closed and everything in it is
    /// stored, over the stream until [`Audit::stop`].
    ///
    /// While the ledger does not answer this waits for it, so whoever shuts down bounds the wait.
    pub async fn run(&self) {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let ingesting = async {
            self.ingest().await;
            // The signer ends only when it is told to.
            let _ = stop.send(());
        };
        let storing = async {
            tokio::join!(ingesting, checkpoint::run(&self.0, stopped));
        };
        tokio::select! {
            () = storing => {}
            // Sweeps only read, and what is removed is removed step by step: both may end anywhere.
            never = tamper::run(&self.0) => match never {},
            never = retention::run(&self.0) => match never {},
            never = lost::run(&self.0) => match never {},
        }
    }

    async fn ingest(&self) {
        match &self.0.parts.source {
            Source::Log(journal) => ingest::run(&self.0, journal).await,
            Source::Stream(queue) => {
                let (reading, measuring) = (self.0.stop.subscribe(), self.0.stop.subscribe());
                tokio::join!(
                    stream::ingest::run(&self.0, &**queue, reading),
                    stream::backlog::run(&self.0, &**queue, measuring),
                );
            }
        }
    }

    /// Lets [`Audit::run`] end over the stream: what was read is stored first, unless the ledger does
    /// not answer; then another replica takes it over.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Waits until every event that was appended before this call is stored; over the stream, every
    /// event that producers have shipped.
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
        Arc::new(move || inner.counters.to_json(&inner))
    }

    /// The public key that verifies a zone's checkpoints and exports.
    ///
    /// # Errors
    /// [`NoteError`] when the key can't be named.
    pub fn verifier(&self, zone: &ZoneId) -> Result<VerifierKey, NoteError> {
        Checkpoint::verifier(&self.0.parts.checkpoint_key, zone)
    }
}
