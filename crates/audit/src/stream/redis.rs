//! The stream in Redis.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use caracal_events::redis::{Entry, EntryId, Redis, RedisError, StreamReader, StreamWriter, Trim};
use caracal_evidence::ship::STREAM;

use super::{
    Backlog, DEAD_LETTERS, DeadLetter, DeadLetters, Delivery, EvidenceQueue, Fields, GROUP,
    QueueError,
};

/// The stream in Redis.
#[derive(Debug)]
pub struct RedisQueue {
    redis: Redis,
    reader: StreamReader,
    writer: StreamWriter,
}

impl RedisQueue {
    /// Over this connection, as the member `consumer` of the group: each replica has a name of its
    /// own, which it keeps when it restarts (`HOSTNAME`).
    ///
    /// # Errors
    /// [`RedisError`] when the second connection that reading needs can't be set up.
    pub fn open(redis: &Redis, consumer: &str) -> Result<Self, RedisError> {
        Ok(Self {
            redis: redis.clone(),
            reader: StreamReader::open(redis, STREAM, GROUP, consumer)?,
            writer: StreamWriter::new(redis.clone()),
        })
    }

    /// The first entry behind `after`.
    async fn first_behind(
        &self,
        stream: &str,
        after: EntryId,
    ) -> Result<Option<Entry>, QueueError> {
        Ok(self.writer.range(stream, after, 1).await?.pop())
    }
}

impl From<RedisError> for QueueError {
    fn from(error: RedisError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

#[async_trait]
impl EvidenceQueue for RedisQueue {
    async fn ping(&self) -> Result<(), QueueError> {
        Ok(self.redis.ping().await?)
    }

    async fn read(&self, count: usize, wait: Duration) -> Result<Vec<Delivery>, QueueError> {
        Ok(deliveries(self.reader.read(count, wait).await?))
    }

    async fn claim(&self, idle: Duration, count: usize) -> Result<Vec<Delivery>, QueueError> {
        Ok(deliveries(self.reader.claim(idle, count).await?))
    }

    async fn ack(&self, ids: &[String]) -> Result<(), QueueError> {
        let ids: Vec<EntryId> = ids.iter().map(|id| parse(id)).collect::<Result<_, _>>()?;
        Ok(self.reader.ack(&ids).await?)
    }

    async fn tidy(&self) -> Result<Backlog, QueueError> {
        let lag = self.reader.lag().await?;
        self.writer.trim_up_to(STREAM, lag.settled_up_to()).await?;
        let unread = match lag.unread {
            Some(unread) => unread,
            // What is trimmed is settled, so what is left is pending or unread, or the last one.
            None => {
                let left = self.writer.len(STREAM).await?;
                left.saturating_sub(lag.pending).max(1)
            }
        };
        let oldest = match lag.oldest_pending {
            Some(id) => Some(id),
            None if unread > 0 => {
                let first = self.first_behind(STREAM, lag.last_delivered).await?;
                first.map(|entry| entry.id)
            }
            None => None,
        };
        Ok(Backlog {
            unread,
            pending: lag.pending,
            oldest_millis: oldest.map(EntryId::millis),
        })
    }

    async fn send_again(&self, fields: &Fields) -> Result<(), QueueError> {
        let fields = texts(fields);
        self.writer.append(STREAM, &fields, Trim::Never).await?;
        Ok(())
    }

    async fn set_aside(&self, fields: &Fields) -> Result<(), QueueError> {
        let fields = texts(fields);
        self.writer
            .append(DEAD_LETTERS, &fields, Trim::Never)
            .await?;
        Ok(())
    }

    async fn dead_letters(&self) -> Result<DeadLetters, QueueError> {
        let count = self.writer.len(DEAD_LETTERS).await?;
        let oldest = if count == 0 {
            None
        } else {
            self.first_behind(DEAD_LETTERS, EntryId::ZERO).await?
        };
        Ok(DeadLetters {
            count,
            oldest_millis: oldest.map(|entry| entry.id.millis()),
        })
    }

    async fn dead_behind(
        &self,
        after: Option<&str>,
        count: usize,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        let after = after.map_or(Ok(EntryId::ZERO), parse)?;
        let entries = self.writer.range(DEAD_LETTERS, after, count).await?;
        Ok(entries.iter().map(dead).collect())
    }

    async fn dead(&self, id: &str) -> Result<Option<DeadLetter>, QueueError> {
        let entry = self.writer.entry(DEAD_LETTERS, parse(id)?).await?;
        Ok(entry.as_ref().map(dead))
    }

    async fn bury(&self, id: &str) -> Result<bool, QueueError> {
        Ok(self.writer.delete(DEAD_LETTERS, &[parse(id)?]).await? > 0)
    }
}

fn parse(id: &str) -> Result<EntryId, QueueError> {
    id.parse().map_err(|_| QueueError::BadId)
}

fn deliveries(entries: Vec<Entry>) -> Vec<Delivery> {
    entries
        .into_iter()
        .map(|entry| Delivery {
            id: entry.id.to_string(),
            fields: fields(&entry),
            deliveries: entry.deliveries,
        })
        .collect()
}

fn dead(entry: &Entry) -> DeadLetter {
    DeadLetter {
        id: entry.id.to_string(),
        fields: fields(entry),
    }
}

fn fields(entry: &Entry) -> Fields {
    let copy = |(name, value): (&str, &str)| (name.to_owned(), Bytes::from(value.to_owned()));
    entry.fields.iter().map(copy).collect()
}

/// What is no text was read with replacement characters, so all of it is text.
fn texts(fields: &Fields) -> caracal_events::Fields {
    let text = |(name, value): (&String, &Bytes)| {
        (name.clone(), String::from_utf8_lossy(value).into_owned())
    };
    caracal_events::Fields::from_entry(fields.iter().map(text))
}
