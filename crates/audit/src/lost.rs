//! Keeps lost evidence in sight: an alert about it counts until an operator has acknowledged it, across
//! restarts and on every replica, because it is a row of the ledger.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::gauge;

use crate::Inner;
use crate::ledger::LedgerError;

const INTERVAL: Duration = Duration::from_secs(15);

/// How many alerts were unacknowledged when it was last looked.
#[derive(Debug, Default)]
pub(crate) struct Watch(AtomicU64);

impl Watch {
    pub(crate) fn alerts(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Looks until it is dropped.
pub(crate) async fn run(inner: &Inner) -> Infallible {
    loop {
        if let Err(error) = look(inner).await {
            tracing::warn!(%error, "alerts about lost evidence can't be read");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Looks once.
pub(crate) async fn look(inner: &Inner) -> Result<(), LedgerError> {
    let lost = inner.parts.ledger.lost().await?;
    let before = inner.lost.0.swap(lost.alerts, Ordering::Relaxed);
    if lost.alerts > before {
        let alerts = lost.alerts;
        tracing::error!(
            alerts,
            "audit evidence was lost; an operator must acknowledge it"
        );
    }
    let shown = u32::try_from(lost.alerts).unwrap_or(u32::MAX);
    gauge!("caracal_audit_evidence_lost").set(f64::from(shown));
    Ok(())
}
