use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use caracal_core::id::{ApplicationId, AuthorityRecordId, SessionId};
use caracal_core::{ManualClock, SeededRandom, SubjectType};
use caracal_testbed::{Database, Postgres};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::change::{ChangeKind, Changes};
use crate::dialect::Dialect;
use crate::dialect::postgres::{PostgresOptions, migrate_postgres};
use crate::entity::{
    Application, Attribution, AuthorityRecord, RecordStatus, RegistrationMethod, Zone,
};
use crate::error::StoreError;
use crate::handle::ZoneUnit;
use crate::outbox::OutboxStatus;
use crate::store::Store;
use crate::testing::{self, START, zone};

/// A store with a zone and an application.
struct World {
    store: Store,
    _dir: Option<TempDir>,
    database: Option<Database>,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(database) = &self.database {
            let _ = Postgres::shared().and_then(|server| server.drop_database(database));
        }
    }
}

async fn sqlite() -> World {
    let (dir, store) = testing::store().await;
    World {
        store,
        _dir: Some(dir),
        database: None,
    }
    .with_zone()
    .await
}

async fn postgres() -> World {
    let database = Postgres::shared().unwrap().database().unwrap();
    let options = PostgresOptions::new(database.owner_url.clone());
    migrate_postgres(&options, START).await.unwrap();
    let clock = Arc::new(ManualClock::at(START));
    let random = Arc::new(SeededRandom::new(3));
    World {
        store: Store::open_postgres(options, clock, random).await.unwrap(),
        _dir: None,
        database: Some(database),
    }
    .with_zone()
    .await
}

impl World {
    async fn with_zone(self) -> Self {
        let mut unit = self.store.begin(&zone()).await.unwrap();
        unit.insert_zone(&Zone {
            id: zone(),
            name: "Acme".to_owned(),
            slug: "acme".to_owned(),
            dcr_enabled: false,
            operator_coauthor_badge: true,
            operator_governed: false,
            owner_account_id: None,
            attribution: Attribution::default(),
            created_at: START,
            updated_at: START,
            archived_at: None,
        })
        .await
        .unwrap();
        unit.insert_application(&Application {
            id: application(),
            zone_id: zone(),
            name: "agent".to_owned(),
            registration_method: RegistrationMethod::Managed,
            traits: Vec::new(),
            secret_hash: Some("0".to_owned()),
            sealed_secret: None,
            expires_at: None,
            attribution: Attribution::default(),
            created_at: START,
            updated_at: None,
            archived_at: None,
        })
        .await
        .unwrap();
        unit.commit().await.unwrap();
        self
    }

    /// Stores a record in a group.
    fn stores(&self, row: AuthorityRecord) -> impl Future<Output = Stored> + Send + use<> {
        let store = self.store.clone();
        async move { store.store_authority_record(row).await }
    }

    /// Work that stores a record and then, perhaps, refuses.
    fn works(&self, id: &str, refuses: bool) -> impl Future<Output = Worked> + Send + use<> {
        let (store, row) = (self.store.clone(), record(id));
        async move {
            store
                .in_group(&zone(), move |unit| Box::pin(work(unit, row, refuses)))
                .await
        }
    }

    /// Lets others run until so many wait.
    async fn until_waiting(&self, count: usize) {
        let waiting = || {
            let zones = self.store.inner.groups.zones.lock();
            zones
                .get(&zone())
                .map_or(0, |q| q.jobs.len() + q.records.len())
        };
        while waiting() < count {
            tokio::task::yield_now().await;
        }
    }

    async fn has(&self, id: &str) -> bool {
        let id = AuthorityRecordId::parse(id).unwrap();
        let found = self.store.read(&zone()).get_authority_record(&id).await;
        found.unwrap().is_some()
    }

    async fn told(&self) -> Vec<String> {
        let told = self.store.changes().since(&zone(), 0).await.unwrap();
        match told {
            Changes::Complete { changes, .. } => {
                changes.iter().map(|change| change.id.to_string()).collect()
            }
            Changes::Gap { .. } => panic!("a gap"),
        }
    }
}

type Stored = Result<(), StoreError>;
type Worked = Result<usize, Refused>;

/// What a job answers that does not want its writes kept.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Refused {
    ByWork,
    ByStore,
}

impl From<StoreError> for Refused {
    fn from(_: StoreError) -> Self {
        Self::ByStore
    }
}

