//! What happens around every request of an axum role.
//!
//! [`Observed`] gives the request its context, times it, turns a panic into a 500, and puts the
//! request id on the answer and into its error body.

use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::MatchedPath;
use axum::response::IntoResponse;
use caracal_core::{Clock, Random, RequestId};
use futures_util::FutureExt;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::context::{RequestContext, TraceContext};
use crate::failure::Failure;
use crate::serve::Peer;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A metrics reason that a handler attaches to its response (as an extension) when the answer is not
/// a [`Failure`].
#[derive(Debug, Clone, Copy)]
pub struct Reason(pub &'static str);

/// The layer; put it outermost on the role's router with [`axum::Router::layer`].
#[derive(Debug, Clone)]
pub struct Observed {
    role: &'static str,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    trust_proxy: bool,
}

impl Observed {
    /// For the role of this name. With `trust_proxy` the right-most `X-Forwarded-For` entry, the one
    /// that the nearest proxy wrote, is the peer.
    #[must_use]
    pub fn new(
        role: &'static str,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        trust_proxy: bool,
    ) -> Self {
        Self {
            role,
            clock,
            random,
            trust_proxy,
        }
    }

    fn context(&self, request: &Request<Body>) -> RequestContext {
        let headers = request.headers();
        let offered = headers
            .get(&REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        RequestContext {
            request_id: RequestId::accept(offered, &*self.clock, &*self.random),
            trace: TraceContext::from_headers(headers),
            peer: self.peer(request),
        }
    }

    fn peer(&self, request: &Request<Body>) -> IpAddr {
        let direct = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
        let forwarded = || {
            let value = request
                .headers()
                .get_all("x-forwarded-for")
                .iter()
                .next_back()?;
            value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
        };
        let forwarded: Option<IpAddr> = if self.trust_proxy { forwarded() } else { None };
        forwarded
            .or(direct)
            .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

impl<S> Layer<S> for Observed {
    type Service = ObservedService<S>;

    fn layer(&self, inner: S) -> ObservedService<S> {
        ObservedService {
            inner,
            observed: self.clone(),
        }
    }
}

/// The service that [`Observed`] makes.
#[derive(Debug, Clone)]
pub struct ObservedService<S> {
    inner: S,
    observed: Observed,
}

impl<S> Service<Request<Body>> for ObservedService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let context = self.observed.context(&request);
        let route = request.extensions().get::<MatchedPath>().map_or_else(
            || Arc::from("unmatched"),
            |path| Arc::<str>::from(path.as_str()),
        );
        let method = request.method().clone();
        request.extensions_mut().insert(context.clone());
        let role = self.observed.role;
        let began = Instant::now();
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        Box::pin(async move {
            let response = match answer.await {
                Ok(Ok(response)) => response,
                Ok(Err(never)) => match never {},
                Err(_) => {
                    tracing::error!(request_id = %context.request_id, role, "handler panicked");
                    Failure::internal().into_response()
                }
            };
            let (response, reason) = finish(response, &context);
            record(role, &route, response.status().as_u16(), reason, began);
            log(role, &method, &route, response.status(), reason, &context);
            Ok(response)
        })
    }
}

/// Failures and refusals are worth a line by default; what was answered well only when debugging.
fn log(
    role: &'static str,
    method: &Method,
    route: &str,
    status: StatusCode,
    reason: &'static str,
    context: &RequestContext,
) {
    let (request_id, trace_id) = (&context.request_id, context.trace.trace_id());
    let status = status.as_u16();
    match status {
        0..=399 => tracing::debug!(role, %method, route, status, %request_id, trace_id, "answered"),
        400..=499 => {
            tracing::info!(role, %method, route, status, reason, %request_id, trace_id, "refused");
        }
        _ => tracing::warn!(role, %method, route, status, reason, %request_id, trace_id, "failed"),
    }
}

fn finish(
    mut response: Response<Body>,
    context: &RequestContext,
) -> (Response<Body>, &'static str) {
    let mut reason = response
        .extensions()
        .get::<Reason>()
        .map_or("", |reason| reason.0);
    if let Some(failure) = response.extensions_mut().remove::<Failure>() {
        reason = failure.reason();
        let rendered = failure.render(Some(&context.request_id));
        let (parts, body) = rendered.into_parts();
        for (name, value) in &parts.headers {
            response.headers_mut().insert(name, value.clone());
        }
        response.headers_mut().remove(http::header::CONTENT_LENGTH);
        *response.body_mut() = Body::from(body);
    }
    if let Ok(value) = HeaderValue::from_str(context.request_id.as_str()) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    (response, reason)
}

/// Records one finished request in `caracal_request_duration_seconds{role,route,outcome,reason}`.
pub fn record(role: &'static str, route: &str, status: u16, reason: &'static str, began: Instant) {
    let outcome = match status {
        0..=399 => "ok",
        400..=499 => "refused",
        _ => "failed",
    };
    metrics::histogram!(
        "caracal_request_duration_seconds",
        "role" => role, "route" => route.to_owned(), "outcome" => outcome, "reason" => reason
    )
    .record(began.elapsed().as_secs_f64());
}
