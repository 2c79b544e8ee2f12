//! The barrier's core: many callers, one read at a time.
//!
//! A caller needs the position of its zone as of a moment after it arrived. [`Barrier::run`] reads for
//! all callers at once: a read takes with it whoever waits when it starts, and nobody later, so every
//! answer comes from a read that started after its caller had arrived. Who arrives while a read runs
//! goes with the next one.
//!
//! A read that fails, fails its own callers and no others. A caller that goes away leaves no trace. A
//! barrier that is no longer run refuses everybody, those who wait included.
//!
//! Nothing here knows a database or a timer: both belong to the [`Source`]. So the very code that
//! serves is also driven through the interleavings of a model (`authority::model`).

mod pace;
mod rounds;

#[cfg(test)]
mod tests;

use caracal_core::id::ZoneId;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use pace::Pace;
pub(crate) use pace::Patience;
use rounds::Rounds;

use crate::error::StoreError;

/// Callers that wait at once; more are refused.
const MAX_WAITING: usize = 16_384;
/// Zones of one read.
const MAX_ZONES: usize = 256;

/// Where positions are read, and how time passes between reads.
pub(crate) trait Source: Send {
    /// The positions of these zones, in their order, each covering every commit acknowledged before
    /// the call. Whatever is polled is polled after the call: nothing may be read ahead.
    fn read(
        &mut self,
        zones: &[ZoneId],
    ) -> impl Future<Output = Result<Vec<u64>, StoreError>> + Send;

    /// Lets a crowd gather before the next read; `waiting` says how many wait by now.
    fn linger(
        &mut self,
        patience: Patience,
        waiting: impl Fn() -> usize + Send + Sync,
    ) -> impl Future<Output = ()> + Send;
}

/// The meeting place of callers and the reader.
#[derive(Debug)]
pub(crate) struct Barrier {
    rounds: Mutex<Rounds<Reply>>,
    arrived: Notify,
}

type Reply = oneshot::Sender<Result<u64, StoreError>>;

impl Barrier {
    pub(crate) fn new() -> Self {
        Self::with_bounds(MAX_WAITING, MAX_ZONES)
    }

    fn with_bounds(waiting: usize, zones: usize) -> Self {
        Self {
            rounds: Mutex::new(Rounds::new(waiting, zones)),
            arrived: Notify::new(),
        }
    }

    /// The zone's position, from a read that starts after this is first polled.
    pub(crate) async fn pass(&self, zone: &ZoneId) -> Result<u64, StoreError> {
        let (reply, answer) = oneshot::channel();
        let number = self.rounds.lock().arrive(zone.clone(), reply)?;
        let _place = Place {
            barrier: self,
            number,
        };
        self.arrived.notify_one();
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable(
                "the barrier has stopped".to_owned(),
            )),
        }
    }

    /// Reads for whoever comes, until dropped.
    pub(crate) async fn run(&self, mut source: impl Source) {
        let _open = Open(self);
        let mut pace = Pace::default();
        loop {
            self.somebody().await;
            if let Some(patience) = pace.patience(self.waiting()) {
                source.linger(patience, || self.waiting()).await;
            }
            // Closed before the read starts: later callers go with the next one.
            let round = self.rounds.lock().begin();
            if round.is_empty() {
                continue;
            }
            let served = round.len();
            let result = source.read(round.zones()).await;
            pace.served(served, self.waiting());
            metrics::histogram!("caracal_barrier_batch_size").record(to_f64(served));
            round.answer(&result);
        }
    }

    /// How many wait for the next read.
    pub(crate) fn waiting(&self) -> usize {
        self.rounds.lock().waiting()
    }

    async fn somebody(&self) {
        while self.waiting() == 0 {
            self.arrived.notified().await;
        }
    }
}

fn to_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A caller's place; it is given up with the caller.
struct Place<'a> {
    barrier: &'a Barrier,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.barrier.rounds.lock().leave(self.number);
    }
}

/// Somebody reads. Dropped, nobody does any more.
struct Open<'a>(&'a Barrier);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.rounds.lock().close();
    }
}
