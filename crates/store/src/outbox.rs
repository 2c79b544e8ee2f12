//! The outbox: messages that leave exactly when the change that they tell of is committed.
//!
//! Several publishers may work at once. One claims messages for a while by moving the time before
//! which nobody else may publish them; what a publisher that died had claimed is due again after that
//! time. Messages leave at least once and in no promised order; consumers dedupe by `outbox_id`.

mod wakes;

use std::collections::BTreeMap;
use std::sync::Arc;

use caracal_core::Timestamp;
use caracal_core::id::{OutboxId, ZoneId};

use crate::dialect::Dialect;
use crate::entity::wire_names;
use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform, PlatformUnit, ZoneUnit};
use crate::sql::{Bind, Entity, IN_LIST, Row, Where, json_text, params, placeholders};

pub(crate) use wakes::{CHANNEL, Wakes};

const TABLE: &str = "outbox";

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OutboxStatus {
    /// To be published.
    Pending,
    /// Published.
    Published,
    /// Given up, until somebody requeues it.
    Dead,
}

wire_names!(OutboxStatus { Pending => "pending", Published => "published", Dead => "dead" });

/// A message at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Row id, `outbox_id` on the stream.
    pub id: OutboxId,
    /// The zone it tells of.
    pub zone_id: ZoneId,
    /// The stream.
    pub topic: String,
    /// Names the occurrence: the second message of the same key is dropped.
    pub dedupe_key: String,
    /// The fields, in order.
    pub payload: Vec<(String, String)>,
    /// Where it stands.
    pub status: OutboxStatus,
    /// Attempts that failed.
    pub attempts: i64,
    /// Not to be published before.
    pub available_at: Timestamp,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// Figures for metrics and readiness.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutboxStats {
    /// Messages per status.
    pub by_status: BTreeMap<OutboxStatus, i64>,
    /// When the oldest pending message was stored.
    pub oldest_pending: Option<Timestamp>,
    /// When the oldest dead message was stored.
    pub oldest_dead: Option<Timestamp>,
}

impl OutboxStats {
    /// How many messages have the status.
    #[must_use]
    pub fn count(&self, status: OutboxStatus) -> i64 {
        self.by_status.get(&status).copied().unwrap_or(0)
    }
}

impl Entity for OutboxMessage {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "id, zone_id, topic, dedupe_key, payload, status, attempts, \
         available_at, created_at, published_at, last_error";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            topic: row.get("topic")?,
            dedupe_key: row.get("dedupe_key")?,
            payload: row.json("payload")?,
            status: row.get("status")?,
            attempts: row.get("attempts")?,
            available_at: row.get("available_at")?,
            created_at: row.get("created_at")?,
            published_at: row.opt("published_at")?,
            last_error: row.opt("last_error")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// One message of the zone.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_outbox_message(
        &self,
        id: &OutboxId,
    ) -> Result<Option<OutboxMessage>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// The newest message of a topic whose dedupe key begins with `prefix`.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_newest_outbox_message(
        &self,
        topic: &str,
        prefix: &str,
    ) -> Result<Option<OutboxMessage>, StoreError> {
        let end = format!("{prefix}\u{10ffff}");
        self.fetch_one(
            "WHERE zone_id = $1 AND topic = $2 AND dedupe_key >= $3 AND dedupe_key < $4
             ORDER BY created_at DESC, id DESC LIMIT 1",
            params![topic, prefix, end],
        )
        .await
    }
}

impl ZoneUnit {
    /// Stores a message that leaves when the unit commits. A message of the same topic and dedupe
    /// key is kept instead; either way the stored message's id is returned.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn enqueue(
        &mut self,
        topic: &str,
        dedupe_key: &str,
        payload: Vec<(String, String)>,
    ) -> Result<OutboxId, StoreError> {
        let id = OutboxId::generate(&*Arc::clone(&self.inner.clock), &*self.inner.random);
        let now = self.now();
        // An update that changes nothing makes RETURNING answer for the kept row as well.
        let sql = "INSERT INTO outbox (zone_id, id, topic, dedupe_key, payload, status, attempts,
                available_at, created_at)
             VALUES ($1, $2, $3, $4, $5, 'pending', 0, $6, $6)
             ON CONFLICT (zone_id, topic, dedupe_key) DO UPDATE SET topic = outbox.topic
             RETURNING id";
        let values = params![id, topic, dedupe_key, json_text(TABLE, &payload)?, now];
        let rows = self.query(TABLE, sql, values).await?;
        self.enqueued();
        match rows.first() {
            Some(row) => Row::new(row, TABLE).get("id"),
            None => Err(StoreError::corrupt(TABLE, "a stored message has no id")),
        }
    }

    /// Makes a dead message of the zone pending again. False when there is none of that id.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn requeue_outbox_message(&mut self, id: &OutboxId) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                TABLE,
                "UPDATE outbox SET status = 'pending', attempts = 0, available_at = $3
                 WHERE zone_id = $1 AND id = $2 AND status = 'dead'",
                params![id, now],
            )
            .await?;
        self.enqueued();
        Ok(touched > 0)
    }
}

impl<A: Access> OnPlatform<A> {
    /// The pending messages that are due at `now`, oldest first, at most `limit` of them. Nothing is
    /// claimed by looking.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn pending_outbox_messages(
        &self,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<OutboxMessage>, StoreError> {
        self.fetch(
            "WHERE status = 'pending' AND available_at <= $1 ORDER BY available_at, id LIMIT $2",
            params![now, limit],
        )
        .await
    }

