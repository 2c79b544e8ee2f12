use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use caracal_core::id::ProviderId;
use caracal_core::path::RequestPath;
use caracal_core::{RequestId, ResourceIdentifier, Secret};
use caracal_crypto::VerifiedMandate;
use serde_json::{Map, Value};

/// One governed call that the Gateway wants authority for.
#[derive(Debug, Clone)]
pub struct ExchangeRequest {
    /// The presented mandate; its signature, issuer, audience, use and zone are already proven.
    pub mandate: VerifiedMandate,
    /// The resource that the caller named; exactly a resource identifier.
    pub resource: ResourceIdentifier,
    /// The HTTP method, as received.
    pub method: String,
    /// The path, split and decoded once; what is judged is what is forwarded.
    pub path: RequestPath,
    /// The correlation id, shared by both roles' audit events.
    pub request_id: RequestId,
}

/// The answer to a granted exchange.
#[derive(Debug)]
pub struct ExchangeGrant {
    /// The resource mandate, present when the directive sends it upstream.
    pub mandate: Option<Secret<String>>,
    /// How to reach and authenticate to the upstream.
    pub directive: Directive,
    /// The declared operation that matched, `METHOD path`, for the audit event.
    pub operation: Option<String>,
}

/// Private forwarding instructions; never leaves the control plane.
#[derive(Debug)]
pub struct Directive {
    /// The resource's upstream URL, verbatim.
    pub upstream_url: String,
    /// The credential to inject.
    pub credential: Credential,
    /// Upstream hosts that the credential may be sent to, lower case; empty allows the configured one.
    pub allowed_hosts: Vec<String>,
    /// Whether to send the resource mandate in `X-Caracal-Identity` as well.
    pub forward_identity: bool,
    /// The provider, for the audit event.
    pub provider_id: Option<ProviderId>,
    /// The provider connection, for the audit event.
    pub connection_id: Option<String>,
}

/// What authenticates the call at the upstream.
#[derive(Debug)]
pub enum Credential {
    /// Nothing (`auth_mode` `none`).
    None,
    /// The minted resource mandate as `Authorization: Bearer` (`caracal_jwt`).
    Mandate,
    /// A token in a header (`provider_oauth`): `<scheme> <value>`, or the bare value without a scheme.
    Token {
        /// Header name.
        header: String,
        /// Word before the value.
        scheme: Option<String>,
        /// The credential.
        value: Secret<String>,
    },
    /// A key in a header (`provider_apikey`).
    KeyHeader {
        /// Header name.
        header: String,
        /// Word before the value.
        scheme: Option<String>,
        /// The credential.
        value: Secret<String>,
    },
    /// A key in a query parameter (`provider_apikey`, location `query`).
    KeyQuery {
        /// Parameter name; replaces a parameter of that name.
        parameter: String,
        /// The credential.
        value: Secret<String>,
    },
}

impl Credential {
    /// The `auth_mode` name of audit events.
    #[must_use]
    pub fn auth_mode(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mandate => "caracal_jwt",
            Self::Token { .. } => "provider_oauth",
            Self::KeyHeader { .. } | Self::KeyQuery { .. } => "provider_apikey",
        }
    }
}

/// A refused exchange, in the terms of the answer that the caller gets.
#[derive(Debug, Clone)]
pub struct ExchangeRefusal {
    /// HTTP status.
    pub status: u16,
    /// Machine code (`access_denied`, `operation_not_permitted`, `sts_unavailable`, …).
    pub code: Cow<'static, str>,
    /// What happened and what to do.
    pub description: String,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// Further members of the error object, passed through to the caller.
    pub extension: Map<String, Value>,
    /// Who refused.
    pub origin: RefusalOrigin,
}

/// Who refused an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalOrigin {
    /// The STS: a verdict, or trouble that it met while judging.
    Sts,
    /// The line to the STS: it was not asked, or its answer did not arrive.
    Line,
}

/// What the Gateway asks of the STS.
#[async_trait]
pub trait Exchange: Send + Sync {
    /// Judges one governed call and, when granted, returns the forwarding directive. The decision's
    /// audit event is in the local log before this returns.
    ///
    /// # Errors
    /// [`ExchangeRefusal`] with the status and code to relay.
    async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeGrant, ExchangeRefusal>;

    /// Judges a call that is already running, after something in its zone changed: mints nothing,
    /// counts against no limit, writes no event.
    ///
    /// # Errors
    /// [`ExchangeRefusal`] when the call would not be granted now: the stream must end.
    async fn still_granted(&self, request: &ExchangeRequest) -> Result<(), ExchangeRefusal>;

    /// How long the STS is known to be out of reach: don't ask before. `None` when it may be asked.
    fn pause(&self) -> Option<Duration> {
        None
    }

    /// Whether the STS can be reached now: readiness.
    async fn reachable(&self) -> bool {
        true
    }
}
