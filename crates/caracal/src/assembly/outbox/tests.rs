use std::collections::VecDeque;

use async_trait::async_trait;
use caracal_core::id::{OutboxId, ZoneId};
use caracal_core::{ManualClock, SeededRandom, Timestamp};
use caracal_events::{PublishError, Topic};
use caracal_store::OutboxStatus;
use parking_lot::Mutex;

use super::*;

const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// Takes messages, unless told how to refuse the next ones.
#[derive(Debug, Default)]
struct Stream {
    taken: Mutex<Vec<(Topic, Fields)>>,
    refusals: Mutex<VecDeque<Refusal>>,
}

#[derive(Debug, Clone, Copy)]
enum Refusal {
    Outage,
    ThisOne,
}

#[async_trait]
impl Publisher for Stream {
    async fn publish(&self, topic: Topic, fields: Fields) -> Result<(), PublishError> {
        match self.refusals.lock().pop_front() {
            None => {
                self.taken.lock().push((topic, fields));
                Ok(())
            }
            Some(refusal) => Err(PublishError {
                topic,
                is_outage: matches!(refusal, Refusal::Outage),
                detail: "no".to_owned(),
            }),
        }
    }
}

struct World {
    relay: Relay,
    stream: Arc<Stream>,
    clock: Arc<ManualClock>,
    zone: ZoneId,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let file = dir.path().join("caracal.db");
        let store = Store::open_sqlite(&file, clock.clone(), Arc::new(SeededRandom::new(7)));
        let stream = Arc::new(Stream::default());
        Self {
            relay: Relay {
                store: store.await.unwrap(),
                clock: clock.clone(),
                publisher: stream.clone(),
                key: None,
                batch: 10,
                max_attempts: 3,
            },
            stream,
            clock,
            zone: ZoneId::parse("zone-1").unwrap(),
            _dir: dir,
        }
    }

    async fn enqueue(&self, topic: &str, key: &str) -> OutboxId {
        let mut unit = self.relay.store.begin(&self.zone).await.unwrap();
        let id = unit.enqueue(topic, key, vec![]).await.unwrap();
        unit.commit().await.unwrap();
        id
    }

    fn refuse(&self, refusals: &[Refusal]) {
        self.stream.refusals.lock().extend(refusals);
    }

    async fn round(&self) -> Round {
        self.relay.publish_batch().await.unwrap()
    }

    async fn row(&self, id: &OutboxId) -> OutboxMessage {
        let reader = self.relay.store.read(&self.zone);
        reader.get_outbox_message(id).await.unwrap().unwrap()
    }

    fn taken(&self) -> Vec<Topic> {
        self.stream
            .taken
            .lock()
            .iter()
            .map(|(topic, _)| *topic)
            .collect()
    }
}

#[tokio::test]
async fn what_withdraws_authority_is_published_first_and_once() {
    let world = World::new().await;
    let id = world.enqueue("caracal.agents.lifecycle", "a").await;
    world.enqueue("caracal.sessions.revoke", "b").await;
    assert_eq!(world.round().await, Round::Worked);
    assert_eq!(
        world.taken(),
        [Topic::SessionsRevoke, Topic::AgentsLifecycle]
    );
    assert_eq!(world.row(&id).await.status, OutboxStatus::Published);
    assert_eq!(world.round().await, Round::Idle);
}

#[tokio::test]
async fn an_outage_counts_no_attempt_and_delays_nothing_once_it_is_over() {
    let world = World::new().await;
    let id = world.enqueue("caracal.sessions.revoke", "a").await;
    for _ in 0..50 {
        world.refuse(&[Refusal::Outage]);
        assert!(matches!(world.round().await, Round::Outage(_)));
    }
    let row = world.row(&id).await;
    assert_eq!((row.status, row.attempts), (OutboxStatus::Pending, 0));
    assert_eq!(world.round().await, Round::Worked);
    assert_eq!(world.row(&id).await.status, OutboxStatus::Published);
}

#[tokio::test]
async fn a_refused_message_is_tried_again_later_and_then_parked_while_others_pass() {
    let world = World::new().await;
    let id = world.enqueue("caracal.sessions.revoke", "a").await;
    for pause in [1, 2] {
        world.refuse(&[Refusal::ThisOne]);
        assert_eq!(world.round().await, Round::Worked);
        assert_eq!(world.round().await, Round::Idle);
        world.clock.advance_seconds(pause);
    }
    world.enqueue("caracal.agents.lifecycle", "b").await;
    world.refuse(&[Refusal::ThisOne]);
    assert_eq!(world.round().await, Round::Worked);
    assert_eq!(world.taken(), [Topic::AgentsLifecycle]);
    let row = world.row(&id).await;
    assert_eq!((row.status, row.attempts), (OutboxStatus::Dead, 3));
    assert!(row.last_error.unwrap().contains("no"));
}

#[tokio::test]
async fn a_message_that_can_not_be_read_is_parked_at_once() {
    let world = World::new().await;
    let id = world.enqueue("caracal.nobody.knows", "a").await;
    assert_eq!(world.round().await, Round::Worked);
    assert_eq!(world.row(&id).await.status, OutboxStatus::Dead);
}

#[tokio::test]
async fn what_a_dead_publisher_had_claimed_is_published_by_another_after_a_while() {
    let world = World::new().await;
    world.enqueue("caracal.sessions.revoke", "a").await;
    assert_eq!(world.relay.claim().await.unwrap().len(), 1);
    assert_eq!(world.round().await, Round::Idle);
    world.clock.advance_seconds(30);
    assert_eq!(world.round().await, Round::Worked);
    assert_eq!(world.taken().len(), 1);
}

#[test]
fn pauses_double_up_to_a_minute() {
    assert_eq!(pause(0), Duration::from_secs(1));
    assert_eq!(pause(3), Duration::from_secs(8));
    assert_eq!(pause(i64::MAX), LONGEST_RETRY);
}
