//! The admin audit chain: who changed what through the administration, in an order that can't be
//! rewritten unseen.
//!
//! A row is written in the transaction of the change that it tells of. Each zone has a chain of its
//! own, and what belongs to no zone has one. With lengths of 4 bytes, numbers of 8, big-endian, and
//! an absent value as the length `ffffffff`:
//!
//! ```text
//! content = SHA-256(len(D), D, zone, seq, previous content, id, request id, actor id, actor name,
//!                   actor scope, action, method, path, entity type, entity id, status code,
//!                   payload, occurred at in µs)             D "caracal-admin-audit/1"
//! hmac    = HMAC-SHA256(audit key, content)
//! ```
//!
//! Hashes are stored as lower-case hex; the content before the first is the empty text.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hmac;
use caracal_core::id::{EventId, ZoneId};
use caracal_core::{Secret, Timestamp};
use sea_orm::Value;

use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform, PlatformUnit, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Entity, Row, Where, params};
use crate::store::Inner;

const TABLE: &str = "admin_audit_events";
const DOMAIN: &str = "caracal-admin-audit/1";
/// The chain of what belongs to no zone.
const PLATFORM: &str = "";
/// How many rows a verification reads at a time.
const VERIFY_ROWS: i64 = 500;

/// What an administrator did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminAudit {
    /// The correlation id.
    pub request_id: String,
    /// Who did it.
    pub actor_id: Option<String>,
    /// Their name.
    pub actor_name: Option<String>,
    /// What they may do.
    pub actor_scope: Option<String>,
    /// `METHOD path`, or a sentence for what one request did besides.
    pub action: String,
    /// The HTTP method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// Collection of the changed object.
    pub entity_type: Option<String>,
    /// Its id.
    pub entity_id: Option<String>,
    /// Status of the answer.
    pub status_code: u16,
    /// What changed, JSON text without values.
    pub payload: Option<String>,
}

/// A row of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminAuditRow {
    /// Row id.
    pub id: EventId,
    /// The zone; `None` in the chain of what belongs to no zone.
    pub zone_id: Option<ZoneId>,
    /// Its place in the chain, from 1.
    pub chain_seq: i64,
    /// What was done.
    pub audit: AdminAudit,
    /// When.
    pub occurred_at: Timestamp,
    /// Whether the row is signed.
    pub signed: bool,
    content_hash: String,
    prev_hash: String,
    chain_hmac: Option<String>,
}

/// Which rows to list.
#[derive(Debug, Clone, Default)]
pub struct AdminAuditFilter {
    /// At this instant or later.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
    /// By this actor.
    pub actor_id: Option<String>,
    /// On objects of this collection.
    pub entity_type: Option<String>,
    /// On this object.
    pub entity_id: Option<String>,
    /// By this HTTP method.
    pub method: Option<String>,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainVerdict {
    /// How many rows were checked.
    pub rows: i64,
    /// The first thing wrong.
    pub fault: Option<ChainFault>,
}

/// Why a chain can't be trusted from a row on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainFault {
    /// A row is missing before this number.
    Gap(i64),
    /// The row of this number does not follow the one before it.
    Broken(i64),
    /// The row of this number was altered.
    Altered(i64),
    /// The signature of the row of this number is missing or wrong.
    Signature(i64),
    /// The chain ends before this number, where its head stands.
    Truncated(i64),
}

