//! Connections: how each begins, and the pools of them.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sea_orm::sqlx::{Connection, Error, Executor, Row as _};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};

use super::address;
use super::faults::explain_sqlx;
use super::options::{PostgresOptions, ServiceRole};
use super::reading::ReadPool;
use crate::error::{OpenError, StoreError};

/// How long an idle connection is trusted unasked.
const TRUSTED: Duration = Duration::from_secs(1);
/// How long a connection may take to answer when it is asked whether it still stands.
const ANSWER: Duration = Duration::from_secs(2);
/// How much longer than the server the client waits for a statement: the server may be gone without a
/// word.
const GRACE: Duration = Duration::from_secs(2);

/// Makes connections that are set up: role, schema and limits.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    options: PgConnectOptions,
    connect_timeout: Duration,
    /// One statement that sets everything up.
    greeting: std::sync::Arc<str>,
    role: Option<ServiceRole>,
}

/// The connections of one process.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) readers: ReadPool,
    pub(crate) writers: DatabaseConnection,
    pub(crate) connector: Connector,
    pub(crate) acquire_timeout: Duration,
    /// How long the answer to a unit's statement is waited for.
    pub(crate) patience: Duration,
}

impl Connector {
    /// For a service's work.
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self, OpenError> {
        let mut settings = vec![
            ("statement_timeout", millis(options.statement_timeout)),
            ("lock_timeout", millis(options.lock_timeout)),
            (
                "idle_in_transaction_session_timeout",
                millis(options.idle_in_transaction_timeout),
            ),
            // So that the server notices a client that is gone without a word.
            ("tcp_keepalives_idle", "60".to_owned()),
            ("tcp_keepalives_interval", "10".to_owned()),
            ("tcp_keepalives_count", "3".to_owned()),
            (
                "search_path",
                ServiceRole::search_path(options.role).to_owned(),
            ),
        ];
        if let Some(role) = options.role {
            settings.push(("role", role.name().to_owned()));
        }
        let address = address::read(options)?;
        Ok(Self {
            options: address.options.application_name(&options.application_name),
            connect_timeout: address.connect_timeout.unwrap_or(options.connect_timeout),
            greeting: greeting(&settings).into(),
            role: options.role,
        })
    }

    /// For migrations: as the login itself, and a statement may take its time.
    pub(crate) fn for_migrations(options: &PostgresOptions) -> Result<Self, OpenError> {
        let settings = [("search_path", "caracal".to_owned())];
        let address = address::read(options)?;
        Ok(Self {
            options: address.options.application_name("caracal-migrate"),
            connect_timeout: address.connect_timeout.unwrap_or(options.connect_timeout),
            greeting: greeting(&settings).into(),
            role: None,
        })
    }

    /// A connection outside the pools.
    pub(crate) async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connecting = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            self.greet(&mut connection).await?;
            Ok(connection)
        };
        match tokio::time::timeout(self.connect_timeout, connecting).await {
            Ok(connected) => connected.map_err(|e: Error| explain_sqlx("connection", &e)),
            Err(_) => Err(StoreError::Unavailable(
                "the database did not answer in time".to_owned(),
            )),
        }
    }

    /// Sets a new connection up. A standby is refused: it may lag, and what it says is no proof.
    async fn greet(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let greeting = sqlx::AssertSqlSafe(self.greeting.to_string());
        let row = connection.fetch_one(greeting).await?;
        if row.try_get::<bool, _>("standby")? {
            return Err(Error::Protocol("the server is a standby".to_owned()));
        }
        Ok(())
    }

    /// The same for connections that never write.
    fn reading(&self) -> Self {
        let set = "SELECT set_config('default_transaction_read_only', 'on', false), ";
        let greeting = self.greeting.replacen("SELECT ", set, 1);
        Self {
            greeting: greeting.into(),
            ..self.clone()
        }
    }

    /// One connection for notifications, made when it is first wanted. It needs no role.
    pub(crate) fn listening(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(self.options.clone())
    }

    fn pool(&self, options: &PostgresOptions, size: u32) -> PgPoolOptions {
        let connector = self.clone();
        PgPoolOptions::new()
            .max_connections(size)
            .min_connections(options.min_connections.min(size))
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(options.idle_timeout)
            .max_lifetime(options.max_lifetime)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let connector = connector.clone();
                Box::pin(async move { connector.greet(connection).await })
            })
            // A busy connection has just shown that it stands.
            .before_acquire(|connection, meta| {
                Box::pin(async move { Ok(meta.idle_for < TRUSTED || answers(connection).await) })
            })
    }
}

/// Whether the server still answers on a connection.
pub(crate) async fn answers(connection: &mut PgConnection) -> bool {
    let asked = tokio::time::timeout(ANSWER, connection.ping()).await;
    asked.is_ok_and(|answer| answer.is_ok())
}

impl Pools {
    /// Opens the pools; the first connection tells whether the server and the role can be used.
    pub(crate) async fn open(options: &PostgresOptions) -> Result<Self, OpenError> {
        let connector = Connector::new(options)?;
        let mut first = connector
            .connect()
            .await
            .map_err(|e| refused(e, connector.role))?;
        refuse_unbound(&mut first).await?;
        let _ = first.close().await;
        let patience = options.statement_timeout.saturating_add(GRACE);
        let units = (options.max_connections / 2).max(1);
        let reads = options.max_connections.saturating_sub(units).max(1);
        // What a unit leaves undone is undone at its connection's return, within a bounded time.
        let writers = connector
            .pool(options, units)
            .after_release(|connection, _| Box::pin(async move { Ok(answers(connection).await) }))
            .connect_lazy_with(connector.options.clone());
        Ok(Self {
            readers: ReadPool {
                pool: connector
                    .reading()
                    .pool(options, reads)
                    .connect_lazy_with(connector.options.clone()),
                patience,
            },
            writers: SqlxPostgresConnector::from_sqlx_postgres_pool(writers),
            connector,
            acquire_timeout: options.acquire_timeout,
            patience,
        })
    }

    pub(crate) async fn close(&self) {
        self.readers.pool.close().await;
        let _ = self.writers.close_by_ref().await;
    }
}

/// Settings of the session, in one round trip. The role comes last: it may not be allowed to set the
/// others.
fn greeting(settings: &[(&str, String)]) -> String {
    let set: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("set_config('{name}', '{value}', false)"))
        .collect();
    format!("SELECT {}, pg_is_in_recovery() AS standby", set.join(", "))
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// A login that may not act as the role is the operator's to put right.
fn refused(error: StoreError, role: Option<ServiceRole>) -> OpenError {
    match (error, role) {
        (StoreError::Corrupt { detail, .. }, Some(role)) => OpenError::Role {
            role: role.name(),
            detail,
        },
        (other, _) => OpenError::Store(other),
    }
}

/// Refuses a login that sees every row whatever the rules say.
async fn refuse_unbound(connection: &mut PgConnection) -> Result<(), OpenError> {
    let sql = "SELECT rolname::TEXT AS login, rolsuper OR rolbypassrls AS unbound
         FROM pg_roles WHERE rolname = current_user";
    let failed = |e: Error| OpenError::Store(explain_sqlx("pg_roles", &e));
    let row = connection.fetch_one(sql).await.map_err(failed)?;
    if row.try_get("unbound").map_err(failed)? {
        return Err(OpenError::Unbound {
            login: row.try_get("login").map_err(failed)?,
        });
    }
    Ok(())
}
