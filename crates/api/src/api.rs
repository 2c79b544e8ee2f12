//! The Admin API as one value: options, dependencies, router, jobs.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use caracal_core::{Clock, Mode, Random, Secret, Timestamp};
use caracal_crypto::KeyRing;
use caracal_crypto::client_secret::Peppers;
use caracal_evidence::log::Journal;
use caracal_http::ops::{Metrics, Ops};
use caracal_http::{
    Dependencies, Failure, MetricsAccess, NotReady, Observed, Readiness, RequestContext,
};
use caracal_store::{OutboxStatus, Store, StoreError};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::authenticate::{self, LastUsed};
use crate::error::ApiError;
use crate::limits::{Limits, RateLimits};
use crate::pipeline;
use crate::policy::compile::Compiler;
use crate::ports::{EvidenceBarrier, ZoneKeys};
use crate::request::body::BodyLimits;
use crate::routes;
use crate::turns::Turns;

/// How many slow hashes run at a time, 64 MiB each.
const HASHES: usize = 2;

/// The settings of the Admin API, already checked.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// `CARACAL_MODE`.
    pub mode: Mode,
    /// `CARACAL_ADMIN_TOKEN`: seeds the bootstrap and the console tokens.
    pub admin_token: Option<Secret<String>>,
    /// `METRICS_BEARER`.
    pub metrics_bearer: Option<Secret<String>>,
    /// `API_BODY_LIMIT_BYTES`.
    pub body_limit: usize,
    /// `REQUEST_TIMEOUT_MS`: the longest time to send a body.
    pub request_timeout: Duration,
    /// Requests a minute.
    pub rates: RateLimits,
    /// `ADMIN_TOKEN_LAST_USED_DEBOUNCE_SEC`: how often uses of tokens are written; 0 is every second.
    pub last_used_debounce: Duration,
    /// `API_MAX_RESOURCES_PER_ZONE`; 0 is no limit.
    pub max_resources_per_zone: u64,
    /// `API_READY_OUTBOX_DEAD_MAX`: dead outbox messages beyond which the role is not ready. `None`: a
    /// message that can't be published is looked after by alerts, and takes no replica out of service.
    pub ready_dead_outbox_max: Option<u64>,
    /// `CONTROL_AUDIENCE`: the identifier of the control resource.
    pub control_audience: String,
    /// `TRUST_PROXY`: whether the peer is what the nearest proxy says.
    pub trust_proxy: bool,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            admin_token: None,
            metrics_bearer: None,
            body_limit: 1_048_576,
            request_timeout: Duration::from_secs(30),
            rates: RateLimits::default(),
            last_used_debounce: Duration::from_secs(60),
            max_resources_per_zone: 100_000,
            ready_dead_outbox_max: None,
            control_audience: "caracal-control".to_owned(),
            trust_proxy: false,
        }
    }
}

impl ApiOptions {
    pub(crate) fn body_limits(&self) -> BodyLimits {
        BodyLimits {
            bytes: self.body_limit,
            time: self.request_timeout,
        }
    }
}

/// What the Admin API works with.
pub struct ApiParts {
    /// The store.
    pub store: Store,
    /// Where a reveal is recorded before the secret is shown.
    pub journal: Journal,
    /// Seals and opens stored secrets.
    pub keys: Arc<KeyRing>,
    /// Hashes generated secrets.
    pub peppers: Peppers,
    /// Makes the first signing key of a zone.
    pub zone_keys: Arc<dyn ZoneKeys>,
    /// Lets an audit search wait for the newest events.
    pub evidence: Arc<dyn EvidenceBarrier>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Ids and secrets.
    pub random: Arc<dyn Random>,
    /// The process's metrics.
    pub metrics: Metrics,
    /// What readiness asks for besides the store.
    pub dependencies: Dependencies,
}

