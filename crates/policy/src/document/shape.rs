//! Values into tables, strictly: whatever is not exactly of the documented shape is refused with
//! its path, so that no table is ever half read.

use std::collections::BTreeMap;
use std::sync::Arc;

use caracal_core::{Scope, ScopeSet, Timestamp};
use regorus::Value;
use regorus::unstable::Module;

use super::path::Path;
use super::{DocumentError, locate};
use crate::tables::{
    ApprovalTier, Approver, CapRow, DocumentName, FreezeRow, GrantRow, Privacy, RiskRow, RoleRow,
    Tables, Window,
};

/// A value that has not the shape its document must have.
#[derive(Debug)]
pub(super) struct Defect {
    path: Path,
    reason: String,
}

impl Defect {
    pub(super) fn into_error(self, module: &Module) -> DocumentError {
        DocumentError::InvalidShape {
            line: locate::line(module, &self.path),
            path: self.path.to_string(),
            reason: self.reason,
        }
    }
}

type Shaped<T> = Result<T, Defect>;

/// Reads all documents that are defined.
pub(super) fn tables(values: &BTreeMap<DocumentName, Value>) -> Shaped<Tables> {
    let mut tables = Tables::default();
    for (name, value) in values {
        let at = Node {
            path: Path::new(*name),
            value,
        };
        match name {
            DocumentName::AppIds => tables.app_ids = app_ids(&at)?,
            DocumentName::Grants => tables.grants = grants(&at)?,
            DocumentName::Confinement => tables.confinement = confinement(&at)?,
            DocumentName::Restrict => tables.restrict = restrict(&at)?,
            DocumentName::Risk => tables.risk = risk(&at)?,
            DocumentName::ApprovalTiers => tables.approval_tiers = approval_tiers(&at)?,
        }
    }
    Ok(tables)
}

fn app_ids(document: &Node<'_>) -> Shaped<Vec<(Arc<str>, Arc<str>)>> {
    document
        .fields("an object of binding keys and application ids")?
        .into_iter()
        .map(|(key, id)| Ok((key, id.word("an application id")?)))
        .collect()
}

fn grants(document: &Node<'_>) -> Shaped<Vec<GrantRow>> {
    document
        .fields("an object of resource identifiers and their grants")?
        .into_iter()
        .map(|(resource, grant)| {
            let (application, roles) = grant.pair("application", "roles")?;
            let roles = roles
                .fields("an object of labels and their scopes")?
                .into_iter()
                .map(|(label, scopes)| {
                    let path = scopes.path.to_string().into();
                    Ok(RoleRow {
                        label,
                        scopes: scopes.role_scopes()?,
                        path,
                    })
                })
                .collect::<Shaped<_>>()?;
            Ok(GrantRow {
                resource,
                application: application.word("a binding key")?,
                roles,
            })
        })
        .collect()
}

fn confinement(document: &Node<'_>) -> Shaped<Vec<CapRow>> {
    document
        .items("an array of caps")?
        .into_iter()
        .map(|cap| {
            let (label_prefix, scopes) = cap.pair("label_prefix", "scopes")?;
            Ok(CapRow {
                label_prefix: label_prefix.text("a label prefix")?,
                scopes: scopes.cap_scopes()?,
                path: cap.path.to_string().into(),
            })
        })
        .collect()
}

fn restrict(document: &Node<'_>) -> Shaped<Vec<FreezeRow>> {
    let elements = match document.value {
        Value::Array(_) | Value::Set(_) => document.elements(),
        Value::Object(_) => document.any_fields(),
        _ => return Err(document.defect("must be an array, a set or an object")),
    };
    elements
        .into_iter()
        .map(|element| {
            Ok(FreezeRow {
                window: window(&element)?,
                path: element.path.to_string().into(),
            })
        })
        .collect()
}

/// An element that is an object may be limited in time; every other element freezes always.
fn window(element: &Node<'_>) -> Shaped<Window> {
    let Value::Object(_) = element.value else {
        return Ok(Window::default());
    };
    let end = |name| element.field(name).map(|time| time.instant()).transpose();
    let window = Window {
        from: end("from")?,
        until: end("until")?,
    };
    match (window.from, window.until) {
        (Some(from), Some(until)) if from >= until => {
            Err(element.defect("`from` must be before `until`"))
        }
        _ => Ok(window),
    }
}

fn risk(document: &Node<'_>) -> Shaped<Vec<RiskRow>> {
    document
        .items("an array of scopes and their tiers")?
        .into_iter()
        .map(|entry| {
            Ok(RiskRow {
                scope: entry.required("scope")?.word("a scope")?,
                tier: entry.required("tier")?.word("a tier")?,
                path: entry.path.to_string().into(),
            })
        })
        .collect()
}

fn approval_tiers(document: &Node<'_>) -> Shaped<Vec<Arc<ApprovalTier>>> {
    let items = document.items("an array of approval tiers")?;
    let read: Vec<(&Value, Arc<ApprovalTier>)> = items
        .iter()
        .map(|entry| Ok((entry.value, Arc::new(approval_tier(entry)?))))
        .collect::<Shaped<_>>()?;
    let distinct: BTreeMap<&Value, Arc<ApprovalTier>> = read.into_iter().collect();
    Ok(distinct.into_values().collect())
}

