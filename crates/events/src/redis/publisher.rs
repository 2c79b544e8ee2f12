//! Hints between processes: the streams that the crate's messages go to.

use async_trait::async_trait;

use super::connection::Redis;
use super::writer::{StreamWriter, Trim};
use crate::fields::Fields;
use crate::publisher::{PublishError, Publisher};
use crate::topic::Topic;

/// Publishes to Redis streams. Entries are appended as given: [`crate::Message::entry`] signs them.
#[derive(Debug, Clone)]
pub struct RedisPublisher {
    writer: StreamWriter,
    max_length: u64,
}

impl RedisPublisher {
    /// Streams of hints keep about their newest `max_length` (`STREAMS_MAXLEN`) entries; the audit
    /// stream is never trimmed here.
    #[must_use]
    pub fn new(redis: Redis, max_length: u64) -> Self {
        Self {
            writer: StreamWriter::new(redis),
            max_length: max_length.max(1),
        }
    }
}

#[async_trait]
impl Publisher for RedisPublisher {
    async fn publish(&self, topic: Topic, fields: Fields) -> Result<(), PublishError> {
        let trim = match topic {
            Topic::AuditEvents => Trim::Never,
            _ => Trim::Near(self.max_length),
        };
        match self.writer.append(topic.as_str(), &fields, trim).await {
            Ok(_) => Ok(()),
            Err(error) => Err(PublishError {
                topic,
                is_outage: error.is_outage(),
                detail: error.to_string(),
            }),
        }
    }
}
