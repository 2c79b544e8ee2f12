//! What waits for the writer: bounded by bytes, taken in order, acknowledged one by one.

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Age, AppendError, Position};

/// One append: its records, unsealed, and who waits for them.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) records: Vec<u8>,
    pub(super) events: u64,
    /// When the first event happened.
    pub(super) occurred: Age,
    pub(super) ack: oneshot::Sender<Result<Position, AppendError>>,
    /// The append's share of the queue's bytes; freed when it was written.
    pub(super) _share: OwnedSemaphorePermit,
}

/// The appends in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<Pending>,
    closed: bool,
}

impl Queue {
    /// Adds an append; gives it back when the queue is closed.
    pub(super) fn push(&self, pending: Pending) -> Result<(), Pending> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(pending);
        }
        state.pending.push(pending);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for appends and takes all of them; `None` when the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Pending>> {
        let mut state = self.state.lock();
        while state.pending.is_empty() {
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
        Some(std::mem::take(&mut state.pending))
    }

    /// Takes no further append.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}
