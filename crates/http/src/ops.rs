//! Health, readiness and metrics.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use caracal_core::{Mode, Secret};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use thiserror::Error;

/// Longest time that a readiness check may take.
const READY_BUDGET: Duration = Duration::from_secs(2);

/// Upper bounds, seconds, of the latency histograms' buckets.
const LATENCY_BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// Upper bounds of the histograms of how many were served together.
const SIZE_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 512.0];

/// A role is not ready; `body` is the JSON that the role's operators expect.
#[derive(Debug, Clone)]
pub struct NotReady {
    /// Short machine reason (`postgres_unreachable`, `audit_evidence_lost`, …).
    pub reason: &'static str,
    /// The 503 body.
    pub body: Value,
}

impl NotReady {
    /// `{"ok":false,"ready":false,"reason":…}`: STS, Gateway and Audit.
    #[must_use]
    pub fn with_reason(reason: &'static str) -> Self {
        let body = serde_json::json!({ "ok": false, "ready": false, "reason": reason });
        Self { reason, body }
    }

    /// `{"ok":false,"error":…,"dependency":…}`: Admin API and Coordinator.
    #[must_use]
    pub fn with_dependency(error: &'static str, dependency: &'static str) -> Self {
        let body = serde_json::json!({
            "ok": false, "error": error, "dependency": dependency, "reason": error
        });
        Self {
            reason: error,
            body,
        }
    }

    /// `{"ok":false,"draining":true}`: shutdown has begun.
    #[must_use]
    pub fn draining() -> Self {
        let body = serde_json::json!({ "ok": false, "draining": true, "reason": "draining" });
        Self {
            reason: "draining",
            body,
        }
    }
}

/// What a role must have to take traffic.
#[async_trait]
pub trait Readiness: Send + Sync {
    /// Checks in the role's documented order; the first failure answers.
    ///
    /// # Errors
    /// [`NotReady`] with the role's body.
    async fn check(&self) -> Result<(), NotReady>;

    /// The 200 body.
    fn ready_body(&self) -> Value {
        serde_json::json!({ "ok": true, "ready": true })
    }
}

/// Something outside the process that a role can't work without.
#[async_trait]
pub trait Dependency: Send + Sync {
    /// Its name in readiness bodies (`redis`, …).
    fn name(&self) -> &'static str;

    /// Whether it can be used now.
    ///
    /// # Errors
    /// The machine reason (`redis_unreachable`, …).
    async fn check(&self) -> Result<(), &'static str>;
}

/// What a role needs beyond its store, in the order in which readiness asks.
#[derive(Clone, Default)]
pub struct Dependencies(Vec<Arc<dyn Dependency>>);

impl Dependencies {
    /// These, in this order.
    #[must_use]
    pub fn new(dependencies: Vec<Arc<dyn Dependency>>) -> Self {
        Self(dependencies)
    }

    /// Asks each; the first that can't be used answers with its name and reason.
    ///
    /// # Errors
    /// The name and the reason.
    pub async fn check(&self) -> Result<(), (&'static str, &'static str)> {
        for dependency in &self.0 {
            let checked = dependency.check().await;
            checked.map_err(|reason| (dependency.name(), reason))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Dependencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.iter().map(|dependency| dependency.name());
        f.debug_list().entries(names).finish()
    }
}

/// A role's own readiness, and then what it needs beyond its store.
#[derive(Clone)]
pub struct WithDependencies {
    /// The role's own.
    pub role: Arc<dyn Readiness>,
    /// The rest.
    pub dependencies: Dependencies,
}

#[async_trait]
impl Readiness for WithDependencies {
    async fn check(&self) -> Result<(), NotReady> {
        self.role.check().await?;
        let checked = self.dependencies.check().await;
        checked.map_err(|(_, reason)| NotReady::with_reason(reason))
    }

    fn ready_body(&self) -> Value {
        self.role.ready_body()
    }
}

/// Who may read metrics: the bearer, or everybody in `dev` when none is set.
#[derive(Debug, Clone)]
pub struct MetricsAccess {
    mode: Mode,
    bearer: Option<Secret<String>>,
}

impl MetricsAccess {
    /// With `METRICS_BEARER`, or none.
    #[must_use]
    pub fn new(mode: Mode, bearer: Option<Secret<String>>) -> Self {
        Self { mode, bearer }
    }

