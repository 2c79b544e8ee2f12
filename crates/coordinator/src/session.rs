//! Governed Sessions: a tree of executions, each owned by one application.

mod end;
mod heartbeat;
mod inherit;
mod lease;
mod read;
mod request;
mod resume;
mod start;
mod subject;
mod subtree;
mod suspend;

use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, AuthorityRecordId, SessionId, ZoneId};
use caracal_store::entity::{Lifecycle, Session, SessionStatus};
use serde::Serialize;
use thiserror::Error;

pub(crate) use end::{EndError, end};
pub(crate) use heartbeat::heartbeat;
pub(crate) use inherit::InheritError;
pub(crate) use lease::{LeaseError, lease};
pub(crate) use read::{children, find_visible, get, list};
#[cfg(test)]
pub(crate) use request::StartRequest;
pub(crate) use resume::resume;
pub(crate) use start::{StartError, start};
pub(crate) use subject::SubjectError;
pub(crate) use subtree::{Ending, end_subtrees, suspend_subtrees};
pub(crate) use suspend::{ToggleError, suspend};

/// The Session is not there, or not the caller's to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SessionAccessError {
    /// Unknown.
    #[error("there is no such Session")]
    NotFound,
    /// Another application's.
    #[error("the Session belongs to another application")]
    NotOwner,
}

/// What every answer tells about a Session.
#[derive(Debug, Serialize)]
struct SessionFields<'a> {
    agent_session_id: &'a SessionId,
    zone_id: &'a ZoneId,
    application_id: &'a ApplicationId,
    parent_id: Option<&'a SessionId>,
    subject_authority_record_id: &'a AuthorityRecordId,
    lifecycle: &'static str,
    labels: &'a [String],
    status: SessionStatus,
    depth: i64,
    ttl_seconds: Option<i64>,
    started_at: Timestamp,
    last_heartbeat_at: Option<Timestamp>,
    heartbeat_deadline_at: Option<Timestamp>,
    lease_generation: i64,
}

impl<'a> From<&'a Session> for SessionFields<'a> {
    fn from(session: &'a Session) -> Self {
        let (ttl_seconds, lease) = match session.lifecycle {
            Lifecycle::Task { ttl_seconds } => (Some(ttl_seconds), None),
            Lifecycle::Service(lease) => (None, Some(lease)),
        };
        Self {
            agent_session_id: &session.id,
            zone_id: &session.zone_id,
            application_id: &session.application_id,
            parent_id: session.parent_id.as_ref(),
            subject_authority_record_id: &session.subject_authority_record_id,
            lifecycle: session.lifecycle.as_str(),
            labels: &session.labels,
            status: session.status,
            depth: session.depth,
            ttl_seconds,
            started_at: session.started_at,
            last_heartbeat_at: lease.map(|lease| lease.last_heartbeat_at),
            heartbeat_deadline_at: lease.map(|lease| lease.heartbeat_deadline_at),
            lease_generation: session.lease_generation,
        }
    }
}
