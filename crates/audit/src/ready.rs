//! Whether the role works.

use std::sync::Arc;

use async_trait::async_trait;
use caracal_http::{NotReady, Readiness};
use serde_json::{Value, json};

use crate::{Inner, Source};

/// Checks ingestion, then the ledger and the stream, then how far ingestion is behind.
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
        if let Source::Stream(queue) = &parts.source
            && queue.ping().await.is_err()
        {
            return Err(NotReady::with_reason("redis_unreachable"));
        }
        let waiting = self.0.waiting();
        let over = |max: Option<u64>, value: u64| max.is_some_and(|max| value > max);
        if over(parts.options.ready_dead_max, self.0.measured.dead().count) {
            return Err(NotReady::with_reason("audit_dlq_threshold"));
        }
        if over(parts.options.ready_lag_max, waiting.count) {
            return Err(NotReady::with_reason("audit_lag_threshold"));
        }
        if parts
            .options
            .ready_oldest_max
            .is_some_and(|max| waiting.oldest > max)
        {
            return Err(NotReady::with_reason("audit_pel_oldest_threshold"));
        }
        Ok(())
    }

    /// Lost evidence does not keep the role from working, so it shows and does not count.
    fn ready_body(&self) -> Value {
        match self.0.lost.alerts() {
            0 => json!({ "ready": true }),
            alerts => json!({ "ready": true, "audit_evidence_lost": alerts }),
        }
    }
}
