//! The error body that every role answers.

use serde::Serialize;
use serde_json::Value;

use crate::id::RequestId;

/// One JSON object that satisfies every published client: they read `error`, and the request id as
/// `requestId` (STS, Gateway) or `request_id` (Coordinator); ids go out under both names.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorBody {
    /// The machine code.
    pub error: &'static str,
    /// What happened and what to do, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_description: Option<String>,
    /// The correlation id.
    #[serde(rename = "requestId", skip_serializing_if = "Option::is_none")]
    pub request_id_camel: Option<RequestId>,
    /// The same id, snake case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// Structured detail, such as the failing fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl ErrorBody {
    /// A body with only a code.
    #[must_use]
    pub fn new(error: &'static str) -> Self {
        Self {
            error,
            error_description: None,
            request_id_camel: None,
            request_id: None,
            details: None,
        }
    }

    /// Adds what happened and what to do.
    #[must_use]
    pub fn describe(mut self, description: impl Into<String>) -> Self {
        self.error_description = Some(description.into());
        self
    }

    /// Adds the correlation id, under both names.
    #[must_use]
    pub fn with_request_id(mut self, id: &RequestId) -> Self {
        self.request_id_camel = Some(id.clone());
        self.request_id = Some(id.clone());
        self
    }

    /// Adds structured detail.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
}
