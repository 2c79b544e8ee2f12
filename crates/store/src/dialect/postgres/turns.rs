//! The queue of units of one process: one at a time for each lock, before a connection is taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;

type Queues = Arc<Mutex<HashMap<i64, Arc<Semaphore>>>>;

/// Who may begin next, by lock. A lock that nobody holds or waits for takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    queues: Queues,
}

/// A turn; the next in the queue begins when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
    /// Dropped behind the permit, which keeps the queue as well.
    _place: Place,
}

/// A place in a queue, held or waited for.
#[derive(Debug)]
struct Place {
    lock: i64,
    queue: Arc<Semaphore>,
    queues: Queues,
}

impl Turns {
    /// Waits for the turn of `lock`.
    pub(crate) async fn take(&self, lock: i64, within: Duration) -> Result<Turn, StoreError> {
        let place = self.place(lock);
        let queue = Arc::clone(&place.queue);
        match tokio::time::timeout(within, queue.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn {
                _permit: permit,
                _place: place,
            }),
            Ok(Err(_)) => Err(StoreError::Unavailable("the store is closed".to_owned())),
            Err(_) => Err(StoreError::Unavailable(
                "the writer did not become free".to_owned(),
            )),
        }
    }

    fn place(&self, lock: i64) -> Place {
        let mut queues = self.queues.lock();
        let queue = queues
            .entry(lock)
            .or_insert_with(|| Arc::new(Semaphore::new(1)));
        Place {
            lock,
            queue: Arc::clone(queue),
            queues: Arc::clone(&self.queues),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        // The table's and this one.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_lock_has_one_holder_and_another_lock_its_own() {
        let turns = Turns::default();
        let held = turns.take(1, SOON).await.unwrap();
        assert!(turns.take(1, SOON).await.is_err());
        assert!(turns.take(2, SOON).await.is_ok());
        drop(held);
        assert!(turns.take(1, SOON).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn locks_that_nobody_wants_take_no_memory() {
        let turns = Turns::default();
        let held = turns.take(1, SOON).await.unwrap();
        assert!(turns.take(1, SOON).await.is_err());
        assert_eq!(turns.queues.lock().len(), 1);
        drop(held);
        assert!(turns.queues.lock().is_empty());
    }
}
