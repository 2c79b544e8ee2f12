//! Schema migrations: forward only, embedded in the binary, checked by their SHA-256. Here is what a
//! file's are; a server's are in `dialect::postgres`.

use aws_lc_rs::digest::{SHA256, digest};
use caracal_core::Timestamp;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait,
};

use crate::dialect::sqlite::explain;
use crate::error::{OpenError, StoreError};
use crate::sql::{Row, params};

const TABLE: &str = "schema_migrations";

pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// Every migration, in order. Never change one that was released: add the next.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "baseline",
        sql: include_str!("../migrations/0001_baseline.sql"),
    },
    Migration {
        version: 2,
        name: "evidence",
        sql: include_str!("../migrations/0002_evidence.sql"),
    },
];

/// Brings the schema to the newest version of `migrations`, or refuses a schema that it can't vouch
/// for.
pub(crate) async fn run(
    db: &DatabaseConnection,
    migrations: &[Migration],
    now: Timestamp,
) -> Result<(), OpenError> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = db.begin_with_options(options).await.map_err(failed)?;
    tx.execute_unprepared(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
            version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL,
            checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)",
    )
    .await
    .map_err(failed)?;
    let applied = applied(&tx).await?;
    refuse_unknown(&applied, migrations)?;
    for migration in migrations.iter().skip(applied.len()) {
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "applying migration"
        );
        tx.execute_unprepared(migration.sql).await.map_err(failed)?;
        let record = Statement::from_sql_and_values(
            tx.get_database_backend(),
            "INSERT INTO schema_migrations (version, name, checksum, applied_at)
             VALUES ($1, $2, $3, $4)",
            params![
                migration.version,
                migration.name,
                checksum(migration.sql),
                now
            ],
        );
        tx.execute_raw(record).await.map_err(failed)?;
    }
    tx.commit().await.map_err(failed)?;
    Ok(())
}

pub(crate) struct Applied {
    pub(crate) version: i64,
    pub(crate) name: String,
    pub(crate) checksum: String,
}

async fn applied(db: &impl ConnectionTrait) -> Result<Vec<Applied>, OpenError> {
    let query = Statement::from_string(
        db.get_database_backend(),
        "SELECT version, name, checksum FROM schema_migrations ORDER BY version",
    );
    let rows = db.query_all_raw(query).await.map_err(failed)?;
    let mut out = Vec::with_capacity(rows.len());
    for result in &rows {
        let row = Row::new(result, TABLE);
        out.push(Applied {
            version: row.get("version")?,
            name: row.get("name")?,
            checksum: row.get("checksum")?,
        });
    }
    Ok(out)
}

/// Refuses a schema that was not made by exactly these migrations.
pub(crate) fn refuse_unknown(
    applied: &[Applied],
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let known = migrations.last().map_or(0, |m| m.version);
    if let Some(newest) = applied.last().filter(|row| row.version > known) {
        return Err(OpenError::SchemaTooNew {
            found: newest.version,
            known,
        });
    }
    for (row, migration) in applied.iter().zip(migrations) {
        if row.version != migration.version || row.checksum != checksum(migration.sql) {
            return Err(OpenError::MigrationChanged {
                version: row.version,
                name: row.name.clone(),
            });
        }
    }
    Ok(())
}

pub(crate) fn checksum(sql: &str) -> String {
    hex::encode(digest(&SHA256, sql.as_bytes()))
}

#[allow(clippy::needless_pass_by_value, reason = "a map_err target")]
fn failed(error: DbErr) -> OpenError {
    let cause: StoreError = explain(TABLE, &error);
    OpenError::Store(cause)
}
