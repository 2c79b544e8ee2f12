//! Whether what changed in a zone may concern a running call.
//!
//! A busy zone changes all the time: Sessions end, edges are cut, and none of it has to do with most
//! running calls. Asking the STS about every call after every change would cost more than the calls.
//! So a change is passed over when it is of a Session, an edge or a record that the call does not rest
//! on. What it rests on is found by walking the same links as the STS: the edges above its own, the
//! Sessions that they join, the parents of those, and the records behind them. Those links never
//! change, so whoever walks them now finds what rested there before. Everything else, a gap in what is
//! known, and a link that leads nowhere, concern every call.

use std::collections::HashSet;

use caracal_core::id::{AuthorityRecordId, DelegationId, SessionId};
use caracal_crypto::Claims;
use caracal_store::{ChangeFeed, ChangeKind, Changes, Unavailable, ZoneView};

/// The longest chain of edges, and the deepest tree of Sessions, that is followed.
const MAX_LINKS: usize = 64;

/// Whether anything that changed after `since` may concern the call.
pub(super) async fn is_concerned(
    feed: &dyn ChangeFeed,
    view: &ZoneView,
    claims: &Claims,
    since: u64,
) -> Result<bool, Unavailable> {
    let changes = match feed.since(view.zone_id(), since).await? {
        Changes::Complete { changes, .. } => changes,
        Changes::Gap { .. } => return Ok(true),
    };
    let of_everybody = |kind| {
        !matches!(
            kind,
            ChangeKind::Session
                | ChangeKind::Delegation
                | ChangeKind::AuthorityRecord
                | ChangeKind::SigningKey
        )
    };
    if changes.iter().any(|change| of_everybody(change.kind)) {
        return Ok(true);
    }
    let Some(ground) = Ground::of(view, claims).await? else {
        return Ok(true);
    };
    Ok(changes.iter().any(|change| match change.kind {
        ChangeKind::Session => ground.sessions.contains(&*change.id),
        ChangeKind::Delegation => ground.edges.contains(&*change.id),
        ChangeKind::AuthorityRecord => ground.records.contains(&*change.id),
        _ => false,
    }))
}

/// What a call rests on.
#[derive(Default)]
struct Ground {
    sessions: HashSet<SessionId>,
    edges: HashSet<DelegationId>,
    records: HashSet<AuthorityRecordId>,
}

impl Ground {
    /// `None` when it can't be told.
    async fn of(view: &ZoneView, claims: &Claims) -> Result<Option<Self>, Unavailable> {
        let mut ground = Self::default();
        ground.records.insert(claims.sid.clone());
        ground.records.insert(claims.root_sid.clone());
        let mut sessions: Vec<SessionId> = claims.agent_session_id.iter().cloned().collect();
        let mut next = claims.delegation_edge_id.clone();
        while let Some(id) = next {
            let Some(edge) = view.delegation(&id).await? else {
                return Ok(None);
            };
            if ground.edges.len() == MAX_LINKS || !ground.edges.insert(id) {
                return Ok(None);
            }
            sessions.push(edge.source_session_id.clone());
            sessions.push(edge.target_session_id.clone());
            next = edge.parent_edge_id.clone();
        }
        for session in sessions {
            if !ground.take_tree(view, session).await? {
                return Ok(None);
            }
        }
        Ok(Some(ground))
    }

    /// Takes a Session, its parents and their records; false when a link leads nowhere.
    async fn take_tree(
        &mut self,
        view: &ZoneView,
        session: SessionId,
    ) -> Result<bool, Unavailable> {
        let mut next = Some(session);
        for _ in 0..MAX_LINKS {
            let Some(id) = next else { return Ok(true) };
            // What is above a Session that was taken before was taken with it.
            if self.sessions.contains(&id) {
                return Ok(true);
            }
            let Some(row) = view.session(&id).await? else {
                return Ok(false);
            };
            self.sessions.insert(id);
            self.records.insert(row.subject_authority_record_id.clone());
            next = row.parent_id.clone();
        }
        Ok(false)
    }
}
