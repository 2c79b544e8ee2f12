//! Every refusal of the Admin API: code, status and text in one table.
//!
//! Clients branch on the code, people read the text. A handler returns an [`ApiError`]; only this file
//! knows how it looks on the wire.

use std::fmt;
use std::time::Duration;

use caracal_crypto::SealError;
use caracal_http::{Failure, RetryAfter};
use caracal_store::StoreError;
use http::StatusCode;
use serde_json::{Value, json};

use crate::ports::ZoneKeyError;

macro_rules! codes {
    ($($variant:ident => $status:ident $code:literal $text:literal,)*) => {
        /// A machine code of the Admin API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Code { $($variant,)* }

        impl Code {
            /// Every code, in the order of the table.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The HTTP status.
            pub(crate) const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The code on the wire.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What happened and what to do, when the handler has nothing more exact to say.
            const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

codes! {
    InvalidJson => BAD_REQUEST "invalid_json" "the body is not JSON",
    PayloadTooLarge => PAYLOAD_TOO_LARGE "payload_too_large" "the body is too large",
    UnsupportedMediaType => UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "send application/json",
    UnreadableBody => BAD_REQUEST "invalid_request" "the body could not be read",
    InvalidParams => BAD_REQUEST "invalid_params" "an id in the path has 1 to 128 letters, digits, '_', '.', '-' or ':'",
    InvalidQuery => BAD_REQUEST "invalid_query" "a query parameter is not valid",
    InvalidCursor => BAD_REQUEST "invalid_cursor" "the cursor is not one that this list gave out",
    InvalidFields => BAD_REQUEST "invalid_fields" "'fields' names an unknown field",
    InvalidBody => BAD_REQUEST "invalid_body" "the body is not valid",
    NoFields => BAD_REQUEST "no_fields" "the change names no field that can be changed",

    InvalidAdminToken => UNAUTHORIZED "invalid_admin_token" "send 'Authorization: Bearer <admin token>' with a live token",
    InvalidAccountAssertion => UNAUTHORIZED "invalid_account_assertion" "a console token needs a valid account assertion",
    RateLimited => TOO_MANY_REQUESTS "rate_limited" "too many requests; wait for the time in Retry-After",
    ReadOnly => FORBIDDEN "admin_token_read_only" "this token may only read",
    ApproveOnly => FORBIDDEN "admin_token_approve_only" "this token may only read and decide approvals",
    ApproveRequired => FORBIDDEN "approve_capability_required" "only the bootstrap token makes a token that may approve",
    ZoneMismatch => FORBIDDEN "admin_token_zone_mismatch" "this token belongs to another zone",
    SystemZone => FORBIDDEN "system_zone_read_only" "a reserved zone cannot be changed or revealed",
    RevealRequired => FORBIDDEN "reveal_capability_required" "showing a stored secret needs the bootstrap token or a token made with \"reveal\": true",
    AccountScopeRequired => FORBIDDEN "account_scope_required" "a console account may not use this route",
    ZoneForbidden => FORBIDDEN "zone_forbidden" "the zone does not belong to this account",

    ReservedNamespace => CONFLICT "reserved_namespace" "names of the system are reserved",

    InvalidZone => BAD_REQUEST "invalid_zone" "the zone is not valid",
    DcrShutdownNotApplicable => BAD_REQUEST "dcr_shutdown_not_applicable" "'dcr_shutdown' goes with \"dcr_enabled\": false",
    DcrShutdownRequired => CONFLICT "dcr_shutdown_required" "self-registered applications are live: say 'dcr_shutdown'",
    DcrShutdownUnavailable => SERVICE_UNAVAILABLE "dcr_shutdown_unavailable" "live self-registered applications cannot be revoked here: send \"keep_live\"",
    ZoneNotFound => NOT_FOUND "zone_not_found" "the zone does not exist",
    ZoneSlugConflict => CONFLICT "zone_slug_conflict" "another zone has this slug",
    ZoneHasLiveAuthority => CONFLICT "zone_has_live_authority" "sessions or delegations are live: end them, or send ?force=true",

    InvalidApplication => BAD_REQUEST "invalid_application" "the application is not valid",
    ClientSecretNotConfigured => BAD_REQUEST "client_secret_not_configured" "the application has no client secret to replace",
    ApplicationNotFound => NOT_FOUND "application_not_found" "the application does not exist",
    ClientSecretNotStored => NOT_FOUND "client_secret_not_stored" "no copy of the client secret is kept",
    ApplicationNameTaken => CONFLICT "application_name_taken" "another application of the zone has this name",
    TraitCount => FORBIDDEN "trait_count_exceeded" "an application has at most 64 traits",
    TraitInvalid => FORBIDDEN "trait_invalid" "a trait has 1 to 128 characters, begins with a letter, and control traits are of the documented forms",
    TraitDuplicate => FORBIDDEN "trait_duplicate" "a trait is named twice",
    TraitForbidden => FORBIDDEN "trait_forbidden" "control and system traits need a global token",

    InvalidProvider => BAD_REQUEST "invalid_provider" "the provider is not valid",
    InvalidProviderIdentifier => BAD_REQUEST "invalid_provider_identifier" "an identifier is provider:// and lower-case words joined by single hyphens",
    InvalidProviderConfig => BAD_REQUEST "invalid_provider_config" "the configuration does not fit the provider's kind",
    ProviderConfigRequired => BAD_REQUEST "provider_config_required" "a change of kind needs the whole configuration",
    ProviderCheckUnsupported => BAD_REQUEST "provider_check_unsupported" "this kind of provider has nothing to check",
    ProviderNotFound => NOT_FOUND "provider_not_found" "the provider does not exist",
    ProviderIdentifierConflict => CONFLICT "provider_identifier_conflict" "another provider of the zone has this identifier",

    InvalidResource => BAD_REQUEST "invalid_resource" "the resource is not valid",
    InvalidResourceIdentifier => BAD_REQUEST "invalid_resource_identifier" "an identifier is an absolute URI without credentials, and not of the scheme 'provider'",
    CredentialProviderRequired => BAD_REQUEST "credential_provider_required" "the resource needs a provider; use one of kind 'none' for no credential",
    UpstreamUrlRequired => BAD_REQUEST "upstream_url_required" "the resource needs an upstream URL",
    OperationIncomplete => BAD_REQUEST "operation_method_and_path_required" "an operation has a method and a path",
    OperationPath => BAD_REQUEST "operation_path_must_be_absolute" "an operation's path begins with '/'; a template segment is {name}",
    OperationScope => BAD_REQUEST "operation_scope_not_in_resource_scopes" "an operation's scope is one of the resource's",
    OperationDuplicate => BAD_REQUEST "operation_duplicate" "two operations have the same method and path shape",
    ResourceNotFound => NOT_FOUND "resource_not_found" "the resource does not exist",
    ResourceIdentifierConflict => CONFLICT "resource_identifier_conflict" "another resource of the zone has this identifier",
    ResourceQuota => CONFLICT "resource_quota_exceeded" "the zone has as many resources as it may have",
    ProtectedResource => CONFLICT "protected_resource" "the control resource is protected",

    InvalidRego => UNPROCESSABLE_ENTITY "invalid_rego" "the document is not valid",
    InvalidPolicyContract => UNPROCESSABLE_ENTITY "invalid_policy_contract" "the manifest is not valid",
    InvalidPolicyBundle => UNPROCESSABLE_ENTITY "invalid_policy_bundle" "the documents do not make one policy",
    PolicyNotFound => NOT_FOUND "policy_not_found" "the policy does not exist",
    PolicyNameConflict => CONFLICT "policy_name_conflict" "another policy of the zone has this name",
    PolicySetNotFound => NOT_FOUND "policy_set_not_found" "the policy set does not exist",
    PolicySetNameConflict => CONFLICT "policy_set_name_conflict" "another policy set of the zone has this name",
    PolicySetVersionNotFound => NOT_FOUND "policy_set_version_not_found" "the set has no such version",
    VersionNotFound => NOT_FOUND "version_not_found" "the set has no such version",
    BindingNotFound => NOT_FOUND "policy_set_binding_not_found" "the policy set does not exist",
    ActiveVersionNotFound => NOT_FOUND "active_policy_set_version_not_found" "the set has no active version",
    ReferencedVersionMissing => CONFLICT "referenced_policy_version_missing" "a policy version of the manifest is gone",

    InvalidTokenRequest => BAD_REQUEST "invalid_admin_token_request" "the token request is not valid",
    ZoneIdRequired => BAD_REQUEST "zone_id_required" "a zone token names its zone",
    ZoneIdNotAllowed => BAD_REQUEST "zone_id_not_allowed_for_global" "a global token names no zone",
    InvalidTokenId => BAD_REQUEST "invalid_admin_token_id" "a token id has 1 to 128 characters",
    TokenNotFound => NOT_FOUND "admin_token_not_found" "the token does not exist or is revoked",

    RequestNotFound => NOT_FOUND "request_not_found" "no event has this request id",

    SecretBackend => BAD_GATEWAY "secret_backend_unavailable" "the stored secret could not be sealed or opened",
    Busy => SERVICE_UNAVAILABLE "service_busy" "too many documents are being compiled; try again",
    StoreUnavailable => SERVICE_UNAVAILABLE "store_unavailable" "the store does not answer; try again",
    AuditUnavailable => SERVICE_UNAVAILABLE "audit_unavailable" "the audit log cannot be written; nothing was changed or shown",
    Internal => INTERNAL_SERVER_ERROR "internal_error" "the service failed to process the request",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused or failed request.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    code: Code,
    description: Option<String>,
    details: Option<Value>,
    members: Vec<(&'static str, Value)>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// Says more exactly what is wrong. Never with a value that may be secret.
    pub(crate) fn describe(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Adds structured detail.
    pub(crate) fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Adds a top-level member.
    pub(crate) fn with_member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// Points at the member of the body that is wrong.
    pub(crate) fn at(code: Code, path: &[String], message: &str) -> Self {
        let name = path.join(".");
        let text = if name.is_empty() {
            message.to_owned()
        } else {
            format!("{name}: {message}")
        };
        let issue = json!({ "path": path, "message": message });
        Self::from(code)
            .describe(text)
            .with_details(json!({ "issues": [issue] }))
    }

    /// The work cannot be taken on now.
    pub(crate) fn busy() -> Self {
        Self {
            retry_after: Some(Duration::from_secs(1)),
            ..Self::from(Code::Busy)
        }
    }

    /// The machine code.
    pub(crate) fn code(&self) -> Code {
        self.code
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self {
            code,
            description: None,
            details: None,
            members: Vec::new(),
            retry_after: None,
        }
    }
}

impl From<RetryAfter> for ApiError {
    fn from(RetryAfter(after): RetryAfter) -> Self {
        Self {
            retry_after: Some(after),
            ..Self::from(Code::RateLimited)
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => {
                tracing::warn!(%cause, "the store is unavailable");
                let retry_after = Some(Duration::from_secs(1));
                Self {
                    retry_after,
                    ..Self::from(Code::StoreUnavailable)
                }
            }
            other => {
                tracing::error!(error = %other, "the store failed");
                Self::from(Code::Internal)
            }
        }
    }
}

impl From<SealError> for ApiError {
    fn from(error: SealError) -> Self {
        tracing::error!(%error, "a stored secret could not be sealed or opened");
        Self::from(Code::SecretBackend)
    }
}

impl From<ZoneKeyError> for ApiError {
    fn from(error: ZoneKeyError) -> Self {
        match error {
            ZoneKeyError::Store(error) => error.into(),
            ZoneKeyError::Key(cause) => {
                tracing::error!(%cause, "a zone could not get its signing key");
                Self::from(Code::SecretBackend)
            }
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let code = error.code;
        let text = error.description.unwrap_or_else(|| code.text().to_owned());
        let mut failure = Self::new(code.status(), code.as_str()).describe(text);
        if let Some(details) = error.details {
            failure = failure.with_details(details);
        }
        for (name, value) in error.members {
            failure = failure.with_member(name, value);
        }
        match error.retry_after {
            Some(after) => failure.retry_after(after),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_variants_share_a_code() {
        let codes: HashSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for code in Code::ALL {
            let failure = Failure::from(ApiError::from(*code));
            assert!(
                failure.description().is_some_and(|text| text.len() > 10),
                "{code}"
            );
            assert!(failure.status().as_u16() >= 400, "{code}");
        }
    }

    #[test]
    fn a_limit_says_when_to_return() {
        let error = ApiError::from(RetryAfter(Duration::from_secs(7)));
        let answer = Failure::from(error).render(None);
        assert_eq!(answer.headers()["retry-after"], "7");
    }
}