    /// Messages of a status, of one zone or of all, oldest first, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn outbox_messages(
        &self,
        status: OutboxStatus,
        zone: Option<&ZoneId>,
        limit: i64,
    ) -> Result<Vec<OutboxMessage>, StoreError> {
        let status = format!("status = '{}'", status.as_str());
        let (tail, values) = Where::any()
            .and(&status, vec![])
            .and_some("zone_id", zone)
            .tail(&format!("ORDER BY created_at, id LIMIT {limit}"));
        self.fetch(&tail, values).await
    }

    /// Figures for metrics and readiness.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn outbox_stats(&self) -> Result<OutboxStats, StoreError> {
        let mut stats = OutboxStats::default();
        for status in [
            OutboxStatus::Pending,
            OutboxStatus::Published,
            OutboxStatus::Dead,
        ] {
            let oldest = if status == OutboxStatus::Published {
                "NULL"
            } else {
                "MIN(created_at)"
            };
            // The name stands in the text, so that the status's own small index can answer.
            let sql = format!(
                "SELECT COUNT(*) AS n, {oldest} AS oldest FROM outbox WHERE status = '{}'",
                status.as_str()
            );
            let rows = self.query(TABLE, sql, vec![]).await?;
            let Some(row) = rows.first().map(|row| Row::new(row, TABLE)) else {
                continue;
            };
            stats.by_status.insert(status, row.get("n")?);
            match status {
                OutboxStatus::Pending => stats.oldest_pending = row.opt("oldest")?,
                OutboxStatus::Dead => stats.oldest_dead = row.opt("oldest")?,
                OutboxStatus::Published => {}
            }
        }
        Ok(stats)
    }
}

impl PlatformUnit {
    /// Claims messages that are due, at most `limit` of them: nobody else claims them before `until`,
    /// unless [`PlatformUnit::release_outbox_messages`] gives them back. In the order in which they
    /// were stored. Messages that another publisher is claiming are passed over.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn claim_outbox_messages(
        &mut self,
        until: Timestamp,
        limit: i64,
    ) -> Result<Vec<OutboxMessage>, StoreError> {
        let (now, passing_over) = (self.now(), self.inner.dialect().passing_over_locked());
        let sql = format!(
            "WITH due (due_id) AS MATERIALIZED (
                SELECT id FROM outbox WHERE status = 'pending' AND available_at <= $1
                ORDER BY available_at, id LIMIT $2 {passing_over})
             UPDATE outbox SET available_at = $3 FROM due WHERE id = due_id
             RETURNING {}",
            OutboxMessage::COLUMNS
        );
        let rows = self.query(TABLE, sql, params![now, limit, until]).await?;
        let mut claimed = rows
            .iter()
            .map(|row| OutboxMessage::read(&Row::new(row, TABLE)))
            .collect::<Result<Vec<_>, _>>()?;
        claimed.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(claimed)
    }

    /// Gives claimed messages back unpublished: they are due at once, and no attempt is counted.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn release_outbox_messages(&mut self, ids: &[OutboxId]) -> Result<(), StoreError> {
        let now = self.now();
        for some in ids.chunks(IN_LIST) {
            let marks = placeholders(2, some.len());
            let sql = format!(
                "UPDATE outbox SET available_at = $1 WHERE status = 'pending' AND id IN ({marks})"
            );
            let mut values = params![now];
            values.extend(some.iter().map(Bind::bind));
            self.execute(TABLE, sql, values).await?;
        }
        Ok(())
    }

    /// Makes dead messages pending again, as if never tried: all of them, those of one zone, or one.
    /// Answers how many those were.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn requeue_outbox_messages(
        &mut self,
        zone: Option<&ZoneId>,
        id: Option<&OutboxId>,
    ) -> Result<u64, StoreError> {
        let (tail, values) = Where::any()
            .and("status = 'dead'", vec![])
            .and_some("zone_id", zone)
            .and_some("id", id)
            .tail("");
        let now = self.now().micros();
        let sql = format!(
            "UPDATE outbox SET status = 'pending', attempts = 0, available_at = {now} {tail}"
        );
        let touched = self.execute(TABLE, sql, values).await?;
        if touched > 0 && self.inner.dialect() == Dialect::Postgres {
            let wake = format!("SELECT pg_notify('{CHANNEL}', '')");
            self.query(TABLE, wake, vec![]).await?;
        }
        Ok(touched)
    }

    /// Marks messages as published.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn mark_outbox_published(&mut self, ids: &[OutboxId]) -> Result<(), StoreError> {
        let now = self.now();
        for some in ids.chunks(IN_LIST) {
            let marks = placeholders(2, some.len());
            let sql = format!(
                "UPDATE outbox SET status = 'published', published_at = $1, last_error = NULL
                 WHERE id IN ({marks})"
            );
            let mut values = params![now];
            values.extend(some.iter().map(Bind::bind));
            self.execute(TABLE, sql, values).await?;
        }
        Ok(())
    }

    /// Records a failed attempt: the message is tried again at `retry_at`, or is dead without one.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn mark_outbox_failed(
        &mut self,
        id: &OutboxId,
        error: &str,
        retry_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let status = if retry_at.is_some() {
            OutboxStatus::Pending
        } else {
            OutboxStatus::Dead
        };
        let now = self.now();
        self.execute(
            TABLE,
            "UPDATE outbox SET attempts = attempts + 1, last_error = $2, status = $3,
                available_at = $4
             WHERE id = $1",
            params![id, error, status, retry_at.unwrap_or(now)],
        )
        .await
        .map(|_| ())
    }

    /// Deletes messages published before `before`, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn delete_published_outbox(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let (tail, values) = Where::any()
            .and("status = 'published' AND published_at < ?", params![before])
            .tail(&format!("ORDER BY published_at LIMIT {limit}"));
        let sql = format!("DELETE FROM outbox WHERE id IN (SELECT id FROM outbox {tail})");
        self.execute(TABLE, sql, values).await
    }
}
