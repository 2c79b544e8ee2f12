//! Storing a batch on a server: one statement for each table.

use std::collections::{BTreeMap, BTreeSet};

use caracal_core::id::ZoneId;
use sea_orm::Value;

use super::arrays::{Column, rows};
use super::{AuditBatch, AuditEntry, AuditHead, TABLE, hour, signed};
use crate::error::StoreError;
use crate::handle::PlatformUnit;

const CHAIN: [(&str, &str); 7] = [
    ("zone_id", "TEXT"),
    ("seq", "BIGINT"),
    ("event_id", "TEXT"),
    ("occurred_at", "BIGINT"),
    ("ingested_at", "BIGINT"),
    ("leaf_hash", "BYTEA"),
    ("chain_hash", "BYTEA"),
];
const EVENTS: [(&str, &str); 14] = [
    ("zone_id", "TEXT"),
    ("seq", "BIGINT"),
    ("event_id", "TEXT"),
    ("occurred_at", "BIGINT"),
    ("ingested_at", "BIGINT"),
    ("event_type", "TEXT"),
    ("decision", "TEXT"),
    ("evaluation_status", "TEXT"),
    ("request_id", "TEXT"),
    ("application_id", "TEXT"),
    ("agent_session_id", "TEXT"),
    ("authority_record_id", "TEXT"),
    ("data", "TEXT"),
    ("signature", "BYTEA"),
];
const LABELS: [(&str, &str); 4] = [
    ("zone_id", "TEXT"),
    ("label", "TEXT"),
    ("occurred_at", "BIGINT"),
    ("event_id", "TEXT"),
];
const HOURS: [(&str, &str); 6] = [
    ("zone_id", "TEXT"),
    ("hour", "BIGINT"),
    ("decision", "TEXT"),
    ("events", "BIGINT"),
    ("first_seq", "BIGINT"),
    ("last_seq", "BIGINT"),
];
const HEADS: [(&str, &str); 6] = [
    ("zone_id", "TEXT"),
    ("seq", "BIGINT"),
    ("chain_hash", "BYTEA"),
    ("frontier", "BYTEA"),
    ("signed_size", "BIGINT"),
    ("updated_at", "BIGINT"),
];
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What an hour's events of one decision are.
struct Hour {
    events: i64,
    first: u64,
    last: u64,
}

impl PlatformUnit {
    pub(super) async fn append_arrays(&mut self, batch: &AuditBatch) -> Result<(), StoreError> {
        if batch.entries.is_empty() {
            return self.put_heads(batch).await;
        }
        self.ensure_months(&batch.entries).await?;
        self.insert_places(batch).await?;
        self.insert_events(batch).await?;
        self.insert_labels(&batch.entries).await?;
        self.count_hours(&batch.entries).await?;
        self.put_heads(batch).await
    }

    /// Makes the months of the events, before anything is stored: a clock may be wrong, and nothing
    /// that a producer signed is refused for it.
    async fn ensure_months(&mut self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let days: BTreeSet<i64> = entries
            .iter()
            .map(|entry| entry.occurred_at.micros().div_euclid(MICROS_PER_DAY))
            .collect();
        let days = super::arrays::numbers(
            days.into_iter()
                .map(|day| day.saturating_mul(MICROS_PER_DAY)),
        );
        let sql = "SELECT COUNT(audit_partition_ensure(day)) AS n
             FROM unnest(CAST(CAST($1 AS TEXT) AS BIGINT[])) AS day";
        self.query(TABLE, sql, vec![days]).await.map(|_| ())
    }

    async fn insert_places(&mut self, batch: &AuditBatch) -> Result<(), StoreError> {
        let mut columns = columns::<7>();
        for entry in &batch.entries {
            let [zone, seq, id, occurred, ingested, leaf, chain] = &mut columns;
            zone.text(entry.zone_id.as_str());
            seq.number(signed(entry.seq)?);
            id.text(entry.event_id.as_str());
            occurred.number(entry.occurred_at.micros());
            ingested.number(batch.at.micros());
            leaf.bytes(&entry.leaf_hash);
            chain.bytes(&entry.chain_hash);
        }
        self.insert_arrays("audit_chain", &CHAIN, columns, "").await
    }

