//! The JSON form of a request: what simulations send and explain tools show.
//!
//! A part is *present* when its key exists and is not `false`; what only a delegation or a mandate
//! could carry in another form (a string of scopes where a list belongs, a single target) is there
//! and matches nothing, as in the contract. Parts that no caller can get wrong in good faith are
//! refused.

use caracal_core::id::ZoneId;
use caracal_core::{ResourceIdentifier, Scope};
use serde_json::{Map, Value};

use super::request::{
    Action, DecisionRequest, Delegation, Principal, PrincipalKind, SubjectClaims,
};
use crate::SCHEMA_VERSION;

/// The input is not one that the contract can be asked about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} must be {expected}")]
pub struct InvalidInput {
    /// The part at fault, in dotted form.
    pub path: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

/// A request read from JSON; [`DecisionInput::request`] borrows it for a decision.
#[derive(Debug, Clone)]
pub struct DecisionInput {
    kind: PrincipalKind,
    id: String,
    labels: Vec<String>,
    resource: String,
    action: Action,
    requested_scopes: Vec<Scope>,
    agent_session: bool,
    delegation: Option<(Option<String>, Vec<Scope>)>,
    subject: Option<Subject>,
}

#[derive(Debug, Clone)]
struct Subject {
    delegation_edge_id: String,
    target: Vec<ResourceIdentifier>,
    scope: String,
}

impl DecisionInput {
    /// Reads an input document of schema `2026-05-20`; an absent or empty `schema_version` is
    /// filled in.
    ///
    /// # Errors
    /// [`InvalidInput`] when the document is no object, of another schema, or has a part of a wrong
    /// type.
    pub fn from_json(input: &Value) -> Result<Self, InvalidInput> {
        let input = Some(object("input", input)?);
        let version = text(input, "schema_version", "schema_version")?;
        if !version.is_empty() && version != SCHEMA_VERSION {
            return Err(InvalidInput {
                path: "schema_version",
                expected: SCHEMA_VERSION,
            });
        }
        let principal = part(input, "principal", "principal")?;
        let context = part(input, "context", "context")?;
        let kind = match text(principal, "type", "principal.type")? {
            "Workload" => PrincipalKind::Workload,
            _ => PrincipalKind::Application,
        };
        let action = part(input, "action", "action")?;
        let action = match text(action, "id", "action.id")? {
            "CredentialInjection" => Action::CredentialInjection,
            _ => Action::TokenExchange,
        };
        let resource = part(input, "resource", "resource")?;
        let requested = texts(context, "requested_scopes", "context.requested_scopes")?;
        Ok(Self {
            kind,
            id: text(principal, "id", "principal.id")?.to_owned(),
            labels: texts(principal, "labels", "principal.labels")?
                .into_iter()
                .map(str::to_owned)
                .collect(),
            resource: text(resource, "identifier", "resource.identifier")?.to_owned(),
            action,
            requested_scopes: requested.into_iter().map(Scope::new).collect(),
            agent_session: has(context, "agent_session_id").is_some(),
            delegation: has(input, "delegation_edge").map(delegation),
            subject: has(context, "subject_claims").map(subject),
        })
    }

    /// The request for [`ZonePolicy::decide`](crate::ZonePolicy::decide).
    #[must_use]
    pub fn request(&self) -> DecisionRequest<'_> {
        DecisionRequest {
            principal: Principal {
                kind: self.kind,
                id: &self.id,
                labels: &self.labels,
            },
            resource: &self.resource,
            action: self.action,
            requested_scopes: &self.requested_scopes,
            agent_session: self.agent_session,
            delegation: self.delegation.as_ref().map(|(id, scopes)| Delegation {
                id: id.as_deref(),
                scopes,
            }),
            subject: self.subject.as_ref().map(|subject| SubjectClaims {
                delegation_edge_id: &subject.delegation_edge_id,
                target: &subject.target,
                scope: &subject.scope,
            }),
        }
    }
}

/// What a simulation should warn about before its result is relied on, in the order of the parts.
#[must_use]
pub fn input_warnings(input: &Value, zone: &ZoneId) -> Vec<String> {
    let mut warnings = Vec::new();
    match input.get("schema_version") {
        None => {}
        Some(Value::String(version)) if version == SCHEMA_VERSION => {}
        Some(Value::String(version)) => warnings.push(format!("input_schema_mismatch:{version}")),
        Some(version) => warnings.push(format!("input_schema_mismatch:{version}")),
    }
    let principal_zone = input
        .get("principal")
        .and_then(|principal| principal.get("zone_id"));
    if principal_zone.and_then(Value::as_str) != Some(zone.as_str()) {
        warnings.push("principal_zone_mismatch".to_owned());
    }
    for part in ["resource", "action", "context"] {
        if !input.get(part).is_some_and(Value::is_object) {
            warnings.push(format!("missing_{part}"));
        }
    }
    warnings
}

fn delegation(edge: &Value) -> (Option<String>, Vec<Scope>) {
    let edge = edge.as_object();
    let id = has(edge, "id").map(as_text);
    let scopes = edge
        .and_then(|edge| edge.get("scopes"))
        .map_or_else(Vec::new, strings);
    (id, scopes.into_iter().map(Scope::new).collect())
}

fn subject(claims: &Value) -> Subject {
    let claims = claims.as_object();
    let claim = |name| has(claims, name);
    Subject {
        delegation_edge_id: claim("delegation_edge_id").map(as_text).unwrap_or_default(),
        target: claim("target")
            .map_or_else(Vec::new, strings)
            .into_iter()
            .map(ResourceIdentifier::new)
            .collect(),
        scope: claim("scope")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    }
}

/// The value of a key that exists and is not `false`.
fn has<'v>(object: Part<'v>, key: &str) -> Option<&'v Value> {
    object?
        .get(key)
        .filter(|value| **value != Value::Bool(false))
}

/// A string as it is; anything else that is present counts as there, by its JSON text.
fn as_text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The strings of an array; anything else matches nothing.
fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .map(|items| items.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// An object of the input; an absent one has no keys.
type Part<'v> = Option<&'v Map<String, Value>>;

fn object<'v>(
    path: &'static str,
    value: &'v Value,
) -> Result<&'v Map<String, Value>, InvalidInput> {
    value.as_object().ok_or(InvalidInput {
        path,
        expected: "an object",
    })
}

/// The value of a key; `null` counts as absent.
fn given<'v>(object: Part<'v>, key: &str) -> Option<&'v Value> {
    object?.get(key).filter(|value| !value.is_null())
}

fn part<'v>(input: Part<'v>, key: &str, path: &'static str) -> Result<Part<'v>, InvalidInput> {
    given(input, key)
        .map(|value| object(path, value))
        .transpose()
}

fn text<'v>(object: Part<'v>, key: &str, path: &'static str) -> Result<&'v str, InvalidInput> {
    match given(object, key) {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(InvalidInput {
            path,
            expected: "a string",
        }),
    }
}

fn texts<'v>(
    object: Part<'v>,
    key: &str,
    path: &'static str,
) -> Result<Vec<&'v str>, InvalidInput> {
    let wrong = InvalidInput {
        path,
        expected: "an array of strings",
    };
    match given(object, key) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| item.as_str().ok_or(wrong.clone()))
            .collect(),
        Some(_) => Err(wrong),
    }
}
