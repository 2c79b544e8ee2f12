//! Who calls: the first step of every request but the public ones, before any body is read.
//!
//! A mandate is verified against its own zone's keys and then judged against the provably fresh
//! state of that zone, so a revoked record or an archived application is refused from the moment on
//! that its revocation was answered. 401 is only ever about the credential: a client drops its token
//! on 401 and mints another.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use caracal_core::ScopeSet;
use caracal_core::id::ZoneId;
use caracal_crypto::{Claims, Expectation, MandateError, MandateUse, peek, verify};
use caracal_http::{Failure, RequestContext, bearer};
use caracal_store::entity::RecordStatus;
use http::Method;
use http::request::Parts;
use thiserror::Error;

use crate::Coordinator;
use crate::audit::Refused;
use crate::call::path_params;
use crate::caller::{Bearer, Caller};

/// The longest accepted bearer token, bytes.
pub(crate) const MAX_BEARER: usize = 4_096;

/// How far a mandate's `iat` may lie ahead, seconds.
pub(crate) const LEEWAY_SECONDS: i64 = 60;

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AuthenticationError {
    /// No usable `Authorization` header.
    #[error("send Authorization: Bearer with a lifecycle mandate")]
    MissingToken,
    /// Not a mandate that counts here.
    #[error("the bearer token is not a valid lifecycle mandate of this issuer")]
    InvalidToken,
    /// The application or the authority record behind the mandate is gone.
    #[error("the identity behind the mandate is no longer active; mint a new mandate")]
    IdentityRevoked,
    /// The mandate lacks the lifecycle scope.
    #[error("the mandate lacks the required scope")]
    MissingScope,
    /// The path is in another zone than the mandate.
    #[error("the mandate is of another zone")]
    ZoneMismatch,
    /// The operator asked for what is not there.
    #[error("there is no such route")]
    UnknownRoute,
    /// Keys or state can't be read now.
    #[error("the caller cannot be verified now: {0}")]
    Unavailable(String),
}

/// What the operator token may do, on matched routes.
const OPERATOR_ROUTES: [(Method, &str); 15] = [
    (Method::GET, "/zones/{zone_id}/agents"),
    (Method::GET, "/zones/{zone_id}/agents/{id}"),
    (Method::GET, "/zones/{zone_id}/agents/{id}/children"),
    (
        Method::GET,
        "/zones/{zone_id}/agents/{id}/effective-authority",
    ),
    (Method::PATCH, "/zones/{zone_id}/agents/{id}/suspend"),
    (Method::PATCH, "/zones/{zone_id}/agents/{id}/resume"),
    (Method::DELETE, "/zones/{zone_id}/agents/{id}"),
    (Method::GET, "/zones/{zone_id}/delegations/active"),
    (
        Method::GET,
        "/zones/{zone_id}/delegations/inbound/{session_id}",
    ),
    (
        Method::GET,
        "/zones/{zone_id}/delegations/inbound/{session_id}/{id}",
    ),
    (
        Method::GET,
        "/zones/{zone_id}/delegations/outbound/{session_id}",
    ),
    (Method::GET, "/zones/{zone_id}/delegations/{id}/traverse"),
    (Method::GET, "/zones/{zone_id}/delegations/{id}/impact"),
    (Method::PATCH, "/zones/{zone_id}/delegations/{id}/revoke"),
    (Method::POST, "/zones/{zone_id}/outbox/{id}/requeue"),
];

/// Authenticates, runs the rest, and keeps a refusal of an identified caller for the audit trail.
pub(crate) async fn authenticate(
    State(coordinator): State<Arc<Coordinator>>,
    context: RequestContext,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let params = path_params(&mut parts).await;
    let known = params.as_deref().unwrap_or_default();
    let caller = match coordinator.identify(&parts, known).await {
        Ok(caller) => caller,
        Err(error) => return Failure::from(error).into_response(),
    };
    let what = (&parts.method, parts.uri.path());
    let refused = Refused::of(&caller, &context.request_id, what, known);
    parts.extensions.insert(caller);
    let response = match params {
        Ok(_) => next.run(Request::from_parts(parts, body)).await,
        // The zone of the path is not known to be the caller's.
        Err(error) => Failure::from(error).into_response(),
    };
    if let Some(refused) = refused.by(&response) {
        coordinator.refusals.note(refused);
    }
    response
}

