//! The operation floor: a governed call must match a declared operation whose scope the presented
//! mandate carries. Policy may narrow further, nothing may widen it.
//!
//! The path is judged by its decoded segments, the same that are forwarded. Parsed templates are kept
//! beside the very resource that they were parsed from, so a changed resource is parsed again.

use std::sync::Arc;

use caracal_core::id::ResourceId;
use caracal_core::path::{PathTemplate, RequestPath};
use caracal_core::{Scope, ScopeSet};
use caracal_store::entity::{Enforcement, Resource};
use moka::sync::Cache;
use thiserror::Error;

/// Resources whose parsed operations are kept.
const REMEMBERED: u64 = 4_096;

/// No declared operation allows the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum OperationRefused {
    /// No entry has this method and path.
    #[error("the resource declares no such operation")]
    Undeclared,
    /// The entry's scope is not in the mandate.
    #[error("the mandate does not carry the scope of this operation")]
    ScopeMissing,
}

/// Judges calls against declared operations.
#[derive(Debug)]
pub(crate) struct OperationFloor(Cache<ResourceId, Arc<Declared>>);

#[derive(Debug)]
struct Declared {
    resource: Arc<Resource>,
    operations: Vec<DeclaredOperation>,
}

#[derive(Debug)]
struct DeclaredOperation {
    method: Box<str>,
    template: PathTemplate,
    scope: Scope,
    label: Arc<str>,
}

impl OperationFloor {
    pub(crate) fn new() -> Self {
        Self(Cache::new(REMEMBERED))
    }

    /// The matching operation as `METHOD path`; `None` where the resource takes any call.
    pub(crate) fn judge(
        &self,
        resource: &Arc<Resource>,
        method: &str,
        path: &RequestPath,
        presented: &ScopeSet,
    ) -> Result<Option<Arc<str>>, OperationRefused> {
        if resource.operation_enforcement == Enforcement::TransportUniform {
            return Ok(None);
        }
        let declared = self.declared(resource);
        let matching = declared
            .operations
            .iter()
            .filter(|operation| *operation.method == *method && operation.template.matches(path));
        let best = matching
            .reduce(|best, other| {
                if other.template.is_more_specific_than(&best.template) {
                    other
                } else {
                    best
                }
            })
            .ok_or(OperationRefused::Undeclared)?;
        if presented.contains(best.scope.as_str()) {
            Ok(Some(Arc::clone(&best.label)))
        } else {
            Err(OperationRefused::ScopeMissing)
        }
    }

    fn declared(&self, resource: &Arc<Resource>) -> Arc<Declared> {
        if let Some(known) = self.0.get(&resource.id)
            && Arc::ptr_eq(&known.resource, resource)
        {
            return known;
        }
        let declared = Arc::new(Declared::parse(resource));
        self.0.insert(resource.id.clone(), Arc::clone(&declared));
        declared
    }
}

impl Declared {
    /// An entry whose path does not parse matches nothing.
    fn parse(resource: &Arc<Resource>) -> Self {
        let operations = resource.operations.iter().filter_map(|operation| {
            Some(DeclaredOperation {
                method: operation.method.as_str().into(),
                template: PathTemplate::parse(&operation.path).ok()?,
                scope: operation.scope.clone(),
                label: format!("{} {}", operation.method, operation.path).into(),
            })
        });
        Self {
            operations: operations.collect(),
            resource: Arc::clone(resource),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use caracal_store::entity::Operation;

    fn resource(operations: &[(&str, &str, &str)]) -> Arc<Resource> {
        let mut resource =
            testing::rows::resource("resource://ledger", &["ledger:read", "ledger:write"]);
        resource.operation_enforcement = Enforcement::Enforced;
        resource.operations = operations
            .iter()
            .map(|(method, path, scope)| Operation {
                method: (*method).to_owned(),
                path: (*path).to_owned(),
                scope: Scope::new(scope),
            })
            .collect();
        Arc::new(resource)
    }

    fn judge(
        resource: &Arc<Resource>,
        method: &str,
        path: &str,
        scopes: &str,
    ) -> Result<Option<Arc<str>>, OperationRefused> {
        let path = RequestPath::parse(path).unwrap();
        OperationFloor::new().judge(resource, method, &path, &ScopeSet::parse(scopes))
    }

    #[test]
    fn an_empty_list_denies_everything() {
        let refused = judge(&resource(&[]), "GET", "/", "ledger:read");
        assert_eq!(refused, Err(OperationRefused::Undeclared));
    }

    #[test]
    fn transport_uniform_takes_any_call() {
        let mut open = (*resource(&[])).clone();
        open.operation_enforcement = Enforcement::TransportUniform;
        assert_eq!(judge(&Arc::new(open), "PATCH", "/x", ""), Ok(None));
    }

    #[test]
    fn method_and_path_compare_exactly() {
        let ledger = resource(&[("GET", "/entries", "ledger:read")]);
        assert_eq!(
            judge(&ledger, "GET", "/entries", "ledger:read"),
            Ok(Some("GET /entries".into()))
        );
        for (method, path) in [
            ("get", "/entries"),
            ("HEAD", "/entries"),
            ("GET", "/Entries"),
            ("GET", "/entries/"),
        ] {
            let refused = judge(&ledger, method, path, "ledger:read");
            assert_eq!(
                refused,
                Err(OperationRefused::Undeclared),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn the_operations_scope_must_be_in_the_mandate() {
        let ledger = resource(&[("POST", "/entries", "ledger:write")]);
        let refused = judge(&ledger, "POST", "/entries", "ledger:read");
        assert_eq!(refused, Err(OperationRefused::ScopeMissing));
    }

    #[test]
    fn a_literal_entry_decides_over_a_template() {
        let ledger = resource(&[
            ("GET", "/entries/{id}", "ledger:read"),
            ("GET", "/entries/all", "ledger:write"),
        ]);
        assert!(judge(&ledger, "GET", "/entries/7", "ledger:read").is_ok());
        let refused = judge(&ledger, "GET", "/entries/all", "ledger:read");
        assert_eq!(refused, Err(OperationRefused::ScopeMissing));
    }

    #[test]
    fn a_changed_resource_is_parsed_again() {
        let floor = OperationFloor::new();
        let path = RequestPath::parse("/entries").unwrap();
        let scopes = ScopeSet::parse("ledger:read");
        let before = resource(&[("GET", "/entries", "ledger:read")]);
        assert!(floor.judge(&before, "GET", &path, &scopes).is_ok());
        let after = resource(&[]);
        assert!(floor.judge(&after, "GET", &path, &scopes).is_err());
    }
}
