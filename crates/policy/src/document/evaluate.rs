//! The document's values, computed once.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, LimitError, Value};

use super::DocumentError;
use super::syntax::{Head, LENGTHS, SOURCE_NAME, located};
use crate::tables::DocumentName;

/// How long the interpreter may compute. A document that is written out takes milliseconds.
const MAX_TIME: ExecutionTimerConfig = ExecutionTimerConfig {
    limit: Duration::from_secs(1),
    check_interval: CHECK_INTERVAL,
};
const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::MIN.saturating_add(31);
/// The largest result, in nodes plus bytes of text.
const MAX_RESULT: usize = 1024 * 1024;
/// The deepest nesting of collections in a result.
const MAX_DEPTH: usize = 16;

/// Evaluates the package. A document that is not defined, or whose rule has no value, is absent.
pub(super) fn values(
    source: &str,
    heads: &[Head<'_>],
) -> Result<BTreeMap<DocumentName, Value>, DocumentError> {
    let package = package(source, heads)?;
    let mut values = BTreeMap::new();
    let mut room = MAX_RESULT;
    let Value::Object(documents) = package else {
        return Ok(values);
    };
    for (name, value) in documents.iter() {
        let Some(name) = name
            .as_string()
            .ok()
            .and_then(|name| DocumentName::parse(name))
        else {
            continue;
        };
        if *value == Value::Undefined {
            continue;
        }
        measure(value, 0, &mut room)?;
        values.insert(name, value.clone());
    }
    Ok(values)
}

fn package(source: &str, heads: &[Head<'_>]) -> Result<Value, DocumentError> {
    let evaluate = || {
        let mut engine = Engine::new();
        engine.set_policy_length_config(LENGTHS);
        engine.set_execution_timer_config(MAX_TIME);
        engine.set_strict_builtin_errors(true);
        engine.add_policy(SOURCE_NAME.to_owned(), source.to_owned())?;
        engine.eval_query("data.caracal.authz".to_owned(), false)
    };
    match evaluate() {
        Ok(results) => {
            let mut expressions = results.result.into_iter().flat_map(|row| row.expressions);
            Ok(expressions
                .next()
                .map_or(Value::Undefined, |expression| expression.value))
        }
        Err(error) if error.downcast_ref::<LimitError>().is_some() => Err(DocumentError::limit(
            format!("computed for more than {:?}", MAX_TIME.limit),
        )),
        Err(error) => Err(failed(&error.to_string(), heads)),
    }
}

fn failed(report: &str, heads: &[Head<'_>]) -> DocumentError {
    let (line, message) = located(report);
    let before = |head: &&Head<'_>| line.is_none_or(|line| head.line <= line);
    let at = heads.iter().rev().find(before).or(heads.first());
    DocumentError::InvalidShape {
        path: at.map_or_else(String::new, |head| head.document.to_string()),
        reason: format!("has no value: {message}"),
        line,
    }
}

/// Counts a value down from `room`, each place where it stands, however many places share it.
fn measure(value: &Value, depth: usize, room: &mut usize) -> Result<(), DocumentError> {
    let own = match value {
        Value::String(text) => text.len() + 1,
        _ => 1,
    };
    *room = room
        .checked_sub(own)
        .ok_or_else(|| DocumentError::limit("its values are larger than 1 MiB"))?;
    let inner = depth + 1;
    let collection = matches!(value, Value::Array(_) | Value::Set(_) | Value::Object(_));
    if collection && inner > MAX_DEPTH {
        return Err(DocumentError::limit(format!(
            "values nest at most {MAX_DEPTH} deep"
        )));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| measure(item, inner, room)),
        Value::Set(items) => items.iter().try_for_each(|item| measure(item, inner, room)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, value)| {
            measure(key, inner, room)?;
            measure(value, inner, room)
        }),
        _ => Ok(()),
    }
}
