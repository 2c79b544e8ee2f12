//! Connections: how each begins, and the pools of them.

use std::str::FromStr;
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sea_orm::sqlx::{ConnectOptions as _, Connection, Executor};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};

use super::faults::explain_sqlx;
use super::options::{PostgresOptions, ServiceRole};
use crate::error::{OpenError, StoreError};

/// Makes connections that are set up: role, schema and limits.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    options: PgConnectOptions,
    /// One statement that sets everything up.
    greeting: std::sync::Arc<str>,
    role: Option<ServiceRole>,
}

/// The connections of one process.
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) readers: PgPool,
    pub(crate) writers: DatabaseConnection,
    pub(crate) connector: Connector,
    pub(crate) acquire_timeout: Duration,
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
            (
                "search_path",
                ServiceRole::search_path(options.role).to_owned(),
            ),
        ];
        if let Some(role) = options.role {
            settings.push(("role", role.name().to_owned()));
        }
        Ok(Self {
            options: connect_options(options)?,
            greeting: greeting(&settings).into(),
            role: options.role,
        })
    }

    /// For migrations: as the login itself, and a statement may take its time.
    pub(crate) fn for_migrations(options: &PostgresOptions) -> Result<Self, OpenError> {
        let settings = [("search_path", "caracal".to_owned())];
        Ok(Self {
            options: connect_options(options)?.application_name("caracal-migrate"),
            greeting: greeting(&settings).into(),
            role: None,
        })
    }

    /// A connection outside the pools.
    pub(crate) async fn connect(&self) -> Result<PgConnection, StoreError> {
        let failed = |e| explain_sqlx("connection", &e);
        let mut connection = PgConnection::connect_with(&self.options)
            .await
            .map_err(failed)?;
        self.greet(&mut connection).await.map_err(failed)?;
        Ok(connection)
    }

    async fn greet(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let greeting = sqlx::AssertSqlSafe(self.greeting.to_string());
        connection.execute(greeting).await.map(|_| ())
    }

    /// One connection for notifications, made when it is first wanted. It needs no role.
    pub(crate) fn listening(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(self.options.clone())
    }

    fn pool(&self, options: &PostgresOptions, size: u32) -> PgPool {
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
            .connect_lazy_with(self.options.clone())
    }
}

impl Pools {
    /// Opens the pools; the first connection tells whether the server and the role can be used.
    pub(crate) async fn open(options: &PostgresOptions) -> Result<Self, OpenError> {
        let connector = Connector::new(options)?;
        let first = tokio::time::timeout(options.connect_timeout, connector.connect());
        let first = match first.await {
            Ok(connected) => connected.map_err(|e| refused(e, connector.role))?,
            Err(_) => {
                let late = "the database did not answer in time".to_owned();
                return Err(StoreError::Unavailable(late).into());
            }
        };
        let _ = first.close().await;
        let units = (options.max_connections / 2).max(1);
        let reads = options.max_connections.saturating_sub(units).max(1);
        Ok(Self {
            readers: connector.pool(options, reads),
            writers: SqlxPostgresConnector::from_sqlx_postgres_pool(connector.pool(options, units)),
            connector,
            acquire_timeout: options.acquire_timeout,
        })
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
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
    format!("SELECT {}", set.join(", "))
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

fn connect_options(options: &PostgresOptions) -> Result<PgConnectOptions, OpenError> {
    let parsed = PgConnectOptions::from_str(options.url.expose())
        .map_err(|_| OpenError::Url("it is no PostgreSQL URL".to_owned()))?;
    Ok(parsed
        .application_name(&options.application_name)
        .statement_cache_capacity(options.statement_cache)
        .disable_statement_logging())
}
