//! Judging a call again while it runs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use caracal_roles::ExchangeRequest;

use crate::anchors::Anchors;
use crate::exchange::Exchanger;
use crate::refusal::{Fallen, Refusal};

/// One running call, and how to judge it.
pub(crate) struct Rejudge {
    pub(crate) anchors: Arc<Anchors>,
    pub(crate) exchanger: Arc<Exchanger>,
    pub(crate) request: Arc<ExchangeRequest>,
    /// No verdict within this time is a refusal: a running call must end soon after a revocation,
    /// also when a dependency hangs.
    pub(crate) timeout: Duration,
}

impl Rejudge {
    /// Judges the anchors, then asks the STS whether it would still grant the call.
    pub(crate) fn run(
        self: Arc<Self>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>> {
        Box::pin(async move {
            match tokio::time::timeout(self.timeout, self.judge()).await {
                Ok(verdict) => verdict,
                Err(_) => Err(Refusal::BarrierUnavailable),
            }
        })
    }

    async fn judge(&self) -> Result<(), Refusal> {
        self.anchors.judge(self.request.mandate.claims()).await?;
        self.exchanger
            .still_granted(&self.request)
            .await
            .map_err(|_| Refusal::Revoked(Fallen::Grant))
    }
}
