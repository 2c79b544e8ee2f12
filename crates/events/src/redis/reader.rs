//! Reading a stream as a member of a consumer group.
//!
//! Every entry is given to one member and stays pending until it is acknowledged; what a member left
//! pending too long, another claims. The reader makes the group itself, from the beginning of the
//! stream, so that entries from before its first start are delivered; it makes it again when the
//! server came back without data.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use fred::interfaces::StreamsInterface;
use fred::types::Value;
use parking_lot::Mutex;

use super::connection::Redis;
use super::entry::{Entry, EntryId, array, entries, entry_id, pairs, text};
use super::error::RedisError;

/// The longest that one read may wait for entries.
const LONGEST_BLOCK: Duration = Duration::from_secs(30);

/// A member of a consumer group.
#[derive(Debug)]
pub struct StreamReader {
    redis: Redis,
    /// A connection of its own: a read that waits holds up what is behind it.
    blocking: Redis,
    stream: String,
    group: String,
    consumer: String,
    claim_from: Mutex<EntryId>,
}

/// How far a group is behind its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Entries that no member was given yet. Redis before 7 tells only whether there are any; then
    /// it is `None` when there are.
    pub unread: Option<u64>,
    /// Entries that were given to a member and not acknowledged.
    pub pending: u64,
    /// The oldest of the pending entries.
    pub oldest_pending: Option<EntryId>,
    /// The last entry that was given to a member.
    pub last_delivered: EntryId,
}

impl Lag {
    /// Every entry before this one was acknowledged: what [`super::StreamWriter::trim_up_to`] may
    /// remove without this group missing anything.
    #[must_use]
    pub fn settled_up_to(&self) -> EntryId {
        self.oldest_pending.unwrap_or(self.last_delivered)
    }
}

impl StreamReader {
    /// Joins `group` of `stream` as `consumer`; the group is made when it is first used.
    ///
    /// # Errors
    /// [`RedisError`] when the second connection that it needs can't be set up.
    pub fn open(
        redis: &Redis,
        stream: &str,
        group: &str,
        consumer: &str,
    ) -> Result<Self, RedisError> {
        Ok(Self {
            redis: redis.clone(),
            blocking: redis.open_blocking(LONGEST_BLOCK)?,
            stream: stream.to_owned(),
            group: group.to_owned(),
            consumer: consumer.to_owned(),
            claim_from: Mutex::new(EntryId::ZERO),
        })
    }

    /// Up to `count` entries that no member was given yet; waits up to `block` (30 s at most) for the
    /// first. Not cancel safe: entries of a dropped read are pending and come back by
    /// [`StreamReader::claim`].
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn read(&self, count: usize, block: Duration) -> Result<Vec<Entry>, RedisError> {
        let block = whole_millis(block.min(LONGEST_BLOCK)).max(1);
        let answer = self
            .in_group(|| {
                let commands = self.blocking.commands();
                let command = commands.xreadgroup::<Value, _, _, _, _>(
                    self.group.as_str(),
                    self.consumer.as_str(),
                    Some(whole(count)),
                    Some(block),
                    false,
                    self.stream.as_str(),
                    ">",
                );
                self.blocking.run(command)
            })
            .await?;
        let mut read = Vec::new();
        for stream in array(answer, "XREADGROUP")? {
            let of_stream = array(stream, "XREADGROUP")?.into_iter().nth(1);
            read.extend(entries(of_stream.unwrap_or(Value::Null), 1, "XREADGROUP")?);
        }
        Ok(read)
    }

