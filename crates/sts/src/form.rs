//! Step 1: the bytes of `POST /oauth/2/token` become a [`TokenForm`], or are refused.
//!
//! The rules run in a fixed order and stop at the first that fails, so that a request with several
//! defects always gets the same answer. Parsing is strict (a bad percent escape, a raw `;` or bytes
//! that are not UTF-8 are errors): two readers of one body must never see two requests. Nothing here
//! looks at the store, so a malformed request leaves no trace.

pub(crate) mod fields;
#[cfg(test)]
mod tests;

use caracal_core::id::{AuthorityRecordId, DelegationId, SessionId};
use caracal_core::{Scope, ScopeSet, Secret};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use thiserror::Error;

use crate::gateway_leg;
use fields::{Fields, MalformedFields};

/// Largest body of a token request, bytes.
pub(crate) const MAX_BODY_BYTES: usize = 65_536;

/// Most distinct resources that one request may name: each costs a lookup and a decision.
pub(crate) const MAX_RESOURCES: usize = 256;

/// Longest `scope` that is looked at, bytes: no mandate could carry a longer one.
pub(crate) const MAX_SCOPE_BYTES: usize = 8_192;

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// A well-formed token request. Whether it is true is for the later steps.
#[derive(Debug)]
pub(crate) struct TokenForm {
    /// Trimmed, not empty.
    pub(crate) zone_id: Option<String>,
    /// Trimmed; empty names nobody.
    pub(crate) application_id: String,
    /// Empty proves nothing.
    pub(crate) client_secret: Secret<String>,
    /// Trimmed, not empty, distinct, in byte order.
    pub(crate) resources: Vec<String>,
    /// What is asked for.
    pub(crate) scope: RequestedScope,
    /// A token that speaks for somebody.
    pub(crate) subject: Option<SubjectToken>,
    /// The authority record (`session_id`).
    pub(crate) authority_record_id: Option<AuthorityRecordId>,
    /// The governed Session (`agent_session_id`).
    pub(crate) session_id: Option<SessionId>,
    /// The Delegation (`delegation_edge_id`).
    pub(crate) delegation_id: Option<DelegationId>,
    /// As sent; 0 and absent both ask for the default. The range is judged with the lifetime.
    pub(crate) ttl_seconds: Option<i64>,
    /// A hold that the caller believes approved.
    pub(crate) approval_id: Option<String>,
}

/// The `scope` parameter: the words in the caller's order for the claim, and as a set for judging.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestedScope {
    words: Vec<Scope>,
    set: ScopeSet,
}

impl RequestedScope {
    /// Splits on white space; order and repetition are kept for the claim.
    pub(crate) fn parse(text: &str) -> Self {
        let words: Vec<Scope> = text.split_whitespace().map(Scope::new).collect();
        let set = words.iter().cloned().collect();
        Self { words, set }
    }

    /// The words in the caller's order.
    pub(crate) fn words(&self) -> &[Scope] {
        &self.words
    }

    /// The distinct scopes.
    pub(crate) fn set(&self) -> &ScopeSet {
        &self.set
    }

    /// The `scope` claim; `None` when there is none, because verifiers refuse an empty one.
    pub(crate) fn to_claim(&self) -> Option<String> {
        let words: Vec<&str> = self.words.iter().map(Scope::as_str).collect();
        if words.is_empty() {
            None
        } else {
            Some(words.join(" "))
        }
    }
}

/// A subject token with its declared type.
#[derive(Debug)]
pub(crate) struct SubjectToken {
    /// A Caracal mandate or an external identity token.
    pub(crate) kind: SubjectTokenType,
    /// The token.
    pub(crate) token: Secret<String>,
}

/// `subject_token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubjectTokenType {
    /// A mandate of this STS.
    AccessToken,
    /// A token of a registered external issuer.
    IdToken,
}

