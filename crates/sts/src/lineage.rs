//! Sessions and Delegations: is every ancestor of the presented authority alive, and how far does it
//! reach?
//!
//! One leaf edge stands for a whole line: the edges above it, the Sessions that each edge joins, the
//! parents of those Sessions, the federated users that some of them were started for, and the
//! applications that own them. Each one is judged, and each one that ends bounds the mandate. Rows
//! past their end may still say active, so time is tested beside status.

mod chain;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use caracal_core::id::{ApplicationId, AuthorityRecordId, DelegationId, SessionId};
use caracal_core::{ScopeSet, Timestamp};
use caracal_store::ZoneView;
use caracal_store::entity::{Application, Delegation, Resource, Session};
use thiserror::Error;

use crate::Sts;
use crate::client_auth::Client;
use crate::error::Refusal;
use crate::lifetime::Bound;
use chain::read_chain;
use session::SessionJudge;

/// Most edges of one line, mirrored ones included.
const MAX_EDGES: usize = 64;

/// Most edges that count as hops; published verifiers refuse more.
const MAX_HOPS: usize = 10;

/// Most parents of a Session: the Coordinator keeps trees at most 10 deep.
const MAX_SESSION_DEPTH: usize = 16;

/// Why a Session carries no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SessionInvalid {
    /// No such Session in the zone.
    #[error("the Session does not exist")]
    Unknown,
    /// It, or a parent of it, is suspended, ended, or past its time.
    #[error("the Session, or a parent of it, is not live")]
    NotLive,
    /// It belongs to another application.
    #[error("the Session belongs to another application")]
    NotOwned,
    /// The authority record that it was started on was revoked, or its user's identity has ended.
    #[error("the identity behind the Session is not active")]
    SubjectInactive,
    /// Its parents make no tree.
    #[error("the Session's parents make no tree")]
    Malformed,
}

/// Why a Delegation carries no authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum DelegationInvalid {
    /// A Delegation is presented by the Session that received it.
    #[error("a Delegation needs the Session that received it (agent_session_id)")]
    WithoutSession,
    /// A governed call is made under a Delegation.
    #[error("the mandate is not bound to a Delegation")]
    Missing,
    /// No such Delegation in the zone.
    #[error("the Delegation, or one above it, does not exist")]
    Unknown,
    /// It, or one above it, is revoked or past its end.
    #[error("the Delegation, or one above it, is not live")]
    NotLive,
    /// It was given to another Session.
    #[error("the Delegation was given to another Session")]
    OtherSession,
    /// The Sessions that an edge joins are not those of its applications.
    #[error("the Delegation does not fit its Sessions")]
    Discontinuous,
    /// A Session or an application above is not live.
    #[error("a Session or application above the Delegation is not live")]
    AncestorNotLive,
    /// The line has a cycle or too many edges.
    #[error("the Delegation has too many ancestors")]
    TooLong,
    /// More hops below an edge than it allows.
    #[error("the Delegation is more hops away than an ancestor allows")]
    TooManyHops,
    /// A scope that an edge does not delegate.
    #[error("a requested scope exceeds the Delegation")]
    ScopeExceeded,
    /// `ttl_seconds` above the constraint of an edge.
    #[error("ttl_seconds exceeds the Delegation")]
    TtlExceeded,
}

/// What a request presents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presented<'a> {
    /// The calling application.
    pub(crate) application: &'a Application,
    /// The Session.
    pub(crate) session: Option<&'a SessionId>,
    /// The Delegation.
    pub(crate) delegation: Option<&'a DelegationId>,
    /// Requested scopes, or on the Gateway leg those of the mandate.
    pub(crate) scopes: &'a ScopeSet,
    /// An explicit `ttl_seconds`.
    pub(crate) ttl_seconds: Option<i64>,
}

/// The live authority that a request acts under.
#[derive(Debug)]
pub(crate) enum Lineage {
    /// The application itself.
    Application,
    /// A Session without a Delegation: it may live, and mints nothing.
    Session(SessionLine),
    /// A Session with a Delegation.
    Delegated(Box<DelegatedLine>),
}

/// A live Session and what bounds it.
#[derive(Debug, Clone)]
pub(crate) struct SessionLine {
    /// The Session.
    pub(crate) session: Arc<Session>,
    /// The record that it was started on: the mandate's `root_sid`.
    pub(crate) subject_record: AuthorityRecordId,
    /// The earliest end of the Session, its parents and their users.
    pub(crate) bound: Bound,
}

/// A live Delegation with all its ancestors. Only [`Lineage::judge`] makes one.
#[derive(Debug)]
pub(crate) struct DelegatedLine {
    /// The receiving Session.
    pub(crate) target: SessionLine,
    /// The presented edge.
    leaf: Arc<Delegation>,
    /// Every edge, root first, the presented one last.
    pub(crate) edges: Vec<Arc<Delegation>>,
    /// Edges that count as hops.
    pub(crate) hop_count: u32,
    /// The zone's delegation epoch.
    pub(crate) epoch: i64,
    /// The earliest end of everything.
    pub(crate) bound: Bound,
}

impl Sts {
    /// Judges what a client presents, and counts the walks through the graph.
    pub(crate) async fn judge_lineage(
        &self,
        client: &Client,
        presented: Presented<'_>,
    ) -> Result<Lineage, Refusal> {
        let walks = presented.delegation.is_some();
        let judged = Lineage::judge(&client.view, client.now, presented).await;
        if walks {
            self.measures.traversed(judged.is_ok());
        }
        judged
    }
}

