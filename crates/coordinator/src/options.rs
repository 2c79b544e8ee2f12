//! The Coordinator's settings, as plain checked values.

use std::sync::Arc;
use std::time::Duration;

use caracal_core::{Mode, Scope, Secret};
use caracal_crypto::HmacKey;

const DAY: Duration = Duration::from_secs(86_400);

/// Settings of the Coordinator. [`CoordinatorOptions::new`] gives the documented defaults.
#[derive(Debug, Clone)]
pub struct CoordinatorOptions {
    /// `CARACAL_MODE`: decides whether metrics may be open.
    pub mode: Mode,
    /// `ISSUER_URL`, byte for byte: issuer and audience of the mandates that are accepted.
    pub issuer: Arc<str>,
    /// `AGENT_COORDINATOR_SCOPE`: what every mandate must hold.
    pub required_scope: Scope,
    /// `CARACAL_COORDINATOR_TOKEN`: tokens of the operator, usable in every zone. Several make a
    /// rotation without a gap; none switches the operator off.
    pub operator_tokens: Vec<Secret<String>>,
    /// `METRICS_BEARER`.
    pub metrics_bearer: Option<Secret<String>>,
    /// `IDEMPOTENCY_HMAC_KEY`.
    pub idempotency_key: HmacKey,
    /// `IDEMPOTENCY_HMAC_KEY_PREVIOUS`: still read, no longer written.
    pub previous_idempotency_key: Option<HmacKey>,
    /// `MAX_AGENTS_PER_ZONE`.
    pub max_sessions_per_zone: u32,
    /// `MAX_AGENTS_PER_APP`.
    pub max_sessions_per_application: u32,
    /// `SERVICE_AGENT_LEASE_SECONDS`.
    pub lease: Duration,
    /// `TTL_SWEEP_INTERVAL_MS`.
    pub ttl_sweep_interval: Duration,
    /// `SERVICE_LEASE_SWEEP_INTERVAL_MS`.
    pub lease_sweep_interval: Duration,
    /// `RETENTION_CLEANUP_INTERVAL_MS`.
    pub retention_interval: Duration,
    /// `SWEEPER_BATCH_SIZE`: rows of one transaction of a sweeper.
    pub sweep_batch: usize,
    /// `RETENTION_CLEANUP_BATCH_SIZE`: rows of one transaction of the cleaner.
    pub retention_batch: usize,
    /// `SESSION_RETENTION_DAYS`.
    pub session_retention: Duration,
    /// `DELEGATION_RETENTION_DAYS`.
    pub delegation_retention: Duration,
    /// `OUTBOX_RETENTION_DAYS`.
    pub outbox_retention: Duration,
    /// `IDEMPOTENCY_RETENTION_SECONDS`: receipts of keys that callers chose.
    pub receipt_retention: Duration,
    /// `GENERATED_IDEMPOTENCY_RETENTION_SECONDS`: receipts of keys that a client library made.
    pub generated_receipt_retention: Duration,
    /// `IDEMPOTENCY_MAX_RECEIPTS_PER_SCOPE`.
    pub max_receipts_per_scope: i64,
    /// `COORDINATOR_BODY_LIMIT_BYTES`.
    pub body_limit: usize,
    /// `COORDINATOR_RATE_LIMIT_PER_MIN`, for each peer address; 0 switches it off.
    pub requests_per_minute: u32,
    /// `VERIFY_RATE_LIMIT_PER_MIN`, for each peer address; 0 switches it off.
    pub verifications_per_minute: u32,
    /// `READY_RATE_LIMIT_PER_MIN`, for each peer address; 0 switches it off.
    pub ready_checks_per_minute: u32,
    /// `TRUST_PROXY`: take the peer address from the nearest proxy.
    pub trust_proxy: bool,
}

impl CoordinatorOptions {
    /// The documented defaults around what has none.
    #[must_use]
    pub fn new(issuer: &str, idempotency_key: HmacKey) -> Self {
        Self {
            mode: Mode::Stable,
            issuer: issuer.into(),
            required_scope: Scope::new(caracal_core::scope::AGENT_LIFECYCLE),
            operator_tokens: Vec::new(),
            metrics_bearer: None,
            idempotency_key,
            previous_idempotency_key: None,
            max_sessions_per_zone: 50,
            max_sessions_per_application: 200,
            lease: Duration::from_secs(120),
            ttl_sweep_interval: Duration::from_secs(60),
            lease_sweep_interval: Duration::from_secs(30),
            retention_interval: Duration::from_secs(900),
            sweep_batch: 500,
            retention_batch: 500,
            session_retention: DAY * 90,
            delegation_retention: DAY * 90,
            outbox_retention: DAY * 7,
            receipt_retention: DAY * 7,
            generated_receipt_retention: DAY,
            max_receipts_per_scope: 10_000,
            body_limit: 262_144,
            requests_per_minute: 600,
            verifications_per_minute: 60,
            ready_checks_per_minute: 120,
            trust_proxy: false,
        }
    }
}
