use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::{SessionId, ZoneId};
use caracal_core::{ManualClock, SeededRandom};
use caracal_testbed::{Database, Postgres};
use tokio::time::{Instant, timeout};

use crate::change::{ChangeFeed, ChangeKind, Changes};
use crate::dialect::postgres::{PostgresOptions, migrate_postgres};
use crate::error::StoreError;
use crate::store::Store;
use crate::testing::{START, zone};

/// A database, and how to get at it from outside.
struct World<'a> {
    server: &'a Postgres,
    database: Database,
}

impl<'a> World<'a> {
    async fn on(server: &'a Postgres) -> Self {
        let database = server.database().unwrap();
        let world = Self { server, database };
        migrate_postgres(&world.options(), START).await.unwrap();
        world
    }

    fn options(&self) -> PostgresOptions {
        PostgresOptions::new(self.database.owner_url.clone())
    }

    /// A process's store.
    async fn store(&self) -> Store {
        let clock = Arc::new(ManualClock::at(START));
        let random = Arc::new(SeededRandom::new(3));
        Store::open_postgres(self.options(), clock, random)
            .await
            .unwrap()
    }

    fn psql(&self, sql: &str) -> String {
        self.server.psql(&self.database.name, sql).unwrap()
    }

    /// Cuts the connections that last ran a statement like this; answers how many.
    fn cut(&self, statement: &str) -> usize {
        let cut = self.psql(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = '{}' AND query LIKE '{statement}'",
            self.database.name
        ));
        cut.lines().filter(|line| *line == "t").count()
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        let _ = self.server.drop_database(&self.database);
    }
}

fn shared() -> &'static Postgres {
    Postgres::shared().unwrap()
}

const BARRIER: &str = "SELECT zone_id, seq FROM zone_sequences WHERE zone_id = ANY%";
const LISTENER: &str = "LISTEN%";

/// Changes one fact of the zone.
async fn change(store: &Store, zone: &ZoneId, id: &str) {
    let mut unit = store.begin(zone).await.unwrap();
    unit.changed(ChangeKind::Session, SessionId::parse(id).unwrap());
    unit.commit().await.unwrap();
}

fn ids(changes: &Changes) -> Vec<&str> {
    match changes {
        Changes::Complete { changes, .. } => changes.iter().map(|c| &*c.id).collect(),
        Changes::Gap { .. } => panic!("a gap"),
    }
}

#[tokio::test]
async fn a_reader_gets_exactly_the_changes_since_its_position() {
    let world = World::on(shared()).await;
    let (writer, reader) = (world.store().await, world.store().await);
    let feed = reader.changes();
    assert_eq!(feed.current(&zone()).await.unwrap(), 0);
    change(&writer, &zone(), "a").await;
    let at = feed.current(&zone()).await.unwrap();
    change(&writer, &zone(), "b").await;
    change(&writer, &zone(), "c").await;
    let now = feed.current(&zone()).await.unwrap();
    assert_eq!((at, now), (1, 3));
    let told = feed.since(&zone(), at).await.unwrap();
    assert!(matches!(told, Changes::Complete { upto: 3, .. }));
    assert_eq!(ids(&told), ["b", "c"]);
    assert_eq!(ids(&feed.since(&zone(), 0).await.unwrap()), ["a", "b", "c"]);
    assert_eq!(ids(&feed.since(&zone(), 3).await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn what_was_pruned_is_a_gap() {
    let world = World::on(shared()).await;
    let store = world.store().await;
    for id in ["a", "b", "c"] {
        change(&store, &zone(), id).await;
    }
    world.psql("DELETE FROM caracal.zone_changes WHERE seq = 1");
    let feed = store.changes();
    let told = feed.since(&zone(), 0).await.unwrap();
    assert_eq!(told, Changes::Gap { upto: 3 });
    assert_eq!(ids(&feed.since(&zone(), 1).await.unwrap()), ["b", "c"]);
}

#[tokio::test]
async fn a_barrier_that_connects_anew_opens_a_gap_for_every_reader() {
    let world = World::on(shared()).await;
    let store = world.store().await;
    let feed = store.changes();
    change(&store, &zone(), "a").await;
    let before = feed.current(&zone()).await.unwrap();
    assert_eq!(world.cut(BARRIER), 1);
    let failed = feed.current(&zone()).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))));
    let after = feed.current(&zone()).await.unwrap();
    assert!(after > before);
    let told = feed.since(&zone(), before).await.unwrap();
    assert_eq!(told, Changes::Gap { upto: after });
    change(&store, &zone(), "b").await;
    assert_eq!(ids(&feed.since(&zone(), after).await.unwrap()), ["b"]);
}

