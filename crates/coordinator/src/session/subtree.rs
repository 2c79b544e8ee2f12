//! What happens to a Session happens to everything below it.

use std::collections::HashSet;

use caracal_core::Timestamp;
use caracal_core::id::SessionId;
use caracal_events::Reason;
use caracal_store::entity::{Delegation, Session, SessionStatus};
use caracal_store::{EndSession, StoreError, Through, ZoneUnit};

use crate::delegation::cut_edges;
use crate::events;

/// Why and how Sessions end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    /// [`SessionStatus::Terminated`] or [`SessionStatus::Expired`]; only the roots take it.
    status: SessionStatus,
    reason: &'a Reason,
}

impl<'a> Ending<'a> {
    /// Somebody or something ends them.
    pub(crate) fn terminated(reason: &'a Reason) -> Self {
        Self {
            status: SessionStatus::Terminated,
            reason,
        }
    }

    /// Their time is over.
    pub(crate) fn expired() -> Self {
        Self {
            status: SessionStatus::Expired,
            reason: &Reason::TTL,
        }
    }

    fn of(&self, session: &Session, roots: &HashSet<&SessionId>) -> EndSession {
        let (status, reason) = if roots.contains(&session.id) {
            (self.status, self.reason)
        } else {
            (SessionStatus::Terminated, &Reason::PARENT_TERMINATED)
        };
        EndSession {
            id: session.id.clone(),
            status,
            reason: reason.to_string(),
        }
    }
}

/// What ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// The Sessions, as they were.
    pub(crate) sessions: Vec<Session>,
    /// The edges that were cut with them.
    pub(crate) edges: Vec<Delegation>,
}

/// Ends `roots` and everything below them, with the edges that touch them and those derived from
/// such edges. Every Session and every edge is announced, so that verifiers that only hear the
/// stream refuse what was minted through any of them.
pub(crate) async fn end_subtrees(
    unit: &mut ZoneUnit,
    roots: &[SessionId],
    ending: Ending<'_>,
) -> Result<Ended, StoreError> {
    let sessions = unit.session_tree(roots, Through::Live).await?;
    let root_ids: HashSet<&SessionId> = roots.iter().collect();
    let ends: Vec<EndSession> = sessions
        .iter()
        .map(|session| ending.of(session, &root_ids))
        .collect();
    unit.end_sessions(&ends).await?;
    for session in &sessions {
        events::session_ended(unit, session, ending.reason).await?;
    }
    let ids: Vec<SessionId> = sessions.iter().map(|session| session.id.clone()).collect();
    let touching = unit.active_delegations_touching(&ids).await?;
    let edges = cut_edges(unit, touching, ending.reason).await?;
    Ok(Ended { sessions, edges })
}

/// Suspends the active Sessions among `roots` and everything active below them; returns how many.
/// This can be undone, so no verifier is told to refuse anything: roles learn of it from the zone's
/// state.
pub(crate) async fn suspend_subtrees(
    unit: &mut ZoneUnit,
    roots: &[SessionId],
    reason: &Reason,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let sessions = unit.session_tree(roots, Through::Active).await?;
    let ids: Vec<SessionId> = sessions.iter().map(|session| session.id.clone()).collect();
    unit.suspend_sessions(&ids).await?;
    for session in &sessions {
        events::session_suspended(unit, session, reason, now).await?;
    }
    Ok(sessions.len())
}

/// Resumes the suspended Session `root` and everything suspended below it; returns how many.
pub(crate) async fn resume_subtree(
    unit: &mut ZoneUnit,
    root: &SessionId,
    service_deadline: Timestamp,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let sessions = unit
        .session_tree(std::slice::from_ref(root), Through::Suspended)
        .await?;
    let ids: Vec<SessionId> = sessions.iter().map(|session| session.id.clone()).collect();
    unit.resume_sessions(&ids, service_deadline).await?;
    for session in &sessions {
        events::session_resumed(unit, session, now).await?;
    }
    Ok(sessions.len())
}
