//! Governed Sessions.
//!
//! Children are reached by one recursive statement that never visits a row twice, however deep or
//! wide the tree is. How many Sessions are live is kept in counters; a lapsed Session that no sweep
//! has ended yet still counts there, so the exact count is taken only when a counter says that a
//! limit may be reached.

use std::collections::BTreeMap;

use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, AuthorityRecordId, SessionId, ZoneId};

use crate::change::ChangeKind;
use crate::entity::{Lease, Lifecycle, Session, SessionStatus};
use crate::error::StoreError;
use crate::handle::{Access, InZone, OnPlatform, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Bind, Entity, IN_LIST, Row, Where, json_text, params, placeholders};
use crate::zones::EndedSession;

const TABLE: &str = "sessions";

/// The slot of a suspended service never lapses.
const NEVER: i64 = i64::MAX;

/// Which Sessions to list.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Only this status.
    pub status: Option<SessionStatus>,
    /// Only `task` or `service`.
    pub lifecycle: Option<LifecycleKind>,
    /// Only Sessions of this application.
    pub application_id: Option<ApplicationId>,
    /// Only children of this Session.
    pub parent_id: Option<SessionId>,
    /// Only Sessions whose record is of this subject.
    pub subject_id: Option<String>,
    /// Only Sessions that carry this label.
    pub label: Option<String>,
}

impl SessionFilter {
    /// Every condition but the label's.
    fn conditions(&self, rows: Where) -> Where {
        let rows = rows
            .and_some("status", self.status)
            .and_some("lifecycle", self.lifecycle)
            .and_some("application_id", self.application_id.as_ref())
            .and_some("parent_id", self.parent_id.as_ref());
        match &self.subject_id {
            Some(subject) => rows.and(
                "subject_authority_record_id IN (SELECT id FROM authority_records
                    WHERE zone_id = $1 AND subject_id = ?)",
                params![subject],
            ),
            None => rows,
        }
    }
}

/// The kind of a Session without its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LifecycleKind {
    /// Ends after its lifetime.
    Task,
    /// Lives while its lease is renewed.
    Service,
}

crate::entity::wire_names!(LifecycleKind { Task => "task", Service => "service" });

/// Which Sessions a walk down the tree passes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Active ones.
    Active,
    /// Suspended ones.
    Suspended,
    /// Both.
    Live,
}

impl Through {
    fn states(self) -> &'static str {
        match self {
            Self::Active => "'active'",
            Self::Suspended => "'suspended'",
            Self::Live => "'active', 'suspended'",
        }
    }
}

/// Whose slots to count.
#[derive(Debug, Clone, Copy)]
pub enum SlotsOf<'a> {
    /// All Sessions of the zone.
    Zone,
    /// Those of one application.
    Application(&'a ApplicationId),
}

/// How one Session ends.
#[derive(Debug, Clone)]
pub struct EndSession {
    /// The Session.
    pub id: SessionId,
    /// [`SessionStatus::Terminated`] or [`SessionStatus::Expired`].
    pub status: SessionStatus,
    /// Why.
    pub reason: String,
}

/// A Session whose time is up, found by a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueSession {
    /// Its zone.
    pub zone_id: ZoneId,
    /// The Session.
    pub id: SessionId,
    /// A task past its lifetime, or an active service past its lease.
    pub kind: LifecycleKind,
}

