//! The typed tables that a document is read into.

use std::fmt;
use std::sync::Arc;

use caracal_core::{ScopeSet, Timestamp};
use serde::Serialize;

/// The six documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum DocumentName {
    AppIds,
    Grants,
    Confinement,
    Restrict,
    Risk,
    ApprovalTiers,
}

impl DocumentName {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "app_ids" => Self::AppIds,
            "grants" => Self::Grants,
            "confinement" => Self::Confinement,
            "restrict" => Self::Restrict,
            "risk" => Self::Risk,
            "approval_tiers" => Self::ApprovalTiers,
            _ => return None,
        })
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::AppIds => "app_ids",
            Self::Grants => "grants",
            Self::Confinement => "confinement",
            Self::Restrict => "restrict",
            Self::Risk => "risk",
            Self::ApprovalTiers => "approval_tiers",
        }
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one document declares; a document that is not defined has an empty table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// Binding key and application id.
    pub(crate) app_ids: Vec<(Arc<str>, Arc<str>)>,
    pub(crate) grants: Vec<GrantRow>,
    pub(crate) confinement: Vec<CapRow>,
    pub(crate) restrict: Vec<FreezeRow>,
    pub(crate) risk: Vec<RiskRow>,
    /// Distinct, in Rego's order of values: the order in which holds list them.
    pub(crate) approval_tiers: Vec<Arc<ApprovalTier>>,
}

/// Who owns a resource view, and what each label may hold there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantRow {
    pub(crate) resource: Arc<str>,
    /// The owner's binding key.
    pub(crate) application: Arc<str>,
    pub(crate) roles: Vec<RoleRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleRow {
    pub(crate) label: Arc<str>,
    pub(crate) scopes: ScopeSet,
    pub(crate) path: Arc<str>,
}

/// Caps every Session that has a label with the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CapRow {
    pub(crate) label_prefix: Arc<str>,
    pub(crate) scopes: ScopeSet,
    pub(crate) path: Arc<str>,
}

/// Freezes the zone, always or within a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FreezeRow {
    pub(crate) window: Window,
    pub(crate) path: Arc<str>,
}

/// Half open: from `from` on, until just before `until`; a missing end is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

impl Window {
    pub(crate) fn holds(self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RiskRow {
    pub(crate) scope: Arc<str>,
    pub(crate) tier: Arc<str>,
    pub(crate) path: Arc<str>,
}

/// A declaration that a risk tier's mints wait for a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalTier {
    /// The tier that it gates.
    pub tier: Arc<str>,
    /// Who may decide.
    pub approver: Approver,
    /// How long the hold stays open, in seconds; the class default when absent.
    pub ttl_seconds: Option<u64>,
    /// How the approver is recorded.
    pub privacy: Privacy,
    /// The declaration as written, further keys included.
    pub authored: serde_json::Value,
}

/// Who may decide on a hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Approver {
    /// An operator of the zone; also the meaning of an absent key.
    #[default]
    Operator,
    /// The subject on whose behalf the mint happens.
    Subject,
    /// Either.
    Any,
}

/// How an approver is recorded, weakest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Privacy {
    /// By name; also the meaning of an absent key.
    #[default]
    Identified,
    /// By a stable stand-in.
    Pseudonymous,
    /// Not at all.
    Anonymous,
}
