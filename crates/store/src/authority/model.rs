//! The barrier, the change log and the cache, under every schedule of a small world.
//!
//! The code under test is the code that serves: [`Barrier`], [`catch_up`], [`read_through`] and
//! [`ZoneCache`]. Only the database is a model: one zone with one fact that each commit counts up. A
//! statement takes effect at some moment between its start and its answer, and others may run before
//! and after that moment. Each piece of the code that is not divided by an await is one step of that
//! code, under one lock, so other threads can't run in between either.
//!
//! The rule: who reads the fact behind the barrier finds what was answered before it arrived, or
//! something newer; and everybody is answered. Each test of a broken piece shows that the schedules
//! find what the piece is there for.

mod schedule;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use caracal_core::id::ZoneId;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use self::schedule::{Fault, Scenario, Task, Verdict, every_schedule, random_schedules, step};
use super::cache::{Facts, ZoneCache};
use super::catch_up;
use super::view::read_through;
use crate::change::barrier::{Barrier, Patience, Source};
use crate::change::{Change, ChangeFeed, ChangeKind, Changes};
use crate::error::StoreError;

/// The database: every commit changes the fact once.
#[derive(Debug, Default)]
struct Database {
    /// The zone's sequence number, which is also the fact's value.
    committed: AtomicI64,
    /// What has been answered.
    answered: AtomicI64,
}

impl Database {
    async fn commit(&self) {
        step().await;
        let value = self.committed.fetch_add(1, Ordering::SeqCst) + 1;
        step().await;
        self.answered.fetch_max(value, Ordering::SeqCst);
    }

    async fn statement(&self) -> i64 {
        step().await;
        let seen = self.committed.load(Ordering::SeqCst);
        step().await;
        seen
    }
}

/// Which piece is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    None,
    /// A read takes effect before it is asked for.
    ReadAhead,
    /// Who arrives while a read runs is served by it.
    LateComers,
    /// A caller's arrival is forgotten when the reader does not wait for it at that moment.
    Deaf,
    /// What was read is kept, whatever happened meanwhile.
    Ticket,
    /// The cache moves on before it forgets.
    Order,
    /// Nothing is forgotten.
    Eviction,
}

/// What one schedule runs in.
struct World {
    broken: Piece,
    database: Arc<Database>,
    barrier: Barrier,
    other: OtherBarrier,
    cache: ZoneCache,
    fault: Fault,
}

fn zone() -> ZoneId {
    crate::testing::zone()
}

/// Reads the model's database. The given reads, counted from one, fail.
struct Reads {
    database: Arc<Database>,
    ahead: Option<i64>,
    failing: usize,
    count: usize,
}

impl Source for Reads {
    async fn read(&mut self, zones: &[ZoneId]) -> Result<Vec<u64>, StoreError> {
        self.count += 1;
        let seen = self.database.statement().await;
        if self.count == self.failing {
            return Err(StoreError::Unavailable("no answer".to_owned()));
        }
        let told = match &mut self.ahead {
            Some(ahead) => std::mem::replace(ahead, seen),
            None => seen,
        };
        Ok(vec![u64::try_from(told).unwrap(); zones.len()])
    }

    async fn linger(&mut self, _: Patience, _: impl Fn() -> usize + Send + Sync) {
        step().await;
    }
}

/// The change log of the model's database.
#[derive(Debug)]
struct Log(Arc<Database>);

#[async_trait]
impl ChangeFeed for Log {
    async fn current(&self, _: &ZoneId) -> Result<u64, StoreError> {
        Err(StoreError::Unavailable("pass the barrier".to_owned()))
    }

    async fn since(&self, _: &ZoneId, from: u64) -> Result<Changes, StoreError> {
        let upto = u64::try_from(self.0.statement().await).unwrap();
        let change = || Change {
            kind: ChangeKind::DelegationEpoch,
            id: "z-1".into(),
        };
        let changes = (from..upto).map(|_| change()).collect();
        Ok(Changes::Complete { upto, changes })
    }

    fn watch(&self, _: &ZoneId) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }
}

/// A barrier as it must not be.
#[derive(Debug, Default)]
struct OtherBarrier {
    waiting: Mutex<Vec<oneshot::Sender<u64>>>,
    arrived: Notify,
}

