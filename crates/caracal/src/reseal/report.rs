//! What was done and what is left, for people and for programs.

use std::fmt::Write as _;

use caracal_core::id::ZoneId;
use caracal_store::{SealedColumn, SealedRow};
use serde::Serialize;

use super::judge::Why;

/// A row that needs more than the current key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    table: &'static str,
    column: &'static str,
    zone: String,
    id: String,
    why: Why,
}

impl Left {
    pub(super) fn new(zone: &ZoneId, of: &SealedColumn, row: &SealedRow, why: Why) -> Self {
        Self {
            table: of.table,
            column: of.column,
            zone: zone.to_string(),
            id: row.id.clone(),
            why,
        }
    }
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Every row was opened with the current key alone.
    pub(super) proved: bool,
    /// Rows that needed it.
    pub(super) found: u64,
    /// Of these, sealed again.
    pub(super) resealed: u64,
    /// Of these, with a keyed hash made again.
    pub(super) rehashed: u64,
    /// Of those found, replaced by somebody else meanwhile.
    pub(super) raced: u64,
    /// Rows that needed nothing.
    pub(super) current: u64,
    /// Rows that need more than the current key.
    pub(super) left: Vec<Left>,
}

impl Report {
    /// Rows that are still to be sealed again after a dry run.
    pub(super) fn pending(&self) -> u64 {
        self.found - self.resealed - self.raced
    }

    pub(super) fn json(&self) -> String {
        let document = serde_json::to_value(self).unwrap_or_default();
        format!("{document:#}\n")
    }

    pub(super) fn text(&self, dry_run: bool) -> String {
        let mut out = String::new();
        for left in &self.left {
            let Left {
                table,
                column,
                zone,
                id,
                why,
            } = left;
            let _ = writeln!(
                out,
                "✗ {table}.{column} of {id} in zone {zone}: {}",
                why.sentence()
            );
        }
        let _ = match (dry_run, self.proved) {
            (true, _) => writeln!(
                out,
                "ℹ {} rows would be sealed again, {} are under the current key, {} can't be opened",
                self.found,
                self.current,
                self.left.len()
            ),
            (false, true) => writeln!(
                out,
                "✓ resealed: {} rows sealed again ({} hashes made again), {} were current, {} were \
                 replaced meanwhile; every row opens with the current key alone",
                self.resealed, self.rehashed, self.current, self.raced
            ),
            (false, false) => writeln!(
                out,
                "✗ not resealed: {} rows sealed again, {} left; keep the previous key",
                self.resealed,
                self.left.len()
            ),
        };
        out
    }
}
