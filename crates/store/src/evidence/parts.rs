//! Parts of producers' logs, stored by several processes at once.
//!
//! Parts of one log may be stored in any order. What is stored without a hole from the log's first
//! position on is its watermark: only that may the producer forget. What is stored behind a hole is
//! remembered, so that closing the hole moves the watermark over all of it, and so that a part that
//! arrives twice is known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use caracal_core::Timestamp;
use caracal_core::id::{EventId, ZoneId};
use sea_orm::Value;

use super::arrays::texts;
use super::{AuditHead, KnownAuditEvent, TABLE, signed, unsigned};
use crate::dialect::Dialect;
use crate::error::StoreError;
use crate::handle::{Access, OnPlatform, PlatformUnit};
use crate::sql::{Bind, IN_LIST, Row, params, placeholders};
use crate::store::{PlatformLane, Store};

/// The most stretches behind a hole that are remembered of one log; those farthest away are
/// forgotten, and the producer sends them again.
const MAX_STRETCHES: usize = 256;

/// A part of a producer's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPart {
    /// The producer.
    pub producer: String,
    /// The first position of its log.
    pub origin: u64,
    /// The first position of the part.
    pub first: u64,
    /// The last position of the part.
    pub last: u64,
}

/// What of a producer's log is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stored {
    watermark: u64,
    /// First and last of the stretches behind the watermark, in order, with holes between them.
    ahead: BTreeMap<u64, u64>,
}

impl Stored {
    fn parse(watermark: u64, ahead: &str) -> Option<Self> {
        let mut stretches = BTreeMap::new();
        for stretch in ahead.split(',').filter(|stretch| !stretch.is_empty()) {
            let (first, last) = stretch.split_once('-')?;
            stretches.insert(first.parse().ok()?, last.parse().ok()?);
        }
        Some(Self {
            watermark,
            ahead: stretches,
        })
    }

    fn ahead(&self) -> String {
        let mut text = String::new();
        for (first, last) in &self.ahead {
            let comma = if text.is_empty() { "" } else { "," };
            let _ = write!(text, "{comma}{first}-{last}");
        }
        text
    }

    /// Whether any of the positions is stored.
    fn touches(&self, first: u64, last: u64) -> bool {
        let before = self.ahead.range(..=last).next_back();
        first <= self.watermark || before.is_some_and(|(_, end)| *end >= first)
    }

    /// The positions are stored.
    fn add(&mut self, first: u64, last: u64) {
        let (mut first, mut last) = (first, last);
        let joined: Vec<u64> = self
            .ahead
            .range(..=last.saturating_add(1))
            .filter(|(_, end)| end.saturating_add(1) >= first)
            .map(|(start, _)| *start)
            .collect();
        for start in joined {
            if let Some(end) = self.ahead.remove(&start) {
                first = first.min(start);
                last = last.max(end);
            }
        }
        if first <= self.watermark.saturating_add(1) {
            self.watermark = self.watermark.max(last);
            self.ahead.retain(|_, end| *end > last);
        } else {
            self.ahead.insert(first, last);
        }
        while self.ahead.len() > MAX_STRETCHES {
            self.ahead.pop_last();
        }
    }
}

impl Store {
    /// Begins a unit that stores parts of producers' logs, and waits until no other process extends
    /// the chains of `zones` or stores parts of the logs of `producers`: what the unit reads of them
    /// is true until it ends.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when that does not come true in time.
    pub async fn begin_evidence(
        &self,
        zones: &BTreeSet<ZoneId>,
        producers: &BTreeSet<String>,
    ) -> Result<PlatformUnit, StoreError> {
        let mut unit = self.begin_platform_work(PlatformLane::Evidence).await?;
        if self.inner.dialect() == Dialect::Postgres {
            let zones = zones.iter().map(|zone| format!("zone {zone}"));
            let producers = producers.iter().map(|id| format!("producer {id}"));
            unit.lock_evidence(zones.chain(producers).collect()).await?;
        }
        Ok(unit)
    }
}

