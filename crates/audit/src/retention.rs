//! Removes the texts of old events. Their places and hashes stay, so proofs and exports go on.

use std::convert::Infallible;
use std::time::Duration;

use crate::Inner;
use crate::ledger::LedgerError;

const INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);
/// How long a round that failed waits to begin again.
const RETRY: Duration = Duration::from_secs(5 * 60);
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Goes round until it is dropped. Every replica does: what one has done the next finds done.
pub(crate) async fn run(inner: &Inner) -> Infallible {
    loop {
        match retain(inner).await {
            Ok(()) => tokio::time::sleep(INTERVAL).await,
            Err(error) => {
                tracing::warn!(%error, "old audit events could not be removed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// One round. Operators can only shorten what the configuration allows.
pub(crate) async fn retain(inner: &Inner) -> Result<(), LedgerError> {
    let parts = &inner.parts;
    let now = parts.clock.now();
    let longest = parts.options.retention_days.max(1);
    let wanted = parts.ledger.retention_days().await?;
    let days = wanted.map_or(longest, |days| days.clamp(1, longest));
    let before = now.plus_seconds(days.saturating_mul(DAY_SECONDS).saturating_neg());
    let retained = parts.ledger.retain(before, now).await?;
    if retained.dropped > 0 || retained.texts > 0 {
        let (months, texts) = (retained.dropped, retained.texts);
        tracing::info!(months, texts, days, "removed old audit events");
    }
    inner.counters.retained(retained);
    Ok(())
}
