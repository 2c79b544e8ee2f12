//! Signs the heads of the chains that grew.

use caracal_evidence::Checkpoint;
use caracal_evidence::note::NoteError;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use crate::Inner;
use crate::ledger::{LedgerError, SignedCheckpoint};

/// The most checkpoints of one transaction.
const GROUP: usize = 200;

/// Why heads were not signed.
#[derive(Debug, Error)]
pub(crate) enum SignError {
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The key can't sign.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// Signs at every interval, and once more when it is told to stop.
pub(crate) async fn run(inner: &Inner, mut stop: oneshot::Receiver<()>) {
    let mut ticks = interval(inner.parts.options.checkpoint_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = false;
    while !last {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stop => last = true,
        }
        inner.counters.observe(inner);
        if inner.progress.take_grown()
            && let Err(error) = sign_grown(inner).await
        {
            inner.progress.set_grown();
            tracing::error!(%error, "audit checkpoints could not be signed");
        }
    }
}

/// Signs every head that grew since its last checkpoint. One caller at a time: two would sign the
/// same heads twice.
pub(crate) async fn sign_grown(inner: &Inner) -> Result<(), SignError> {
    let _turn = inner.signing.lock().await;
    let ledger = &inner.parts.ledger;
    loop {
        let heads = ledger.unsigned_heads(GROUP).await?;
        let at = inner.parts.clock.now();
        let mut signed = Vec::with_capacity(heads.len());
        for head in &heads {
            let note = Checkpoint::of(head, at).sign(&inner.parts.checkpoint_key)?;
            let zone_id = head.zone().clone();
            signed.push(SignedCheckpoint {
                zone_id,
                size: head.seq(),
                note,
                at,
            });
        }
        if !signed.is_empty() {
            ledger.store_checkpoints(&signed).await?;
        }
        if heads.len() < GROUP {
            return Ok(());
        }
    }
}
