//! What callers send about Sessions, parsed.

use std::num::NonZeroU32;

use caracal_core::Secret;
use caracal_core::id::{ApplicationId, AuthorityRecordId, DelegationId, SessionId};
use caracal_events::Reason;
use serde_json::{Map, Value, json};

use crate::body::{self, BodyError, Field, Fields};
use crate::query::{Query, QueryError};

/// The life of a task that asked for none, seconds.
const DEFAULT_TTL_SECONDS: i64 = 3_600;
/// The longest life of a task, seconds.
const MAX_TTL_SECONDS: i64 = 86_400;
/// The most labels of a Session.
const MAX_LABELS: usize = 32;
/// The longest label, characters.
const MAX_LABEL: usize = 64;
/// The longest reason of an end, characters.
const MAX_REASON: usize = 256;

/// How long a new Session may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// A task, for so many seconds.
    Task {
        /// 1 to 86,400.
        ttl_seconds: i64,
    },
    /// A service, while its lease is renewed.
    Service,
}

impl Life {
    /// The name on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Task { .. } => "task",
            Self::Service => "service",
        }
    }

    fn ttl_seconds(self) -> Option<i64> {
        match self {
            Self::Task { ttl_seconds } => Some(ttl_seconds),
            Self::Service => None,
        }
    }
}

/// Whether a child gets its parent's authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParentAuthority {
    /// Yes: the named edge, or the only one there is.
    Inherit(Option<DelegationId>),
    /// No.
    None,
}

/// A request for a new Session.
#[derive(Debug, Clone)]
pub(crate) struct StartRequest {
    /// Whose Session it will be.
    pub(crate) application_id: ApplicationId,
    /// The record to anchor on; the bearer's own when absent.
    pub(crate) subject: Option<AuthorityRecordId>,
    /// The federated user's mandate.
    pub(crate) subject_token: Option<Secret<String>>,
    /// The parent in the tree.
    pub(crate) parent_id: Option<SessionId>,
    /// Task or service.
    pub(crate) life: Life,
    /// Labels, trimmed, in the order given.
    pub(crate) labels: Vec<String>,
    /// What the child gets of its parent's authority.
    pub(crate) parent_authority: ParentAuthority,
    /// Free data.
    pub(crate) metadata: Map<String, Value>,
}

impl StartRequest {
    /// Reads the body.
    pub(crate) fn parse(body: Option<Value>) -> Result<Self, BodyError> {
        let mut fields = Fields::of(body)?;
        let application_id = fields.required("application_id", body::id);
        let subject = fields.optional("subject_session_id", body::id);
        let subject_token = fields.optional("subject_token", body::any_text);
        let parent_id = fields.nullable("parent_id", body::id);
        let life = read_life(&mut fields);
        let labels = fields
            .optional("labels", body::list(MAX_LABELS, label))
            .unwrap_or_default();
        let parent_authority = read_parent_authority(&mut fields);
        let metadata = fields
            .optional("metadata", body::object)
            .unwrap_or_default();
        fields.finish(application_id.map(|application_id| Self {
            application_id,
            subject,
            subject_token: subject_token.map(Secret::new),
            parent_id,
            life,
            labels,
            parent_authority,
            metadata,
        }))
    }

    /// What makes two requests the same one. The subject record counts only when the body named it:
    /// the record of the bearer changes with every fresh token.
    pub(crate) fn fingerprint_fields(&self) -> Value {
        let (authority, edge) = match &self.parent_authority {
            ParentAuthority::Inherit(edge) => ("inherit", edge.as_ref()),
            ParentAuthority::None => ("none", None),
        };
        json!({
            "application_id": self.application_id,
            "subject_authority_record_id": self.subject,
            "parent_id": self.parent_id,
            "lifecycle": self.life.as_str(),
            "labels": self.labels,
            "ttl_seconds": self.life.ttl_seconds(),
            "parent_authority": authority,
            "inherit_parent_edge_id": edge,
            "metadata": self.metadata,
        })
    }
}

fn read_life(fields: &mut Fields) -> Life {
    let service = fields.optional("lifecycle", |value| match value.as_str() {
        Some("task") => Ok(false),
        Some("service") => Ok(true),
        _ => Err("task or service is required".into()),
    });
    let ttl_seconds = fields.optional("ttl_seconds", body::integer(1..=MAX_TTL_SECONDS));
    if service != Some(true) {
        let ttl_seconds = ttl_seconds.unwrap_or(DEFAULT_TTL_SECONDS);
        return Life::Task { ttl_seconds };
    }
    if fields.raw("ttl_seconds").is_some() {
        fields.refuse("ttl_seconds", "a service has no ttl_seconds");
    }
    Life::Service
}

fn read_parent_authority(fields: &mut Fields) -> ParentAuthority {
    let inherit = fields.optional("parent_authority", |value| match value.as_str() {
        Some("inherit") => Ok(true),
        Some("none") => Ok(false),
        _ => Err("inherit or none is required".into()),
    });
    let edge = fields.optional("inherit_parent_edge_id", body::id);
    if inherit == Some(false) {
        ParentAuthority::None
    } else {
        ParentAuthority::Inherit(edge)
    }
}

fn label(value: &Value) -> Field<String> {
    let text = value.as_str().unwrap_or("").trim();
    if (1..=MAX_LABEL).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err(format!("labels of 1 to {MAX_LABEL} characters are required").into())
    }
}

/// A holder's number of a service's lease; the first holder has 1.
pub(crate) type Generation = NonZeroU32;

