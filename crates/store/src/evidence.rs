//! Audit events at rest: append-only, chained per zone, searchable.
//!
//! The Audit role gives each event its place and its hashes; the store keeps them. What belongs
//! together (events of any zones, the chains' new heads, how far the producers' logs are stored,
//! alerts) is stored in one transaction. Columns beside the text exist for filters only: the text is
//! what was signed and hashed.
//!
//! In a file an event is one row. On a server it is two: its place and hashes, kept for ever
//! (`audit_chain`), and its text by month (`audit_events`); see `months`. Many processes may store
//! there at once: see `parts`.

use caracal_core::Timestamp;
use caracal_core::id::{EventId, ZoneId};

use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Entity, IN_LIST, Row, Where, params};

mod arrays;
mod bulk;
mod keep;
mod months;
mod parts;
mod search;
mod write;

pub use keep::{AuditKey, AuditMonth, LostEvidence};
pub use parts::AuditPart;
pub use search::{AuditSearch, AuditWalk};

/// Statements of a zone on it are read in the order of its indexes.
pub(crate) const TABLE: &str = "audit_events";

/// An event to be stored at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The zone.
    pub zone_id: ZoneId,
    /// Its number in the zone's chain, from 1.
    pub seq: u64,
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
    pub signature: Option<Vec<u8>>,
    /// Its leaf in the zone's tree.
    pub leaf_hash: Vec<u8>,
    /// Its link in the zone's chain.
    pub chain_hash: Vec<u8>,
}

/// The end of a zone's chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// The zone.
    pub zone_id: ZoneId,
    /// The last event's number.
    pub seq: u64,
    /// The last event's link.
    pub chain_hash: Vec<u8>,
    /// The tree's frontier.
    pub frontier: Vec<u8>,
}

/// Something that an operator must look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditAlert {
    /// The zone; `unknown` when the trouble names none.
    pub zone_id: ZoneId,
    /// The alert's id.
    pub id: EventId,
    /// What kind of trouble.
    pub kind: String,
    /// The event it is about, when it names one.
    pub event_id: Option<EventId>,
    /// What was found, JSON text.
    pub detail: String,
    /// When it was raised.
    pub raised_at: Timestamp,
}

/// What is stored in one transaction.
#[derive(Debug, Clone, Default)]
pub struct AuditBatch {
    /// Events; within a zone in order of `seq`.
    pub entries: Vec<AuditEntry>,
    /// The heads of the chains that `entries` extend.
    pub heads: Vec<AuditHead>,
    /// Up to where each producer's log is stored with this batch. A watermark never goes back.
    pub watermarks: Vec<(String, u64)>,
    /// Parts of producers' logs that are stored with this batch, in whatever order they come. Begin
    /// the unit with [`crate::Store::begin_evidence`].
    pub parts: Vec<AuditPart>,
    /// Alerts.
    pub alerts: Vec<AuditAlert>,
    /// When the batch was made.
    pub at: Timestamp,
}

/// An event id that is stored already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAuditEvent {
    /// The event's id.
    pub event_id: EventId,
    /// Its place.
    pub seq: u64,
    /// Its leaf.
    pub leaf_hash: Vec<u8>,
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The zone.
    pub zone_id: ZoneId,
    /// Its number in the zone.
    pub seq: u64,
    /// The event's id.
    pub event_id: EventId,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// When it was stored.
    pub ingested_at: Timestamp,
    /// The event's type.
    pub event_type: String,
    /// How it was decided.
    pub decision: String,
    /// The correlation id.
    pub request_id: String,
    /// The producer's JSON text; `None` when retention removed it.
    pub data: Option<String>,
    /// The producer's signature over it.
    pub signature: Option<Vec<u8>>,
    /// Its leaf.
    pub leaf_hash: Vec<u8>,
    /// Its link.
    pub chain_hash: Vec<u8>,
    /// The link of the event before it; `None` for the first.
    pub chain_hash_before: Option<Vec<u8>>,
}

/// A signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCheckpoint {
    /// The zone.
    pub zone_id: ZoneId,
    /// The size of the tree.
    pub size: u64,
    /// The signed note.
    pub note: String,
    /// When it was signed.
    pub at: Timestamp,
}

/// How the events of a period were decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecisionCounts {
    /// `allow`.
    pub allowed: i64,
    /// `deny`.
    pub denied: i64,
}

impl Entity for AuditRecord {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "audit_events.zone_id AS zone_id, seq, \
         audit_events.event_id AS event_id, audit_events.occurred_at AS occurred_at, ingested_at, \
         event_type, decision, request_id, data, signature, leaf_hash, chain_hash, \
         (SELECT earlier.chain_hash FROM audit_events AS earlier WHERE earlier.zone_id = \
         audit_events.zone_id AND earlier.seq = audit_events.seq - 1) AS chain_hash_before";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            zone_id: row.get("zone_id")?,
            seq: unsigned(row, "seq")?,
            event_id: row.get("event_id")?,
            occurred_at: row.get("occurred_at")?,
            ingested_at: row.get("ingested_at")?,
            event_type: row.get("event_type")?,
            decision: row.get("decision")?,
            request_id: row.get("request_id")?,
            data: row.opt("data")?,
            signature: row.opt("signature")?,
            leaf_hash: row.get("leaf_hash")?,
            chain_hash: row.get("chain_hash")?,
            chain_hash_before: row.opt("chain_hash_before")?,
        })
    }
}

