//! Policies: named documents, kept as immutable versions.

mod change;
pub(crate) mod compile;
mod create;
mod read;
mod validate;

pub(crate) use change::{add_version, delete};
pub(crate) use create::create;
pub(crate) use read::{list, read};
pub(crate) use validate::{templates, validate};

use caracal_core::id::PolicyVersionId;
use caracal_crypto::sha256_hex;
use caracal_policy::{DocumentError, SCHEMA_VERSION};
use caracal_store::NewPolicyVersion;
use serde_json::json;

use crate::api::Api;
use crate::attribution;
use crate::error::{ApiError, Code};
use crate::request::Call;

/// The most characters of a policy's or a set's name.
pub(crate) const MAX_NAME: usize = 512;
/// The most characters of a description.
pub(crate) const MAX_DESCRIPTION: usize = 4_096;

/// The answer to a document that is refused.
fn refused(error: &DocumentError) -> ApiError {
    let refusal = ApiError::from(Code::InvalidRego).describe(error.code());
    match error.line() {
        Some(line) => refusal.with_details(json!({ "line": line })),
        None => refusal,
    }
}

/// A version of exactly this text.
fn version(
    api: &Api,
    call: &Call,
    policy: &caracal_core::id::PolicyId,
    content: &str,
) -> NewPolicyVersion {
    NewPolicyVersion {
        id: PolicyVersionId::generate(&*api.clock, &*api.random),
        policy_id: policy.clone(),
        content: content.into(),
        content_sha256: sha256_hex(content.as_bytes()),
        schema_version: SCHEMA_VERSION.to_owned(),
        author: attribution::author(&call.actor),
    }
}
