//! Health, readiness, metrics and the forced refresh.
//!
//! On the service port these paths win over proxying, for exactly these names; a deployment with an
//! operations port of its own turns that off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use axum::response::IntoResponse;
use axum::routing::{any, post};
use bytes::Bytes;
use caracal_core::{Clock, Secret};
use caracal_http::ops::{Metrics, Ops};
use caracal_http::{MetricsAccess, NotReady, Readiness, bearer};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use crate::anchors::Anchors;
use crate::audit::Recorder;
use crate::exchange::Exchanger;
use crate::meter::Meter;
use crate::options::GatewayOptions;
use crate::replay::ReplayMarks;

const RELOAD_PATH: &str = "/internal/revocations/reload";

/// The operational endpoints.
#[derive(Clone)]
pub(crate) struct Operations {
    ops: Ops,
    state: Arc<State>,
}

struct State {
    meter: Arc<Meter>,
    anchors: Arc<Anchors>,
    marks: Arc<dyn ReplayMarks>,
    exchanger: Arc<Exchanger>,
    recorder: Arc<Recorder>,
    clock: Arc<dyn Clock>,
    admin_token: Option<Secret<String>>,
    draining: AtomicBool,
}

impl Operations {
    #[allow(clippy::too_many_arguments, reason = "takes what it reports on, once")]
    pub(crate) fn new(
        options: &GatewayOptions,
        metrics: Metrics,
        meter: Arc<Meter>,
        anchors: Arc<Anchors>,
        marks: Arc<dyn ReplayMarks>,
        exchanger: Arc<Exchanger>,
        recorder: Arc<Recorder>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let state = Arc::new(State {
            meter,
            anchors,
            marks,
            exchanger,
            recorder,
            clock,
            admin_token: options.admin_token.clone(),
            draining: AtomicBool::new(false),
        });
        let documented = Arc::clone(&state);
        let ops = Ops {
            readiness: Arc::clone(&state) as Arc<dyn Readiness>,
            health_body: None,
            access: MetricsAccess::new(options.mode, options.metrics_bearer.clone()),
            metrics,
            json: Some(Arc::new(move || documented.meter.to_json())),
        };
        Self { ops, state }
    }

    /// From now on the Gateway is not ready.
    pub(crate) fn drain(&self) {
        self.state.draining.store(true, Ordering::Release);
    }

    /// Brings the gauges up to date.
    pub(crate) fn refresh(&self) {
        self.state.refresh();
    }

    /// Answers a request for an operational path; `None` for any other.
    pub(crate) async fn answer(&self, head: &Parts) -> Option<Response<Bytes>> {
        let answer = match head.uri.path() {
            "/health" => self.ops.health(),
            "/ready" => self.ops.ready().await,
            "/metrics" => self.metrics(&head.headers),
            "/metrics.json" => self.metrics_json(&head.headers),
            RELOAD_PATH if head.method == Method::POST => self.reload(&head.headers).await,
            _ => return None,
        };
        let (parts, body) = answer.into_parts();
        let bytes = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        Some(Response::from_parts(parts, bytes.unwrap_or_default()))
    }

    /// The same paths as a router.
    pub(crate) fn router(&self) -> axum::Router {
        let (health, ready) = (self.clone(), self.clone());
        let (text, json, reload) = (self.clone(), self.clone(), self.clone());
        axum::Router::new()
            .route("/health", any(move || async move { health.ops.health() }))
            .route(
                "/ready",
                any(move || async move { ready.ops.ready().await }),
            )
            .route(
                "/metrics",
                any(move |headers: HeaderMap| async move { text.metrics(&headers) }),
            )
            .route(
                "/metrics.json",
                any(move |headers: HeaderMap| async move { json.metrics_json(&headers) }),
            )
            .route(
                RELOAD_PATH,
                post(move |headers: HeaderMap| async move { reload.reload(&headers).await }),
            )
    }

    fn metrics(&self, headers: &HeaderMap) -> axum::response::Response {
        self.state.refresh();
        self.ops.text(headers)
    }

    fn metrics_json(&self, headers: &HeaderMap) -> axum::response::Response {
        self.state.refresh();
        self.ops.json_document(headers)
    }

    /// Without the admin token the endpoint does not exist.
    async fn reload(&self, headers: &HeaderMap) -> axum::response::Response {
        let state = &self.state;
        let allowed = state.admin_token.as_ref().is_some_and(|expected| {
            bearer::strict(headers).is_some_and(|sent| bearer::equal(sent, expected.expose()))
        });
        if !allowed {
            return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
        }
        state.meter.revocation_reloads.add();
        match state.anchors.probe().await {
            Ok(()) => axum::Json(json!({ "ok": true, "revocations": 0 })).into_response(),
            Err(_) => {
                state.meter.revocation_reload_errors.add();
                let not_ready = NotReady::with_reason("revocation_reload_failed");
                (StatusCode::SERVICE_UNAVAILABLE, axum::Json(not_ready.body)).into_response()
            }
        }
    }
}

impl State {
    fn refresh(&self) {
        let meter = &self.meter;
        meter.observe_journal(&self.recorder.journal().gauges(self.clock.now()));
        meter.replay_marks.set(self.marks.held());
        self.exchanger.observe();
        let (fresh, age) = self.anchors.freshness();
        meter.barrier_fresh.set(u64::from(fresh));
        meter.barrier_age.set(age.as_secs());
    }
}

#[async_trait]
impl Readiness for State {
    async fn check(&self) -> Result<(), NotReady> {
        if self.draining.load(Ordering::Acquire) {
            return Err(NotReady::with_reason("draining"));
        }
        if self.marks.check().await.is_err() {
            return Err(NotReady::with_reason("redis_unreachable"));
        }
        if self.anchors.probe().await.is_err() {
            return Err(NotReady::with_reason("revocation_snapshot_stale"));
        }
        let journal = self.recorder.journal().gauges(self.clock.now());
        if journal.dropped > 0 {
            return Err(NotReady::with_reason("audit_evidence_lost"));
        }
        if self.recorder.journal().probe().await.is_err() {
            return Err(NotReady::with_reason("audit_replay_unavailable"));
        }
        if !self.exchanger.reachable().await {
            return Err(NotReady::with_reason("sts_unreachable"));
        }
        Ok(())
    }
}
