//! What the Audit role needs from the store.
//!
//! The ledger is append-only. Everything that belongs together (events, the chains' new heads, how
//! far the producers' logs are stored, alerts) arrives as one [`Batch`] and is stored in one
//! transaction, so that a crash between two of them cannot happen.

#[cfg(test)]
pub(crate) mod memory;
mod stored;

use std::fmt;

use async_trait::async_trait;
use caracal_core::Timestamp;
use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::log::ProducerId;
use caracal_evidence::{ChainHead, FrameSignature, Hash, Link, Position};
use thiserror::Error;

pub use stored::StoreLedger;

/// Why the ledger did not answer.
#[derive(Debug, Clone, Error)]
pub enum LedgerError {
    /// The store can't be reached or is busy: try again.
    #[error("the ledger is unavailable: {0}")]
    Unavailable(String),
    /// The batch holds an event id or a sequence number that is stored already; nothing of the batch
    /// was stored.
    #[error("the ledger holds one of these events or places already")]
    Conflict,
    /// The ledger holds something that this program can't have written.
    #[error("the ledger is corrupt: {0}")]
    Corrupt(String),
}

/// An event to be stored at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The zone.
    pub zone_id: ZoneId,
    /// Its place in the zone's chain.
    pub link: Link,
    /// The event's id, unique in its zone.
    pub event_id: EventId,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The event's type.
    pub event_type: String,
    /// How it was decided.
    pub decision: String,
    /// `complete`, or why it was refused.
    pub evaluation_status: String,
    /// The correlation id.
    pub request_id: String,
    /// The application, for filters.
    pub application_id: Option<String>,
    /// The governed Session, for filters.
    pub agent_session_id: Option<String>,
    /// The authority record, for filters.
    pub authority_record_id: Option<String>,
    /// The labels, for filters.
    pub labels: Vec<String>,
    /// The producer's JSON text, byte for byte.
    pub data: String,
    /// The producer's signature over `data`.
    pub signature: Option<FrameSignature>,
}

/// What kind of trouble an alert reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// The producer's signature is missing or wrong.
    BadSignature,
    /// The signed bytes are not an audit event.
    MalformedEvent,
    /// An event id came again with another content.
    ContentMismatch,
    /// Records of a producer's log are damaged.
    EvidenceLost,
    /// A producer's log has a hole.
    LogGap,
}

impl AlertKind {
    /// The name in the ledger and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadSignature => "hmac_verify_failed",
            Self::MalformedEvent => "json_parse_error",
            Self::ContentMismatch => "content_mismatch_on_replay",
            Self::EvidenceLost => "evidence_lost",
            Self::LogGap => "log_gap",
        }
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that an operator must look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// The alert's id.
    pub id: EventId,
    /// The zone; `unknown` when the trouble names none.
    pub zone_id: ZoneId,
    /// What kind of trouble.
    pub kind: AlertKind,
    /// The event it is about, when it names one.
    pub event_id: Option<EventId>,
    /// What was found, as JSON text; holds the refused bytes, so that nothing is lost.
    pub detail: String,
}

/// What is stored in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Events; within a zone in order of `seq`.
    pub entries: Vec<Entry>,
    /// The heads of the chains that `entries` extend.
    pub heads: Vec<ChainHead>,
    /// Up to where each producer's log is stored with this batch.
    pub watermarks: Vec<(ProducerId, Position)>,
    /// Alerts.
    pub alerts: Vec<Alert>,
    /// When the batch was made.
    pub at: Timestamp,
}

/// An event id that is stored already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The event's id.
    pub event_id: EventId,
    /// Its place.
    pub seq: u64,
    /// Its leaf.
    pub leaf: Hash,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number in the zone.
    pub seq: u64,
    /// Its leaf.
    pub leaf: Hash,
    /// Its link.
    pub chain: Hash,
    /// The link of the event before it; zero for the first.
    pub before: Hash,
    /// When it was stored.
    pub ingested_at: Timestamp,
    /// The producer's JSON text; `None` when retention removed it.
    pub data: Option<String>,
}

/// A row of a zone's chain as it is stored, whether or not it can be true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainRow {
    /// Its number in the zone.
    pub seq: u64,
    /// Its leaf; `None` when what is stored is none.
    pub leaf: Option<Hash>,
    /// Its link; `None` when what is stored is none.
    pub chain: Option<Hash>,
    /// When it was stored.
    pub ingested_at: Timestamp,
    /// The producer's JSON text; `None` when retention removed it.
    pub data: Option<String>,
}

/// Which events to read: of one zone, in order of `seq`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Only events behind this number.
    pub after: u64,
    /// Only events that happened at this instant or later.
    pub since: Option<Timestamp>,
    /// Only events that happened before this instant.
    pub until: Option<Timestamp>,
    /// Only events decided like this.
    pub decision: Option<String>,
    /// Only events of this request.
    pub request_id: Option<String>,
    /// At most this many.
    pub limit: usize,
}

impl Search {
    /// All events behind `after`, removed ones included: without a filter nothing is left out.
    #[must_use]
    pub fn all_after(after: u64, limit: usize) -> Self {
        Self {
            after,
            limit,
            ..Self::default()
        }
    }
}

/// A signed checkpoint as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// The zone.
    pub zone_id: ZoneId,
    /// The size of the tree.
    pub size: u64,
    /// The signed note.
    pub note: String,
    /// When it was signed.
    pub at: Timestamp,
}

/// The store of the Audit role.
#[async_trait]
pub trait Ledger: Send + Sync + fmt::Debug {
    /// Whether the store answers.
    async fn ping(&self) -> Result<(), LedgerError>;

    /// Up to where a producer's log is stored; `None` for an unknown producer.
    async fn watermark(&self, producer: ProducerId) -> Result<Option<Position>, LedgerError>;

    /// The head of a zone's chain; the empty chain for a zone without events.
    async fn head(&self, zone: &ZoneId) -> Result<ChainHead, LedgerError>;

    /// Which of these events are stored.
    async fn known(&self, zone: &ZoneId, ids: &[EventId]) -> Result<Vec<Known>, LedgerError>;

    /// Stores all of a batch or nothing.
    async fn store(&self, batch: &Batch) -> Result<(), LedgerError>;

    /// Reads events of a zone, in order of `seq`.
    async fn search(&self, zone: &ZoneId, search: &Search) -> Result<Vec<Record>, LedgerError>;

    /// The first zone behind `after` that has a head, an event or a checkpoint.
    async fn next_zone(&self, after: Option<&ZoneId>) -> Result<Option<ZoneId>, LedgerError>;

    /// Rows of a zone's chain behind `after`, in order of `seq`, at most `limit`.
    async fn chain_rows(
        &self,
        zone: &ZoneId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ChainRow>, LedgerError>;

    /// Chains whose head has no checkpoint, at most `limit`.
    async fn unsigned_heads(&self, limit: usize) -> Result<Vec<ChainHead>, LedgerError>;

    /// Stores checkpoints.
    async fn store_checkpoints(&self, signed: &[SignedCheckpoint]) -> Result<(), LedgerError>;

    /// The checkpoint of the largest size.
    async fn latest_checkpoint(
        &self,
        zone: &ZoneId,
    ) -> Result<Option<SignedCheckpoint>, LedgerError>;
}
