//! Which authority record a Session is anchored on.
//!
//! The bearer's own record needs no further proof. Another one must have been minted for the
//! Session's application, and a federated user's mandate, when it is sent, must prove that record.

use caracal_core::SubjectType;
use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, AuthorityRecordId};
use caracal_crypto::Claims;
use caracal_store::{StoreError, ZoneUnit};
use thiserror::Error;

use super::request::StartRequest;
use crate::Coordinator;
use crate::authenticate::{AuthenticationError, MAX_BEARER};
use crate::caller::Bearer;

/// Why a record can't anchor a Session.
#[derive(Debug, Error)]
pub(crate) enum SubjectError {
    /// Not there, not usable, or minted for another application.
    #[error(
        "the authority record does not exist, has ended, or was minted for another application"
    )]
    NotFound,
    /// The subject token does not prove the record.
    #[error("subject_token is not the federated user's mandate of that record")]
    InvalidProof,
    /// The subject token was minted for another application.
    #[error("subject_token was minted for another application")]
    OtherApplication,
    /// The subject token can't be verified now.
    #[error(transparent)]
    Unverifiable(#[from] AuthenticationError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The record that a start names, and what its subject token proved. Worked out before the
/// transaction, since it may have to wait for keys.
#[derive(Debug)]
pub(crate) struct Subject {
    record: AuthorityRecordId,
    proof: Result<(), SubjectError>,
}

impl Coordinator {
    /// Reads the subject of a start.
    pub(crate) async fn subject(&self, bearer: &Bearer, request: &StartRequest) -> Subject {
        let record = request
            .subject
            .clone()
            .unwrap_or_else(|| bearer.sid.clone());
        let proof = match &request.subject_token {
            None => Ok(()),
            Some(token) => {
                let application = &request.application_id;
                self.prove(bearer, token.expose(), application, &record)
                    .await
            }
        };
        Subject { record, proof }
    }

    async fn prove(
        &self,
        bearer: &Bearer,
        token: &str,
        application: &ApplicationId,
        record: &AuthorityRecordId,
    ) -> Result<(), SubjectError> {
        if token.len() > MAX_BEARER {
            return Err(SubjectError::InvalidProof);
        }
        let verified = self.session_mandate(token, &bearer.zone).await?;
        let claims = verified.map_err(|_| SubjectError::InvalidProof)?;
        if claims.client_id != *application {
            return Err(SubjectError::OtherApplication);
        }
        if is_identity_of(&claims, record) {
            Ok(())
        } else {
            Err(SubjectError::InvalidProof)
        }
    }
}

/// Whether the claims are a federated user's identity and nothing more.
fn is_identity_of(claims: &Claims, record: &AuthorityRecordId) -> bool {
    let names_the_record = claims.sid == *record && claims.root_sid == *record;
    let carries_authority = claims.scope.is_some()
        || !claims.target.is_empty()
        || !claims.delegation_path.is_empty()
        || claims.agent_session_id.is_some()
        || claims.delegation_edge_id.is_some()
        || claims.source_session_id.is_some()
        || claims.target_session_id.is_some();
    names_the_record && claims.sub_type == SubjectType::User && !carries_authority
}

/// The record to anchor on.
pub(crate) async fn anchor(
    unit: &ZoneUnit,
    bearer: &Bearer,
    application: &ApplicationId,
    subject: Subject,
    now: Timestamp,
) -> Result<AuthorityRecordId, SubjectError> {
    let record = unit
        .get_authority_record(&subject.record)
        .await?
        .filter(|record| record.is_live(now))
        .ok_or(SubjectError::NotFound)?;
    subject.proof?;
    let may_be_named = record.id == bearer.sid || record.application_id == *application;
    if may_be_named {
        Ok(record.id)
    } else {
        Err(SubjectError::NotFound)
    }
}
