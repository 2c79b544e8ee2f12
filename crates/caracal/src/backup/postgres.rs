//! The backup of a PostgreSQL database: one `pg_dump`, whose snapshot is consistent by itself.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use caracal_core::Secret;
use caracal_store::inspect_postgres;
use thiserror::Error;
use tokio::process::Command;

use super::manifest::Content;
use crate::config::Environment;
use crate::deployment::owner_options;
use crate::migrate::server_version;

/// The dump's file in a backup.
pub(crate) const DUMP: &str = "postgres.dump";

/// A program of the PostgreSQL client package could not do its work.
#[derive(Debug, Error)]
pub(crate) enum ProgramError {
    #[error("{0} is not installed; on Debian: apt-get install postgresql-client")]
    Missing(&'static str),
    #[error(
        "{program} {tool} is older than the server's {server}; install postgresql-client-{server}"
    )]
    Older {
        program: &'static str,
        tool: i64,
        server: i64,
    },
    #[error("{0} says no version that is understood: {1:?}")]
    Version(&'static str, String),
    #[error("{0}: {1}")]
    Io(&'static str, std::io::Error),
    #[error("{0} failed: {1}")]
    Failed(&'static str, String),
}

pub(super) async fn dump(
    environment: &Environment,
    to: &Path,
) -> Result<Content, Box<dyn std::error::Error>> {
    let options = owner_options(environment)?;
    let server = inspect_postgres(&options).await?;
    let Some(schema) = server.migrations.filter(|applied| !applied.is_empty()) else {
        return Err("the database has no schema to back up; `caracal migrate` makes it".into());
    };
    if !server.owns_schema {
        let login = server.login;
        return Err(format!("{login} does not own the schema; name its owner's login in CARACAL_MIGRATION_DATABASE_URL").into());
    }
    let tool = version_of("pg_dump", server.version).await?;
    let file = to.join(DUMP);
    let arguments = [
        "--format=custom".into(),
        "--schema=caracal".into(),
        "--schema=caracal_*".into(),
        "--enable-row-security".into(),
        "--no-password".into(),
        "--lock-wait-timeout=30s".into(),
        joined("--file=", &file),
    ];
    run("pg_dump", &options.url, &arguments).await?;
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    std::fs::File::open(&file)?.sync_all()?;
    Ok(Content {
        schema,
        server: Some(server_version(server.version)),
        tool: Some(tool),
    })
}

/// Runs a program on the database. The URL, which holds the password, goes by the environment: every
/// user of the host may read arguments. The zone variable lets the owner read every row.
pub(crate) async fn run(
    program: &'static str,
    url: &Secret<String>,
    arguments: &[OsString],
) -> Result<(), ProgramError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PGOPTIONS", "-c caracal.zone=*")
        .env("PGAPPNAME", "caracal-tool")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    connection_variables(&mut command, url, program)?;
    let output = command.output().await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ProgramError::Missing(program),
        _ => ProgramError::Io(program, error),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    let told = crate::logging::scrub_lines(told.trim());
    Err(ProgramError::Failed(program, told))
}

/// The parts of a connection URL as the variables that every PostgreSQL program reads.
fn connection_variables(
    command: &mut Command,
    url: &Secret<String>,
    program: &'static str,
) -> Result<(), ProgramError> {
    let refused = || ProgramError::Failed(program, "the database URL can't be used".to_owned());
    let url = url::Url::parse(url.expose()).map_err(|_| refused())?;
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| refused())
    };
    if let Some(host) = url.host_str().filter(|host| !host.is_empty()) {
        let host = decoded(host)?;
        command.env("PGHOST", host.trim_matches(['[', ']']));
    }
    if let Some(port) = url.port() {
        command.env("PGPORT", port.to_string());
    }
    if !url.username().is_empty() {
        command.env("PGUSER", decoded(url.username())?);
    }
    if let Some(password) = url.password() {
        command.env("PGPASSWORD", decoded(password)?);
    }
    let database = decoded(url.path().trim_start_matches('/'))?;
    if !database.is_empty() {
        command.env("PGDATABASE", database);
    }
    for (name, value) in url.query_pairs() {
        let variable = match &*name {
            "host" => "PGHOST",
            "port" => "PGPORT",
            "user" => "PGUSER",
            "dbname" => "PGDATABASE",
            "sslmode" | "ssl-mode" => "PGSSLMODE",
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => "PGSSLROOTCERT",
            "sslcert" | "ssl-cert" => "PGSSLCERT",
            "sslkey" | "ssl-key" => "PGSSLKEY",
            _ => continue,
        };
        command.env(variable, &*value);
    }
    Ok(())
}

/// The program's version, which must not be older than the server's.
pub(crate) async fn version_of(program: &'static str, server: i64) -> Result<String, ProgramError> {
    let asked = Command::new(program).arg("--version").output().await;
    let output = asked.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => ProgramError::Missing(program),
        _ => ProgramError::Io(program, error),
    })?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let tool = major(&text).ok_or_else(|| ProgramError::Version(program, text.clone()))?;
    let server = server / 10_000;
    if tool < server {
        return Err(ProgramError::Older {
            program,
            tool,
            server,
        });
    }
    Ok(text)
}

fn major(text: &str) -> Option<i64> {
    let mut words = text.split_whitespace();
    let version = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

pub(crate) fn joined(prefix: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(prefix);
    argument.push(path);
    argument
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(major("pg_dump (PostgreSQL) 15.4 (Debian 15.4-1)"), Some(15));
        assert_eq!(major("pg_dump (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("no version"), None);
    }
}
