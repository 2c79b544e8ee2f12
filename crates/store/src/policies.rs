//! Policies, policy sets, their immutable versions, and which version governs.

use std::collections::HashMap;
use std::sync::Arc;

use caracal_core::id::{PolicyId, PolicySetId, PolicySetVersionId, PolicyVersionId};

use crate::change::ChangeKind;
use crate::entity::{ActivePolicySet, Author, Policy, PolicySet, PolicySetVersion, PolicyVersion};
use crate::error::StoreError;
use crate::handle::{Access, InZone, ZoneUnit};
use crate::page::{Cursor, Page, Slice};
use crate::sql::{Entity, IN_LIST, Row, Where, json_text, params};
use crate::zones::attribution;

/// A policy version to store; its number is given inside the transaction.
#[derive(Debug, Clone)]
pub struct NewPolicyVersion {
    /// Row id.
    pub id: PolicyVersionId,
    /// The policy.
    pub policy_id: PolicyId,
    /// The source text, exactly as received.
    pub content: Arc<str>,
    /// Lower-case hex SHA-256 of the UTF-8 content.
    pub content_sha256: String,
    /// The schema version that it was checked against.
    pub schema_version: String,
    /// Who makes it.
    pub author: Author,
}

/// A policy set version to store; its number is given inside the transaction.
#[derive(Debug, Clone)]
pub struct NewPolicySetVersion {
    /// Row id.
    pub id: PolicySetVersionId,
    /// The set.
    pub policy_set_id: PolicySetId,
    /// The policy versions, in the order given.
    pub manifest: Vec<PolicyVersionId>,
    /// Hex SHA-256 of the manifest's canonical form.
    pub manifest_sha256: String,
    /// The schema version of its policies.
    pub schema_version: String,
    /// Who makes it.
    pub author: Author,
}

/// Counts for an overview.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicySetCounts {
    /// Live sets.
    pub total: i64,
    /// Name of the governing set.
    pub active_name: Option<String>,
}

impl Entity for Policy {
    const TABLE: &'static str = "policies";
    const COLUMNS: &'static str = "zone_id, id, name, description, created_by, \
         created_via_operator, updated_by, updated_via_operator, created_at, updated_at, archived_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            name: row.get("name")?,
            description: row.opt("description")?,
            attribution: attribution(row)?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            archived_at: row.opt("archived_at")?,
        })
    }
}

impl Entity for PolicyVersion {
    const TABLE: &'static str = "policy_versions";
    const COLUMNS: &'static str = "zone_id, id, policy_id, version, content, content_sha256, \
         schema_version, created_by, created_via_operator, created_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            policy_id: row.get("policy_id")?,
            version: row.get("version")?,
            content: row.get("content")?,
            content_sha256: row.get("content_sha256")?,
            schema_version: row.get("schema_version")?,
            created_by: row.opt("created_by")?,
            created_via_operator: row.get("created_via_operator")?,
            created_at: row.get("created_at")?,
        })
    }
}

impl Entity for PolicySet {
    const TABLE: &'static str = "policy_sets";
    const COLUMNS: &'static str = "zone_id, id, name, description, active_version_id, created_by, \
         created_via_operator, updated_by, updated_via_operator, created_at, updated_at, archived_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            name: row.get("name")?,
            description: row.opt("description")?,
            active_version_id: row.opt("active_version_id")?,
            attribution: attribution(row)?,
            created_at: row.get("created_at")?,
            updated_at: row.get("updated_at")?,
            archived_at: row.opt("archived_at")?,
        })
    }
}

impl Entity for PolicySetVersion {
    const TABLE: &'static str = "policy_set_versions";
    const COLUMNS: &'static str = "zone_id, id, policy_set_id, version, manifest, \
         manifest_sha256, schema_version, created_by, created_via_operator, created_at";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            zone_id: row.get("zone_id")?,
            policy_set_id: row.get("policy_set_id")?,
            version: row.get("version")?,
            manifest: row.json("manifest")?,
            manifest_sha256: row.get("manifest_sha256")?,
            schema_version: row.get("schema_version")?,
            created_by: row.opt("created_by")?,
            created_via_operator: row.get("created_via_operator")?,
            created_at: row.get("created_at")?,
        })
    }
}

