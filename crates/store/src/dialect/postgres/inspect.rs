//! What an operator's tool wants to know of a server, and the logins that it gives.

use caracal_core::Timestamp;
use sea_orm::sqlx::postgres::PgConnection;
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};

use super::connecting::Connector;
use super::faults::explain_sqlx;
use super::options::{PostgresOptions, ServiceRole};
use super::schema;
use crate::copy::SchemaMigration;
use crate::error::{OpenError, StoreError};
use crate::migrate::refuse_unknown;

/// A server and a login, as they are.
#[derive(Debug, Clone)]
pub struct PostgresFindings {
    /// `server_version_num`: 150004 is 15.4.
    pub version: i64,
    /// The server's clock.
    pub now: Timestamp,
    /// The TLS version of the connection; `None` in the clear.
    pub tls: Option<String>,
    /// The login.
    pub login: String,
    /// Whether the login is a superuser or may bypass row-level security: no login needs that.
    pub bypasses_rules: bool,
    /// Whether the login owns the schema, as the one that migrates does.
    pub owns_schema: bool,
    /// The roles that the login may act as.
    pub roles: Vec<ServiceRole>,
    /// The roles that exist on the server.
    pub known_roles: Vec<ServiceRole>,
    /// The migrations that the schema has; `None` when nobody has migrated yet.
    pub migrations: Option<Vec<SchemaMigration>>,
    /// Migrations that this build has and the schema lacks.
    pub pending: usize,
    /// Tables with a zone whose rows are not kept apart from their owner too.
    pub unprotected: Vec<String>,
    /// Connections of roles and tools to this database, but for this one: name and count.
    pub connections: Vec<(String, i64)>,
    /// `max_connections` of the server.
    pub max_connections: i64,
    /// Connections of everybody to the server.
    pub used_connections: i64,
}

/// Looks at a server as the login of the URL. Changes nothing.
///
/// # Errors
/// [`OpenError`] when the server can't be reached, or has a schema that this build can't vouch for.
pub async fn inspect_postgres(options: &PostgresOptions) -> Result<PostgresFindings, OpenError> {
    let mut connection = connect(options).await?;
    let row = connection
        .fetch_one(
            "SELECT current_setting('server_version_num')::BIGINT AS version,
                (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT AS now,
                (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS tls,
                current_user::TEXT AS login,
                (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)
                    AS bypasses,
                COALESCE((SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace
                    WHERE nspname = 'caracal'), false) AS owns,
                current_setting('max_connections')::BIGINT AS max_connections,
                (SELECT count(*) FROM pg_stat_activity) AS used",
        )
        .await
        .map_err(|e| failed(&e))?;
    let get = |e: sqlx::Error| failed(&e);
    let migrations = schema::applied(&mut connection).await?;
    let pending = match &migrations {
        Some(applied) => {
            refuse_unknown(applied, schema::MIGRATIONS)?;
            schema::MIGRATIONS.len() - applied.len()
        }
        None => schema::MIGRATIONS.len(),
    };
    let findings = PostgresFindings {
        version: row.try_get("version").map_err(get)?,
        now: Timestamp::from_micros(row.try_get("now").map_err(get)?),
        tls: row.try_get("tls").map_err(get)?,
        login: row.try_get("login").map_err(get)?,
        bypasses_rules: row.try_get("bypasses").map_err(get)?,
        owns_schema: row.try_get("owns").map_err(get)?,
        roles: roles(&mut connection, "pg_has_role(rolname, 'MEMBER')").await?,
        known_roles: roles(&mut connection, "true").await?,
        migrations: migrations.map(|rows| {
            rows.into_iter()
                .map(|row| SchemaMigration {
                    version: row.version,
                    name: row.name,
                    checksum: row.checksum,
                })
                .collect()
        }),
        pending,
        unprotected: unprotected(&mut connection).await?,
        connections: connections(&mut connection).await?,
        max_connections: row.try_get("max_connections").map_err(get)?,
        used_connections: row.try_get("used").map_err(get)?,
    };
    let _ = connection.close().await;
    Ok(findings)
}

/// Whether the login of the URL may act as the role, tried.
///
/// # Errors
/// [`OpenError`] when the server can't be reached.
pub async fn can_act_as(options: &PostgresOptions, role: ServiceRole) -> Result<bool, OpenError> {
    let mut connection = connect(options).await?;
    let set = format!("SET ROLE {}", role.name());
    let acted = connection.execute(AssertSqlSafe(set)).await.is_ok();
    let _ = connection.close().await;
    Ok(acted)
}

/// Lets a role log in with the password that `verifier` was made from: a SCRAM-SHA-256 verifier, so
/// that the password itself is in no statement and no log of the server.
///
/// # Errors
/// [`OpenError`] when the server can't be reached or refuses.
pub async fn give_login(
    options: &PostgresOptions,
    role: ServiceRole,
    verifier: &str,
) -> Result<(), OpenError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-$:+/=".contains(c);
    if !verifier.starts_with("SCRAM-SHA-256$") || !verifier.chars().all(safe) {
        let refused = StoreError::corrupt("roles", "no SCRAM-SHA-256 verifier");
        return Err(refused.into());
    }
    let mut connection = connect(options).await?;
    let sql = format!("ALTER ROLE {} LOGIN PASSWORD '{verifier}'", role.name());
    let altered = connection.execute(AssertSqlSafe(sql)).await;
    let _ = connection.close().await;
    altered.map(|_| ()).map_err(|e| failed(&e))
}

/// Removes the schemas of this product with everything in them, as the login that owns them.
///
/// # Errors
/// [`OpenError`] when the server can't be reached or refuses.
pub async fn drop_schemas(options: &PostgresOptions) -> Result<(), OpenError> {
    let mut connection = connect(options).await?;
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT nspname::TEXT FROM pg_namespace
         WHERE nspname = 'caracal' OR nspname LIKE 'caracal\\_%'",
    )
    .fetch_all(&mut connection)
    .await
    .map_err(|e| failed(&e))?;
    if !names.is_empty() {
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let sql = format!("DROP SCHEMA {} CASCADE", quoted.join(", "));
        connection
            .execute(AssertSqlSafe(sql))
            .await
            .map_err(|e| failed(&e))?;
    }
    let _ = connection.close().await;
    Ok(())
}

