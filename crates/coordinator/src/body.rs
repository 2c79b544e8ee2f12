//! JSON bodies, read field by field.
//!
//! Every field is checked, so that one answer names everything that is wrong; what leaves this
//! module is typed. Unknown fields are ignored unless a reader says otherwise.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::body::Body;
use caracal_core::Timestamp;
use caracal_http::body::{BodyError as ReadError, read_limited};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Issue {
    path: Option<&'static str>,
    message: Cow<'static, str>,
}

/// A body that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BodyError {
    /// More bytes than allowed.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// Not JSON by its content type.
    #[error("send the body as application/json")]
    UnsupportedMediaType,
    /// The connection broke.
    #[error("the request body could not be read")]
    Broken,
    /// Not a JSON value.
    #[error("the request body is not JSON")]
    Malformed,
    /// JSON, but not what the route takes.
    #[error("the request body failed validation")]
    Invalid(Vec<Issue>),
}

impl BodyError {
    /// One issue with the whole body.
    pub(crate) fn whole(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(vec![Issue {
            path: None,
            message: message.into(),
        }])
    }

    /// One issue with one field.
    pub(crate) fn field(path: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(vec![Issue {
            path: Some(path),
            message: message.into(),
        }])
    }

    /// The `details` of the answer.
    pub(crate) fn details(&self) -> Option<Value> {
        let Self::Invalid(issues) = self else {
            return None;
        };
        let issues: Vec<Value> = issues
            .iter()
            .map(|issue| {
                let path: Vec<&str> = issue.path.into_iter().collect();
                json!({ "path": path, "message": issue.message })
            })
            .collect();
        Some(json!({ "issues": issues }))
    }
}

/// Reads the body as JSON; `None` when there is none, whatever the content type says.
pub(crate) async fn read_json(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Option<Value>, BodyError> {
    let bytes = read_limited(body, limit)
        .await
        .map_err(|error| match error {
            ReadError::TooLarge(limit) => BodyError::TooLarge(limit),
            ReadError::Broken => BodyError::Broken,
        })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if !is_json(headers) {
        return Err(BodyError::UnsupportedMediaType);
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| BodyError::Malformed)?;
    if has_nul(&value) {
        return Err(BodyError::whole("U+0000 is not allowed"));
    }
    Ok(Some(value))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let media = value.to_str().unwrap_or("").split(';').next().unwrap_or("");
    media.trim().eq_ignore_ascii_case("application/json")
}

/// The parser limits the depth, so this recursion is bounded.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// The result of reading one value: what it is, or what it should have been.
pub(crate) type Field<T> = Result<T, Cow<'static, str>>;

/// A JSON object whose fields are being read.
#[derive(Debug)]
pub(crate) struct Fields {
    members: Map<String, Value>,
    issues: Vec<Issue>,
}

impl Fields {
    /// Takes the body apart; it must be an object.
    pub(crate) fn of(body: Option<Value>) -> Result<Self, BodyError> {
        match body {
            Some(Value::Object(members)) => Ok(Self {
                members,
                issues: Vec::new(),
            }),
            _ => Err(BodyError::whole("a JSON object is required")),
        }
    }

    /// A field that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Value) -> Field<T>,
    ) -> Option<T> {
        if !self.members.contains_key(name) {
            self.refuse(name, "required");
            return None;
        }
        self.optional(name, read)
    }

    /// A field that may be absent, but not null.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Value) -> Field<T>,
    ) -> Option<T> {
        match read(self.members.get(name)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.refuse(name, message);
                None
            }
        }
    }

    /// A field that may be absent or null.
    pub(crate) fn nullable<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Value) -> Field<T>,
    ) -> Option<T> {
        if self.members.get(name).is_some_and(Value::is_null) {
            return None;
        }
        self.optional(name, read)
    }

    /// The field as it came.
    pub(crate) fn raw(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    /// Refuses every field that is not one of `known`.
    pub(crate) fn only(&mut self, known: &[&str]) {
        if self.members.keys().any(|name| !known.contains(&&**name)) {
            self.issues.push(Issue {
                path: None,
                message: "unknown field".into(),
            });
        }
    }

    /// Notes an issue with a field.
    pub(crate) fn refuse(&mut self, name: &'static str, message: impl Into<Cow<'static, str>>) {
        self.issues.push(Issue {
            path: Some(name),
            message: message.into(),
        });
    }

    /// The read value when nothing was wrong.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, BodyError> {
        match value {
            Some(value) if self.issues.is_empty() => Ok(value),
            _ => Err(BodyError::Invalid(self.issues)),
        }
    }
}

/// Text that is not empty.
pub(crate) fn text(value: &Value) -> Field<String> {
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("a text that is not empty is required".into()),
    }
}

