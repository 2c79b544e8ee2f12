//! What the tables hold: counted at most once in a while, by one caller at a time.

use std::time::Duration;

use caracal_core::Timestamp;
use caracal_store::{OutboxStats, ReceiptStats, Store, StoreError};
use tokio::sync::Mutex;

/// How long counts are shown.
const SHOWN_FOR: Duration = Duration::from_secs(15);

/// Counts of one moment.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    pub(crate) outbox: OutboxStats,
    pub(crate) receipts: ReceiptStats,
    at: Timestamp,
}

impl Counted {
    /// How old the oldest receipt is.
    pub(crate) fn oldest_receipt(&self, now: Timestamp) -> Duration {
        let oldest = self.receipts.oldest;
        oldest.map_or(Duration::ZERO, |oldest| now.since(oldest))
    }

    fn is_recent(&self, now: Timestamp) -> bool {
        self.at <= now && now.since(self.at) < SHOWN_FOR
    }
}

/// The latest counts. Whoever finds them old counts again; the others wait for that.
#[derive(Debug, Default)]
pub(crate) struct Tables(Mutex<Option<Counted>>);

impl Tables {
    /// Counts that are 15 seconds old at most.
    pub(crate) async fn recent(
        &self,
        store: &Store,
        now: Timestamp,
    ) -> Result<Counted, StoreError> {
        let mut held = self.0.lock().await;
        if let Some(counted) = held.as_ref().filter(|counted| counted.is_recent(now)) {
            return Ok(counted.clone());
        }
        let platform = store.platform();
        let counted = Counted {
            outbox: platform.outbox_stats().await?,
            receipts: platform.receipt_stats().await?,
            at: now,
        };
        *held = Some(counted.clone());
        Ok(counted)
    }
}
