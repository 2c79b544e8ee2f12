//! What wakes the publisher of a process when another process enqueued something.
//!
//! Notifications prove nothing and may be lost; a publisher also looks now and then. Only a process
//! that publishes listens: the first who asks for the signal starts the listener.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sea_orm::sqlx;
use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::postgres::{PgListener, PgPool};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// The channel that a commit with messages notifies.
pub(crate) const CHANNEL: &str = "caracal_outbox";

/// How often the listener's connection is tried, and how long that may take.
const ALIVE: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(2);
/// How long a failed listener rests.
const REST: Duration = Duration::from_millis(250);

/// The listener, once it is wanted; it ends with this.
#[derive(Debug, Default)]
pub(crate) struct Wakes(Mutex<JoinSet<()>>);

impl Wakes {
    /// Notifies `signal` from now on, over a connection of `channel`.
    pub(crate) fn pass_on(&self, channel: impl FnOnce() -> PgPool, signal: &Arc<Notify>) {
        let mut listener = self.0.lock();
        if listener.is_empty() {
            let (channel, signal) = (channel(), Arc::clone(signal));
            listener.spawn(async move {
                loop {
                    if let Err(error) = listen(&channel, &signal).await {
                        tracing::warn!(%error, "outbox_listener_failed");
                    }
                    tokio::time::sleep(REST).await;
                }
            });
        }
    }
}

async fn listen(channel: &PgPool, signal: &Notify) -> Result<(), sqlx::Error> {
    let mut listener = in_time(PgListener::connect_with(channel)).await?;
    listener.eager_reconnect(false);
    in_time(listener.listen(CHANNEL)).await?;
    loop {
        // At first too: something may have been enqueued while nobody listened.
        signal.notify_one();
        match tokio::time::timeout(ALIVE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => while listener.next_buffered().is_some() {},
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                in_time(listener.execute("SELECT 1")).await?;
            }
        }
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let answer = tokio::time::timeout(ANSWER, asked).await;
    answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