impl OtherBarrier {
    async fn pass(&self) -> u64 {
        let (reply, answer) = oneshot::channel();
        self.waiting.lock().push(reply);
        self.arrived.notify_waiters();
        answer.await.unwrap_or(0)
    }

    async fn run(&self, mut source: Reads, is_deaf: bool) {
        loop {
            while self.waiting.lock().is_empty() {
                // Between the look and the wait an arrival is told to nobody.
                step().await;
                if is_deaf || self.waiting.lock().is_empty() {
                    self.arrived.notified().await;
                }
            }
            let before: Vec<_> = std::mem::take(&mut *self.waiting.lock());
            let position = source.read(&[zone()]).await.unwrap()[0];
            let during: Vec<_> = if is_deaf {
                Vec::new()
            } else {
                std::mem::take(&mut *self.waiting.lock())
            };
            for caller in before.into_iter().chain(during) {
                let _ = caller.send(position);
            }
        }
    }
}

impl World {
    fn new(broken: Piece) -> Arc<Self> {
        Arc::new(Self {
            broken,
            database: Arc::default(),
            barrier: Barrier::new(),
            other: OtherBarrier::default(),
            cache: ZoneCache::new(0, 8),
            fault: Fault::default(),
        })
    }

    /// The reader of the barrier, whose read number `failing` fails.
    fn reader(self: &Arc<Self>, failing: usize) -> Task {
        let world = Arc::clone(self);
        let source = Reads {
            database: Arc::clone(&self.database),
            ahead: (self.broken == Piece::ReadAhead).then_some(0),
            failing,
            count: 0,
        };
        Box::pin(async move {
            match world.broken {
                Piece::LateComers => world.other.run(source, false).await,
                Piece::Deaf => world.other.run(source, true).await,
                _ => world.barrier.run(source).await,
            }
        })
    }

    /// Somebody who changes the fact.
    fn committer(self: &Arc<Self>, commits: usize) -> Task {
        let world = Arc::clone(self);
        Box::pin(async move {
            for _ in 0..commits {
                world.database.commit().await;
            }
        })
    }

    /// Somebody who asks for the fact, so many times, and may be refused.
    fn caller(self: &Arc<Self>, times: usize) -> Task {
        let world = Arc::clone(self);
        Box::pin(async move {
            for _ in 0..times {
                let before = world.database.answered.load(Ordering::SeqCst);
                match world.ask().await {
                    Ok(value) if value < before => {
                        let what = format!("{value} was served after {before} was answered");
                        world.fault.found(what);
                    }
                    Ok(_) | Err(StoreError::Unavailable(_)) => {}
                    Err(error) => world.fault.found(error.to_string()),
                }
            }
        })
    }

    /// Somebody who stops waiting after so many polls.
    fn deserter(self: &Arc<Self>, polls: usize) -> Task {
        let world = Arc::clone(self);
        Box::pin(async move {
            let mut asks = pin!(world.ask());
            for _ in 0..polls {
                let polled = std::future::poll_fn(|context| {
                    Poll::Ready(asks.as_mut().poll(context).is_ready())
                });
                if polled.await {
                    return;
                }
                step().await;
            }
        })
    }

    async fn ask(&self) -> Result<i64, StoreError> {
        let seq = match self.broken {
            Piece::LateComers | Piece::Deaf => self.other.pass().await,
            _ => self.barrier.pass(&zone()).await?,
        };
        step().await;
        self.catch_up(seq).await?;
        step().await;
        let read = async || Ok(Some(self.database.statement().await));
        let value = match self.broken {
            Piece::Ticket => self.read_without_ticket().await,
            _ => read_through(&self.cache, find, read, put).await?,
        };
        Ok(value.unwrap_or(0))
    }

    async fn catch_up(&self, seq: u64) -> Result<(), StoreError> {
        let log = Log(Arc::clone(&self.database));
        if !matches!(self.broken, Piece::Order | Piece::Eviction) {
            return catch_up(&log, &zone(), &self.cache, seq).await;
        }
        let from = self.cache.position();
        if from < seq
            && let Changes::Complete { upto, changes } = log.since(&zone(), from).await?
        {
            self.cache.apply(upto, &[]);
            if self.broken == Piece::Order {
                step().await;
                self.cache.apply(upto, &changes);
            }
        }
        Ok(())
    }

