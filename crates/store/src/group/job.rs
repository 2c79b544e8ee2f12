//! One caller's work in a shared unit.

use std::pin::Pin;

use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::handle::ZoneUnit;

/// What a unit is worked on with.
pub type UnitFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether anything is to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    Something,
}

impl Kept {
    pub(super) fn or(self, other: Self) -> Self {
        match self {
            Self::Nothing => other,
            Self::Something => Self::Something,
        }
    }
}

/// A caller's work, whatever it answers.
pub(super) trait Job: Send + std::fmt::Debug {
    /// Whether the caller still waits.
    fn is_wanted(&self) -> bool;
    /// Does the work. [`Kept::Nothing`]: it failed, and must be undone.
    fn run<'a>(&'a mut self, unit: &'a mut ZoneUnit) -> UnitFuture<'a, Kept>;
    /// Answers the caller.
    fn end(self: Box<Self>, committed: Result<(), StoreError>);
}

/// Work of type `F` that answers `T` or `E`.
pub(super) struct Typed<F, T, E> {
    state: State<F, T, E>,
    reply: oneshot::Sender<Result<T, E>>,
}

enum State<F, T, E> {
    Waiting(F),
    Done(Result<T, E>),
    Gone,
}

impl<F, T, E> Typed<F, T, E> {
    pub(super) fn new(work: F, reply: oneshot::Sender<Result<T, E>>) -> Self {
        Self {
            state: State::Waiting(work),
            reply,
        }
    }
}

impl<F, T, E> std::fmt::Debug for Typed<F, T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Typed").finish_non_exhaustive()
    }
}

impl<F, T, E> Job for Typed<F, T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    F: for<'a> FnOnce(&'a mut ZoneUnit) -> UnitFuture<'a, Result<T, E>> + Send + 'static,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run<'a>(&'a mut self, unit: &'a mut ZoneUnit) -> UnitFuture<'a, Kept> {
        Box::pin(async move {
            let state = std::mem::replace(&mut self.state, State::Gone);
            let State::Waiting(work) = state else {
                return Kept::Nothing;
            };
            let result = work(unit).await;
            let kept = if result.is_ok() {
                Kept::Something
            } else {
                Kept::Nothing
            };
            self.state = State::Done(result);
            kept
        })
    }

    fn end(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (committed, self.state) {
            (Err(error), _) => Err(error.into()),
            (Ok(()), State::Done(result)) => result,
            (Ok(()), State::Waiting(_) | State::Gone) => return,
        };
        // Who has gone does not hear it.
        let _ = self.reply.send(answer);
    }
}
