//! Successful answers.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::error::{ApiError, Code};

/// A successful answer.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Nothing,
    Json(Vec<u8>),
    Csv { filename: String, text: String },
}

impl Reply {
    /// 200 with a JSON body.
    pub(crate) fn ok(body: &impl Serialize) -> Result<Self, ApiError> {
        Self::json(StatusCode::OK, body)
    }

    /// 201 with a JSON body.
    pub(crate) fn created(body: &impl Serialize) -> Result<Self, ApiError> {
        Self::json(StatusCode::CREATED, body)
    }

    /// A JSON body with another status.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Result<Self, ApiError> {
        let bytes = serde_json::to_vec(body).map_err(|error| {
            tracing::error!(%error, "an answer does not serialise");
            ApiError::from(Code::Internal)
        })?;
        Ok(Self {
            status,
            content: Content::Json(bytes),
        })
    }

    /// 204.
    pub(crate) fn no_content() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            content: Content::Nothing,
        }
    }

    /// A CSV attachment; `filename` is made of ids and constants.
    pub(crate) fn csv(filename: String, text: String) -> Self {
        Self {
            status: StatusCode::OK,
            content: Content::Csv { filename, text },
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let (body, kind, filename) = match self.content {
            Content::Nothing => (Body::empty(), None, None),
            Content::Json(bytes) => (
                Body::from(bytes),
                Some("application/json; charset=utf-8"),
                None,
            ),
            Content::Csv { filename, text } => (
                Body::from(text),
                Some("text/csv; charset=utf-8"),
                Some(filename),
            ),
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        if let Some(kind) = kind {
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let disposition = filename.map(|name| format!("attachment; filename=\"{name}\""));
        if let Some(Ok(value)) = disposition.as_deref().map(HeaderValue::from_str) {
            response.headers_mut().insert(CONTENT_DISPOSITION, value);
        }
        response
    }
}
