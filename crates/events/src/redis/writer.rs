//! Appending to streams, trimming them, and looking into them from outside a group.

use fred::interfaces::StreamsInterface;
use fred::types::Value;
use fred::types::streams::{XCap, XCapKind, XCapTrim};
use futures_util::future::join_all;

use super::connection::Redis;
use super::entry::{Entry, EntryId, entries, entry_id};
use super::error::RedisError;
use crate::fields::Fields;

/// What an append may remove at the other end of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// Nothing.
    Never,
    /// The oldest entries, so that about this many stay; the server removes whole nodes.
    Near(u64),
}

/// Writes streams.
#[derive(Debug, Clone)]
pub struct StreamWriter(Redis);

impl StreamWriter {
    /// Writes over this connection.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self(redis)
    }

    /// Appends one entry.
    ///
    /// # Errors
    /// [`RedisError`]; after [`RedisError::Unreachable`] the entry may have been appended.
    pub async fn append(
        &self,
        stream: &str,
        fields: &Fields,
        trim: Trim,
    ) -> Result<EntryId, RedisError> {
        let pairs: Vec<(&str, &str)> = fields.iter().collect();
        let commands = self.0.commands();
        let command = commands.xadd::<Value, _, _, _, _>(stream, false, cap(trim)?, "*", pairs);
        entry_id(&self.0.run(command).await?, "XADD")
    }

    /// Appends entries in their order, pipelined; each has its own outcome. Keep a batch below the
    /// connection's `max_waiting`.
    pub async fn append_all(
        &self,
        stream: &str,
        batch: &[Fields],
        trim: Trim,
    ) -> Vec<Result<EntryId, RedisError>> {
        join_all(batch.iter().map(|fields| self.append(stream, fields, trim))).await
    }

    /// Removes every entry before `id` and says how many those were.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn trim_up_to(&self, stream: &str, id: EntryId) -> Result<u64, RedisError> {
        let cap = XCap::try_from((XCapKind::MinID, XCapTrim::Exact, id.to_string(), None))?;
        self.0.run(self.0.commands().xtrim(stream, cap)).await
    }

    /// Up to `count` entries after `after`, oldest first.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn range(
        &self,
        stream: &str,
        after: EntryId,
        count: usize,
    ) -> Result<Vec<Entry>, RedisError> {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        let start = format!("({after}");
        let commands = self.0.commands();
        let command = commands.xrange::<Value, _, _, _>(stream, start, "+", Some(count));
        entries(self.0.run(command).await?, 0, "XRANGE")
    }

    /// The entry with this id.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn entry(&self, stream: &str, id: EntryId) -> Result<Option<Entry>, RedisError> {
        let place = id.to_string();
        let commands = self.0.commands();
        let command = commands.xrange::<Value, _, _, _>(stream, place.clone(), place, None);
        Ok(entries(self.0.run(command).await?, 0, "XRANGE")?.pop())
    }

    /// How many entries the stream holds; 0 when there is none.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn len(&self, stream: &str) -> Result<u64, RedisError> {
        self.0.run(self.0.commands().xlen(stream)).await
    }

    /// Removes entries and says how many were there.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn delete(&self, stream: &str, ids: &[EntryId]) -> Result<u64, RedisError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let ids: Vec<String> = ids.iter().map(EntryId::to_string).collect();
        self.0.run(self.0.commands().xdel(stream, ids)).await
    }
}

fn cap(trim: Trim) -> Result<XCap, RedisError> {
    match trim {
        Trim::Never => Ok(XCap::from(None)),
        Trim::Near(length) => {
            let length = i64::try_from(length).unwrap_or(i64::MAX);
            let kind = (XCapKind::MaxLen, XCapTrim::AlmostExact, length, None);
            Ok(XCap::try_from(kind)?)
        }
    }
}
