//! Work that costs processor time, a few pieces at a time and off the async threads.
//!
//! Without a bound, callers who are allowed to ask could make the process run hundreds of slow hashes
//! or compilations at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ApiError, Code};

/// The longest wait for one's turn.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Takes turns at one kind of work.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    running: Arc<Semaphore>,
    longest_wait: Duration,
}

impl Turns {
    /// At most `running` pieces at a time.
    pub(crate) fn of(running: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running)),
            longest_wait: LONGEST_WAIT,
        }
    }

    /// Does the work when it is its turn. The turn ends with the work, also when the caller has gone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let turn = self.take().await?;
        let job = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            outcome
        });
        job.await.map_err(|error| {
            tracing::error!(%error, "work off the async threads ended abnormally");
            Code::Internal.into()
        })
    }

    async fn take(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = Arc::clone(&self.running).acquire_owned();
        match tokio::time::timeout(self.longest_wait, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(ApiError::busy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_too_long_for_a_turn_is_told_to_come_back() {
        let turns = Turns {
            longest_wait: Duration::ZERO,
            ..Turns::of(1)
        };
        let held = turns.take().await.unwrap();
        assert_eq!(turns.run(|| 1).await.unwrap_err().code(), Code::Busy);
        drop(held);
        assert_eq!(turns.run(|| 2).await.unwrap(), 2);
    }
}
