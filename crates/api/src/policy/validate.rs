//! What can be asked before anything is saved.

use std::sync::Arc;

use caracal_policy::{SCHEMA_VERSION, templates as all_templates};
use serde_json::json;

use super::refused;
use crate::api::Api;
use crate::error::{ApiError, Code};
use crate::reply::Reply;
use crate::request::Call;
use crate::request::fields::{Fields, Text};

/// `POST /v1/policies/validate`: whether a document would be accepted, and what it declares.
pub(crate) async fn validate(api: Arc<Api>, call: Call) -> Result<Reply, ApiError> {
    let mut fields = Fields::of(call.body, Code::InvalidBody)?;
    let Text(content) = fields.required::<Text<1, { usize::MAX }>>("content")?;
    let parsed = api.compiler.parse(content).await?;
    let document = parsed.map_err(|error| refused(&error).with_member("valid", false))?;
    Reply::ok(&json!({
        "valid": true,
        "schema_version": SCHEMA_VERSION,
        "input_schema_version": SCHEMA_VERSION,
        "output_contract": {
            "package": "caracal.authz",
            "rule": "result",
            "decision": ["allow", "deny"],
            "evaluation_status": ["complete"],
        },
        "preview": document.preview(),
    }))
}

/// `GET /v1/policy-templates`: a bare array.
pub(crate) async fn templates(_: Arc<Api>, _: Call) -> Result<Reply, ApiError> {
    Reply::ok(&all_templates())
}
