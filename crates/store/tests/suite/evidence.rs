//! Audit events.

use std::collections::BTreeSet;

use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use caracal_store::{
    AuditAlert, AuditBatch, AuditCheckpoint, AuditEntry, AuditHead, AuditKey, AuditPart,
    AuditSearch, AuditWalk, Page, Store, StoreError, UniqueConstraint,
};
use sea_orm::ConnectionTrait;

use crate::world::{Backend, START, event_id, on, on_every_backend};

on_every_backend![
    a_batch_of_several_zones_is_stored_whole_and_walked_in_order,
    a_repeated_event_or_place_stores_nothing_of_its_batch,
    a_search_filters_on_every_column_newest_first,
    a_walk_filters_and_goes_on_behind_a_number,
    a_watermark_never_goes_back_and_alerts_are_kept,
    a_head_waits_for_its_checkpoint,
    a_search_by_period_walks_or_sorts_and_finds_the_same,
    parts_of_a_log_are_stored_in_any_order,
    what_is_stored_of_a_log_is_known,
    lost_evidence_stays_until_it_is_acknowledged,
    the_first_key_stays,
    stored_events_cannot_be_rewritten,
];

pub(crate) fn entry(zone: &ZoneId, seq: u64) -> AuditEntry {
    AuditEntry {
        zone_id: zone.clone(),
        seq,
        event_id: event_id(seq),
        occurred_at: START.plus_seconds(i64::try_from(seq).unwrap()),
        event_type: "token_exchange".to_owned(),
        decision: "allow".to_owned(),
        evaluation_status: "complete".to_owned(),
        request_id: format!("req-{}", seq.div_ceil(2)),
        application_id: Some("app-1".to_owned()),
        agent_session_id: None,
        authority_record_id: None,
        labels: Vec::new(),
        data: format!(r#"{{"id":"event-{seq}",  "spaced": true}}"#),
        signature: Some(vec![1; 32]),
        leaf_hash: vec![u8::try_from(seq % 256).unwrap(); 32],
        chain_hash: vec![u8::try_from((seq + 100) % 256).unwrap(); 32],
    }
}

pub(crate) async fn append(store: &Store, batch: &AuditBatch) -> Result<(), StoreError> {
    let mut unit = store.begin_platform().await?;
    unit.append_audit(batch).await?;
    unit.commit().await
}

pub(crate) fn batch(entries: Vec<AuditEntry>) -> AuditBatch {
    let heads = entries
        .iter()
        .map(|last| AuditHead {
            zone_id: last.zone_id.clone(),
            seq: last.seq,
            chain_hash: last.chain_hash.clone(),
            frontier: vec![3; 64],
        })
        .collect();
    AuditBatch {
        entries,
        heads,
        at: START,
        ..AuditBatch::default()
    }
}

fn a_batch_of_several_zones_is_stored_whole_and_walked_in_order(backend: Backend) {
    on(backend, |world| async move {
        let (one, two): (ZoneId, ZoneId) = (world.id(), world.id());
        let mut entries: Vec<_> = (1..=200).map(|seq| entry(&one, seq)).collect();
        entries.extend((1..=3).map(|seq| entry(&two, seq)));
        append(&world.store, &batch(entries.clone())).await.unwrap();

        let reader = world.store.read(&one);
        let walk = AuditWalk {
            after: 1,
            limit: 500,
            ..AuditWalk::default()
        };
        let records = reader.walk_audit_events(&walk).await.unwrap();
        assert_eq!(records.len(), 199);
        for (record, sent) in records.iter().zip(&entries[1..]) {
            assert_eq!((record.seq, &record.event_id), (sent.seq, &sent.event_id));
            assert_eq!(
                record.data.as_deref(),
                Some(sent.data.as_str()),
                "byte for byte"
            );
            assert_eq!(record.signature, sent.signature);
            assert_eq!(
                (&record.leaf_hash, &record.chain_hash),
                (&sent.leaf_hash, &sent.chain_hash)
            );
        }
        assert_eq!(
            records[0].chain_hash_before.as_ref(),
            Some(&entries[0].chain_hash)
        );
        let first = reader
            .walk_audit_events(&AuditWalk {
                limit: 1,
                ..Default::default()
            })
            .await;
        assert_eq!(first.unwrap()[0].chain_hash_before, None);
        let head = reader.audit_head().await.unwrap().unwrap();
        assert_eq!((head.seq, head.frontier), (200, vec![3; 64]));
        assert_eq!(
            world
                .store
                .read(&two)
                .audit_head()
                .await
                .unwrap()
                .unwrap()
                .seq,
            3
        );
        assert!(
            world
                .store
                .read(&world.id())
                .audit_head()
                .await
                .unwrap()
                .is_none()
        );
    });
}

fn a_repeated_event_or_place_stores_nothing_of_its_batch(backend: Backend) {
    on(backend, |world| async move {
        let zone: ZoneId = world.id();
        append(&world.store, &batch(vec![entry(&zone, 1)]))
            .await
            .unwrap();
        let repeated = AuditEntry {
            seq: 3,
            ..entry(&zone, 1)
        };
        let refused = append(&world.store, &batch(vec![entry(&zone, 2), repeated])).await;
        assert!(matches!(
            refused,
            Err(StoreError::Conflict(UniqueConstraint::AuditEventId))
        ));
        let same_place = AuditEntry {
            event_id: event_id(9),
            ..entry(&zone, 1)
        };
        let refused = append(&world.store, &batch(vec![entry(&zone, 2), same_place])).await;
        assert!(matches!(
            refused,
            Err(StoreError::Conflict(UniqueConstraint::Id))
        ));
        assert_eq!(
            world
                .store
                .read(&zone)
                .audit_head()
                .await
                .unwrap()
                .unwrap()
                .seq,
            1
        );
        let known = world
            .store
            .read(&zone)
            .known_audit_events(&[event_id(1), event_id(2)])
            .await;
        let known = known.unwrap();
        assert_eq!(known.len(), 1);
        assert_eq!((known[0].seq, &known[0].leaf_hash), (1, &vec![1; 32]));
    });
}

fn a_search_filters_on_every_column_newest_first(backend: Backend) {
    on(backend, |world| async move {
        let zone: ZoneId = world.id();
        let mut entries: Vec<_> = (1..=6).map(|seq| entry(&zone, seq)).collect();
        let wanted = AuditEntry {
            event_type: "gateway_request_denied".to_owned(),
            decision: "deny".to_owned(),
            request_id: "req-x".to_owned(),
            application_id: Some("app-2".to_owned()),
            agent_session_id: Some("s-2".to_owned()),
            authority_record_id: Some("r-2".to_owned()),
            labels: vec!["indexer".to_owned(), "x".to_owned()],
            ..entry(&zone, 7)
        };
        entries.push(wanted.clone());
        append(&world.store, &batch(entries)).await.unwrap();
        let reader = world.store.read(&zone);
        let none = AuditSearch::default;
        let types = vec!["replay_detected".to_owned(), wanted.event_type.clone()];
        for search in [
            AuditSearch {
                since: Some(wanted.occurred_at),
                ..none()
            },
            AuditSearch {
                request_id: Some(wanted.request_id.clone()),
                ..none()
            },
            AuditSearch {
                decision: Some("deny".to_owned()),
                ..none()
            },
            AuditSearch {
                event_types: types,
                ..none()
            },
            AuditSearch {
                application_id: wanted.application_id.clone(),
                ..none()
            },
            AuditSearch {
                agent_session_id: wanted.agent_session_id.clone(),
                ..none()
            },
            AuditSearch {
                authority_record_id: wanted.authority_record_id.clone(),
                ..none()
            },
            AuditSearch {
                label: Some("indexer".to_owned()),
                ..none()
            },
        ] {
            let found = reader
                .search_audit_events(&search, &Page::first(10))
                .await
                .unwrap();
            let seqs: Vec<_> = found.items.iter().map(|record| record.seq).collect();
            assert_eq!(seqs, [7], "{search:?}");
        }
        let until = AuditSearch {
            until: Some(wanted.occurred_at),
            ..none()
        };
        let found = reader
            .search_audit_events(&until, &Page::first(2))
            .await
            .unwrap();
        let seqs: Vec<_> = found.items.iter().map(|record| record.seq).collect();
        assert_eq!(seqs, [6, 5]);
        let rest = Page::after(10, found.next.unwrap());
        let found = reader.search_audit_events(&until, &rest).await.unwrap();
        assert_eq!(found.items.len(), 4);
        let of_request = reader.audit_events_of_request("req-1").await.unwrap();
        let seqs: Vec<_> = of_request.iter().map(|record| record.seq).collect();
        assert_eq!(seqs, [1, 2], "oldest first");
        let counts = reader.count_decisions(START).await.unwrap();
        assert_eq!((counts.allowed, counts.denied), (6, 1));
        let counts = reader
            .count_decisions(START.plus_seconds(7200))
            .await
            .unwrap();
        assert_eq!((counts.allowed, counts.denied), (0, 0));
    });
}

fn a_walk_filters_and_goes_on_behind_a_number(backend: Backend) {
    on(backend, |world| async move {
        let zone: ZoneId = world.id();
        let entries = (1..=6).map(|seq| entry(&zone, seq)).collect();
        append(&world.store, &batch(entries)).await.unwrap();
        let reader = world.store.read(&zone);
        let walk = AuditWalk {
            after: 2,
            since: Some(START.plus_seconds(2)),
            until: Some(START.plus_seconds(6)),
            limit: 2,
            ..AuditWalk::default()
        };
        let seqs = |records: Vec<caracal_store::AuditRecord>| {
            records.iter().map(|record| record.seq).collect::<Vec<_>>()
        };
        assert_eq!(seqs(reader.walk_audit_events(&walk).await.unwrap()), [3, 4]);
        let next = AuditWalk {
            after: 4,
            ..walk.clone()
        };
        assert_eq!(seqs(reader.walk_audit_events(&next).await.unwrap()), [5]);
        let of_request = AuditWalk {
            request_id: Some("req-3".to_owned()),
            limit: 9,
            ..walk
        };
        assert_eq!(
            seqs(reader.walk_audit_events(&of_request).await.unwrap()),
            [5]
        );
    });
}

fn a_watermark_never_goes_back_and_alerts_are_kept(backend: Backend) {
    on(backend, |world| async move {
        let zone: ZoneId = world.id();
        let alert = AuditAlert {
            zone_id: zone.clone(),
            id: event_id(1),
            kind: "log_gap".to_owned(),
            event_id: None,
            detail: "{}".to_owned(),
            raised_at: START,
        };
        for (watermark, alerts) in [(10, vec![alert.clone()]), (7, vec![])] {
            let watermarks = vec![("p-1".to_owned(), watermark)];
            let batch = AuditBatch {
                watermarks,
                alerts,
                at: START,
                ..Default::default()
            };
            append(&world.store, &batch).await.unwrap();
        }
        let platform = world.store.platform();
        assert_eq!(platform.audit_watermark("p-1").await.unwrap(), Some(10));
        assert_eq!(platform.audit_watermark("p-2").await.unwrap(), None);
        let alerts = world
            .store
            .read(&zone)
            .list_audit_alerts(&Page::first(10))
            .await
            .unwrap();
        assert_eq!(alerts.items, [alert]);
    });
}

fn a_head_waits_for_its_checkpoint(backend: Backend) {
    on(backend, |world| async move {
        let (one, two): (ZoneId, ZoneId) = (world.id(), world.id());
        append(&world.store, &batch(vec![entry(&one, 1), entry(&two, 1)]))
            .await
            .unwrap();
        let waiting = world
            .store
            .platform()
            .unsigned_audit_heads(10)
            .await
            .unwrap();
        assert_eq!(waiting.len(), 2);
        let checkpoint = |size| AuditCheckpoint {
            zone_id: one.clone(),
            size,
            note: format!("note of {size}"),
            at: START,
        };
        let mut unit = world.store.begin_platform().await.unwrap();
        unit.insert_audit_checkpoints(&[checkpoint(1)])
            .await
            .unwrap();
        unit.commit().await.unwrap();
        let waiting = world
            .store
            .platform()
            .unsigned_audit_heads(10)
            .await
            .unwrap();
        assert_eq!(
            waiting.iter().map(|head| &head.zone_id).collect::<Vec<_>>(),
            [&two]
        );
        append(&world.store, &batch(vec![entry(&one, 2)]))
            .await
            .unwrap();
        let waiting = world
            .store
            .platform()
            .unsigned_audit_heads(10)
            .await
            .unwrap();
        assert_eq!(waiting.len(), 2);
        let latest = world
            .store
            .read(&one)
            .latest_audit_checkpoint()
            .await
            .unwrap();
        assert_eq!(latest, Some(checkpoint(1)));
    });
}

#[test]
fn retention_takes_texts_away_and_keeps_places_and_hashes() {
    on(Backend::Sqlite, |world| async move {
        let zone: ZoneId = world.id();
        let mut entries: Vec<_> = (1..=4).map(|seq| entry(&zone, seq)).collect();
        entries[0].labels = vec!["indexer".to_owned()];
        append(&world.store, &batch(entries.clone())).await.unwrap();
        let mut unit = world.unit(&zone).await;
        let before = START.plus_seconds(3);
        assert_eq!(unit.remove_audit_texts(before, 1).await.unwrap(), 1);
        assert_eq!(unit.remove_audit_texts(before, 10).await.unwrap(), 1);
        assert_eq!(unit.remove_audit_texts(before, 10).await.unwrap(), 0);
        let walk = AuditWalk {
            limit: 10,
            ..Default::default()
        };
        let records = unit.walk_audit_events(&walk).await.unwrap();
        let texts: Vec<_> = records.iter().map(|record| record.data.is_some()).collect();
        assert_eq!(texts, [false, false, true, true]);
        assert_eq!(records[0].leaf_hash, entries[0].leaf_hash);
        let found = unit
            .search_audit_events(&Default::default(), &Page::first(10))
            .await
            .unwrap();
        assert_eq!(found.items.len(), 2);
    });
}

fn stored_events_cannot_be_rewritten(backend: Backend) {
    on(backend, |world| async move {
        let zone: ZoneId = world.id();
        append(&world.store, &batch(vec![entry(&zone, 1)]))
            .await
            .unwrap();
        let db = world.raw().await;
        for sql in [
            "UPDATE audit_events SET data = '{}'",
            "UPDATE audit_events SET data = NULL, leaf_hash = x'00'",
            "UPDATE audit_events SET data = NULL, seq = 2",
        ] {
            assert!(db.execute_unprepared(sql).await.is_err(), "{sql}");
        }
        db.close().await.unwrap();
    });
}

#[test]
fn retention_drops_whole_months_and_keeps_places_and_hashes() {
    on(Backend::Postgres, |world| async move {
        let zone: ZoneId = world.id();
        let mut entries: Vec<_> = (1..=4).map(|seq| entry(&zone, seq)).collect();
        let old = Timestamp::parse_rfc3339("2020-02-03T04:05:06Z").unwrap();
        entries[1].occurred_at = old;
        entries[1].labels = vec!["indexer".to_owned()];
        append(&world.store, &batch(entries.clone())).await.unwrap();
        let months = world.store.platform().audit_months().await.unwrap();
        let february = months
            .iter()
            .find(|month| month.begins <= old && old < month.ends)
            .unwrap();
        assert_eq!(
            february.begins.to_rfc3339_micros(),
            "2020-02-01T00:00:00.000000Z"
        );
        assert_eq!(
            february.ends.to_rfc3339_micros(),
            "2020-03-01T00:00:00.000000Z"
        );
        let mut unit = world.store.begin_platform().await.unwrap();
        assert!(unit.drop_audit_month(february.begins).await.unwrap());
        assert!(!unit.drop_audit_month(february.begins).await.unwrap());
        unit.commit().await.unwrap();
        let me = world.store.read(&zone);
        let walk = AuditWalk {
            limit: 10,
            ..Default::default()
        };
        let records = me.walk_audit_events(&walk).await.unwrap();
        let texts: Vec<_> = records.iter().map(|record| record.data.is_some()).collect();
        assert_eq!(texts, [true, false, true, true]);
        assert_eq!(records[1].leaf_hash, entries[1].leaf_hash);
        let all = me
            .search_audit_events(&Default::default(), &Page::first(10))
            .await;
        assert_eq!(all.unwrap().items.len(), 3);
        // The id stays spent, and the month comes back when something late arrives.
        let again = append(&world.store, &batch(vec![entries[1].clone()])).await;
        assert!(matches!(again, Err(StoreError::Conflict(_))));
        let late = AuditEntry {
            occurred_at: old,
            ..entry(&zone, 5)
        };
        append(&world.store, &batch(vec![late])).await.unwrap();
        let found = me
            .search_audit_events(&Default::default(), &Page::first(10))
            .await;
        assert_eq!(found.unwrap().items.len(), 4);
    });
}

#[test]
fn the_newest_months_can_not_be_dropped() {
    on(Backend::Postgres, |world| async move {
        let months = world.store.platform().audit_months().await.unwrap();
        assert!(months.len() >= 4);
        for month in months {
            let mut unit = world.store.begin_platform().await.unwrap();
            assert!(unit.drop_audit_month(month.begins).await.is_err());
        }
    });
}

#[test]
fn an_event_of_any_time_has_a_month() {
    on(Backend::Postgres, |world| async move {
        let zone: ZoneId = world.id();
        let times = [
            "1971-01-01T00:00:00Z",
            "2031-12-31T23:59:59.999999Z",
            "2150-06-01T00:00:00Z",
        ];
        let entries = (1..).zip(times).map(|(seq, time)| AuditEntry {
            occurred_at: Timestamp::parse_rfc3339(time).unwrap(),
            ..entry(&zone, seq)
        });
        append(&world.store, &batch(entries.collect()))
            .await
            .unwrap();
        let found = world
            .store
            .read(&zone)
            .search_audit_events(&Default::default(), &Page::first(10))
            .await
            .unwrap();
        let places: Vec<_> = found.items.iter().map(|record| record.seq).collect();
        assert_eq!(places, [3, 2, 1]);
    });
}

#[test]
fn processes_that_extend_one_chain_take_turns() {
    on(Backend::Postgres, |world| async move {
        let zone: ZoneId = world.id();
        let (zones, nobody) = (BTreeSet::from([zone.clone()]), BTreeSet::new());
        let turn = async |n: u64| {
            let mut unit = world.store.begin_evidence(&zones, &nobody).await.unwrap();
            let heads = unit.audit_heads(std::slice::from_ref(&zone)).await.unwrap();
            let seq = heads.first().map_or(0, |head| head.seq) + 1;
            let next = AuditEntry {
                event_id: event_id(100 + n),
                ..entry(&zone, seq)
            };
            unit.append_audit(&batch(vec![next])).await.unwrap();
            unit.commit().await.unwrap();
        };
        tokio::join!(turn(1), turn(2), turn(3), turn(4));
        let head = world.store.read(&zone).audit_head().await.unwrap().unwrap();
        assert_eq!(head.seq, 4);
    });
}

fn part(first: u64, last: u64) -> AuditPart {
    AuditPart {
        producer: "producer".to_owned(),
        origin: 5,
        first,
        last,
    }
}

async fn cover(store: &Store, parts: &[AuditPart]) {
    let producers = parts.iter().map(|part| part.producer.clone()).collect();
    let mut unit = store
        .begin_evidence(&BTreeSet::new(), &producers)
        .await
        .unwrap();
    let covering = AuditBatch {
        parts: parts.to_vec(),
        at: START,
        ..AuditBatch::default()
    };
    unit.append_audit(&covering).await.unwrap();
    unit.commit().await.unwrap();
}

fn parts_of_a_log_are_stored_in_any_order(backend: Backend) {
    on(backend, |world| async move {
        let watermark = async || {
            world
                .store
                .platform()
                .audit_watermark("producer")
                .await
                .unwrap()
        };
        assert_eq!(watermark().await, None);
        cover(&world.store, &[part(8, 9)]).await;
        assert_eq!(watermark().await, Some(4));
        let long_after = START.plus_seconds(60);
        let holes = world
            .store
            .platform()
            .audit_holes(long_after, 10)
            .await
            .unwrap();
        assert_eq!(holes.len(), 1);
        assert_eq!((holes[0].first, holes[0].last), (5, 7));
        assert!(
            world
                .store
                .platform()
                .audit_holes(START, 10)
                .await
                .unwrap()
                .is_empty()
        );
        cover(&world.store, &[part(5, 5), part(6, 7)]).await;
        assert_eq!(watermark().await, Some(9));
        assert!(
            world
                .store
                .platform()
                .audit_holes(long_after, 10)
                .await
                .unwrap()
                .is_empty()
        );
    });
}

fn what_is_stored_of_a_log_is_known(backend: Backend) {
    on(backend, |world| async move {
        let zone: ZoneId = world.id();
        append(&world.store, &batch(vec![entry(&zone, 1)]))
            .await
            .unwrap();
        cover(&world.store, &[part(5, 6), part(9, 9)]).await;
        let platform = world.store.platform();
        let other = AuditPart {
            producer: "other".to_owned(),
            ..part(5, 6)
        };
        let asked = [part(6, 7), part(7, 8), part(9, 12), other];
        let stored = platform.stored_audit_parts(&asked).await.unwrap();
        assert_eq!(stored, [true, false, true, false]);
        let ids = [event_id(1), event_id(2)];
        let known = platform.known_audit_events_of(&zone, &ids).await.unwrap();
        assert_eq!(known.len(), 1);
        assert_eq!((&known[0].event_id, known[0].seq), (&event_id(1), 1));
    });
}

fn lost_evidence_stays_until_it_is_acknowledged(backend: Backend) {
    on(backend, |world| async move {
        let zone: ZoneId = world.id();
        let alert = |n: u64, kind: &str| AuditAlert {
            zone_id: zone.clone(),
            id: event_id(n),
            kind: kind.to_owned(),
            event_id: None,
            detail: "{}".to_owned(),
            raised_at: START.plus_seconds(i64::try_from(n).unwrap()),
        };
        let mut unit = world.store.begin_platform().await.unwrap();
        for raised in [
            alert(1, "json_parse_error"),
            alert(2, "evidence_lost"),
            alert(3, "log_gap"),
            alert(3, "log_gap"),
        ] {
            unit.raise_audit_alert(&raised).await.unwrap();
        }
        unit.commit().await.unwrap();
        let lost = world.store.platform().lost_evidence().await.unwrap();
        assert_eq!(lost.alerts, 2);
        assert_eq!(lost.oldest.unwrap().id, event_id(2));
        let mut unit = world.store.begin_platform().await.unwrap();
        let one = event_id(2);
        assert_eq!(
            unit.acknowledge_lost_evidence(Some(&one), START)
                .await
                .unwrap(),
            1
        );
        assert_eq!(
            unit.acknowledge_lost_evidence(Some(&one), START)
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            unit.acknowledge_lost_evidence(None, START).await.unwrap(),
            1
        );
        unit.commit().await.unwrap();
        let lost = world.store.platform().lost_evidence().await.unwrap();
        assert_eq!((lost.alerts, lost.oldest), (0, None));
    });
}

fn the_first_key_stays(backend: Backend) {
    on(backend, |world| async move {
        let key = |version, sealed: u8| AuditKey {
            version,
            sealed: vec![sealed; 40],
            public_key: "public".to_owned(),
            created_at: START,
        };
        assert_eq!(
            world.store.platform().newest_audit_key().await.unwrap(),
            None
        );
        let mut unit = world.store.begin_platform().await.unwrap();
        assert!(unit.insert_audit_key(&key(1, 1)).await.unwrap());
        assert!(!unit.insert_audit_key(&key(1, 2)).await.unwrap());
        assert!(unit.insert_audit_key(&key(2, 3)).await.unwrap());
        unit.commit().await.unwrap();
        let newest = world.store.platform().newest_audit_key().await.unwrap();
        assert_eq!(newest, Some(key(2, 3)));
    });
}

fn a_search_by_period_walks_or_sorts_and_finds_the_same(backend: Backend) {
    on(backend, |world| async move {
        let zone: ZoneId = world.id();
        let entries = (1..=40).map(|seq| AuditEntry {
            occurred_at: START.plus_seconds(i64::try_from(seq).unwrap() * 1000),
            decision: if seq % 4 == 0 { "deny" } else { "allow" }.to_owned(),
            ..entry(&zone, seq)
        });
        let mut entries: Vec<_> = entries.collect();
        // Stored long after it happened.
        entries[39].occurred_at = START.plus_seconds(5_500);
        append(&world.store, &batch(entries)).await.unwrap();
        let places = async |walk: AuditWalk| -> Vec<u64> {
            let walk = AuditWalk { limit: 9, ..walk };
            let found = world
                .store
                .read(&zone)
                .walk_audit_events(&walk)
                .await
                .unwrap();
            found.iter().map(|record| record.seq).collect()
        };
        let period = AuditWalk {
            since: Some(START.plus_seconds(4_000)),
            until: Some(START.plus_seconds(9_000)),
            ..Default::default()
        };
        assert_eq!(places(period.clone()).await, [4, 5, 6, 7, 8, 40]);
        let after = AuditWalk {
            after: 7,
            ..period.clone()
        };
        assert_eq!(places(after).await, [8, 40]);
        let denied = AuditWalk {
            decision: Some("deny".to_owned()),
            ..period
        };
        assert_eq!(places(denied).await, [4, 8, 40]);
    });
}
