//! Where published messages go.

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::fields::Fields;
use crate::topic::Topic;

/// A message could not be published; the outbox keeps it and tries again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the stream {topic} cannot be written: {detail}")]
pub struct PublishError {
    /// The stream.
    pub topic: Topic,
    /// Whether the transport is down and would have refused any message: no fault of this one.
    pub is_outage: bool,
    /// What the transport said; no secrets.
    pub detail: String,
}

/// A transport of messages. At least once: a message may come again, so consumers dedupe by
/// `outbox_id`.
#[async_trait]
pub trait Publisher: Send + Sync + fmt::Debug {
    /// Appends an entry to a stream.
    ///
    /// # Errors
    /// [`PublishError`] when the stream did not take it.
    async fn publish(&self, topic: Topic, fields: Fields) -> Result<(), PublishError>;
}
