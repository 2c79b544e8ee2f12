//! PostgreSQL.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use crate::programs::{self, User};
use crate::supervised::Supervised;
use crate::{TestbedError, directory};

/// The login that owns databases: it may make roles and databases and nothing else that others may
/// not, as on a managed server.
const OWNER: &str = "caracal_owner";
const PASSWORD: &str = "testbed";

/// Settings for a server whose data nobody misses. Statements can be counted.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "max_connections=300",
    "shared_buffers=256MB",
    "max_wal_size=4GB",
    "shared_preload_libraries=pg_stat_statements",
    "log_min_messages=warning",
    "log_lock_waits=on",
];

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    server: Option<Supervised>,
    port: u16,
    program: PathBuf,
    user: Option<User>,
    durable: bool,
    home: TempDir,
}

/// One database of a server.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Connection URL of the owner: no superuser.
    pub owner_url: String,
    /// Connection URL of the server's superuser.
    pub superuser_url: String,
}

static DATABASES: AtomicU64 = AtomicU64::new(0);

impl Postgres {
    /// The server of this process, started by its first caller. It does not sync to disk.
    ///
    /// # Errors
    /// [`TestbedError`] when it can't be started.
    pub fn shared() -> Result<&'static Self, TestbedError> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start(false).map_err(|error| error.to_string()))
            .as_ref()
            .map_err(|error| TestbedError::Failed("postgres", error.clone()))
    }

    /// Starts a server. A `durable` one syncs to disk, as a real one does.
    ///
    /// # Errors
    /// [`TestbedError`] when it is not installed or can't be started.
    pub fn start(durable: bool) -> Result<Self, TestbedError> {
        let user = programs::server_user();
        let home = directory::of(user)?;
        let data = home.path().join("data");
        let mut initdb = Command::new(programs::postgres("initdb")?);
        initdb
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--pgdata"])
            .arg(&data);
        run("initdb", initdb, user)?;
        let mut postgres = Self {
            server: None,
            port: programs::free_port()?,
            program: programs::postgres("postgres")?,
            user,
            durable,
            home,
        };
        postgres.start_again()?;
        postgres.psql(
            "postgres",
            &format!(
                "CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}' CREATEROLE CREATEDB \
                 NOSUPERUSER NOBYPASSRLS"
            ),
        )?;
        Ok(postgres)
    }

    /// Starts the server again after [`Postgres::stop`], on the same port and data.
    ///
    /// # Errors
    /// [`TestbedError`] when it can't be started.
    pub fn start_again(&mut self) -> Result<(), TestbedError> {
        let home = self.home.path();
        let mut command = vec![
            self.program.display().to_string(),
            "-D".to_owned(),
            home.join("data").display().to_string(),
            "-k".to_owned(),
            home.display().to_string(),
            "-p".to_owned(),
            self.port.to_string(),
        ];
        let sync = if self.durable { "on" } else { "off" };
        let sync = [
            format!("fsync={sync}"),
            format!("synchronous_commit={sync}"),
        ];
        for setting in SETTINGS.iter().map(|s| (*s).to_owned()).chain(sync) {
            command.extend(["-c".to_owned(), setting]);
        }
        let asked = programs::postgres("pg_isready")?;
        let port = self.port.to_string();
        let ready = || {
            let asked = Command::new(&asked)
                .args(["-q", "-h", "127.0.0.1", "-p", &port, "-U", "postgres"])
                .status();
            asked.is_ok_and(|status| status.success())
        };
        let server = Supervised::start("postgres", home, self.user, "INT", &command, ready)?;
        self.server = Some(server);
        Ok(())
    }

    /// Stops the server; clients' connections break. With `at_once` it gets no time to tidy up.
    pub fn stop(&mut self, at_once: bool) {
        if let Some(server) = self.server.take() {
            server.stop_by(if at_once { "QUIT" } else { "INT" });
        }
    }

    /// The server's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Supervised::pid)
    }

    /// The server's port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database that [`Database::owner_url`]'s login owns.
    ///
    /// # Errors
    /// [`TestbedError`] when it can't be made.
    pub fn database(&self) -> Result<Database, TestbedError> {
        let name = next_name();
        self.psql("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER}"))?;
        self.psql(&name, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")?;
        Ok(self.named(name))
    }

    fn named(&self, name: String) -> Database {
        let port = self.port;
        Database {
            owner_url: format!("postgres://{OWNER}:{PASSWORD}@127.0.0.1:{port}/{name}"),
            superuser_url: format!("postgres://postgres@127.0.0.1:{port}/{name}"),
            name,
        }
    }

    /// Makes a copy of a database that nobody is connected to: the quickest way to many alike.
    ///
    /// # Errors
    /// [`TestbedError`] when it can't be made.
    pub fn database_like(&self, template: &str) -> Result<Database, TestbedError> {
        let name = next_name();
        self.psql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}"),
        )?;
        Ok(self.named(name))
    }

    /// Drops a database, cutting its connections.
    ///
    /// # Errors
    /// [`TestbedError`] when it can't be dropped.
    pub fn drop_database(&self, database: &Database) -> Result<(), TestbedError> {
        let name = &database.name;
        self.psql(
            "postgres",
            &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        )
        .map(|_| ())
    }

    /// Runs SQL as the superuser and returns what `psql` prints, without headers.
    ///
    /// # Errors
    /// [`TestbedError`] with the server's message.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, TestbedError> {
        let mut psql = Command::new(programs::postgres("psql")?);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p"])
            .arg(self.port.to_string())
            .args(["-d", database, "-c", sql]);
        run("psql", psql, None)
    }

    /// The server's directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

fn next_name() -> String {
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    format!("caracal_{}_{number}", std::process::id())
}

fn run(
    name: &'static str,
    mut command: Command,
    user: Option<User>,
) -> Result<String, TestbedError> {
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid).current_dir("/");
    }
    let output = command.output().map_err(|e| TestbedError::Io(name, e))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    } else {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(TestbedError::Failed(name, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_belongs_to_a_login_that_is_no_superuser() {
        let postgres = Postgres::shared().unwrap();
        let database = postgres.database().unwrap();
        let said = postgres.psql(
            &database.name,
            "SELECT r.rolname, r.rolsuper FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba \
             WHERE d.datname = current_database()",
        );
        assert_eq!(said.unwrap(), "caracal_owner|f");
        postgres.drop_database(&database).unwrap();
    }

    #[test]
    fn data_survives_a_stop_and_a_start() {
        let mut postgres = Postgres::start(true).unwrap();
        postgres
            .psql("postgres", "CREATE TABLE kept AS SELECT 1 AS n")
            .unwrap();
        postgres.stop(true);
        assert!(postgres.psql("postgres", "SELECT 1").is_err());
        postgres.start_again().unwrap();
        assert_eq!(
            postgres.psql("postgres", "SELECT n FROM kept").unwrap(),
            "1"
        );
    }
}
