//! The outbox publisher.
//!
//! Messages were stored in the transaction of the change that they tell of. They are hints: no
//! decision rests on them. Every process of the control plane publishes; each batch is claimed, sent,
//! and then marked, so that a publisher that dies delays its batch and loses nothing.
//!
//! A stream that can't be written is no fault of a message: the batch is given back, nothing is
//! counted, and the publisher pauses for longer each time. A message that is refused by itself is tried
//! again with growing pauses and then parked; one that can't be read is parked at once. Parked
//! messages wait for `caracal outbox requeue`.

use std::sync::Arc;
use std::time::Duration;

use caracal_core::Clock;
use caracal_core::id::OutboxId;
use caracal_crypto::HmacKey;
use caracal_events::message::Message;
use caracal_events::{Fields, Publisher};
use caracal_store::{OutboxMessage, PlatformLane, PlatformUnit, Store, StoreError};
use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{StartError, options};
use crate::config::Settings;

/// For this long a claimed batch is nobody else's. Sending it takes a fraction of it.
const LEASE: Duration = Duration::from_secs(30);

/// Pauses before a refused message is tried again: doubled each time, up to the longest.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Pauses while the stream or the store can't be reached.
const OUTAGE: Duration = Duration::from_millis(100);
const LONGEST_OUTAGE: Duration = Duration::from_secs(5);

pub(super) fn spawn(
    store: Store,
    clock: Arc<dyn Clock>,
    publisher: Arc<dyn Publisher>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, StartError> {
    let relay = Relay {
        store,
        clock,
        publisher,
        key: options::hmac_key(settings, "STREAMS_HMAC_KEY")?,
        batch: settings.integer("OUTBOX_BATCH_SIZE"),
        max_attempts: settings.integer("OUTBOX_MAX_ATTEMPTS"),
    };
    let fallback = settings.millis("OUTBOX_INTERVAL_MS");
    Ok(tokio::spawn(async move { relay.run(fallback, stop).await }))
}

struct Relay {
    store: Store,
    clock: Arc<dyn Clock>,
    publisher: Arc<dyn Publisher>,
    key: Option<HmacKey>,
    batch: i64,
    max_attempts: i64,
}

/// How a batch went.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Nothing was due.
    Idle,
    /// Messages were handled; more may be due.
    Worked,
    /// The stream takes no messages now.
    Outage(String),
}

/// What became of a message.
enum Fate {
    Published,
    /// Refused by itself; worth another attempt.
    Refused(String),
    /// Never to be understood.
    Unreadable(String),
    /// Not tried, or tried in vain, because the stream is out.
    Outage(String),
}

impl Relay {
    /// Publishes whenever a commit enqueued something; the interval is only a fallback.
    async fn run(&self, fallback: Duration, stop: CancellationToken) {
        let enqueued = self.store.outbox_signal();
        let mut outage = OUTAGE;
        loop {
            let trouble = match self.publish_batch().await {
                Ok(Round::Worked) => {
                    outage = OUTAGE;
                    continue;
                }
                Ok(Round::Idle) => None,
                Ok(Round::Outage(cause)) => Some(cause),
                Err(error) => Some(error.to_string()),
            };
            if let Some(cause) = trouble {
                tracing::warn!(%cause, "outbox not published");
                tokio::select! {
                    () = tokio::time::sleep(outage) => {}
                    () = stop.cancelled() => break,
                }
                outage = (outage * 2).min(LONGEST_OUTAGE);
                continue;
            }
            tokio::select! {
                () = enqueued.notified() => {}
                () = tokio::time::sleep(fallback) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    /// Claims what is due, sends it, and records what became of it.
    async fn publish_batch(&self) -> Result<Round, StoreError> {
        let claimed = self.claim().await?;
        if claimed.is_empty() {
            return Ok(Round::Idle);
        }
        let fates = join_all(claimed.iter().map(|message| self.publish(message))).await;
        let mut unit = self.begin().await?;
        let round = self.record(&mut unit, &claimed, fates).await?;
        unit.commit().await?;
        Ok(round)
    }

    /// What withdraws authority comes first.
    async fn claim(&self) -> Result<Vec<OutboxMessage>, StoreError> {
        let now = self.clock.now();
        let due = self
            .store
            .platform()
            .pending_outbox_messages(now, 1)
            .await?;
        if due.is_empty() {
            return Ok(due);
        }
        let mut unit = self.begin().await?;
        let mut claimed = unit
            .claim_outbox_messages(now.plus(LEASE), self.batch)
            .await?;
        unit.commit().await?;
        claimed.sort_by_key(|message| {
            !message
                .topic
                .parse()
                .is_ok_and(caracal_events::Topic::is_urgent)
        });
        Ok(claimed)
    }

    async fn begin(&self) -> Result<PlatformUnit, StoreError> {
        self.store
            .begin_platform_work(PlatformLane::Publishing)
            .await
    }

    async fn publish(&self, row: &OutboxMessage) -> Fate {
        let payload = Fields::from_entry(row.payload.iter().cloned()).to_json();
        let message = match Message::from_row(&row.topic, &row.dedupe_key, &payload) {
            Ok(message) => message,
            Err(error) => return Fate::Unreadable(error.to_string()),
        };
        let entry = message.entry(&row.id, self.key.as_ref());
        match self.publisher.publish(message.topic(), entry).await {
            Ok(()) => Fate::Published,
            Err(error) if error.is_outage => Fate::Outage(error.to_string()),
            Err(error) => Fate::Refused(error.to_string()),
        }
    }

    async fn record(
        &self,
        unit: &mut PlatformUnit,
        claimed: &[OutboxMessage],
        fates: Vec<Fate>,
    ) -> Result<Round, StoreError> {
        let (mut published, mut given_back) = (Vec::new(), Vec::new());
        let mut round = Round::Worked;
        for (message, fate) in claimed.iter().zip(fates) {
            match fate {
                Fate::Published => published.push(message.id.clone()),
                Fate::Outage(cause) => {
                    given_back.push(message.id.clone());
                    round = Round::Outage(cause);
                }
                Fate::Refused(error) => {
                    let tried = message.attempts + 1;
                    let again = (tried < self.max_attempts).then(|| pause(message.attempts));
                    self.fail(unit, &message.id, &error, again).await?;
                }
                Fate::Unreadable(error) => self.fail(unit, &message.id, &error, None).await?,
            }
        }
        unit.mark_outbox_published(&published).await?;
        unit.release_outbox_messages(&given_back).await?;
        Ok(round)
    }

    /// Tries again after a while, or parks the message.
    async fn fail(
        &self,
        unit: &mut PlatformUnit,
        id: &OutboxId,
        error: &str,
        again: Option<Duration>,
    ) -> Result<(), StoreError> {
        let parked = again.is_none();
        tracing::warn!(outbox_id = %id, %error, parked, "outbox_publish_failed");
        let retry = again.map(|pause| self.clock.now().plus(pause));
        unit.mark_outbox_failed(id, error, retry).await
    }
}

fn pause(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(0, 16)).unwrap_or(16);
    RETRY
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(LONGEST_RETRY)
}

#[cfg(test)]
#[path = "outbox/tests.rs"]
mod tests;
