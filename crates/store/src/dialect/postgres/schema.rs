//! The schema of a PostgreSQL database: brought up by `caracal migrate`, checked by everyone else.

use caracal_core::Timestamp;
use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, Row as _};

use super::connecting::{Connector, Pools};
use super::faults::explain_sqlx;
use super::options::PostgresOptions;
use crate::error::{OpenError, StoreError};
use crate::migrate::{Applied, Migration, checksum, refuse_unknown};

const TABLE: &str = "schema_migrations";
const ROLES: &str = include_str!("../../../migrations/postgres/roles.sql");
/// How long a migration may wait for tables that are in use.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '30s'";

/// Every migration, in order. Never change one that was released: add the next.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "baseline",
        sql: include_str!("../../../migrations/postgres/0001_baseline.sql"),
    },
    Migration {
        version: 2,
        name: "evidence",
        sql: include_str!("../../../migrations/postgres/0002_evidence.sql"),
    },
];

/// A migration that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedMigration {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
}

/// A migration that would be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMigration {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
    /// What it would run.
    pub sql: &'static str,
}

/// Makes the services' roles and brings the schema to the newest version, all or nothing, as the
/// login of the URL. Runs at the same time wait for each other. Returns what was applied.
///
/// The login needs to own the database or to be allowed to create schemas in it, and to be allowed to
/// make roles unless they exist. It needs no superuser.
///
/// # Errors
/// [`OpenError`]: the database can't be reached or used, or has a schema that this build can't vouch
/// for.
pub async fn migrate_postgres(
    options: &PostgresOptions,
    now: Timestamp,
) -> Result<Vec<AppliedMigration>, OpenError> {
    run(options, MIGRATIONS, now).await
}

/// What [`migrate_postgres`] would apply. Changes nothing.
///
/// # Errors
/// As for [`migrate_postgres`].
pub async fn plan_postgres(options: &PostgresOptions) -> Result<Vec<PlannedMigration>, OpenError> {
    let mut connection = Connector::for_migrations(options)?.connect().await?;
    refuse_foreign(&mut connection).await?;
    let applied = applied(&mut connection).await?.unwrap_or_default();
    refuse_unknown(&applied, MIGRATIONS)?;
    let _ = connection.close().await;
    let pending = MIGRATIONS.iter().skip(applied.len());
    Ok(pending
        .map(|migration| PlannedMigration {
            version: migration.version,
            name: migration.name,
            sql: migration.sql,
        })
        .collect())
}

/// Refuses a schema that is not exactly the one that this build knows. Returns its version.
pub(crate) async fn check(pools: &Pools) -> Result<i64, OpenError> {
    let mut connection = pools.readers.pool.acquire().await.map_err(|e| failed(&e))?;
    let Some(applied) = applied(&mut connection).await? else {
        return Err(OpenError::NotMigrated);
    };
    refuse_unknown(&applied, MIGRATIONS)?;
    match applied.last() {
        Some(newest) if applied.len() == MIGRATIONS.len() => Ok(newest.version),
        _ => Err(OpenError::NotMigrated),
    }
}

async fn run(
    options: &PostgresOptions,
    migrations: &'static [Migration],
    now: Timestamp,
) -> Result<Vec<AppliedMigration>, OpenError> {
    let mut connection = Connector::for_migrations(options)?.connect().await?;
    let mut tx = connection.begin().await.map_err(|e| failed(&e))?;
    let lock = format!("SELECT pg_advisory_xact_lock({})", options.migration_lock);
    execute(&mut tx, &lock).await?;
    refuse_foreign(&mut tx).await?;
    execute(&mut tx, LOCK_TIMEOUT).await?;
    execute(
        &mut tx,
        "SET LOCAL client_min_messages = warning;
         CREATE SCHEMA IF NOT EXISTS caracal;
         CREATE TABLE IF NOT EXISTS caracal.schema_migrations (
            version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL,
            checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)",
    )
    .await?;
    let before = applied(&mut tx).await?.unwrap_or_default();
    refuse_unknown(&before, migrations)?;
    execute(&mut tx, ROLES).await?;
    let mut done = Vec::new();
    for migration in migrations.iter().skip(before.len()) {
        apply(&mut tx, migration, now).await?;
        done.push(AppliedMigration {
            version: migration.version,
            name: migration.name,
        });
    }
    tx.commit().await.map_err(|e| failed(&e))?;
    let _ = connection.close().await;
    Ok(done)
}

