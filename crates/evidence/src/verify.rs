//! Checks an exported bundle without the service that made it.
//!
//! A bundle passes when its checkpoint is signed by the expected key, every event from the first to
//! the checkpoint's size has its line in order, every event that is there hashes to its leaf, and all
//! leaves together hash to the signed root. Earlier checkpoints, kept by whoever verifies, must be
//! states of the same tree: then nothing was rewritten since they were signed.

use std::io::{self, BufRead, Read};

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use thiserror::Error;

use crate::bundle::{FORMAT, Header, Line};
use crate::chain::leaf;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::event::{MAX_EVENT_BYTES, ReceivedEvent};
use crate::merkle::{Frontier, Hash};
use crate::note::VerifierKey;

/// The longest line: an event and its frame.
const MAX_LINE_BYTES: usize = MAX_EVENT_BYTES + 64 * 1024;

/// What the verifier relies on besides the bundle.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The key that must have signed the checkpoint. Without one the bundle's own key is used, which
    /// only shows that the bundle is consistent in itself.
    pub key: Option<VerifierKey>,
    /// Checkpoints seen before, in any order.
    pub earlier: Vec<Checkpoint>,
}

/// What a good bundle holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The zone.
    pub zone: ZoneId,
    /// The size of the tree.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
    /// When the checkpoint was signed.
    pub at: Timestamp,
    /// Events that are there.
    pub events: u64,
    /// Events that retention removed.
    pub removed: u64,
    /// The number of the first event that is there.
    pub first_event: Option<u64>,
    /// Events missing behind the first one that is there: retention removes the oldest, so a reader
    /// should ask why these are not.
    pub removed_behind_first: u64,
    /// The key that signed the checkpoint.
    pub key: VerifierKey,
    /// Whether that key was expected, not merely found in the bundle.
    pub key_trusted: bool,
}

/// The first thing that is wrong with a bundle.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The bundle can't be read.
    #[error("the bundle cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The first line is not a header of this format.
    #[error("the first line is not a {FORMAT} header")]
    Header,
    /// The checkpoint is not good.
    #[error("the checkpoint is not good: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The header says other things than the signed checkpoint.
    #[error("the header's zone or size is not the checkpoint's")]
    HeaderMismatch,
    /// A line is not one of the format.
    #[error("the line of event {seq} cannot be read")]
    Line {
        /// The number that was due.
        seq: u64,
    },
    /// A line has another number than the one that was due: removed, added or moved.
    #[error("event {expected} is missing or out of order: found {found} in its place")]
    Order {
        /// The number that was due.
        expected: u64,
        /// The number that was found.
        found: u64,
    },
    /// The bundle ends early.
    #[error("event {first} and all behind it are missing, up to {size}")]
    Missing {
        /// The first missing number.
        first: u64,
        /// The checkpoint's size.
        size: u64,
    },
    /// An event does not hash to its leaf, or belongs to another zone.
    #[error("event {seq} was changed")]
    Changed {
        /// The event's number.
        seq: u64,
    },
    /// All lines fit their own hashes, but together not the signed root: at least one leaf was
    /// replaced together with its event.
    #[error("the events do not hash to the signed root: at least one of them was replaced")]
    Root,
    /// The tree is not the one of an earlier checkpoint: history was rewritten.
    #[error("the first {size} events are not those of the checkpoint signed earlier")]
    Rewritten {
        /// The size of the earlier checkpoint.
        size: u64,
    },
}