    async fn insert_events(&mut self, batch: &AuditBatch) -> Result<(), StoreError> {
        let mut columns = columns::<14>();
        for entry in &batch.entries {
            let [
                zone,
                seq,
                id,
                occurred,
                ingested,
                kind,
                decision,
                status,
                request,
                application,
                session,
                record,
                data,
                signature,
            ] = &mut columns;
            zone.text(entry.zone_id.as_str());
            seq.number(signed(entry.seq)?);
            id.text(entry.event_id.as_str());
            occurred.number(entry.occurred_at.micros());
            ingested.number(batch.at.micros());
            kind.text(&entry.event_type);
            decision.text(&entry.decision);
            status.text(&entry.evaluation_status);
            request.text(&entry.request_id);
            application.opt_text(entry.application_id.as_deref());
            session.opt_text(entry.agent_session_id.as_deref());
            record.opt_text(entry.authority_record_id.as_deref());
            data.text(&entry.data);
            signature.opt_bytes(entry.signature.as_deref());
        }
        self.insert_arrays(TABLE, &EVENTS, columns, "").await
    }

    async fn insert_labels(&mut self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut columns = columns::<4>();
        let mut any = false;
        for entry in entries {
            for label in &entry.labels {
                let [zone, name, occurred, id] = &mut columns;
                zone.text(entry.zone_id.as_str());
                name.text(label);
                occurred.number(entry.occurred_at.micros());
                id.text(entry.event_id.as_str());
                any = true;
            }
        }
        if !any {
            return Ok(());
        }
        let again = "ON CONFLICT DO NOTHING";
        self.insert_arrays("audit_event_labels", &LABELS, columns, again)
            .await
    }

    async fn count_hours(&mut self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut hours: BTreeMap<(&ZoneId, i64, &str), Hour> = BTreeMap::new();
        for entry in entries {
            let key = (
                &entry.zone_id,
                hour(entry.occurred_at),
                entry.decision.as_str(),
            );
            let counted = hours.entry(key).or_insert(Hour {
                events: 0,
                first: entry.seq,
                last: entry.seq,
            });
            counted.events += 1;
            counted.first = counted.first.min(entry.seq);
            counted.last = counted.last.max(entry.seq);
        }
        let mut columns = columns::<6>();
        for ((zone_id, number, name), counted) in hours {
            let [zone, hour, decision, events, first, last] = &mut columns;
            zone.text(zone_id.as_str());
            hour.number(number);
            decision.text(name);
            events.number(counted.events);
            first.number(signed(counted.first)?);
            last.number(signed(counted.last)?);
        }
        let again = "ON CONFLICT (zone_id, hour, decision) DO UPDATE SET
            events = audit_hours.events + excluded.events,
            first_seq = LEAST(audit_hours.first_seq, excluded.first_seq),
            last_seq = GREATEST(audit_hours.last_seq, excluded.last_seq)";
        self.insert_arrays("audit_hours", &HOURS, columns, again)
            .await
    }

    async fn put_heads(&mut self, batch: &AuditBatch) -> Result<(), StoreError> {
        if batch.heads.is_empty() {
            return Ok(());
        }
        // The last of a zone counts.
        let heads: BTreeMap<&ZoneId, &AuditHead> = batch
            .heads
            .iter()
            .map(|head| (&head.zone_id, head))
            .collect();
        let mut columns = columns::<6>();
        for head in heads.into_values() {
            let [zone, seq, chain, frontier, size, updated] = &mut columns;
            zone.text(head.zone_id.as_str());
            seq.number(signed(head.seq)?);
            chain.bytes(&head.chain_hash);
            frontier.bytes(&head.frontier);
            size.number(0);
            updated.number(batch.at.micros());
        }
        let again = "ON CONFLICT (zone_id) DO UPDATE SET seq = excluded.seq,
            chain_hash = excluded.chain_hash, frontier = excluded.frontier,
            updated_at = excluded.updated_at";
        self.insert_arrays("audit_heads", &HEADS, columns, again)
            .await
    }

    async fn insert_arrays<const N: usize>(
        &mut self,
        table: &'static str,
        kinds: &[(&str, &str); N],
        columns: [Column; N],
        again: &str,
    ) -> Result<(), StoreError> {
        let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        let rows = rows("rows", kinds);
        let sql = format!("INSERT INTO {table} ({names}) SELECT {names} FROM {rows} {again}");
        let values: Vec<Value> = columns.into_iter().map(Column::bind).collect();
        self.execute(table, sql, values).await.map(|_| ())
    }

    /// Waits until no other process extends these chains or reads these producers' logs, until the
    /// unit ends. In one order for everybody, so that nobody waits in a circle.
    pub(super) async fn lock_evidence(
        &mut self,
        names: BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let names = super::arrays::texts(names.iter().map(String::as_str));
        let sql = "SELECT pg_advisory_xact_lock(number) FROM (
                SELECT DISTINCT hashtextextended(name, 1145) AS number
                FROM unnest(CAST(CAST($1 AS TEXT) AS TEXT[])) AS name ORDER BY 1) AS numbers";
        self.query(TABLE, sql, vec![names]).await.map(|_| ())
    }
}

fn columns<const N: usize>() -> [Column; N] {
    std::array::from_fn(|_| Column::new())
}
