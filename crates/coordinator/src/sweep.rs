//! What time ends: tasks past their lifetime, services past their lease, edges past their end; and
//! what is kept no longer.
//!
//! A sweep works in batches, each a transaction of its own, until nothing is due. It decides nothing
//! that a request does not decide as well: whatever is over is refused at use, swept or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::Timestamp;
use caracal_core::id::{SessionId, ZoneId};
use caracal_events::Reason;
use caracal_store::entity::{Lifecycle, Session, SessionStatus};
use caracal_store::{LifecycleKind, OutboxStatus, StoreError};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::Coordinator;
use crate::session::{Ending, end_subtrees, suspend_subtrees};
use crate::stats::{Outcome, Runs};

/// How often gauges are brought up to date.
const FIGURES_INTERVAL: Duration = Duration::from_secs(15);

/// One kind of sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sweep {
    /// Ends tasks past their lifetime.
    Lifetimes,
    /// Suspends services past their lease.
    Leases,
    /// Marks edges past their end, and deletes what is kept no longer.
    Retention,
    /// Brings gauges up to date.
    Figures,
}

impl Sweep {
    pub(crate) const ALL: [Self; 4] = [
        Self::Lifetimes,
        Self::Leases,
        Self::Retention,
        Self::Figures,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Lifetimes => "ttl_sweep",
            Self::Leases => "service_lease_sweep",
            Self::Retention => "retention_cleanup",
            Self::Figures => "figures",
        }
    }
}

