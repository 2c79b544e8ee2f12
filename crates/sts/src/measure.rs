//! What the STS counts.
//!
//! The names are those that dashboards and alerts know. Each figure is kept twice: for Prometheus,
//! and here for the JSON document that the doctor reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caracal_evidence::log::JournalGauges;
use serde_json::{Value, json};

/// The counters of one STS.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    graph_traversals: AtomicU64,
    graph_traversal_errors: AtomicU64,
    jwks_invalid_keys: AtomicU64,
    eval_total: AtomicU64,
    eval_errors: AtomicU64,
    eval_nanos: AtomicU64,
    compile_total: AtomicU64,
    compile_errors: AtomicU64,
    compile_nanos: AtomicU64,
}

impl Measures {
    /// Registers every name, so that an alert on one never waits for its first event.
    pub(crate) fn describe() {
        for name in [
            "caracal_sts_graph_traversals_total",
            "caracal_sts_graph_traversal_errors_total",
            "caracal_sts_jwks_invalid_keys_total",
            "caracal_sts_opa_eval_total",
            "caracal_sts_opa_eval_errors_total",
            "caracal_sts_opa_compile_total",
            "caracal_sts_opa_compile_errors_total",
            "caracal_sts_provider_refresh_errors_total",
            "caracal_sts_provider_circuit_open_total",
        ] {
            metrics::counter!(name).absolute(0);
        }
        metrics::gauge!("caracal_sts_opa_max_policy_age_seconds").set(0.0);
        metrics::gauge!("caracal_sts_opa_poll_interval_seconds").set(0.0);
    }

    pub(crate) fn traversed(&self, judged: bool) {
        self.graph_traversals.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("caracal_sts_graph_traversals_total").increment(1);
        if !judged {
            self.graph_traversal_errors.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("caracal_sts_graph_traversal_errors_total").increment(1);
        }
    }

    pub(crate) fn unreadable_key(&self) {
        self.jwks_invalid_keys.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("caracal_sts_jwks_invalid_keys_total").increment(1);
    }

    pub(crate) fn evaluated(&self, took: Duration) {
        self.eval_total.fetch_add(1, Ordering::Relaxed);
        self.eval_nanos.fetch_add(nanos(took), Ordering::Relaxed);
        metrics::counter!("caracal_sts_opa_eval_total").increment(1);
        metrics::gauge!("caracal_sts_opa_eval_duration_seconds_total")
            .increment(took.as_secs_f64());
    }

    pub(crate) fn evaluation_failed(&self) {
        self.eval_total.fetch_add(1, Ordering::Relaxed);
        self.eval_errors.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("caracal_sts_opa_eval_total").increment(1);
        metrics::counter!("caracal_sts_opa_eval_errors_total").increment(1);
    }

    pub(crate) fn compiled(&self, took: Duration, succeeded: bool) {
        self.compile_total.fetch_add(1, Ordering::Relaxed);
        self.compile_nanos.fetch_add(nanos(took), Ordering::Relaxed);
        metrics::counter!("caracal_sts_opa_compile_total").increment(1);
        metrics::gauge!("caracal_sts_opa_compile_duration_seconds_total")
            .increment(took.as_secs_f64());
        if !succeeded {
            self.compile_errors.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("caracal_sts_opa_compile_errors_total").increment(1);
        }
    }

    /// Publishes the state of the audit log.
    pub(crate) fn audit_log(journal: &JournalGauges) {
        let gauge = |name: &'static str, value: u64| {
            metrics::gauge!(name).set(f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
        };
        gauge("caracal_sts_audit_replay_pending", journal.pending_events);
        gauge("caracal_sts_audit_replay_files", journal.files);
        gauge("caracal_sts_audit_replay_bytes", journal.bytes);
        metrics::gauge!("caracal_sts_audit_replay_oldest_age_seconds")
            .set(journal.oldest_age.as_secs_f64());
        metrics::counter!("caracal_sts_audit_dropped_total").absolute(journal.dropped);
        metrics::counter!("caracal_sts_audit_sink_errors_total").absolute(journal.storage_errors);
    }

    /// The JSON document. Policy is checked with every decision, so its age is always 0, and what
    /// this build has no part for (provider tokens, an external secret backend) stays 0.
    pub(crate) fn to_json(&self, journal: &JournalGauges) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "sts": {
                "graph_traversals": read(&self.graph_traversals),
                "graph_traversal_errors": read(&self.graph_traversal_errors),
                "jwks_invalid_keys": read(&self.jwks_invalid_keys),
                "audit_dropped": journal.dropped,
                "audit_replay_pending": journal.pending_events,
                "audit_replay_files": journal.files,
                "audit_replay_bytes": journal.bytes,
                "audit_replay_oldest_age_seconds": journal.oldest_age.as_secs(),
                "audit_sink_errors": journal.storage_errors,
                "provider_refresh_shared": 0,
                "provider_refresh_leased": 0,
                "provider_refresh_waited": 0,
                "provider_refresh_errors": 0,
                "provider_circuit_open": 0,
                "secret_backend_reads": 0,
                "secret_backend_errors": 0,
            },
            "opa": {
                "eval_total": read(&self.eval_total),
                "eval_errors": read(&self.eval_errors),
                "eval_duration_ns": read(&self.eval_nanos),
                "compile_total": read(&self.compile_total),
                "compile_errors": read(&self.compile_errors),
                "compile_duration_ns": read(&self.compile_nanos),
                "max_policy_age_seconds": 0,
                "poll_interval_seconds": 0,
                "decision_contract_version": caracal_policy::CONTRACT_VERSION,
                "decision_contract_sha256": caracal_policy::contract_sha256(),
            },
            "audit_dropped": journal.dropped,
        })
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
