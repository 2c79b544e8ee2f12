//! Zones.
//!
//! A zone is created, changed and archived through a unit of its own id; finding zones is the
//! platform's business.

use caracal_core::id::{ApplicationId, AuthorityRecordId, DelegationId, SessionId, ZoneId};

use crate::change::ChangeKind;
use crate::entity::{Attribution, Author, SessionStatus, Zone};
use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sessions::EndSession;
use crate::sql::{Entity, Row, Where, params};

const TABLE: &str = "zones";

impl Entity for Zone {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "id, name, slug, dcr_enabled, operator_coauthor_badge, \
         operator_governed, owner_account_id, created_by, created_via_operator, updated_by, \
         updated_via_operator, created_at, updated_at, archived_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            name: row.get("name")?,
            slug: row.get("slug")?,
            dcr_enabled: row.get("dcr_enabled")?,
            operator_coauthor_badge: row.get("operator_coauthor_badge")?,
            operator_governed: row.get("operator_governed")?,
            owner_account_id: row.opt("owner_account_id")?,
            attribution: attribution(row)?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            archived_at: row.opt("archived_at")?,
        })
    }
}

/// Reads the four attribution columns.
pub(crate) fn attribution(row: &Row<'_>) -> Result<Attribution, StoreError> {
    Ok(Attribution {
        created_by: row.opt("created_by")?,
        created_via_operator: row.get("created_via_operator")?,
        updated_by: row.opt("updated_by")?,
        updated_via_operator: row.get("updated_via_operator")?,
    })
}

/// What of a zone's authority lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LiveAuthority {
    /// Active or suspended Sessions.
    pub sessions: i64,
    /// Active, unexpired delegation edges.
    pub delegations: i64,
}

/// A Session that a bulk termination ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSession {
    /// The Session.
    pub id: SessionId,
    /// Its application.
    pub application_id: ApplicationId,
    /// Its parent.
    pub parent_id: Option<SessionId>,
    /// The record that it was started on.
    pub subject_authority_record_id: AuthorityRecordId,
}

/// What a kill switch ended, for the messages that must tell of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EndedAuthority {
    /// Records that were active.
    pub records: Vec<AuthorityRecordId>,
    /// Sessions that were active or suspended.
    pub sessions: Vec<EndedSession>,
    /// Edges that were active.
    pub delegations: Vec<DelegationId>,
}

/// Which zones to list: live, not reserved.
#[derive(Debug, Clone, Default)]
pub struct ZoneFilter {
    /// Only zones that this console account owns.
    pub owner_account_id: Option<String>,
}

impl<A: Access> InZone<A> {
    /// The zone itself, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_zone(&self) -> Result<Option<Zone>, StoreError> {
        self.fetch_one("WHERE id = $1", vec![]).await
    }

    /// What lives of the zone's authority now.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn live_authority(&self) -> Result<LiveAuthority, StoreError> {
        let sessions = self
            .number(
                "sessions",
                "SELECT COUNT(*) AS n FROM sessions
                 WHERE zone_id = $1 AND status IN ('active', 'suspended')",
                vec![],
            )
            .await?;
        let delegations = self
            .number(
                "delegations",
                "SELECT COUNT(*) AS n FROM delegations
                 WHERE zone_id = $1 AND status = 'active' AND expires_at > $2",
                params![self.now()],
            )
            .await?;
        Ok(LiveAuthority {
            sessions,
            delegations,
        })
    }

    /// Whether any zone has that slug; archived zones keep theirs.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn slug_is_taken(&self, slug: &str) -> Result<bool, StoreError> {
        let sql = self.inner.dialect().slug_count();
        Ok(self.number(TABLE, sql, params![slug]).await? > 0)
    }
}

impl ZoneUnit {
    /// Creates the unit's zone.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `ZoneSlug` when the slug is taken.
    pub async fn insert_zone(&mut self, zone: &Zone) -> Result<(), StoreError> {
        self.own(TABLE, &zone.id)?;
        self.execute(
            TABLE,
            "INSERT INTO zones (id, name, slug, dcr_enabled, operator_coauthor_badge,
                operator_governed, owner_account_id, reserved, created_by, created_via_operator,
                updated_by, updated_via_operator, created_at, updated_at, archived_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
            params![
                zone.name,
                zone.slug,
                zone.dcr_enabled,
                zone.operator_coauthor_badge,
                zone.operator_governed,
                zone.owner_account_id,
                zone.is_reserved(),
                zone.attribution.created_by,
                zone.attribution.created_via_operator,
                zone.attribution.updated_by,
                zone.attribution.updated_via_operator,
                zone.created_at,
                zone.updated_at,
                zone.archived_at
            ],
        )
        .await
        .map(|_| ())
    }

