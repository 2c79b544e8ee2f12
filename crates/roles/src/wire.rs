//! What passes between a Gateway and an STS in another process: a signed form, a versioned answer.
//!
//! Both ends use this module, so that there is one reading of every field. An answer carries the
//! upstream's credential: its bytes are a [`Secret`], and so is every credential read from them. The
//! reader takes nothing that it does not know: another version, an unknown member or an answer to
//! another request is refused, because a directive that is half understood may send a credential to
//! the wrong place.

mod answer;

pub use answer::{Answer, UnreadableAnswer, decode, encode_grant, encode_refusal, encode_standing};

use std::time::Duration;

use caracal_core::Secret;

use crate::ExchangeRequest;

/// Where a call is exchanged.
pub const EXCHANGE_PATH: &str = "/oauth/2/token";

/// Where a running call is judged again.
pub const STILL_GRANTED_PATH: &str = "/internal/gateway/still-granted";

/// The version of form and answer.
pub const VERSION: u32 = 1;

/// Longest answer, bytes: a mandate, a directive and its credential with room to spare.
pub const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// `grant_type` of the form (RFC 8693 §2.1).
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// `subject_token_type` of the form (RFC 8693 §3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The form's fields. Each appears exactly once, and no other may appear.
pub mod field {
    /// [`super::VERSION`].
    pub const VERSION: &str = "exchange_version";
    /// [`super::GRANT_TYPE`].
    pub const GRANT_TYPE: &str = "grant_type";
    /// The zone of the presented mandate.
    pub const ZONE: &str = "zone_id";
    /// The application of the presented mandate.
    pub const APPLICATION: &str = "application_id";
    /// The presented mandate.
    pub const SUBJECT_TOKEN: &str = "subject_token";
    /// [`super::ACCESS_TOKEN`].
    pub const SUBJECT_TOKEN_TYPE: &str = "subject_token_type";
    /// The named resource.
    pub const RESOURCE: &str = "resource";
    /// The call's method, as received.
    pub const METHOD: &str = "request_method";
    /// The call's path, as received: percent-encoding kept, no query.
    pub const PATH: &str = "request_path";
    /// The correlation id, the same as in the `X-Request-Id` header.
    pub const REQUEST_ID: &str = "gateway_request_id";
    /// How long an answer is waited for, milliseconds from the sending of the form.
    pub const DEADLINE_MS: &str = "deadline_ms";

    /// All of them.
    pub const ALL: [&str; 11] = [
        VERSION,
        GRANT_TYPE,
        ZONE,
        APPLICATION,
        SUBJECT_TOKEN,
        SUBJECT_TOKEN_TYPE,
        RESOURCE,
        METHOD,
        PATH,
        REQUEST_ID,
        DEADLINE_MS,
    ];
}

/// The form that asks about `request`. The STS stops working on it after `deadline`.
#[must_use]
pub fn encode_form(request: &ExchangeRequest, deadline: Duration) -> Secret<String> {
    let claims = request.mandate.claims();
    let token = request.mandate.token();
    // Room for the worst case, so that no copy of the token is left behind by growing.
    let room = 1_024 + 3 * (token.len() + request.path.raw().len() + request.method.len());
    let mut form = form_urlencoded::Serializer::new(String::with_capacity(
        room + 3 * request.resource.as_str().len(),
    ));
    form.append_pair(field::VERSION, &VERSION.to_string());
    form.append_pair(field::GRANT_TYPE, GRANT_TYPE);
    form.append_pair(field::ZONE, claims.zone_id.as_str());
    form.append_pair(field::APPLICATION, claims.client_id.as_str());
    form.append_pair(field::SUBJECT_TOKEN, token);
    form.append_pair(field::SUBJECT_TOKEN_TYPE, ACCESS_TOKEN);
    form.append_pair(field::RESOURCE, request.resource.as_str());
    form.append_pair(field::METHOD, &request.method);
    form.append_pair(field::PATH, request.path.raw());
    form.append_pair(field::REQUEST_ID, request.request_id.as_str());
    form.append_pair(field::DEADLINE_MS, &deadline.as_millis().to_string());
    Secret::new(form.finish())
}
