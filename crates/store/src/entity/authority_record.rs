use caracal_core::id::{ApplicationId, AuthorityRecordId, ZoneId};
use caracal_core::{SubjectType, Timestamp};

use super::wire_names;

/// State of an authority record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordStatus {
    /// Usable until `expires_at`.
    Active,
    /// Withdrawn.
    Revoked,
    /// Swept after its end.
    Expired,
}

wire_names!(RecordStatus { Active => "active", Revoked => "revoked", Expired => "expired" });

/// One node of a mandate lineage: lifecycle, federation, control and approved mints have one.
#[derive(Debug, Clone)]
pub struct AuthorityRecord {
    /// Row id, the mandate's `sid`.
    pub id: AuthorityRecordId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// Application or federated user.
    pub kind: SubjectType,
    /// The mandate's `sub`.
    pub subject_id: String,
    /// The external issuer of a federated user.
    pub issuer: Option<String>,
    /// The application that the record was minted for.
    pub application_id: ApplicationId,
    /// The parent record.
    pub parent_id: Option<AuthorityRecordId>,
    /// State.
    pub status: RecordStatus,
    /// End; equals the mandate's `exp`.
    pub expires_at: Timestamp,
    /// When the subject authenticated.
    pub authenticated_at: Timestamp,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked.
    pub revoked_reason: Option<String>,
}

impl AuthorityRecord {
    /// Whether the record is active and unexpired at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.status == RecordStatus::Active && self.expires_at > now
    }
}
