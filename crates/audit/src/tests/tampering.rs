//! What somebody with the database in hand changes is found.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::{ManualClock, SystemRandom, Timestamp};
use caracal_evidence::{ChainHead, Hash};
use caracal_store::Store;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection};

use super::{NOW, event, event_at, key, open, parts_over, start_over, zone};
use crate::ledger::{Ledger, StoreLedger};
use crate::tamper::{Extent, Sweeper};
use crate::{Audit, AuditOptions};

/// A role over a ledger that holds five events of zone `a` and two of zone `b`, and the database
/// behind it.
struct World {
    dir: tempfile::TempDir,
    ledger: Arc<dyn Ledger>,
    clock: Arc<ManualClock>,
    audit: Audit,
    database: DatabaseConnection,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(NOW)));
        let store = Store::open_sqlite(&path, clock.clone(), Arc::new(SystemRandom));
        let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store.await.unwrap()));
        add(dir.path(), &ledger, &["1", "2", "3", "4", "5"]).await;
        let database = Database::connect(format!("sqlite://{}?mode=rw", path.display()));
        let database = database.await.unwrap();
        let unlock = "DROP TRIGGER audit_events_are_immutable";
        database.execute_unprepared(unlock).await.unwrap();
        let mut parts = parts_over(open(&dir.path().join("idle"), Some(key())), &ledger);
        parts.clock = clock.clone();
        parts.options = AuditOptions {
            tamper_lookback: Duration::from_secs(60),
            ..AuditOptions::default()
        };
        Self {
            dir,
            ledger,
            clock,
            audit: Audit::new(parts),
            database,
        }
    }

    async fn change(&self, sql: &str) {
        self.database.execute_unprepared(sql).await.unwrap();
    }

    /// Sweeps everything; how many mismatches and breaks that found.
    async fn sweep(&self) -> (u64, u64) {
        let mut sweeper = Sweeper::default();
        sweeper.sweep(&self.audit.0, Extent::Full).await.unwrap();
        let figure = |name| self.figure(name);
        (
            figure("tamper_mismatch_total"),
            figure("tamper_chain_breaks"),
        )
    }

    fn figure(&self, name: &str) -> u64 {
        self.audit.json_metrics()()[name].as_u64().unwrap()
    }

    /// The chain of zone `a` over the first `events`, with another text for the last one if given.
    async fn rebuild(&self, events: usize, last: Option<&str>) -> (ChainHead, Hash) {
        let rows = self.ledger.chain_rows(&zone("a"), 0, events).await.unwrap();
        let mut head = ChainHead::genesis(&zone("a"));
        let mut leaf = Hash::ZERO;
        for row in &rows {
            let is_last = row.seq == rows.len() as u64;
            let stored = row.data.as_deref().unwrap();
            let text = last.filter(|_| is_last).unwrap_or(stored);
            leaf = head.append(text.as_bytes()).leaf;
        }
        (head, leaf)
    }
}

/// Stores events of zone `a`, two of zone `b`, and signs.
async fn add(dir: &Path, ledger: &Arc<dyn Ledger>, ids: &[&str]) {
    let running = start_over(open(&dir.join("log"), Some(key())), ledger);
    let events: Vec<_> = ids.iter().map(|id| event(id, &zone("a"))).collect();
    running.append(&events).await;
    running
        .append(&[event(ids[0], &zone("b")), event(ids[1], &zone("b"))])
        .await;
    running.settle().await;
    running.stop().await;
}

fn put_head(head: &ChainHead) -> String {
    format!(
        "UPDATE audit_heads SET seq = {}, chain_hash = x'{}', frontier = x'{}' WHERE zone_id = 'a'",
        head.seq(),
        head.chain(),
        head.frontier()
            .to_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    )
}

#[tokio::test]
async fn a_clean_ledger_has_no_findings() {
    let world = World::new().await;
    assert_eq!(world.sweep().await, (0, 0));
    assert_eq!(world.figure("tamper_checked_total"), 7);
    let now = u64::try_from(NOW).unwrap();
    assert_eq!(world.figure("tamper_last_sweep_unix"), now);
    assert_eq!(world.figure("tamper_last_full_unix"), now);
}

#[tokio::test]
async fn an_edited_event_is_a_mismatch() {
    let world = World::new().await;
    world
        .change("UPDATE audit_events SET data = replace(data, 'allow', 'deny') WHERE zone_id = 'a' AND seq = 3")
        .await;
    assert_eq!(world.sweep().await, (1, 0));
}

#[tokio::test]
async fn an_edited_leaf_is_a_mismatch_and_breaks_the_chain() {
    let world = World::new().await;
    world
        .change("UPDATE audit_events SET leaf_hash = x'00' WHERE zone_id = 'a' AND seq = 3")
        .await;
    assert_eq!(world.sweep().await, (1, 0));
    world
        .change("UPDATE audit_events SET leaf_hash = zeroblob(32) WHERE zone_id = 'a' AND seq = 3")
        .await;
    let (mismatches, breaks) = world.sweep().await;
    assert_eq!(mismatches, 2);
    assert!(breaks > 0);
}

#[tokio::test]
async fn swapped_events_are_mismatches_and_break_the_chain() {
    let world = World::new().await;
    for (from, to) in [(2, 12), (3, 2), (12, 3)] {
        world
            .change(&format!(
                "UPDATE audit_events SET seq = {to} WHERE zone_id = 'a' AND seq = {from}"
            ))
            .await;
    }
    let (mismatches, breaks) = world.sweep().await;
    assert_eq!(mismatches, 2);
    assert!(breaks > 0);
}

