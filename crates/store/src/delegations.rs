//! Delegation edges.
//!
//! Lineage follows `parent_edge_id`, up to the root and down to every edge that derives from one, in
//! one recursive statement that never visits an edge twice.

use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, DelegationId, SessionId, ZoneId};

use crate::change::ChangeKind;
use crate::entity::{Delegation, DelegationStatus};
use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Bind, Entity, IN_LIST, Row, Where, json_text, params, placeholders};

const TABLE: &str = "delegations";

/// Which edges to list.
#[derive(Debug, Clone, Default)]
pub struct DelegationFilter {
    /// Only edges from this Session.
    pub source: Option<SessionId>,
    /// Only edges to this Session.
    pub target: Option<SessionId>,
    /// Only edges that this application issued.
    pub issuer: Option<ApplicationId>,
    /// Only edges that this application receives.
    pub receiver: Option<ApplicationId>,
    /// Only edges that this application issued or receives.
    pub party: Option<ApplicationId>,
    /// Only edges that are active and unexpired at this instant.
    pub live_at: Option<Timestamp>,
}

/// Whether a mint fits the budgets above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetOutcome {
    /// Counted against every budget of the lineage.
    Granted,
    /// This edge's budget is used up; nothing was counted.
    Exhausted(DelegationId),
}