impl Entity for Session {
    const TABLE: &'static str = TABLE;
    const COLUMNS: &'static str = "sessions.zone_id AS zone_id, id, application_id, parent_id, \
         subject_authority_record_id, status, lifecycle, ttl_seconds, last_heartbeat_at, \
         heartbeat_deadline_at, depth, labels, max_children, child_count, authority_root, metadata, \
         lease_generation, sessions.started_at AS started_at, last_active_at, terminated_at, \
         termination_reason, updated_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        let lifecycle = match row.get::<LifecycleKind>("lifecycle")? {
            LifecycleKind::Task => Lifecycle::Task {
                ttl_seconds: row.get("ttl_seconds")?,
            },
            LifecycleKind::Service => Lifecycle::Service(Lease {
                last_heartbeat_at: row.get("last_heartbeat_at")?,
                heartbeat_deadline_at: row.get("heartbeat_deadline_at")?,
            }),
        };
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            application_id: row.get("application_id")?,
            parent_id: row.opt("parent_id")?,
            subject_authority_record_id: row.get("subject_authority_record_id")?,
            status: row.get("status")?,
            lifecycle,
            depth: row.get("depth")?,
            labels: row.json("labels")?,
            max_children: row.get("max_children")?,
            child_count: row.get("child_count")?,
            authority_root: row.get("authority_root")?,
            metadata: row.json("metadata")?,
            lease_generation: row.get("lease_generation")?,
            started_at: row.get("started_at")?,
            last_active_at: row.get("last_active_at")?,
            terminated_at: row.opt("terminated_at")?,
            termination_reason: row.opt("termination_reason")?,
            updated_at: row.get("updated_at")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// One Session, whatever its state.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// The Sessions among these ids, in no order.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn get_sessions(&self, ids: &[SessionId]) -> Result<Vec<Session>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(IN_LIST) {
            let (tail, values) = Where::zone().and_in("id", some).tail("");
            found.extend(self.fetch::<Session>(&tail, values).await?);
        }
        Ok(found)
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_sessions(
        &self,
        filter: &SessionFilter,
        page: &Page,
    ) -> Result<Slice<Session>, StoreError> {
        let position = |row: &Session| Cursor {
            at: row.started_at,
            id: row.id.to_string(),
        };
        match &filter.label {
            None => {
                let rows = filter.conditions(Where::zone());
                self.fetch_page(rows, ("started_at", "id"), page, position)
                    .await
            }
            Some(label) => {
                let rows = Where::zone_of("session_labels")
                    .and("session_labels.label = ?", params![label])
                    .and(
                        "sessions.zone_id = $1 AND sessions.id = session_labels.session_id",
                        vec![],
                    );
                let order = ("session_labels.started_at", "session_labels.session_id");
                let rows = filter.conditions(rows);
                self.fetch_page_through("session_labels", rows, order, page, position)
                    .await
            }
        }
    }

    /// These Sessions and everything below them that a walk through `through` reaches; a Session in
    /// another state stops its branch. Roots first, then by depth.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn session_tree(
        &self,
        roots: &[SessionId],
        through: Through,
    ) -> Result<Vec<Session>, StoreError> {
        let states = through.states();
        let mut found: Vec<Session> = Vec::new();
        for some in roots.chunks(IN_LIST) {
            let marks = placeholders(2, some.len());
            let tail = format!(
                "WHERE zone_id = $1 AND id IN (
                    WITH RECURSIVE tree (id) AS (
                        SELECT id FROM sessions
                        WHERE zone_id = $1 AND id IN ({marks}) AND status IN ({states})
                        UNION
                        SELECT child.id FROM sessions AS child
                        JOIN tree ON child.parent_id = tree.id
                        WHERE child.zone_id = $1 AND child.status IN ({states}))
                    SELECT id FROM tree)
                 ORDER BY depth, id"
            );
            found.extend(
                self.fetch::<Session>(&tail, some.iter().map(Bind::bind).collect())
                    .await?,
            );
        }
        found.sort_by(|a, b| (a.depth, &a.id).cmp(&(b.depth, &b.id)));
        found.dedup_by(|a, b| a.id == b.id);
        Ok(found)
    }

    /// The Sessions from this one up to its root, itself first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn session_ancestry(&self, id: &SessionId) -> Result<Vec<Session>, StoreError> {
        self.fetch(
            "WHERE zone_id = $1 AND id IN (
                WITH RECURSIVE line (id, parent_id) AS (
                    SELECT id, parent_id FROM sessions WHERE zone_id = $1 AND id = $2
                    UNION
                    SELECT up.id, up.parent_id FROM sessions AS up
                    JOIN line ON up.id = line.parent_id WHERE up.zone_id = $1)
                SELECT id FROM line)
             ORDER BY depth DESC",
            params![id],
        )
        .await
    }

    /// The active and suspended Sessions that were started on any of these records.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn live_sessions_on_records(
        &self,
        records: &[AuthorityRecordId],
    ) -> Result<Vec<Session>, StoreError> {
        let mut found = Vec::new();
        for some in records.chunks(IN_LIST) {
            let (tail, values) = Where::zone()
                .and_in("subject_authority_record_id", some)
                .and("status IN ('active', 'suspended')", vec![])
                .tail("");
            found.extend(self.fetch::<Session>(&tail, values).await?);
        }
        Ok(found)
    }

    /// How many slots are held at `now`: tasks within their lifetime, services that are suspended or
    /// within their lease. Exact when it is `limit` or more; below that it may count Sessions that
    /// lapsed and were not swept yet.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn held_session_slots(
        &self,
        of: SlotsOf<'_>,
        limit: i64,
        now: Timestamp,
    ) -> Result<i64, StoreError> {
        let live = match of {
            SlotsOf::Zone => {
                let sql = "SELECT CAST(SUM(live) AS BIGINT) AS n FROM session_counters WHERE zone_id = $1";
                self.number("session_counters", sql, vec![]).await?
            }
            SlotsOf::Application(id) => {
                let sql = "SELECT live AS n FROM session_counters
                     WHERE zone_id = $1 AND application_id = $2";
                self.number("session_counters", sql, params![id]).await?
            }
        };
        if live < limit {
            Ok(live)
        } else {
            self.count_held_slots(of, now).await
        }
    }

    async fn count_held_slots(&self, of: SlotsOf<'_>, now: Timestamp) -> Result<i64, StoreError> {
        let mut rows = Where::zone()
            .and("status IN ('active', 'suspended')", vec![])
            .and("slot_ends_at > ?", params![now]);
        if let SlotsOf::Application(id) = of {
            rows = rows.and("application_id = ?", params![id]);
        }
        let (tail, values) = rows.tail("");
        self.number(
            TABLE,
            format!("SELECT COUNT(*) AS n FROM sessions {tail}"),
            values,
        )
        .await
    }

    pub(crate) async fn live_session_refs(&self) -> Result<Vec<EndedSession>, StoreError> {
        let sql = "SELECT id, application_id, parent_id, subject_authority_record_id FROM sessions
             WHERE zone_id = $1 AND status IN ('active', 'suspended')";
        let rows = self.query(TABLE, sql, vec![]).await?;
        rows.iter()
            .map(|row| {
                let row = Row::new(row, TABLE);
                Ok(EndedSession {
                    id: row.get("id")?,
                    application_id: row.get("application_id")?,
                    parent_id: row.opt("parent_id")?,
                    subject_authority_record_id: row.get("subject_authority_record_id")?,
                })
            })
            .collect()
    }
}

