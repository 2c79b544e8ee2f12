//! PostgreSQL: a server that many processes share.
//!
//! A unit holds one connection from its beginning to its end. Its first statement takes an advisory
//! lock of its zone that ends with the transaction, so writers of one zone are serial across all
//! processes, and each reads everything that the one before it committed. Inside a process they queue
//! before they take a connection: a busy zone occupies one of them.
//!
//! A read is a transaction of its own that carries the zone: nothing is left on the connection for
//! the next handle. Its end is not waited for.
//!
//! Units and reads have a pool each, so a unit's holder that reads elsewhere waits for no unit.

mod binding;
mod connecting;
mod faults;
mod inspect;
mod options;
mod schema;
mod turns;

use caracal_core::id::ZoneId;
use sea_orm::sqlx::postgres::{PgPool, PgRow};
use sea_orm::sqlx::{AssertSqlSafe, Executor, Postgres, Transaction};
use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Statement, TransactionTrait};

pub use inspect::{PostgresFindings, can_act_as, drop_schemas, give_login, inspect_postgres};
pub use options::{PostgresOptions, ServiceRole};
pub use schema::{AppliedMigration, PlannedMigration, migrate_postgres, plan_postgres};

pub(crate) use connecting::{Connector, Pools};
pub(crate) use faults::{explain, explain_sqlx};
pub(crate) use schema::check as check_schema;
pub(crate) use turns::{Turn, Turns};

use crate::error::StoreError;
use crate::sql::params;

/// Whose rows a statement touches.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// One zone's.
    Zone(&'a ZoneId),
    /// Those of all zones and of none.
    Platform,
}

impl Scope<'_> {
    /// The value of the zone variable. An id's alphabet has neither quotes nor `*`.
    pub(crate) fn variable(&self) -> &str {
        match self {
            Self::Zone(zone) => zone.as_str(),
            Self::Platform => "*",
        }
    }
}

/// The `($1, …), ($5, …)` of an `INSERT` of many rows.
pub(crate) fn value_rows(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let marks = crate::sql::placeholders(row * columns + 1, columns);
        format!("({marks})")
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Begins a unit: the zone variable and, when there is a lock, its turn among all processes.
pub(crate) async fn begin(
    pools: &Pools,
    scope: Scope<'_>,
    lock: Option<i64>,
) -> Result<DatabaseTransaction, StoreError> {
    const LOCKED: &str = "SELECT set_config('caracal.zone', $1, true), pg_advisory_xact_lock($2)";
    const UNLOCKED: &str = "SELECT set_config('caracal.zone', $1, true)";
    let failed = |e| explain("store", &e);
    let tx = pools.writers.begin().await.map_err(failed)?;
    let (sql, values) = match lock {
        Some(lock) => (LOCKED, params![scope.variable(), lock]),
        None => (UNLOCKED, params![scope.variable()]),
    };
    let first = Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, values);
    tx.query_one_raw(first).await.map_err(failed)?;
    Ok(tx)
}

/// The rows of a `SELECT`.
pub(crate) async fn rows(
    readers: &PgPool,
    scope: Scope<'_>,
    table: &'static str,
    statement: Statement,
) -> Result<Vec<QueryResult>, StoreError> {
    let mut tx = begin_reading(readers, scope, table).await?;
    let query = binding::query(table, statement)?;
    let rows: Vec<PgRow> = query
        .fetch_all(&mut *tx)
        .await
        .map_err(|e| explain_sqlx(table, &e))?;
    end_reading(tx);
    Ok(rows.into_iter().map(QueryResult::from).collect())
}

/// The first row of a `SELECT`.
pub(crate) async fn row(
    readers: &PgPool,
    scope: Scope<'_>,
    table: &'static str,
    statement: Statement,
) -> Result<Option<QueryResult>, StoreError> {
    let mut tx = begin_reading(readers, scope, table).await?;
    let query = binding::query(table, statement)?;
    let row: Option<PgRow> = query
        .fetch_optional(&mut *tx)
        .await
        .map_err(|e| explain_sqlx(table, &e))?;
    end_reading(tx);
    Ok(row.map(QueryResult::from))
}

/// Asks the server for an answer.
pub(crate) async fn ping(readers: &PgPool) -> Result<(), StoreError> {
    let asked = readers.execute("SELECT 1").await;
    asked.map(|_| ()).map_err(|e| explain_sqlx("store", &e))
}

type Reading = Transaction<'static, Postgres>;

/// One round trip: several statements in one message need no parameters, and a scope has no
/// characters to escape.
async fn begin_reading(
    readers: &PgPool,
    scope: Scope<'_>,
    table: &'static str,
) -> Result<Reading, StoreError> {
    let begin = format!(
        "BEGIN READ ONLY; SELECT set_config('caracal.zone', '{}', true)",
        scope.variable()
    );
    readers
        .begin_with(AssertSqlSafe(begin))
        .await
        .map_err(|e| explain_sqlx(table, &e))
}

/// The rows are here: that the transaction ends concerns only the connection.
fn end_reading(tx: Reading) {
    tokio::spawn(async move {
        let _ = tx.commit().await;
    });
}
