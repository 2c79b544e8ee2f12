//! What a failure means to the caller.

use sea_orm::sqlx::Error;
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};

use crate::error::{StoreError, UniqueConstraint};

/// What a failed statement on `table` means to the caller.
pub(crate) fn explain(table: &'static str, error: &DbErr) -> StoreError {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => no_connection(),
        DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause))
        | DbErr::Conn(RuntimeErr::SqlxError(cause)) => explain_sqlx(table, cause),
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::corrupt(table, error.to_string()),
    }
}

/// The same of an error that comes from the driver itself.
pub(crate) fn explain_sqlx(table: &'static str, error: &Error) -> StoreError {
    match error {
        Error::PoolTimedOut => no_connection(),
        Error::Database(cause) => {
            let code = cause.code();
            match code.as_deref() {
                Some("23505") => StoreError::Conflict(unique_constraint(cause.constraint())),
                Some(code) if is_statement_fault(code) => {
                    StoreError::corrupt(table, error.to_string())
                }
                _ => StoreError::Unavailable(error.to_string()),
            }
        }
        Error::ColumnDecode { .. }
        | Error::ColumnNotFound(_)
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::Decode(_)
        | Error::Encode(_)
        | Error::TypeNotFound { .. }
        | Error::RowNotFound => StoreError::corrupt(table, error.to_string()),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

/// Whether the connection is gone, and with it whatever it was in the middle of.
pub(crate) fn is_lost(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        Error::Database(cause) => {
            let code = cause.code();
            let code = code.as_deref().unwrap_or_default();
            // Closed by the server: on command, at a crash, while starting.
            code.starts_with("08") || matches!(code, "57P01" | "57P02" | "57P03" | "57P05")
        }
        _ => false,
    }
}

/// The same of an error that comes through the object-relational layer.
pub(crate) fn has_lost(error: &DbErr) -> bool {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause))
        | DbErr::Conn(RuntimeErr::SqlxError(cause)) => is_lost(cause),
        _ => false,
    }
}

fn no_connection() -> StoreError {
    StoreError::Unavailable("no connection became free in time".to_owned())
}

/// SQLSTATE classes that trying again can't heal: a row touched twice (21), wrong data (22), a broken
/// constraint (23), a wrong statement or one that the role may not make (42), and a trigger's refusal
/// (P0). All others (deadlock, lock or statement timeout, shutdown, lost connection, no memory, full
/// disk, a plan that a migration made stale, a transaction that failed before) are the environment's
/// or pass by themselves.
fn is_statement_fault(code: &str) -> bool {
    matches!(code.get(..2), Some("21" | "22" | "23" | "42" | "P0"))
}

/// PostgreSQL names the broken index.
fn unique_constraint(name: Option<&str>) -> UniqueConstraint {
    const RULES: &[(&str, UniqueConstraint)] = &[
        ("zones_slug", UniqueConstraint::ZoneSlug),
        ("applications_name", UniqueConstraint::ApplicationName),
        ("providers_identifier", UniqueConstraint::ProviderIdentifier),
        ("resources_identifier", UniqueConstraint::ResourceIdentifier),
        ("policies_name", UniqueConstraint::PolicyName),
        ("policy_sets_name", UniqueConstraint::PolicySetName),
        ("admin_tokens_digest", UniqueConstraint::AdminTokenDigest),
        (
            "idempotency_receipts_pkey",
            UniqueConstraint::IdempotencyKey,
        ),
        ("audit_events_id", UniqueConstraint::AuditEventId),
    ];
    RULES
        .iter()
        .find(|(index, _)| name == Some(*index))
        .map_or(UniqueConstraint::Id, |(_, rule)| *rule)
}
