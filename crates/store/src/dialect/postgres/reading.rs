//! Reads: the zone, then the statement, on a connection that goes back to its pool only when it can
//! be used again.

use std::time::Duration;

use sea_orm::Statement;
use sea_orm::sqlx::pool::PoolConnection;
use sea_orm::sqlx::postgres::{PgPool, PgRow};
use sea_orm::sqlx::{AssertSqlSafe, Error, Executor, Postgres};

use super::connecting::answers;
use super::faults::is_lost;
use super::{Scope, binding};

/// How often a read is tried again on another connection when its own turns out to be dead: after a
/// restart of the server, all that wait in the pool are.
const TRIES: usize = 3;

/// The connections that read.
#[derive(Debug, Clone)]
pub(crate) struct ReadPool {
    pub(super) pool: PgPool,
    /// How long the answer to a statement is waited for.
    pub(super) patience: Duration,
}

impl ReadPool {
    pub(super) async fn rows(
        &self,
        scope: Scope<'_>,
        statement: &Statement,
    ) -> Result<Vec<PgRow>, Error> {
        let mut tries = 1;
        loop {
            let mut lease = Lease::take(&self.pool).await?;
            let answer = tokio::time::timeout(self.patience, lease.ask(scope, statement)).await;
            match answer {
                Ok(Err(error)) if is_lost(&error) && tries < TRIES => tries += 1,
                Ok(answer) => return answer,
                Err(_) => return Err(Error::Protocol("no answer in time".to_owned())),
            }
        }
    }
}

/// A connection of the pool's. When its user goes away in the middle of a statement, it has a moment
/// to come to the statement's end, else it is closed.
struct Lease {
    connection: Option<PoolConnection<Postgres>>,
    is_busy: bool,
    /// Whether it is in a transaction, with settings of its own.
    is_set_up: bool,
}

/// What makes the planner follow the order of the indexes. A plan that can't looks dear and would be
/// compiled, which takes longer than running it.
const IN_ORDER: &str = "set_config('enable_sort', 'off', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('jit', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)";

impl Lease {
    async fn take(pool: &PgPool) -> Result<Self, Error> {
        Ok(Self {
            connection: Some(pool.acquire().await?),
            is_busy: false,
            is_set_up: false,
        })
    }

    async fn ask(&mut self, scope: Scope<'_>, statement: &Statement) -> Result<Vec<PgRow>, Error> {
        let Some(connection) = &mut self.connection else {
            return Err(Error::PoolClosed);
        };
        self.is_busy = true;
        self.is_set_up = matches!(scope, Scope::Evidence(_));
        // No parameter, so one round trip; a scope has no characters to escape.
        let zone = scope.variable();
        let set = if self.is_set_up {
            format!(
                "BEGIN READ ONLY; SELECT {IN_ORDER}, set_config('caracal.zone', '{zone}', true)"
            )
        } else {
            format!("SELECT set_config('caracal.zone', '{zone}', false)")
        };
        connection.execute(AssertSqlSafe(set)).await?;
        let rows = binding::query(statement)?
            .fetch_all(&mut **connection)
            .await?;
        if self.is_set_up {
            connection.execute("COMMIT").await?;
        }
        self.is_busy = false;
        Ok(rows)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_busy {
            return;
        }
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if self.is_set_up {
            connection.close_on_drop();
        } else {
            tokio::spawn(async move {
                if !answers(&mut connection).await {
                    connection.close_on_drop();
                }
            });
        }
    }
}