    /// Stores every changeable field of the zone. False when there is no live row.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `ZoneSlug` when the new slug is taken.
    pub async fn update_zone(&mut self, zone: &Zone) -> Result<bool, StoreError> {
        self.own(TABLE, &zone.id)?;
        let touched = self
            .execute_or_conflict(
                TABLE,
                "UPDATE zones SET name = $2, slug = $3, dcr_enabled = $4,
                    operator_coauthor_badge = $5, operator_governed = $6, reserved = $7,
                    updated_by = $8, updated_via_operator = $9, updated_at = $10
                 WHERE id = $1 AND archived_at IS NULL",
                params![
                    zone.name,
                    zone.slug,
                    zone.dcr_enabled,
                    zone.operator_coauthor_badge,
                    zone.operator_governed,
                    zone.is_reserved(),
                    zone.attribution.updated_by,
                    zone.attribution.updated_via_operator,
                    zone.updated_at
                ],
            )
            .await?;
        self.changed(ChangeKind::Zone, &zone.id);
        Ok(touched > 0)
    }

    /// Archives the zone: from the commit on nothing of it mints or proxies. False when there is no
    /// live row.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn archive_zone(&mut self, by: &Author) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                TABLE,
                "UPDATE zones SET archived_at = $2, updated_at = $2, updated_by = $3,
                    updated_via_operator = $4
                 WHERE id = $1 AND archived_at IS NULL",
                params![now, by.by, by.via_operator],
            )
            .await?;
        let zone = self.zone_id().clone();
        self.changed(ChangeKind::Zone, zone);
        Ok(touched > 0)
    }

    /// Ends all authority of the zone: every active record and edge is revoked, every active or
    /// suspended Session terminated.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn end_all_authority(&mut self, reason: &str) -> Result<EndedAuthority, StoreError> {
        let records = self.active_record_ids().await?;
        self.revoke_authority_records(&records, reason).await?;
        let sessions = self.live_session_refs().await?;
        let ends: Vec<EndSession> = sessions
            .iter()
            .map(|session| EndSession {
                id: session.id.clone(),
                status: SessionStatus::Terminated,
                reason: reason.to_owned(),
            })
            .collect();
        self.end_sessions(&ends).await?;
        let delegations = self.active_delegation_ids().await?;
        self.revoke_delegations(&delegations).await?;
        Ok(EndedAuthority {
            records,
            sessions,
            delegations,
        })
    }
}

impl<A: Access> OnPlatform<A> {
    /// One zone, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_zone(&self, id: &ZoneId) -> Result<Option<Zone>, StoreError> {
        self.fetch_one("WHERE id = $1", params![id]).await
    }

    /// The zone of that slug, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn find_zone_by_slug(&self, slug: &str) -> Result<Option<Zone>, StoreError> {
        self.fetch_one("WHERE slug = $1", params![slug]).await
    }

    /// The live zones that aren't reserved, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_zones(
        &self,
        filter: &ZoneFilter,
        page: &Page,
    ) -> Result<Slice<Zone>, StoreError> {
        let rows = Where::any()
            .and("archived_at IS NULL", vec![])
            .and("reserved = ?", params![false])
            .and_some("owner_account_id", filter.owner_account_id.as_ref());
        self.fetch_page(rows, ("created_at", "id"), page, |zone: &Zone| Cursor {
            at: zone.created_at,
            id: zone.id.to_string(),
        })
        .await
    }

    /// The ids of all zones, archived ones included: for jobs that visit every zone.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn zone_ids(&self) -> Result<Vec<ZoneId>, StoreError> {
        let rows = self
            .query(TABLE, "SELECT id FROM zones ORDER BY id", vec![])
            .await?;
        rows.iter()
            .map(|row| Row::new(row, TABLE).get("id"))
            .collect()
    }
}
