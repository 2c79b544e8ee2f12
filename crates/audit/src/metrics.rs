//! The role's numbers, for Prometheus and for `/metrics.json`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caracal_core::Timestamp;
use metrics::{counter, gauge};
use serde_json::{Value, json};

use crate::ledger::{AlertKind, Batch, Retained};
use crate::tamper::Fault;
use crate::{Inner, Source};

/// Counters since the role was made.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    inserts: AtomicU64,
    parse_errors: AtomicU64,
    hmac_failures: AtomicU64,
    tamper_replay: AtomicU64,
    retries: AtomicU64,
    lost: AtomicU64,
    tamper_checked: AtomicU64,
    tamper_mismatches: AtomicU64,
    tamper_breaks: AtomicU64,
    tamper_last_sweep: AtomicU64,
    tamper_last_full: AtomicU64,
    dead: AtomicU64,
    retention_created: AtomicU64,
    retention_dropped: AtomicU64,
}

/// What arrived and is not stored: events of a log, entries of the stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) count: u64,
    /// How long the oldest waits.
    pub(crate) oldest: Duration,
}

impl Inner {
    pub(crate) fn waiting(&self) -> Waiting {
        let now = self.parts.clock.now();
        match &self.parts.source {
            Source::Log(journal) => {
                let log = journal.gauges(now);
                Waiting {
                    count: log.pending_events,
                    oldest: log.oldest_age,
                }
            }
            Source::Stream(_) => {
                let backlog = self.measured.backlog();
                Waiting {
                    count: backlog.unread.saturating_add(backlog.pending),
                    oldest: age(backlog.oldest_millis, now),
                }
            }
        }
    }
}

fn age(millis: Option<u64>, now: Timestamp) -> Duration {
    let at = millis.and_then(|millis| i64::try_from(millis).ok()?.checked_mul(1000));
    at.map(|micros| now.since(Timestamp::from_micros(micros)))
        .unwrap_or_default()
}

impl Counters {
    /// A batch is stored.
    pub(crate) fn stored(&self, batch: &Batch) {
        let alerts = |kind| {
            count(
                batch
                    .alerts
                    .iter()
                    .filter(|alert| alert.kind == kind)
                    .count(),
            )
        };
        self.inserts
            .fetch_add(count(batch.entries.len()), Ordering::Relaxed);
        self.parse_errors
            .fetch_add(alerts(AlertKind::MalformedEvent), Ordering::Relaxed);
        self.hmac_failures
            .fetch_add(alerts(AlertKind::BadSignature), Ordering::Relaxed);
        self.tamper_replay
            .fetch_add(alerts(AlertKind::ContentMismatch), Ordering::Relaxed);
        let lost = alerts(AlertKind::EvidenceLost) + alerts(AlertKind::LogGap);
        self.lost.fetch_add(lost, Ordering::Relaxed);
        self.publish();
    }