    /// Whether these request headers may read metrics. The whole header value is compared.
    #[must_use]
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        match &self.bearer {
            None => !self.mode.is_published(),
            Some(bearer) => {
                let expected = Secret::new(format!("Bearer {}", bearer.expose()));
                headers
                    .get(AUTHORIZATION)
                    .and_then(|value| value.to_str().ok())
                    .is_some_and(|value| crate::bearer::equal(value, expected.expose()))
            }
        }
    }
}

/// The process's metrics, rendered on demand.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

/// The metrics recorder could not be installed.
#[derive(Debug, Error)]
#[error("metrics could not be set up: {0}")]
pub struct MetricsSetup(String);

impl Metrics {
    /// Installs the process-wide recorder; call once.
    ///
    /// # Errors
    /// [`MetricsSetup`] when a recorder is already installed.
    pub fn install() -> Result<Self, MetricsSetup> {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), &SIZE_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder)
            .map(Self)
            .map_err(|error| MetricsSetup(error.to_string()))
    }

    /// A handle that is not the process-wide recorder: for tests of routers.
    #[must_use]
    pub fn detached() -> Self {
        Self(PrometheusBuilder::new().build_recorder().handle())
    }

    /// Prometheus text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Moves recorded samples into their buckets; call every few seconds.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// Gives the role's `/metrics.json` document.
pub type JsonMetrics = Arc<dyn Fn() -> Value + Send + Sync>;

/// The operational routes of a role.
#[derive(Clone)]
pub struct Ops {
    /// What `/ready` checks.
    pub readiness: Arc<dyn Readiness>,
    /// The 200 body of `/health`; empty for STS, Gateway and Audit.
    pub health_body: Option<Value>,
    /// Who may read metrics.
    pub access: MetricsAccess,
    /// The process's metrics.
    pub metrics: Metrics,
    /// `/metrics.json`, where the role has one.
    pub json: Option<JsonMetrics>,
}

impl Ops {
    /// `/health`, `/ready`, `/metrics` and, where the role has one, `/metrics.json`.
    pub fn routes(self) -> Router {
        let mut router = Router::new();
        let (health, ready, metrics) = (self.clone(), self.clone(), self.clone());
        router = router
            .route("/health", get(move || async move { health.health() }))
            .route("/ready", get(move || async move { ready.ready().await }))
            .route(
                "/metrics",
                get(move |headers: HeaderMap| async move { metrics.text(&headers) }),
            );
        if self.json.is_some() {
            let json = self;
            router = router.route(
                "/metrics.json",
                get(move |headers: HeaderMap| async move { json.json_document(&headers) }),
            );
        }
        router
    }

    /// Answers `/health` without touching anything.
    #[must_use]
    pub fn health(&self) -> Response {
        match &self.health_body {
            Some(body) => json_response(StatusCode::OK, body),
            None => StatusCode::OK.into_response(),
        }
    }

    /// Answers `/ready` within two seconds.
    pub async fn ready(&self) -> Response {
        let checked = tokio::time::timeout(READY_BUDGET, self.readiness.check()).await;
        match checked.unwrap_or_else(|_| Err(NotReady::with_reason("readiness_timeout"))) {
            Ok(()) => json_response(StatusCode::OK, &self.readiness.ready_body()),
            Err(not_ready) => json_response(StatusCode::SERVICE_UNAVAILABLE, &not_ready.body),
        }
    }

    /// Answers `/metrics`.
    #[must_use]
    pub fn text(&self, headers: &HeaderMap) -> Response {
        if !self.access.allows(headers) {
            return unauthorized();
        }
        let mut response = Response::new(Body::from(self.metrics.render()));
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
        );
        response
    }

    /// Answers `/metrics.json`.
    #[must_use]
    pub fn json_document(&self, headers: &HeaderMap) -> Response {
        match &self.json {
            Some(json) if self.access.allows(headers) => json_response(StatusCode::OK, &json()),
            Some(_) => unauthorized(),
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, "unauthorized\n").into_response()
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_bearer(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn without_a_bearer_metrics_are_open_in_dev_only() {
        assert!(MetricsAccess::new(Mode::Dev, None).allows(&HeaderMap::new()));
        assert!(!MetricsAccess::new(Mode::Stable, None).allows(&HeaderMap::new()));
    }

    #[test]
    fn the_whole_header_is_compared() {
        let access = MetricsAccess::new(Mode::Dev, Some(Secret::new("token".to_owned())));
        assert!(access.allows(&with_bearer("Bearer token")));
        assert!(!access.allows(&with_bearer("bearer token")));
        assert!(!access.allows(&with_bearer("Bearer token ")));
        assert!(!access.allows(&HeaderMap::new()));
    }
}
