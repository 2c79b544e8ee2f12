//! Sealed values at rest, of every table: what a change of the key-encryption key must visit.
//!
//! [`SEALED_COLUMNS`] is the one list of them. A test compares it with the schema, so a column that
//! is added later can't be forgotten.

use crate::change::ChangeKind;
use crate::error::StoreError;
use crate::handle::{Access, InZone, ZoneUnit};
use crate::sql::{Row, params};

/// A column of sealed values; its table has `zone_id` and `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedColumn {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The column of the same row that may hold a keyed hash of the sealed value.
    pub hash: Option<&'static str>,
    change: ChangeKind,
}

/// Every column of sealed values.
pub const SEALED_COLUMNS: &[SealedColumn] = &[
    SealedColumn {
        table: "applications",
        column: "sealed_secret",
        hash: Some("secret_hash"),
        change: ChangeKind::Application,
    },
    SealedColumn {
        table: "providers",
        column: "sealed_config",
        hash: None,
        change: ChangeKind::Provider,
    },
    SealedColumn {
        table: "signing_keys",
        column: "sealed",
        hash: None,
        change: ChangeKind::SigningKey,
    },
];

/// What one row holds in a [`SealedColumn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// The row's id.
    pub id: String,
    /// The sealed value.
    pub sealed: Option<Vec<u8>>,
    /// The stored hash, where the column has one.
    pub hash: Option<String>,
}

impl<A: Access> InZone<A> {
    /// Up to `limit` rows behind the id `after` that hold a sealed value or a hash, in the order of
    /// their ids.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub async fn sealed_rows(
        &self,
        of: &SealedColumn,
        after: &str,
        limit: i64,
    ) -> Result<Vec<SealedRow>, StoreError> {
        let (table, column) = (of.table, of.column);
        let (hash, present) = match of.hash {
            Some(hash) => (
                hash,
                format!("({column} IS NOT NULL OR {hash} IS NOT NULL)"),
            ),
            None => ("NULL", format!("{column} IS NOT NULL")),
        };
        let sql = format!(
            "SELECT id, {column} AS sealed, {hash} AS hash FROM {table}
             WHERE zone_id = $1 AND id > $2 AND {present} ORDER BY id LIMIT $3"
        );
        let rows = self.query(table, sql, params![after, limit]).await?;
        let read = |row| {
            let row = Row::new(row, table);
            Ok(SealedRow {
                id: row.get("id")?,
                sealed: row.opt("sealed")?,
                hash: of.hash.map_or(Ok(None), |_| row.opt("hash"))?,
            })
        };
        rows.iter().map(read).collect()
    }
}

impl ZoneUnit {
    /// Puts `sealed`, and `hash` where the column has one, in the place of what `old` was read as.
    /// False when the row holds another sealed value by now: then nothing is written.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn replace_sealed(
        &mut self,
        of: &SealedColumn,
        old: &SealedRow,
        sealed: &[u8],
        hash: Option<&str>,
    ) -> Result<bool, StoreError> {
        let (table, column) = (of.table, of.column);
        let mut values = params![old.id, old.sealed, sealed];
        let hashed = match of.hash {
            Some(name) => {
                values.extend(params![hash]);
                format!(", {name} = $5")
            }
            None => String::new(),
        };
        let sql = format!(
            "UPDATE {table} SET {column} = $4{hashed}
             WHERE zone_id = $1 AND id = $2 AND {column} = $3"
        );
        let touched = self.execute(table, sql, values).await?;
        if touched > 0 {
            self.changed(of.change, &old.id);
        }
        Ok(touched > 0)
    }
}

#[cfg(test)]
mod tests;
