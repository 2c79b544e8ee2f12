use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::Poll;

use caracal_core::id::{ApplicationId, KeyId, SessionId, ZoneId};
use caracal_core::{Clock, ManualClock, SubjectType};
use tempfile::TempDir;

use super::{Authority, AuthorityLimits};
use crate::entity::{
    Application, Attribution, Author, AuthorityRecord, Lease, Lifecycle, RecordStatus,
    RegistrationMethod, Session, SessionStatus, SigningKeyRow, Zone,
};
use crate::error::StoreError;
use crate::store::Store;
use crate::testing::{self, START};

struct World {
    authority: Arc<Authority>,
    store: Store,
    clock: Arc<ManualClock>,
    zone: ZoneId,
    _dir: TempDir,
}

async fn world(limits: AuthorityLimits) -> World {
    let clock = Arc::new(ManualClock::at(START));
    let (dir, store) = testing::store_at(Arc::clone(&clock)).await;
    let zone = testing::zone();
    let mut unit = store.begin(&zone).await.unwrap();
    unit.insert_zone(&Zone {
        id: zone.clone(),
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
    for n in 0..4 {
        unit.insert_application(&application(&zone, n))
            .await
            .unwrap();
    }
    unit.commit().await.unwrap();
    World {
        authority: Authority::new(store.clone(), limits),
        store,
        clock,
        zone,
        _dir: dir,
    }
}

fn application_id(number: u64) -> ApplicationId {
    ApplicationId::parse(&format!("app-{number}")).unwrap()
}

fn application(zone: &ZoneId, number: u64) -> Application {
    Application {
        id: application_id(number),
        zone_id: zone.clone(),
        name: format!("agent {number}"),
        registration_method: RegistrationMethod::Managed,
        traits: Vec::new(),
        secret_hash: Some("0".to_owned()),
        sealed_secret: None,
        expires_at: None,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: None,
        archived_at: None,
    }
}

impl World {
    /// Writes `value` into an application's row.
    async fn write(&self, application: u64, value: i64) {
        write(&self.store, &self.zone, application, value).await;
    }

    /// The value, as a fresh view has it.
    async fn read(&self, application: u64) -> i64 {
        read(&self.authority, &self.zone, application).await
    }
}

async fn write(store: &Store, zone: &ZoneId, application: u64, value: i64) {
    let mut unit = store.begin(zone).await.unwrap();
    let id = application_id(application);
    let hash = value.to_string();
    unit.set_application_secret(&id, Some(&hash), None, &Author::default())
        .await
        .unwrap();
    unit.commit().await.unwrap();
}

async fn read(authority: &Arc<Authority>, zone: &ZoneId, application: u64) -> i64 {
    let view = authority.fresh(zone).await.unwrap();
    let row = view
        .application(&application_id(application))
        .await
        .unwrap()
        .unwrap();
    row.secret_hash.as_deref().unwrap().parse().unwrap()
}

/// Reads from an application's row what was last committed before the read began, or later.
///
/// Writers count up; a reader notes the highest value whose commit has returned, passes the barrier
/// and must find that value or a higher one. A cache that serves a value from before the barrier,
/// or keeps one that a read-through raced into it, is caught.
#[test]
fn a_value_is_never_older_than_a_commit_that_returned_before_the_barrier() {
    const ROUNDS: u64 = 10_000;
    const WRITES: i64 = 600;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = world(AuthorityLimits::default()).await;
        let committed: Arc<Vec<AtomicI64>> = Arc::new((0..4).map(|_| AtomicI64::new(0)).collect());
        let hits = Arc::new(AtomicU64::new(0));
        let writers = (0..4_u64).map(|application| {
            let (store, zone) = (world.store.clone(), world.zone.clone());
            let committed = Arc::clone(&committed);
            tokio::spawn(async move {
                for value in 1..=WRITES / 4 {
                    write(&store, &zone, application, value).await;
                    committed[usize::try_from(application).unwrap()].store(value, Ordering::SeqCst);
                }
            })
        });
        let mut tasks: Vec<_> = writers.collect();
        for reader in 0..4_u64 {
            let (authority, zone) = (Arc::clone(&world.authority), world.zone.clone());
            let (committed, hits) = (Arc::clone(&committed), Arc::clone(&hits));
            tasks.push(tokio::spawn(async move {
                for round in 0..ROUNDS / 4 {
                    let application = (round + reader) % 4;
                    let slot = &committed[usize::try_from(application).unwrap()];
                    let before = slot.load(Ordering::SeqCst);
                    let view = authority.fresh(&zone).await.unwrap();
                    let id = application_id(application);
                    let cached = view.cache.look(|facts| facts.applications.get(&id)).is_ok();
                    hits.fetch_add(u64::from(cached), Ordering::SeqCst);
                    let row = view.application(&id).await.unwrap().unwrap();
                    let value: i64 = row.secret_hash.as_deref().unwrap().parse().unwrap();
                    assert!(value >= before, "{value} is older than {before}");
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert!(hits.load(Ordering::SeqCst) > 0, "the cache was never used");
        for application in 0..4 {
            assert_eq!(world.read(application).await, WRITES / 4);
        }
    });
}

/// The value, as the database has it.
async fn stored(store: &Store, zone: &ZoneId, application: u64) -> i64 {
    let id = application_id(application);
    let row = store.read(zone).get_application(&id).await.unwrap();
    row.unwrap().secret_hash.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_only_once_the_database_has_it() {
    const WRITES: i64 = 400;
    let world = world(AuthorityLimits::default()).await;
    let (store, zone) = (world.store.clone(), world.zone.clone());
    let feed = store.changes();
    // Every write is one change, so the position counts the writes that have been told.
    let reader = tokio::spawn(async move {
        let mut told = 0;
        while told < WRITES {
            told = i64::try_from(feed.current(&zone).await.unwrap()).unwrap();
            let value = stored(&store, &zone, 1).await;
            assert!(value >= told, "{told} is told and {value} is stored");
        }
    });
    for value in 1..=WRITES {
        world.write(1, value).await;
    }
    reader.await.unwrap();
}

/// Polls `future` whenever it asks for it, `polls` times at most, and drops it.
async fn abandon_after(polls: usize, future: impl Future) {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        future.as_mut().poll(context).map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_commit_that_its_caller_abandons_is_told_all_the_same() {
    let world = world(AuthorityLimits::default()).await;
    for polls in 1..12_u8 {
        let value = i64::from(polls);
        assert_eq!(world.read(1).await, value - 1);
        let mut unit = world.store.begin(&world.zone).await.unwrap();
        let hash = value.to_string();
        unit.set_application_secret(&application_id(1), Some(&hash), None, &Author::default())
            .await
            .unwrap();
        abandon_after(polls.into(), unit.commit()).await;
        // The next unit begins when the abandoned one has ended.
        drop(world.store.begin(&world.zone).await.unwrap());
        assert_eq!(stored(&world.store, &world.zone, 1).await, value);
        assert_eq!(world.read(1).await, value, "after {polls} polls");
    }
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing_cached() {
    let world = world(AuthorityLimits::default()).await;
    let cached = async || {
        let view = world.authority.fresh(&world.zone).await.unwrap();
        view.application(&application_id(1)).await.unwrap().unwrap()
    };
    let before = cached().await;
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    // What its applications refer to is gone when the commit looks.
    for sql in [
        "PRAGMA defer_foreign_keys = ON -- $1",
        "DELETE FROM zones WHERE id = $1",
    ] {
        unit.execute("zones", sql, Vec::new()).await.unwrap();
    }
    let refused = unit.commit().await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    let after = cached().await;
    assert!(!Arc::ptr_eq(&before, &after), "it is read again");
}

#[tokio::test]
async fn a_fact_is_read_once_and_then_served_from_memory() {
    let world = world(AuthorityLimits::default()).await;
    let view = world.authority.fresh(&world.zone).await.unwrap();
    let first = view.application(&application_id(1)).await.unwrap().unwrap();
    let view = world.authority.fresh(&world.zone).await.unwrap();
    let second = view.application(&application_id(1)).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
}

#[tokio::test]
async fn a_change_evicts_exactly_what_it_touched() {
    let world = world(AuthorityLimits::default()).await;
    let view = world.authority.fresh(&world.zone).await.unwrap();
    let kept = view.application(&application_id(1)).await.unwrap().unwrap();
    view.application(&application_id(2)).await.unwrap().unwrap();
    world.write(2, 7).await;
    let view = world.authority.fresh(&world.zone).await.unwrap();
    assert_eq!(world.read(2).await, 7);
    let again = view.application(&application_id(1)).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&kept, &again));
}

#[tokio::test]
async fn a_read_that_a_change_overtook_is_not_kept() {
    let world = world(AuthorityLimits::default()).await;
    let view = world.authority.fresh(&world.zone).await.unwrap();
    view.zone().await.unwrap().unwrap();
    let id = application_id(1);
    // A read-through begins …
    let ticket = view
        .cache
        .look(|facts| facts.applications.get(&id))
        .unwrap_err();
    let stale = world
        .store
        .read(&world.zone)
        .get_application(&id)
        .await
        .unwrap()
        .unwrap();
    // … a change is committed and another request passes the barrier …
    world.write(1, 9).await;
    world.authority.fresh(&world.zone).await.unwrap();
    // … and only then the read-through ends.
    view.cache.keep(ticket, |facts| {
        facts.applications.put(id.clone(), Arc::new(stale));
    });
    assert_eq!(world.read(1).await, 9);
}

#[tokio::test]
async fn a_read_that_ends_between_a_commit_and_the_next_barrier_is_evicted_by_it() {
    let world = world(AuthorityLimits::default()).await;
    let view = world.authority.fresh(&world.zone).await.unwrap();
    view.zone().await.unwrap().unwrap();
    let id = application_id(1);
    let ticket = view
        .cache
        .look(|facts| facts.applications.get(&id))
        .unwrap_err();
    let stale = world
        .store
        .read(&world.zone)
        .get_application(&id)
        .await
        .unwrap()
        .unwrap();
    world.write(1, 9).await;
    view.cache.keep(ticket, |facts| {
        facts.applications.put(id.clone(), Arc::new(stale));
    });
    assert_eq!(world.read(1).await, 9);
}

#[tokio::test]
async fn a_gap_drops_everything_of_the_zone() {
    let world = world(AuthorityLimits::default()).await;
    assert_eq!(world.read(1).await, 0);
    world.write(1, 5).await;
    // More changes than the feed remembers.
    let ids: Vec<SessionId> = (0..5000)
        .map(|n| SessionId::parse(&format!("s-{n}")).unwrap())
        .collect();
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.suspend_sessions(&ids).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(world.read(1).await, 5);
}

#[tokio::test]
async fn absence_is_not_cached() {
    let world = world(AuthorityLimits::default()).await;
    let view = world.authority.fresh(&world.zone).await.unwrap();
    let id = application_id(9);
    assert!(view.application(&id).await.unwrap().is_none());
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.insert_application(&application(&world.zone, 9))
        .await
        .unwrap();
    unit.commit().await.unwrap();
    assert!(
        view.application(&id).await.unwrap().is_some(),
        "a creation tells nobody"
    );
}

#[tokio::test]
async fn unknown_zones_take_no_memory_and_known_ones_stay_within_the_limit() {
    let world = world(AuthorityLimits {
        zones: 2,
        entries: 8,
    })
    .await;
    for n in 0..50 {
        let unknown = ZoneId::parse(&format!("unknown-{n}")).unwrap();
        let view = world.authority.fresh(&unknown).await.unwrap();
        assert!(view.zone().await.unwrap().is_none());
        assert!(view.signing_keys().await.unwrap().is_empty());
    }
    assert_eq!(world.authority.zones.read().len(), 0);
    for n in 0..5 {
        let zone = ZoneId::parse(&format!("z-{}", n + 10)).unwrap();
        let view = world.authority.fresh(&zone).await.unwrap();
        assert_eq!(view.delegation_epoch().await.unwrap(), 0);
    }
    assert_eq!(world.authority.zones.read().len(), 2);
    assert_eq!(world.read(1).await, 0);
}

#[tokio::test]
async fn a_zones_cache_holds_no_more_than_its_limit() {
    let mut map = super::cache::Bounded::<u32, u32>::new(8);
    for n in 0..100 {
        map.put(n, Arc::new(n));
        assert!(map.get(&n).is_some());
    }
    let held = (0..100_u32).filter(|n| map.get(n).is_some()).count();
    assert!((1..=8).contains(&held), "{held}");
}

#[tokio::test]
async fn a_cached_service_whose_lease_has_lapsed_is_read_again() {
    let world = world(AuthorityLimits::default()).await;
    let id = SessionId::parse("s-1").unwrap();
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    let record = AuthorityRecord {
        id: "r-1".parse().unwrap(),
        zone_id: world.zone.clone(),
        kind: SubjectType::Application,
        subject_id: "app-1".to_owned(),
        issuer: None,
        application_id: application_id(1),
        parent_id: None,
        status: RecordStatus::Active,
        expires_at: START.plus_seconds(900),
        authenticated_at: START,
        created_at: START,
        revoked_at: None,
        revoked_reason: None,
    };
    unit.insert_authority_record(&record).await.unwrap();
    let lease = Lease {
        last_heartbeat_at: START,
        heartbeat_deadline_at: START.plus_seconds(120),
    };
    let session = Session {
        id: id.clone(),
        zone_id: world.zone.clone(),
        application_id: application_id(1),
        parent_id: None,
        subject_authority_record_id: record.id.clone(),
        status: SessionStatus::Active,
        lifecycle: Lifecycle::Service(lease),
        depth: 0,
        labels: Vec::new(),
        max_children: 10,
        child_count: 0,
        authority_root: true,
        metadata: serde_json::Map::new(),
        lease_generation: 1,
        started_at: START,
        last_active_at: START,
        terminated_at: None,
        termination_reason: None,
        updated_at: START,
    };
    unit.insert_session(&session).await.unwrap();
    unit.commit().await.unwrap();
    let live = async || {
        let view = world.authority.fresh(&world.zone).await.unwrap();
        let session = view.session(&id).await.unwrap().unwrap();
        session.is_effectively_live(world.clock.now())
    };
    assert!(live().await);
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    assert!(
        unit.renew_lease(&id, 1, START.plus_seconds(240))
            .await
            .unwrap()
    );
    unit.commit().await.unwrap();
    world.clock.advance_seconds(150);
    assert!(live().await, "the renewal is found, though it told nobody");
    world.clock.advance_seconds(150);
    assert!(!live().await);
}

#[tokio::test]
async fn the_order_of_cached_keys_follows_the_clock() {
    let world = world(AuthorityLimits::default()).await;
    let key = |id: &str, signs_from| SigningKeyRow {
        id: KeyId::parse(id).unwrap(),
        zone_id: world.zone.clone(),
        sealed: vec![1],
        x: String::new(),
        y: String::new(),
        created_at: START,
        signs_from,
        retires_at: None,
    };
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.insert_signing_key(&key("old", START)).await.unwrap();
    unit.insert_signing_key(&key("next", START.plus_seconds(600)))
        .await
        .unwrap();
    unit.commit().await.unwrap();
    let first = async || {
        let view = world.authority.fresh(&world.zone).await.unwrap();
        view.signing_keys().await.unwrap()[0].id.to_string()
    };
    assert_eq!(first().await, "old");
    world.clock.advance_seconds(599);
    assert_eq!(first().await, "old");
    world.clock.advance_seconds(1);
    assert_eq!(first().await, "next");
}

#[tokio::test]
async fn a_resource_that_gives_up_its_name_is_not_found_under_it() {
    use crate::entity::{Enforcement, Resource};
    use caracal_core::ResourceIdentifier;

    let world = world(AuthorityLimits::default()).await;
    let mut row = Resource {
        id: "res-1".parse().unwrap(),
        zone_id: world.zone.clone(),
        name: "Ledger".to_owned(),
        identifier: ResourceIdentifier::new("resource://old"),
        upstream_url: None,
        scopes: Vec::new(),
        credential_provider_id: None,
        operations: Vec::new(),
        operation_enforcement: Enforcement::Enforced,
        attribution: Attribution::default(),
        created_at: START,
        updated_at: START,
        archived_at: None,
    };
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.insert_resource(&row).await.unwrap();
    unit.commit().await.unwrap();
    let find = async |name: &str| {
        let view = world.authority.fresh(&world.zone).await.unwrap();
        let by_name = view.resource_by_name(name).await.unwrap();
        let exact = view.resource(&ResourceIdentifier::new(name)).await.unwrap();
        (by_name.is_some(), exact.is_some())
    };
    assert_eq!(find("resource://old").await, (true, true));
    assert_eq!(find("res-1").await, (true, false));
    row.identifier = ResourceIdentifier::new("resource://new");
    let mut unit = world.store.begin(&world.zone).await.unwrap();
    unit.update_resource(&row).await.unwrap();
    unit.commit().await.unwrap();
    assert_eq!(find("resource://old").await, (false, false));
    assert_eq!(find("resource://new").await, (true, true));
    assert_eq!(find("res-1").await, (true, false));
}
