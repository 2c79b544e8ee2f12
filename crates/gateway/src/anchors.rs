//! Step 13: whether the authority that the mandate speaks for still stands.
//!
//! The barrier comes first: the view of the zone that is judged here is at least as fresh as the
//! moment the request arrived, so a revocation that was acknowledged before it is seen. Then the four
//! anchors of the mandate. The STS judges the same state again, and more of it, at the exchange; what
//! is refused here has not burned the mandate.

mod concern;
mod records;

use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::{DelegationId, SessionId};
use caracal_core::{Clock, SubjectType, Timestamp};
use caracal_crypto::Claims;
use caracal_store::entity::RecordStatus;
use caracal_store::{Authority, ChangeFeed, Unavailable, ZoneView};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::prove::Proven;
use crate::refusal::{Fallen, Refusal};
use records::ChangedRecords;

/// The longest chain of delegations that is followed: far more than any that can be made.
const MAX_LINEAGE: usize = 64;

/// A barrier that has not answered for this long counts as not fresh.
const FRESH_FOR: Duration = Duration::from_secs(70);

/// Judges anchors.
pub(crate) struct Anchors {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    feed: Arc<dyn ChangeFeed>,
    changed: ChangedRecords,
    health: Mutex<Health>,
}

/// How the barrier has been doing.
struct Health {
    failing: bool,
    last_answer: Instant,
}

/// A proven call whose anchors stand.
#[derive(Debug)]
pub(crate) struct Standing {
    proven: Proven,
    judged_at: u64,
}

impl Standing {
    /// The call.
    pub(crate) fn proven(&self) -> &Proven {
        &self.proven
    }

    /// The position of the change feed that it was judged at.
    pub(crate) fn judged_at(&self) -> u64 {
        self.judged_at
    }

    /// The call.
    pub(crate) fn into_proven(self) -> Proven {
        self.proven
    }
}

/// Not standing, or not known.
enum Verdict {
    Fallen(Fallen),
    Unavailable,
}

impl From<Unavailable> for Verdict {
    fn from(error: Unavailable) -> Self {
        tracing::warn!(%error, "the zone's state cannot be read");
        Self::Unavailable
    }
}

impl From<Fallen> for Verdict {
    fn from(fallen: Fallen) -> Self {
        Self::Fallen(fallen)
    }
}

impl Anchors {
    /// Reads through `authority`; its barrier must answer within `timeout`.
    pub(crate) fn new(authority: Arc<Authority>, clock: Arc<dyn Clock>, timeout: Duration) -> Self {
        let feed = authority.store().changes();
        Self {
            changed: ChangedRecords::new(Arc::clone(&feed), Arc::clone(&clock)),
            feed,
            health: Mutex::new(Health {
                failing: false,
                last_answer: Instant::now(),
            }),
            authority,
            clock,
            timeout,
        }
    }

    /// Judges a proven call.
    pub(crate) async fn stand(&self, proven: Proven) -> Result<Standing, Refusal> {
        let view = self.judge(proven.claims()).await?;
        Ok(Standing {
            judged_at: view.seq(),
            proven,
        })
    }

    /// Judges a mandate's anchors; the view that they stand on.
    pub(crate) async fn judge(&self, claims: &Claims) -> Result<ZoneView, Refusal> {
        let judged = tokio::time::timeout(self.timeout, self.judge_fresh(claims)).await;
        let verdict = judged.unwrap_or(Err(Verdict::Unavailable));
        self.observe(!matches!(verdict, Err(Verdict::Unavailable)));
        verdict.map_err(|verdict| match verdict {
            Verdict::Fallen(fallen) => Refusal::Revoked(fallen),
            Verdict::Unavailable => Refusal::BarrierUnavailable,
        })
    }

    /// Whether anything between position `since` and the view may concern a call with these claims.
    pub(crate) async fn is_concerned(
        &self,
        view: &ZoneView,
        claims: &Claims,
        since: u64,
    ) -> Result<bool, Refusal> {
        let concerned = concern::is_concerned(&*self.feed, view, claims, since).await;
        concerned.map_err(|error| {
            tracing::warn!(%error, "the zone's changes cannot be read");
            Refusal::BarrierUnavailable
        })
    }

