//! Why an exchange is refused, and what each refusal answers: status, code, audit status, in one
//! place.
//!
//! A step returns its own small error; here they meet. Three kinds never mix: a malformed request is
//! 4xx and leaves no trace, a verdict is 401, 403 or 404 and leaves evidence, and trouble of a
//! dependency is 503, because "I can't tell" must not look like "no".

use std::borrow::Cow;
use std::time::Duration;

use caracal_core::id::{ApplicationId, ZoneId};
use caracal_crypto::MandateError;
use caracal_http::Failure;
use caracal_roles::{ExchangeRefusal, RefusalOrigin};
use caracal_store::{StoreError, Unavailable as StoreUnavailable};
use http::StatusCode;
use serde_json::Map;
use thiserror::Error;

use crate::directive::CredentialRefused;
use crate::form::{FormRefused, MalformedForm};
use crate::lifetime::{NoLifeLeft, TtlOutOfRange};
use crate::lineage::{DelegationInvalid, SessionInvalid};
use crate::operation::OperationRefused;

/// When to try again after a dependency failed.
const RETRY: Duration = Duration::from_secs(1);

/// A refused exchange.
#[derive(Debug, Clone, Error)]
pub(crate) enum Refusal {
    /// Not a token request.
    #[error(transparent)]
    Form(#[from] FormRefused),
    /// No such application, or the secret is wrong: one answer for both.
    #[error("invalid client credentials")]
    ClientCredentials,
    /// Too many wrong secrets from this source for this application.
    #[error("too many failed authentications; wait for the time in Retry-After")]
    ClientThrottled(Duration),
    /// The secret is right and the zone is not.
    #[error("application {application} belongs to zone {actual}, not to zone {named}")]
    ZoneMismatch {
        /// The application.
        application: ApplicationId,
        /// The zone that the request named.
        named: ZoneId,
        /// The application's zone.
        actual: ZoneId,
    },
    /// Only a federation may name no resource.
    #[error("name at least one resource")]
    NoResource,
    /// `ttl_seconds` outside its range.
    #[error(transparent)]
    Ttl(#[from] TtlOutOfRange),
    /// A federation request with fields that it may not have.
    #[error("a federation takes no {0}")]
    FederationField(&'static str),
    /// An external token whose issuer the zone does not know.
    #[error("the subject token is not accepted")]
    FederationRejected,
    /// The subject token is no live mandate of this zone.
    #[error("the subject token is not accepted: {0}")]
    SubjectToken(MandateError),
    /// A form field contradicts the subject token.
    #[error("{0} differs from the subject token")]
    SubjectMismatch(&'static str),
    /// Resource exchanges are the Gateway's.
    #[error("a mandate is exchanged at the Gateway; mint with the application's own credentials")]
    DirectSubjectExchange,
    /// `approval_id` names no hold that fits.
    #[error("the approval is not valid for this request")]
    ApprovalInvalid,
    /// Policy wants a person's approval first.
    #[error("policy denied (approval_unavailable)")]
    ApprovalUnavailable,
    /// The named authority record may not be used.
    #[error("the authority record is not active, or not this application's")]
    AuthorityRecord,
    /// The Session does not carry authority.
    #[error(transparent)]
    Session(#[from] SessionInvalid),
    /// The Delegation does not carry authority.
    #[error(transparent)]
    Delegation(#[from] DelegationInvalid),
    /// No declared operation allows the call.
    #[error(transparent)]
    Operation(#[from] OperationRefused),
    /// The control resource by any other way than a control key.
    #[error("tokens for the control plane are minted by control keys only")]
    ControlResource,
    /// The zone's policy can't be evaluated.
    #[error("the zone's policy cannot be evaluated now; try again")]
    PolicyUnavailable,
    /// Nothing was granted.
    #[error("{}", denied(.0.as_deref()))]
    Denied(Option<Cow<'static, str>>),
    /// No requested resource exists.
    #[error("the zone has no such resource")]
    ResourceNotFound,
    /// No requested resource has all requested scopes.
    #[error("a requested scope is not declared on the resource")]
    ScopeInsufficient,
    /// Every requested resource is over its mint limit.
    #[error("the mint limit is reached; wait for the time in Retry-After")]
    MintLimited(Duration),
    /// An ancestor is about to end.
    #[error(transparent)]
    NoLifeLeft(#[from] NoLifeLeft),
    /// A Delegation's budget of mandates is used up.
    #[error("the budget of the Delegation is used up")]
    BudgetExhausted,
    /// The upstream credential cannot be given.
    #[error(transparent)]
    Credential(#[from] CredentialRefused),
    /// The mandate would be too long for any verifier.
    #[error("the mandate would be too long; ask for fewer resources or scopes")]
    MandateTooLarge,
    /// A dependency failed; the text is for the log.
    #[error("the service cannot decide now; try again")]
    Unavailable(String),
    /// Our own failure; the text is for the log.
    #[error("the service failed to process the request")]
    Internal(String),
}

fn denied(reason: Option<&str>) -> String {
    reason.map_or_else(
        || "policy denied".to_owned(),
        |reason| format!("policy denied ({reason})"),
    )
}

impl Refusal {
    /// A dependency failed; `cause` is for the log.
    pub(crate) fn unavailable(cause: impl Into<String>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Status and code.
    pub(crate) fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Form(FormRefused::Malformed(malformed)) => malformed_answer(malformed),
            Self::NoResource | Self::Ttl(_) | Self::FederationField(_) | Self::MandateTooLarge => {
                (StatusCode::BAD_REQUEST, "invalid_request")
            }
            Self::SubjectToken(_) | Self::FederationRejected => {
                (StatusCode::UNAUTHORIZED, "invalid_token")
            }
            Self::Form(FormRefused::GatewaySignature)
            | Self::ClientCredentials
            | Self::ApprovalInvalid => (StatusCode::UNAUTHORIZED, "access_denied"),
            Self::ClientThrottled(_) | Self::MintLimited(_) => {
                (StatusCode::TOO_MANY_REQUESTS, "provider_rate_limited")
            }
            Self::ZoneMismatch { .. } => (StatusCode::FORBIDDEN, "zone_invalid"),
            Self::ResourceNotFound => (StatusCode::NOT_FOUND, "resource_not_found"),
            Self::ScopeInsufficient => (StatusCode::FORBIDDEN, "scope_insufficient"),
            Self::Operation(_) => (StatusCode::FORBIDDEN, "operation_not_permitted"),
            Self::BudgetExhausted => (StatusCode::FORBIDDEN, "delegation_budget_exhausted"),
            Self::Denied(_)
            | Self::SubjectMismatch(_)
            | Self::DirectSubjectExchange
            | Self::ApprovalUnavailable
            | Self::AuthorityRecord
            | Self::Session(_)
            | Self::Delegation(_)
            | Self::ControlResource
            | Self::NoLifeLeft(_) => (StatusCode::FORBIDDEN, "access_denied"),
            Self::Credential(refused) if refused.is_denial() => {
                (StatusCode::FORBIDDEN, "access_denied")
            }
            Self::Credential(_) => (StatusCode::BAD_GATEWAY, "http_request_failed"),
            Self::PolicyUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "policy_eval_failed"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "sts_unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    /// The `evaluation_status` of the deny event that this refusal leaves; `None` where nobody was
    /// identified, or where nothing was decided.
    pub(crate) fn audit_status(&self) -> Option<&'static str> {
        match self {
            Self::Form(_)
            | Self::ClientCredentials
            | Self::ClientThrottled(_)
            | Self::PolicyUnavailable
            | Self::Unavailable(_)
            | Self::Internal(_) => None,
            Self::ZoneMismatch { .. } => Some("zone_invalid"),
            Self::FederationField(_) => Some("subject_federation_invalid"),
            Self::FederationRejected => Some("subject_federation_rejected"),
            Self::SubjectToken(_) | Self::SubjectMismatch(_) => Some("subject_token_invalid"),
            Self::ApprovalInvalid => Some("approval_invalid"),
            Self::ApprovalUnavailable => Some("approval_unavailable"),
            Self::AuthorityRecord => Some("authority_record_invalid"),
            Self::Session(_) => Some("session_invalid"),
            Self::Delegation(_) => Some("delegation_invalid"),
            Self::Operation(_) => Some("operation_not_permitted"),
            Self::ControlResource => Some("control_resource_requires_control_key"),
            Self::Ttl(_) | Self::NoLifeLeft(_) => Some("ttl_invalid"),
            Self::BudgetExhausted => Some("delegation_budget_exhausted"),
            Self::Credential(refused) => Some(refused.audit_status()),
            Self::NoResource
            | Self::DirectSubjectExchange
            | Self::Denied(_)
            | Self::ResourceNotFound
            | Self::ScopeInsufficient
            | Self::MintLimited(_)
            | Self::MandateTooLarge => Some("exchange_denied"),
        }
    }

    /// The `reason` member of that event.
    pub(crate) fn audit_reason(&self) -> Cow<'static, str> {
        match self {
            Self::Credential(refused) => Cow::Borrowed(refused.audit_reason()),
            other => Cow::Owned(other.to_string()),
        }
    }

    /// When to try again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ClientThrottled(after) | Self::MintLimited(after) => Some(*after),
            Self::Unavailable(_) | Self::PolicyUnavailable => Some(RETRY),
            _ => None,
        }
    }

    /// What the log says and the answer does not.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::Unavailable(cause) | Self::Internal(cause) => Some(cause),
            _ => None,
        }
    }
}

fn malformed_answer(malformed: &MalformedForm) -> (StatusCode, &'static str) {
    match malformed {
        MalformedForm::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request"),
        MalformedForm::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
        _ => (StatusCode::BAD_REQUEST, "invalid_request"),
    }
}

/// What the store can't answer now is trouble of a dependency; what it must not hold is ours.
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(error.to_string()),
            StoreError::Conflict(_) | StoreError::Corrupt { .. } => {
                Self::Internal(error.to_string())
            }
        }
    }
}

impl From<StoreUnavailable> for Refusal {
    fn from(StoreUnavailable(error): StoreUnavailable) -> Self {
        error.into()
    }
}

impl From<MalformedForm> for Refusal {
    fn from(malformed: MalformedForm) -> Self {
        Self::Form(malformed.into())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = refusal.status_and_code();
        let failure = Self::new(status, code).describe(refusal.to_string());
        match refusal.retry_after() {
            Some(after) => failure.retry_after(after),
            None => failure,
        }
    }
}

impl From<Refusal> for ExchangeRefusal {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = refusal.status_and_code();
        Self {
            status: status.as_u16(),
            code: Cow::Borrowed(code),
            description: refusal.to_string(),
            retry_after: refusal.retry_after(),
            extension: Map::new(),
            origin: RefusalOrigin::Sts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_of_a_dependency_is_always_a_503_that_says_when_to_return() {
        for refusal in [
            Refusal::unavailable("the store is busy"),
            Refusal::PolicyUnavailable,
        ] {
            assert_eq!(refusal.status_and_code().0, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refusal.retry_after(), Some(RETRY));
        }
    }

    #[test]
    fn the_cause_of_trouble_stays_in_the_log() {
        let refusal = Refusal::unavailable("/var/lib/caracal.db: disk I/O error");
        let answer: ExchangeRefusal = refusal.into();
        assert!(!answer.description.contains("caracal.db"));
    }

    #[test]
    fn a_denial_names_its_reason() {
        let refusal = Refusal::Denied(Some("role_scope_mismatch".into()));
        assert_eq!(refusal.to_string(), "policy denied (role_scope_mismatch)");
        assert_eq!(Refusal::Denied(None).to_string(), "policy denied");
    }
}