    /// Takes over up to `count` entries that have been pending for at least `idle`, whoever they were
    /// given to, this member included. Goes round: each call looks behind the one before.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn claim(&self, idle: Duration, count: usize) -> Result<Vec<Entry>, RedisError> {
        let from = *self.claim_from.lock();
        let answer = self
            .in_group(|| {
                let commands = self.redis.commands();
                let command = commands.xautoclaim::<Value, _, _, _, _>(
                    self.stream.as_str(),
                    self.group.as_str(),
                    self.consumer.as_str(),
                    whole_millis(idle),
                    from.to_string(),
                    Some(whole(count)),
                    false,
                );
                self.redis.run(command)
            })
            .await?;
        let mut parts = array(answer, "XAUTOCLAIM")?.into_iter();
        let (Some(next), Some(claimed)) = (parts.next(), parts.next()) else {
            return Err(RedisError::Unexpected("XAUTOCLAIM"));
        };
        *self.claim_from.lock() = entry_id(&next, "XAUTOCLAIM")?;
        let mut claimed = entries(claimed, 1, "XAUTOCLAIM")?;
        self.count_deliveries(&mut claimed).await?;
        Ok(claimed)
    }

    /// Acknowledges entries: they are done with.
    ///
    /// # Errors
    /// [`RedisError`]; the entries then come back by [`StreamReader::claim`].
    pub async fn ack(&self, ids: &[EntryId]) -> Result<(), RedisError> {
        if ids.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = ids.iter().map(EntryId::to_string).collect();
        let commands = self.redis.commands();
        let command = commands.xack(self.stream.as_str(), self.group.as_str(), ids);
        let _: u64 = self.redis.run(command).await?;
        Ok(())
    }

    /// How far the group is behind.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn lag(&self) -> Result<Lag, RedisError> {
        let groups = self
            .in_group(|| {
                let commands = self.redis.commands();
                self.redis.run(commands.xinfo_groups(self.stream.as_str()))
            })
            .await?;
        let Some(group) = self.own_group(groups)? else {
            self.make_group().await?;
            return Err(RedisError::Unable("the consumer group was gone".to_owned()));
        };
        let last_delivered = entry_id(
            group.get("last-delivered-id").unwrap_or(&Value::Null),
            "XINFO GROUPS",
        )?;
        let unread = match group.get("lag").and_then(Value::as_u64) {
            Some(unread) => Some(unread),
            None => (self.newest().await? <= last_delivered).then_some(0),
        };
        let pending = group.get("pending").and_then(Value::as_u64);
        Ok(Lag {
            unread,
            pending: pending.ok_or(RedisError::Unexpected("XINFO GROUPS"))?,
            oldest_pending: self.oldest_pending().await?,
            last_delivered,
        })
    }

    fn own_group(&self, groups: Value) -> Result<Option<HashMap<String, Value>>, RedisError> {
        for group in array(groups, "XINFO GROUPS")? {
            let group: HashMap<String, Value> = pairs(group, "XINFO GROUPS")?.into_iter().collect();
            let name = group.get("name").unwrap_or(&Value::Null);
            if text(name, "XINFO GROUPS")? == self.group {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    async fn newest(&self) -> Result<EntryId, RedisError> {
        let commands = self.redis.commands();
        let command = commands.xinfo_stream::<Value, _>(self.stream.as_str(), false, None);
        let stream = pairs(self.redis.run(command).await?, "XINFO STREAM")?;
        let newest = stream.iter().find(|(name, _)| name == "last-generated-id");
        entry_id(newest.map_or(&Value::Null, |(_, id)| id), "XINFO STREAM")
    }

    async fn oldest_pending(&self) -> Result<Option<EntryId>, RedisError> {
        let commands = self.redis.commands();
        let command = commands.xpending::<Value, _, _, _>(
            self.stream.as_str(),
            self.group.as_str(),
            ("-", "+", 1),
        );
        let pending = array(self.redis.run(command).await?, "XPENDING")?;
        let Some(first) = pending.into_iter().next() else {
            return Ok(None);
        };
        let first = array(first, "XPENDING")?;
        entry_id(first.first().unwrap_or(&Value::Null), "XPENDING").map(Some)
    }

    async fn count_deliveries(&self, claimed: &mut [Entry]) -> Result<(), RedisError> {
        let (Some(first), Some(last)) = (claimed.first(), claimed.last()) else {
            return Ok(());
        };
        // Between them may be entries that this member was given lately.
        let most = whole(claimed.len()).saturating_add(1_000);
        let span = (
            first.id.to_string(),
            last.id.to_string(),
            most,
            self.consumer.as_str(),
        );
        let commands = self.redis.commands();
        let command =
            commands.xpending::<Value, _, _, _>(self.stream.as_str(), self.group.as_str(), span);
        let mut counts = HashMap::new();
        for pending in array(self.redis.run(command).await?, "XPENDING")? {
            let parts = array(pending, "XPENDING")?;
            if let (Some(id), Some(count)) = (parts.first(), parts.get(3).and_then(Value::as_u64)) {
                counts.insert(entry_id(id, "XPENDING")?, count);
            }
        }
        for entry in claimed {
            entry.deliveries = counts.get(&entry.id).copied().unwrap_or(1);
        }
        Ok(())
    }

    /// Runs a command of the group and, where there is no such group, makes it and runs it again.
    async fn in_group<T, F>(&self, command: impl Fn() -> F) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        match command().await {
            Err(error) if error.is_unknown_group() => {
                self.make_group().await?;
                *self.claim_from.lock() = EntryId::ZERO;
                command().await
            }
            outcome => outcome,
        }
    }

    async fn make_group(&self) -> Result<(), RedisError> {
        let commands = self.redis.commands();
        let command = commands.xgroup_create::<Value, _, _, _>(
            self.stream.as_str(),
            self.group.as_str(),
            "0",
            true,
        );
        match self.redis.run(command).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_known_group() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