/// Writes a row, a change and a message.
async fn work(unit: &mut ZoneUnit, row: AuthorityRecord, refuses: bool) -> Worked {
    unit.insert_authority_record(&row).await?;
    unit.changed(
        ChangeKind::Session,
        SessionId::parse(row.id.as_str()).unwrap(),
    );
    unit.enqueue("topic", row.id.as_str(), Vec::new()).await?;
    if refuses { Err(Refused::ByWork) } else { Ok(1) }
}

fn application() -> ApplicationId {
    ApplicationId::parse("app-1").unwrap()
}

fn record(id: &str) -> AuthorityRecord {
    AuthorityRecord {
        id: id.parse().unwrap(),
        zone_id: zone(),
        kind: SubjectType::Application,
        subject_id: "app-1".to_owned(),
        issuer: None,
        application_id: application(),
        parent_id: None,
        status: RecordStatus::Active,
        expires_at: START.plus_seconds(900),
        authenticated_at: START,
        created_at: START,
        revoked_at: None,
        revoked_reason: None,
    }
}

/// A record that the database refuses: its application does not exist.
fn orphan(id: &str) -> AuthorityRecord {
    AuthorityRecord {
        application_id: ApplicationId::parse("nobody").unwrap(),
        ..record(id)
    }
}

/// Counts commits.
#[derive(Default)]
struct Commits(Arc<AtomicU64>);

impl metrics::Recorder for Commits {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        if key.name() == "caracal_group_commits_total" {
            Counter::from_arc(Arc::clone(&self.0))
        } else {
            Counter::noop()
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Starts everything while another holds the zone, and lets it run.
async fn together<T: Send + 'static>(
    world: &World,
    all: Vec<impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let held = world.store.begin(&zone()).await.unwrap();
    let tasks: Vec<_> = all.into_iter().map(tokio::spawn).collect();
    world.until_waiting(tasks.len()).await;
    drop(held);
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

/// Each test on each database.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                super::$name(super::sqlite().await).await;
            }
            #[tokio::test]
            async fn postgres() {
                super::$name(super::postgres().await).await;
            }
        }
    )+};
}

on_both!(
    writes_that_arrive_together_share_a_commit,
    a_record_that_is_refused_harms_no_other,
    what_a_refused_job_did_is_undone_with_its_changes_and_its_messages,
    alone_a_refusal_leaves_nothing,
    a_caller_that_goes_away_undoes_nobody,
    a_commit_that_fails_fails_everybody_in_it,
    a_limit_that_jobs_check_is_never_exceeded,
    too_many_jobs_are_refused_at_once,
);

async fn writes_that_arrive_together_share_a_commit(world: World) {
    let commits = Commits::default();
    let count = Arc::clone(&commits.0);
    let _counting = metrics::set_default_local_recorder(&commits);
    let records = (0..100).map(|n| world.stores(record(&format!("r-{n}"))));
    for stored in together(&world, records.collect()).await {
        stored.unwrap();
    }
    let jobs = (0..20).map(|n| {
        let id = format!("j-{n}");
        world.works(&id, false)
    });
    assert_eq!(together(&world, jobs.collect()).await, vec![Ok(1); 20]);
    let commits = count.load(Ordering::SeqCst);
    assert!(
        (2..20).contains(&commits),
        "{commits} commits of 120 writes"
    );
    assert!(world.has("r-0").await && world.has("r-99").await && world.has("j-19").await);
}

async fn a_record_that_is_refused_harms_no_other(world: World) {
    let rows = vec![
        record("a"),
        orphan("b"),
        record("c"),
        record("a"),
        record("d"),
    ];
    let all = rows.into_iter().map(|row| world.stores(row)).collect();
    let stored: Vec<bool> = together(&world, all)
        .await
        .iter()
        .map(Result::is_ok)
        .collect();
    assert_eq!(stored, [true, false, true, false, true]);
    for (id, is_there) in [("a", true), ("b", false), ("c", true), ("d", true)] {
        assert_eq!(world.has(id).await, is_there, "{id}");
    }
}

async fn what_a_refused_job_did_is_undone_with_its_changes_and_its_messages(world: World) {
    let all = vec![
        world.works("a", false),
        world.works("b", true),
        world.works("c", false),
        // The database refuses this one.
        world.works("a", false),
        world.works("d", true),
        world.works("e", false),
    ];
    let refused = || Err(Refused::ByWork);
    let answers = together(&world, all).await;
    let expected = [
        Ok(1),
        refused(),
        Ok(1),
        Err(Refused::ByStore),
        refused(),
        Ok(1),
    ];
    assert_eq!(answers, expected);
    assert_eq!(world.told().await, ["a", "c", "e"]);
    let messages = world.store.platform().outbox_stats().await.unwrap();
    assert_eq!(messages.count(OutboxStatus::Pending), 3);
    for (id, is_there) in [
        ("a", true),
        ("b", false),
        ("c", true),
        ("d", false),
        ("e", true),
    ] {
        assert_eq!(world.has(id).await, is_there, "{id}");
    }
}

