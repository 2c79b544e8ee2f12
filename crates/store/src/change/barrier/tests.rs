use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use caracal_core::id::ZoneId;
use tokio::sync::mpsc;

use super::{Barrier, Patience, Source};
use crate::error::StoreError;

/// A read that has started and waits for its answer.
struct Read {
    zones: Vec<ZoneId>,
    answer: tokio::sync::oneshot::Sender<Result<Vec<u64>, StoreError>>,
}

/// Hands each read to the test.
struct Held(mpsc::UnboundedSender<Read>);

impl Source for Held {
    async fn read(&mut self, zones: &[ZoneId]) -> Result<Vec<u64>, StoreError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let zones = zones.to_vec();
        let _ = self.0.send(Read { zones, answer });
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable("gone".to_owned())))
    }

    async fn linger(&mut self, _: Patience, _: impl Fn() -> usize + Send + Sync) {}
}

struct World {
    barrier: Arc<Barrier>,
    reads: mpsc::UnboundedReceiver<Read>,
    reader: tokio::task::JoinHandle<()>,
}

fn world(waiting: usize, zones: usize) -> World {
    let barrier = Arc::new(Barrier::with_bounds(waiting, zones));
    let (send, reads) = mpsc::unbounded_channel();
    let run = Arc::clone(&barrier);
    let reader = tokio::spawn(async move { run.run(Held(send)).await });
    World {
        barrier,
        reads,
        reader,
    }
}

type Caller = tokio::task::JoinHandle<Result<u64, StoreError>>;

impl World {
    /// A caller that has arrived.
    async fn caller(&self, zone: &str) -> Caller {
        let (barrier, zone) = (Arc::clone(&self.barrier), zone.parse::<ZoneId>().unwrap());
        let (arrived, arrives) = tokio::sync::oneshot::channel();
        let caller = tokio::spawn(async move {
            let mut pass = pin!(barrier.pass(&zone));
            let first = std::future::poll_fn(|context| Poll::Ready(pass.as_mut().poll(context)));
            let first = first.await;
            let _ = arrived.send(());
            match first {
                Poll::Ready(result) => result,
                Poll::Pending => pass.await,
            }
        });
        arrives.await.unwrap();
        caller
    }

    async fn read(&mut self) -> Read {
        self.reads.recv().await.unwrap()
    }
}

fn names(read: &Read) -> Vec<&str> {
    read.zones.iter().map(ZoneId::as_str).collect()
}

fn is_unavailable(result: &Result<u64, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

#[tokio::test]
async fn whoever_waits_when_a_read_starts_is_served_by_it_and_nobody_else() {
    let mut world = world(64, 64);
    let first = world.caller("a").await;
    let read = world.read().await;
    let later = [
        world.caller("a").await,
        world.caller("b").await,
        world.caller("a").await,
    ];
    read.answer.send(Ok(vec![5])).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 5);
    let read = world.read().await;
    assert_eq!(names(&read), ["a", "b"]);
    assert!(later.iter().all(|caller| !caller.is_finished()));
    read.answer.send(Ok(vec![6, 7])).unwrap();
    let mut got = Vec::new();
    for caller in later {
        got.push(caller.await.unwrap().unwrap());
    }
    assert_eq!(got, [6, 7, 6]);
}

