//! What runs in a process, and how it stops.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use caracal_evidence::log::Journal;
use caracal_http::ops::Metrics;
use caracal_store::Store;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often recorded samples move into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// How long the last events may take to be stored at shutdown; what is not stored then is read from
/// the log at the next start.
const LAST_EVENTS: Duration = Duration::from_secs(5);

/// The running roles of a process.
///
/// They stop in this order: listeners drain, jobs end, the log closes, its last events are passed on,
/// the stores close.
pub(crate) struct Stack {
    pub(super) addresses: BTreeMap<String, SocketAddr>,
    pub(super) issuer: String,
    pub(super) listeners: CancellationToken,
    pub(super) jobs: CancellationToken,
    pub(super) serving: Vec<JoinHandle<()>>,
    pub(super) working: Vec<JoinHandle<()>>,
    pub(super) journal: Option<Journal>,
    /// Ends by itself once the log is closed and passed on.
    pub(super) emptying: Option<JoinHandle<()>>,
    pub(super) stores: Vec<Store>,
}

impl Stack {
    /// Where each role listens.
    pub(crate) fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.addresses.clone()
    }

    /// The issuer of mandates.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Drains and stops everything; no acknowledged event is left only in memory.
    pub(crate) async fn stop(self) {
        self.listeners.cancel();
        for listener in self.serving {
            let _ = listener.await;
        }
        self.jobs.cancel();
        for job in self.working {
            let _ = job.await;
        }
        if let Some(journal) = &self.journal {
            journal.close().await;
        }
        if let Some(emptying) = self.emptying
            && tokio::time::timeout(LAST_EVENTS, emptying).await.is_err()
        {
            tracing::warn!("the last events stay in the log and are stored after the next start");
        }
        for store in self.stores {
            store.close().await;
        }
    }
}

/// Moves samples into their buckets until `stop`.
pub(super) fn spawn_upkeep(metrics: Metrics, stop: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut due = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                _ = due.tick() => metrics.upkeep(),
                () = stop.cancelled() => break,
            }
        }
    })
}
