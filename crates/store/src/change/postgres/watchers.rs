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
    zones: RwLock<HashMap<ZoneId, Watched>>,
    hearing: AtomicBool,
    /// The listener has become deaf, or hears again.
    turned: Notify,
}

/// A watched zone.
#[derive(Debug)]
struct Watched {
    sender: watch::Sender<u64>,
    /// A position of the zone has been read since somebody watches.
    is_known: AtomicBool,
    /// Notifications arrived when the first watcher came, so a change since then was announced.
    heard: bool,
}

impl Watchers {
    pub(super) fn subscribe(&self, zone: &ZoneId) -> watch::Receiver<u64> {
        if let Some(watched) = self.zones.read().get(zone) {
            return watched.sender.subscribe();
        }
        let mut zones = self.zones.write();
        let watched = zones.entry(zone.clone()).or_insert_with(|| Watched {
            sender: watch::Sender::new(0),
            is_known: AtomicBool::new(false),
            heard: self.hearing.load(Ordering::SeqCst),
        });
        watched.sender.subscribe()
    }

    /// The barrier has read these positions. The first one that is known of a zone is where its
    /// watchers began: it wakes them only when a change before it may not have been announced.
    pub(super) fn read(&self, zones: &[ZoneId], positions: &[u64]) {
        let all = self.zones.read();
        if all.is_empty() {
            return;
        }
        for (zone, position) in zones.iter().zip(positions) {
            if let Some(watched) = all.get(zone) {
                let is_first = !watched.is_known.swap(true, Ordering::SeqCst);
                watched.sender.send_if_modified(|last| {
                    let is_news = *last < *position && !(is_first && watched.heard);
                    *last = (*last).max(*position);
                    is_news
                });
            }
        }
    }

    /// Wakes who watches the zone, whatever its position.
    fn wake(&self, zone: &ZoneId) {
        if let Some(watched) = self.zones.read().get(zone) {
            watched.sender.send_modify(|_| ());
        }
    }

    /// Whether somebody watches the zone, and then whether a position of it is known.
    fn is_known(&self, zone: &ZoneId) -> Option<bool> {
        let zones = self.zones.read();
        let watched = zones.get(zone)?;
        (watched.sender.receiver_count() > 0).then(|| watched.is_known.load(Ordering::SeqCst))
    }

    /// The zones that somebody watches; the others are forgotten.
    pub(super) fn watched(&self) -> Vec<ZoneId> {
        let mut zones = self.zones.write();
        zones.retain(|_, watched| watched.sender.receiver_count() > 0);
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
        let watched: Vec<(bool, ZoneId)> = zones
            .filter_map(|zone| Some((self.watchers.is_known(&zone)?, zone)))
            .collect();
        self.look(watched.iter().map(|(_, zone)| zone.clone()).collect())
            .await;
        // The first position that is known of a zone wakes nobody, but here is a change.
        for (_, zone) in watched.iter().filter(|(was_known, _)| !was_known) {
            self.watchers.wake(zone);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(number: usize) -> ZoneId {
        format!("z-{number}").parse().unwrap()
    }

    #[test]
    fn zones_that_nobody_watches_any_more_are_forgotten() {
        let watchers = Watchers::default();
        for number in 0..50 {
            drop(watchers.subscribe(&zone(number)));
        }
        let kept = watchers.subscribe(&zone(7));
        assert_eq!(watchers.watched(), [zone(7)]);
        assert_eq!(watchers.zones.read().len(), 1);
        drop(kept);
    }

    #[test]
    fn the_first_position_that_is_known_of_a_zone_wakes_nobody_and_the_next_one_does() {
        for first in [0, 5] {
            let watchers = Watchers::default();
            watchers.hears(true);
            let watch = watchers.subscribe(&zone(1));
            for (position, wakes) in [(first, false), (first, false), (6, true)] {
                watchers.read(&[zone(1)], &[position]);
                assert_eq!(watch.has_changed().unwrap(), wakes, "{position}");
            }
            assert_eq!(*watch.borrow(), 6);
        }
    }

    #[test]
    fn a_change_that_nobody_could_hear_of_wakes_whoever_came_before_it_was_read() {
        let watchers = Watchers::default();
        let watch = watchers.subscribe(&zone(1));
        watchers.hears(true);
        watchers.read(&[zone(1)], &[5]);
        assert!(watch.has_changed().unwrap());
    }
}
