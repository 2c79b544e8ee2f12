//! Evidence that arrives over the stream `caracal.audit.events`, from producers in other processes.
//!
//! Every replica of the role is a member of one consumer group. An entry is acknowledged only after
//! everything in it is stored, or it was set aside in the dead-letter stream because it never can be.
//! While the store does not answer nothing is read and nothing is set aside. Acknowledged entries are
//! trimmed, others never.
//!
//! 1. `draft` verifies an entry's seal and its events' signatures: what can be stored, what is refused.
//! 2. The ledger gives the events their places, under locks that other replicas respect
//!    ([`crate::Ledger::append`]).
//! 3. `dead` holds what can't be stored; operators look at it and send it again.
//! 4. `backlog` measures and trims the stream, and finds holes that nothing closes.

pub(crate) mod backlog;
pub(crate) mod dead;
pub(crate) mod draft;
pub(crate) mod ingest;
mod redis;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

pub use redis::RedisQueue;

/// The consumer group of the role.
pub const GROUP: &str = "audit-ingestor";
/// Where entries go that can't be stored.
pub const DEAD_LETTERS: &str = "caracal.audit.events.dlq";

/// An entry's fields.
pub type Fields = HashMap<String, Bytes>;

/// An entry that was given to this replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// Its fields.
    pub fields: Fields,
    /// How often it was given to anybody, this time included.
    pub deliveries: u64,
}

/// What is in the stream and not stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Entries that no replica was given yet.
    pub unread: u64,
    /// Entries that were given to a replica and are not acknowledged.
    pub pending: u64,
    /// When the oldest of both was added, milliseconds since 1970.
    pub oldest_millis: Option<u64>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id in the dead-letter stream.
    pub id: String,
    /// Its fields: `reason`, `received_at`, and `src_<name>` for each field of the entry.
    pub fields: Fields,
}

/// The dead-letter stream as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadLetters {
    /// How many letters.
    pub count: u64,
    /// When the oldest was set aside, milliseconds since 1970.
    pub oldest_millis: Option<u64>,
}

/// Why the stream did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueueError {
    /// It did not answer: try again.
    #[error("the audit stream is unavailable: {0}")]
    Unavailable(String),
    /// A text is not the id of an entry.
    #[error("not the id of an entry")]
    BadId,
}

/// The stream and its dead letters, as one replica uses them.
#[async_trait]
pub trait EvidenceQueue: Send + Sync + fmt::Debug {
    /// Whether it answers.
    async fn ping(&self) -> Result<(), QueueError>;

    /// Up to `count` entries that no replica was given yet; waits up to `wait` for the first.
    async fn read(&self, count: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError>;

    /// Up to `count` entries that were given to somebody at least `idle` ago and are not acknowledged.
    async fn claim(&self, idle: Duration, count: usize) -> Result<Vec<Delivery>, QueueError>;

    /// These entries are done with.
    async fn ack(&self, ids: &[String]) -> Result<(), QueueError>;

    /// Removes entries that are acknowledged, with none before them that is not; answers what is left.
    async fn tidy(&self) -> Result<Backlog, QueueError>;

    /// Adds an entry to the stream.
    async fn send_again(&self, fields: &Fields) -> Result<(), QueueError>;

    /// Adds a dead letter.
    async fn set_aside(&self, fields: &Fields) -> Result<(), QueueError>;

    /// The dead-letter stream as a whole.
    async fn dead_letters(&self) -> Result<DeadLetters, QueueError>;

    /// Up to `count` dead letters behind an id, or from the first on.
    async fn dead_behind(
        &self,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<DeadLetter>, QueueError>;

    /// One dead letter.
    async fn dead(&self, id: &str) -> Result<Option<DeadLetter>, QueueError>;

    /// Removes a dead letter; answers whether it was there.
    async fn bury(&self, id: &str) -> Result<bool, QueueError>;
}
