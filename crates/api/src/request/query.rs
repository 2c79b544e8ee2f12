//! The query string, parsed once.

use std::str::FromStr;

use caracal_core::Timestamp;

use crate::error::{ApiError, Code};

/// Longest query string, bytes.
const MAX_QUERY_BYTES: usize = 8 * 1024;

/// Decoded query parameters. Unknown ones are ignored; a repeated one is an error when it is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the raw query.
    pub(crate) fn parse(raw: Option<&str>) -> Result<Self, ApiError> {
        let raw = raw.unwrap_or_default();
        if raw.len() > MAX_QUERY_BYTES {
            return Err(ApiError::from(Code::InvalidQuery).describe("the query is too long"));
        }
        let sent: Vec<_> = url::form_urlencoded::parse(raw.as_bytes())
            .into_owned()
            .collect();
        if sent.iter().any(|(_, value)| value.contains('\0')) {
            let text = "a query parameter has no null character";
            return Err(ApiError::from(Code::InvalidQuery).describe(text));
        }
        Ok(Self(sent))
    }

    /// The parameter as sent.
    pub(crate) fn raw(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        let mut sent = self
            .0
            .iter()
            .filter(|(held, _)| held == name)
            .map(|(_, value)| value);
        let first = sent.next();
        if sent.next().is_some() {
            Err(invalid(name, "is sent twice"))
        } else {
            Ok(first.map(String::as_str))
        }
    }

    /// A text of 1 to `max` characters.
    pub(crate) fn text(&self, name: &'static str, max: usize) -> Result<Option<String>, ApiError> {
        let Some(text) = self.raw(name)? else {
            return Ok(None);
        };
        if (1..=max).contains(&text.chars().count()) {
            Ok(Some(text.to_owned()))
        } else {
            Err(invalid(name, &format!("has 1 to {max} characters")))
        }
    }

    /// A value that parses.
    pub(crate) fn parsed<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| invalid(name, "is not well formed"))
        };
        self.raw(name)?.map(parse).transpose()
    }

    /// One of a set of names.
    pub(crate) fn named<T>(
        &self,
        name: &'static str,
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let find =
            |text: &str| from_name(text).ok_or_else(|| invalid(name, "is not a known value"));
        self.raw(name)?.map(find).transpose()
    }

    /// `true` or `false`; absent is false.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool, ApiError> {
        match self.raw(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(invalid(name, "is true or false")),
        }
    }

    /// A UTC instant that ends in `Z`.
    pub(crate) fn instant(&self, name: &'static str) -> Result<Option<Timestamp>, ApiError> {
        let parse = |text| {
            Timestamp::parse_utc(text).ok_or_else(|| invalid(name, "is a UTC time ending in Z"))
        };
        self.raw(name)?.map(parse).transpose()
    }
}

/// The error of a parameter.
pub(crate) fn invalid(name: &str, rule: &str) -> ApiError {
    ApiError::at(Code::InvalidQuery, &[name.to_owned()], rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_decoded_and_may_come_once() {
        let query = Query::parse(Some("a=x%20y&b=1&b=2&c=")).unwrap();
        assert_eq!(query.raw("a").unwrap(), Some("x y"));
        assert_eq!(query.raw("b").unwrap_err().code(), Code::InvalidQuery);
        assert_eq!(query.text("c", 3).unwrap_err().code(), Code::InvalidQuery);
        assert_eq!(query.raw("d").unwrap(), None);
    }

    #[test]
    fn no_parameter_has_a_null_character() {
        assert_eq!(
            Query::parse(Some("a=%00")).unwrap_err().code(),
            Code::InvalidQuery
        );
    }

    #[test]
    fn flags_and_instants_are_strict() {
        let query = Query::parse(Some("f=1&t=2026-01-01T00:00:00%2B00:00")).unwrap();
        assert!(query.flag("f").is_err());
        assert!(query.instant("t").is_err());
        assert!(!query.flag("absent").unwrap());
    }
}
