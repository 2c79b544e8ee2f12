//! What a handler gets of a request.

pub(crate) mod body;
pub(crate) mod fields;
pub(crate) mod query;

use std::str::FromStr;

use caracal_core::id::{InvalidId, ZoneId, is_id};
use caracal_http::RequestContext;
use serde_json::Value;

use crate::capability::{Actor, Permit};
use crate::error::{ApiError, Code};
use query::Query;

/// The decoded parameters of the matched route.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// Takes what the router decoded.
    pub(crate) fn new(decoded: Vec<(String, String)>) -> Self {
        Self(decoded)
    }

    /// A parameter's decoded text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether every parameter is an id, before anything is looked up. Token ids have a rule and a
    /// code of their own.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        for (name, value) in &self.0 {
            if name == "token_id" {
                if !(1..=128).contains(&value.chars().count()) {
                    return Err(Code::InvalidTokenId.into());
                }
            } else if !is_id(value) {
                return Err(Code::InvalidParams.into());
            }
        }
        Ok(())
    }
}

/// A request that was let through to its handler. It may carry secrets, so it has no debug form.
pub(crate) struct Call {
    /// Who asks.
    pub(crate) actor: Actor,
    /// The request's id and peer.
    pub(crate) context: RequestContext,
    /// The method, the path without its query, and the template that it matched.
    pub(crate) target: Target,
    /// The path's parameters; every one is well formed.
    pub(crate) params: Params,
    /// The query.
    pub(crate) query: Query,
    /// The body; `None` when there was none.
    pub(crate) body: Option<Value>,
    /// That the gate said yes.
    _permit: Permit,
}

/// Where a request was sent.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The method.
    pub(crate) method: &'static str,
    /// The path as sent, cut to a bounded length.
    pub(crate) path: String,
    /// The matched template; `None` when no route matched.
    pub(crate) template: Option<&'static str>,
}

impl Call {
    /// A call that holds its permit.
    pub(crate) fn new(
        actor: Actor,
        context: RequestContext,
        target: Target,
        params: Params,
        query: Query,
        body: Option<Value>,
        permit: Permit,
    ) -> Self {
        Self {
            actor,
            context,
            target,
            params,
            query,
            body,
            _permit: permit,
        }
    }

    /// The zone of the path.
    pub(crate) fn zone(&self) -> Result<ZoneId, ApiError> {
        self.id("zone_id")
    }

    /// An id of the path.
    pub(crate) fn id<T: FromStr<Err = InvalidId>>(&self, name: &str) -> Result<T, ApiError> {
        let text = self.params.get(name).unwrap_or_default();
        text.parse().map_err(|_| Code::InvalidParams.into())
    }
}