impl<A: Access> InZone<A> {
    /// One policy, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_policy(&self, id: &PolicyId) -> Result<Option<Policy>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// Live policies, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_policies(&self, page: &Page) -> Result<Slice<Policy>, StoreError> {
        let rows = Where::zone().and("archived_at IS NULL", vec![]);
        self.fetch_page(rows, ("created_at", "id"), page, |row: &Policy| Cursor {
            at: row.created_at,
            id: row.id.to_string(),
        })
        .await
    }

    /// Every version of a policy, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_policy_versions(
        &self,
        policy: &PolicyId,
    ) -> Result<Vec<PolicyVersion>, StoreError> {
        self.fetch(
            "WHERE zone_id = $1 AND policy_id = $2 ORDER BY version DESC",
            params![policy],
        )
        .await
    }

    /// The policy versions of these ids that the zone has, in the order of the ids.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn get_policy_versions(
        &self,
        ids: &[PolicyVersionId],
    ) -> Result<Vec<PolicyVersion>, StoreError> {
        let mut found: HashMap<PolicyVersionId, PolicyVersion> = HashMap::new();
        for some in ids.chunks(IN_LIST) {
            let (tail, values) = Where::zone().and_in("id", some).tail("");
            let rows = self.fetch::<PolicyVersion>(&tail, values).await?;
            found.extend(rows.into_iter().map(|row| (row.id.clone(), row)));
        }
        Ok(ids.iter().filter_map(|id| found.get(id).cloned()).collect())
    }

    /// One policy set, archived or not.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_policy_set(&self, id: &PolicySetId) -> Result<Option<PolicySet>, StoreError> {
        self.fetch_one("WHERE zone_id = $1 AND id = $2", params![id])
            .await
    }

    /// Live policy sets, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_policy_sets(&self, page: &Page) -> Result<Slice<PolicySet>, StoreError> {
        let rows = Where::zone().and("archived_at IS NULL", vec![]);
        self.fetch_page(rows, ("created_at", "id"), page, |row: &PolicySet| Cursor {
            at: row.created_at,
            id: row.id.to_string(),
        })
        .await
    }

    /// Counts for an overview.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be counted.
    pub async fn count_policy_sets(&self) -> Result<PolicySetCounts, StoreError> {
        let total = self
            .number(
                "policy_sets",
                "SELECT COUNT(*) AS n FROM policy_sets WHERE zone_id = $1 AND archived_at IS NULL",
                vec![],
            )
            .await?;
        let active: Option<PolicySet> = self
            .fetch_one(
                "WHERE zone_id = $1 AND active_version_id IS NOT NULL",
                vec![],
            )
            .await?;
        Ok(PolicySetCounts {
            total,
            active_name: active.map(|set| set.name),
        })
    }

    /// One version of a policy set.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_policy_set_version(
        &self,
        set: &PolicySetId,
        id: &PolicySetVersionId,
    ) -> Result<Option<PolicySetVersion>, StoreError> {
        self.fetch_one(
            "WHERE zone_id = $1 AND policy_set_id = $2 AND id = $3",
            params![set, id],
        )
        .await
    }

    /// Versions of a policy set, newest first.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn list_policy_set_versions(
        &self,
        set: &PolicySetId,
        page: &Page,
    ) -> Result<Slice<PolicySetVersion>, StoreError> {
        let rows = Where::zone().and("policy_set_id = ?", params![set]);
        self.fetch_page(
            rows,
            ("created_at", "id"),
            page,
            |row: &PolicySetVersion| Cursor {
                at: row.created_at,
                id: row.id.to_string(),
            },
        )
        .await
    }

    /// The policy that governs the zone, with its documents; `None` when nothing governs it.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read or a document of its manifest is missing.
    pub async fn active_policy(&self) -> Result<Option<ActivePolicySet>, StoreError> {
        // One statement, so that a set and its version are of one snapshot; versions never change.
        let version: Option<PolicySetVersion> = self
            .fetch_one(
                "WHERE zone_id = $1 AND id = (SELECT active_version_id FROM policy_sets
                    WHERE zone_id = $1 AND active_version_id IS NOT NULL)",
                vec![],
            )
            .await?;
        let Some(version) = version else {
            return Ok(None);
        };
        let documents = self.get_policy_versions(&version.manifest).await?;
        if documents.len() != version.manifest.len() {
            return Err(StoreError::corrupt(
                "policy_versions",
                "a governing document is missing",
            ));
        }
        Ok(Some(ActivePolicySet {
            policy_set_id: version.policy_set_id,
            version_id: version.id,
            manifest_sha256: version.manifest_sha256,
            documents: documents
                .into_iter()
                .map(|row| (row.id, row.content))
                .collect(),
        }))
    }
}

