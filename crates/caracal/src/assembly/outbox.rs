//! The outbox publisher of the embedded stack.
//!
//! Messages were stored in the transaction of the change that they tell of. They are hints: whoever
//! listens in this process gets them at once, and no decision rests on them.

use std::sync::Arc;
use std::time::Duration;

use caracal_core::Clock;
use caracal_crypto::HmacKey;
use caracal_events::message::Message;
use caracal_events::{Fields, InProcessBus, Publisher};
use caracal_store::{OutboxMessage, Store, StoreError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{StartError, options};
use crate::config::Settings;

/// Messages that a slow subscriber may be behind.
const BUS: usize = 1_024;

/// Pause before a failed message is tried again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) fn spawn(
    store: Store,
    clock: Arc<dyn Clock>,
    settings: &Settings,
    stop: CancellationToken,
) -> Result<JoinHandle<()>, StartError> {
    let relay = Relay {
        store,
        clock,
        bus: InProcessBus::new(BUS),
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
    bus: InProcessBus,
    key: Option<HmacKey>,
    batch: i64,
    max_attempts: i64,
}

impl Relay {
    /// Publishes whenever a commit enqueued something; the interval is only a fallback.
    async fn run(&self, fallback: Duration, stop: CancellationToken) {
        let enqueued = self.store.outbox_signal();
        loop {
            match self.publish_batch().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "outbox not published"),
            }
            tokio::select! {
                () = enqueued.notified() => {}
                () = tokio::time::sleep(fallback) => {}
                () = stop.cancelled() => break,
            }
        }
    }

    /// Publishes what is due; whether more may wait.
    async fn publish_batch(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let due = self
            .store
            .platform()
            .pending_outbox_messages(now, self.batch)
            .await?;
        if due.is_empty() {
            return Ok(false);
        }
        let (mut published, mut failed) = (Vec::new(), Vec::new());
        for message in &due {
            match self.publish(message).await {
                Ok(()) => published.push(message.id.clone()),
                Err(error) => failed.push((message, error)),
            }
        }
        let mut unit = self.store.begin_platform().await?;
        unit.mark_outbox_published(&published).await?;
        for (message, error) in &failed {
            tracing::warn!(outbox_id = %message.id, topic = %message.topic, %error, "message not published");
            let retry = (message.attempts + 1 < self.max_attempts).then(|| now.plus(RETRY));
            unit.mark_outbox_failed(&message.id, error, retry).await?;
        }
        unit.commit().await?;
        Ok(failed.is_empty())
    }

    async fn publish(&self, row: &OutboxMessage) -> Result<(), String> {
        let payload = Fields::from_entry(row.payload.iter().cloned()).to_json();
        let message = Message::from_row(&row.topic, &row.dedupe_key, &payload);
        let message = message.map_err(|error| error.to_string())?;
        let entry = message.entry(&row.id, self.key.as_ref());
        self.bus
            .publish(message.topic(), entry)
            .await
            .map_err(|error| error.to_string())
    }
}