    async fn read_without_ticket(&self) -> Option<i64> {
        if let Ok(found) = self.cache.look(find) {
            return Some(found);
        }
        let value = self.database.statement().await;
        if let Err(ticket) = self.cache.look(|_| None::<i64>) {
            self.cache.keep(ticket, |facts| put(facts, &value));
        }
        Some(value)
    }

    fn scenario(self: &Arc<Self>, tasks: Vec<Task>, failing: usize) -> Scenario {
        Scenario {
            tasks,
            servants: vec![self.reader(failing)],
            fault: self.fault.clone(),
        }
    }
}

fn find(facts: &Facts) -> Option<i64> {
    facts.epoch
}

fn put(facts: &mut Facts, value: &i64) {
    facts.epoch = Some(*value);
}

/// Two who ask, one of them twice, while the fact changes.
fn few(broken: Piece) -> Scenario {
    let world = World::new(broken);
    let tasks = vec![world.caller(2), world.caller(1), world.committer(1)];
    world.scenario(tasks, 0)
}

/// Three who ask three times, while the fact changes three times.
fn crowd(broken: Piece) -> Scenario {
    let world = World::new(broken);
    let callers = (0..3).map(|_| world.caller(3));
    let tasks = callers.chain([world.committer(3)]).collect();
    world.scenario(tasks, 0)
}

fn holds(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Holds(schedules) => *schedules,
        Verdict::Broken(what) => panic!("{what}"),
    }
}

#[test]
fn no_schedule_serves_what_was_changed_before_the_caller_arrived() {
    let verdict = every_schedule(2, || few(Piece::None));
    assert!(holds(&verdict) > 10_000, "{verdict:?}");
    holds(&random_schedules(1, 10_000, || crowd(Piece::None)));
}

#[test]
fn no_schedule_leaves_a_caller_waiting_though_reads_fail_and_others_go_away() {
    for failing in 1..=2 {
        for polls in 1..=4 {
            let verdict = every_schedule(1, || {
                let world = World::new(Piece::None);
                let tasks = vec![
                    world.caller(1),
                    world.deserter(polls),
                    world.caller(1),
                    world.committer(1),
                ];
                world.scenario(tasks, failing)
            });
            assert!(holds(&verdict) > 100, "{verdict:?}");
        }
    }
}

#[test]
fn a_failed_read_refuses_somebody_in_every_schedule() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let verdict = every_schedule(1, move || {
        let world = World::new(Piece::None);
        let (asking, count) = (Arc::clone(&world), Arc::clone(&count));
        let caller: Task = Box::pin(async move {
            let refused = asking.ask().await.is_err();
            count.fetch_add(usize::from(refused), Ordering::SeqCst);
        });
        let tasks = vec![caller, world.committer(1)];
        world.scenario(tasks, 1)
    });
    assert_eq!(holds(&verdict), refused.load(Ordering::SeqCst));
}

/// The schedules notice when a piece is broken.
#[track_caller]
fn breaks(broken: Piece, fault: &str) {
    let verdict = every_schedule(2, || few(broken));
    let noticed = matches!(&verdict, Verdict::Broken(what) if what.contains(fault));
    assert!(noticed, "{broken:?}: {verdict:?}");
}

#[test]
fn a_read_that_takes_effect_before_it_is_asked_for_is_noticed() {
    breaks(Piece::ReadAhead, "was served after");
}

#[test]
fn a_caller_that_joins_a_read_under_way_is_noticed() {
    breaks(Piece::LateComers, "was served after");
}

#[test]
fn an_arrival_that_is_forgotten_is_noticed() {
    breaks(Piece::Deaf, "waits for ever");
}

#[test]
fn a_cache_that_keeps_what_a_change_overtook_is_noticed() {
    breaks(Piece::Ticket, "was served after");
}

#[test]
fn a_cache_that_moves_on_before_it_forgets_is_noticed() {
    breaks(Piece::Order, "was served after");
}

#[test]
fn a_cache_that_forgets_nothing_is_noticed() {
    breaks(Piece::Eviction, "was served after");
}