impl Lineage {
    /// Judges what a request presents, in the order of its references.
    async fn judge(
        view: &ZoneView,
        now: Timestamp,
        presented: Presented<'_>,
    ) -> Result<Self, Refusal> {
        let sessions = SessionJudge::new(view, now);
        match (presented.session, presented.delegation) {
            (None, None) => Ok(Self::Application),
            (None, Some(_)) => Err(DelegationInvalid::WithoutSession.into()),
            (Some(session), None) => sessions
                .judge_owned(session, &presented.application.id)
                .await
                .map(Self::Session),
            (Some(session), Some(delegation)) => {
                let line = judge_delegated(view, now, &sessions, session, delegation, presented);
                Ok(Self::Delegated(Box::new(line.await?)))
            }
        }
    }

    /// The Session, if one is presented.
    pub(crate) fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Application => None,
            Self::Session(line) => Some(&line.session),
            Self::Delegated(line) => Some(&line.target.session),
        }
    }

    /// The Delegation's line, if one is presented.
    pub(crate) fn delegated(&self) -> Option<&DelegatedLine> {
        match self {
            Self::Delegated(line) => Some(line),
            Self::Application | Self::Session(_) => None,
        }
    }

    /// The earliest end of everything in it.
    pub(crate) fn bound(&self) -> Bound {
        match self {
            Self::Application => Bound::NONE,
            Self::Session(line) => line.bound,
            Self::Delegated(line) => line.bound,
        }
    }

    /// Whether every edge reaches the resource; without a Delegation nothing limits it.
    pub(crate) fn covers(&self, resource: &Resource) -> bool {
        self.delegated()
            .is_none_or(|line| line.edges.iter().all(|edge| covers(edge, resource)))
    }
}

impl DelegatedLine {
    /// The presented edge.
    pub(crate) fn leaf(&self) -> &Arc<Delegation> {
        &self.leaf
    }

    /// Whether a mint uses up a budget.
    pub(crate) fn has_budget(&self) -> bool {
        self.edges.iter().any(|edge| edge.own_budget().is_some())
    }
}

fn covers(edge: &Delegation, resource: &Resource) -> bool {
    let row = edge
        .resource_id
        .as_ref()
        .is_none_or(|id| *id == resource.id);
    let listed = edge
        .constraints
        .resources
        .as_ref()
        .is_none_or(|named| named.is_empty() || named.contains(&resource.identifier));
    row && listed
}

async fn judge_delegated(
    view: &ZoneView,
    now: Timestamp,
    sessions: &SessionJudge<'_>,
    session: &SessionId,
    delegation: &DelegationId,
    presented: Presented<'_>,
) -> Result<DelegatedLine, Refusal> {
    let edges = read_chain(view, now, delegation).await?;
    let leaf = edges
        .last()
        .map(Arc::clone)
        .ok_or(DelegationInvalid::Unknown)?;
    if leaf.target_session_id != *session {
        return Err(DelegationInvalid::OtherSession.into());
    }
    let target = sessions
        .judge_owned(session, &presented.application.id)
        .await?;
    let bound = judge_ends(view, now, sessions, &edges, &target, presented).await?;
    let hop_count = chain::judge_hops(&edges)?;
    chain::judge_request(&edges, presented.scopes, presented.ttl_seconds)?;
    let bound = bound.and(chain::bound_of(&edges));
    let epoch = view.delegation_epoch().await?;
    Ok(DelegatedLine {
        target,
        leaf,
        edges,
        hop_count,
        epoch,
        bound,
    })
}

/// Judges the Sessions and applications that the edges join: every edge leaves a live Session of its
/// issuer and arrives at a live one of its receiver, where the next edge leaves.
async fn judge_ends(
    view: &ZoneView,
    now: Timestamp,
    sessions: &SessionJudge<'_>,
    edges: &[Arc<Delegation>],
    target: &SessionLine,
    presented: Presented<'_>,
) -> Result<Bound, Refusal> {
    let mut bound = target.bound;
    let mut below = Arc::clone(&target.session);
    for edge in edges.iter().rev() {
        let fits = edge.target_session_id == below.id
            && edge.receiver_application_id == below.application_id;
        if !fits {
            return Err(DelegationInvalid::Discontinuous.into());
        }
        let source = sessions.judge_ancestor(&edge.source_session_id).await?;
        if edge.issuer_application_id != source.session.application_id {
            return Err(DelegationInvalid::Discontinuous.into());
        }
        bound = bound.and(source.bound);
        if source.session.application_id != presented.application.id
            && source.session.application_id != below.application_id
        {
            bound = bound.and(judge_issuer(view, now, &source.session.application_id).await?);
        }
        below = source.session;
    }
    Ok(bound)
}

async fn judge_issuer(
    view: &ZoneView,
    now: Timestamp,
    application: &ApplicationId,
) -> Result<Bound, Refusal> {
    let found = view.application(application).await?;
    let issuer = found.filter(|issuer| issuer.is_live(now));
    let issuer = issuer.ok_or(DelegationInvalid::AncestorNotLive)?;
    Ok(Bound::NONE.until_some(issuer.expires_at))
}