impl Entity for AdminAuditRow {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "zone_id, seq, id, request_id, actor_id, actor_name, \
         actor_scope, action, method, path, entity_type, entity_id, status_code, payload, \
         occurred_at, content_hash, prev_hash, chain_hmac";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let zone: String = row.get("zone_id")?;
        let zone_id = if zone == PLATFORM {
            None
        } else {
            Some(row.get("zone_id")?)
        };
        let status: i64 = row.get("status_code")?;
        let chain_hmac: Option<String> = row.opt("chain_hmac")?;
        Ok(Self {
            id: row.get("id")?,
            zone_id,
            chain_seq: row.get("seq")?,
            audit: AdminAudit {
                request_id: row.get("request_id")?,
                actor_id: row.opt("actor_id")?,
                actor_name: row.opt("actor_name")?,
                actor_scope: row.opt("actor_scope")?,
                action: row.get("action")?,
                method: row.get("method")?,
                path: row.get("path")?,
                entity_type: row.opt("entity_type")?,
                entity_id: row.opt("entity_id")?,
                status_code: u16::try_from(status).map_err(|e| row.bad("status_code", e))?,
                payload: row.opt("payload")?,
            },
            occurred_at: row.get("occurred_at")?,
            signed: chain_hmac.is_some(),
            content_hash: row.get("content_hash")?,
            prev_hash: row.get("prev_hash")?,
            chain_hmac,
        })
    }
}

impl AdminAuditFilter {
    fn conditions(&self, rows: Where) -> Where {
        let mut rows = rows
            .and_some("actor_id", self.actor_id.as_ref())
            .and_some("entity_type", self.entity_type.as_ref())
            .and_some("entity_id", self.entity_id.as_ref())
            .and_some("method", self.method.as_ref());
        if let Some(since) = self.since {
            rows = rows.and("occurred_at >= ?", params![since]);
        }
        if let Some(until) = self.until {
            rows = rows.and("occurred_at < ?", params![until]);
        }
        rows
    }
}

const HEAD: &str = "SELECT seq, content_hash FROM admin_audit_heads WHERE zone_id = $1";
const VERIFY: &str = "WHERE zone_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
const ADVANCE: &str = "INSERT INTO admin_audit_heads (zone_id, seq, content_hash)
     VALUES ($1, $2, $3)
     ON CONFLICT (zone_id) DO UPDATE SET seq = excluded.seq, content_hash = excluded.content_hash";

impl<A: Access> InZone<A> {
    /// Rows of the zone's chain, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_admin_audit(
        &self,
        filter: &AdminAuditFilter,
        page: &Page,
    ) -> Result<Slice<AdminAuditRow>, StoreError> {
        self.fetch_page(
            filter.conditions(Where::zone()),
            ("occurred_at", "id"),
            page,
            position,
        )
        .await
    }

    /// Checks the zone's chain from its first row to its head: no row altered, left out or added
    /// without the key.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn verify_admin_audit(&self) -> Result<ChainVerdict, StoreError> {
        let head = read_head(&self.query(TABLE, HEAD, vec![]).await?)?;
        let mut check = Check::new(self.zone_id().as_str(), &self.inner);
        loop {
            let rows = self.fetch(VERIFY, params![check.seq, VERIFY_ROWS]).await?;
            if !check.take(&rows) {
                return Ok(check.end(head.as_ref()));
            }
        }
    }
}

impl ZoneUnit {
    /// Appends a row to the zone's chain, in this transaction.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn record_admin_audit(&mut self, audit: &AdminAudit) -> Result<EventId, StoreError> {
        let head = read_head(&self.query(TABLE, HEAD, vec![]).await?)?;
        let row = next_row(&self.inner, Some(self.zone_id().clone()), head, audit);
        self.insert(TABLE, AdminAuditRow::COLUMNS, values(&row))
            .await?;
        self.execute(TABLE, ADVANCE, params![row.chain_seq, row.content_hash])
            .await?;
        Ok(row.id)
    }
}

