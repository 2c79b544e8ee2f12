//! Judging a call again while it runs, after its zone changed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caracal_roles::ExchangeRequest;

use crate::anchors::Anchors;
use crate::exchange::{Exchanger, is_failure};
use crate::refusal::{Fallen, Refusal};

/// One running call, and how to judge it.
pub(crate) struct Rejudge {
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) exchanger: Arc<Exchanger>,
    pub(crate) request: Arc<ExchangeRequest>,
    /// The position of the change feed up to which the call is known to stand.
    pub(crate) judged_at: AtomicU64,
    /// No verdict within this time ends a running stream: it must end soon after a revocation, also
    /// when a dependency hangs.
    pub(crate) timeout: Duration,
}

impl Rejudge {
    /// Judges the anchors; if anything happened that may concern the call, asks the STS whether it
    /// would still grant it.
    pub(crate) fn run(
        self: Arc<Self>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>> {
        let limit = self.timeout;
        Box::pin(async move { self.run_within(limit).await })
    }

    /// The same for a call of which its caller has nothing yet: that may wait longer for the verdict.
    pub(crate) async fn run_within(&self, limit: Duration) -> Result<(), Refusal> {
        match tokio::time::timeout(limit, self.judge()).await {
            Ok(verdict) => verdict,
            Err(_) => Err(Refusal::BarrierUnavailable),
        }
    }

    async fn judge(&self) -> Result<(), Refusal> {
        let claims = self.request.mandate.claims();
        let view = self.anchors.judge(claims).await?;
        let since = self.judged_at.load(Ordering::Acquire);
        if self.anchors.is_concerned(&view, claims, since).await? {
            let judged = self.exchanger.still_granted(&self.request).await;
            judged.map_err(|refusal| {
                if is_failure(&refusal) {
                    Refusal::BarrierUnavailable
                } else {
                    Refusal::Revoked(Fallen::Grant)
                }
            })?;
        }
        self.judged_at.store(view.seq(), Ordering::Release);
        Ok(())
    }
}