impl Coordinator {
    async fn identify(
        &self,
        parts: &Parts,
        params: &[(String, String)],
    ) -> Result<Caller, AuthenticationError> {
        let token = bearer::strict(&parts.headers)
            .filter(|token| token.len() <= MAX_BEARER)
            .ok_or(AuthenticationError::MissingToken)?;
        let zone = params.iter().find(|(name, _)| name == "zone_id");
        let zone = zone.map(|(_, value)| value.as_str());
        if self.is_operator(token) {
            let route = parts.extensions.get::<MatchedPath>();
            return operator(&parts.method, route, zone);
        }
        let claims = self.lifecycle_claims(token).await?;
        let scopes = ScopeSet::parse(claims.scope.as_deref().unwrap_or(""));
        if !scopes.contains(self.options.required_scope.as_str()) {
            return Err(AuthenticationError::MissingScope);
        }
        if zone.is_some_and(|zone| zone != claims.zone_id.as_str()) {
            return Err(AuthenticationError::ZoneMismatch);
        }
        self.require_live_identity(&claims).await?;
        Ok(Caller::Application(Arc::new(Bearer {
            zone: claims.zone_id.clone(),
            client_id: claims.client_id.clone(),
            subject: Arc::clone(&claims.sub),
            sid: claims.sid.clone(),
            scopes,
        })))
    }

    /// Compares with every token, so that the time does not tell which one is close.
    pub(crate) fn is_operator(&self, token: &str) -> bool {
        self.options
            .operator_tokens
            .iter()
            .filter(|expected| !expected.expose().is_empty())
            .fold(false, |found, expected| {
                found | bearer::equal(token, expected.expose())
            })
    }

    async fn lifecycle_claims(&self, token: &str) -> Result<Arc<Claims>, AuthenticationError> {
        let zone = peek(token)
            .ok()
            .and_then(|peek| peek.zone_id)
            .ok_or(AuthenticationError::InvalidToken)?;
        self.session_mandate(token, &zone).await?.map_err(|error| {
            tracing::info!(zone = %zone, class = %error, "jwt_verify_failed");
            AuthenticationError::InvalidToken
        })
    }

    /// Verifies a mandate of use `session` with the keys of `zone`.
    pub(crate) async fn session_mandate(
        &self,
        token: &str,
        zone: &ZoneId,
    ) -> Result<Result<Arc<Claims>, MandateError>, AuthenticationError> {
        let keys = self
            .keys
            .verifying_keys(zone)
            .await
            .map_err(|error| AuthenticationError::Unavailable(error.to_string()))?;
        let Some(keys) = keys else {
            return Ok(Err(MandateError::ZoneMismatch));
        };
        let expectation = Expectation {
            issuer: &self.options.issuer,
            audience: &self.options.issuer,
            zone,
            uses: &[MandateUse::Session],
            now: self.clock.now(),
            leeway_seconds: LEEWAY_SECONDS,
        };
        Ok(verify(token, &keys, &expectation).map(|mandate| Arc::clone(mandate.claims())))
    }

    async fn require_live_identity(&self, claims: &Claims) -> Result<(), AuthenticationError> {
        let unavailable = |error| AuthenticationError::Unavailable(format!("{error}"));
        let now = self.clock.now();
        let view = self
            .authority
            .fresh(&claims.zone_id)
            .await
            .map_err(unavailable)?;
        let zone = view.zone().await.map_err(unavailable)?;
        let application = view
            .application(&claims.client_id)
            .await
            .map_err(unavailable)?;
        let record = view
            .authority_record(&claims.sid)
            .await
            .map_err(unavailable)?;
        let root = view
            .authority_record(&claims.root_sid)
            .await
            .map_err(unavailable)?;
        let live = zone.is_some_and(|zone| zone.is_live())
            && application.is_some_and(|application| application.is_live(now))
            && record.is_some_and(|record| record.is_live(now))
            && root.is_none_or(|root| root.status != RecordStatus::Revoked);
        if live {
            Ok(())
        } else {
            Err(AuthenticationError::IdentityRevoked)
        }
    }
}

fn operator(
    method: &Method,
    route: Option<&MatchedPath>,
    zone: Option<&str>,
) -> Result<Caller, AuthenticationError> {
    let route = route.ok_or(AuthenticationError::UnknownRoute)?.as_str();
    let allowed = OPERATOR_ROUTES
        .iter()
        .any(|(held, path)| held == method && *path == route);
    match zone.and_then(|zone| ZoneId::parse(zone).ok()) {
        Some(zone) if allowed => Ok(Caller::Operator(zone)),
        _ => Err(AuthenticationError::InvalidToken),
    }
}