impl ZoneUnit {
    /// Stores a new policy; its text comes as a version.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `PolicyName` when a live policy has the name.
    pub async fn insert_policy(&mut self, row: &Policy) -> Result<(), StoreError> {
        self.own("policies", &row.zone_id)?;
        self.insert(
            "policies",
            Policy::COLUMNS,
            params![
                row.id,
                row.name,
                row.description,
                row.attribution.created_by,
                row.attribution.created_via_operator,
                row.attribution.updated_by,
                row.attribution.updated_via_operator,
                row.created_at,
                row.updated_at,
                row.archived_at
            ],
        )
        .await
    }

    /// Stores the next version of a policy. `None` when the policy does not exist or is archived.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn insert_policy_version(
        &mut self,
        new: &NewPolicyVersion,
    ) -> Result<Option<PolicyVersion>, StoreError> {
        const TABLE: &str = "policy_versions";
        let policy = self.get_policy(&new.policy_id).await?;
        if policy.is_none_or(|policy| policy.archived_at.is_some()) {
            return Ok(None);
        }
        let last = self
            .number(
                TABLE,
                "SELECT MAX(version) AS n FROM policy_versions
                 WHERE zone_id = $1 AND policy_id = $2",
                params![new.policy_id],
            )
            .await?;
        let row = PolicyVersion {
            id: new.id.clone(),
            zone_id: self.zone_id().clone(),
            policy_id: new.policy_id.clone(),
            version: last + 1,
            content: Arc::clone(&new.content),
            content_sha256: new.content_sha256.clone(),
            schema_version: new.schema_version.clone(),
            created_by: new.author.by.clone(),
            created_via_operator: new.author.via_operator,
            created_at: self.now(),
        };
        let values = params![
            row.id,
            row.policy_id,
            row.version,
            row.content,
            row.content_sha256,
            row.schema_version,
            row.created_by,
            row.created_via_operator,
            row.created_at
        ];
        self.insert(TABLE, PolicyVersion::COLUMNS, values).await?;
        self.execute(
            "policies",
            "UPDATE policies SET updated_at = $3, updated_by = $4, updated_via_operator = $5
             WHERE zone_id = $1 AND id = $2",
            params![
                new.policy_id,
                row.created_at,
                row.created_by,
                row.created_via_operator
            ],
        )
        .await?;
        Ok(Some(row))
    }

    /// Archives a policy; versions in the governing set keep governing. False when there is no live
    /// row.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn archive_policy(&mut self, id: &PolicyId, by: &Author) -> Result<bool, StoreError> {
        let now = self.now();
        let touched = self
            .execute(
                "policies",
                "UPDATE policies SET archived_at = $3, updated_at = $3, updated_by = $4,
                    updated_via_operator = $5
                 WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
                params![id, now, by.by, by.via_operator],
            )
            .await?;
        Ok(touched > 0)
    }

    /// Stores a new policy set, which governs nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] with `PolicySetName` when a live set has the name.
    pub async fn insert_policy_set(&mut self, row: &PolicySet) -> Result<(), StoreError> {
        self.own("policy_sets", &row.zone_id)?;
        self.insert(
            "policy_sets",
            "zone_id, id, name, description, created_by, created_via_operator, updated_by, \
             updated_via_operator, created_at, updated_at, archived_at",
            params![
                row.id,
                row.name,
                row.description,
                row.attribution.created_by,
                row.attribution.created_via_operator,
                row.attribution.updated_by,
                row.attribution.updated_via_operator,
                row.created_at,
                row.updated_at,
                row.archived_at
            ],
        )
        .await
    }

    /// Stores the next version of a policy set. `None` when the set does not exist or is archived.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn insert_policy_set_version(
        &mut self,
        new: &NewPolicySetVersion,
    ) -> Result<Option<PolicySetVersion>, StoreError> {
        const TABLE: &str = "policy_set_versions";
        let set = self.get_policy_set(&new.policy_set_id).await?;
        if set.is_none_or(|set| set.archived_at.is_some()) {
            return Ok(None);
        }
        let last = self
            .number(
                TABLE,
                "SELECT MAX(version) AS n FROM policy_set_versions
                 WHERE zone_id = $1 AND policy_set_id = $2",
                params![new.policy_set_id],
            )
            .await?;
        let row = PolicySetVersion {
            id: new.id.clone(),
            zone_id: self.zone_id().clone(),
            policy_set_id: new.policy_set_id.clone(),
            version: last + 1,
            manifest: new.manifest.clone(),
            manifest_sha256: new.manifest_sha256.clone(),
            schema_version: new.schema_version.clone(),
            created_by: new.author.by.clone(),
            created_via_operator: new.author.via_operator,
            created_at: self.now(),
        };
        let values = params![
            row.id,
            row.policy_set_id,
            row.version,
            json_text(TABLE, &row.manifest)?,
            row.manifest_sha256,
            row.schema_version,
            row.created_by,
            row.created_via_operator,
            row.created_at
        ];
        self.insert(TABLE, PolicySetVersion::COLUMNS, values)
            .await?;
        Ok(Some(row))
    }

    /// Makes a version of a live set govern the zone, in place of whatever governed it: from the
    /// commit on every decision is made with it. False when the set is not live or has no such
    /// version.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn activate_policy_set(
        &mut self,
        set: &PolicySetId,
        version: &PolicySetVersionId,
        by: &Author,
    ) -> Result<bool, StoreError> {
        let row = self.get_policy_set(set).await?;
        let live = row.is_some_and(|row| row.archived_at.is_none());
        if !live || self.get_policy_set_version(set, version).await?.is_none() {
            return Ok(false);
        }
        let now = self.now();
        self.execute(
            "policy_sets",
            "UPDATE policy_sets SET active_version_id = NULL
             WHERE zone_id = $1 AND id <> $2 AND active_version_id IS NOT NULL",
            params![set],
        )
        .await?;
        self.execute(
            "policy_sets",
            "UPDATE policy_sets SET active_version_id = $3, updated_at = $4, updated_by = $5,
                updated_via_operator = $6
             WHERE zone_id = $1 AND id = $2 AND archived_at IS NULL",
            params![set, version, now, by.by, by.via_operator],
        )
        .await?;
        self.changed(ChangeKind::Policy, set);
        Ok(true)
    }

    /// Archives a policy set; when it governed the zone, nothing governs it from the commit on and
    /// everything is denied. `None` when there is no live row, else whether it governed.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn archive_policy_set(
        &mut self,
        id: &PolicySetId,
        by: &Author,
    ) -> Result<Option<bool>, StoreError> {
        let set = self.get_policy_set(id).await?;
        let Some(set) = set.filter(|set| set.archived_at.is_none()) else {
            return Ok(None);
        };
        let now = self.now();
        self.execute(
            "policy_sets",
            "UPDATE policy_sets SET archived_at = $3, updated_at = $3, active_version_id = NULL,
                updated_by = $4, updated_via_operator = $5
             WHERE zone_id = $1 AND id = $2",
            params![id, now, by.by, by.via_operator],
        )
        .await?;
        self.changed(ChangeKind::Policy, id);
        Ok(Some(set.active_version_id.is_some()))
    }
}
