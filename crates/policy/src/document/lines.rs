//! Lines of a length that the parser can report.
//!
//! A document that a program writes may be one line of any length, but the parser panics when it
//! has to point at a column beyond 65535. Long lines are therefore broken after a comma or a
//! semicolon, where a new line means nothing, and the lines of what is found are counted back.

use std::borrow::Cow;

use super::DocumentError;
use super::source::Scan;

/// The widest line that is given to the parser.
const MAX_COLUMNS: usize = 60_000;
/// From which column on a line is broken at the next chance.
const BREAK_AT: usize = 20_000;

/// A document's text with its long lines broken.
#[derive(Debug)]
pub(super) struct Lines<'s> {
    text: Cow<'s, str>,
    /// The lines, in the broken text, that were not there before.
    added: Vec<u32>,
}

impl<'s> Lines<'s> {
    /// Breaks the long lines of `source`.
    pub(super) fn new(source: &'s str, scan: &Scan<'s>) -> Result<Self, DocumentError> {
        let mut breaks = Vec::new();
        let mut added: Vec<u32> = Vec::new();
        let (mut line, mut origin) = (0, 0);
        for place in scan.places() {
            if place.line != line {
                (line, origin) = (place.line, 0);
            }
            let columns = place.column.saturating_sub(origin);
            if columns > MAX_COLUMNS {
                return Err(DocumentError::limit(format!(
                    "line {line} has no comma for {MAX_COLUMNS} columns"
                )));
            }
            if place.separates && columns > BREAK_AT {
                breaks.push(place.end);
                let before = u32::try_from(breaks.len()).unwrap_or(u32::MAX);
                added.push(line.saturating_add(before));
                origin = place.column;
            }
        }
        Ok(Self {
            text: broken(source, &breaks),
            added,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The line of the document for a line of the broken text.
    pub(super) fn original(&self, line: u32) -> u32 {
        let before = self.added.iter().filter(|added| **added <= line).count();
        line.saturating_sub(u32::try_from(before).unwrap_or(u32::MAX))
    }
}

fn broken<'s>(source: &'s str, breaks: &[usize]) -> Cow<'s, str> {
    if breaks.is_empty() {
        return Cow::Borrowed(source);
    }
    let mut text = String::with_capacity(source.len() + breaks.len());
    let mut from = 0;
    for until in breaks {
        text.push_str(&source[from..*until]);
        text.push('\n');
        from = *until;
    }
    text.push_str(&source[from..]);
    Cow::Owned(text)
}
