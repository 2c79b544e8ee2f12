//! The HTTP surface.
//!
//! All routes need `AUDIT_ADMIN_TOKEN`; without one configured they answer 404, as if they were not
//! there. The dead-letter routes (`/api/audit/dlq`) exist where evidence arrives over the stream; over
//! a log nothing is set aside, refused events are alerts in the ledger.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use caracal_core::Secret;
use caracal_core::id::{EventId, ZoneId};
use caracal_http::bearer;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::export::{ExportError, export};
use crate::search::{SearchError, search};
use crate::{Inner, Source, lost};

mod letters;

pub(crate) fn router(inner: Arc<Inner>, admin_token: Option<Secret<String>>) -> Router {
    let Some(token) = admin_token else {
        return Router::new();
    };
    let token = Arc::new(token);
    let dead_letters = match &inner.parts.source {
        Source::Log(_) => Router::new(),
        Source::Stream(queue) => letters::router(&inner, queue),
    };
    Router::new()
        .route("/api/audit/search", get(get_search))
        .route("/api/audit/export", get(get_export))
        .route("/api/audit/evidence-lost", get(get_lost))
        .route(
            "/api/audit/evidence-lost/acknowledge",
            post(post_acknowledge),
        )
        .with_state(inner)
        .merge(dead_letters)
        .layer(from_fn(move |request: Request, next: Next| {
            let token = Arc::clone(&token);
            async move {
                if is_admin(request.headers(), &token) {
                    next.run(request).await
                } else {
                    unauthorized()
                }
            }
        }))
}

/// Strips one `Bearer ` and compares in constant time; a bare token is accepted too.
fn is_admin(headers: &HeaderMap, token: &Secret<String>) -> bool {
    let value = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    value.is_some_and(|value| {
        bearer::equal(
            value.strip_prefix("Bearer ").unwrap_or(value),
            token.expose(),
        )
    })
}

fn unauthorized() -> Response {
    let mut response = plain(StatusCode::UNAUTHORIZED, "unauthorized\n");
    let challenge = HeaderValue::from_static("Bearer realm=\"caracal-audit\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

async fn get_search(State(inner): State<Arc<Inner>>, RawQuery(query): RawQuery) -> Response {
    match search(&inner, &query.unwrap_or_default()).await {
        Ok(page) => no_store(Json(page).into_response()),
        Err(SearchError::ZoneRequired) => plain(StatusCode::BAD_REQUEST, "zone_id is required\n"),
        Err(SearchError::Ledger(error)) => {
            tracing::error!(%error, "audit search failed");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "search failed\n")
        }
    }
}

async fn get_export(State(inner): State<Arc<Inner>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let zone = parameter(&query, "zone_id").and_then(|value| ZoneId::parse(&value).ok());
    let Some(zone) = zone else {
        return plain(StatusCode::BAD_REQUEST, "zone_id is required\n");
    };
    match export(inner, zone).await {
        Ok(chunks) => {
            let mut response = no_store(Response::new(Body::from_stream(chunks)));
            let kind = HeaderValue::from_static("application/jsonl");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(ExportError::NoCheckpoint) => {
            plain(StatusCode::NOT_FOUND, "the zone has no checkpoint\n")
        }
        Err(error) => {
            tracing::error!(%error, "audit export failed");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "export failed\n")
        }
    }
}

/// What is lost and not acknowledged.
async fn get_lost(State(inner): State<Arc<Inner>>) -> Response {
    match inner.parts.ledger.lost().await {
        Ok(lost) => {
            let oldest = lost.oldest.map(|alert| {
                json!({
                    "id": alert.id.as_str(),
                    "kind": alert.kind,
                    "detail": serde_json::from_str::<Value>(&alert.detail).unwrap_or_default(),
                    "raised_at": alert.raised_at.to_rfc3339_micros(),
                })
            });
            no_store(
                Json(json!({ "unacknowledged": lost.alerts, "oldest": oldest })).into_response(),
            )
        }
        Err(error) => {
            tracing::error!(%error, "alerts about lost evidence can't be read");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "lookup failed\n")
        }
    }
}

/// Acknowledges one alert about lost evidence (`?id=`), or all of them.
async fn post_acknowledge(State(inner): State<Arc<Inner>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let id = parameter(&query, "id").map(|id| EventId::parse(&id));
    let Ok(id) = id.transpose() else {
        return plain(StatusCode::BAD_REQUEST, "id is not the id of an alert\n");
    };
    let now = inner.parts.clock.now();
    let acknowledged = match inner.parts.ledger.acknowledge(id.as_ref(), now).await {
        Ok(acknowledged) => acknowledged,
        Err(error) => {
            tracing::error!(%error, "lost evidence could not be acknowledged");
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "acknowledge failed\n");
        }
    };
    if let Err(error) = lost::look(&inner).await {
        tracing::warn!(%error, "alerts about lost evidence can't be read");
    }
    no_store(Json(json!({ "acknowledged": acknowledged })).into_response())
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(held, _)| held == name)
        .map(|(_, value)| value.into_owned())
        .filter(|value| !value.is_empty())
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

fn no_store(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