impl<A: Access> OnPlatform<A> {
    /// The heads of these zones' chains; zones without events have none.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn audit_heads(&self, zones: &[ZoneId]) -> Result<Vec<AuditHead>, StoreError> {
        let mut heads = Vec::new();
        for some in zones.chunks(IN_LIST) {
            let (condition, values) = self.among("zone_id", some.iter().map(ZoneId::as_str));
            heads.extend(self.fetch(&format!("WHERE {condition}"), values).await?);
        }
        Ok(heads)
    }

    /// Which of these parts hold positions that are stored already.
    ///
    /// # Errors
    /// [`StoreError`] when that can't be read.
    pub async fn stored_audit_parts(&self, parts: &[AuditPart]) -> Result<Vec<bool>, StoreError> {
        let stored = self.producers(parts).await?;
        let touches = |part: &AuditPart| {
            let known = stored.get(part.producer.as_str());
            known.is_some_and(|known| known.touches(part.first, part.last))
        };
        Ok(parts.iter().map(touches).collect())
    }

    /// Which of these events are stored.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn known_audit_events_of(
        &self,
        zone: &ZoneId,
        ids: &[EventId],
    ) -> Result<Vec<KnownAuditEvent>, StoreError> {
        let places = self.inner.dialect().audit_places();
        let mut known = Vec::new();
        for some in ids.chunks(IN_LIST) {
            let (condition, mut values) = self.among("event_id", some.iter().map(EventId::as_str));
            let n = values.len() + 1;
            values.push(zone.bind());
            let sql = format!(
                "SELECT event_id, seq, leaf_hash FROM {places} WHERE {condition} AND zone_id = ${n}"
            );
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

    /// The first hole of each log that has had one since before `before`: producer, first and last
    /// missing position.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn audit_holes(
        &self,
        before: Timestamp,
        limit: i64,
    ) -> Result<Vec<AuditPart>, StoreError> {
        const PRODUCERS: &str = "audit_producers";
        let sql = "SELECT producer, watermark, ahead FROM audit_producers
             WHERE ahead <> '' AND updated_at < $1 ORDER BY updated_at LIMIT $2";
        let mut holes = Vec::new();
        for row in &self.query(PRODUCERS, sql, params![before, limit]).await? {
            let row = Row::new(row, PRODUCERS);
            let stored = read(&row)?;
            if let Some((next, _)) = stored.ahead.first_key_value() {
                holes.push(AuditPart {
                    producer: row.get("producer")?,
                    origin: stored.watermark + 1,
                    first: stored.watermark + 1,
                    last: next - 1,
                });
            }
        }
        Ok(holes)
    }

    async fn producers(&self, parts: &[AuditPart]) -> Result<BTreeMap<String, Stored>, StoreError> {
        const PRODUCERS: &str = "audit_producers";
        let ids: BTreeSet<&str> = parts.iter().map(|part| part.producer.as_str()).collect();
        let ids: Vec<&str> = ids.into_iter().collect();
        let mut stored = BTreeMap::new();
        for some in ids.chunks(IN_LIST) {
            let (condition, values) = self.among("producer", some.iter().copied());
            let sql =
                format!("SELECT producer, watermark, ahead FROM {PRODUCERS} WHERE {condition}");
            for row in &self.query(PRODUCERS, sql, values).await? {
                let row = Row::new(row, PRODUCERS);
                stored.insert(row.get("producer")?, read(&row)?);
            }
        }
        Ok(stored)
    }

    /// `column` is one of the values: one parameter where the server reads arrays.
    fn among<'a>(
        &self,
        column: &str,
        values: impl ExactSizeIterator<Item = &'a str>,
    ) -> (String, Vec<Value>) {
        match self.inner.dialect() {
            Dialect::Sqlite => {
                let marks = placeholders(1, values.len());
                let values = values.map(Bind::bind).collect();
                (format!("{column} IN ({marks})"), values)
            }
            Dialect::Postgres => {
                let condition = format!("{column} = ANY (CAST(CAST($1 AS TEXT) AS TEXT[]))");
                (condition, vec![texts(values)])
            }
        }
    }
}