async fn alone_a_refusal_leaves_nothing(world: World) {
    assert_eq!(world.works("a", true).await, Err(Refused::ByWork));
    assert!(world.stores(orphan("b")).await.is_err());
    assert!(!world.has("a").await && !world.has("b").await);
    assert_eq!(world.told().await, [""; 0]);
    assert_eq!(world.works("a", false).await, Ok(1));
    assert!(world.store.inner.groups.zones.lock().is_empty());
}

async fn a_caller_that_goes_away_undoes_nobody(world: World) {
    let held = world.store.begin(&zone()).await.unwrap();
    let mut tasks: Vec<_> = ["a", "b", "c"]
        .map(|id| tokio::spawn(world.works(id, false)))
        .into();
    world.until_waiting(3).await;
    let gone = tasks.remove(1);
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    drop(held);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(1));
    }
    assert_eq!(world.told().await, ["a", "c"], "who had gone was not run");
}

async fn a_commit_that_fails_fails_everybody_in_it(world: World) {
    let store = world.store.clone();
    let breaks = async move {
        store
            .in_group(&zone(), |unit| Box::pin(break_the_commit(unit)))
            .await
    };
    let held = world.store.begin(&zone()).await.unwrap();
    let others = ["a", "b"].map(|id| tokio::spawn(world.works(id, id == "b")));
    let record = tokio::spawn(world.stores(record("c")));
    world.until_waiting(3).await;
    let breaks = tokio::spawn(breaks);
    world.until_waiting(4).await;
    drop(held);
    assert_eq!(breaks.await.unwrap(), Err(Refused::ByStore));
    for other in others {
        assert_eq!(other.await.unwrap(), Err(Refused::ByStore));
    }
    let record = record.await.unwrap();
    assert!(
        matches!(record, Err(StoreError::Unavailable(_))),
        "{record:?}"
    );
    assert!(!world.has("a").await && !world.has("c").await);
    assert_eq!(world.works("a", false).await, Ok(1), "the next one is well");
}

/// Leaves the unit in a state that can't be committed: in a file a reference that is looked at only
/// then, on a server a connection that is gone.
async fn break_the_commit(unit: &mut ZoneUnit) -> Worked {
    let statements: &[&str] = match unit.inner.dialect() {
        Dialect::Sqlite => &[
            "PRAGMA defer_foreign_keys = ON -- $1",
            "DELETE FROM zones WHERE id = $1",
        ],
        Dialect::Postgres => &["SELECT pg_terminate_backend(pg_backend_pid()) WHERE $1 = $1"],
    };
    for sql in statements {
        let _ = unit.execute("zones", *sql, Vec::new()).await;
    }
    Ok(1)
}

/// Jobs that count before they write, as the start of a Session does.
async fn a_limit_that_jobs_check_is_never_exceeded(world: World) {
    const LIMIT: i64 = 20;
    let mut tasks = JoinSet::new();
    for n in 0..60 {
        let (store, row) = (world.store.clone(), record(&format!("r-{n}")));
        tasks.spawn(async move {
            let started: Worked = store
                .in_group(&zone(), move |unit| {
                    Box::pin(async move {
                        if unit.count_live_authority_records(START).await? >= LIMIT {
                            return Err(Refused::ByWork);
                        }
                        unit.insert_authority_record(&row).await?;
                        Ok(1)
                    })
                })
                .await;
            started
        });
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let answers = tasks.join_all().await;
    let started = answers.iter().filter(|answer| **answer == Ok(1)).count();
    let refused = answers
        .iter()
        .filter(|a| **a == Err(Refused::ByWork))
        .count();
    assert_eq!((started, refused), (20, 40));
    let live = world
        .store
        .read(&zone())
        .count_live_authority_records(START)
        .await;
    assert_eq!(live.unwrap(), LIMIT);
}

async fn too_many_jobs_are_refused_at_once(world: World) {
    let held = world.store.begin(&zone()).await.unwrap();
    let waiting: Vec<_> = (0..super::MAX_WAITING)
        .map(|n| tokio::spawn(world.stores(record(&format!("r-{n}")))))
        .collect();
    world.until_waiting(waiting.len()).await;
    let refused = world.stores(record("late")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    drop(held);
    for task in waiting {
        task.await.unwrap().unwrap();
    }
    assert!(!world.has("late").await);
}