async fn apply(
    connection: &mut PgConnection,
    migration: &Migration,
    now: Timestamp,
) -> Result<(), OpenError> {
    tracing::info!(
        version = migration.version,
        name = migration.name,
        "applying migration"
    );
    execute(connection, migration.sql).await?;
    sqlx::query(
        "INSERT INTO schema_migrations (version, name, checksum, applied_at)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(migration.version)
    .bind(migration.name)
    .bind(checksum(migration.sql))
    .bind(now.micros())
    .execute(connection)
    .await
    .map_err(|e| failed(&e))?;
    Ok(())
}

/// What was applied; `None` when nobody has migrated yet.
pub(super) async fn applied(
    connection: &mut PgConnection,
) -> Result<Option<Vec<Applied>>, OpenError> {
    let table = "SELECT to_regclass('caracal.schema_migrations') IS NOT NULL AS found";
    if !found(connection, table).await? {
        return Ok(None);
    }
    let sql = "SELECT version, name, checksum FROM caracal.schema_migrations ORDER BY version";
    let rows = connection.fetch_all(sql).await.map_err(|e| failed(&e))?;
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        out.push(Applied {
            version: row.try_get("version").map_err(|e| failed(&e))?,
            name: row.try_get("name").map_err(|e| failed(&e))?,
            checksum: row.try_get("checksum").map_err(|e| failed(&e))?,
        });
    }
    Ok(Some(out))
}

/// Refuses a database that another product's migrations were applied to: nothing of it is adopted.
async fn refuse_foreign(connection: &mut PgConnection) -> Result<(), OpenError> {
    let table =
        "SELECT EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = 'public'
            AND table_name = 'schema_migrations' AND column_name = 'version') AS found";
    let versions = "SELECT EXISTS (SELECT 1 FROM public.schema_migrations
            WHERE CAST(version AS TEXT) = '0001_baseline') AS found";
    if found(connection, table).await? && found(connection, versions).await? {
        return Err(OpenError::ForeignSchema);
    }
    Ok(())
}

async fn found(connection: &mut PgConnection, sql: &'static str) -> Result<bool, OpenError> {
    let row = connection.fetch_one(sql).await.map_err(|e| failed(&e))?;
    row.try_get("found").map_err(|e| failed(&e))
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), OpenError> {
    connection
        .execute(AssertSqlSafe(sql.to_owned()))
        .await
        .map(|_| ())
        .map_err(|e| failed(&e))
}

fn failed(error: &sqlx::Error) -> OpenError {
    let cause: StoreError = explain_sqlx(TABLE, error);
    OpenError::Store(cause)
}

#[cfg(test)]
mod tests {
    use caracal_testbed::Postgres;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[tokio::test]
    async fn a_schema_of_an_earlier_build_is_brought_up_and_was_refused_before() {
        let postgres = Postgres::shared().unwrap();
        let database = postgres.database().unwrap();
        let options = PostgresOptions::new(database.owner_url.clone());
        for (newest, migration) in MIGRATIONS.iter().enumerate() {
            let applied = run(&options, &MIGRATIONS[..=newest], NOW).await.unwrap();
            assert_eq!(applied[0].version, migration.version);
            assert_eq!(applied.len(), 1);
            let pools = Pools::open(&options).await.unwrap();
            let checked = check(&pools).await;
            if newest + 1 < MIGRATIONS.len() {
                assert!(
                    matches!(checked, Err(OpenError::NotMigrated)),
                    "{checked:?}"
                );
            } else {
                assert_eq!(checked.unwrap(), migration.version);
            }
            pools.close().await;
        }
        postgres.drop_database(&database).unwrap();
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_nothing() {
        const BROKEN: &[Migration] = &[Migration {
            version: 1,
            name: "broken",
            sql: "CREATE TABLE half (n INT); SELECT nonsense",
        }];
        let postgres = Postgres::shared().unwrap();
        let database = postgres.database().unwrap();
        let options = PostgresOptions::new(database.owner_url.clone());
        assert!(run(&options, BROKEN, NOW).await.is_err());
        let left = postgres.psql(
            &database.name,
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'caracal%'",
        );
        assert_eq!(left.unwrap(), "0");
        postgres.drop_database(&database).unwrap();
    }
}