impl<A: Access> OnPlatform<A> {
    /// Rows of the chain of what belongs to no zone, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_admin_audit(
        &self,
        filter: &AdminAuditFilter,
        page: &Page,
    ) -> Result<Slice<AdminAuditRow>, StoreError> {
        let rows = Where::any().and("zone_id = ?", params![PLATFORM]);
        self.fetch_page(
            filter.conditions(rows),
            ("occurred_at", "id"),
            page,
            position,
        )
        .await
    }

    /// Checks the chain of what belongs to no zone; see [`InZone::verify_admin_audit`].
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn verify_admin_audit(&self) -> Result<ChainVerdict, StoreError> {
        let head = read_head(&self.query(TABLE, HEAD, params![PLATFORM]).await?)?;
        let mut check = Check::new(PLATFORM, &self.inner);
        loop {
            let rows = self
                .fetch(VERIFY, params![PLATFORM, check.seq, VERIFY_ROWS])
                .await?;
            if !check.take(&rows) {
                return Ok(check.end(head.as_ref()));
            }
        }
    }
}

impl PlatformUnit {
    /// Appends a row to the chain of what belongs to no zone, in this transaction.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn record_admin_audit(&mut self, audit: &AdminAudit) -> Result<EventId, StoreError> {
        let head = read_head(&self.query(TABLE, HEAD, params![PLATFORM]).await?)?;
        let row = next_row(&self.inner, None, head, audit);
        let mut all = params![PLATFORM];
        all.extend(values(&row));
        self.insert(TABLE, AdminAuditRow::COLUMNS, all).await?;
        self.execute(
            TABLE,
            ADVANCE,
            params![PLATFORM, row.chain_seq, row.content_hash],
        )
        .await?;
        Ok(row.id)
    }
}

fn position(row: &AdminAuditRow) -> Cursor {
    Cursor {
        at: row.occurred_at,
        id: row.id.to_string(),
    }
}

/// The last row's number and content hash.
type Head = (i64, String);

fn read_head(rows: &[sea_orm::QueryResult]) -> Result<Option<Head>, StoreError> {
    let Some(row) = rows.first().map(|row| Row::new(row, "admin_audit_heads")) else {
        return Ok(None);
    };
    Ok(Some((row.get("seq")?, row.get("content_hash")?)))
}

fn next_row(
    inner: &Inner,
    zone_id: Option<ZoneId>,
    head: Option<Head>,
    audit: &AdminAudit,
) -> AdminAuditRow {
    let (last, prev_hash) = head.unwrap_or_default();
    let mut row = AdminAuditRow {
        id: EventId::generate(&*inner.clock, &*inner.random),
        zone_id,
        chain_seq: last + 1,
        audit: without_nul(audit),
        occurred_at: inner.now(),
        signed: false,
        content_hash: String::new(),
        prev_hash,
        chain_hmac: None,
    };
    let content = content(&row);
    row.content_hash = hex::encode(content);
    row.chain_hmac = inner
        .audit_key()
        .map(|key| hex::encode(sign(&key, &content)));
    row.signed = row.chain_hmac.is_some();
    row
}

/// Some databases refuse NUL in text, and the hash must be over what is stored.
fn without_nul(audit: &AdminAudit) -> AdminAudit {
    let clean = |text: &String| text.replace('\0', "");
    let clean_some = |text: &Option<String>| text.as_ref().map(clean);
    AdminAudit {
        request_id: clean(&audit.request_id),
        actor_id: clean_some(&audit.actor_id),
        actor_name: clean_some(&audit.actor_name),
        actor_scope: clean_some(&audit.actor_scope),
        action: clean(&audit.action),
        method: clean(&audit.method),
        path: clean(&audit.path),
        entity_type: clean_some(&audit.entity_type),
        entity_id: clean_some(&audit.entity_id),
        status_code: audit.status_code,
        payload: clean_some(&audit.payload),
    }
}

/// The values of a row behind its `zone_id`.
fn values(row: &AdminAuditRow) -> Vec<Value> {
    let audit = &row.audit;
    params![
        row.chain_seq,
        row.id,
        audit.request_id,
        audit.actor_id,
        audit.actor_name,
        audit.actor_scope,
        audit.action,
        audit.method,
        audit.path,
        audit.entity_type,
        audit.entity_id,
        i64::from(audit.status_code),
        audit.payload,
        row.occurred_at,
        row.content_hash,
        row.prev_hash,
        row.chain_hmac
    ]
}

