//! The metadata members of an event: few, ordered, named by the program.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::Value;

/// Named JSON values in the order in which they were set. A list, not a map: an event has a dozen
/// members, and the names are constants, so setting one costs no allocation but its value's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata(Vec<(Cow<'static, str>, Value)>);

impl Metadata {
    /// No members.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a member; a later value of the same name replaces the earlier one in its place.
    ///
    /// A value that cannot be JSON (a map whose keys aren't text) becomes JSON `null`.
    pub fn set(&mut self, name: &'static str, value: impl Serialize) {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.put(Cow::Borrowed(name), value);
    }

    /// Sets every member of `other`.
    pub fn set_all(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            self.put(name.clone(), value.clone());
        }
    }

    /// The member called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, value)| value)
    }

    /// Whether there is no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The members, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Replaces values longer than `limit` bytes of JSON by a note of their length.
    pub(super) fn abridge(&mut self, limit: usize) {
        for (_, value) in &mut self.0 {
            let bytes = json_len(value);
            if bytes > limit {
                *value = Value::String(format!("({bytes} bytes left out)"));
            }
        }
    }

    fn put(&mut self, name: Cow<'static, str>, value: Value) {
        match self.0.iter_mut().find(|(held, _)| *held == name) {
            Some((_, held)) => *held = value,
            None => self.0.push((name, value)),
        }
    }
}

/// The length of a value's JSON text.
pub(super) fn json_len(value: &(impl Serialize + ?Sized)) -> usize {
    serde_json::to_vec(value).map_or(0, |text| text.len())
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
