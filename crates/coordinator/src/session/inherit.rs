//! A child gets its parent's authority: one live edge of the parent, mirrored.

use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, DelegationId};
use caracal_store::entity::{Delegation, Session};
use caracal_store::{StoreError, ZoneUnit};
use thiserror::Error;

use crate::delegation::accept;
use crate::liveness::live_lineage;
use crate::session::request::ParentAuthority;

/// Why a child can't inherit.
#[derive(Debug, Error)]
pub(crate) enum InheritError {
    /// The edge, or every edge that there was, is over.
    #[error("the parent's delegation is not active any more")]
    NotActive,
    /// More than one live edge, and none is named.
    #[error("the parent has several live delegations; name one in inherit_parent_edge_id")]
    Ambiguous,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a new Session gets from above.
#[derive(Debug)]
pub(crate) struct Inheritance {
    /// The edge to mirror.
    pub(crate) edge: Option<Delegation>,
    /// Whether the new Session is the root of its authority.
    pub(crate) authority_root: bool,
}

/// Decides what a new Session of `application` gets from its parent.
pub(crate) async fn inheritance(
    unit: &mut ZoneUnit,
    parent: Option<&Session>,
    application: &ApplicationId,
    wanted: &ParentAuthority,
    now: Timestamp,
) -> Result<Inheritance, InheritError> {
    let Some(parent) = parent else {
        return Ok(Inheritance {
            edge: None,
            authority_root: true,
        });
    };
    let edge = match wanted {
        ParentAuthority::None => None,
        ParentAuthority::Inherit(named) => {
            the_live_edge(unit, parent, application, named.as_ref(), now).await?
        }
    };
    let edge = match edge {
        Some(edge) => Some(accept(unit, edge).await?),
        None => None,
    };
    Ok(Inheritance {
        authority_root: edge.is_none() && parent.authority_root,
        edge,
    })
}

/// The one live edge that the child can have: the named one, or the only one. An edge from another
/// application counts once the receiver has used it; naming it here is using it.
async fn the_live_edge(
    unit: &ZoneUnit,
    parent: &Session,
    application: &ApplicationId,
    named: Option<&DelegationId>,
    now: Timestamp,
) -> Result<Option<Delegation>, InheritError> {
    if parent.application_id != *application {
        return no_edge(named.is_some());
    }
    let mut live = Vec::new();
    for edge in unit.live_parent_candidates(&parent.id, named, now).await? {
        let is_wanted = named.is_none_or(|named| *named == edge.id);
        if is_wanted && live_lineage(unit, &edge.id, now).await?.is_some() {
            live.push(edge);
        }
    }
    match (live.pop(), live.is_empty()) {
        (Some(edge), true) => Ok(Some(edge)),
        (Some(_), false) => Err(InheritError::Ambiguous),
        (None, _) => no_edge(named.is_some() || unit.has_parent_candidates(&parent.id).await?),
    }
}

/// Without a live edge a child starts with none, unless it was to get one that is over.
fn no_edge(one_was_expected: bool) -> Result<Option<Delegation>, InheritError> {
    if one_was_expected {
        Err(InheritError::NotActive)
    } else {
        Ok(None)
    }
}
