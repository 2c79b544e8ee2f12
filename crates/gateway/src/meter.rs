//! The counters and gauges that dashboards and alerts know by name.
//!
//! Each value is kept twice: as an atomic for `/metrics.json`, and behind a handle of the process's
//! metrics recorder for `/metrics`. Handles are taken once, so counting is two atomic additions.

use std::sync::atomic::{AtomicU64, Ordering};

use caracal_evidence::log::JournalGauges;
use serde_json::{Map, Value};

/// A value that only rises.
pub(crate) struct Count {
    value: AtomicU64,
    exported: metrics::Counter,
}

impl Count {
    fn new(name: &'static str) -> Self {
        Self {
            value: AtomicU64::new(0),
            exported: metrics::counter!(name),
        }
    }

    /// Adds one.
    pub(crate) fn add(&self) {
        self.value.fetch_add(1, Ordering::Relaxed);
        self.exported.increment(1);
    }

    /// The value since the process started.
    pub(crate) fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// A value that is set.
pub(crate) struct Level {
    value: AtomicU64,
    exported: metrics::Gauge,
}

impl Level {
    fn new(name: &'static str) -> Self {
        Self {
            value: AtomicU64::new(0),
            exported: metrics::gauge!(name),
        }
    }

    /// Sets it.
    pub(crate) fn set(&self, value: u64) {
        self.value.store(value, Ordering::Relaxed);
        self.exported
            .set(f64::from(u32::try_from(value).unwrap_or(u32::MAX)));
    }

    fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

macro_rules! meter {
    (
        counts { $($count:ident => $count_name:literal, $count_key:literal;)* }
        levels { $($level:ident => $level_name:literal, $level_key:literal;)* }
    ) => {
        /// Every value of the Gateway.
        pub(crate) struct Meter {
            $(pub(crate) $count: Count,)*
            $(pub(crate) $level: Level,)*
        }

        impl Meter {
            /// Zeroes, exported through the process's recorder.
            pub(crate) fn new() -> Self {
                Self {
                    $($count: Count::new(concat!("caracal_gateway_", $count_name)),)*
                    $($level: Level::new(concat!("caracal_gateway_", $level_name)),)*
                }
            }

            /// The `/metrics.json` document.
            pub(crate) fn to_json(&self) -> Value {
                let mut object = Map::new();
                $(object.insert($count_key.to_owned(), self.$count.get().into());)*
                $(object.insert($level_key.to_owned(), self.$level.get().into());)*
                Value::Object(object)
            }
        }
    };
}

meter! {
    counts {
        requests => "requests_total", "requests_total";
        allowed => "requests_allowed_total", "requests_allowed";
        denied => "requests_denied_total", "requests_denied";
        missing_auth => "denials_missing_auth_total", "denials_missing_auth";
        bad_bearer => "denials_bad_bearer_total", "denials_bad_bearer";
        expiring => "denials_expiring_total", "denials_expiring";
        bad_routing => "denials_bad_routing_total", "denials_bad_routing";
        path_traversal => "denials_path_traversal_total", "denials_path_traversal";
        signature => "denials_signature_total", "denials_signature";
        jti_replay => "denials_jti_replay_total", "denials_jti_replay";
        revoked => "denials_revoked_total", "denials_revoked";
        revocation_stale => "denials_revocation_stale_total", "denials_revocation_stale";
        exchange_errors => "sts_exchange_errors_total", "sts_exchange_errors";
        circuit_opened => "sts_circuit_opened_total", "sts_circuit_opened";
        circuit_fast_fail => "sts_circuit_fast_fail_total", "sts_circuit_fast_fail";
        upstream_errors => "upstream_errors_total", "upstream_errors";
        revocation_messages => "revocation_messages_total", "revocation_messages";
        revocation_pending_replayed => "revocation_pending_replayed_total", "revocation_pending_replayed";
        revocation_dead_letters => "revocation_dead_letters_total", "revocation_dead_letters";
        revocation_invalid_signatures => "revocation_invalid_signatures_total", "revocation_invalid_signatures";
        revocation_reloads => "revocation_reloads_total", "revocation_reloads";
        revocation_reload_errors => "revocation_reload_errors_total", "revocation_reload_errors";
    }
    levels {
        exchange_latency_ms => "sts_exchange_latency_ms", "sts_exchange_latency_ms";
        circuit_open => "sts_circuit_open", "sts_circuit_open";
        replay_marks => "replay_marks", "replay_marks";
        running_streams => "running_streams", "running_streams";
        audit_files => "audit_replay_files", "audit_replay_files";
        audit_bytes => "audit_replay_bytes", "audit_replay_bytes";
        audit_oldest_age => "audit_replay_oldest_age_seconds", "audit_replay_oldest_age_seconds";
        audit_dropped => "audit_dropped_total", "audit_dropped";
        audit_sink_errors => "audit_sink_errors_total", "audit_sink_errors";
        audit_queue_depth => "audit_queue_depth", "audit_queue_depth";
        audit_queue_capacity => "audit_queue_capacity", "audit_queue_cap";
        audit_persisted => "audit_persisted_total", "audit_persisted";
        audit_drained => "audit_drained_total", "audit_drained";
        revocations_active => "revocations_active", "revocations_active";
        barrier_age => "revocation_snapshot_age_seconds", "revocation_snapshot_age_seconds";
        barrier_fresh => "revocation_snapshot_fresh", "revocation_snapshot_fresh";
        propagation => "revocation_propagation_seconds", "revocation_propagation_seconds";
    }
}

impl Meter {
    /// Takes over the local audit log's state.
    pub(crate) fn observe_journal(&self, journal: &JournalGauges) {
        self.audit_files.set(journal.files);
        self.audit_bytes.set(journal.bytes);
        self.audit_oldest_age.set(journal.oldest_age.as_secs());
        self.audit_dropped.set(journal.dropped);
        self.audit_sink_errors
            .set(journal.storage_errors.saturating_add(journal.sync_errors));
        self.audit_queue_depth.set(journal.pending_events);
        self.audit_persisted.set(journal.appended);
        self.audit_drained
            .set(journal.appended.saturating_sub(journal.pending_events));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_document_has_every_documented_key() {
        let document = Meter::new().to_json();
        for key in [
            "requests_total",
            "requests_allowed",
            "requests_denied",
            "denials_missing_auth",
            "denials_bad_bearer",
            "denials_expiring",
            "denials_bad_routing",
            "denials_path_traversal",
            "denials_signature",
            "denials_jti_replay",
            "denials_revoked",
            "denials_revocation_stale",
            "sts_exchange_errors",
            "sts_exchange_latency_ms",
            "sts_circuit_open",
            "sts_circuit_opened",
            "sts_circuit_fast_fail",
            "upstream_errors",
            "audit_replay_files",
            "audit_replay_bytes",
            "audit_replay_oldest_age_seconds",
            "audit_dropped",
            "audit_sink_errors",
            "audit_queue_depth",
            "audit_queue_cap",
            "audit_persisted",
            "audit_drained",
            "revocations_active",
            "revocation_snapshot_age_seconds",
            "revocation_snapshot_fresh",
            "revocation_messages",
            "revocation_pending_replayed",
            "revocation_dead_letters",
            "revocation_invalid_signatures",
            "revocation_reloads",
            "revocation_reload_errors",
            "revocation_propagation_seconds",
        ] {
            assert!(document[key].is_u64(), "{key}");
        }
    }
}