/// Any text.
pub(crate) fn any_text(value: &Value) -> Field<String> {
    value
        .as_str()
        .map(ToOwned::to_owned)
        .ok_or_else(|| "a text is required".into())
}

/// An id.
pub(crate) fn id<T: FromStr>(value: &Value) -> Field<T> {
    let parsed = value.as_str().and_then(|text| text.parse().ok());
    parsed
        .ok_or_else(|| "an id of 1 to 128 letters, digits, '_', '.', '-' or ':' is required".into())
}

/// A whole number in a range; `3600.0` counts.
pub(crate) fn integer(range: RangeInclusive<i64>) -> impl Fn(&Value) -> Field<i64> {
    move |value| {
        whole_number(value)
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (low, high) = (range.start(), range.end());
                Cow::from(if *high == i64::MAX {
                    format!("a whole number of at least {low} is required")
                } else {
                    format!("a whole number from {low} to {high} is required")
                })
            })
    }
}

fn whole_number(value: &Value) -> Option<i64> {
    if let Some(number) = value.as_i64() {
        return Some(number);
    }
    let float = value.as_f64()?;
    let exact = float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
    // Exact: an integral float of at most 2^53.
    if exact {
        format!("{float:.0}").parse().ok()
    } else {
        None
    }
}

/// `true` or `false`.
pub(crate) fn boolean(value: &Value) -> Field<bool> {
    value
        .as_bool()
        .ok_or_else(|| "true or false is required".into())
}

/// A JSON object.
pub(crate) fn object(value: &Value) -> Field<Map<String, Value>> {
    value
        .as_object()
        .cloned()
        .ok_or_else(|| "a JSON object is required".into())
}

/// An instant in UTC with seconds and `Z`.
pub(crate) fn instant(value: &Value) -> Field<Timestamp> {
    value
        .as_str()
        .and_then(Timestamp::parse_utc)
        .ok_or_else(|| "a time such as 2026-07-29T10:00:00Z is required".into())
}

/// A list of at most `max` items.
pub(crate) fn list<T>(
    max: usize,
    item: impl Fn(&Value) -> Field<T>,
) -> impl Fn(&Value) -> Field<Vec<T>> {
    move |value| {
        let items = value.as_array().ok_or("a list is required")?;
        if items.len() > max {
            return Err(format!("at most {max} items are allowed").into());
        }
        items.iter().map(&item).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_answer_names_every_wrong_field() {
        let mut fields = Fields::of(Some(json!({ "a": "", "b": 0 }))).unwrap();
        let a = fields.required("a", text);
        let b = fields.optional("b", integer(1..=5));
        let c = fields.required("c", text);
        assert!(a.is_none() && b.is_none() && c.is_none());
        let error = fields.finish(a).unwrap_err();
        let details = error.details().unwrap();
        let paths: Vec<&Value> = details["issues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|issue| &issue["path"][0])
            .collect();
        assert_eq!(paths, ["a", "b", "c"]);
    }

    #[test]
    fn null_is_absence_only_where_it_may_be() {
        let mut fields = Fields::of(Some(json!({ "a": null, "b": null }))).unwrap();
        assert_eq!(fields.nullable("a", text), None);
        assert_eq!(fields.optional("b", text), None);
        assert_eq!(
            fields.finish(Some(())),
            Err(BodyError::field(
                "b",
                "a text that is not empty is required"
            ))
        );
    }

    #[test]
    fn an_integral_fraction_is_a_whole_number() {
        assert_eq!(integer(1..=5000)(&json!(3600.0)), Ok(3600));
        assert!(integer(1..=5000)(&json!(3600.5)).is_err());
        assert!(integer(1..=5000)(&json!("3600")).is_err());
        assert!(integer(1..=5000)(&json!(1e300)).is_err());
    }

    #[tokio::test]
    async fn an_empty_body_is_no_body_whatever_its_content_type() {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        assert_eq!(read_json(&headers, Body::empty(), 10).await, Ok(None));
    }

    #[tokio::test]
    async fn unusable_bodies_are_told_apart() {
        let json = HeaderMap::new();
        let mut form = HeaderMap::new();
        form.insert(CONTENT_TYPE, http::HeaderValue::from_static("text/html"));
        assert_eq!(
            read_json(&json, Body::from("12345678901"), 10).await,
            Err(BodyError::TooLarge(10))
        );
        assert_eq!(
            read_json(&form, Body::from("{}"), 10).await,
            Err(BodyError::UnsupportedMediaType)
        );
        assert_eq!(
            read_json(&json, Body::from("{"), 10).await,
            Err(BodyError::Malformed)
        );
        assert_eq!(
            read_json(&json, Body::from("[\"\\u0000\"]"), 20).await,
            Err(BodyError::whole("U+0000 is not allowed"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _ = runtime.block_on(read_json(&HeaderMap::new(), Body::from(bytes), 64));
        }
    }
}
