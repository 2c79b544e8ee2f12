//! A consistent copy of a SQLite store, also while a stack writes to it.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Row as _, SqliteConnection};

use crate::error::{OpenError, StoreError};

/// A migration that a schema has.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SchemaMigration {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// SHA-256 of its text, hex.
    pub checksum: String,
}

/// Copies the store at `from` into the new file `to`: one snapshot of what is committed, checked.
/// Returns the migrations that the copy has.
///
/// # Errors
/// [`OpenError`] when the store can't be read, `to` exists, or the copy is damaged.
pub async fn copy_sqlite(from: &Path, to: &Path) -> Result<Vec<SchemaMigration>, OpenError> {
    let target = to.to_str().ok_or_else(|| failed("the path is not UTF-8"))?;
    let mut source = open(from).await?;
    sqlx::query("VACUUM INTO ?")
        .bind(target)
        .execute(&mut source)
        .await
        .map_err(failed)?;
    source.close().await.map_err(failed)?;
    let mut copy = open(to).await?;
    let verdict: String = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut copy)
        .await
        .map_err(failed)?;
    if verdict != "ok" {
        return Err(failed(format!("the copy is damaged: {verdict}")));
    }
    let migrations = applied(&mut copy).await?;
    copy.close().await.map_err(failed)?;
    Ok(migrations)
}

/// Opens a file that must exist, whoever owns it.
async fn open(path: &Path) -> Result<SqliteConnection, OpenError> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(std::time::Duration::from_secs(10))
        .disable_statement_logging()
        .connect()
        .await
        .map_err(|error| failed(format!("{}: {error}", path.display())))
}

async fn applied(store: &mut SqliteConnection) -> Result<Vec<SchemaMigration>, OpenError> {
    let sql = "SELECT version, name, checksum FROM schema_migrations ORDER BY version";
    let rows = sqlx::query(sql).fetch_all(store).await;
    let read = |row: &sqlx::sqlite::SqliteRow| {
        Ok(SchemaMigration {
            version: row.try_get("version")?,
            name: row.try_get("name")?,
            checksum: row.try_get("checksum")?,
        })
    };
    let rows: Result<Vec<_>, sqlx::Error> = rows.map_err(failed)?.iter().map(read).collect();
    rows.map_err(failed)
}

#[allow(clippy::needless_pass_by_value, reason = "a map_err target")]
fn failed(error: impl ToString) -> OpenError {
    OpenError::Store(StoreError::Unavailable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn a_store_in_use_is_copied_as_it_was_committed() {
        let (dir, store) = testing::store().await;
        let mut unit = store.begin_platform().await.unwrap();
        unit.execute(
            "platform_settings",
            "INSERT INTO platform_settings (name, value, updated_at) VALUES ('n', 7, 0)",
            vec![],
        )
        .await
        .unwrap();
        unit.commit().await.unwrap();
        let open = store.begin_platform().await.unwrap();

        let to = dir.path().join("copy.db");
        let migrations = copy_sqlite(&dir.path().join("store.db"), &to)
            .await
            .unwrap();
        assert_eq!(migrations.first().map(|m| m.version), Some(1));
        drop(open);
        let mut copy = super::open(&to).await.unwrap();
        let value: i64 = sqlx::query_scalar("SELECT value FROM platform_settings")
            .fetch_one(&mut copy)
            .await
            .unwrap();
        assert_eq!(value, 7);
        assert!(
            copy_sqlite(&dir.path().join("store.db"), &to)
                .await
                .is_err()
        );
        assert!(
            copy_sqlite(&dir.path().join("none.db"), &dir.path().join("x"))
                .await
                .is_err()
        );
    }
}
