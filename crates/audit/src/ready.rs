//! Whether the role works.

use std::sync::Arc;

use async_trait::async_trait;
use caracal_http::{NotReady, Readiness};
use serde_json::{Value, json};

use crate::Inner;

/// Checks ingestion, then the ledger, then how far ingestion is behind.
pub(crate) struct AuditReadiness(pub(crate) Arc<Inner>);

#[async_trait]
impl Readiness for AuditReadiness {
    async fn check(&self) -> Result<(), NotReady> {
        let parts = &self.0.parts;
        if self.0.progress.is_failing() {
            return Err(NotReady::with_reason("consumer_unhealthy"));
        }
        if parts.ledger.ping().await.is_err() {
            return Err(NotReady::with_reason("postgres_unreachable"));
        }
        let log = parts.journal.gauges(parts.clock.now());
        if parts
            .options
            .ready_lag_max
            .is_some_and(|max| log.pending_events > max)
        {
            return Err(NotReady::with_reason("audit_lag_threshold"));
        }
        if parts
            .options
            .ready_oldest_max
            .is_some_and(|max| log.oldest_age > max)
        {
            return Err(NotReady::with_reason("audit_pel_oldest_threshold"));
        }
        Ok(())
    }

    fn ready_body(&self) -> Value {
        json!({ "ready": true })
    }
}
