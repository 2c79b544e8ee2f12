//! The security token service: decides and mints.
//!
//! A token request runs through these steps, one file each:
//!
//! | step | file | what |
//! |---|---|---|
//! | 1 | `form` | bytes become a form, or are refused without a trace |
//! | 2 | `client_auth` | which application calls; the view of its zone that everything decides on |
//! | 3 | `subject`, `control_key`, `lineage` | what authority it presents, every ancestor judged |
//! | 4 | `target`, `operation`, `mint_limit`, `decide` | which resources it gets |
//! | 5 | `lifetime`, `claims`, `keys` | how long, what the mandate says, which key signs |
//! | 6 | `exchange`, `gateway_exchange`, `directive` | the two kinds of exchange, start to end |
//! | 7 | `audit`, `error` | what is written down, what is answered |
//! | | `routes`, `rotation` | the HTTP side |
//! | | `turns` | what zones share, in equal parts |
//! | | `gateway_leg`, `nonces` | Gateways in other processes: signed, heard once |
//!
//! Four rules hold throughout. A mandate leaves after its audit event is in the log. Authority only
//! narrows. Every decision reads one view of the zone that was taken after the request arrived. What
//! can't be decided is 503, never a verdict.

// An exchange is one deep future down to the driver of the database.
#![recursion_limit = "256"]

mod audit;
mod claims;
mod client_auth;
mod control_key;
mod decide;
mod directive;
mod error;
mod exchange;
mod form;
mod fuzz;
mod gateway_exchange;
mod gateway_leg;
mod keys;
mod lifetime;
mod lineage;
mod measure;
mod mint_limit;
mod nonces;
mod operation;
mod rotation;
mod routes;
mod subject;
mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod turns;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caracal_core::{Clock, Random, RequestId, Secret};
use caracal_crypto::{KeyRing, SecretVerifier};
use caracal_evidence::Journal;
use caracal_http::{NotReady, Readiness};
use caracal_policy::ZonePolicy;
use caracal_store::{Authority, Store};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use client_auth::{FailureLimit, FailureLog};
use decide::Policies;
use error::Refusal;
use keys::Keys;
use measure::Measures;
use mint_limit::MintLimit;
use operation::OperationFloor;
use turns::Turns;

pub use fuzz::fuzz_form;
pub use gateway_leg::GatewayLeg;
pub use keys::{
    KeyCreationError, PUBLISH_AFTER_SECONDS, PUBLISH_AHEAD_SECONDS, create_zone_key,
    rotate_zone_key,
};
pub use mint_limit::SharedCounts;
pub use nonces::{NonceStore, NoncesUnavailable, ProcessNonces, Spent};

/// How often failed authentications are looked through for events that are due, and the state of
/// the audit log is published.
const TICK: Duration = Duration::from_secs(5);

/// How the STS is set up; the values are validated already.
#[derive(Debug, Clone)]
pub struct StsOptions {
    /// `ISSUER_URL`: the `iss` of every mandate, byte for byte.
    pub issuer: Arc<str>,
    /// `CONTROL_AUDIENCE`: the identifier of the control resource.
    pub control_audience: String,
    /// `STS_ADMIN_TOKEN`: the bearer for key rotation; without one the route does not exist.
    pub admin_token: Option<Secret<String>>,
    /// `STS_MINT_RATE_LIMIT_PER_MIN`: mints per zone, resource and application in a minute.
    pub mint_limit_per_minute: u32,
    /// Whether the nearest proxy's `X-Forwarded-For` entry names the peer.
    pub trust_proxy: bool,
}

/// What the STS stands on.
#[derive(Debug, Clone)]
pub struct StsDependencies {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Where records and uses are written.
    pub store: Store,
    /// The fresh view of every zone.
    pub authority: Arc<Authority>,
    /// The local audit log.
    pub journal: Journal,
    /// The keys that open signing keys and provider secrets.
    pub key_ring: Arc<KeyRing>,
    /// Verifies client secrets.
    pub secrets: SecretVerifier,
    /// Mint windows that other STS share; `None` where this is the only one.
    pub mint_counts: Option<Arc<dyn SharedCounts>>,
}

