//! Declared operations: which method and path needs which scope.

use caracal_core::Scope;
use caracal_core::path::PathTemplate;
use caracal_store::entity::Operation;
use serde_json::{Map, Value};

use crate::error::{ApiError, Code};
use crate::request::fields::{Field, Misfit, Text};

/// An operation as it was sent, its parts within their bounds.
#[derive(Debug, Clone)]
pub(crate) struct OperationInput {
    method: String,
    path: String,
    scope: String,
}

impl Field for OperationInput {
    fn read(value: Value) -> Result<Self, Misfit> {
        let mut members = Map::read(value)?;
        let Text::<1, 16>(method) = member(&mut members, "method")?;
        let Text::<1, 512>(path) = member(&mut members, "path")?;
        let Text::<1, 200>(scope) = member(&mut members, "scope")?;
        Ok(Self {
            method,
            path,
            scope,
        })
    }
}

fn member<T: Field>(members: &mut Map<String, Value>, name: &'static str) -> Result<T, Misfit> {
    let value = members
        .remove(name)
        .ok_or_else(|| Misfit::new("is required").within(name))?;
    T::read(value).map_err(|misfit| misfit.within(name))
}

/// Normalises operations and checks them against each other and against the resource's scopes.
pub(crate) fn declare(
    sent: &[OperationInput],
    scopes: &[Scope],
) -> Result<Vec<Operation>, ApiError> {
    let mut declared: Vec<(Operation, PathTemplate)> = Vec::with_capacity(sent.len());
    for (index, operation) in sent.iter().enumerate() {
        let refuse = |code: Code, text: &str| {
            ApiError::at(code, &["operations".to_owned(), index.to_string()], text)
        };
        let method = operation.method.trim().to_uppercase();
        let path = operation.path.trim();
        if method.is_empty() || path.is_empty() {
            return Err(refuse(Code::OperationIncomplete, "has a method and a path"));
        }
        let template = PathTemplate::parse(path)
            .map_err(|rejected| refuse(Code::OperationPath, &rejected.to_string()))?;
        if !scopes.iter().any(|scope| scope.as_str() == operation.scope) {
            return Err(refuse(Code::OperationScope, "has a scope of the resource"));
        }
        if declared
            .iter()
            .any(|(held, shape)| held.method == method && *shape == template)
        {
            return Err(refuse(
                Code::OperationDuplicate,
                "repeats a method and a path shape",
            ));
        }
        let scope = Scope::new(&operation.scope);
        declared.push((
            Operation {
                method,
                path: path.to_owned(),
                scope,
            },
            template,
        ));
    }
    Ok(declared
        .into_iter()
        .map(|(operation, _)| operation)
        .collect())
}

/// Whether every declared operation's scope is still among `scopes`.
pub(crate) fn cover(operations: &[Operation], scopes: &[Scope]) -> Result<(), ApiError> {
    match operations
        .iter()
        .position(|operation| !scopes.contains(&operation.scope))
    {
        None => Ok(()),
        Some(index) => {
            let path = ["operations".to_owned(), index.to_string()];
            Err(ApiError::at(
                Code::OperationScope,
                &path,
                "uses a scope that would be dropped",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn declared(sent: Value) -> Result<Vec<Operation>, Code> {
        let Value::Array(sent) = sent else {
            panic!("an array")
        };
        let sent: Vec<OperationInput> = sent
            .into_iter()
            .map(|one| OperationInput::read(one).unwrap())
            .collect();
        let scopes = [Scope::new("ledger:read"), Scope::new("ledger:write")];
        declare(&sent, &scopes).map_err(|error| error.code())
    }

    #[test]
    fn methods_are_upper_cased_and_parts_trimmed() {
        let sent = json!([{ "method": " get", "path": " /entries ", "scope": "ledger:read" }]);
        let operations = declared(sent).unwrap();
        assert_eq!(
            (operations[0].method.as_str(), operations[0].path.as_str()),
            ("GET", "/entries")
        );
    }

    #[test]
    fn each_rule_has_its_code() {
        let one = |method, path, scope| {
            declared(json!([{ "method": method, "path": path, "scope": scope }])).unwrap_err()
        };
        assert_eq!(one(" ", "/a", "ledger:read"), Code::OperationIncomplete);
        assert_eq!(one("GET", " ", "ledger:read"), Code::OperationIncomplete);
        assert_eq!(one("GET", "a", "ledger:read"), Code::OperationPath);
        assert_eq!(one("GET", "/a/{", "ledger:read"), Code::OperationPath);
        assert_eq!(one("GET", "/a", "ledger:delete"), Code::OperationScope);
    }

    #[test]
    fn the_same_shape_twice_is_a_duplicate() {
        let twice = |a: &str, b: &str| {
            declared(json!([
                { "method": "GET", "path": a, "scope": "ledger:read" },
                { "method": "get", "path": b, "scope": "ledger:write" },
            ]))
        };
        assert_eq!(twice("/a", "/a").unwrap_err(), Code::OperationDuplicate);
        assert_eq!(
            twice("/a/{x}", "/a/{y}").unwrap_err(),
            Code::OperationDuplicate
        );
        assert!(twice("/a/{x}", "/a/b").is_ok());
    }

    #[test]
    fn a_scope_in_use_cannot_be_dropped() {
        let sent = json!([{ "method": "GET", "path": "/a", "scope": "ledger:read" }]);
        let operations = declared(sent).unwrap();
        assert!(cover(&operations, &[Scope::new("ledger:read")]).is_ok());
        let error = cover(&operations, &[Scope::new("ledger:write")]).unwrap_err();
        assert_eq!(error.code(), Code::OperationScope);
    }
}
