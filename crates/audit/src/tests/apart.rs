//! Producers, replicas, PostgreSQL and Redis, together.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caracal_core::{Clock, Random, SystemClock, SystemRandom};
use caracal_crypto::HmacKey;
use caracal_events::redis::{Redis, RedisAddress, RedisOptions, StreamWriter, Trim};
use caracal_evidence::log::{Journal, JournalOptions, Position, ProducerId};
use caracal_evidence::ship::{
    EntryId, EvidenceStream, Field, STREAM, Shipper, ShipperOptions, ShipperParts, StoredUpto,
    TransportError,
};
use caracal_store::{PostgresOptions, ServiceRole, Store, migrate_postgres};

use super::{event, key, parts_from, zone};
use crate::ledger::{Ledger, Search, StoreLedger};
use crate::tamper::{Extent, Sweeper};
use crate::{Audit, RedisQueue, Source, shared_checkpoint_key};

/// Servers with nothing in them.
struct World {
    redis_server: caracal_testbed::Redis,
    database_url: String,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl World {
    async fn new() -> Self {
        let database = caracal_testbed::Postgres::shared().unwrap().database();
        let database_url = database.unwrap().owner_url;
        let world = Self {
            redis_server: caracal_testbed::Redis::start().unwrap(),
            database_url,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        };
        let options = PostgresOptions::new(world.database_url.clone());
        migrate_postgres(&options, world.clock.now()).await.unwrap();
        world
    }

    async fn store(&self, role: ServiceRole) -> Store {
        let options = PostgresOptions::new(self.database_url.clone()).acting_as(role);
        Store::open_postgres(options, self.clock.clone(), self.random.clone())
            .await
            .unwrap()
    }

    async fn redis(&self) -> Redis {
        let address = RedisAddress::parse(&self.redis_server.url().into()).unwrap();
        let redis = Redis::open(&RedisOptions::new(address)).unwrap();
        redis.connected(Duration::from_secs(10)).await.unwrap();
        redis
    }

    async fn replica(&self, name: &str) -> (Audit, tokio::task::JoinHandle<()>) {
        let store = self.store(ServiceRole::Audit).await;
        let queue = RedisQueue::open(&self.redis().await, name).unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(StoreLedger::new(store.clone()));
        let mut parts = parts_from(Source::Stream(Arc::new(queue)), &ledger);
        parts.checkpoint_key =
            shared_checkpoint_key(&store, &key(), None, &self.clock, &self.random)
                .await
                .unwrap();
        parts.options.claim_idle = Duration::from_millis(500);
        let audit = Audit::new(parts);
        let running = audit.clone();
        let task = tokio::spawn(async move { running.run().await });
        (audit, task)
    }

    async fn producer(&self, dir: &Path) -> (Journal, tokio::task::JoinHandle<()>) {
        let journal =
            Journal::open(dir, JournalOptions::default(), Some(key()), &SystemRandom).unwrap();
        let shipper = Shipper::new(ShipperParts {
            journal: journal.clone(),
            stream: Arc::new(Stream(StreamWriter::new(self.redis().await))),
            stored: Arc::new(Stored(self.store(ServiceRole::Sts).await)),
            key: Some(key()),
            random: self.random.clone(),
            options: ShipperOptions {
                linger: Duration::from_millis(1),
                poll_interval: Duration::from_millis(50),
                stalled_after: Duration::from_secs(1),
                ..ShipperOptions::default()
            },
        });
        (journal, tokio::spawn(async move { shipper.run().await }))
    }
}

#[derive(Debug)]
struct Stream(StreamWriter);

#[async_trait]
impl EvidenceStream for Stream {
    async fn append(&self, entry: &[Field]) -> Result<EntryId, TransportError> {
        let fields = entry
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let fields = caracal_events::Fields::from_entry(fields);
        let id = self.0.append(STREAM, &fields, Trim::Never).await;
        id.map(|id| EntryId::new(id.to_string()))
            .map_err(|error| TransportError(error.to_string()))
    }

