//! Choosing columns: `fields` names what a flat row has.

use serde_json::{Map, Value};

use crate::error::{ApiError, Code};
use crate::request::query::Query;

/// The longest `fields`, in characters.
const MAX_FIELDS: usize = 1_000;

/// The columns that `fields` chooses of `known`; `None` when it is not sent.
pub(super) fn chosen<'a>(
    query: &Query,
    known: &[&'a str],
) -> Result<Option<Vec<&'a str>>, ApiError> {
    let Some(text) = query.raw("fields")? else {
        return Ok(None);
    };
    if text.chars().count() > MAX_FIELDS {
        return Err(Code::InvalidFields.into());
    }
    let find = |name: &str| {
        let name = name.trim();
        known
            .iter()
            .copied()
            .find(|known| *known == name)
            .ok_or(Code::InvalidFields)
    };
    let columns: Vec<&str> = text.split(',').map(find).collect::<Result<_, _>>()?;
    Ok(Some(columns))
}

/// One row with exactly these columns.
pub(super) fn flat(columns: &[&str], value: impl Fn(&str) -> Value) -> Map<String, Value> {
    columns
        .iter()
        .map(|name| ((*name).to_owned(), value(name)))
        .collect()
}

/// The cells of one row.
pub(super) fn cells(columns: &[&str], value: impl Fn(&str) -> Value) -> Vec<Value> {
    columns.iter().map(|name| value(name)).collect()
}