impl Entity for AuditHead {
    const TABLE: &'static str = "audit_heads";
    const COLUMNS: &'static str = "zone_id, seq, chain_hash, frontier";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            zone_id: row.get("zone_id")?,
            seq: unsigned(row, "seq")?,
            chain_hash: row.get("chain_hash")?,
            frontier: row.get("frontier")?,
        })
    }
}

impl Entity for AuditCheckpoint {
    const TABLE: &'static str = "audit_checkpoints";
    const COLUMNS: &'static str = "zone_id, size, note, at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            zone_id: row.get("zone_id")?,
            size: unsigned(row, "size")?,
            note: row.get("note")?,
            at: row.get("at")?,
        })
    }
}

impl Entity for AuditAlert {
    const TABLE: &'static str = "audit_alerts";
    const COLUMNS: &'static str = "zone_id, id, kind, event_id, detail, raised_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            zone_id: row.get("zone_id")?,
            id: row.get("id")?,
            kind: row.get("kind")?,
            event_id: row.opt("event_id")?,
            detail: row.get("detail")?,
            raised_at: row.get("raised_at")?,
        })
    }
}

fn unsigned(row: &Row<'_>, name: &str) -> Result<u64, StoreError> {
    u64::try_from(row.get::<i64>(name)?).map_err(|e| row.bad(name, e))
}

fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|e| StoreError::corrupt(TABLE, e.to_string()))
}

impl<A: Access> InZone<A> {
    /// The head of the zone's chain; `None` for a zone without events.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn audit_head(&self) -> Result<Option<AuditHead>, StoreError> {
        self.fetch_one("WHERE zone_id = $1", vec![]).await
    }

    /// Which of these events are stored.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn known_audit_events(
        &self,
        ids: &[EventId],
    ) -> Result<Vec<KnownAuditEvent>, StoreError> {
        let mut known = Vec::new();
        for some in ids.chunks(IN_LIST) {
            let (tail, values) = Where::zone().and_in("event_id", some).tail("");
            let places = self.inner.dialect().audit_places();
            let sql = format!("SELECT event_id, seq, leaf_hash FROM {places} {tail}");
            for row in &self.query(TABLE, sql, values).await? {
                let row = Row::new(row, TABLE);
                known.push(KnownAuditEvent {
                    event_id: row.get("event_id")?,
                    seq: unsigned(&row, "seq")?,
                    leaf_hash: row.get("leaf_hash")?,
                });
            }
        }
        Ok(known)
    }

    /// How events that happened since the hour of `since` were decided.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn count_decisions(&self, since: Timestamp) -> Result<DecisionCounts, StoreError> {
        let sql = "SELECT decision, CAST(SUM(events) AS BIGINT) AS n FROM audit_hours
             WHERE zone_id = $1 AND hour >= $2 GROUP BY decision";
        let mut counts = DecisionCounts::default();
        for row in &self.query("audit_hours", sql, params![hour(since)]).await? {
            let row = Row::new(row, "audit_hours");
            match row.get::<String>("decision")?.as_str() {
                "allow" => counts.allowed = row.get("n")?,
                "deny" => counts.denied = row.get("n")?,
                _ => {}
            }
        }
        Ok(counts)
    }

    /// The checkpoint of the largest size.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn latest_audit_checkpoint(&self) -> Result<Option<AuditCheckpoint>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 ORDER BY size DESC LIMIT 1", vec![])
            .await
    }

    /// Alerts, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_audit_alerts(&self, page: &Page) -> Result<Slice<AuditAlert>, StoreError> {
        self.fetch_page(
            Where::zone(),
            ("raised_at", "id"),
            page,
            |row: &AuditAlert| Cursor {
                at: row.raised_at,
                id: row.id.to_string(),
            },
        )
        .await
    }
}

impl<A: Access> OnPlatform<A> {
    /// Up to where a producer's log is stored; `None` for an unknown producer.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn audit_watermark(&self, producer: &str) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT watermark FROM audit_producers WHERE producer = $1";
        let rows = self
            .query("audit_producers", sql, params![producer])
            .await?;
        let row = rows.first().map(|row| Row::new(row, "audit_producers"));
        row.map(|row| unsigned(&row, "watermark")).transpose()
    }

    /// The first zone behind `after` that has a head, an event or a checkpoint: three reads of an
    /// index, however many rows there are.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn next_audit_zone(
        &self,
        after: Option<&ZoneId>,
    ) -> Result<Option<ZoneId>, StoreError> {
        let places = self.inner.dialect().audit_places();
        let sql = format!(
            "SELECT MIN(zone_id) AS zone_id FROM (
                SELECT MIN(zone_id) AS zone_id FROM audit_heads WHERE zone_id > $1
                UNION ALL SELECT MIN(zone_id) FROM {places} WHERE zone_id > $1
                UNION ALL SELECT MIN(zone_id) FROM audit_checkpoints WHERE zone_id > $1
             ) AS next"
        );
        let after = after.map_or("", ZoneId::as_str);
        let rows = self.query(TABLE, sql, params![after]).await?;
        let row = rows.first().map(|row| Row::new(row, TABLE));
        row.map_or(Ok(None), |row| row.opt("zone_id"))
    }

    /// Chains whose head has no checkpoint, the longest waiting first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn unsigned_audit_heads(&self, limit: i64) -> Result<Vec<AuditHead>, StoreError> {
        self.fetch(
            "WHERE seq > signed_size ORDER BY updated_at LIMIT $1",
            params![limit],
        )
        .await
    }
}

fn hour(at: Timestamp) -> i64 {
    at.seconds().div_euclid(3600)
}