impl Entity for Delegation {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "zone_id, id, source_session_id, target_session_id, \
         issuer_application_id, receiver_application_id, parent_edge_id, resource_id, scopes, \
         constraints_json, mirrored, accepted, budget_used, status, expires_at, edge_version, \
         revoked_at, created_at, updated_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            source_session_id: row.get("source_session_id")?,
            target_session_id: row.get("target_session_id")?,
            issuer_application_id: row.get("issuer_application_id")?,
            receiver_application_id: row.get("receiver_application_id")?,
            parent_edge_id: row.opt("parent_edge_id")?,
            resource_id: row.opt("resource_id")?,
            scopes: row.json("scopes")?,
            constraints: row.json("constraints_json")?,
            mirrored: row.get("mirrored")?,
            accepted: row.get("accepted")?,
            budget_used: row.get("budget_used")?,
            status: row.get("status")?,
            expires_at: row.get("expires_at")?,
            edge_version: row.get("edge_version")?,
            revoked_at: row.opt("revoked_at")?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// One edge, whatever its state.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_delegation(
        &self,
        id: &DelegationId,
    ) -> Result<Option<Delegation>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// Edges, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_delegations(
        &self,
        filter: &DelegationFilter,
        page: &Page,
    ) -> Result<Slice<Delegation>, StoreError> {
        let mut rows = Where::zone()
            .and_some("source_session_id", filter.source.as_ref())
            .and_some("target_session_id", filter.target.as_ref())
            .and_some("issuer_application_id", filter.issuer.as_ref())
            .and_some("receiver_application_id", filter.receiver.as_ref());
        if let Some(party) = &filter.party {
            rows = rows.and(
                "(issuer_application_id = ? OR receiver_application_id = ?)",
                params![party, party],
            );
        }
        if let Some(now) = filter.live_at {
            rows = rows.and("status = 'active' AND expires_at > ?", params![now]);
        }
        self.fetch_page(rows, ("created_at", "id"), page, |row: &Delegation| {
            Cursor {
                at: row.created_at,
                id: row.id.to_string(),
            }
        })
        .await
    }

    /// Every edge whose target is the Session, oldest first, whatever its state.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn inbound_delegations(
        &self,
        target: &SessionId,
    ) -> Result<Vec<Delegation>, StoreError> {
        self.fetch(
            "WHERE zone_id = $1 AND target_session_id = $2 ORDER BY created_at, id",
            params![target],
        )
        .await
    }

    /// The edges to the Session that are live at `now`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn live_inbound_delegations(
        &self,
        target: &SessionId,
        now: Timestamp,
    ) -> Result<Vec<Delegation>, StoreError> {
        self.fetch(
            "WHERE zone_id = $1 AND target_session_id = $2 AND status = 'active'
                AND expires_at > $3 ORDER BY created_at, id",
            params![target, now],
        )
        .await
    }

    /// The edges to the Session that may act as its parent and are live at `now`, oldest first; also
    /// the one that is `named`, though its receiver may not have used it yet.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn live_parent_candidates(
        &self,
        target: &SessionId,
        named: Option<&DelegationId>,
        now: Timestamp,
    ) -> Result<Vec<Delegation>, StoreError> {
        self.fetch(
            "WHERE zone_id = $1 AND target_session_id = $2 AND status = 'active'
                AND expires_at > $3
                AND (accepted = $4 OR issuer_application_id = receiver_application_id OR id = $5)
             ORDER BY created_at, id",
            params![target, now, true, named],
        )
        .await
    }

    /// Whether any edge to the Session, in whatever state, may act or has acted as its parent.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn has_parent_candidates(&self, target: &SessionId) -> Result<bool, StoreError> {
        let sql = "SELECT CAST(1 AS BIGINT) AS n FROM delegations WHERE zone_id = $1 AND target_session_id = $2
                AND (accepted = $3 OR issuer_application_id = receiver_application_id) LIMIT 1";
        Ok(self.number(TABLE, sql, params![target, true]).await? > 0)
    }

    /// The edges from any of the Sessions that are live at `now`, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn live_outbound_delegations(
        &self,
        sources: &[SessionId],
        now: Timestamp,
    ) -> Result<Vec<Delegation>, StoreError> {
        let mut found: Vec<Delegation> = Vec::new();
        for some in sources.chunks(IN_LIST) {
            let (tail, values) = Where::zone()
                .and_in("source_session_id", some)
                .and("status = 'active' AND expires_at > ?", params![now])
                .tail("");
            found.extend(self.fetch::<Delegation>(&tail, values).await?);
        }
        found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(found)
    }

    /// The edge and its ancestors up to the root, the edge itself first, whatever their state. Empty
    /// when there is no such edge. A lineage whose last edge names a parent has a gap.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn delegation_lineage(
        &self,
        id: &DelegationId,
    ) -> Result<Vec<Delegation>, StoreError> {
        let rows: Vec<Delegation> = self
            .fetch(
                "WHERE zone_id = $1 AND id IN (
                    WITH RECURSIVE line (id, parent_edge_id) AS (
                        SELECT id, parent_edge_id FROM delegations WHERE zone_id = $1 AND id = $2
                        UNION
                        SELECT up.id, up.parent_edge_id FROM delegations AS up
                        JOIN line ON up.id = line.parent_edge_id WHERE up.zone_id = $1)
                    SELECT id FROM line)",
                params![id],
            )
            .await?;
        Ok(in_lineage_order(rows, id))
    }

    /// The active edges among these and everything that derives from them, through edges of any
    /// state.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn active_delegation_descendants(
        &self,
        roots: &[DelegationId],
    ) -> Result<Vec<Delegation>, StoreError> {
        let mut found: Vec<Delegation> = Vec::new();
        for some in roots.chunks(IN_LIST) {
            let marks = placeholders(2, some.len());
            let tail = format!(
                "WHERE zone_id = $1 AND status = 'active' AND id IN (
                    WITH RECURSIVE tree (id) AS (
                        SELECT id FROM delegations WHERE zone_id = $1 AND id IN ({marks})
                        UNION
                        SELECT child.id FROM delegations AS child
                        JOIN tree ON child.parent_edge_id = tree.id WHERE child.zone_id = $1)
                    SELECT id FROM tree)"
            );
            let values = some.iter().map(Bind::bind).collect();
            found.extend(self.fetch::<Delegation>(&tail, values).await?);
        }
        Ok(distinct(found))
    }

    /// The active edges, expired or not, that begin or end at any of the Sessions.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn active_delegations_touching(
        &self,
        sessions: &[SessionId],
    ) -> Result<Vec<Delegation>, StoreError> {
        let mut found: Vec<Delegation> = Vec::new();
        for column in ["source_session_id", "target_session_id"] {
            for some in sessions.chunks(IN_LIST) {
                let (tail, values) = Where::zone()
                    .and_in(column, some)
                    .and("status = 'active'", vec![])
                    .tail("");
                found.extend(self.fetch::<Delegation>(&tail, values).await?);
            }
        }
        Ok(distinct(found))
    }

    /// Whether following edges that are live at `now`, from source to target, leads from one Session
    /// to another.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn delegation_reaches(
        &self,
        from: &SessionId,
        to: &SessionId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "WITH RECURSIVE reached (id) AS (
                SELECT target_session_id FROM delegations WHERE zone_id = $1
                    AND source_session_id = $2 AND status = 'active' AND expires_at > $4
                UNION
                SELECT edge.target_session_id FROM delegations AS edge
                JOIN reached ON edge.source_session_id = reached.id
                WHERE edge.zone_id = $1 AND edge.status = 'active' AND edge.expires_at > $4)
             SELECT COUNT(*) AS n FROM reached WHERE id = $3";
        Ok(self.number(TABLE, sql, params![from, to, now]).await? > 0)
    }

    /// The zone's delegation epoch; 0 until the first explicit revoke.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn delegation_epoch(&self) -> Result<i64, StoreError> {
        let sql = "SELECT epoch AS n FROM delegation_epochs WHERE zone_id = $1";
        self.number("delegation_epochs", sql, vec![]).await
    }

    pub(crate) async fn active_delegation_ids(&self) -> Result<Vec<DelegationId>, StoreError> {
        let sql = "SELECT id FROM delegations WHERE zone_id = $1 AND status = 'active'";
        let rows = self.query(TABLE, sql, vec![]).await?;
        rows.iter()
            .map(|row| Row::new(row, TABLE).get("id"))
            .collect()
    }
}

