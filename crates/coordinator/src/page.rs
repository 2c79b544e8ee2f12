//! Lists on the wire: `items` and `next_cursor`.

use axum::response::Response;
use caracal_store::{Cursor, Page};
use http::StatusCode;
use serde::Serialize;

use crate::answer;
use crate::error::ReadError;
use crate::query::PageQuery;

/// One page of a list.
#[derive(Debug, Serialize)]
pub(crate) struct Listing<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl<T: Serialize> Listing<T> {
    /// A page; `last` is the id of its last row. A full page may have another one behind it.
    pub(crate) fn new(items: Vec<T>, last: Option<String>, page: &Page) -> Self {
        let next_cursor = if items.len() < page.limit { None } else { last };
        Self { items, next_cursor }
    }

    /// An empty page.
    pub(crate) fn nothing() -> Self {
        Self {
            items: Vec::new(),
            next_cursor: None,
        }
    }

    /// The page as an answer.
    pub(crate) fn answer(&self) -> Result<Response, ReadError> {
        Ok(answer::json(StatusCode::OK, answer::json_text(self)?))
    }
}

/// The store's page for what a caller asked.
pub(crate) fn to_page(asked: &PageQuery, after: Option<Cursor>) -> Page {
    Page {
        limit: usize::try_from(asked.limit()).unwrap_or(usize::MAX),
        after,
    }
}
