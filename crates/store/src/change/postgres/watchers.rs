//! Who watches a zone, and what wakes them. Nothing here proves anything: a watcher that is woken asks
//! the barrier.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caracal_core::id::ZoneId;
use parking_lot::RwLock;
use sea_orm::sqlx;
use sea_orm::sqlx::Executor as _;
use sea_orm::sqlx::postgres::{PgListener, PgPool};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::Shared;

const CHANNEL: &str = "caracal_changes";
/// How often watched zones are looked at while notifications can't arrive.
const DEAF: Duration = Duration::from_millis(50);
/// How often they are looked at while notifications arrive, should one get lost.
const HEARING: Duration = Duration::from_secs(1);
/// How often the listener's connection is tried, and how long that may take.
const ALIVE: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(2);
/// How long a failed listener rests.
const REST: Duration = Duration::from_millis(250);

/// The watched zones.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    zones: RwLock<HashMap<ZoneId, watch::Sender<u64>>>,
    hearing: AtomicBool,
    /// The listener has become deaf, or hears again.
    turned: Notify,
}

impl Watchers {
    pub(super) fn subscribe(&self, zone: &ZoneId) -> watch::Receiver<u64> {
        if let Some(watched) = self.zones.read().get(zone) {
            return watched.subscribe();
        }
        let mut zones = self.zones.write();
        zones
            .entry(zone.clone())
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe()
    }

    /// The barrier has read these positions. The first one that is known of a zone is where its
    /// watchers began: they read the barrier after they subscribed.
    pub(super) fn read(&self, zones: &[ZoneId], positions: &[u64]) {
        let watched = self.zones.read();
        if watched.is_empty() {
            return;
        }
        for (zone, position) in zones.iter().zip(positions) {
            if let Some(sender) = watched.get(zone) {
                sender.send_if_modified(|known| {
                    let is_news = *known != 0 && *known < *position;
                    *known = (*known).max(*position);
                    is_news
                });
            }
        }
    }

    /// Wakes who watches the zone, whatever its position.
    fn wake(&self, zone: &ZoneId) {
        if let Some(sender) = self.zones.read().get(zone) {
            sender.send_modify(|_| ());
        }
    }

    /// The position that the zone's watchers were told; `None` when nobody watches.
    fn told(&self, zone: &ZoneId) -> Option<u64> {
        let zones = self.zones.read();
        let sender = zones.get(zone).filter(|s| s.receiver_count() > 0)?;
        let position = *sender.borrow();
        Some(position)
    }

    /// The zones that somebody watches; the others are forgotten.
    fn watched(&self) -> Vec<ZoneId> {
        let mut zones = self.zones.write();
        zones.retain(|_, sender| sender.receiver_count() > 0);
        zones.keys().cloned().collect()
    }

    fn hears(&self, hears: bool) {
        if self.hearing.swap(hears, Ordering::SeqCst) != hears {
            self.turned.notify_one();
        }
    }
}

impl Shared {
    /// Hears of changes; connects anew for as long as it takes.
    pub(super) async fn listen(self: &Arc<Self>, channel: &PgPool) {
        loop {
            if let Err(error) = self.hear(channel).await {
                tracing::warn!(%error, "change_listener_failed");
            }
            self.watchers.hears(false);
            tokio::time::sleep(REST).await;
        }
    }

    async fn hear(self: &Arc<Self>, channel: &PgPool) -> Result<(), sqlx::Error> {
        let mut listener = in_time(PgListener::connect_with(channel)).await?;
        listener.eager_reconnect(false);
        in_time(listener.listen(CHANNEL)).await?;
        self.watchers.hears(true);
        loop {
            match tokio::time::timeout(ALIVE, listener.try_recv()).await {
                Ok(Ok(Some(first))) => {
                    let mut changed = vec![first.payload().to_owned()];
                    while let Some(next) = listener.next_buffered() {
                        changed.push(next.payload().to_owned());
                    }
                    changed.sort_unstable();
                    changed.dedup();
                    self.announced(&changed).await;
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    in_time(listener.execute("SELECT 1")).await?;
                }
            }
        }
    }

    /// Looks at the watched zones, often while notifications can't arrive.
    pub(super) async fn look_now_and_then(self: &Arc<Self>) {
        loop {
            let hears = self.watchers.hearing.load(Ordering::SeqCst);
            let pause = if hears { HEARING } else { DEAF };
            let turned = self.watchers.turned.notified();
            let _ = tokio::time::timeout(pause, turned).await;
            self.look(self.watchers.watched()).await;
        }
    }

    /// Changes of these zones were announced.
    async fn announced(self: &Arc<Self>, changed: &[String]) {
        let zones = changed.iter().filter_map(|zone| ZoneId::parse(zone).ok());
        let told = zones.filter_map(|zone| Some((self.watchers.told(&zone)?, zone)));
        let (new, known): (Vec<_>, Vec<_>) = told.partition(|(position, _)| *position == 0);
        let zones = |some: &[(u64, ZoneId)]| some.iter().map(|(_, zone)| zone.clone()).collect();
        self.look(zones(&known)).await;
        self.look(zones(&new)).await;
        // The first position that is known of a zone wakes nobody, but here is a change.
        for (_, zone) in new {
            self.watchers.wake(&zone);
        }
    }

    /// Has the barrier read these zones, all at once, which wakes who watches one that has changed.
    /// What can't be read may have changed.
    async fn look(self: &Arc<Self>, zones: Vec<ZoneId>) {
        let mut looks = JoinSet::new();
        for zone in zones {
            let shared = Arc::clone(self);
            looks.spawn(async move {
                if shared.current(&zone).await.is_err() {
                    shared.watchers.wake(&zone);
                }
            });
        }
        while looks.join_next().await.is_some() {}
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    let answer = tokio::time::timeout(ANSWER, asked).await;
    answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
