//! The local write-ahead log of audit events.
//!
//! A role that decided something appends the event here and waits: [`Journal::append`] returns when
//! the bytes are written to the kernel ([`Durability::Process`]: survives the process's death) or
//! synced ([`Durability::Disk`]: survives the machine's). One thread writes for everybody, so
//! concurrent appends share a write and a sync. Nothing here may be lost or invented: when the log
//! cannot take an event, the append fails and the caller must not go on.
//!
//! On disk a log is a directory (0700) of segment files (0600). A segment is removed only after the
//! consumer said that everything in it is stored ([`Journal::release`]).

mod disk;
mod index;
mod journal;
mod keeper;
mod queue;
mod reader;
mod recover;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use caracal_core::random::bytes;
use caracal_core::{Random, Timestamp};

use crate::sign::FrameSignature;

pub use journal::{AppendError, Journal, JournalError};
pub use reader::{ReadError, Reader};
pub use segment::fuzz_segment;

/// The place of an event in a log: 1 for the first, then without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// From the number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One opening of a log: positions are unique within it. A directory that is restored from a backup
/// or copied goes on under another producer, so no watermark of the original applies to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId([u8; 16]);

impl ProducerId {
    /// Whoever wrote a segment whose header is damaged. No watermark applies to it.
    pub const UNKNOWN: Self = Self([0; 16]);

    /// A fresh id.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        Self(bytes(random))
    }

    /// From the raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProducerId({self})")
    }
}

/// When an append counts as done: `audit.durability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Written to the kernel; synced in the background within the flush interval.
    #[default]
    Process,
    /// Synced to the disk.
    Disk,
}

/// The bounds of a log.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// A segment that reached this size is sealed. Bytes.
    pub segment_bytes: u64,
    /// All segments together; beyond it appends fail until the consumer released some. Bytes.
    pub max_total_bytes: u64,
    /// When an append counts as done.
    pub durability: Durability,
    /// How long written bytes may stay unsynced with [`Durability::Process`].
    pub flush_interval: Duration,
    /// Events that wait for the writer; beyond it appends wait. Bytes.
    pub queue_bytes: usize,
    /// How long one append may take, waiting and writing together.
    pub append_timeout: Duration,
    /// Written events kept in memory for the reader. Bytes.
    pub tail_bytes: usize,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            max_total_bytes: 768 << 20,
            durability: Durability::Process,
            flush_interval: Duration::from_millis(10),
            queue_bytes: 16 << 20,
            append_timeout: Duration::from_secs(2),
            tail_bytes: 4 << 20,
        }
    }
}

/// One event as the log holds it.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Which opening of the log wrote it.
    pub origin: Origin,
    /// Its place in the log.
    pub position: Position,
    /// The producer's signature over `data`; absent when the log has no key (development).
    pub signature: Option<FrameSignature>,
    /// The event's JSON text.
    pub data: Bytes,
}

/// Which opening of the log wrote an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The opening's id.
    pub producer: ProducerId,
    /// The first position it wrote.
    pub first: Position,
}

/// Events in order, as read from the log.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The events.
    pub frames: Vec<Frame>,
    /// Positions whose records are damaged and could not be read: lost evidence. They lie before,
    /// between or behind the frames, in order.
    pub lost: Vec<LostRange>,
    /// The last position that this batch covers: what to release once it is stored.
    pub upto: Position,
}

/// Positions that the log no longer holds in readable form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostRange {
    /// Which opening of the log wrote them.
    pub origin: Origin,
    /// The first lost position.
    pub first: Position,
    /// The last lost position.
    pub last: Position,
}

impl LostRange {
    /// How many events were lost.
    #[must_use]
    pub fn count(self) -> u64 {
        self.last.0.saturating_sub(self.first.0).saturating_add(1)
    }
}

/// What opening a log found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of an unfinished last record, cut off (a copy is in `quarantine/`).
    pub torn_bytes: u64,
    /// Records of the last segment that are damaged though later ones are not. They are reported
    /// again, as lost, when the log is read.
    pub damaged_records: u64,
    /// Events on disk that the consumer has not released.
    pub pending_events: u64,
}

/// The state of a log, for metrics and readiness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalGauges {
    /// Events that the consumer has not released.
    pub pending_events: u64,
    /// Bytes of the segments on disk.
    pub bytes: u64,
    /// Age of the oldest unreleased event, to about a second.
    pub oldest_age: Duration,
    /// Segments on disk.
    pub files: u64,
    /// Events written since the log was opened.
    pub appended: u64,
    /// Events found damaged when the log was read: must stay 0.
    pub dropped: u64,
    /// Appends that failed because the disk or the size limit refused them.
    pub storage_errors: u64,
    /// Background syncs that failed.
    pub sync_errors: u64,
    /// Whether the last write or probe succeeded.
    pub writable: bool,
}

/// The time by which an event's age is measured.
type Age = Timestamp;