/// Why a request is not a token form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MalformedForm {
    /// Parameters in the URL would end up in access logs.
    #[error("send the parameters in the body, not in the URL")]
    QueryString,
    /// Not `application/x-www-form-urlencoded`.
    #[error("the content type must be application/x-www-form-urlencoded")]
    MediaType,
    /// Over [`MAX_BODY_BYTES`].
    #[error("the body may have at most {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// The connection broke while the body was read.
    #[error("the body could not be read")]
    Unreadable,
    /// Not form data.
    #[error("the body is not form data: {0}")]
    Fields(#[from] MalformedFields),
    /// A field that may appear once appears again.
    #[error("the field {0} may appear only once")]
    Repeated(String),
    /// `actor_token`.
    #[error("actor_token is not supported")]
    ActorToken,
    /// `client_assertion` or `client_assertion_type`.
    #[error("{0} is not supported; authenticate with client_secret")]
    ClientAssertion(&'static str),
    /// `ttl_seconds` is no integer.
    #[error("ttl_seconds must be a whole number")]
    Ttl,
    /// A `resource` without a value.
    #[error("a resource must not be empty")]
    EmptyResource,
    /// More than [`MAX_RESOURCES`].
    #[error("at most {MAX_RESOURCES} resources may be named")]
    TooManyResources,
    /// Over [`MAX_SCOPE_BYTES`].
    #[error("scope may have at most {MAX_SCOPE_BYTES} bytes")]
    ScopeTooLong,
    /// Another grant type.
    #[error("grant_type must be {GRANT_TYPE}")]
    GrantType,
    /// Another token type.
    #[error("subject_token_type must be {ACCESS_TOKEN} or {ID_TOKEN}")]
    SubjectTokenType,
    /// One of the pair is missing.
    #[error("send subject_token and subject_token_type together")]
    SubjectTokenPair,
    /// A field of the Gateway's form is missing, unknown or not of its form.
    #[error("the field {0} is missing, unknown or malformed")]
    Field(&'static str),
    /// A text outside the id alphabet where an id belongs.
    #[error("{0} is not an id")]
    Id(&'static str),
}

/// Why the head or body of a token request is refused before anybody is authenticated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum FormRefused {
    /// A malformed request.
    #[error(transparent)]
    Malformed(#[from] MalformedForm),
    /// The request claims to come from the Gateway and does not prove it.
    #[error("the Gateway signature is not accepted")]
    GatewaySignature,
}

/// Rules 1 and 2: what the head of the request tells before the body is read.
pub(crate) fn judge_head(query: Option<&str>, headers: &HeaderMap) -> Result<(), MalformedForm> {
    if query.is_some_and(|query| !query.is_empty()) {
        return Err(MalformedForm::QueryString);
    }
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = media_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(())
    } else {
        Err(MalformedForm::MediaType)
    }
}

impl TokenForm {
    /// Rules 3 to 13, in order.
    pub(crate) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, FormRefused> {
        if body.len() > MAX_BODY_BYTES {
            return Err(MalformedForm::TooLarge.into());
        }
        let mut fields = Fields::parse(body).map_err(MalformedForm::Fields)?;
        fields.judge_repetition()?;
        refuse_unsupported(&fields)?;
        let ttl_seconds = parse_ttl(&fields.take("ttl_seconds"))?;
        if gateway_leg::is_claimed(headers) {
            return Err(FormRefused::GatewaySignature);
        }
        let resources = parse_resources(fields.take_resources())?;
        if fields.take("grant_type") != GRANT_TYPE {
            return Err(MalformedForm::GrantType.into());
        }
        let subject = parse_subject(&mut fields)?;
        Ok(Self {
            zone_id: present(fields.take("zone_id").trim()),
            application_id: fields.take("application_id").trim().to_owned(),
            client_secret: Secret::new(fields.take("client_secret")),
            resources,
            scope: parse_scope(&fields.take("scope"))?,
            subject,
            authority_record_id: fields.take_id("session_id")?,
            session_id: fields.take_id("agent_session_id")?,
            delegation_id: fields.take_id("delegation_edge_id")?,
            ttl_seconds,
            approval_id: present(&fields.take("approval_id")),
        })
    }
}

fn present(text: &str) -> Option<String> {
    if text.is_empty() {
        None
    } else {
        Some(text.to_owned())
    }
}

fn refuse_unsupported(fields: &Fields) -> Result<(), MalformedForm> {
    if fields.has("actor_token") {
        return Err(MalformedForm::ActorToken);
    }
    for name in ["client_assertion", "client_assertion_type"] {
        if fields.has(name) {
            return Err(MalformedForm::ClientAssertion(name));
        }
    }
    Ok(())
}

fn parse_ttl(text: &str) -> Result<Option<i64>, MalformedForm> {
    if text.is_empty() {
        return Ok(None);
    }
    let seconds: i64 = text.parse().map_err(|_| MalformedForm::Ttl)?;
    Ok(if seconds == 0 { None } else { Some(seconds) })
}

fn parse_resources(values: Vec<String>) -> Result<Vec<String>, MalformedForm> {
    let mut resources: Vec<String> = values
        .into_iter()
        .map(|value| value.trim().to_owned())
        .collect();
    if resources.iter().any(String::is_empty) {
        return Err(MalformedForm::EmptyResource);
    }
    resources.sort();
    resources.dedup();
    if resources.len() > MAX_RESOURCES {
        return Err(MalformedForm::TooManyResources);
    }
    Ok(resources)
}

fn parse_scope(text: &str) -> Result<RequestedScope, MalformedForm> {
    if text.len() > MAX_SCOPE_BYTES {
        return Err(MalformedForm::ScopeTooLong);
    }
    Ok(RequestedScope::parse(text))
}

fn parse_subject(fields: &mut Fields) -> Result<Option<SubjectToken>, MalformedForm> {
    let kind = match fields.take("subject_token_type").as_str() {
        "" => None,
        ACCESS_TOKEN => Some(SubjectTokenType::AccessToken),
        ID_TOKEN => Some(SubjectTokenType::IdToken),
        _ => return Err(MalformedForm::SubjectTokenType),
    };
    let token = fields.take("subject_token");
    match (kind, token.is_empty()) {
        (None, true) => Ok(None),
        (Some(kind), false) => Ok(Some(SubjectToken {
            kind,
            token: Secret::new(token),
        })),
        _ => Err(MalformedForm::SubjectTokenPair),
    }
}
