//! From a producer's log to the Audit role, over a stream.
//!
//! The log stays the truth: the stream is transport. The [`Shipper`] reads the log in order, cuts it
//! into [`Chunk`]s and appends each as one entry to [`STREAM`]. A segment of the log goes only when
//! the Audit role has *stored* what is in it, which the shipper reads from the store
//! ([`StoredUpto`]), never from the stream. When the stream lost entries, the shipper sends them
//! again.

mod chunk;
mod cut;
mod run;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use caracal_core::Random;
use caracal_crypto::HmacKey;
use thiserror::Error;

use crate::log::{Journal, Position, ProducerId};

pub use chunk::{
    BadChunk, Chunk, ChunkEvent, Field, Hole, HoleKind, MAX_CHUNK_BYTES, MAX_CHUNK_EVENTS,
};

/// The stream that carries evidence.
pub const STREAM: &str = "caracal.audit.events";

/// Where an entry is in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EntryId(String);

impl EntryId {
    /// As the stream names it.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The stream's name of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The stream or the store did not answer: try again.
#[derive(Debug, Clone, Error)]
#[error("{0}")]
pub struct TransportError(pub String);

/// The stream, as a producer uses it.
#[async_trait]
pub trait EvidenceStream: Send + Sync + fmt::Debug {
    /// Appends an entry of these fields to [`STREAM`], without cutting the stream; answers its id.
    async fn append(&self, entry: &[Field]) -> Result<EntryId, TransportError>;

    /// Whether the entry is in the stream: neither stored and trimmed, nor lost.
    async fn holds(&self, id: &EntryId) -> Result<bool, TransportError>;
}

/// What the Audit role has stored.
#[async_trait]
pub trait StoredUpto: Send + Sync + fmt::Debug {
    /// Up to where a producer's log is stored without a hole; `None` for an unknown producer.
    async fn stored(&self, producer: ProducerId) -> Result<Option<Position>, TransportError>;
}

/// The bounds of shipping.
#[derive(Debug, Clone)]
pub struct ShipperOptions {
    /// How long a small chunk waits for more events.
    pub linger: Duration,
    /// Sent and not known to be stored; beyond it the shipper waits, and the log grows. Bounds what a
    /// stream holds of one producer while the Audit role is away. Bytes.
    pub unstored_bytes: usize,
    /// How often the store is asked what is stored, while anything is not.
    pub poll_interval: Duration,
    /// After so long without progress the shipper looks whether the stream has lost what it sent.
    pub stalled_after: Duration,
}

impl Default for ShipperOptions {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(25),
            unstored_bytes: 32 << 20,
            poll_interval: Duration::from_secs(1),
            stalled_after: Duration::from_secs(15),
        }
    }
}

/// What a shipper is made of.
#[derive(Debug)]
pub struct ShipperParts {
    /// The log.
    pub journal: Journal,
    /// Where it goes.
    pub stream: Arc<dyn EvidenceStream>,
    /// What arrived.
    pub stored: Arc<dyn StoredUpto>,
    /// `AUDIT_HMAC_KEY`, which seals chunks; without it (development) they are not sealed.
    pub key: Option<HmacKey>,
    /// The source of randomness.
    pub random: Arc<dyn Random>,
    /// The bounds.
    pub options: ShipperOptions,
}

/// Ships one log. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Shipper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: ShipperParts,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    events: AtomicU64,
    entries: AtomicU64,
    errors: AtomicU64,
    resent: AtomicU64,
    unstored_bytes: AtomicU64,
}

/// What a shipper has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShipperGauges {
    /// Events sent, those sent again included.
    pub events: u64,
    /// Entries appended to the stream.
    pub entries: u64,
    /// Times that the stream or the store did not answer: `…_audit_sink_errors_total`.
    pub errors: u64,
    /// Entries that the stream had lost.
    pub resent: u64,
    /// Sent and not known to be stored. Bytes.
    pub unstored_bytes: u64,
}

impl Shipper {
    /// Puts it together; nothing runs yet.
    #[must_use]
    pub fn new(parts: ShipperParts) -> Self {
        let counters = Counters::default();
        Self(Arc::new(Inner { parts, counters }))
    }

    /// Ships until the log is closed and all of it is in the stream. While the stream or the store
    /// does not answer this tries again, so whoever shuts down bounds the wait: what is not shipped
    /// then is shipped by the next start.
    pub async fn run(&self) {
        run::run(&self.0).await;
    }

    /// What was done.
    #[must_use]
    pub fn gauges(&self) -> ShipperGauges {
        let counters = &self.0.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ShipperGauges {
            events: read(&counters.events),
            entries: read(&counters.entries),
            errors: read(&counters.errors),
            resent: read(&counters.resent),
            unstored_bytes: read(&counters.unstored_bytes),
        }
    }
}
