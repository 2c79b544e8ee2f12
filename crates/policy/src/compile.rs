//! The documents of a policy set into one compiled zone policy.
//!
//! All versions of a set share one namespace. One name in two versions is one document only when
//! both say the same (two sets of `restrict` unite); everything else is a conflict, found when a
//! set version is made and again when it is activated, so that no decision ever meets one.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;

use caracal_core::id::PolicyVersionId;
use caracal_core::{Scope, ScopeSet};
use regorus::Value;

use crate::decide::Entry;
use crate::document::{Path, PolicyDocument};
use crate::tables::{ApprovalTier, DocumentName, FreezeRow, GrantRow, RiskRow, Window};

/// Two versions of a set contradict each other, or one of them itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason} (policy versions {first} and {second})")]
pub struct BundleConflict {
    /// Document and path where they differ.
    pub path: String,
    /// The version that comes first in the manifest.
    pub first: PolicyVersionId,
    /// The version that contradicts it; the same one when a document contradicts itself.
    pub second: PolicyVersionId,
    /// What they disagree on.
    pub reason: String,
}

/// A zone's active policy, ready to decide.
///
/// Immutable; [`ZonePolicy::decide`](crate::ZonePolicy::decide) is a pure function of it.
#[derive(Debug, Clone)]
pub struct ZonePolicy {
    pub(crate) active: Option<Active>,
}

/// The lookup structures of an active set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Active {
    /// By resource identifier.
    pub(crate) grants: HashMap<Arc<str>, Grant>,
    pub(crate) caps: Vec<Cap>,
    pub(crate) freezes: Vec<Freeze>,
    /// Tiers by scope.
    pub(crate) risk: HashMap<Scope, Arc<str>>,
    /// In Rego's order of values.
    pub(crate) approval_tiers: Vec<Arc<ApprovalTier>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// The application that the binding key stands for; none when the key is not bound.
    pub(crate) owner: Option<Arc<str>>,
    /// `caracal-KEY-mint`.
    pub(crate) mint: Arc<str>,
    /// `caracal-KEY-use`.
    pub(crate) usage: Arc<str>,
    /// By label.
    pub(crate) roles: HashMap<Arc<str>, Role>,
    pub(crate) entry: Entry,
}

#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) scopes: ScopeSet,
    pub(crate) entry: Entry,
}

#[derive(Debug, Clone)]
pub(crate) struct Cap {
    pub(crate) label_prefix: Arc<str>,
    pub(crate) scopes: ScopeSet,
    pub(crate) entry: Entry,
}

#[derive(Debug, Clone)]
pub(crate) struct Freeze {
    pub(crate) window: Window,
    pub(crate) entry: Entry,
}

type Version = (PolicyVersionId, Arc<PolicyDocument>);

impl ZonePolicy {
    /// Compiles the versions of a set, in the order of its manifest.
    ///
    /// A set without `grants` or `app_ids` is legal and grants nothing.
    ///
    /// # Errors
    /// [`BundleConflict`] for the first contradiction.
    pub fn compile(versions: &[Version]) -> Result<Self, BundleConflict> {
        let mut active = Active::default();
        let mut app_ids: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        for version in defining(versions, DocumentName::AppIds)? {
            app_ids.extend(version.1.tables().app_ids.iter().cloned());
        }
        for version in defining(versions, DocumentName::Grants)? {
            for row in &version.1.tables().grants {
                active
                    .grants
                    .insert(row.resource.clone(), grant(&version.0, row, &app_ids));
            }
        }
        for version in defining(versions, DocumentName::Confinement)? {
            active
                .caps
                .extend(version.1.tables().confinement.iter().map(|row| Cap {
                    label_prefix: row.label_prefix.clone(),
                    scopes: row.scopes.clone(),
                    entry: entry(&version.0, &row.path),
                }));
        }
        for version in defining(versions, DocumentName::Restrict)? {
            active.freezes.extend(
                version
                    .1
                    .tables()
                    .restrict
                    .iter()
                    .map(|row| freeze(&version.0, row)),
            );
        }
        for version in defining(versions, DocumentName::Risk)? {
            classify(&mut active.risk, &version.0, &version.1.tables().risk)?;
        }
        for version in defining(versions, DocumentName::ApprovalTiers)? {
            active
                .approval_tiers
                .clone_from(&version.1.tables().approval_tiers);
        }
        Ok(Self {
            active: Some(active),
        })
    }