impl Coordinator {
    /// Runs a sweep at its interval until `stop`.
    pub(crate) fn spawn_sweep(
        self: &Arc<Self>,
        sweep: Sweep,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        let coordinator = Arc::clone(self);
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(coordinator.interval(sweep));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = ticks.tick() => {}
                }
                coordinator.sweep(sweep, &stop).await;
            }
        })
    }

    fn interval(&self, sweep: Sweep) -> Duration {
        let interval = match sweep {
            Sweep::Lifetimes => self.options.ttl_sweep_interval,
            Sweep::Leases => self.options.lease_sweep_interval,
            Sweep::Retention => self.options.retention_interval,
            Sweep::Figures => FIGURES_INTERVAL,
        };
        interval.max(Duration::from_millis(100))
    }

    /// Runs a sweep until nothing is due, it fails, or `stop`.
    pub(crate) async fn sweep(&self, sweep: Sweep, stop: &CancellationToken) {
        match sweep {
            Sweep::Lifetimes => metrics::counter!("caracal_ttl_sweeper_runs_total").increment(1),
            Sweep::Leases => {
                metrics::counter!("caracal_service_lease_sweeper_runs_total").increment(1);
            }
            Sweep::Retention => {
                metrics::counter!("caracal_retention_cleaner_runs_total").increment(1);
            }
            Sweep::Figures => {}
        }
        let runs = self.runs(sweep);
        if let Some(runs) = runs {
            runs.runs.add(1);
        }
        loop {
            let swept = match sweep {
                Sweep::Lifetimes => self.sweep_sessions(LifecycleKind::Task).await,
                Sweep::Leases => self.sweep_sessions(LifecycleKind::Service).await,
                Sweep::Retention => self.clean().await,
                Sweep::Figures => self.show_figures().await.map(|()| false),
            };
            match swept {
                Ok(true) if !stop.is_cancelled() => tokio::task::yield_now().await,
                Ok(_) => return,
                Err(error) => {
                    if let Some(runs) = runs {
                        runs.failures.add(1);
                    }
                    let sweep = sweep.name();
                    metrics::counter!("caracal_coordinator_sweep_failures_total", "sweep" => sweep)
                        .increment(1);
                    tracing::warn!(sweep, %error, "sweep_failed");
                    return;
                }
            }
        }
    }

    fn runs(&self, sweep: Sweep) -> Option<&Runs> {
        match sweep {
            Sweep::Lifetimes => Some(&self.tally.lifetimes),
            Sweep::Leases => Some(&self.tally.leases),
            Sweep::Retention => Some(&self.tally.retention),
            Sweep::Figures => None,
        }
    }

    /// Sweeps one batch; whether it ended or suspended any. A zone that fails does not keep the
    /// others from being swept.
    async fn sweep_sessions(&self, kind: LifecycleKind) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let batch = i64::try_from(self.options.sweep_batch).unwrap_or(i64::MAX);
        let mut zones: BTreeMap<ZoneId, Vec<SessionId>> = BTreeMap::new();
        for due in self.store.platform().due_sessions(now, batch).await? {
            if due.kind == kind {
                zones.entry(due.zone_id).or_default().push(due.id);
            }
        }
        let mut swept = false;
        let mut failed = None;
        for (zone, sessions) in zones {
            match self.sweep_zone(&zone, &sessions, kind, now).await {
                Ok(any) => swept |= any,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(swept), Err)
    }

    async fn sweep_zone(
        &self,
        zone: &ZoneId,
        sessions: &[SessionId],
        kind: LifecycleKind,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut unit = self.store.begin(zone).await?;
        // A lease may have been renewed since the batch was read.
        let mut due = unit.get_sessions(sessions).await?;
        due.retain(|session| is_due(session, now));
        let roots: Vec<SessionId> = due.into_iter().map(|session| session.id).collect();
        let (count, sessions) = match kind {
            LifecycleKind::Task => {
                let ended = end_subtrees(&mut unit, &roots, Ending::expired()).await?;
                (&self.tally.terminated, ended.sessions.len())
            }
            LifecycleKind::Service => {
                let reason = &Reason::SERVICE_HEARTBEAT_LOST;
                let suspended = suspend_subtrees(&mut unit, &roots, reason, now).await?;
                (&self.tally.suspended, suspended)
            }
        };
        unit.commit().await?;
        count.add(u64::try_from(sessions).unwrap_or(u64::MAX));
        Ok(!roots.is_empty())
    }

    /// Cleans one batch of each kind in every zone; whether there may be more.
    async fn clean(&self) -> Result<bool, StoreError> {
        let batch = i64::try_from(self.options.retention_batch).unwrap_or(i64::MAX);
        let mut most = 0;
        let mut failed = None;
        for zone in self.store.platform().zone_ids().await? {
            match self.clean_zone(&zone, batch).await {
                Ok(cleaned) => most = cleaned.max(most),
                Err(error) => failed = Some(error),
            }
        }
        let mut unit = self.store.begin_platform().await?;
        let before = earlier(self.clock.now(), self.options.outbox_retention);
        let messages = unit.delete_published_outbox(before, batch).await?;
        unit.commit().await?;
        self.tally.deleted_messages.add(messages);
        let more = most.max(messages) >= u64::try_from(batch).unwrap_or(u64::MAX);
        failed.map_or(Ok(more), Err)
    }

    /// How many rows of one kind were cleaned at most.
    async fn clean_zone(&self, zone: &ZoneId, batch: i64) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let edges_before = earlier(now, self.options.delegation_retention);
        let sessions_before = earlier(now, self.options.session_retention);
        let mut unit = self.store.begin(zone).await?;
        let expired = unit.expire_delegations(batch).await?.len();
        let edges = unit.delete_ended_delegations(edges_before, batch).await?;
        let sessions = unit.delete_ended_sessions(sessions_before, batch).await?;
        let receipts = unit.delete_expired_receipts(batch).await?;
        unit.commit().await?;
        metrics::counter!("caracal_retention_sessions_deleted_total").increment(sessions);
        self.tally.outcome(Outcome::Expired, receipts);
        let edges_expired = u64::try_from(expired).unwrap_or(u64::MAX);
        self.tally.expired_edges.add(edges_expired);
        self.tally.deleted_edges.add(edges);
        self.tally.deleted_sessions.add(sessions);
        self.tally.deleted_receipts.add(receipts);
        Ok(edges_expired.max(edges).max(sessions).max(receipts))
    }

    async fn show_figures(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let platform = self.store.platform();
        let outbox = platform.outbox_stats().await?;
        for status in [
            OutboxStatus::Pending,
            OutboxStatus::Published,
            OutboxStatus::Dead,
        ] {
            metrics::gauge!("caracal_outbox_total", "status" => status.as_str())
                .set(to_gauge(outbox.count(status)));
        }
        let receipts = platform.receipt_stats().await?;
        metrics::gauge!("caracal_idempotency_receipts").set(to_gauge(receipts.rows));
        let age = receipts
            .oldest
            .map_or(Duration::ZERO, |oldest| now.since(oldest));
        metrics::gauge!("caracal_idempotency_oldest_seconds").set(age.as_secs_f64());
        Ok(())
    }
}

fn is_due(session: &Session, now: Timestamp) -> bool {
    match (session.lifecycle, session.status) {
        (_, SessionStatus::Terminated | SessionStatus::Expired) => false,
        (Lifecycle::Task { .. }, _) => session.ends_at().is_some_and(|end| end <= now),
        (Lifecycle::Service(lease), SessionStatus::Active) => lease.heartbeat_deadline_at <= now,
        (Lifecycle::Service(_), SessionStatus::Suspended) => false,
    }
}

fn earlier(now: Timestamp, by: Duration) -> Timestamp {
    let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(micros))
}

/// A gauge holds a double; counts stay far below where that loses a unit.
fn to_gauge(count: i64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
