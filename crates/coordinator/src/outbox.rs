//! Messages that wait to be published, as operators see them.

mod requeue;

pub(crate) use requeue::{RequeueError, requeue};
