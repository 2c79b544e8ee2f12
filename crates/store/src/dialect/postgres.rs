//! PostgreSQL: a server that many processes share.
//!
//! A unit holds one connection from its beginning to its end. Its first statement takes an advisory
//! lock of its zone that ends with the transaction, so writers of one zone are serial across all
//! processes, and each reads everything that the one before it committed. Inside a process they queue
//! before they take a connection: a busy zone occupies one of them.
//!
//! A read sets the zone on its connection, then asks. What it leaves there concerns nobody: every
//! statement on such a connection goes through [`rows`] or [`row`], which set their own zone first.
//!
//! Role, search path and zone belong to the server's session, so a pooler between must keep sessions
//! (PgBouncer: `pool_mode = session`).
//!
//! Units and reads have a pool each, so a unit's holder that reads elsewhere waits for no unit.

mod address;
mod binding;
mod connecting;
mod faults;
mod inspect;
mod options;
mod reading;
mod schema;
mod turns;

use std::time::Duration;

use caracal_core::id::ZoneId;
use sea_orm::sqlx::Executor;
use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement,
    TransactionTrait,
};

pub use inspect::{PostgresFindings, can_act_as, drop_schemas, give_login, inspect_postgres};
pub use options::{PostgresOptions, ServiceRole};
pub use schema::{AppliedMigration, PlannedMigration, migrate_postgres, plan_postgres};

pub(crate) use connecting::{Connector, Pools};
pub(crate) use faults::{explain, explain_sqlx, has_lost};
pub(crate) use reading::ReadPool;
pub(crate) use schema::check as check_schema;
pub(crate) use turns::{Turn, Turns};

use crate::error::StoreError;
use crate::sql::params;

/// Whose rows a statement touches.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// One zone's.
    Zone(&'a ZoneId),
    /// One zone's evidence, which is read in the order of its indexes: the planner does not know that
    /// a month is large, and would read and sort all of it for a page.
    Evidence(&'a ZoneId),
    /// Those of all zones and of none.
    Platform,
}

impl Scope<'_> {
    /// The value of the zone variable. An id's alphabet has neither quotes nor `*`.
    pub(crate) fn variable(&self) -> &str {
        match self {
            Self::Zone(zone) | Self::Evidence(zone) => zone.as_str(),
            Self::Platform => "*",
        }
    }
}

/// Begins a unit: the zone variable and, when there is a lock, its turn among all processes. A
/// connection that turns out to be dead is replaced: nothing has been done on it.
pub(crate) async fn begin(
    pools: &Pools,
    scope: Scope<'_>,
    lock: Option<i64>,
) -> Result<DatabaseTransaction, StoreError> {
    const TRIES: usize = 3;
    let mut tries = 1;
    loop {
        match within(pools.patience, begin_once(pools, scope, lock)).await? {
            Ok(tx) => return Ok(tx),
            Err(error) if has_lost(&error) && tries < TRIES => tries += 1,
            Err(error) => return Err(explain("store", &error)),
        }
    }
}

async fn begin_once(
    pools: &Pools,
    scope: Scope<'_>,
    lock: Option<i64>,
) -> Result<DatabaseTransaction, DbErr> {
    const LOCKED: &str = "SELECT set_config('caracal.zone', $1, true), pg_advisory_xact_lock($2)";
    const UNLOCKED: &str = "SELECT set_config('caracal.zone', $1, true)";
    let tx = pools.writers.begin().await?;
    let (sql, values) = match lock {
        Some(lock) => (LOCKED, params![scope.variable(), lock]),
        None => (UNLOCKED, params![scope.variable()]),
    };
    let first = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    tx.query_one_raw(first).await?;
    Ok(tx)
}

/// Waits for a server that may be gone without a word.
pub(crate) async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, StoreError> {
    tokio::time::timeout(patience, answer)
        .await
        .map_err(|_| StoreError::Unavailable("the database did not answer in time".to_owned()))
}

/// The rows of a `SELECT`.
pub(crate) async fn rows(
    readers: &ReadPool,
    scope: Scope<'_>,
    table: &'static str,
    statement: Statement,
) -> Result<Vec<QueryResult>, StoreError> {
    let found = readers.rows(scope, &statement).await;
    let rows = found.map_err(|e| explain_sqlx(table, &e))?;
    Ok(rows.into_iter().map(QueryResult::from).collect())
}

/// The first row of a `SELECT`.
pub(crate) async fn row(
    readers: &ReadPool,
    scope: Scope<'_>,
    table: &'static str,
    statement: Statement,
) -> Result<Option<QueryResult>, StoreError> {
    let found = readers.rows(scope, &statement).await;
    let rows = found.map_err(|e| explain_sqlx(table, &e))?;
    Ok(rows.into_iter().next().map(QueryResult::from))
}

/// Asks the server for an answer.
pub(crate) async fn ping(readers: &ReadPool) -> Result<(), StoreError> {
    let asked = within(readers.patience, readers.pool.execute("SELECT 1")).await?;
    asked.map(|_| ()).map_err(|e| explain_sqlx("store", &e))
}