/// The Admin API.
pub struct Api {
    pub(crate) options: ApiOptions,
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) peppers: Peppers,
    pub(crate) zone_keys: Arc<dyn ZoneKeys>,
    pub(crate) evidence: Arc<dyn EvidenceBarrier>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) limits: Limits,
    pub(crate) last_used: LastUsed,
    pub(crate) compiler: Compiler,
    pub(crate) hashing: Turns,
    metrics: Metrics,
    dependencies: Dependencies,
    draining: AtomicBool,
}

impl Api {
    /// Puts the role together; it serves nothing yet.
    #[must_use]
    pub fn new(options: ApiOptions, parts: ApiParts) -> Arc<Self> {
        let limits = Limits::new(options.rates, &parts.clock);
        Arc::new(Self {
            limits,
            last_used: LastUsed::new(Arc::clone(&parts.clock)),
            compiler: Compiler::default(),
            hashing: Turns::of(HASHES),
            options,
            store: parts.store,
            journal: parts.journal,
            keys: parts.keys,
            peppers: parts.peppers,
            zone_keys: parts.zone_keys,
            evidence: parts.evidence,
            clock: parts.clock,
            random: parts.random,
            metrics: parts.metrics,
            dependencies: parts.dependencies,
            draining: AtomicBool::new(false),
        })
    }

    /// Makes the configured admin token and the console's derived tokens work, and revokes those of
    /// earlier values. Call it once before serving; without a configured token it does nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the rows can't be written.
    pub async fn seed_tokens(&self) -> Result<(), StoreError> {
        match &self.options.admin_token {
            Some(token) => {
                authenticate::seed(&self.store, token, &*self.clock, &*self.random).await
            }
            None => Ok(()),
        }
    }

    /// The routes of the role: `/v1/**`, `/health`, `/ready`, `/metrics`.
    pub fn router(self: &Arc<Self>) -> Router {
        self.serving(self.operational())
    }

    /// The same without the operational routes, for a deployment that gives them a port of their own.
    pub fn service_router(self: &Arc<Self>) -> Router {
        self.serving(Router::new())
    }

    /// `/health`, `/ready` and `/metrics` alone.
    pub fn operations_router(self: &Arc<Self>) -> Router {
        self.operational().layer(self.observed())
    }

    fn serving(self: &Arc<Self>, mut router: Router) -> Router {
        for route in routes::all() {
            router = route.mount(router, self);
        }
        let unmatched = |api: Arc<Self>| {
            move |request: Request<axum::body::Body>| {
                let api = Arc::clone(&api);
                async move { pipeline::answer(api, None, request).await }
            }
        };
        router
            .fallback(unmatched(Arc::clone(self)))
            .method_not_allowed_fallback(unmatched(Arc::clone(self)))
            .layer(self.observed())
    }

    fn observed(&self) -> Observed {
        Observed::new(
            "api",
            Arc::clone(&self.clock),
            Arc::clone(&self.random),
            self.options.trust_proxy,
        )
    }

    /// Background work; ends, after a last flush, when `shutdown` is cancelled. Readiness says
    /// "draining" from then on.
    pub fn spawn_jobs(self: &Arc<Self>, shutdown: CancellationToken) -> Vec<JoinHandle<()>> {
        let api = Arc::clone(self);
        vec![tokio::spawn(async move { api.record_uses(shutdown).await })]
    }

    async fn record_uses(&self, shutdown: CancellationToken) {
        let period = self.options.last_used_debounce.max(Duration::from_secs(1));
        loop {
            let ended = tokio::select! {
                () = tokio::time::sleep(period) => false,
                () = shutdown.cancelled() => true,
            };
            if ended {
                self.draining.store(true, Ordering::SeqCst);
            }
            if let Err(error) = self.last_used.flush(&self.store).await {
                tracing::warn!(%error, "uses of admin tokens are not recorded");
            }
            if ended {
                return;
            }
        }
    }