fn generation(value: &Value) -> Field<Generation> {
    let number = body::integer(1..=i64::from(u32::MAX))(value)?;
    u32::try_from(number)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| "a whole number of at least 1 is required".into())
}

/// A request to end a Session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndRequest {
    /// Why.
    pub(crate) reason: Reason,
    /// Which holder of a service asks.
    pub(crate) generation: Option<Generation>,
}

impl EndRequest {
    /// Reads `reason` from the query. It goes out on signed streams whose form escapes nothing, so it
    /// has no control characters.
    pub(crate) fn reason(query: &Query) -> Result<Reason, QueryError> {
        let reason = query.read("reason", |text| {
            let fits = text.chars().count() <= MAX_REASON;
            if fits { Reason::parse(text).ok() } else { None }
        })?;
        Ok(reason.unwrap_or(Reason::REQUESTED))
    }

    /// Reads the generation from the body, which may be absent.
    pub(crate) fn generation(body: Option<Value>) -> Result<Option<Generation>, BodyError> {
        let Some(body) = body else { return Ok(None) };
        let mut fields = Fields::of(Some(body))?;
        let generation = fields.optional("lease_generation", generation);
        fields.finish(Some(generation))
    }
}

/// A holder's sign of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeartbeatRequest {
    /// Which holder.
    pub(crate) generation: Generation,
    /// The registered service that the beat is about.
    pub(crate) service_id: Option<String>,
    /// What the holder is working on; echoed.
    pub(crate) active_invocations: i64,
}

impl HeartbeatRequest {
    /// Reads the body.
    pub(crate) fn parse(body: Option<Value>) -> Result<Self, BodyError> {
        let mut fields = Fields::of(body)?;
        let generation = fields.required("lease_generation", generation);
        fields.optional("status", |value| match value.as_str() {
            Some("starting" | "healthy" | "degraded" | "unhealthy") => Ok(()),
            _ => Err("starting, healthy, degraded or unhealthy is required".into()),
        });
        let service_id = fields.optional("service_id", body::any_text);
        let active = fields.optional("active_invocations", body::integer(0..=i64::MAX));
        fields.optional("metadata", body::object);
        fields.finish(generation.map(|generation| Self {
            generation,
            service_id,
            active_invocations: active.unwrap_or(0),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(body: Value) -> Result<StartRequest, BodyError> {
        StartRequest::parse(Some(body))
    }

    #[test]
    fn the_shape_of_an_application_transport_is_a_task() {
        let request =
            start(json!({ "application_id": "app", "ttl_seconds": 1020, "labels": [" app "] }))
                .unwrap();
        assert_eq!(request.life, Life::Task { ttl_seconds: 1020 });
        assert_eq!(request.labels, ["app"]);
        assert_eq!(request.parent_authority, ParentAuthority::Inherit(None));
    }

    #[test]
    fn malformed_starts_are_refused() {
        for bad in [
            json!({}),
            json!({ "application_id": "" }),
            json!({ "application_id": "a", "parent_id": "" }),
            json!({ "application_id": "a", "lifecycle": "daemon" }),
            json!({ "application_id": "a", "lifecycle": "service", "ttl_seconds": 60 }),
            json!({ "application_id": "a", "lifecycle": "service", "ttl_seconds": null }),
            json!({ "application_id": "a", "ttl_seconds": 0 }),
            json!({ "application_id": "a", "ttl_seconds": 86_401 }),
            json!({ "application_id": "a", "labels": vec!["l"; 33] }),
            json!({ "application_id": "a", "labels": ["  "] }),
            json!({ "application_id": "a", "labels": ["x".repeat(65)] }),
            json!({ "application_id": "a", "parent_authority": "some" }),
            json!({ "application_id": "a", "metadata": [] }),
            json!("x"),
        ] {
            assert!(
                matches!(start(bad.clone()), Err(BodyError::Invalid(_))),
                "{bad}"
            );
        }
        assert!(matches!(
            StartRequest::parse(None),
            Err(BodyError::Invalid(_))
        ));
    }

    #[test]
    fn an_edge_to_inherit_is_ignored_without_inheritance() {
        let request = start(json!({
            "application_id": "a", "parent_authority": "none", "inherit_parent_edge_id": "e"
        }));
        assert_eq!(request.unwrap().parent_authority, ParentAuthority::None);
    }

    #[test]
    fn a_reason_may_not_spell_another_field() {
        let reason = |raw| EndRequest::reason(&Query::parse(Some(raw)));
        assert_eq!(reason("").unwrap(), Reason::REQUESTED);
        assert_eq!(reason("reason=done").unwrap().as_str(), "done");
        assert!(reason("reason=a%0Azone_id=z").is_err());
        assert!(reason("reason=").is_err());
        let long = format!("reason={}", "x".repeat(257));
        assert!(EndRequest::reason(&Query::parse(Some(&long))).is_err());
    }

    #[test]
    fn a_generation_is_a_positive_whole_number() {
        for bad in [json!(0), json!(-1), json!("1"), json!(1.5), json!(null)] {
            let body = json!({ "lease_generation": bad });
            assert!(
                EndRequest::generation(Some(body.clone())).is_err(),
                "{body}"
            );
            assert!(HeartbeatRequest::parse(Some(body)).is_err());
        }
        assert_eq!(EndRequest::generation(None), Ok(None));
        assert_eq!(EndRequest::generation(Some(json!({}))), Ok(None));
    }
}
