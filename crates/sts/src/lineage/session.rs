//! One Session with its parents and the identities behind them.

use std::sync::Arc;

use caracal_core::id::{ApplicationId, SessionId};
use caracal_core::{SubjectType, Timestamp};
use caracal_store::ZoneView;
use caracal_store::entity::{AuthorityRecord, RecordStatus, Session};

use super::{DelegationInvalid, MAX_SESSION_DEPTH, SessionInvalid, SessionLine};
use crate::error::Refusal;
use crate::lifetime::Bound;

/// Judges Sessions of one zone at one instant.
pub(super) struct SessionJudge<'a> {
    view: &'a ZoneView,
    now: Timestamp,
}

impl<'a> SessionJudge<'a> {
    pub(super) fn new(view: &'a ZoneView, now: Timestamp) -> Self {
        Self { view, now }
    }

    /// The caller's own Session. Its mandates name its subject record as their root, so a revoked
    /// record ends it, whatever the record's type.
    pub(super) async fn judge_owned(
        &self,
        id: &SessionId,
        application: &ApplicationId,
    ) -> Result<SessionLine, Refusal> {
        let session = self.read(id).await?.ok_or(SessionInvalid::Unknown)?;
        if session.application_id != *application {
            return Err(SessionInvalid::NotOwned.into());
        }
        let record = self
            .record_of(&session)
            .await?
            .ok_or(SessionInvalid::SubjectInactive)?;
        if record.status == RecordStatus::Revoked {
            return Err(SessionInvalid::SubjectInactive.into());
        }
        self.judge_tree(session).await
    }

    /// A Session further up the line.
    pub(super) async fn judge_ancestor(&self, id: &SessionId) -> Result<SessionLine, Refusal> {
        let session = self
            .read(id)
            .await?
            .ok_or(DelegationInvalid::AncestorNotLive)?;
        self.judge_tree(session)
            .await
            .map_err(|refusal| match refusal {
                Refusal::Session(_) => DelegationInvalid::AncestorNotLive.into(),
                other => other,
            })
    }

    /// The Session and its parents: each live, each on a live identity.
    async fn judge_tree(&self, session: Arc<Session>) -> Result<SessionLine, Refusal> {
        let mut bound = self.judge_one(&session).await?;
        let mut next = session.parent_id.clone();
        for _ in 0..MAX_SESSION_DEPTH {
            let Some(id) = next else {
                let subject_record = session.subject_authority_record_id.clone();
                return Ok(SessionLine {
                    session,
                    subject_record,
                    bound,
                });
            };
            let parent = self.read(&id).await?.ok_or(SessionInvalid::NotLive)?;
            bound = bound.and(self.judge_one(&parent).await?);
            next = parent.parent_id.clone();
        }
        Err(SessionInvalid::Malformed.into())
    }

    /// A task ends with its time. A service's lease is a test of life and no end; a federated user's
    /// record is both; an application's record is neither, it ends minutes after the start.
    async fn judge_one(&self, session: &Session) -> Result<Bound, Refusal> {
        if !session.is_effectively_live(self.now) {
            return Err(SessionInvalid::NotLive.into());
        }
        let record = self
            .record_of(session)
            .await?
            .ok_or(SessionInvalid::SubjectInactive)?;
        let bound = Bound::NONE.until_some(session.ends_at());
        match record.kind {
            SubjectType::Application => Ok(bound),
            SubjectType::User if record.is_live(self.now) => Ok(bound.until(record.expires_at)),
            SubjectType::User => Err(SessionInvalid::SubjectInactive.into()),
        }
    }

    async fn read(&self, id: &SessionId) -> Result<Option<Arc<Session>>, Refusal> {
        Ok(self.view.session(id).await?)
    }

    async fn record_of(&self, session: &Session) -> Result<Option<Arc<AuthorityRecord>>, Refusal> {
        let id = &session.subject_authority_record_id;
        Ok(self.view.authority_record(id).await?)
    }
}