/// The security token service.
pub struct Sts {
    options: StsOptions,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    store: Store,
    authority: Arc<Authority>,
    journal: Journal,
    key_ring: Arc<KeyRing>,
    secrets: SecretVerifier,
    keys: Keys,
    policies: Policies,
    deny_all: Arc<ZonePolicy>,
    operations: OperationFloor,
    mint_limit: MintLimit,
    failures: FailureLimit,
    failure_log: FailureLog,
    measures: Arc<Measures>,
    turns: Turns,
}

impl Sts {
    /// An STS on these dependencies.
    #[must_use]
    pub fn new(options: StsOptions, dependencies: StsDependencies) -> Arc<Self> {
        let StsDependencies {
            clock,
            random,
            store,
            authority,
            journal,
            key_ring,
            secrets,
            mint_counts,
        } = dependencies;
        let mint_limit = match mint_counts {
            Some(counts) => MintLimit::Shared(counts),
            None => MintLimit::new(Arc::clone(&clock), options.mint_limit_per_minute),
        };
        Measures::describe();
        let measures = Arc::new(Measures::default());
        Arc::new(Self {
            keys: Keys::new(Arc::clone(&key_ring), Arc::clone(&measures)),
            policies: Policies::new(),
            deny_all: Arc::new(ZonePolicy::deny_all()),
            operations: OperationFloor::new(),
            mint_limit,
            failures: FailureLimit::new(Arc::clone(&clock)),
            failure_log: FailureLog::default(),
            measures,
            turns: Turns::new(secrets.concurrency()),
            options,
            clock,
            random,
            store,
            authority,
            journal,
            key_ring,
            secrets,
        })
    }

    /// The routes of the STS, without the operational ones. Gateways in other processes are not
    /// heard.
    pub fn router(self: &Arc<Self>) -> axum::Router {
        routes::router(self, None)
    }

    /// The same routes, and Gateways in other processes are heard.
    pub fn router_for_gateways(self: &Arc<Self>, leg: GatewayLeg) -> axum::Router {
        routes::router(self, Some(leg))
    }

    /// The background jobs; they end when `shutdown` is cancelled.
    pub fn spawn_jobs(self: &Arc<Self>, shutdown: CancellationToken) -> Vec<JoinHandle<()>> {
        let sts = Arc::clone(self);
        let upkeep = tokio::spawn(async move {
            let mut due = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    _ = due.tick() => {
                        sts.flush_auth_failures().await;
                        Measures::audit_log(&sts.journal.gauges(sts.clock.now()));
                    }
                    () = shutdown.cancelled() => break,
                }
            }
        });
        vec![upkeep]
    }

    /// The `/metrics.json` document.
    #[must_use]
    pub fn metrics_json(&self) -> Value {
        self.measures
            .to_json(&self.journal.gauges(self.clock.now()))
    }

    /// Logs what an answer does not say.
    fn log_cause(&self, request_id: &RequestId, refusal: &Refusal) {
        match refusal {
            Refusal::Unavailable(cause) => {
                tracing::warn!(%request_id, %cause, "a dependency failed");
            }
            Refusal::Internal(cause) => {
                tracing::error!(%request_id, %cause, "an exchange failed");
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Sts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sts")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Readiness for Sts {
    async fn check(&self) -> Result<(), NotReady> {
        let store = self.store.ping().await;
        let (_, unreachable) = self.store.readiness_names();
        store.map_err(|_| NotReady::with_reason(unreachable))?;
        let journal = self.journal.gauges(self.clock.now());
        if journal.dropped > 0 {
            return Err(NotReady::with_reason("audit_evidence_lost"));
        }
        if !journal.writable {
            return Err(NotReady::with_reason("audit_replay_unavailable"));
        }
        Ok(())
    }
}
