//! Query strings.
//!
//! A parameter that is given twice is refused, because two readers would take different ones.

use thiserror::Error;

/// The default page size.
const DEFAULT_LIMIT: u32 = 100;

/// The largest page.
pub(crate) const MAX_LIMIT: u32 = 500;

/// A query string that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum QueryError {
    /// A parameter occurs twice.
    #[error("the query parameter {0} is given more than once")]
    Repeated(&'static str),
    /// A parameter has a value that is not allowed.
    #[error("the query parameter {0} has a value that is not allowed")]
    Invalid(&'static str),
}

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Splits and decodes; names and values that no reader asks for are ignored.
    pub(crate) fn parse(raw: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(raw.unwrap_or("").as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The value of a parameter, as it is.
    pub(crate) fn get(&self, name: &'static str) -> Result<Option<&str>, QueryError> {
        let mut values = self.0.iter().filter(|(held, _)| held == name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(QueryError::Repeated(name)),
            (first, None) => Ok(first.map(|(_, value)| value.as_str())),
        }
    }

    /// The value of a parameter, parsed.
    pub(crate) fn read<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, QueryError> {
        self.get(name)?
            .map(|value| parse(value).ok_or(QueryError::Invalid(name)))
            .transpose()
    }

    /// `limit` and `cursor`.
    pub(crate) fn page(&self) -> Result<PageQuery, QueryError> {
        let limit = self.read("limit", |text| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let limit: u32 = if digits {
                text.parse().ok()?
            } else {
                return None;
            };
            (1..=MAX_LIMIT).contains(&limit).then_some(limit)
        })?;
        let cursor = self.read("cursor", |text| (!text.is_empty()).then(|| text.to_owned()))?;
        Ok(PageQuery { limit, cursor })
    }
}

/// Which page of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PageQuery {
    limit: Option<u32>,
    /// The id of the last row that the caller has.
    pub(crate) cursor: Option<String>,
}

impl PageQuery {
    /// How many rows to answer.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// Whether the caller asked for no particular page.
    pub(crate) fn is_unpaged(&self) -> bool {
        self.limit.is_none() && self.cursor.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(raw: &str) -> Result<PageQuery, QueryError> {
        Query::parse(Some(raw)).page()
    }

    #[test]
    fn the_page_defaults_to_the_newest_hundred() {
        let page = Query::parse(None).page().unwrap();
        assert_eq!((page.limit(), page.is_unpaged()), (100, true));
    }

    #[test]
    fn bounds_and_repetition_are_refused() {
        for bad in [
            "limit=0",
            "limit=501",
            "limit=",
            "limit=1.5",
            "limit=+1",
            "limit=x",
        ] {
            assert_eq!(page(bad), Err(QueryError::Invalid("limit")), "{bad}");
        }
        assert_eq!(page("cursor="), Err(QueryError::Invalid("cursor")));
        assert_eq!(page("limit=1&limit=1"), Err(QueryError::Repeated("limit")));
        assert_eq!(page("limit=500&other=1&other=2").unwrap().limit(), 500);
    }
}
