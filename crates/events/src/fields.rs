//! The flat, ordered field map that a stream entry is.
//!
//! Every value is text. A field without a value is left out; an empty value is kept. In the outbox
//! the map is a JSON object whose values are strings, in the same order.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The field with the message's signature.
pub const SIGNATURE_FIELD: &str = "_sig";
/// The field with the outbox row's id: what consumers dedupe by.
pub const OUTBOX_ID_FIELD: &str = "outbox_id";
/// The field with the producer's dedupe key.
pub const DEDUPE_KEY_FIELD: &str = "dedupe_key";

/// The most fields of one message.
pub const MAX_FIELDS: usize = 32;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 65_536;

/// A text is no field map.
#[derive(Debug, Error)]
#[error("not a flat JSON object of strings: {0}")]
pub struct FieldsError(#[from] serde_json::Error);

/// Named texts in the order in which they were added; a name occurs once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(Cow<'static, str>, String)>);

impl Fields {
    /// No fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field, or gives the one with this name another value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.set(Cow::Borrowed(name), value.to_string());
        self
    }

    /// Adds a field when it has a value.
    #[must_use]
    pub fn with_some(self, name: &'static str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, value)| value.as_str())
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, value.as_str()))
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Collects the fields of a stream entry as it was read; the last of equal names counts.
    #[must_use]
    pub fn from_entry(entry: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut fields = Self::default();
        for (name, value) in entry {
            fields.set(Cow::Owned(name), value);
        }
        fields
    }

    /// The JSON object for the outbox.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::from("{");
        for (position, (name, value)) in self.iter().enumerate() {
            if position > 0 {
                json.push(',');
            }
            json.push_str(&serde_json::Value::from(name).to_string());
            json.push(':');
            json.push_str(&serde_json::Value::from(value).to_string());
        }
        json.push('}');
        json
    }

    /// Reads the JSON object of an outbox row.
    ///
    /// # Errors
    /// [`FieldsError`] unless it is one flat object of strings within the limits, with distinct
    /// names of the id alphabet.
    pub fn from_json(json: &str) -> Result<Self, FieldsError> {
        Ok(serde_json::from_str(json)?)
    }

    fn set(&mut self, name: Cow<'static, str>, value: String) {
        match self.0.iter_mut().find(|(held, _)| *held == name) {
            Some((_, held)) => *held = value,
            None => self.0.push((name, value)),
        }
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldMap;

        impl<'de> Visitor<'de> for FieldMap {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if fields.len() == MAX_FIELDS {
                        return Err(A::Error::custom("too many fields"));
                    }
                    if !caracal_core::id::is_id(&name) || fields.get(&name).is_some() {
                        return Err(A::Error::custom("a field name is invalid or occurs twice"));
                    }
                    if value.len() > MAX_VALUE_BYTES {
                        return Err(A::Error::custom("a value is too long"));
                    }
                    fields.set(Cow::Owned(name), value);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldMap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_field_without_a_value_is_left_out_and_an_empty_one_is_kept() {
        let fields = Fields::new()
            .with("zone_id", "z1")
            .with_some("reason", None::<&str>)
            .with("note", "");
        assert_eq!(fields.to_json(), r#"{"zone_id":"z1","note":""}"#);
    }

    #[test]
    fn anything_but_a_flat_object_of_strings_is_refused() {
        for bad in [
            "",
            "[]",
            "null",
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":"1","a":"2"}"#,
            r#"{"a=b":"1"}"#,
            r#"{"a\nb":"1"}"#,
            r#"{"":"1"}"#,
            r#"{"a":"1"} x"#,
        ] {
            assert!(Fields::from_json(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn too_many_fields_are_refused() {
        let entries: Vec<String> = (0..=MAX_FIELDS).map(|n| format!(r#""f{n}":"""#)).collect();
        assert!(Fields::from_json(&format!("{{{}}}", entries.join(","))).is_err());
    }

    proptest! {
        #[test]
        fn json_keeps_order_and_values(
            values in proptest::collection::btree_map("[a-z_]{1,12}", any::<String>(), 0..8),
            rotation in 0..8usize,
        ) {
            let mut entries: Vec<(String, String)> = values.into_iter().collect();
            let turn = rotation.min(entries.len());
            entries.rotate_left(turn);
            let fields = Fields::from_entry(entries);
            prop_assert_eq!(&Fields::from_json(&fields.to_json()).unwrap(), &fields);
            prop_assert_eq!(serde_json::to_string(&fields).unwrap(), fields.to_json());
        }
    }
}