impl ZoneUnit {
    /// Stores a new edge. One that counts as a parent takes its target's root authority.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn insert_delegation(&mut self, row: &Delegation) -> Result<(), StoreError> {
        self.own(TABLE, &row.zone_id)?;
        self.insert(
            TABLE,
            "zone_id, id, source_session_id, target_session_id, issuer_application_id, \
             receiver_application_id, parent_edge_id, resource_id, scopes, constraints_json, \
             mirrored, accepted, budget, budget_used, status, expires_at, edge_version, revoked_at, \
             created_at, updated_at",
            params![
                row.id,
                row.source_session_id,
                row.target_session_id,
                row.issuer_application_id,
                row.receiver_application_id,
                row.parent_edge_id,
                row.resource_id,
                json_text(TABLE, &row.scopes)?,
                json_text(TABLE, &row.constraints)?,
                row.mirrored,
                row.accepted,
                row.own_budget(),
                row.budget_used,
                row.status,
                row.expires_at,
                row.edge_version,
                row.revoked_at,
                row.created_at,
                row.updated_at
            ],
        )
        .await?;
        if row.counts_as_parent() {
            self.narrow(&row.id).await?;
        }
        Ok(())
    }

    /// Takes the root authority of the edge's target, for good: a Session that an edge narrowed does
    /// not regain everything when the edge ends. Nobody decides on the mark but inside a unit, so
    /// caches are not told.
    async fn narrow(&mut self, edge: &DelegationId) -> Result<(), StoreError> {
        self.execute(
            "sessions",
            "UPDATE sessions SET authority_root = $3 WHERE zone_id = $1 AND authority_root <> $3
                AND id = (SELECT target_session_id FROM delegations
                    WHERE zone_id = $1 AND id = $2)",
            params![edge, false],
        )
        .await
        .map(|_| ())
    }

    /// Revokes those of the edges that are active; exactly these, see
    /// [`InZone::active_delegation_descendants`]. Returns the ids that it revoked.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn revoke_delegations(
        &mut self,
        ids: &[DelegationId],
    ) -> Result<Vec<DelegationId>, StoreError> {
        let now = self.now();
        let mut revoked = Vec::with_capacity(ids.len());
        for some in ids.chunks(IN_LIST) {
            let marks = placeholders(3, some.len());
            let sql = format!(
                "UPDATE delegations SET status = 'revoked', revoked_at = $2, updated_at = $2,
                    edge_version = edge_version + 1
                 WHERE zone_id = $1 AND status = 'active' AND id IN ({marks}) RETURNING id"
            );
            let mut values = params![now];
            values.extend(some.iter().map(Bind::bind));
            for row in &self.query(TABLE, sql, values).await? {
                revoked.push(Row::new(row, TABLE).get::<DelegationId>("id")?);
            }
        }
        for id in &revoked {
            self.changed(ChangeKind::Delegation, id);
        }
        Ok(revoked)
    }

    /// Remembers that the receiver has used the edge, which from now on counts as a parent and takes
    /// its target's root authority. False when it was known.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn mark_delegation_accepted(
        &mut self,
        id: &DelegationId,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                TABLE,
                "UPDATE delegations SET accepted = $4, updated_at = $3
                 WHERE zone_id = $1 AND id = $2 AND accepted <> $4",
                params![id, now, true],
            )
            .await?;
        if touched > 0 {
            self.narrow(id).await?;
            self.changed(ChangeKind::Delegation, id);
        }
        Ok(touched > 0)
    }

    /// Counts one mint through the edge against its own budget and those of all its ancestors; a
    /// budget bounds what is minted through its edge and everything below it. All or nothing.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn consume_delegation_budget(
        &mut self,
        id: &DelegationId,
    ) -> Result<BudgetOutcome, StoreError> {
        let lineage = self.delegation_lineage(id).await?;
        let bounded: Vec<&Delegation> = lineage
            .iter()
            .filter(|edge| edge.own_budget().is_some())
            .collect();
        let exhausted = bounded.iter().find(|edge| {
            edge.own_budget()
                .is_some_and(|budget| edge.budget_used >= budget)
        });
        if let Some(edge) = exhausted {
            return Ok(BudgetOutcome::Exhausted(edge.id.clone()));
        }
        for some in bounded.chunks(IN_LIST) {
            let marks = placeholders(2, some.len());
            let sql = format!(
                "UPDATE delegations SET budget_used = budget_used + 1
                 WHERE zone_id = $1 AND id IN ({marks})"
            );
            self.execute(TABLE, sql, some.iter().map(|edge| edge.id.bind()).collect())
                .await?;
        }
        Ok(BudgetOutcome::Granted)
    }

    /// Marks active edges past their end as expired, at most `limit` of them. Returns their ids.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn expire_delegations(
        &mut self,
        limit: i64,
    ) -> Result<Vec<DelegationId>, StoreError> {
        let now = self.now();
        let sql = "UPDATE delegations SET status = 'expired', updated_at = $2
             WHERE zone_id = $1 AND id IN (SELECT id FROM delegations
                WHERE zone_id = $1 AND status = 'active' AND expires_at <= $2
                ORDER BY expires_at LIMIT $3)
             RETURNING id";
        let rows = self.query(TABLE, sql, params![now, limit]).await?;
        rows.iter()
            .map(|row| Row::new(row, TABLE).get("id"))
            .collect()
    }

    /// Deletes revoked and expired edges that last changed before `before` and from which none
    /// derives, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn delete_ended_delegations(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        self.execute(
            TABLE,
            "DELETE FROM delegations WHERE zone_id = $1 AND id IN (
                SELECT d.id FROM delegations AS d
                WHERE d.zone_id = $1 AND d.status <> 'active' AND d.updated_at < $2
                  AND NOT EXISTS (SELECT 1 FROM delegations AS c
                    WHERE c.zone_id = $1 AND c.parent_edge_id = d.id)
                ORDER BY d.updated_at LIMIT $3)",
            params![before, limit],
        )
        .await
    }

    /// Raises the delegation epoch by one and returns it. Only for an explicit revoke or a kill
    /// switch: it makes every older delegated mandate of the zone stale for verifiers.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn bump_delegation_epoch(&mut self) -> Result<i64, StoreError> {
        let sql = "INSERT INTO delegation_epochs (zone_id, epoch) VALUES ($1, 1)
             ON CONFLICT (zone_id) DO UPDATE SET epoch = delegation_epochs.epoch + 1
             RETURNING epoch AS n";
        let epoch = self.number("delegation_epochs", sql, vec![]).await?;
        let zone = self.zone_id().clone();
        self.changed(ChangeKind::DelegationEpoch, zone);
        Ok(epoch)
    }
}

