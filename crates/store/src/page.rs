//! Pages of lists.
//!
//! A list is ordered by an instant and, within the same microsecond, by id; newest first. A cursor is
//! the position of the last row seen, so rows that come or go between two pages shift nothing, and
//! rows that share an instant are never lost at a page border.

use caracal_core::Timestamp;

/// The most rows of one page.
pub const MAX_PAGE: usize = 1000;

/// The position of a row in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The row's instant.
    pub at: Timestamp,
    /// The row's id.
    pub id: String,
}

/// Which part of a list to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The most rows to return; more than [`MAX_PAGE`] is cut to it.
    pub limit: usize,
    /// Return only rows behind this one.
    pub after: Option<Cursor>,
}

impl Page {
    /// The first `limit` rows.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self { limit, after: None }
    }

    /// `limit` rows behind `cursor`.
    #[must_use]
    pub fn after(limit: usize, cursor: Cursor) -> Self {
        Self {
            limit,
            after: Some(cursor),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE)
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<T> {
    /// The rows, newest first.
    pub items: Vec<T>,
    /// Where the next page begins; `None` when there are no more rows.
    pub next: Option<Cursor>,
}

impl<T> Slice<T> {
    /// Cuts `rows`, read with one row more than `page` wants, to the page.
    pub(crate) fn cut(mut rows: Vec<T>, page: &Page, position: impl Fn(&T) -> Cursor) -> Self {
        let more = rows.len() > page.rows();
        rows.truncate(page.rows());
        let next = if more {
            rows.last().map(position)
        } else {
            None
        };
        Self { items: rows, next }
    }

    /// The same page of other items.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Slice<U> {
        Slice {
            items: self.items.into_iter().map(f).collect(),
            next: self.next,
        }
    }
}
