//! `POST /v1/verify`: a mandate's claims for services that can't verify mandates themselves.
//!
//! Public, so it is limited per address. Beyond the signature it asks the zone's fresh state: a
//! mandate whose zone, application, record, Session or edge has been withdrawn is invalid, whatever
//! its `exp` says.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use caracal_core::id::ZoneId;
use caracal_core::{ScopeSet, Secret};
use caracal_crypto::{Claims, Expectation, MandateUse, verify as verify_mandate};
use caracal_http::{Failure, RequestContext, RetryAfter};
use caracal_store::Unavailable;
use caracal_store::entity::RecordStatus;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::Coordinator;
use crate::answer;
use crate::authenticate::LEEWAY_SECONDS;
use crate::body::{self, BodyError, Fields, read_json};

/// Why a verification gives no claims.
#[derive(Debug, Error)]
pub(crate) enum VerifyError {
    /// Too many calls from one address.
    #[error("too many verifications")]
    RateLimited(RetryAfter),
    /// The body is not a request.
    #[error(transparent)]
    Request(#[from] BodyError),
    /// Neither `token` nor `authorization`.
    #[error("send token or authorization")]
    MissingToken,
    /// The mandate is not valid here and now.
    #[error("the token is not a valid mandate of the zone")]
    TokenInvalid,
    /// Keys or state can't be read now.
    #[error("the token cannot be verified now: {0}")]
    Unavailable(String),
}

impl From<Unavailable> for VerifyError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error.to_string())
    }
}

struct VerifyRequest {
    zone: ZoneId,
    token: Option<Secret<String>>,
    required_scope: Option<String>,
    require_session: bool,
    require_delegation: bool,
}

impl VerifyRequest {
    fn parse(body: Option<Value>) -> Result<Self, BodyError> {
        let mut fields = Fields::of(body)?;
        fields.only(&[
            "zone_id",
            "token",
            "authorization",
            "required_scope",
            "require_session",
            "require_delegation",
        ]);
        let zone = fields.required("zone_id", body::id);
        let token = fields.optional("token", body::any_text);
        let authorization = fields.optional("authorization", body::any_text);
        let required_scope = fields.optional("required_scope", body::any_text);
        let require_session = fields.optional("require_session", body::boolean);
        let require_delegation = fields.optional("require_delegation", body::boolean);
        let header = authorization
            .as_deref()
            .map(|header| header.strip_prefix("Bearer ").unwrap_or(header).to_owned());
        fields.finish(zone.map(|zone| {
            Self {
                zone,
                token: token
                    .or(header)
                    .filter(|token| !token.is_empty())
                    .map(Secret::new),
                required_scope,
                require_session: require_session.unwrap_or(false),
                require_delegation: require_delegation.unwrap_or(false),
            }
        }))
    }
}

/// `POST /v1/verify`
pub(crate) async fn verify(
    State(coordinator): State<Arc<Coordinator>>,
    context: RequestContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    coordinator
        .limits
        .verification(context.peer)
        .map_err(VerifyError::RateLimited)?;
    let body = read_json(&headers, body, coordinator.options.body_limit).await;
    let request = body
        .and_then(VerifyRequest::parse)
        .map_err(VerifyError::from)?;
    let claims = coordinator.verified_claims(&request).await?;
    let body = json!({ "valid": true, "claims": claims });
    Ok(answer::json(StatusCode::OK, body.to_string()))
}

impl Coordinator {
    async fn verified_claims(&self, request: &VerifyRequest) -> Result<Value, VerifyError> {
        let token = request.token.as_ref().ok_or(VerifyError::MissingToken)?;
        let keys = self.keys.verifying_keys(&request.zone).await;
        let keys = keys
            .map_err(|error| VerifyError::Unavailable(error.to_string()))?
            .ok_or(VerifyError::TokenInvalid)?;
        let expectation = Expectation {
            issuer: &self.options.issuer,
            audience: &self.options.issuer,
            zone: &request.zone,
            uses: &[MandateUse::Session, MandateUse::Resource],
            now: self.clock.now(),
            leeway_seconds: LEEWAY_SECONDS,
        };
        let mandate = verify_mandate(token.expose(), &keys, &expectation);
        let mandate = mandate.map_err(|_| VerifyError::TokenInvalid)?;
        let claims = mandate.claims();
        if has_what_was_asked(claims, request) && self.is_unrevoked(claims).await? {
            Ok(camel_case(claims))
        } else {
            Err(VerifyError::TokenInvalid)
        }
    }

    async fn is_unrevoked(&self, claims: &Claims) -> Result<bool, Unavailable> {
        let now = self.clock.now();
        let view = self.authority.fresh(&claims.zone_id).await?;
        if !view.zone().await?.is_some_and(|zone| zone.is_live()) {
            return Ok(false);
        }
        let application = view.application(&claims.client_id).await?;
        if !application.is_some_and(|application| application.is_live(now)) {
            return Ok(false);
        }
        for record in [&claims.sid, &claims.root_sid] {
            let record = view.authority_record(record).await?;
            if record.is_some_and(|record| record.status == RecordStatus::Revoked) {
                return Ok(false);
            }
        }
        if let Some(id) = &claims.agent_session_id {
            let session = view.session(id).await?;
            if !session.is_some_and(|session| session.is_effectively_live(now)) {
                return Ok(false);
            }
        }
        if let Some(id) = &claims.delegation_edge_id {
            let edge = view.delegation(id).await?;
            return Ok(edge.is_some_and(|edge| edge.is_live(now)));
        }
        Ok(true)
    }
}

fn has_what_was_asked(claims: &Claims, request: &VerifyRequest) -> bool {
    let scopes = ScopeSet::parse(claims.scope.as_deref().unwrap_or(""));
    request
        .required_scope
        .as_ref()
        .is_none_or(|scope| scopes.contains(scope))
        && (!request.require_session || claims.agent_session_id.is_some())
        && (!request.require_delegation || claims.delegation_edge_id.is_some())
}

fn camel_case(claims: &Claims) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            out.insert(name.to_owned(), value);
        }
    };
    put("sub", json!(&*claims.sub));
    put("zoneId", json!(claims.zone_id));
    put("clientId", json!(claims.client_id));
    put("authorityRecordId", json!(claims.sid));
    put("rootAuthorityRecordId", json!(claims.root_sid));
    put("use", json!(claims.mandate_use));
    put("subType", json!(claims.sub_type));
    put("jti", json!(claims.jti));
    put("issuedAt", json!(claims.iat.seconds()));
    put("expiresAt", json!(claims.exp.seconds()));
    put("scope", json!(claims.scope.as_deref().unwrap_or("")));
    if !claims.target.is_empty() {
        put("targetResources", json!(claims.target));
    }
    put("sessionId", json!(claims.agent_session_id));
    put("delegationId", json!(claims.delegation_edge_id));
    put("sourceSessionId", json!(claims.source_session_id));
    put("targetSessionId", json!(claims.target_session_id));
    if !claims.delegation_path.is_empty() {
        put("delegationPath", json!(claims.delegation_path));
    }
    let hops: Vec<Value> = claims
        .delegation_chain
        .iter()
        .map(|hop| {
            json!({
                "applicationId": hop.application_id,
                "sessionId": hop.agent_session_id,
                "delegationId": hop.delegation_edge_id,
            })
        })
        .collect();
    if !hops.is_empty() {
        put("delegationChain", json!(hops));
        put("graphEpoch", json!(claims.delegation_graph_epoch));
        put("hopCount", json!(claims.hop_count));
    }
    Value::Object(out)
}
