//! Stream entries and their ids.

use std::fmt;
use std::str::FromStr;

use fred::types::Value;
use thiserror::Error;

use super::error::RedisError;
use crate::fields::Fields;

/// The place of an entry in its stream: the server's milliseconds, and a number within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    millis: u64,
    number: u64,
}

impl EntryId {
    /// Before every entry.
    pub const ZERO: Self = Self {
        millis: 0,
        number: 0,
    };

    /// The server's time at which the entry was added, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn millis(self) -> u64 {
        self.millis
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.number)
    }
}

/// The text is no id of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not the id of a stream entry")]
pub struct InvalidEntryId;

impl FromStr for EntryId {
    type Err = InvalidEntryId;

    fn from_str(text: &str) -> Result<Self, InvalidEntryId> {
        let (millis, number) = text.split_once('-').ok_or(InvalidEntryId)?;
        let read = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        Ok(Self {
            millis: read(millis).ok_or(InvalidEntryId)?,
            number: read(number).ok_or(InvalidEntryId)?,
        })
    }
}

/// An entry as it was read. Values that are no UTF-8 are read with replacement characters; their
/// signature then fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub id: EntryId,
    /// Its fields.
    pub fields: Fields,
    /// How often it was given to a consumer of the group, this time included; 0 outside a group.
    pub deliveries: u64,
}

/// Reads a list of `[id, [name, value, ...]]`. Entries that were deleted meanwhile are null and left
/// out.
pub(super) fn entries(
    value: Value,
    deliveries: u64,
    command: &'static str,
) -> Result<Vec<Entry>, RedisError> {
    array(value, command)?
        .into_iter()
        .filter(|entry| !entry.is_null())
        .filter_map(|value| entry(value, deliveries, command).transpose())
        .collect()
}

fn entry(
    value: Value,
    deliveries: u64,
    command: &'static str,
) -> Result<Option<Entry>, RedisError> {
    let mut parts = array(value, command)?.into_iter();
    let (Some(id), Some(fields)) = (parts.next(), parts.next()) else {
        return Err(RedisError::Unexpected(command));
    };
    if fields.is_null() {
        return Ok(None);
    }
    let texts: Vec<String> = array(fields, command)?
        .iter()
        .map(|value| text(value, command))
        .collect::<Result<_, _>>()?;
    let pairs = texts
        .chunks_exact(2)
        .map(|pair| (pair[0].clone(), pair[1].clone()));
    Ok(Some(Entry {
        id: entry_id(&id, command)?,
        fields: Fields::from_entry(pairs),
        deliveries,
    }))
}

pub(super) fn entry_id(value: &Value, command: &'static str) -> Result<EntryId, RedisError> {
    text(value, command)?
        .parse()
        .map_err(|InvalidEntryId| RedisError::Unexpected(command))
}

pub(super) fn text(value: &Value, command: &'static str) -> Result<String, RedisError> {
    value
        .as_str_lossy()
        .map(|text| text.into_owned())
        .or_else(|| value.as_string())
        .ok_or(RedisError::Unexpected(command))
}

pub(super) fn array(value: Value, command: &'static str) -> Result<Vec<Value>, RedisError> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Null => Ok(Vec::new()),
        _ => Err(RedisError::Unexpected(command)),
    }
}

/// A flat list of names and values as pairs.
pub(super) fn pairs(
    value: Value,
    command: &'static str,
) -> Result<Vec<(String, Value)>, RedisError> {
    let mut values = array(value, command)?.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        pairs.push((text(&name, command)?, value));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_ordered_by_time_and_then_by_number() {
        let id = |text: &str| text.parse::<EntryId>().unwrap();
        assert!(id("9-2") < id("10-0"));
        assert!(id("10-2") < id("10-11"));
        assert!(EntryId::ZERO < id("0-1"));
    }

    #[test]
    fn anything_but_two_numbers_is_no_id() {
        for bad in [
            "",
            "1",
            "-",
            "1-",
            "-1",
            "+1-0",
            "1-0-0",
            "a-b",
            "18446744073709551616-0",
        ] {
            assert_eq!(bad.parse::<EntryId>(), Err(InvalidEntryId), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_id_reads_back(millis: u64, number: u64) {
            let id = EntryId { millis, number };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }
}