async fn connect(options: &PostgresOptions) -> Result<PgConnection, OpenError> {
    let connector = Connector::for_migrations(options)?;
    match tokio::time::timeout(options.connect_timeout, connector.connect()).await {
        Ok(connected) => Ok(connected?),
        Err(_) => {
            let late = "the database did not answer in time".to_owned();
            Err(StoreError::Unavailable(late).into())
        }
    }
}

async fn roles(
    connection: &mut PgConnection,
    condition: &str,
) -> Result<Vec<ServiceRole>, OpenError> {
    let sql = format!("SELECT rolname::TEXT FROM pg_roles WHERE {condition}");
    let names: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_all(connection)
        .await
        .map_err(|e| failed(&e))?;
    let all = ServiceRole::ALL.into_iter();
    Ok(all
        .filter(|role| names.iter().any(|name| name == role.name()))
        .collect())
}

/// Partitions are guarded by their parent: nobody but the owner may touch them directly.
async fn unprotected(connection: &mut PgConnection) -> Result<Vec<String>, OpenError> {
    sqlx::query_scalar(
        "SELECT c.relname::TEXT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = 'caracal' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND EXISTS (SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = c.oid
                AND a.attname = 'zone_id' AND NOT a.attisdropped)
            AND NOT (c.relrowsecurity AND c.relforcerowsecurity
                AND EXISTS (SELECT 1 FROM pg_policy AS p WHERE p.polrelid = c.oid))
         ORDER BY 1",
    )
    .fetch_all(connection)
    .await
    .map_err(|e| failed(&e))
}

async fn connections(connection: &mut PgConnection) -> Result<Vec<(String, i64)>, OpenError> {
    sqlx::query_as(
        "SELECT application_name::TEXT, count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND application_name LIKE 'caracal%'
         GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(connection)
    .await
    .map_err(|e| failed(&e))
}

fn failed(error: &sqlx::Error) -> OpenError {
    let cause: StoreError = explain_sqlx("server", error);
    OpenError::Store(cause)
}
