//! The HTTP surface.
//!
//! All routes need `AUDIT_ADMIN_TOKEN`; without one configured they answer 404, as if they were not
//! there. The dead-letter routes (`/api/audit/dlq`) answer 404: this role sets nothing aside that
//! could be replayed, refused events are alerts in the ledger.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use caracal_core::Secret;
use caracal_core::id::ZoneId;
use caracal_http::bearer;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::Inner;
use crate::export::{ExportError, export};
use crate::search::{SearchError, search};

pub(crate) fn router(inner: Arc<Inner>, admin_token: Option<Secret<String>>) -> Router {
    let Some(token) = admin_token else {
        return Router::new();
    };
    let token = Arc::new(token);
    Router::new()
        .route("/api/audit/search", get(get_search))
        .route("/api/audit/export", get(get_export))
        .with_state(inner)
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
    let zone = form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "zone_id")
        .and_then(|(_, value)| ZoneId::parse(&value).ok());
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

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

fn no_store(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
