//! `/health`, `/ready`, `/metrics` and `/stats`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use caracal_http::ops::Metrics;
use caracal_http::{Failure, NotReady, Observed, Readiness, bearer};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use thiserror::Error;

use crate::Coordinator;
use crate::error::ReadError;
use crate::limits;

/// Why metrics are not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum MetricsDenied {
    /// No token.
    #[error("metrics need the metrics bearer or the operator token")]
    Unauthorized,
    /// A token that is neither.
    #[error("the token is neither the metrics bearer nor the operator token")]
    WrongToken,
}

#[derive(Clone)]
struct OpsState {
    coordinator: Arc<Coordinator>,
    metrics: Metrics,
}

#[async_trait]
impl Readiness for Coordinator {
    async fn check(&self) -> Result<(), NotReady> {
        if self.is_draining() {
            return Err(NotReady::draining());
        }
        self.store.ping().await.map_err(|error| {
            tracing::warn!(%error, "ready_store_unreachable");
            NotReady::with_dependency("postgres_unreachable", "postgres")
        })?;
        let needed = self.dependencies.check().await;
        needed.map_err(|(name, reason)| NotReady::with_dependency(reason, name))
    }

    fn ready_body(&self) -> Value {
        json!({ "ok": true })
    }
}

/// The operational routes of the Coordinator.
pub(crate) fn router(coordinator: &Arc<Coordinator>, metrics: Metrics) -> Router {
    let state = OpsState {
        coordinator: Arc::clone(coordinator),
        metrics,
    };
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/stats", get(stats))
        .with_state(state)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&coordinator.limits),
            limits::count,
        ))
        .layer(coordinator.observed())
}

async fn health() -> Response {
    Json(json!({ "ok": true })).into_response()
}

/// Answers within the store's own bounded wait.
async fn ready(State(state): State<OpsState>) -> Response {
    let (status, body) = match state.coordinator.check().await {
        Ok(()) => (StatusCode::OK, state.coordinator.ready_body()),
        Err(not_ready) => (StatusCode::SERVICE_UNAVAILABLE, not_ready.body),
    };
    let mut response = (status, Json(body)).into_response();
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn metrics_text(State(state): State<OpsState>, request: Request) -> Response {
    if let Err(denied) = state.coordinator.may_read_metrics(request.headers()) {
        return Failure::from(denied).into_response();
    }
    let mut response = state.metrics.render().into_response();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}

async fn stats(State(state): State<OpsState>, request: Request) -> Result<Response, Failure> {
    state.coordinator.may_read_metrics(request.headers())?;
    let document = state.coordinator.stats().await.map_err(ReadError::from)?;
    Ok(Json(document).into_response())
}

impl Coordinator {
    /// The metrics bearer and the operator token read metrics; everybody does on a developer's
    /// machine that has neither.
    fn may_read_metrics(&self, headers: &HeaderMap) -> Result<(), MetricsDenied> {
        let options = &self.options;
        let is_protected = options.metrics_bearer.is_some() || !options.operator_tokens.is_empty();
        if !is_protected && !options.mode.is_published() {
            return Ok(());
        }
        let token = bearer::strict(headers).ok_or(MetricsDenied::Unauthorized)?;
        let expected = options.metrics_bearer.as_ref();
        let is_reader = expected.is_some_and(|expected| bearer::equal(token, expected.expose()));
        if is_reader | self.is_operator(token) {
            Ok(())
        } else {
            Err(MetricsDenied::WrongToken)
        }
    }

    pub(crate) fn observed(&self) -> Observed {
        Observed::new(
            "coordinator",
            Arc::clone(&self.clock),
            Arc::clone(&self.random),
            self.options.trust_proxy,
        )
    }
}