    fn operational(self: &Arc<Self>) -> Router {
        let ops = Ops {
            readiness: Arc::new(ReadyCheck(Arc::clone(self))),
            health_body: Some(json!({ "ok": true })),
            access: MetricsAccess::new(self.options.mode, self.options.metrics_bearer.clone()),
            metrics: self.metrics.clone(),
            json: None,
        };
        let (health, ready, metrics) = (ops.clone(), ops.clone(), ops);
        let (ready_api, metrics_api) = (Arc::clone(self), Arc::clone(self));
        Router::new()
            .route("/health", get(move || async move { health.health() }))
            .route(
                "/ready",
                get(move |context: RequestContext| {
                    let (api, ops) = (Arc::clone(&ready_api), ready.clone());
                    async move { api.ready(&ops, context.peer).await }
                }),
            )
            .route(
                "/metrics",
                get(move |headers: HeaderMap| {
                    let (api, ops) = (Arc::clone(&metrics_api), metrics.clone());
                    async move { api.metrics(&ops, &headers).await }
                }),
            )
    }

    async fn ready(&self, ops: &Ops, peer: IpAddr) -> Response {
        match self.limits.ready(peer) {
            Ok(()) => ops.ready().await,
            Err(after) => Failure::from(ApiError::from(after)).into_response(),
        }
    }

    /// The outbox is the store's, so its gauges are read when somebody looks.
    async fn metrics(&self, ops: &Ops, headers: &HeaderMap) -> Response {
        if ops.access.allows(headers) {
            self.gauge_outbox().await;
        }
        ops.text(headers)
    }
}

impl Api {
    async fn gauge_outbox(&self) {
        let stats = match self.store.platform().outbox_stats().await {
            Ok(stats) => stats,
            Err(error) => {
                tracing::warn!(%error, "the outbox cannot be counted");
                return;
            }
        };
        let now = self.clock.now();
        let count = |status| gauge(stats.count(status));
        let age = |oldest: Option<Timestamp>| oldest.map_or(0.0, |at| now.since(at).as_secs_f64());
        metrics::gauge!("caracal_api_outbox_pending_total").set(count(OutboxStatus::Pending));
        metrics::gauge!("caracal_api_outbox_dead_total").set(count(OutboxStatus::Dead));
        metrics::gauge!("caracal_api_outbox_oldest_pending_age_seconds")
            .set(age(stats.oldest_pending));
        metrics::gauge!("caracal_api_outbox_oldest_dead_age_seconds").set(age(stats.oldest_dead));
    }
}

/// A count as a gauge takes it; beyond four billion it stands still.
fn gauge(count: i64) -> f64 {
    f64::from(u32::try_from(count.max(0)).unwrap_or(u32::MAX))
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

struct ReadyCheck(Arc<Api>);

#[async_trait]
impl Readiness for ReadyCheck {
    async fn check(&self) -> Result<(), NotReady> {
        let api = &self.0;
        if api.draining.load(Ordering::SeqCst) {
            return Err(NotReady::draining());
        }
        let (store, reason) = api.store.readiness_names();
        let unreachable = |_| NotReady::with_dependency(reason, store);
        api.store.ping().await.map_err(unreachable)?;
        let needed = api.dependencies.check().await;
        needed.map_err(|(name, reason)| NotReady::with_dependency(reason, name))?;
        let outbox = api.store.platform().outbox_stats().await;
        let outbox = outbox.map_err(|_| NotReady::with_dependency("outbox_unreachable", store))?;
        let dead = u64::try_from(outbox.count(OutboxStatus::Dead)).unwrap_or(0);
        match api.options.ready_dead_outbox_max {
            Some(limit) if dead > limit => {
                let mut not_ready = NotReady::with_dependency("outbox_dead_messages", store);
                not_ready.body["deadCount"] = json!(dead);
                not_ready.body["limit"] = json!(limit);
                Err(not_ready)
            }
            _ => Ok(()),
        }
    }

    fn ready_body(&self) -> Value {
        json!({ "ok": true })
    }
}