    /// The policy of a zone without an active set: everything is denied, `no_active_policy_set`.
    #[must_use]
    pub fn deny_all() -> Self {
        Self { active: None }
    }
}

/// The versions whose tables make up a document: the first that defines it, and for `restrict` all
/// further sets. Versions that repeat an earlier value add nothing.
fn defining(versions: &[Version], name: DocumentName) -> Result<Vec<&Version>, BundleConflict> {
    let mut chosen: Vec<(&Version, &Value)> = Vec::new();
    for version in versions {
        let Some(value) = version.1.values().get(&name) else {
            continue;
        };
        let Some((first, known)) = chosen.first() else {
            chosen.push((version, value));
            continue;
        };
        if chosen.iter().any(|(_, known)| *known == value) {
            continue;
        }
        if !(name == DocumentName::Restrict && is_set(known) && is_set(value)) {
            return Err(BundleConflict {
                path: difference(Path::new(name), known, value).to_string(),
                first: first.0.clone(),
                second: version.0.clone(),
                reason: format!("two versions give `{name}` different values"),
            });
        }
        chosen.push((version, value));
    }
    Ok(chosen.into_iter().map(|(version, _)| version).collect())
}

fn is_set(value: &Value) -> bool {
    matches!(value, Value::Set(_))
}

/// The first place where two values differ.
fn difference(at: Path, one: &Value, other: &Value) -> Path {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let only_there = other
                .iter_sorted()
                .filter(|(key, _)| !one.contains_key(key));
            let differing = one
                .iter_sorted()
                .find(|(key, value)| other.get(key) != Some(*value));
            match differing.or_else(|| only_there.into_iter().next()) {
                Some((Value::String(key), value)) => match other.get(&Value::String(key.clone())) {
                    Some(theirs) if theirs != value => difference(at.key(key), value, theirs),
                    _ => at.key(key),
                },
                _ => at,
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            let mut pairs = one.iter().zip(other.iter()).enumerate();
            match pairs.find(|(_, (one, other))| one != other) {
                Some((index, (one, other))) => difference(at.index(index), one, other),
                None => at.index(one.len().min(other.len())),
            }
        }
        _ => at,
    }
}

fn entry(version: &PolicyVersionId, path: &Arc<str>) -> Entry {
    Entry {
        policy_version_id: version.clone(),
        path: path.clone(),
    }
}

fn grant(
    version: &PolicyVersionId,
    row: &GrantRow,
    app_ids: &HashMap<Arc<str>, Arc<str>>,
) -> Grant {
    let path = Path::new(DocumentName::Grants)
        .key(&row.resource)
        .to_string()
        .into();
    Grant {
        owner: app_ids.get(&row.application).cloned(),
        mint: format!("caracal-{}-mint", row.application).into(),
        usage: format!("caracal-{}-use", row.application).into(),
        roles: row
            .roles
            .iter()
            .map(|role| {
                let entry = entry(version, &role.path);
                (
                    role.label.clone(),
                    Role {
                        scopes: role.scopes.clone(),
                        entry,
                    },
                )
            })
            .collect(),
        entry: entry(version, &path),
    }
}

fn freeze(version: &PolicyVersionId, row: &FreezeRow) -> Freeze {
    Freeze {
        window: row.window,
        entry: entry(version, &row.path),
    }
}

/// Two rules for one scope may repeat each other, not contradict each other.
fn classify(
    risk: &mut HashMap<Scope, Arc<str>>,
    version: &PolicyVersionId,
    rows: &[RiskRow],
) -> Result<(), BundleConflict> {
    for row in rows {
        match risk.entry(Scope::new(&row.scope)) {
            Slot::Vacant(slot) => {
                slot.insert(row.tier.clone());
            }
            Slot::Occupied(known) if *known.get() == row.tier => {}
            Slot::Occupied(known) => {
                return Err(BundleConflict {
                    path: row.path.to_string(),
                    first: version.clone(),
                    second: version.clone(),
                    reason: format!(
                        "the scope {} has the tier {} already, not {}",
                        row.scope,
                        known.get(),
                        row.tier
                    ),
                });
            }
        }
    }
    Ok(())
}
