//! Step 18: the upstream request.
//!
//! What was authorised is what is sent: the caller's path and query bytes stay as they are wherever
//! no rule requires a change.

mod credential;
mod headers;
mod path;
mod query;

use caracal_core::Random;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use thiserror::Error;

pub(crate) use headers::{CallerSide, HOP_BY_HOP, named_by_connection};

use crate::call::Correlation;
use crate::exchange::Permit;
use crate::host_guard::Target;
use crate::refusal::Refusal;
use credential::Injection;

/// Why an upstream request can't be built: the provider's or the resource's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum BuildError {
    /// The credential's header or parameter name is empty, malformed or reserved.
    #[error("the credential's name is not usable")]
    CredentialName,
    /// The credential can't be a header value.
    #[error("the credential can't be sent in a header")]
    CredentialValue,
    /// The directive sends a mandate but none was minted.
    #[error("the directive sends a mandate that was not minted")]
    NoMandate,
    /// Path and query do not make a request target.
    #[error("the upstream request target is malformed")]
    Target,
}

impl From<BuildError> for Refusal {
    fn from(error: BuildError) -> Self {
        tracing::warn!(%error, "upstream request cannot be built");
        Self::BuildFailed
    }
}

/// What the caller sent, as far as the upstream request takes it over.
pub(crate) struct CallerHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) correlation: &'a Correlation,
    pub(crate) side: CallerSide,
}

/// The head of an upstream request and where it goes. Only [`build`] makes one.
pub(crate) struct Outbound {
    target: Target,
    head: Request<()>,
}

impl Outbound {
    /// The judged destination, and the head.
    pub(crate) fn into_parts(self) -> (Target, Request<()>) {
        (self.target, self.head)
    }

    /// The upstream host as audit events name it.
    pub(crate) fn host(&self) -> &str {
        self.target.authority.to_str().unwrap_or_default()
    }
}

/// Builds the head of the upstream request. Needs a [`Permit`]: nothing is forwarded without one.
pub(crate) fn build(
    permit: &Permit,
    target: Target,
    caller: &CallerHead<'_>,
    random: &dyn Random,
) -> Result<Outbound, BuildError> {
    let injection = Injection::of(permit.grant())?;
    let uri = request_target(permit, &target, caller.query, &injection)?;
    let mut outgoing = headers::passing(caller.headers, injection.header_name());
    headers::add_own(
        &mut outgoing,
        caller.headers,
        &target.authority,
        caller.correlation,
        caller.side,
        random,
    );
    headers::frame(&mut outgoing, permit.framing());
    injection.apply(&mut outgoing);
    let mut head = Request::new(());
    *head.method_mut() = caller.method.clone();
    *head.uri_mut() = uri;
    *head.headers_mut() = outgoing;
    Ok(Outbound { target, head })
}

fn request_target(
    permit: &Permit,
    target: &Target,
    query: Option<&str>,
    injection: &Injection<'_>,
) -> Result<Uri, BuildError> {
    let mut text = path::join(&target.base_path, permit.request().path.raw());
    if let Some(query) = query::merge(query, target.pinned_query.as_deref(), injection.query()) {
        text.push('?');
        text.push_str(&query);
    }
    let target = PathAndQuery::try_from(text).map_err(|_| BuildError::Target)?;
    Ok(Uri::from(target))
}

/// Takes an arbitrary head through the rules for what is forwarded.
pub(crate) fn fuzz_forwarding(
    head: &http::request::Parts,
    correlation: &Correlation,
    random: &dyn Random,
) {
    let mut outgoing = headers::passing(&head.headers, None);
    let authority = HeaderValue::from_static("upstream.example");
    let side = CallerSide {
        peer: correlation.peer,
        tls: false,
        trust_proxy: true,
    };
    headers::add_own(
        &mut outgoing,
        &head.headers,
        &authority,
        correlation,
        side,
        random,
    );
    let query = query::merge(head.uri.query(), Some("pinned=1"), Some(("key", "secret")));
    let mut text = path::join("/base", head.uri.path());
    text.push('?');
    text.push_str(&query.unwrap_or_default());
    let _ = PathAndQuery::try_from(text);
}