    /// Reading or storing failed and is tried again.
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        self.publish();
    }

    /// The tamper sweep has read events.
    pub(crate) fn checked(&self, events: usize) {
        self.tamper_checked
            .fetch_add(count(events), Ordering::Relaxed);
        self.publish();
    }

    /// The tamper sweep has found something.
    pub(crate) fn found(&self, fault: Fault) {
        let counter = match fault {
            Fault::Mismatch => &self.tamper_mismatches,
            Fault::Break => &self.tamper_breaks,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.publish();
    }

    /// A tamper sweep went through all zones.
    pub(crate) fn swept(&self, at: Timestamp, in_full: bool) {
        let at = u64::try_from(at.seconds()).unwrap_or(0);
        self.tamper_last_sweep.store(at, Ordering::Relaxed);
        if in_full {
            self.tamper_last_full.store(at, Ordering::Relaxed);
        }
        self.publish();
    }

    /// Something was set aside.
    pub(crate) fn set_aside(&self) {
        self.dead.fetch_add(1, Ordering::Relaxed);
        self.publish();
    }

    /// A round of retention ended.
    pub(crate) fn retained(&self, retained: Retained) {
        self.retention_created
            .fetch_add(retained.created, Ordering::Relaxed);
        self.retention_dropped
            .fetch_add(retained.dropped, Ordering::Relaxed);
        self.publish();
    }

    /// Looks at what waits.
    pub(crate) fn observe(&self, inner: &Inner) {
        let waiting = inner.waiting();
        let dead = inner.measured.dead();
        gauge!("caracal_audit_consumer_lag").set(to_float(waiting.count));
        gauge!("caracal_audit_consumer_pel_oldest_seconds").set(waiting.oldest.as_secs_f64());
        gauge!("caracal_audit_dlq_size").set(to_float(dead.count));
        gauge!("caracal_audit_dlq_oldest_age_seconds")
            .set(age(dead.oldest_millis, inner.parts.clock.now()).as_secs_f64());
        self.publish();
    }

    /// The document of `/metrics.json`.
    pub(crate) fn to_json(&self, inner: &Inner) -> Value {
        let waiting = inner.waiting();
        let dead = inner.measured.dead();
        let mut document = json!({
            "consumer_lag": waiting.count,
            "consumer_pel_oldest_secs": waiting.oldest.as_secs(),
            "dlq_size": dead.count,
            "dlq_oldest_age_secs": age(dead.oldest_millis, inner.parts.clock.now()).as_secs(),
            "evidence_lost": inner.lost.alerts(),
        });
        for (name, _, value) in self.all().into_iter().chain(self.sweeps()) {
            document[name] = value.into();
        }
        document
    }

    fn publish(&self) {
        for (_, name, value) in self.all() {
            counter!(name).absolute(value);
        }
        for (_, name, value) in self.sweeps() {
            gauge!(name).set(to_float(value));
        }
    }

    /// When tamper sweeps ended, seconds since the epoch; 0 for none yet.
    fn sweeps(&self) -> [(&'static str, &'static str, u64); 2] {
        let read = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        [
            (
                "tamper_last_sweep_unix",
                "caracal_audit_tamper_last_sweep_unix",
                read(&self.tamper_last_sweep),
            ),
            (
                "tamper_last_full_unix",
                "caracal_audit_tamper_last_full_unix",
                read(&self.tamper_last_full),
            ),
        ]
    }

    fn all(&self) -> [(&'static str, &'static str, u64); 12] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            (
                "inserts_total",
                "caracal_audit_inserts_total",
                read(&self.inserts),
            ),
            (
                "parse_errors_total",
                "caracal_audit_parse_errors_total",
                read(&self.parse_errors),
            ),
            (
                "hmac_failures_total",
                "caracal_audit_hmac_failures_total",
                read(&self.hmac_failures),
            ),
            (
                "tamper_replay_total",
                "caracal_audit_tamper_replay_total",
                read(&self.tamper_replay),
            ),
            (
                "retries_total",
                "caracal_audit_retries_total",
                read(&self.retries),
            ),
            (
                "evidence_lost_total",
                "caracal_audit_evidence_lost_total",
                read(&self.lost),
            ),
            (
                "tamper_checked_total",
                "caracal_audit_tamper_checked_total",
                read(&self.tamper_checked),
            ),
            (
                "tamper_mismatch_total",
                "caracal_audit_tamper_mismatch_total",
                read(&self.tamper_mismatches),
            ),
            (
                "tamper_chain_breaks",
                "caracal_audit_tamper_chain_breaks_total",
                read(&self.tamper_breaks),
            ),
            ("dlq_total", "caracal_audit_dlq_total", read(&self.dead)),
            (
                "retention_created_total",
                "caracal_audit_retention_created_total",
                read(&self.retention_created),
            ),
            (
                "retention_dropped_total",
                "caracal_audit_retention_dropped_total",
                read(&self.retention_dropped),
            ),
        ]
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A gauge is a float; below 2^32 the value is exact, above it is the largest such.
fn to_float(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX))
}