    async fn holds(&self, id: &EntryId) -> Result<bool, TransportError> {
        let entry = self.0.entry(STREAM, id.as_str().parse().unwrap()).await;
        entry
            .map(|entry| entry.is_some())
            .map_err(|error| TransportError(error.to_string()))
    }
}

#[derive(Debug)]
struct Stored(Store);

#[async_trait]
impl StoredUpto for Stored {
    async fn stored(&self, producer: ProducerId) -> Result<Option<Position>, TransportError> {
        let stored = self
            .0
            .platform()
            .audit_watermark(&producer.to_string())
            .await;
        stored
            .map(|at| at.map(Position::new))
            .map_err(|error| TransportError(error.to_string()))
    }
}

async fn released(journal: &Journal, upto: u64) {
    while journal.released() < Position::new(upto) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn append(journal: &Journal, from: &str, range: std::ops::Range<u32>) {
    for n in range {
        let zone = zone(if n % 3 == 0 { "b" } else { "a" });
        let event = event(&format!("{from}-{n}"), &zone);
        journal.append(&[event]).await.unwrap();
    }
}

/// Everything is stored once, and its chains are what they say.
async fn check(world: &World, audit: &Audit, expected: u64) {
    let ledger = StoreLedger::new(world.store(ServiceRole::Audit).await);
    let mut count = 0;
    for name in ["a", "b"] {
        count += ledger.head(&zone(name)).await.unwrap().seq();
        let records = ledger
            .search(&zone(name), &Search::all_after(0, 1000))
            .await;
        let ids: std::collections::BTreeSet<_> = records
            .unwrap()
            .into_iter()
            .map(|record| record.data.unwrap())
            .collect();
        assert_eq!(
            u64::try_from(ids.len()).unwrap(),
            ledger.head(&zone(name)).await.unwrap().seq()
        );
    }
    assert_eq!(count, expected);
    Sweeper::default()
        .sweep(&audit.0, Extent::Full)
        .await
        .unwrap();
    let metrics = audit.json_metrics()();
    assert_eq!(metrics["tamper_mismatch_total"], 0);
    assert_eq!(metrics["tamper_chain_breaks"], 0);
    assert_eq!(metrics["evidence_lost_total"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_store_what_two_producers_ship_each_event_once() {
    let world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (one, first) = world.replica("one").await;
    let (two, second) = world.replica("two").await;
    let (left, left_ships) = world.producer(&dir.path().join("left")).await;
    let (right, right_ships) = world.producer(&dir.path().join("right")).await;
    tokio::join!(
        append(&left, "left", 0..150),
        append(&right, "right", 0..150)
    );
    tokio::join!(released(&left, 150), released(&right, 150));
    check(&world, &one, 300).await;
    left.close().await;
    right.close().await;
    left_ships.await.unwrap();
    right_ships.await.unwrap();
    one.stop();
    two.stop();
    first.await.unwrap();
    second.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_loses_no_evidence() {
    let mut world = World::new().await;
    let dir = tempfile::tempdir().unwrap();
    let (journal, ships) = world.producer(dir.path()).await;
    // Shipped, and never stored: the replica comes only after the loss.
    append(&journal, "x", 0..40).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.redis_server.stop(true);
    append(&journal, "x", 40..60).await;
    world.redis_server.forget().unwrap();
    world.redis_server.start_again().unwrap();
    let (audit, task) = world.replica("one").await;
    append(&journal, "x", 60..80).await;
    released(&journal, 80).await;
    check(&world, &audit, 80).await;
    journal.close().await;
    ships.await.unwrap();
    audit.stop();
    task.await.unwrap();
}

#[tokio::test]
async fn replicas_share_a_checkpoint_key_that_survives_a_rotation() {
    let world = World::new().await;
    let store = world.store(ServiceRole::Audit).await;
    let key_of = async |current: u8, previous: Option<u8>| {
        let hmac = |byte: u8| HmacKey::from_secret_bytes(&[byte; 32]);
        let previous = previous.map(hmac);
        shared_checkpoint_key(
            &store,
            &hmac(current),
            previous.as_ref(),
            &world.clock,
            &world.random,
        )
        .await
        .map(|key| key.verifier("x").unwrap().to_string())
    };
    let first = key_of(1, None).await.unwrap();
    assert_eq!(key_of(1, None).await.unwrap(), first);
    assert!(key_of(2, None).await.is_err());
    assert_eq!(key_of(2, Some(1)).await.unwrap(), first);
    assert_eq!(key_of(2, None).await.unwrap(), first);
    let producer = world.store(ServiceRole::Sts).await;
    assert!(producer.platform().newest_audit_key().await.is_err());
}