impl PlatformUnit {
    /// Notes that parts are stored: call it in the unit that stores them.
    pub(super) async fn cover_audit_parts(
        &mut self,
        parts: &[AuditPart],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        if parts.is_empty() {
            return Ok(());
        }
        let mut stored = self.producers(parts).await?;
        let mut changed = BTreeSet::new();
        for part in parts {
            let begun = || Stored {
                watermark: part.origin.saturating_sub(1),
                ahead: BTreeMap::new(),
            };
            let of_producer = stored.entry(part.producer.clone()).or_insert_with(begun);
            of_producer.add(part.first, part.last);
            changed.insert(part.producer.as_str());
        }
        for producer in changed {
            let Some(of_producer) = stored.get(producer) else {
                continue;
            };
            self.execute(
                "audit_producers",
                "INSERT INTO audit_producers (producer, watermark, ahead, updated_at)
                 VALUES ($1, $2, $3, $4)
                 ON CONFLICT (producer) DO UPDATE SET watermark = excluded.watermark,
                    ahead = excluded.ahead, updated_at = CASE
                        WHEN excluded.watermark > audit_producers.watermark
                            OR audit_producers.ahead = '' THEN excluded.updated_at
                        ELSE audit_producers.updated_at END",
                params![
                    producer,
                    signed(of_producer.watermark)?,
                    of_producer.ahead(),
                    at
                ],
            )
            .await?;
        }
        Ok(())
    }
}

fn read(row: &Row<'_>) -> Result<Stored, StoreError> {
    let ahead: String = row.get("ahead")?;
    let stored = Stored::parse(unsigned(row, "watermark")?, &ahead);
    stored.ok_or_else(|| row.bad("ahead", "not stretches of positions"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(watermark: u64, ahead: &str) -> Stored {
        Stored::parse(watermark, ahead).unwrap()
    }

    fn after(mut stored: Stored, parts: &[(u64, u64)]) -> (u64, String) {
        for (first, last) in parts {
            stored.add(*first, *last);
        }
        (stored.watermark, stored.ahead())
    }

    #[test]
    fn a_part_in_turn_moves_the_watermark() {
        assert_eq!(after(stored(4, ""), &[(5, 9)]), (9, String::new()));
        assert_eq!(after(stored(4, ""), &[(2, 7)]), (7, String::new()));
        assert_eq!(after(stored(9, ""), &[(2, 7)]), (9, String::new()));
    }

    #[test]
    fn a_part_out_of_turn_waits_for_those_before_it() {
        assert_eq!(after(stored(4, ""), &[(8, 9)]), (4, "8-9".to_owned()));
        assert_eq!(after(stored(4, "8-9"), &[(5, 7)]), (9, String::new()));
        assert_eq!(
            after(stored(4, "8-9,12-13"), &[(5, 7)]),
            (9, "12-13".to_owned())
        );
    }

    #[test]
    fn stretches_that_touch_become_one() {
        assert_eq!(
            after(stored(0, "5-6,9-9"), &[(7, 8)]),
            (0, "5-9".to_owned())
        );
        assert_eq!(after(stored(0, "5-6"), &[(4, 9)]), (0, "4-9".to_owned()));
        assert_eq!(
            after(stored(0, "3-4"), &[(6, 7), (2, 2)]),
            (0, "2-4,6-7".to_owned())
        );
    }

    #[test]
    fn a_part_that_is_stored_in_part_is_known() {
        let stored = stored(4, "8-9,20-30");
        for (first, last, known) in [
            (1, 2, true),
            (4, 7, true),
            (5, 7, false),
            (5, 8, true),
            (9, 12, true),
            (10, 19, false),
            (25, 26, true),
            (31, 40, false),
        ] {
            assert_eq!(stored.touches(first, last), known, "{first}-{last}");
        }
    }

    #[test]
    fn the_farthest_stretches_are_forgotten_first() {
        let mut many = stored(0, "");
        for n in 1..=1000 {
            many.add(n * 2, n * 2);
        }
        assert_eq!(many.ahead.len(), MAX_STRETCHES);
        assert_eq!(many.ahead.first_key_value(), Some((&2, &2)));
    }
}