impl Delegation {
    /// The edge's own budget; without one it shares its ancestors'.
    #[must_use]
    pub fn own_budget(&self) -> Option<i64> {
        self.constraints.budget.map(i64::from)
    }

    /// The status to report at `now`: an active edge past its end is expired, though no sweep has
    /// said so yet.
    #[must_use]
    pub fn status_at(&self, now: Timestamp) -> DelegationStatus {
        if self.status == DelegationStatus::Active && self.expires_at <= now {
            DelegationStatus::Expired
        } else {
            self.status
        }
    }
}

fn in_lineage_order(mut rows: Vec<Delegation>, leaf: &DelegationId) -> Vec<Delegation> {
    let mut ordered = Vec::with_capacity(rows.len());
    let mut next = Some(leaf.clone());
    while let Some(id) = next {
        let Some(at) = rows.iter().position(|row| row.id == id) else {
            break;
        };
        let row = rows.swap_remove(at);
        next = row.parent_edge_id.clone();
        ordered.push(row);
    }
    ordered
}

fn distinct(mut rows: Vec<Delegation>) -> Vec<Delegation> {
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    rows.dedup_by(|a, b| a.id == b.id);
    rows
}

impl<A: Access> OnPlatform<A> {
    /// Zones that have active edges past their end at `now`.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn zones_with_lapsed_delegations(
        &self,
        now: Timestamp,
    ) -> Result<Vec<ZoneId>, StoreError> {
        let sql =
            "SELECT DISTINCT zone_id FROM delegations WHERE status = 'active' AND expires_at <= $1";
        let rows = self.query(TABLE, sql, params![now]).await?;
        rows.iter()
            .map(|row| Row::new(row, TABLE).get("zone_id"))
            .collect()
    }
}