#[tokio::test]
async fn a_failed_read_fails_its_callers_and_no_others() {
    let mut world = world(64, 64);
    let first = world.caller("a").await;
    let read = world.read().await;
    let second = world.caller("a").await;
    let failed = StoreError::Unavailable("no answer".to_owned());
    read.answer.send(Err(failed)).unwrap();
    assert!(is_unavailable(&first.await.unwrap()));
    world.read().await.answer.send(Ok(vec![9])).unwrap();
    assert_eq!(second.await.unwrap().unwrap(), 9);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing() {
    let mut world = world(2, 64);
    let first = world.caller("a").await;
    let read = world.read().await;
    let gone = [world.caller("b").await, world.caller("c").await];
    for caller in gone {
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
    }
    assert_eq!(world.barrier.waiting(), 0);
    let last = world.caller("d").await;
    read.answer.send(Ok(vec![1])).unwrap();
    first.await.unwrap().unwrap();
    let read = world.read().await;
    assert_eq!(names(&read), ["d"], "nobody asks for the others' zones");
    read.answer.send(Ok(vec![2])).unwrap();
    assert_eq!(last.await.unwrap().unwrap(), 2);
}

#[tokio::test]
async fn callers_beyond_the_bound_are_refused_at_once() {
    let mut world = world(2, 64);
    let served = world.caller("a").await;
    let read = world.read().await;
    let waiting = [world.caller("a").await, world.caller("a").await];
    assert!(is_unavailable(&world.caller("a").await.await.unwrap()));
    read.answer.send(Ok(vec![1])).unwrap();
    served.await.unwrap().unwrap();
    world.read().await.answer.send(Ok(vec![2])).unwrap();
    for caller in waiting {
        assert_eq!(caller.await.unwrap().unwrap(), 2);
    }
}

#[tokio::test]
async fn a_read_asks_for_a_bounded_number_of_zones_and_the_others_come_next() {
    let mut world = world(64, 2);
    let first = world.caller("x").await;
    let read = world.read().await;
    let mut callers = Vec::new();
    for zone in ["a", "b", "c", "a", "d"] {
        callers.push(world.caller(zone).await);
    }
    read.answer.send(Ok(vec![0])).unwrap();
    first.await.unwrap().unwrap();
    for (expected, positions) in [(["a", "b"], vec![1, 2]), (["c", "d"], vec![3, 4])] {
        let read = world.read().await;
        assert_eq!(names(&read), expected);
        read.answer.send(Ok(positions)).unwrap();
    }
    let mut got = Vec::new();
    for caller in callers {
        got.push(caller.await.unwrap().unwrap());
    }
    assert_eq!(got, [1, 2, 3, 1, 4]);
}

#[tokio::test]
async fn a_barrier_that_is_not_run_any_more_refuses_who_waits_and_who_comes() {
    let mut world = world(64, 64);
    let served = world.caller("a").await;
    let _read = world.read().await;
    let waiting = world.caller("a").await;
    world.reader.abort();
    assert!(is_unavailable(&served.await.unwrap()));
    assert!(is_unavailable(&waiting.await.unwrap()));
    assert!(is_unavailable(&world.caller("a").await.await.unwrap()));
}

/// Reads in no time, and lingers as a real source does.
struct Timed {
    reads: Arc<std::sync::atomic::AtomicUsize>,
}

impl Source for Timed {
    async fn read(&mut self, zones: &[ZoneId]) -> Result<Vec<u64>, StoreError> {
        self.reads
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(vec![0; zones.len()])
    }

    async fn linger(&mut self, patience: Patience, waiting: impl Fn() -> usize + Send + Sync) {
        super::super::postgres::linger(patience, waiting).await;
    }
}

/// How many reads `callers` cause that pass 200 times each, with `work` between two passes.
async fn reads_of(callers: usize, work: Duration) -> usize {
    let reads = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let barrier = Arc::new(Barrier::new());
    let (run, source) = (
        Arc::clone(&barrier),
        Timed {
            reads: Arc::clone(&reads),
        },
    );
    let reader = tokio::spawn(async move { run.run(source).await });
    let zone: ZoneId = "a".parse().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..callers {
        let (barrier, zone) = (Arc::clone(&barrier), zone.clone());
        tasks.spawn(async move {
            let spread = work * u32::try_from(number).unwrap() / 64;
            tokio::time::sleep(spread).await;
            for _ in 0..200 {
                barrier.pass(&zone).await.unwrap();
                tokio::time::sleep(work).await;
            }
        });
    }
    tasks.join_all().await;
    reader.abort();
    reads.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn under_load_one_read_serves_many_callers() {
    let reads = reads_of(64, Duration::from_millis(40)).await;
    let passes = 64 * 200;
    assert!(reads * 10 < passes, "{reads} reads for {passes} passes");
}

#[tokio::test(start_paused = true)]
async fn a_lone_caller_is_read_for_at_once() {
    let began = tokio::time::Instant::now();
    assert_eq!(reads_of(1, Duration::from_millis(1)).await, 200);
    let lingering = began.elapsed() - Duration::from_millis(400);
    assert!(lingering < Duration::from_millis(2), "{lingering:?}");
}