fn content(row: &AdminAuditRow) -> [u8; 32] {
    let audit = &row.audit;
    let mut hash = ContentHash(Context::new(&SHA256));
    hash.text(Some(DOMAIN));
    hash.text(row.zone_id.as_ref().map(ZoneId::as_str));
    hash.number(row.chain_seq);
    hash.text(Some(&row.prev_hash));
    hash.text(Some(row.id.as_str()));
    hash.text(Some(&audit.request_id));
    hash.text(audit.actor_id.as_deref());
    hash.text(audit.actor_name.as_deref());
    hash.text(audit.actor_scope.as_deref());
    hash.text(Some(&audit.action));
    hash.text(Some(&audit.method));
    hash.text(Some(&audit.path));
    hash.text(audit.entity_type.as_deref());
    hash.text(audit.entity_id.as_deref());
    hash.number(i64::from(audit.status_code));
    hash.text(audit.payload.as_deref());
    hash.number(row.occurred_at.micros());
    let mut out = [0; 32];
    out.copy_from_slice(hash.0.finish().as_ref());
    out
}

struct ContentHash(Context);

impl ContentHash {
    fn text(&mut self, text: Option<&str>) {
        match text {
            Some(text) => {
                // A text as long as the mark of absence does not fit a row.
                let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
                self.0.update(&length.to_be_bytes());
                self.0.update(text.as_bytes());
            }
            None => self.0.update(&u32::MAX.to_be_bytes()),
        }
    }

    fn number(&mut self, number: i64) {
        self.0.update(&number.to_be_bytes());
    }
}

fn sign(key: &Secret<Vec<u8>>, content: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&key, content).as_ref());
    out
}

fn is_signed(key: &Secret<Vec<u8>>, content: &[u8], signature: Option<&str>) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let tag = signature.and_then(|text| hex::decode(text).ok());
    tag.is_some_and(|tag| hmac::verify(&key, content, &tag).is_ok())
}

/// A walk along one chain.
struct Check {
    chain: String,
    key: Option<Arc<Secret<Vec<u8>>>>,
    seq: i64,
    content_hash: String,
    fault: Option<ChainFault>,
}

impl Check {
    fn new(chain: &str, inner: &Inner) -> Self {
        Self {
            chain: chain.to_owned(),
            key: inner.audit_key(),
            seq: 0,
            content_hash: String::new(),
            fault: None,
        }
    }

    /// Checks the next rows; false when there is nothing more to check.
    fn take(&mut self, rows: &[AdminAuditRow]) -> bool {
        for row in rows {
            self.fault = self.judge(row);
            if self.fault.is_some() {
                return false;
            }
            self.seq = row.chain_seq;
            self.content_hash.clone_from(&row.content_hash);
        }
        !rows.is_empty()
    }

    fn judge(&self, row: &AdminAuditRow) -> Option<ChainFault> {
        let content = content(row);
        let of_chain = row.zone_id.as_ref().map_or(PLATFORM, ZoneId::as_str) == self.chain;
        if row.chain_seq != self.seq + 1 {
            Some(ChainFault::Gap(row.chain_seq))
        } else if row.prev_hash != self.content_hash || !of_chain {
            Some(ChainFault::Broken(row.chain_seq))
        } else if row.content_hash != hex::encode(content) {
            Some(ChainFault::Altered(row.chain_seq))
        } else if let Some(key) = &self.key
            && !is_signed(key, &content, row.chain_hmac.as_deref())
        {
            Some(ChainFault::Signature(row.chain_seq))
        } else {
            None
        }
    }

    fn end(self, head: Option<&Head>) -> ChainVerdict {
        let short = head
            .filter(|(seq, _)| *seq > self.seq)
            .map(|(seq, _)| ChainFault::Truncated(*seq));
        ChainVerdict {
            rows: self.seq,
            fault: self.fault.or(short),
        }
    }
}
