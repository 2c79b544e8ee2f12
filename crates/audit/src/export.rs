//! `GET /api/audit/export`: a zone's evidence as a bundle that proves itself (see
//! [`caracal_evidence::bundle`]). Everything appended before the call is stored and signed first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caracal_core::id::ZoneId;
use caracal_evidence::Checkpoint;
use caracal_evidence::bundle::{BundleError, BundleWriter};
use caracal_evidence::checkpoint::CheckpointError;
use futures_util::stream::{self, Stream};
use thiserror::Error;

use crate::Inner;
use crate::checkpoint::{self, SignError};
use crate::ledger::{LedgerError, Search};

/// Events per read of the ledger, and per chunk of the answer.
const PAGE: usize = 500;

/// Longest wait for events on their way into the ledger.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Why an export failed.
#[derive(Debug, Error)]
pub(crate) enum ExportError {
    /// The zone has no evidence.
    #[error("the zone has no evidence")]
    NoCheckpoint,
    /// The ledger did not answer.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The stored checkpoint is not ours.
    #[error("the stored checkpoint is not good: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The newest events could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The stored events don't fit the checkpoint.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// A bundle in the making.
struct Export {
    inner: Arc<Inner>,
    zone: ZoneId,
    size: u64,
    written: u64,
    writer: BundleWriter<Vec<u8>>,
}

/// The bundle of a zone, chunk by chunk. A failure behind the first chunk cuts the answer, and a cut
/// bundle does not verify.
pub(crate) async fn export(
    inner: Arc<Inner>,
    zone: ZoneId,
) -> Result<impl Stream<Item = Result<Bytes, ExportError>>, ExportError> {
    // A ledger that lags still exports what it has: the checkpoint says how far that is.
    let _ = inner.caught_up(CATCH_UP).await;
    checkpoint::sign_grown(&inner).await?;
    let stored = inner.parts.ledger.latest_checkpoint(&zone).await?;
    let note = stored.ok_or(ExportError::NoCheckpoint)?.note;
    let key =
        Checkpoint::verifier(&inner.parts.checkpoint_key, &zone).map_err(CheckpointError::Note)?;
    let checkpoint = Checkpoint::open(&note, &key)?;
    let writer = BundleWriter::begin(Vec::new(), &checkpoint, &note, &key)?;
    let export = Export {
        inner,
        zone,
        size: checkpoint.size,
        written: 0,
        writer,
    };
    Ok(stream::try_unfold(export, |export| async move {
        export.page().await
    }))
}

impl Export {
    async fn page(mut self) -> Result<Option<(Bytes, Self)>, ExportError> {
        if self.written < self.size {
            let left = usize::try_from(self.size - self.written).unwrap_or(PAGE);
            let search = Search::all_after(self.written, left.min(PAGE));
            let records = self.inner.parts.ledger.search(&self.zone, &search).await?;
            if records.is_empty() {
                let (expected, found) = (self.written + 1, self.size + 1);
                return Err(BundleError::Order { expected, found }.into());
            }
            for record in records {
                match &record.data {
                    Some(data) => self.writer.event(record.seq, record.leaf, data)?,
                    None => self.writer.removed(record.seq, record.leaf)?,
                }
                self.written = record.seq;
            }
        }
        let chunk = std::mem::take(self.writer.output());
        Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), self)))
    }
}
