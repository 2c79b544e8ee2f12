//! Lists in pages.
//!
//! A cursor is the position of the last row that was shown, as base64url of `{"ts","id"}`. Clients
//! treat it as opaque. Instants carry microseconds, so rows of one transaction are not lost at a page
//! border.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use caracal_core::Timestamp;
use caracal_store::{Cursor, Page, RowStatus, Slice};
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, Code};
use crate::request::query::{Query, invalid};

const MAX_CURSOR_CHARACTERS: usize = 512;
const MAX_ID_BYTES: usize = 128;

/// How many rows a page has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    default: usize,
    max: usize,
}

/// Objects: zones, applications, policies and the like.
pub(crate) const OBJECTS: Sizes = Sizes {
    default: 200,
    max: 500,
};
/// Records of what happened: audit events, sessions, authority records.
pub(crate) const RECORDS: Sizes = Sizes {
    default: 100,
    max: 1000,
};

#[derive(Serialize, Deserialize)]
struct WireCursor {
    ts: String,
    id: String,
}

/// The page that `limit` and `cursor` ask for.
pub(crate) fn requested(query: &Query, sizes: Sizes) -> Result<Page, ApiError> {
    let limit = match query.raw("limit")? {
        None => sizes.default,
        Some(text) => {
            let limit = text
                .trim()
                .parse()
                .ok()
                .filter(|limit| (1..=sizes.max).contains(limit));
            limit.ok_or_else(|| invalid("limit", &format!("is 1 to {}", sizes.max)))?
        }
    };
    let after = match query.text("cursor", MAX_CURSOR_CHARACTERS)? {
        None => None,
        Some(text) => Some(decode(&text).ok_or(Code::InvalidCursor)?),
    };
    Ok(Page { limit, after })
}

/// Which of the archivable rows a list shows: live ones unless `status=archived`.
pub(crate) fn status(query: &Query) -> Result<RowStatus, ApiError> {
    let status = query.named("status", |name| match name {
        "active" => Some(RowStatus::Live),
        "archived" => Some(RowStatus::Archived),
        _ => None,
    })?;
    Ok(status.unwrap_or_default())
}

/// The answer of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Listed<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<T> Listed<T> {
    /// These rows, and where the next page begins.
    pub(crate) fn of(items: Vec<T>, next: Option<&Cursor>) -> Self {
        Self {
            items,
            next_cursor: next.map(encode),
        }
    }
}

impl<T> From<Slice<T>> for Listed<T> {
    fn from(slice: Slice<T>) -> Self {
        Self::of(slice.items, slice.next.as_ref())
    }
}

fn encode(cursor: &Cursor) -> String {
    let wire = WireCursor {
        ts: cursor.at.to_rfc3339_micros(),
        id: cursor.id.clone(),
    };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
}

fn decode(text: &str) -> Option<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let wire: WireCursor = serde_json::from_slice(&bytes).ok()?;
    let at = Timestamp::parse_rfc3339(&wire.ts)?;
    (1..=MAX_ID_BYTES)
        .contains(&wire.id.len())
        .then_some(Cursor { at, id: wire.id })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(query: &str) -> Result<Page, Code> {
        let query = Query::parse(Some(query)).unwrap();
        requested(&query, OBJECTS).map_err(|error| error.code())
    }

    #[test]
    fn limits_have_a_default_and_a_bound() {
        assert_eq!(ask("").unwrap().limit, 200);
        assert_eq!(ask("limit=500").unwrap().limit, 500);
        for bad in [
            "limit=0",
            "limit=501",
            "limit=-1",
            "limit=x",
            "limit=",
            "limit=1&limit=2",
        ] {
            assert_eq!(ask(bad).unwrap_err(), Code::InvalidQuery, "{bad}");
        }
    }

    #[test]
    fn a_cursor_with_milliseconds_is_read() {
        let text = "eyJ0cyI6IjIwMjYtMDMtMDFUMTI6MDA6MDAuMTIzWiIsImlkIjoiMDE5NWE1ZjAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAxIn0";
        let after = ask(&format!("cursor={text}")).unwrap().after.unwrap();
        assert_eq!(after.at.to_rfc3339_millis(), "2026-03-01T12:00:00.123Z");
        assert_eq!(after.id, "0195a5f0-0000-7000-8000-000000000001");
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let encoded = |json: &str| format!("cursor={}", URL_SAFE_NO_PAD.encode(json));
        for bad in [
            "cursor=%25",
            "cursor=abc",
            &encoded("{}"),
            &encoded(r#"{"ts":"x","id":"a"}"#),
            &encoded(r#"{"ts":"2026-01-01T00:00:00Z","id":""}"#),
        ] {
            assert_eq!(ask(bad).unwrap_err(), Code::InvalidCursor, "{bad}");
        }
        assert_eq!(ask("cursor=").unwrap_err(), Code::InvalidQuery);
    }

    proptest! {
        #[test]
        fn a_cursor_survives_the_wire_to_the_microsecond(micros in 0..253_402_300_799_999_999_i64, id in "[a-z0-9-]{1,40}") {
            let cursor = Cursor { at: Timestamp::from_micros(micros), id };
            prop_assert_eq!(decode(&encode(&cursor)), Some(cursor));
        }
    }
}
