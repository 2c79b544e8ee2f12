//! `/api/audit/dlq`: what was set aside.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;

use super::{no_store, parameter, plain};
use crate::Inner;
use crate::stream::dead::{self, Start};
use crate::stream::{EvidenceQueue, QueueError};

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

#[derive(Clone)]
struct Letters {
    inner: Arc<Inner>,
    queue: Arc<dyn EvidenceQueue>,
}

pub(super) fn router(inner: &Arc<Inner>, queue: &Arc<dyn EvidenceQueue>) -> Router {
    Router::new()
        .route("/api/audit/dlq", get(list))
        .route("/api/audit/dlq/replay", post(replay))
        .route("/api/audit/dlq/{id}", get(show).delete(bury))
        .with_state(Letters {
            inner: Arc::clone(inner),
            queue: Arc::clone(queue),
        })
}

async fn list(State(letters): State<Letters>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let Some(limit) = limit(&query) else {
        return bad_limit();
    };
    let start = start(parameter(&query, "start"));
    let now = letters.inner.parts.clock.now();
    match dead::list(&*letters.queue, &start, limit, now).await {
        Ok(page) => no_store(Json(page).into_response()),
        Err(error) => failed(&error, "dlq list failed\n"),
    }
}

async fn show(State(letters): State<Letters>, Path(id): Path<String>) -> Response {
    let now = letters.inner.parts.clock.now();
    match dead::show(&*letters.queue, &id, now).await {
        Ok(Some(detail)) => no_store(Json(detail).into_response()),
        Ok(None) | Err(QueueError::BadId) => not_found(),
        Err(error) => failed(&error, "dlq detail failed\n"),
    }
}

async fn bury(State(letters): State<Letters>, Path(id): Path<String>) -> Response {
    match letters.queue.bury(&id).await {
        Ok(true) => {
            tracing::warn!(letter = id, "an audit dead letter was deleted");
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(false) | Err(QueueError::BadId) => not_found(),
        Err(error) => failed(&error, "dlq delete failed\n"),
    }
}

async fn replay(State(letters): State<Letters>, RawQuery(query): RawQuery) -> Response {
    let Some(limit) = limit(&query.unwrap_or_default()) else {
        return bad_limit();
    };
    match dead::replay(&*letters.queue, limit).await {
        Ok(done) => no_store(Json(done).into_response()),
        Err(error) => failed(&error, "dlq replay failed\n"),
    }
}

fn limit(query: &str) -> Option<usize> {
    let Some(text) = parameter(query, "limit") else {
        return Some(DEFAULT_LIMIT);
    };
    let limit = text.parse::<usize>().ok().filter(|limit| *limit > 0);
    limit.map(|limit| limit.min(MAX_LIMIT))
}

/// `-` or nothing: the first; `(<id>`: behind it.
fn start(text: Option<String>) -> Start {
    match text {
        None => Start::First,
        Some(text) if text == "-" => Start::First,
        Some(text) => match text.strip_prefix('(') {
            Some(id) => Start::Behind(id.to_owned()),
            None => Start::At(text),
        },
    }
}

fn bad_limit() -> Response {
    plain(
        StatusCode::BAD_REQUEST,
        "limit must be a positive integer\n",
    )
}

fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "no such dead letter\n")
}

fn failed(error: &QueueError, text: &'static str) -> Response {
    match error {
        QueueError::BadId => plain(StatusCode::BAD_REQUEST, "start is not the id of an entry\n"),
        QueueError::Unavailable(what) => {
            tracing::error!(what, "audit dead letters can't be reached");
            plain(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}
