//! What the Audit role needs from the store.
//!
//! The ledger is append-only. Everything that belongs together (events, the chains' new heads, how
//! far the producers' logs are stored, alerts) arrives as one [`Batch`] and is stored in one
//! transaction, so that a crash between two of them cannot happen.

#[cfg(test)]
pub(crate) mod memory;
mod placing;
mod stored;

use std::fmt;

use async_trait::async_trait;
use caracal_core::Timestamp;
use caracal_core::id::{EventId, ZoneId};
use caracal_evidence::log::ProducerId;
use caracal_evidence::{ChainHead, FrameSignature, Hash, Link, Position, ReceivedEvent};
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

/// The zone of alerts that belong to none.
pub(crate) const NO_ZONE: &str = "unknown";

/// An event that has no place yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// The part of a producer's log that it came in: a place in [`Draft::parts`].
    pub part: Option<usize>,
    /// The zone.
    pub zone_id: ZoneId,
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

impl Unplaced {
    /// What is stored of an event.
    pub(crate) fn of(
        event: &ReceivedEvent<'_>,
        signature: Option<FrameSignature>,
        part: Option<usize>,
    ) -> Self {
        let indexed = event.indexed();
        Self {
            part,
            zone_id: event.zone_id.clone(),
            event_id: event.id.clone(),
            occurred_at: event.occurred_at,
            event_type: event.event_type.to_string(),
            decision: event.decision.to_string(),
            evaluation_status: event.evaluation_status.to_string(),
            request_id: event.request_id.to_string(),
            application_id: indexed.application_id.map(String::from),
            agent_session_id: indexed.agent_session_id.map(String::from),
            authority_record_id: indexed.authority_record_id.map(String::from),
            labels: indexed.labels,
            data: event.data.to_owned(),
            signature,
        }
    }

    /// The event at its place.
    pub(crate) fn at(self, link: Link) -> Entry {
        Entry {
            zone_id: self.zone_id,
            link,
            event_id: self.event_id,
            occurred_at: self.occurred_at,
            event_type: self.event_type,
            decision: self.decision,
            evaluation_status: self.evaluation_status,
            request_id: self.request_id,
            application_id: self.application_id,
            agent_session_id: self.agent_session_id,
            authority_record_id: self.authority_record_id,
            labels: self.labels,
            data: self.data,
            signature: self.signature,
        }
    }
}

/// A part of a producer's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The opening of the log that wrote it.
    pub producer: ProducerId,
    /// The first position of that opening.
    pub origin: Position,
    /// The first position of the part.
    pub first: Position,
    /// The last position of the part.
    pub last: Position,
}

/// What arrived from other processes, to be placed and stored in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The parts of producers' logs that it covers.
    pub parts: Vec<Part>,
    /// The events, in the order of their arrival.
    pub events: Vec<Unplaced>,
    /// Alerts. One whose id is stored already is not stored again.
    pub alerts: Vec<Alert>,
    /// When it was made.
    pub at: Timestamp,
}

/// What retention did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Months that were made.
    pub created: u64,
    /// Months whose texts were dropped.
    pub dropped: u64,
    /// Texts that were taken away one by one.
    pub texts: u64,
}

/// Alerts about lost evidence that no operator has acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub alerts: u64,
    /// The oldest.
    pub oldest: Option<LostAlert>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostAlert {
    /// The alert's id.
    pub id: EventId,
    /// `evidence_lost` or `log_gap`.
    pub kind: String,
    /// What was found, as JSON text.
    pub detail: String,
    /// When it was raised.
    pub raised_at: Timestamp,
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
    /// Parts of logs that are stored with this batch.
    pub parts: Vec<Part>,
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

    /// Places and stores what arrived from other processes, all of it or nothing; no other replica
    /// extends the same chains meanwhile. Events that are stored already are left out. With `careful`
    /// it looks for each of them, else only for those of parts that are stored already.
    ///
    /// Answers what was stored.
    async fn append(&self, draft: &Draft, careful: bool) -> Result<Batch, LedgerError>;

    /// The first missing positions of logs that have had a hole since before `before`.
    async fn holes(&self, before: Timestamp) -> Result<Vec<Part>, LedgerError>;

    /// Stores alerts; one whose id is stored already is not stored again.
    async fn raise(&self, alerts: &[Alert], at: Timestamp) -> Result<(), LedgerError>;

    /// Alerts about lost evidence that no operator has acknowledged.
    async fn lost(&self) -> Result<Lost, LedgerError>;

    /// An operator has looked into all alerts about lost evidence, or into one; answers how many that
    /// were.
    async fn acknowledge(&self, alert: Option<&EventId>, at: Timestamp)
    -> Result<u64, LedgerError>;

    /// Makes room for coming events and removes the texts of those that happened before `before`.
    async fn retain(&self, before: Timestamp, now: Timestamp) -> Result<Retained, LedgerError>;

    /// For how many days operators want events to be kept; `None` when nobody said.
    async fn retention_days(&self) -> Result<Option<i64>, LedgerError>;

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