/// Checks a bundle.
///
/// # Errors
/// [`VerifyError`]: the first thing that is wrong.
pub fn verify(mut input: impl BufRead, trust: &Trust) -> Result<Verified, VerifyError> {
    let mut buffer = Vec::new();
    let header: Header = match read_line(&mut input, &mut buffer)? {
        true => serde_json::from_slice(&buffer).map_err(|_| VerifyError::Header)?,
        false => return Err(VerifyError::Header),
    };
    if header.format != FORMAT {
        return Err(VerifyError::Header);
    }
    let key = match &trust.key {
        Some(key) => key.clone(),
        None => VerifierKey::parse(&header.key).map_err(CheckpointError::Note)?,
    };
    let checkpoint = Checkpoint::open(&header.checkpoint, &key)?;
    if checkpoint.zone != header.zone_id || checkpoint.size != header.size {
        return Err(VerifyError::HeaderMismatch);
    }
    let walk = Walk::new(&checkpoint, trust).run(&mut input, &mut buffer)?;
    Ok(Verified {
        size: checkpoint.size,
        root: checkpoint.root,
        at: checkpoint.at,
        events: walk.events,
        removed: checkpoint.size - walk.events,
        first_event: walk.first_event,
        removed_behind_first: walk.removed_behind_first,
        key_trusted: trust.key.is_some(),
        key,
        zone: checkpoint.zone,
    })
}

/// The lines of the events.
struct Walk<'a> {
    checkpoint: &'a Checkpoint,
    earlier: Vec<&'a Checkpoint>,
    frontier: Frontier,
    events: u64,
    first_event: Option<u64>,
    removed_behind_first: u64,
}

impl<'a> Walk<'a> {
    fn new(checkpoint: &'a Checkpoint, trust: &'a Trust) -> Self {
        let mut earlier: Vec<_> = trust
            .earlier
            .iter()
            .filter(|seen| seen.zone == checkpoint.zone)
            .collect();
        earlier.sort_by_key(|seen| std::cmp::Reverse(seen.size));
        Self {
            checkpoint,
            earlier,
            frontier: Frontier::new(),
            events: 0,
            first_event: None,
            removed_behind_first: 0,
        }
    }

    fn run(mut self, input: &mut impl BufRead, buffer: &mut Vec<u8>) -> Result<Self, VerifyError> {
        self.compare_earlier()?;
        while read_line(input, buffer)? {
            let seq = self.frontier.size() + 1;
            let line: Line<'_> =
                serde_json::from_slice(buffer).map_err(|_| VerifyError::Line { seq })?;
            self.take(seq, &line)?;
            self.compare_earlier()?;
        }
        if self.frontier.size() < self.checkpoint.size {
            let first = self.frontier.size() + 1;
            return Err(VerifyError::Missing {
                first,
                size: self.checkpoint.size,
            });
        }
        if self.frontier.root() != self.checkpoint.root {
            return Err(VerifyError::Root);
        }
        // An earlier checkpoint of a larger tree: this one was cut.
        match self.earlier.pop() {
            Some(seen) => Err(VerifyError::Rewritten { size: seen.size }),
            None => Ok(self),
        }
    }

    fn take(&mut self, seq: u64, line: &Line<'_>) -> Result<(), VerifyError> {
        if line.seq != seq || seq > self.checkpoint.size {
            return Err(VerifyError::Order {
                expected: seq,
                found: line.seq,
            });
        }
        match line.event {
            Some(event) => {
                let data = event.get().as_bytes();
                let received =
                    ReceivedEvent::from_json(data).map_err(|_| VerifyError::Line { seq })?;
                let hashed = leaf(&self.checkpoint.zone, seq, &Hash::of(&[data]));
                if hashed != line.leaf || received.zone_id != self.checkpoint.zone {
                    return Err(VerifyError::Changed { seq });
                }
                self.events += 1;
                self.first_event.get_or_insert(seq);
            }
            None => self.removed_behind_first += u64::from(self.first_event.is_some()),
        }
        self.frontier.append(line.leaf);
        Ok(())
    }

    fn compare_earlier(&mut self) -> Result<(), VerifyError> {
        let size = self.frontier.size();
        while let Some(seen) = self.earlier.pop_if(|seen| seen.size == size) {
            if seen.root != self.frontier.root() {
                return Err(VerifyError::Rewritten { size });
            }
        }
        Ok(())
    }
}

/// Reads one line without its end; `false` at the end of the input.
fn read_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    let limit = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    input.take(limit).read_until(b'\n', buffer)?;
    if buffer.len() >= MAX_LINE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line is too long",
        ));
    }
    let empty = buffer.is_empty();
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
    }
    Ok(!empty)
}

#[cfg(test)]
mod tests;
