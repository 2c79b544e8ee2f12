//! Two processes on one database: what one has committed, the other knows at its next barrier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use caracal_core::id::{ApplicationId, ZoneId};
use caracal_store::{Authority, AuthorityLimits, Store};

use crate::world::{Backend, World, author, open};

/// One process's view of the one application.
#[derive(Clone)]
struct Replica {
    authority: Arc<Authority>,
    zone: ZoneId,
    application: ApplicationId,
}

impl Replica {
    fn new(store: Store, zone: &ZoneId, application: &ApplicationId) -> Self {
        Self {
            authority: Authority::new(store, AuthorityLimits::default()),
            zone: zone.clone(),
            application: application.clone(),
        }
    }

    async fn write(&self, value: i64) {
        let mut unit = self.authority.store().begin(&self.zone).await.unwrap();
        let hash = value.to_string();
        unit.set_application_secret(&self.application, Some(&hash), None, &author())
            .await
            .unwrap();
        unit.commit().await.unwrap();
    }

    async fn read(&self) -> i64 {
        let view = self.authority.fresh(&self.zone).await.unwrap();
        let row = view.application(&self.application).await.unwrap().unwrap();
        let value = row
            .secret_hash
            .as_deref()
            .and_then(|hash| hash.parse().ok());
        value.unwrap_or(0)
    }
}

#[test]
fn a_commit_of_one_replica_is_known_to_the_other_at_its_next_barrier() {
    const ROUNDS: i64 = 1000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::new(Backend::Postgres).await;
        let tree = world.tree().await;
        let (zone, application) = (&tree.zone_id, &tree.application.id);
        let other = open(&world.place, &world.clock, &world.random)
            .await
            .unwrap();
        let replicas = [
            Replica::new(world.store.clone(), zone, application),
            Replica::new(other, zone, application),
        ];
        let committed = Arc::new(AtomicI64::new(0));
        let (stop, reads) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..8 {
            let replica = replicas[n % 2].clone();
            let (committed, stop) = (Arc::clone(&committed), Arc::clone(&stop));
            let reads = Arc::clone(&reads);
            crowd.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let before = committed.load(Ordering::SeqCst);
                    let value = replica.read().await;
                    assert!(value >= before, "{value} is older than {before}");
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 1..=ROUNDS {
            let [one, two] = &replicas;
            let (writer, reader) = if round % 2 == 0 {
                (one, two)
            } else {
                (two, one)
            };
            writer.write(round).await;
            committed.store(round, Ordering::SeqCst);
            assert_eq!(reader.read().await, round);
        }
        stop.store(true, Ordering::SeqCst);
        crowd.join_all().await;
        assert!(reads.load(Ordering::SeqCst) > 1000);
    });
}
