//! What callers send about delegations, parsed.

use caracal_core::id::{ApplicationId, DelegationId, SessionId};
use caracal_core::{ScopeSet, Timestamp};
use caracal_store::entity::Constraints;
use serde_json::{Value, json};
use thiserror::Error;

use super::constraints::{self, ConstraintError, MAX_TTL_SECONDS};
use crate::body::{self, BodyError, Fields};

/// Why a request for a delegation can't be used.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum DelegationRequestError {
    /// The body.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The constraints.
    #[error(transparent)]
    Constraints(#[from] ConstraintError),
    /// Nothing says when the delegation ends.
    #[error("send expires_at, ttl_seconds, or one of them among the constraints")]
    ExpiryRequired,
}

/// When a delegation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// At this instant.
    At(Timestamp),
    /// So many seconds after its creation.
    After(i64),
}

impl Expiry {
    /// The instant, for a delegation made `now`.
    pub(crate) fn from(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::After(seconds) => now.plus_seconds(seconds),
        }
    }
}

/// A request for a delegation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DelegationRequest {
    /// Who delegates.
    pub(crate) source_session_id: SessionId,
    /// Who receives.
    pub(crate) target_session_id: SessionId,
    /// The source's application.
    pub(crate) issuer_application_id: ApplicationId,
    /// The target's application.
    pub(crate) receiver_application_id: ApplicationId,
    /// The edge to narrow.
    pub(crate) parent_edge_id: Option<DelegationId>,
    /// Row id or identifier of the one resource.
    pub(crate) resource: Option<String>,
    /// The scopes.
    pub(crate) scopes: ScopeSet,
    /// The constraints, in their stored form.
    pub(crate) constraints: Constraints,
    /// The end.
    pub(crate) expiry: Expiry,
    expires_at: Option<Timestamp>,
}

impl DelegationRequest {
    /// Reads the body.
    pub(crate) fn parse(body: Option<Value>) -> Result<Self, DelegationRequestError> {
        let mut fields = Fields::of(body)?;
        let source = fields.required("source_session_id", body::id);
        let target = fields.required("target_session_id", body::id);
        let issuer = fields.required("issuer_application_id", body::id);
        let receiver = fields.required("receiver_application_id", body::id);
        let parent_edge_id = fields.optional("parent_edge_id", body::id);
        let resource = fields.nullable("resource_id", body::text);
        let scopes = fields.optional("scopes", body::list(usize::MAX, body::text));
        let expires_at = fields.optional("expires_at", body::instant);
        let ttl_seconds = fields.optional("ttl_seconds", body::integer(1..=MAX_TTL_SECONDS));
        let layers = [
            fields.raw("constraints_json").cloned(),
            fields.raw("constraints").cloned(),
        ];
        let (source, target, issuer, receiver) =
            fields.finish(all_four(source, target, issuer, receiver))?;
        let [first, second] = &layers;
        let constraints = constraints::normalise(first.as_ref(), second.as_ref(), ttl_seconds)?;
        Ok(Self {
            source_session_id: source,
            target_session_id: target,
            issuer_application_id: issuer,
            receiver_application_id: receiver,
            parent_edge_id,
            resource,
            scopes: scopes.iter().flatten().map(String::as_str).collect(),
            expiry: expiry(expires_at, &constraints)?,
            constraints,
            expires_at,
        })
    }

    /// What makes two requests the same one.
    pub(crate) fn fingerprint_fields(&self) -> Value {
        let ttl_seconds = match self.expiry {
            Expiry::At(_) => None,
            Expiry::After(seconds) => Some(seconds),
        };
        json!({
            "source_session_id": self.source_session_id,
            "target_session_id": self.target_session_id,
            "issuer_application_id": self.issuer_application_id,
            "receiver_application_id": self.receiver_application_id,
            "parent_edge_id": self.parent_edge_id,
            "resource_id": self.resource,
            "scopes": self.scopes,
            "constraints": self.constraints,
            "expires_at": self.expires_at,
            "ttl_seconds": ttl_seconds,
        })
    }

    /// Whether the request names no resource at all.
    pub(crate) fn is_unbounded(&self) -> bool {
        self.resource.is_none() && self.constraints.resources.is_none()
    }
}

fn all_four<A, B, C, D>(
    a: Option<A>,
    b: Option<B>,
    c: Option<C>,
    d: Option<D>,
) -> Option<(A, B, C, D)> {
    Some((a?, b?, c?, d?))
}

fn expiry(
    expires_at: Option<Timestamp>,
    constraints: &Constraints,
) -> Result<Expiry, DelegationRequestError> {
    expires_at
        .or(constraints.expires_at)
        .map(Expiry::At)
        .or(constraints.ttl_seconds.map(Expiry::After))
        .ok_or(DelegationRequestError::ExpiryRequired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Map;

    fn with(extra: Value) -> Result<DelegationRequest, DelegationRequestError> {
        let mut body = Map::from_iter([
            ("source_session_id".to_owned(), json!("s1")),
            ("target_session_id".to_owned(), json!("s2")),
            ("issuer_application_id".to_owned(), json!("a1")),
            ("receiver_application_id".to_owned(), json!("a2")),
        ]);
        if let Value::Object(extra) = extra {
            body.extend(extra);
        }
        DelegationRequest::parse(Some(Value::Object(body)))
    }

    #[test]
    fn a_date_rules_over_a_ttl() {
        let at = "2026-07-29T10:00:00Z";
        let both = with(json!({ "expires_at": at, "ttl_seconds": 60 })).unwrap();
        assert_eq!(both.expiry, Expiry::At(Timestamp::parse_utc(at).unwrap()));
        assert_eq!(both.constraints.ttl_seconds, Some(60));
        let inner = with(json!({ "constraints": { "expires_at": at }, "ttl_seconds": 60 }));
        assert_eq!(
            inner.unwrap().expiry,
            Expiry::At(Timestamp::parse_utc(at).unwrap())
        );
        assert_eq!(
            with(json!({ "ttl_seconds": 60 })).unwrap().expiry,
            Expiry::After(60)
        );
        assert_eq!(with(json!({})), Err(DelegationRequestError::ExpiryRequired));
    }

    #[test]
    fn scope_order_does_not_make_another_request() {
        let fingerprint = |scopes: [&str; 2]| {
            with(json!({ "ttl_seconds": 60, "scopes": scopes }))
                .unwrap()
                .fingerprint_fields()
        };
        assert_eq!(fingerprint(["b", "a"]), fingerprint(["a", "b"]));
    }

    #[test]
    fn the_resource_counts_in_the_form_in_which_it_was_sent() {
        let fingerprint = |resource: &str| {
            with(json!({ "ttl_seconds": 60, "resource_id": resource }))
                .unwrap()
                .fingerprint_fields()
        };
        assert_ne!(fingerprint("res-1"), fingerprint("resource://notes"));
    }

    #[test]
    fn malformed_delegations_are_refused() {
        for bad in [
            json!({ "source_session_id": 1 }),
            json!({ "target_session_id": "" }),
            json!({ "scopes": "read" }),
            json!({ "scopes": [""] }),
            json!({ "resource_id": "" }),
            json!({ "ttl_seconds": 0 }),
            json!({ "expires_at": "2026-07-29T10:00:00+02:00" }),
        ] {
            assert!(
                matches!(with(bad.clone()), Err(DelegationRequestError::Body(_))),
                "{bad}"
            );
        }
    }
}
