//! One shape for every error that leaves a role.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use caracal_core::{ErrorBody, RequestId};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};

/// An error answer: status, JSON body, and what goes with it.
///
/// The request id is added by [`crate::observe`], so handlers need not carry it.
#[derive(Debug, Clone)]
pub struct Failure {
    status: StatusCode,
    body: ErrorBody,
    extension: Map<String, Value>,
    retry_after: Option<Duration>,
    headers: HeaderMap,
    reason: &'static str,
}

impl Failure {
    /// An answer with this status and machine code; the code is also the metrics reason.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str) -> Self {
        Self {
            status,
            body: ErrorBody::new(code),
            extension: Map::new(),
            retry_after: None,
            headers: HeaderMap::new(),
            reason: code,
        }
    }

    /// 503 with `Retry-After`: a dependency failed; the request may be tried again.
    #[must_use]
    pub fn unavailable(code: &'static str, what: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code)
            .describe(what)
            .retry_after(Duration::from_secs(1))
    }

    /// 429 with `Retry-After`.
    #[must_use]
    pub fn too_many(code: &'static str, retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, code)
            .describe("too many requests; wait for the time in Retry-After")
            .retry_after(retry_after)
    }

    /// 500 without detail: the cause is in the log, not in the answer.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error")
            .describe("the service failed to process the request")
    }

    /// Says what happened and what to do.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.body = self.body.describe(description);
        self
    }

    /// Adds `details`.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.body = self.body.with_details(details);
        self
    }

    /// Adds a top-level member beside `error`.
    #[must_use]
    pub fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extension.insert(name.to_owned(), value.into());
        self
    }

    /// Adds many top-level members beside `error`.
    #[must_use]
    pub fn with_members(mut self, members: Map<String, Value>) -> Self {
        self.extension.extend(members);
        self
    }

    /// Tells the client when to try again; rounded up to whole seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// Uses another metrics reason than the code.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The machine code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.body.error
    }

    /// The description, if any.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.body.error_description.as_deref()
    }

    /// The metrics reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// The whole answer, with the request id in body and header when it is known.
    #[must_use]
    pub fn render(&self, request_id: Option<&RequestId>) -> http::Response<Bytes> {
        let mut body = self.body.clone();
        if let Some(id) = request_id {
            body = body.with_request_id(id);
        }
        let mut object = match serde_json::to_value(&body) {
            Ok(Value::Object(object)) => object,
            _ => Map::new(),
        };
        for (name, value) in &self.extension {
            object.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let mut response = http::Response::new(Bytes::from(Value::Object(object).to_string()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.render(None).map(axum::body::Body::from);
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_request_id_goes_out_under_both_names() {
        let id = RequestId::accept(
            Some("req-1"),
            &caracal_core::SystemClock,
            &caracal_core::SystemRandom,
        );
        let answer = Failure::too_many("rate_limited", Duration::from_millis(1200))
            .with_member("max", 3)
            .render(Some(&id));
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["error"], "rate_limited");
        assert_eq!(body["requestId"], "req-1");
        assert_eq!(body["request_id"], "req-1");
        assert_eq!(body["max"], json!(3));
    }

    #[test]
    fn a_member_never_replaces_the_code() {
        let answer = Failure::internal()
            .with_member("error", "other")
            .render(None);
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(body["error"], "internal_error");
    }
}
