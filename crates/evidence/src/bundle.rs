//! The export of a zone's evidence: JSON lines that prove themselves.
//!
//! The first line is the header, then one line per event in order of `seq`, from 1 to the
//! checkpoint's size. An event that retention removed keeps its line, with its hash only.
//!
//! ```text
//! {"format":"caracal-evidence/1","zone_id":"…","size":3,"checkpoint":"…","key":"…"}
//! {"seq":1,"leaf":"…"}
//! {"seq":2,"leaf":"…","event":{…}}
//! {"seq":3,"leaf":"…","event":{…}}
//! ```
//!
//! `event` is the producer's JSON text, byte for byte. [`crate::verify`] checks a bundle.

use std::io::{self, Write};

use caracal_core::id::ZoneId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::checkpoint::Checkpoint;
use crate::merkle::Hash;
use crate::note::VerifierKey;

/// The name and version of the format.
pub const FORMAT: &str = "caracal-evidence/1";

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) format: String,
    pub(crate) zone_id: ZoneId,
    pub(crate) size: u64,
    pub(crate) checkpoint: String,
    pub(crate) key: String,
}

/// Every other line. An unknown member is refused: a misspelt `event` must not pass as a removed one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line<'a> {
    pub(crate) seq: u64,
    pub(crate) leaf: Hash,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<&'a RawValue>,
}

/// Why a bundle could not be written.
#[derive(Debug, Error)]
pub enum BundleError {
    /// The output refused.
    #[error("the bundle cannot be written: {0}")]
    Io(#[from] io::Error),
    /// A stored event is not JSON on one line.
    #[error("event {0} is not JSON on one line")]
    NotJson(u64),
    /// The events don't come in order and without gaps up to the checkpoint's size.
    #[error("expected event {expected}, got {found}")]
    Order {
        /// The number that was due.
        expected: u64,
        /// The number that came.
        found: u64,
    },
}

/// Writes a bundle line by line.
#[derive(Debug)]
pub struct BundleWriter<W> {
    out: W,
    size: u64,
    next: u64,
}

impl<W: Write> BundleWriter<W> {
    /// Writes the header. `note` is the signed form of `checkpoint`.
    ///
    /// # Errors
    /// [`BundleError::Io`].
    pub fn begin(
        mut out: W,
        checkpoint: &Checkpoint,
        note: &str,
        key: &VerifierKey,
    ) -> Result<Self, BundleError> {
        let header = Header {
            format: FORMAT.to_owned(),
            zone_id: checkpoint.zone.clone(),
            size: checkpoint.size,
            checkpoint: note.to_owned(),
            key: key.to_string(),
        };
        write_line(&mut out, &header)?;
        Ok(Self {
            out,
            size: checkpoint.size,
            next: 1,
        })
    }

    /// Writes the next event.
    ///
    /// # Errors
    /// [`BundleError`] when it is not the next, not JSON, or the output refuses.
    pub fn event(&mut self, seq: u64, leaf: Hash, data: &str) -> Result<(), BundleError> {
        self.expect(seq)?;
        let event: &RawValue = serde_json::from_str(data).map_err(|_| BundleError::NotJson(seq))?;
        if event.get() != data || data.contains(['\n', '\r']) {
            return Err(BundleError::NotJson(seq));
        }
        write_line(
            &mut self.out,
            &Line {
                seq,
                leaf,
                event: Some(event),
            },
        )
    }

    /// Writes the place of an event that retention removed.
    ///
    /// # Errors
    /// [`BundleError`] when it is not the next, or the output refuses.
    pub fn removed(&mut self, seq: u64, leaf: Hash) -> Result<(), BundleError> {
        self.expect(seq)?;
        write_line(
            &mut self.out,
            &Line {
                seq,
                leaf,
                event: None,
            },
        )
    }

    /// The output, to take what was written so far.
    pub fn output(&mut self) -> &mut W {
        &mut self.out
    }

    /// Checks that every event was written; answers the output.
    ///
    /// # Errors
    /// [`BundleError::Order`] when some are missing.
    pub fn finish(self) -> Result<W, BundleError> {
        if self.next == self.size + 1 {
            Ok(self.out)
        } else {
            Err(BundleError::Order {
                expected: self.next,
                found: self.size + 1,
            })
        }
    }

    fn expect(&mut self, seq: u64) -> Result<(), BundleError> {
        if seq != self.next || seq > self.size {
            return Err(BundleError::Order {
                expected: self.next,
                found: seq,
            });
        }
        self.next += 1;
        Ok(())
    }
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> Result<(), BundleError> {
    serde_json::to_writer(&mut *out, line).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    Ok(())
}