#[tokio::test]
async fn a_database_that_goes_back_on_the_same_connection_is_noticed() {
    let world = World::on(shared()).await;
    let store = world.store().await;
    let feed = store.changes();
    for id in ["a", "b", "c"] {
        change(&store, &zone(), id).await;
    }
    let before = feed.current(&zone()).await.unwrap();
    world.psql("UPDATE caracal.zone_sequences SET seq = 2");
    let failed = feed.current(&zone()).await;
    assert!(matches!(failed, Err(StoreError::Unavailable(_))));
    assert!(feed.current(&zone()).await.unwrap() > before);
    let told = feed.since(&zone(), before).await.unwrap();
    assert!(matches!(told, Changes::Gap { .. }));
}

#[tokio::test]
async fn while_the_database_is_away_there_is_no_position_and_afterwards_there_is() {
    let mut server = Postgres::start(false).unwrap();
    let world = World::on(&server).await;
    let store = world.store().await;
    change(&store, &zone(), "a").await;
    let before = store.changes().current(&zone()).await.unwrap();
    std::mem::forget(world);
    server.stop(true);
    for _ in 0..3 {
        let failed = store.changes().current(&zone()).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_))));
    }
    server.start_again().unwrap();
    let after = store.changes().current(&zone()).await.unwrap();
    assert!(after > before);
    change(&store, &zone(), "b").await;
    assert!(store.changes().current(&zone()).await.unwrap() > after);
}

#[tokio::test]
async fn many_callers_share_few_reads_of_the_sequences_and_one_of_the_changes() {
    let world = World::on(shared()).await;
    let store = world.store().await;
    change(&store, &zone(), "a").await;
    store.changes().current(&zone()).await.unwrap();
    let statements = |like: &str| -> usize {
        let sql = format!(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements AS s
             JOIN pg_database AS d ON d.oid = s.dbid
             WHERE datname = '{}' AND query LIKE '{like}'",
            world.database.name
        );
        world.psql(&sql).trim().parse().unwrap()
    };
    let before = statements(BARRIER);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let feed = store.changes();
        callers.spawn(async move {
            feed.current(&zone()).await.unwrap();
            feed.since(&zone(), 0).await.unwrap()
        });
    }
    for told in callers.join_all().await {
        assert_eq!(ids(&told), ["a"]);
    }
    let reads = statements(BARRIER) - before;
    assert!((1..=4).contains(&reads), "{reads} reads for 64 callers");
    assert_eq!(statements("SELECT s.seq AS upto%"), 1);
}

/// How long it takes until a watcher hears of a commit through another store.
async fn hears(world: &World<'_>, feed: &Arc<dyn ChangeFeed>, id: &str) -> Duration {
    let mut watch = feed.watch(&zone());
    feed.current(&zone()).await.unwrap();
    watch.mark_unchanged();
    let other = world.store().await;
    change(&other, &zone(), id).await;
    let began = Instant::now();
    timeout(Duration::from_secs(5), watch.changed())
        .await
        .unwrap()
        .unwrap();
    began.elapsed()
}

#[tokio::test]
async fn a_watcher_hears_of_a_commit_of_another_process() {
    let world = World::on(shared()).await;
    let store = world.store().await;
    let feed = store.changes();
    let took = hears(&world, &feed, "a").await;
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn a_watcher_hears_in_time_though_its_listener_is_cut() {
    let world = World::on(shared()).await;
    let store = world.store().await;
    let feed = store.changes();
    hears(&world, &feed, "a").await;
    assert!(world.cut(LISTENER) > 0);
    for id in ["b", "c", "d"] {
        let took = hears(&world, &feed, id).await;
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
}

#[tokio::test]
async fn who_watches_without_asking_hears_of_a_change_as_well() {
    let world = World::on(shared()).await;
    let store = world.store().await;
    let mut watch = store.changes().watch(&zone());
    let other = world.store().await;
    change(&other, &zone(), "a").await;
    timeout(Duration::from_secs(5), watch.changed())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_zone_that_nobody_changed_wakes_nobody() {
    let world = World::on(shared()).await;
    let store = world.store().await;
    let feed = store.changes();
    let other: ZoneId = "z-2".parse().unwrap();
    change(&store, &zone(), "a").await;
    let (mut watch, mut witness) = (feed.watch(&zone()), feed.watch(&other));
    feed.current(&zone()).await.unwrap();
    feed.current(&other).await.unwrap();
    watch.mark_unchanged();
    change(&store, &other, "b").await;
    timeout(Duration::from_secs(5), witness.changed())
        .await
        .unwrap()
        .unwrap();
    feed.current(&zone()).await.unwrap();
    assert!(!watch.has_changed().unwrap());
}
