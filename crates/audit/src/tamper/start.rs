//! Where the recent events of a zone begin.
//!
//! Events are numbered in the order in which they were stored, so this is a search over numbers: a
//! few reads of one event each, whatever the length of the chain.

use caracal_core::Timestamp;
use caracal_evidence::ChainHead;

use crate::ledger::{Ledger, LedgerError};

/// How near the answer must be.
const NEAR: u64 = 128;

/// A number that all events stored at `since` or later are behind, if the clock never went back.
pub(super) async fn of_recent(
    ledger: &dyn Ledger,
    head: &ChainHead,
    since: Timestamp,
) -> Result<u64, LedgerError> {
    let (mut older, mut recent) = (0, head.seq() + 1);
    let mut step = NEAR;
    while recent > step {
        let probe = recent - step;
        if !is_recent(ledger, head, probe, since).await? {
            older = probe;
            break;
        }
        recent = probe;
        step = step.saturating_mul(2);
    }
    while recent - older > NEAR {
        let middle = older + (recent - older) / 2;
        if is_recent(ledger, head, middle, since).await? {
            recent = middle;
        } else {
            older = middle;
        }
    }
    Ok(older)
}

/// Whether an event was stored at `since` or later. The one behind it speaks for one that is missing;
/// with none behind it, it counts as recent.
async fn is_recent(
    ledger: &dyn Ledger,
    head: &ChainHead,
    seq: u64,
    since: Timestamp,
) -> Result<bool, LedgerError> {
    let rows = ledger.chain_rows(head.zone(), seq - 1, 1).await?;
    Ok(rows.first().is_none_or(|row| row.ingested_at >= since))
}