    async fn judge_fresh(&self, claims: &Claims) -> Result<ZoneView, Verdict> {
        let view = self.authority.fresh(&claims.zone_id).await?;
        let now = self.clock.now();
        zone_is_live(&view).await?;
        self.records_stand(&view, claims, now).await?;
        if let Some(session) = &claims.agent_session_id {
            session_is_live(&view, session, claims, now).await?;
        }
        if let Some(edge) = &claims.delegation_edge_id {
            delegation_is_live(&view, edge, now).await?;
        }
        Ok(view)
    }

    /// `sid` of a leaf mandate has no record of its own; one that exists must not be revoked.
    /// `root_sid` is the record of the Session: it must exist, and a user's must be alive as well,
    /// while an application's only says who started the Session.
    async fn records_stand(
        &self,
        view: &ZoneView,
        claims: &Claims,
        now: Timestamp,
    ) -> Result<(), Verdict> {
        let own = claims.sid != claims.root_sid;
        if own && !self.changed.is_untouched(view, &claims.sid).await? {
            let record = view.authority_record(&claims.sid).await?;
            if record.is_some_and(|record| record.status == RecordStatus::Revoked) {
                return Err(Fallen::Record.into());
            }
        }
        let root = view
            .authority_record(&claims.root_sid)
            .await?
            .ok_or(Fallen::Record)?;
        let stands = match root.kind {
            SubjectType::Application => root.status != RecordStatus::Revoked,
            SubjectType::User => root.is_live(now),
        };
        if stands {
            Ok(())
        } else {
            Err(Fallen::Record.into())
        }
    }

    fn observe(&self, answered: bool) {
        let mut health = self.health.lock();
        health.failing = !answered;
        if answered {
            health.last_answer = Instant::now();
        }
    }

    /// Whether the barrier answers, and how long ago it last did when it does not.
    pub(crate) fn freshness(&self) -> (bool, Duration) {
        let health = self.health.lock();
        if !health.failing {
            return (true, Duration::ZERO);
        }
        let age = health.last_answer.elapsed();
        (age < FRESH_FOR, age)
    }

    /// Asks the store whether it answers.
    pub(crate) async fn probe(&self) -> Result<(), Refusal> {
        let asked = tokio::time::timeout(self.timeout, self.authority.store().ping()).await;
        let answered = matches!(asked, Ok(Ok(())));
        self.observe(answered);
        if answered {
            Ok(())
        } else {
            Err(Refusal::BarrierUnavailable)
        }
    }
}

async fn zone_is_live(view: &ZoneView) -> Result<(), Verdict> {
    let zone = view.zone().await?.ok_or(Fallen::Zone)?;
    if zone.is_live() {
        Ok(())
    } else {
        Err(Fallen::Zone.into())
    }
}

async fn session_is_live(
    view: &ZoneView,
    id: &SessionId,
    claims: &Claims,
    now: Timestamp,
) -> Result<(), Verdict> {
    let session = view.session(id).await?.ok_or(Fallen::Session)?;
    let stands = session.is_effectively_live(now) && session.application_id == claims.client_id;
    if stands {
        Ok(())
    } else {
        Err(Fallen::Session.into())
    }
}

/// The edge and every edge that it narrows.
async fn delegation_is_live(
    view: &ZoneView,
    id: &DelegationId,
    now: Timestamp,
) -> Result<(), Verdict> {
    let mut next = Some(id.clone());
    for _ in 0..MAX_LINEAGE {
        let Some(id) = next else { return Ok(()) };
        let edge = view.delegation(&id).await?.ok_or(Fallen::Delegation)?;
        if !edge.is_live(now) {
            return Err(Fallen::Delegation.into());
        }
        next = edge.parent_edge_id.clone();
    }
    Err(Fallen::Delegation.into())
}
