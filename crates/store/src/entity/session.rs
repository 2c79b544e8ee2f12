use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, AuthorityRecordId, SessionId, ZoneId};
use serde_json::{Map, Value};

use super::wire_names;

/// State of a Session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStatus {
    /// Running.
    Active,
    /// Reversibly stopped.
    Suspended,
    /// Ended.
    Terminated,
    /// Ended because its lifetime passed.
    Expired,
}

wire_names!(SessionStatus {
    Active => "active",
    Suspended => "suspended",
    Terminated => "terminated",
    Expired => "expired",
});

/// The kind of a Session, with what bounds its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// Ends `ttl_seconds` after its start.
    Task {
        /// 1 to 86,400.
        ttl_seconds: i64,
    },
    /// Lives while its holder renews the lease.
    Service(Lease),
}

/// A service's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When the holder last renewed.
    pub last_heartbeat_at: Timestamp,
    /// When the lease lapses; frozen while suspended.
    pub heartbeat_deadline_at: Timestamp,
}

impl Lifecycle {
    /// `task` or `service`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Task { .. } => "task",
            Self::Service(_) => "service",
        }
    }
}

/// A governed Session: one node of an execution tree.
#[derive(Debug, Clone)]
pub struct Session {
    /// Row id, `agent_session_id` on the wire.
    pub id: SessionId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// Owning application.
    pub application_id: ApplicationId,
    /// Parent in the tree.
    pub parent_id: Option<SessionId>,
    /// The authority record that it was started on.
    pub subject_authority_record_id: AuthorityRecordId,
    /// State.
    pub status: SessionStatus,
    /// Task or service.
    pub lifecycle: Lifecycle,
    /// 0 for a root, at most 10.
    pub depth: i64,
    /// Labels: they choose the role in policy. At most 32.
    pub labels: Vec<String>,
    /// Limit of live children.
    pub max_children: i64,
    /// Live children.
    pub child_count: i64,
    /// Whether the Session may delegate without an inbound edge. A Session that was ever narrowed
    /// (or descends from one) may not: a lapsed narrowing never restores root authority.
    pub authority_root: bool,
    /// Free data of the caller.
    pub metadata: Map<String, Value>,
    /// Fencing number of a service's holder; 0 for tasks.
    pub lease_generation: i64,
    /// When it started.
    pub started_at: Timestamp,
    /// Last sign of life.
    pub last_active_at: Timestamp,
    /// When it ended.
    pub terminated_at: Option<Timestamp>,
    /// Why it ended.
    pub termination_reason: Option<String>,
    /// When the row last changed.
    pub updated_at: Timestamp,
}

impl Session {
    /// Whether the Session itself (not its ancestors) carries authority at `now`.
    #[must_use]
    pub fn is_effectively_live(&self, now: Timestamp) -> bool {
        self.status == SessionStatus::Active
            && match self.lifecycle {
                Lifecycle::Task { ttl_seconds } => self.started_at.plus_seconds(ttl_seconds) > now,
                Lifecycle::Service(lease) => lease.heartbeat_deadline_at > now,
            }
    }

    /// The end of a task's life. A service has none: its lease is a test of liveness.
    #[must_use]
    pub fn ends_at(&self) -> Option<Timestamp> {
        match self.lifecycle {
            Lifecycle::Task { ttl_seconds } => Some(self.started_at.plus_seconds(ttl_seconds)),
            Lifecycle::Service(_) => None,
        }
    }
}