fn approval_tier(entry: &Node<'_>) -> Shaped<ApprovalTier> {
    let approver = match entry.choice("approver", ["operator", "subject", "any"])? {
        Some("subject") => Approver::Subject,
        Some("any") => Approver::Any,
        _ => Approver::Operator,
    };
    let privacy = match entry.choice("privacy", ["identified", "pseudonymous", "anonymous"])? {
        Some("pseudonymous") => Privacy::Pseudonymous,
        Some("anonymous") => Privacy::Anonymous,
        _ => Privacy::Identified,
    };
    Ok(ApprovalTier {
        tier: entry.required("tier")?.word("a tier")?,
        approver,
        ttl_seconds: entry
            .field("ttl_seconds")
            .map(|ttl| ttl.seconds())
            .transpose()?,
        privacy,
        authored: serde_json::to_value(entry.value)
            .map_err(|_| entry.defect("has a number that JSON cannot carry"))?,
    })
}

/// A value and where it stands.
struct Node<'v> {
    path: Path,
    value: &'v Value,
}

impl<'v> Node<'v> {
    fn defect(&self, reason: impl Into<String>) -> Defect {
        Defect {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn text(&self, what: &str) -> Shaped<Arc<str>> {
        match self.value {
            Value::String(text) => Ok(Arc::from(text.as_ref())),
            _ => Err(self.defect(format!("must be {what}, a string"))),
        }
    }

    fn word(&self, what: &str) -> Shaped<Arc<str>> {
        let text = self.text(what)?;
        if text.is_empty() {
            Err(self.defect(format!("must be {what}, not empty")))
        } else {
            Ok(text)
        }
    }

    /// An object's fields under keys that are not empty.
    fn fields(&self, what: &str) -> Shaped<Vec<(Arc<str>, Self)>> {
        let Value::Object(fields) = self.value else {
            return Err(self.defect(format!("must be {what}")));
        };
        fields
            .iter_sorted()
            .map(|(key, value)| match key {
                Value::String(key) if !key.is_empty() => Ok((
                    Arc::from(key.as_ref()),
                    Node {
                        path: self.path.key(key),
                        value,
                    },
                )),
                Value::String(_) => Err(self.defect("has an empty key")),
                _ => Err(self.defect("has a key that is not a string")),
            })
            .collect()
    }

    /// An object's values, whatever its keys are.
    fn any_fields(&self) -> Vec<Self> {
        let Value::Object(fields) = self.value else {
            return Vec::new();
        };
        fields
            .iter_sorted()
            .enumerate()
            .map(|(at, (key, value))| {
                let path = match key {
                    Value::String(key) => self.path.key(key),
                    _ => self.path.index(at),
                };
                Node { path, value }
            })
            .collect()
    }

    /// The elements of an array or a set.
    fn elements(&self) -> Vec<Self> {
        let node = |(at, value)| Node {
            path: self.path.index(at),
            value,
        };
        match self.value {
            Value::Array(items) => items.iter().enumerate().map(node).collect(),
            Value::Set(items) => items.iter_sorted().enumerate().map(node).collect(),
            _ => Vec::new(),
        }
    }

    fn items(&self, what: &str) -> Shaped<Vec<Self>> {
        match self.value {
            Value::Array(_) => Ok(self.elements()),
            _ => Err(self.defect(format!("must be {what}"))),
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        let Value::Object(fields) = self.value else {
            return None;
        };
        let value = fields.get(&Value::from(name))?;
        Some(Node {
            path: self.path.key(name),
            value,
        })
    }

    fn required(&self, name: &str) -> Shaped<Self> {
        match self.value {
            Value::Object(_) => self
                .field(name)
                .ok_or_else(|| self.defect(format!("lacks `{name}`"))),
            _ => Err(self.defect("must be an object")),
        }
    }

    /// The fields of an object that has these two and no others.
    fn pair(&self, first: &str, second: &str) -> Shaped<(Self, Self)> {
        let pair = (self.required(first)?, self.required(second)?);
        for (key, field) in self.fields("an object")? {
            if *key != *first && *key != *second {
                return Err(field.defect("is not a known key"));
            }
        }
        Ok(pair)
    }

    /// A role's scopes: array, set, or an object that counts by its values.
    fn role_scopes(&self) -> Shaped<ScopeSet> {
        let elements = match self.value {
            Value::Object(_) => self.any_fields(),
            Value::Array(_) | Value::Set(_) => self.elements(),
            _ => return Err(self.defect("must be an array, a set or an object of scopes")),
        };
        elements
            .iter()
            .map(|scope| Ok(Scope::new(&scope.word("a scope")?)))
            .collect()
    }

    fn cap_scopes(&self) -> Shaped<ScopeSet> {
        match self.value {
            Value::Array(_) | Value::Set(_) => self
                .elements()
                .iter()
                .map(|scope| Ok(Scope::new(&scope.text("a scope")?)))
                .collect(),
            _ => Err(self.defect("must be an array or a set of scopes")),
        }
    }

    fn instant(&self) -> Shaped<Timestamp> {
        let text = self.text("an RFC 3339 time")?;
        Timestamp::parse_rfc3339(&text)
            .ok_or_else(|| self.defect("must be an RFC 3339 time with an offset"))
    }

    fn seconds(&self) -> Shaped<u64> {
        let seconds = match self.value {
            Value::Number(number) if number.is_integer() => number.as_u64(),
            _ => None,
        };
        seconds
            .filter(|seconds| *seconds > 0)
            .ok_or_else(|| self.defect("must be a positive whole number of seconds"))
    }

    fn choice<const N: usize>(
        &self,
        name: &str,
        allowed: [&'static str; N],
    ) -> Shaped<Option<&'static str>> {
        let Some(field) = self.field(name) else {
            return Ok(None);
        };
        let said = field.text("one of the known words")?;
        let known = allowed.into_iter().find(|word| *word == &*said);
        known
            .map(Some)
            .ok_or_else(|| field.defect(format!("must be one of {}", allowed.join(", "))))
    }
}
