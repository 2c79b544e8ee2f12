//! `/stats`: what the role did since it was made, and what its tables hold.

mod tables;
mod tally;

use caracal_store::{OutboxStatus, StoreError};
use serde_json::{Value, json};

use crate::Coordinator;

pub(crate) use tables::Tables;
pub(crate) use tally::{Outcome, Runs, Tally};

impl Coordinator {
    /// The document of `/stats`.
    pub(crate) async fn stats(&self) -> Result<Value, StoreError> {
        let tables = self.tables.recent(&self.store, self.clock.now()).await?;
        let outbox = |status| tables.outbox.count(status);
        let tally = &self.tally;
        Ok(json!({
            "invocations": {},
            "outbox": {
                "pending": outbox(OutboxStatus::Pending),
                "published": outbox(OutboxStatus::Published),
                "dead": outbox(OutboxStatus::Dead),
            },
            "idempotency": {
                "rows": tables.receipts.rows,
                "oldestSeconds": tables.oldest_receipt(self.clock.now()).as_secs(),
                "outcomes": tally.outcomes(),
            },
            "ttl_sweeper": {
                "runs": tally.lifetimes.runs.get(),
                "failures": tally.lifetimes.failures.get(),
                "terminated": tally.terminated.get(),
            },
            "service_lease_sweeper": {
                "runs": tally.leases.runs.get(),
                "failures": tally.leases.failures.get(),
                "suspended": tally.suspended.get(),
            },
            "retention_cleaner": {
                "runs": tally.retention.runs.get(),
                "failures": tally.retention.failures.get(),
                "expired_edges": tally.expired_edges.get(),
                "deleted_edges": tally.deleted_edges.get(),
                "deleted_sessions": tally.deleted_sessions.get(),
                "deleted_outbox": tally.deleted_messages.get(),
                "deleted_idempotency_receipts": tally.deleted_receipts.get(),
            },
        }))
    }
}
