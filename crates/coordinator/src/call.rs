//! One authenticated request, as the handlers see it.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use caracal_core::RequestId;
use caracal_http::{Failure, RequestContext};
use http::request::Parts;
use http::{HeaderMap, Method, Uri};
use thiserror::Error;

use crate::authenticate::AuthenticationError;
use crate::caller::{Bearer, Caller};
use crate::query::Query;

/// An id in the path is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the path parameter {0} is not an id")]
pub(crate) struct InvalidParam(&'static str);

/// Who calls, what for, and with which headers. It holds the credential, so it is never shown.
pub(crate) struct Call {
    /// Who.
    pub(crate) caller: Caller,
    /// The correlation id.
    pub(crate) request_id: RequestId,
    /// The method.
    pub(crate) method: Method,
    /// The headers.
    pub(crate) headers: HeaderMap,
    uri: Uri,
    params: Vec<(String, String)>,
}

impl Call {
    /// The application behind the call. The operator token never gets to the routes that need one.
    pub(crate) fn bearer(&self) -> Result<&Bearer, AuthenticationError> {
        match &self.caller {
            Caller::Application(bearer) => Ok(bearer),
            Caller::Operator(_) => Err(AuthenticationError::InvalidToken),
        }
    }

    /// An id of the path.
    pub(crate) fn param<T: FromStr>(&self, name: &'static str) -> Result<T, InvalidParam> {
        let value = self.params.iter().find(|(held, _)| held == name);
        value
            .and_then(|(_, value)| value.parse().ok())
            .ok_or(InvalidParam(name))
    }

    /// The query string.
    pub(crate) fn query(&self) -> Query {
        Query::parse(self.uri.query())
    }

    /// The path without the query, as it was sent.
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }
}

impl FromRequestParts<Arc<crate::Coordinator>> for Call {
    type Rejection = Failure;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<crate::Coordinator>,
    ) -> Result<Self, Failure> {
        let caller = parts.extensions.get::<Caller>().cloned();
        let context = RequestContext::from_request_parts(parts, state).await;
        let context = context.unwrap_or_else(|never| match never {});
        Ok(Self {
            caller: caller.ok_or(AuthenticationError::MissingToken)?,
            request_id: context.request_id,
            method: parts.method.clone(),
            headers: parts.headers.clone(),
            uri: parts.uri.clone(),
            params: path_params(parts).await?,
        })
    }
}

/// The decoded parameters of the matched route.
///
/// # Errors
/// [`InvalidParam`] when one is not UTF-8 once decoded: then none of them is known.
pub(crate) async fn path_params(parts: &mut Parts) -> Result<Vec<(String, String)>, InvalidParam> {
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(params) => Ok(params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()),
        Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => Err(InvalidParam("path")),
        // A path that matches no route has no parameters.
        Err(_) => Ok(Vec::new()),
    }
}
