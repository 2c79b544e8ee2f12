//! Refusals on the wire: the one place where each becomes a status and a code.
//!
//! Operations return enums that say what went wrong in their own words; the tables below are what
//! clients see of them. Client libraries branch on these codes, so they are part of the contract.

use caracal_http::{Failure, RetryAfter};
use caracal_store::StoreError;
use http::StatusCode as Status;
use thiserror::Error;

use crate::authenticate::AuthenticationError;
use crate::body::BodyError;
use crate::call::InvalidParam;
use crate::delegation::{
    ConstraintError, DelegateError, DelegationRequestError, RevokeError, Untimely,
};
use crate::idempotency::{IdempotencyError, KeyError};
use crate::limits::CAPACITY_RETRY;
use crate::ops::MetricsDenied;
use crate::outbox::RequeueError;
use crate::query::QueryError;
use crate::session::{
    EndError, InheritError, LeaseError, SessionAccessError, StartError, SubjectError, ToggleError,
};
use crate::verify::VerifyError;

/// Why a read is refused.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    /// The cursor names no row of the list.
    #[error("the cursor names no row of this list")]
    InvalidCursor,
    /// No such Session, or not the caller's.
    #[error(transparent)]
    Session(#[from] SessionAccessError),
    /// No such delegation, or not the caller's.
    #[error("there is no such live delegation")]
    DelegationNotFound,
    /// Only an admin reads across applications.
    #[error("this needs the operator token or the scope coordinator.admin")]
    AdminRequired,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn refuse(status: Status, code: &'static str, error: &dyn std::error::Error) -> Failure {
    let failure = Failure::new(status, code).describe(error.to_string());
    if status == Status::TOO_MANY_REQUESTS {
        return failure.retry_after(CAPACITY_RETRY);
    }
    failure
}

/// A dependency that does not answer is never a verdict on the caller.
fn store(error: &StoreError) -> Failure {
    match error {
        StoreError::Unavailable(cause) => {
            tracing::warn!(cause, "store_unavailable");
            Failure::unavailable(
                "store_unavailable",
                "the store is busy or unreachable; try again",
            )
        }
        StoreError::Conflict(_) | StoreError::Corrupt { .. } => {
            tracing::error!(%error, "store_failed");
            Failure::internal()
        }
    }
}

impl From<AuthenticationError> for Failure {
    fn from(error: AuthenticationError) -> Self {
        use AuthenticationError as E;
        let (status, code) = match &error {
            E::MissingToken => (Status::UNAUTHORIZED, "missing_token"),
            E::InvalidToken => (Status::UNAUTHORIZED, "invalid_token"),
            E::IdentityRevoked => (Status::UNAUTHORIZED, "identity_revoked"),
            E::MissingScope => (Status::FORBIDDEN, "missing_scope"),
            E::ZoneMismatch => (Status::FORBIDDEN, "zone_mismatch"),
            E::UnknownRoute => (Status::NOT_FOUND, "not_found"),
            E::Unavailable(cause) => {
                tracing::warn!(cause, "authentication_unavailable");
                return Self::unavailable(
                    "authentication_unavailable",
                    "the caller cannot be verified now; try again",
                );
            }
        };
        refuse(status, code, &error)
    }
}

impl From<InvalidParam> for Failure {
    fn from(error: InvalidParam) -> Self {
        refuse(Status::BAD_REQUEST, "invalid_params", &error)
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        refuse(Status::BAD_REQUEST, "invalid_query", &error)
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        let (status, code) = match &error {
            BodyError::TooLarge(_) => (Status::PAYLOAD_TOO_LARGE, "payload_too_large"),
            BodyError::UnsupportedMediaType => {
                (Status::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type")
            }
            BodyError::Broken | BodyError::Malformed | BodyError::Invalid(_) => {
                (Status::BAD_REQUEST, "invalid_body")
            }
        };
        let failure = refuse(status, code, &error);
        match error.details() {
            Some(details) => failure.with_details(details),
            None => failure,
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        let code = match error {
            KeyError::Invalid => "idempotency_key_invalid",
            KeyError::Multiple => "idempotency_key_multiple",
        };
        let message = error.to_string();
        refuse(Status::BAD_REQUEST, code, &error).with_member("message", message)
    }
}

impl From<IdempotencyError> for Failure {
    fn from(error: IdempotencyError) -> Self {
        use IdempotencyError as E;
        let (status, code) = match &error {
            E::Conflict => (Status::CONFLICT, "idempotency_key_conflict"),
            E::ResultInactive => (Status::CONFLICT, "idempotency_result_inactive"),
            E::TooManyReceipts => (
                Status::TOO_MANY_REQUESTS,
                "idempotency_receipt_limit_exceeded",
            ),
            E::AnswerTooLarge => {
                return BodyError::field("scopes", "too many scopes for a replayable answer")
                    .into();
            }
            E::Store(error) => return store(error),
        };
        refuse(status, code, &error)
    }
}

impl From<SessionAccessError> for Failure {
    fn from(error: SessionAccessError) -> Self {
        let (status, code) = match error {
            SessionAccessError::NotFound => (Status::NOT_FOUND, "session_not_found"),
            SessionAccessError::NotOwner => (Status::FORBIDDEN, "application_ownership_required"),
        };
        refuse(status, code, &error)
    }
}

impl From<SubjectError> for Failure {
    fn from(error: SubjectError) -> Self {
        use SubjectError as E;
        let (status, code) = match &error {
            E::NotFound => {
                let detail = error.to_string();
                return refuse(Status::NOT_FOUND, "session_not_found", &error)
                    .with_member("detail", detail);
            }
            E::InvalidProof => (Status::UNAUTHORIZED, "invalid_subject_proof"),
            E::OtherApplication => (Status::FORBIDDEN, "subject_proof_application_mismatch"),
            E::Unverifiable(error) => return error.clone().into(),
            E::Store(error) => return store(error),
        };
        refuse(status, code, &error)
    }
}

impl From<InheritError> for Failure {
    fn from(error: InheritError) -> Self {
        let code = match &error {
            InheritError::NotActive => "inherit_parent_edge_not_active",
            InheritError::Ambiguous => "inherit_parent_edge_ambiguous",
            InheritError::Store(error) => return store(error),
        };
        refuse(Status::CONFLICT, code, &error)
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        use StartError as E;
        let (status, code) = match error {
            E::Key(error) => return error.into(),
            E::Idempotency(error) => return error.into(),
            E::Subject(error) => return error.into(),
            E::Inherit(error) => return error.into(),
            E::Store(error) => return store(&error),
            E::NotOwner => (Status::FORBIDDEN, "application_ownership_required"),
            E::ApplicationNotFound => (Status::NOT_FOUND, "application_not_found"),
            E::DcrCannotHostService => (Status::CONFLICT, "dcr_application_cannot_host_service"),
            E::DcrCannotBeChild => (Status::CONFLICT, "dcr_application_cannot_be_child"),
            E::DcrAlreadyBound => (Status::CONFLICT, "dcr_application_already_bound"),
            E::DcrCannotStartChild => (Status::CONFLICT, "dcr_application_cannot_start_child"),
            E::ZoneFull => (Status::TOO_MANY_REQUESTS, "session_zone_limit_exceeded"),
            E::ApplicationFull => (Status::TOO_MANY_REQUESTS, "session_limit_exceeded"),
            E::ParentNotFound => (Status::NOT_FOUND, "parent_not_found"),
            E::TaskCannotStartService => (Status::CONFLICT, "task_session_cannot_start_service"),
            E::ParentNotOwned => (Status::FORBIDDEN, "parent_ownership_required"),
            E::ParentFull => (Status::TOO_MANY_REQUESTS, "session_children_limit_exceeded"),
            E::TooDeep => (Status::TOO_MANY_REQUESTS, "session_depth_limit_exceeded"),
        };
        refuse(status, code, &error)
    }
}

impl From<EndError> for Failure {
    fn from(error: EndError) -> Self {
        let (status, code) = match error {
            EndError::Access(error) => return error.into(),
            EndError::Store(error) => return store(&error),
            EndError::GenerationRequired => (Status::BAD_REQUEST, "lease_generation_required"),
            EndError::Fenced => (Status::CONFLICT, "session_lease_fenced"),
        };
        refuse(status, code, &error)
    }
}

impl From<ToggleError> for Failure {
    fn from(error: ToggleError) -> Self {
        let code = match error {
            ToggleError::Access(error) => return error.into(),
            ToggleError::Store(error) => return store(&error),
            ToggleError::NotActive => "session_not_found_or_not_active",
            ToggleError::NotSuspended => "session_not_found_or_not_suspended",
            ToggleError::SuspendedAbove => "session_suspended",
        };
        refuse(Status::CONFLICT, code, &error)
    }
}

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Self {
        use LeaseError as E;
        let (status, code) = match error {
            E::Access(error) => return error.into(),
            E::Store(error) => return store(&error),
            E::NotService => (Status::CONFLICT, "session_not_service"),
            E::Suspended => (Status::CONFLICT, "session_suspended"),
            E::NotLive => (Status::CONFLICT, "session_not_live"),
            E::SubjectInactive => (Status::CONFLICT, "session_subject_inactive"),
            E::Expired => (Status::CONFLICT, "session_lease_expired"),
            E::Fenced => (Status::CONFLICT, "session_lease_fenced"),
            E::IdentityRevoked => (Status::UNAUTHORIZED, "identity_revoked"),
            E::ServiceNotFound => (Status::NOT_FOUND, "agent_service_not_found"),
        };
        refuse(status, code, &error)
    }
}

impl From<ConstraintError> for Failure {
    fn from(error: ConstraintError) -> Self {
        use crate::delegation::ConstraintKey as Key;
        let code = match error {
            ConstraintError::Unknown => "invalid_delegation_constraint",
            ConstraintError::Invalid(Key::Resources) => "invalid_resources",
            ConstraintError::Invalid(Key::MaxDepth) => "invalid_max_depth",
            ConstraintError::Invalid(Key::MaxHops) => "invalid_max_hops",
            ConstraintError::Invalid(Key::Budget) => "invalid_budget",
            ConstraintError::Invalid(Key::TtlSeconds) => "invalid_ttl_seconds",
            ConstraintError::Invalid(Key::PolicyApproved) => "invalid_policy_approved",
            ConstraintError::Invalid(Key::ExpiresAt) => "invalid_expires_at",
            ConstraintError::Invalid(Key::BroadReason) => "invalid_broad_reason",
        };
        refuse(Status::BAD_REQUEST, code, &error)
    }
}

impl From<DelegationRequestError> for Failure {
    fn from(error: DelegationRequestError) -> Self {
        match error {
            DelegationRequestError::Body(error) => error.into(),
            DelegationRequestError::Constraints(error) => error.into(),
            DelegationRequestError::ExpiryRequired => {
                refuse(Status::BAD_REQUEST, "delegation_expiry_required", &error)
            }
        }
    }
}

impl From<DelegateError> for Failure {
    fn from(error: DelegateError) -> Self {
        use DelegateError as E;
        let (status, code) = match error {
            E::Key(error) => return error.into(),
            E::Idempotency(error) => return error.into(),
            E::Store(error) => return store(&error),
            E::NotIssuer => (Status::FORBIDDEN, "issuer_ownership_required"),
            E::ToItself => (Status::BAD_REQUEST, "self_delegation_denied"),
            E::BroadNotAllowed => (Status::FORBIDDEN, "broad_delegation_permission_required"),
            E::EndpointNotFound => (Status::NOT_FOUND, "delegation_endpoint_not_found"),
            E::ApplicationMismatch => (Status::CONFLICT, "delegation_application_mismatch"),
            E::ResourceNotFound => (Status::NOT_FOUND, "resource_not_found"),
            E::ResourceScopeMismatch => (Status::BAD_REQUEST, "delegation_resource_scope_mismatch"),
            E::ScopesExceedResource => (Status::FORBIDDEN, "delegation_scopes_exceed_resource"),
            E::ParentNotActive => (Status::FORBIDDEN, "parent_delegation_not_active"),
            E::ParentAmbiguous => (Status::CONFLICT, "parent_delegation_ambiguous"),
            E::Cycle => (Status::CONFLICT, "delegation_cycle_denied"),
            E::Untimely(Untimely::Over) => (Status::BAD_REQUEST, "delegation_expired"),
            E::Exceeds(_) | E::Untimely(Untimely::Exceeds(_)) => {
                (Status::FORBIDDEN, "delegation_exceeds_parent_authority")
            }
        };
        refuse(status, code, &error)
    }
}

impl From<RevokeError> for Failure {
    fn from(error: RevokeError) -> Self {
        let (status, code) = match error {
            RevokeError::Store(error) => return store(&error),
            RevokeError::NotFound => (Status::NOT_FOUND, "delegation_not_found"),
            RevokeError::NotIssuer => (Status::FORBIDDEN, "issuer_ownership_required"),
        };
        refuse(status, code, &error)
    }
}

impl From<RequeueError> for Failure {
    fn from(error: RequeueError) -> Self {
        let (status, code) = match error {
            RequeueError::Request(error) => return error.into(),
            RequeueError::Store(error) => return store(&error),
            RequeueError::AdminRequired => (Status::FORBIDDEN, "coordinator_admin_required"),
            RequeueError::NotFound => (Status::NOT_FOUND, "dead_outbox_not_found"),
        };
        refuse(status, code, &error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let (status, code) = match error {
            ReadError::Session(error) => return error.into(),
            ReadError::Store(error) => return store(&error),
            ReadError::InvalidCursor => (Status::BAD_REQUEST, "invalid_cursor"),
            ReadError::DelegationNotFound => (Status::NOT_FOUND, "delegation_not_found"),
            ReadError::AdminRequired => (Status::FORBIDDEN, "coordinator_admin_required"),
        };
        refuse(status, code, &error)
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        use VerifyError as E;
        let failure = match &error {
            E::RateLimited(RetryAfter(after)) => Self::too_many("rate_limited", *after),
            E::Request(BodyError::TooLarge(_)) => {
                refuse(Status::PAYLOAD_TOO_LARGE, "invalid_request", &error)
            }
            E::Request(_) => refuse(Status::BAD_REQUEST, "invalid_request", &error),
            E::MissingToken => refuse(Status::BAD_REQUEST, "missing_token", &error),
            E::TokenInvalid => refuse(Status::UNAUTHORIZED, "token_invalid", &error),
            E::Unavailable(cause) => {
                tracing::warn!(cause, "verification_unavailable");
                Self::unavailable(
                    "verification_unavailable",
                    "the token cannot be verified now; try again",
                )
            }
        };
        failure.with_member("valid", false)
    }
}

impl From<MetricsDenied> for Failure {
    fn from(error: MetricsDenied) -> Self {
        let (status, code) = match error {
            MetricsDenied::Unauthorized => (Status::UNAUTHORIZED, "unauthorized"),
            MetricsDenied::WrongToken => (Status::FORBIDDEN, "operator_token_required"),
        };
        refuse(status, code, &error)
    }
}