impl ZoneUnit {
    /// Stores a new Session and counts it at its parent and its application.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn insert_session(&mut self, row: &Session) -> Result<(), StoreError> {
        self.own(TABLE, &row.zone_id)?;
        let (ttl, heartbeat, deadline) = match row.lifecycle {
            Lifecycle::Task { ttl_seconds } => (Some(ttl_seconds), None, None),
            Lifecycle::Service(lease) => (
                None,
                Some(lease.last_heartbeat_at),
                Some(lease.heartbeat_deadline_at),
            ),
        };
        self.insert(
            TABLE,
            "zone_id, id, application_id, parent_id, subject_authority_record_id, status, \
             lifecycle, ttl_seconds, last_heartbeat_at, heartbeat_deadline_at, slot_ends_at, depth, \
             labels, max_children, child_count, authority_root, metadata, lease_generation, \
             started_at, last_active_at, terminated_at, termination_reason, updated_at",
            params![
                row.id,
                row.application_id,
                row.parent_id,
                row.subject_authority_record_id,
                row.status,
                row.lifecycle.as_str(),
                ttl,
                heartbeat,
                deadline,
                slot_ends_at(row),
                row.depth,
                json_text(TABLE, &row.labels)?,
                row.max_children,
                row.child_count,
                row.authority_root,
                json_text(TABLE, &row.metadata)?,
                row.lease_generation,
                row.started_at,
                row.last_active_at,
                row.terminated_at,
                row.termination_reason,
                row.updated_at
            ],
        )
        .await?;
        self.insert_labels(row).await?;
        if let Some(parent) = &row.parent_id {
            self.execute(
                TABLE,
                "UPDATE sessions SET child_count = child_count + 1 WHERE zone_id = $1 AND id = $2",
                params![parent],
            )
            .await?;
        }
        if matches!(row.status, SessionStatus::Active | SessionStatus::Suspended) {
            self.count_live(&row.application_id, 1).await?;
        }
        Ok(())
    }

    /// Suspends those of the Sessions that are active. Their leases are frozen; the lifetimes of
    /// tasks run on. Returns how many it suspended.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn suspend_sessions(&mut self, ids: &[SessionId]) -> Result<u64, StoreError> {
        let now = self.now();
        self.set_status(
            ids,
            &format!(
                "status = 'suspended', updated_at = $2, slot_ends_at =
                    CASE WHEN lifecycle = 'service' THEN {NEVER} ELSE slot_ends_at END"
            ),
            "status = 'active'",
            params![now],
        )
        .await
    }

    /// Resumes those of the Sessions that are suspended; services get `service_deadline` as the end
    /// of their lease. Returns how many it resumed.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn resume_sessions(
        &mut self,
        ids: &[SessionId],
        service_deadline: Timestamp,
    ) -> Result<u64, StoreError> {
        let now = self.now();
        self.set_status(
            ids,
            "status = 'active', updated_at = $2,
             heartbeat_deadline_at =
                CASE WHEN lifecycle = 'service' THEN $3 ELSE heartbeat_deadline_at END,
             slot_ends_at = CASE WHEN lifecycle = 'service' THEN $3 ELSE slot_ends_at END",
            "status = 'suspended'",
            params![now, service_deadline],
        )
        .await
    }

    async fn set_status(
        &mut self,
        ids: &[SessionId],
        assignments: &str,
        guard: &str,
        common: Vec<sea_orm::Value>,
    ) -> Result<u64, StoreError> {
        let mut touched = 0;
        for some in ids.chunks(IN_LIST) {
            let marks = placeholders(common.len() + 2, some.len());
            let sql = format!(
                "UPDATE sessions SET {assignments} WHERE zone_id = $1 AND {guard} AND id IN ({marks})"
            );
            let mut values = common.clone();
            values.extend(some.iter().map(Bind::bind));
            touched += self.execute(TABLE, sql, values).await?;
        }
        for id in ids {
            self.changed(ChangeKind::Session, id);
        }
        Ok(touched)
    }

    /// Ends those of the Sessions that are active or suspended, and takes them off their parents' and
    /// applications' counts. Edges that touch them are the caller's to revoke. Returns the ids that
    /// it ended.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn end_sessions(
        &mut self,
        ends: &[EndSession],
    ) -> Result<Vec<SessionId>, StoreError> {
        let now = self.now();
        let mut by_manner: BTreeMap<(&str, &str), Vec<&SessionId>> = BTreeMap::new();
        for end in ends {
            by_manner
                .entry((end.status.as_str(), &end.reason))
                .or_default()
                .push(&end.id);
        }
        let mut ended = Vec::with_capacity(ends.len());
        let mut children: BTreeMap<SessionId, i64> = BTreeMap::new();
        let mut applications: BTreeMap<ApplicationId, i64> = BTreeMap::new();
        for ((status, reason), ids) in by_manner {
            for some in ids.chunks(IN_LIST) {
                let marks = placeholders(5, some.len());
                let sql = format!(
                    "UPDATE sessions SET status = $2, termination_reason = $3, terminated_at = $4,
                        updated_at = $4
                     WHERE zone_id = $1 AND status IN ('active', 'suspended') AND id IN ({marks})
                     RETURNING id, parent_id, application_id"
                );
                let mut values = params![status, reason, now];
                values.extend(some.iter().map(Bind::bind));
                for row in &self.query(TABLE, sql, values).await? {
                    let row = Row::new(row, TABLE);
                    ended.push(row.get::<SessionId>("id")?);
                    if let Some(parent) = row.opt::<SessionId>("parent_id")? {
                        *children.entry(parent).or_default() += 1;
                    }
                    *applications.entry(row.get("application_id")?).or_default() += 1;
                }
            }
        }
        for (parent, count) in children {
            self.execute(
                TABLE,
                "UPDATE sessions SET child_count =
                    CASE WHEN child_count > $3 THEN child_count - $3 ELSE 0 END
                 WHERE zone_id = $1 AND id = $2",
                params![parent, count],
            )
            .await?;
        }
        for (application, count) in applications {
            self.count_live(&application, -count).await?;
        }
        for id in &ended {
            self.changed(ChangeKind::Session, id);
        }
        Ok(ended)
    }

    /// Hands a service to a new holder: the generation rises by one, older holders are fenced.
    /// Returns the new generation; `None` when the Session is not an active service.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn take_lease(
        &mut self,
        id: &SessionId,
        deadline: Timestamp,
    ) -> Result<Option<i64>, StoreError> {
        let now = self.now();
        let sql = "UPDATE sessions SET lease_generation = lease_generation + 1,
                last_active_at = $3, last_heartbeat_at = $3, heartbeat_deadline_at = $4,
                slot_ends_at = $4, updated_at = $3
             WHERE zone_id = $1 AND id = $2 AND lifecycle = 'service' AND status = 'active'
             RETURNING lease_generation";
        let rows = self.query(TABLE, sql, params![id, now, deadline]).await?;
        let generation = rows
            .first()
            .map(|row| Row::new(row, TABLE).get("lease_generation"))
            .transpose()?;
        self.changed(ChangeKind::Session, id);
        Ok(generation)
    }

    /// Renews a service's lease. False when the generation moved or the Session is no live service.
    ///
    /// A renewal only ever adds life, so caches are not told: whoever finds a cached lease lapsed
    /// reads it again.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn renew_lease(
        &mut self,
        id: &SessionId,
        generation: i64,
        deadline: Timestamp,
    ) -> Result<bool, StoreError> {
        let now = self.now();
        let sql = format!(
            "UPDATE sessions SET last_active_at = $3, last_heartbeat_at = $3,
                heartbeat_deadline_at = $4, updated_at = $3,
                slot_ends_at = CASE WHEN status = 'suspended' THEN {NEVER} ELSE $4 END
             WHERE zone_id = $1 AND id = $2 AND lifecycle = 'service'
                AND status IN ('active', 'suspended') AND lease_generation = $5"
        );
        let touched = self
            .execute(TABLE, sql, params![id, now, deadline, generation])
            .await?;
        Ok(touched > 0)
    }

    /// Deletes Sessions that ended before `before` and that nothing refers to any more, at most
    /// `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn delete_ended_sessions(
        &mut self,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        self.execute(
            TABLE,
            "DELETE FROM sessions WHERE zone_id = $1 AND id IN (
                SELECT s.id FROM sessions AS s
                WHERE s.zone_id = $1 AND s.terminated_at < $2
                  AND NOT EXISTS (SELECT 1 FROM sessions AS c
                    WHERE c.zone_id = $1 AND c.parent_id = s.id)
                  AND NOT EXISTS (SELECT 1 FROM delegations AS d WHERE d.zone_id = $1
                    AND (d.source_session_id = s.id OR d.target_session_id = s.id))
                ORDER BY s.terminated_at LIMIT $3)",
            params![before, limit],
        )
        .await
    }

    async fn insert_labels(&mut self, row: &Session) -> Result<(), StoreError> {
        for label in &row.labels {
            self.execute(
                "session_labels",
                "INSERT INTO session_labels (zone_id, label, started_at, session_id)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                params![label, row.started_at, row.id],
            )
            .await?;
        }
        Ok(())
    }

    async fn count_live(&mut self, application: &ApplicationId, by: i64) -> Result<(), StoreError> {
        self.execute(
            "session_counters",
            "INSERT INTO session_counters (zone_id, application_id, live) VALUES ($1, $2, $3)
             ON CONFLICT (zone_id, application_id)
             DO UPDATE SET live = session_counters.live + excluded.live",
            params![application, by],
        )
        .await
        .map(|_| ())
    }
}

fn slot_ends_at(row: &Session) -> i64 {
    match (row.lifecycle, row.status) {
        (Lifecycle::Task { ttl_seconds }, _) => row.started_at.plus_seconds(ttl_seconds).micros(),
        (Lifecycle::Service(_), SessionStatus::Suspended) => NEVER,
        (Lifecycle::Service(lease), _) => lease.heartbeat_deadline_at.micros(),
    }
}

impl<A: Access> OnPlatform<A> {
    /// Sessions of all zones whose time is up at `now`, the longest overdue first: tasks past their
    /// lifetime, active services past their lease.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn due_sessions(
        &self,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<DueSession>, StoreError> {
        let sql = "SELECT zone_id, id, lifecycle FROM sessions
             WHERE status IN ('active', 'suspended') AND slot_ends_at <= $1
             ORDER BY slot_ends_at LIMIT $2";
        let rows = self.query(TABLE, sql, params![now, limit]).await?;
        rows.iter()
            .map(|row| {
                let row = Row::new(row, TABLE);
                Ok(DueSession {
                    zone_id: row.get("zone_id")?,
                    id: row.get("id")?,
                    kind: row.get("lifecycle")?,
                })
            })
            .collect()
    }
}
