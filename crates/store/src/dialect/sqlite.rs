//! SQLite: one file, owned by one process.
//!
//! Writes go through one connection, reads through a few others that SQLite itself keeps from
//! writing. The write-ahead journal gives every read a snapshot, so readers never wait for a writer.
//! `synchronous=NORMAL` survives a crash of the process; a loss of power may take the last commits
//! with it, never the file's consistency.

mod statistics;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnAcquireErr, DatabaseConnection, DbErr, RuntimeErr, SqlErr, SqlxSqliteConnector};

use crate::error::{OpenError, StoreError, UniqueConstraint};

/// How long a statement waits for SQLite's own locks.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request waits for a connection.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that read.
const READERS: u32 = 4;

/// The exclusive ownership of a store file, held until dropped. The operating system lets go of it
/// when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes `<path>.lock`, or says who holds it.
    pub(crate) fn take(path: &Path) -> Result<Self, OpenError> {
        let lock_path = beside(path, ".lock");
        let failed = |source| OpenError::File {
            path: lock_path.display().to_string(),
            source,
        };
        let mut file = private(&lock_path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                let holder = format!("process {}\n", std::process::id());
                file.set_len(0).map_err(failed)?;
                file.rewind().map_err(failed)?;
                file.write_all(holder.as_bytes()).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let known = file.read_to_string(&mut holder).is_ok() && !holder.trim().is_empty();
                let holder = if known {
                    holder.trim().to_owned()
                } else {
                    "another process".to_owned()
                };
                Err(OpenError::Locked {
                    path: path.display().to_string(),
                    holder,
                })
            }
            Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Opens the one connection that writes.
pub(crate) async fn connect_writer(path: &Path) -> Result<DatabaseConnection, OpenError> {
    private(path).map_err(|source| OpenError::File {
        path: path.display().to_string(),
        source,
    })?;
    Ok(pool(base_options(path), 1).await?)
}

/// Opens the connections that read, once the schema is there.
pub(crate) async fn connect_readers(
    path: &Path,
    writer: &DatabaseConnection,
) -> Result<DatabaseConnection, OpenError> {
    statistics::prescribe(writer).await?;
    Ok(pool(base_options(path).pragma("query_only", "ON"), READERS).await?)
}

fn base_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(256)
        .pragma("cache_size", "-16384")
        .pragma("temp_store", "MEMORY")
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging()
}

async fn pool(options: SqliteConnectOptions, size: u32) -> Result<DatabaseConnection, StoreError> {
    let pool = PoolOptions::new()
        .max_connections(size)
        .min_connections(size)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|e| StoreError::Unavailable(e.to_string()))?;
    Ok(SqlxSqliteConnector::from_sqlx_sqlite_pool(pool))
}

/// The `(?, …), …` of an `INSERT` of many rows. The parameters have no names: SQLite finds a name by
/// walking a list, once for each parameter that is bound, which for a thousand of them costs more than
/// the insert.
pub(crate) fn value_rows(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row; rows].join(", ")
}

/// Opens a file that only its owner may read, creating it when it is missing.
fn private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(0o600);
        let file = options.open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// What a failed statement on `table` means to the caller.
pub(crate) fn explain(table: &'static str, error: &DbErr) -> StoreError {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(message)) => {
            return StoreError::Conflict(unique_constraint(&message));
        }
        Some(SqlErr::ForeignKeyConstraintViolation(message)) => {
            return StoreError::corrupt(table, message);
        }
        _ => {}
    }
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => {
            StoreError::Unavailable("no connection became free in time".to_owned())
        }
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => StoreError::Unavailable(error.to_string()),
        DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause)) => {
            match cause.as_database_error().and_then(|e| e.code()) {
                Some(code) if is_statement_fault(&code) => {
                    StoreError::corrupt(table, error.to_string())
                }
                None if is_decode_fault(cause) => StoreError::corrupt(table, error.to_string()),
                _ => StoreError::Unavailable(error.to_string()),
            }
        }
        _ => StoreError::corrupt(table, error.to_string()),
    }
}

/// SQLite result codes that trying again can't heal: a wrong statement, a broken constraint or a
/// damaged file. All others (busy, full, I/O, read-only, can't open) are the environment's.
fn is_statement_fault(code: &str) -> bool {
    let Ok(code) = code.parse::<u32>() else {
        return false;
    };
    // ERROR, MISMATCH, MISUSE, RANGE, CONSTRAINT, CORRUPT, NOTADB
    matches!(code & 0xff, 1 | 20 | 21 | 25 | 19 | 11 | 26)
}

fn is_decode_fault(cause: &sqlx::Error) -> bool {
    use sea_orm::sqlx::Error;
    matches!(
        cause,
        Error::ColumnDecode { .. }
            | Error::ColumnNotFound(_)
            | Error::ColumnIndexOutOfBounds { .. }
            | Error::Decode(_)
            | Error::Encode(_)
            | Error::TypeNotFound { .. }
    )
}

/// SQLite names the columns of the broken index.
fn unique_constraint(message: &str) -> UniqueConstraint {
    const RULES: &[(&str, UniqueConstraint)] = &[
        ("zones.slug", UniqueConstraint::ZoneSlug),
        ("applications.name_key", UniqueConstraint::ApplicationName),
        ("providers.identifier", UniqueConstraint::ProviderIdentifier),
        ("resources.identifier", UniqueConstraint::ResourceIdentifier),
        ("policies.name", UniqueConstraint::PolicyName),
        ("policy_sets.name", UniqueConstraint::PolicySetName),
        ("admin_tokens.digest", UniqueConstraint::AdminTokenDigest),
        (
            "idempotency_receipts.key_digest",
            UniqueConstraint::IdempotencyKey,
        ),
        ("audit_events.event_id", UniqueConstraint::AuditEventId),
    ];
    RULES
        .iter()
        .find(|(column, _)| message.contains(column))
        .map_or(UniqueConstraint::Id, |(_, rule)| *rule)
}
