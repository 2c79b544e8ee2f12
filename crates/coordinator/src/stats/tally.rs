//! What the role counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs of one kind of sweep.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) runs: Count,
    pub(crate) failures: Count,
}

/// What became of a request with an idempotency key, or of its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Replayed,
    Conflict,
    Invalid,
    Expired,
}

impl Outcome {
    const ALL: [Self; 5] = [
        Self::Created,
        Self::Replayed,
        Self::Conflict,
        Self::Invalid,
        Self::Expired,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replayed => "replayed",
            Self::Conflict => "conflicts",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
        }
    }
}

/// Counts since the role was made.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    created: Count,
    replayed: Count,
    conflicts: Count,
    invalid: Count,
    expired: Count,
    pub(crate) lifetimes: Runs,
    pub(crate) leases: Runs,
    pub(crate) retention: Runs,
    pub(crate) terminated: Count,
    pub(crate) suspended: Count,
    pub(crate) expired_edges: Count,
    pub(crate) deleted_edges: Count,
    pub(crate) deleted_sessions: Count,
    pub(crate) deleted_messages: Count,
    pub(crate) deleted_receipts: Count,
}

impl Tally {
    /// Counts an outcome, in `caracal_idempotency_requests_total` too.
    pub(crate) fn outcome(&self, outcome: Outcome, by: u64) {
        self.of(outcome).add(by);
        let outcome = outcome.as_str();
        metrics::counter!("caracal_idempotency_requests_total", "outcome" => outcome).increment(by);
    }

    /// Every outcome's count, by its name.
    pub(crate) fn outcomes(&self) -> Value {
        let mut counts = json!({});
        for outcome in Outcome::ALL {
            counts[outcome.as_str()] = self.of(outcome).get().into();
        }
        counts
    }

    fn of(&self, outcome: Outcome) -> &Count {
        match outcome {
            Outcome::Created => &self.created,
            Outcome::Replayed => &self.replayed,
            Outcome::Conflict => &self.conflicts,
            Outcome::Invalid => &self.invalid,
            Outcome::Expired => &self.expired,
        }
    }
}