#[tokio::test]
async fn whatever_is_missing_or_out_of_place_breaks_the_chain_once() {
    for sql in [
        "DELETE FROM audit_events WHERE zone_id = 'a' AND seq = 1",
        "DELETE FROM audit_events WHERE zone_id = 'a' AND seq = 3",
        "DELETE FROM audit_events WHERE zone_id = 'a' AND seq >= 4",
        "DELETE FROM audit_events WHERE zone_id = 'a'",
        "DELETE FROM audit_events WHERE zone_id = 'a'; DELETE FROM audit_heads WHERE zone_id = 'a'",
        "UPDATE audit_events SET seq = 6 WHERE zone_id = 'a' AND seq = 5",
        "UPDATE audit_heads SET chain_hash = zeroblob(32) WHERE zone_id = 'a'",
        "UPDATE audit_heads SET frontier = x'00' WHERE zone_id = 'a'",
        "UPDATE audit_events SET data = x'ff' WHERE zone_id = 'a' AND seq = 3",
        "UPDATE audit_checkpoints SET note = replace(note, 'time', 'Time') WHERE zone_id = 'a'",
    ] {
        let world = World::new().await;
        world.change(sql).await;
        let (mismatches, breaks) = world.sweep().await;
        assert_eq!(mismatches, 0, "{sql}");
        // A moved event is missing where it was and stray where it is.
        let expected = if sql.contains("seq = 6") { 2 } else { 1 };
        assert_eq!(breaks, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_truncated_chain_with_a_fitting_head_is_found_by_its_checkpoint() {
    let world = World::new().await;
    let (head, _) = world.rebuild(3, None).await;
    world
        .change("DELETE FROM audit_events WHERE zone_id = 'a' AND seq > 3")
        .await;
    world.change(&put_head(&head)).await;
    assert_eq!(world.sweep().await, (0, 1));
}

#[tokio::test]
async fn a_chain_that_was_made_anew_is_found_by_its_checkpoint() {
    let world = World::new().await;
    let (head, leaf) = world.rebuild(5, Some("{}")).await;
    let chain = head.chain();
    world
        .change(&format!(
            "UPDATE audit_events SET data = '{{}}', leaf_hash = x'{leaf}', chain_hash = x'{chain}'
             WHERE zone_id = 'a' AND seq = 5"
        ))
        .await;
    world.change(&put_head(&head)).await;
    assert_eq!(world.sweep().await, (0, 1));
}

#[tokio::test]
async fn a_text_that_retention_removed_is_no_finding() {
    let world = World::new().await;
    world
        .change("UPDATE audit_events SET data = NULL WHERE zone_id = 'a' AND seq < 3")
        .await;
    assert_eq!(world.sweep().await, (0, 0));
}

#[tokio::test]
async fn the_hourly_sweep_reads_what_is_recent_and_what_no_sweep_has_read() {
    let world = World::new().await;
    let mut sweeper = Sweeper::default();
    let inner = &world.audit.0;
    sweeper.sweep(inner, Extent::Full).await.unwrap();
    let ids: Vec<String> = (6..=405).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    add(world.dir.path(), &world.ledger, &ids).await;
    // Nothing is recent any more, but the new events were never read.
    world.clock.advance_seconds(3_600);
    let before = world.figure("tamper_checked_total");
    sweeper.sweep(inner, Extent::Recent).await.unwrap();
    let read = world.figure("tamper_checked_total") - before;
    assert!((402..=409).contains(&read), "{read}");
    // Now they were: the next sweep reads a page at most.
    sweeper.sweep(inner, Extent::Recent).await.unwrap();
    let again = world.figure("tamper_checked_total") - before - read;
    assert!(again <= 140, "{again}");
    assert_eq!(world.figure("tamper_chain_breaks"), 0);
    assert!(world.figure("tamper_last_sweep_unix") > world.figure("tamper_last_full_unix"));
}

#[tokio::test]
async fn the_seam_of_the_hourly_sweep_is_checked() {
    let world = World::new().await;
    let mut sweeper = Sweeper::default();
    let inner = &world.audit.0;
    sweeper.sweep(inner, Extent::Full).await.unwrap();
    let ids: Vec<String> = (6..=405).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    add(world.dir.path(), &world.ledger, &ids).await;
    world.clock.advance_seconds(3_600);
    sweeper.sweep(inner, Extent::Recent).await.unwrap();
    // The next sweep starts behind 278, 128 before the end.
    world
        .change(
            "UPDATE audit_events SET chain_hash = zeroblob(32) WHERE zone_id = 'a' AND seq = 278",
        )
        .await;
    sweeper.sweep(inner, Extent::Recent).await.unwrap();
    assert_eq!(world.figure("tamper_chain_breaks"), 1);
}

#[tokio::test]
async fn a_running_role_sweeps_at_its_start_and_ends_when_its_log_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let store = Store::open_sqlite(
        &path,
        Arc::new(ManualClock::at(Timestamp::from_seconds(NOW))),
        Arc::new(SystemRandom),
    );
    let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store.await.unwrap()));
    let running = start_over(open(&dir.path().join("log"), Some(key())), &ledger);
    let old = event_at("1", &zone("a"), caracal_evidence::Decision::Deny, NOW - 60);
    running.append(&[old]).await;
    running.settle().await;
    let audit = running.audit.clone();
    let swept = async {
        while audit.json_metrics()()["tamper_last_full_unix"] == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), swept)
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(10), running.stop())
        .await
        .unwrap();
}
