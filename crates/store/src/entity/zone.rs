use caracal_core::Timestamp;
use caracal_core::id::ZoneId;

/// Who created and last changed a row, and whether the console's operator did it for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attribution {
    /// Creator, `admin:<token id>` for a plain admin token.
    pub created_by: Option<String>,
    /// Whether the operator co-authored the creation.
    pub created_via_operator: bool,
    /// Last editor.
    pub updated_by: Option<String>,
    /// Whether the operator co-authored the last change.
    pub updated_via_operator: bool,
}

/// Who makes a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Author {
    /// The editor, `admin:<token id>` for a plain admin token.
    pub by: Option<String>,
    /// Whether the operator co-authors the change.
    pub via_operator: bool,
}

impl Author {
    /// The attribution of a row that this author creates.
    #[must_use]
    pub fn creates(&self) -> Attribution {
        Attribution {
            created_by: self.by.clone(),
            created_via_operator: self.via_operator,
            updated_by: None,
            updated_via_operator: false,
        }
    }

    /// `attribution` after a change by this author.
    #[must_use]
    pub fn edits(&self, attribution: &Attribution) -> Attribution {
        Attribution {
            updated_by: self.by.clone(),
            updated_via_operator: self.via_operator,
            ..attribution.clone()
        }
    }
}

/// A tenant.
#[derive(Debug, Clone)]
pub struct Zone {
    /// Row id.
    pub id: ZoneId,
    /// Display name, 1 to 120 characters; need not be unique.
    pub name: String,
    /// `[a-z0-9-]+`, unique over all zones, archived ones included.
    pub slug: String,
    /// Whether applications may register themselves.
    pub dcr_enabled: bool,
    /// Whether operator co-authorship is shown.
    pub operator_coauthor_badge: bool,
    /// Whether the console's operator may administer the zone.
    pub operator_governed: bool,
    /// Console account that owns the zone.
    pub owner_account_id: Option<String>,
    /// Who made and changed it.
    pub attribution: Attribution,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Set: the zone neither mints nor proxies any more.
    pub archived_at: Option<Timestamp>,
}

impl Zone {
    /// Whether the zone mints and proxies.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.archived_at.is_none()
    }

    /// Whether only the bootstrap token may change the zone.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.name.trim().to_lowercase().starts_with("caracal.sys/")
            || self.slug.starts_with("caracal-sys-")
    }
}
