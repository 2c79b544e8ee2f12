//! Where the database is and how it is used.

use std::path::PathBuf;
use std::time::Duration;

use caracal_core::Secret;

/// The database role that a service acts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceRole {
    /// The Admin API.
    Api,
    /// The STS.
    Sts,
    /// The Gateway.
    Gateway,
    /// The Audit service.
    Audit,
    /// The Coordinator.
    Coordinator,
}

impl ServiceRole {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Api,
        Self::Sts,
        Self::Gateway,
        Self::Audit,
        Self::Coordinator,
    ];

    /// The role's name in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Api => "caracalapi",
            Self::Sts => "caracalsts",
            Self::Gateway => "caracalgateway",
            Self::Audit => "caracalaudit",
            Self::Coordinator => "caracalcoordinator",
        }
    }

    /// Where the role finds its tables: views that hide secrets come first.
    pub(crate) fn search_path(role: Option<Self>) -> &'static str {
        match role {
            Some(Self::Sts) => "caracal_sts, caracal",
            Some(Self::Gateway | Self::Coordinator) => "caracal_plain, caracal",
            Some(Self::Api | Self::Audit) | None => "caracal",
        }
    }
}

/// Where the database is and how it is used.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `postgres://login:password@host:port/database`, with any of the parameters `sslmode`
    /// (`disable`, `prefer`, `require`, `verify-ca`, `verify-full`), `sslrootcert`, `sslcert`,
    /// `sslkey`, `connect_timeout`, `application_name`, `options`, `host`, `hostaddr`, `port`,
    /// `dbname`, `user` and `password`. Any other is refused.
    pub url: Secret<String>,
    /// The role to act as; the login must be a member of it, or be it. `None` acts with all that the
    /// login may do, which suits a process that holds every service.
    pub role: Option<ServiceRole>,
    /// A PEM file of certificate authorities to trust besides the public ones and those of
    /// `sslrootcert`. Certificates are checked with `verify-ca` and `verify-full` only.
    pub extra_ca: Option<PathBuf>,
    /// What the server's operator sees in `pg_stat_activity`.
    pub application_name: String,
    /// The most connections in the pools, at least 2: half of them for units, half for reads. The
    /// change feed takes two more.
    pub max_connections: u32,
    /// Connections of each half that are kept open when idle.
    pub min_connections: u32,
    /// How long a connection outside the pools may take, unless the URL says it.
    pub connect_timeout: Duration,
    /// How long a unit or a read waits for its turn or a connection.
    pub acquire_timeout: Duration,
    /// When an idle connection beyond the minimum is closed.
    pub idle_timeout: Duration,
    /// When a connection is replaced.
    pub max_lifetime: Duration,
    /// The longest that a statement may run.
    pub statement_timeout: Duration,
    /// The longest that a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// The longest that a unit may be idle between two statements.
    pub idle_in_transaction_timeout: Duration,
    /// Prepared statements kept for each connection; 0 where a pooler between does not keep them.
    pub statement_cache: usize,
    /// The number of the advisory lock under which migrations run.
    pub migration_lock: i64,
}

/// The number that migrations of this product lock unless told otherwise.
const MIGRATION_LOCK: i64 = 4_732_518_903_281_471;

impl PostgresOptions {
    /// The defaults for a database.
    #[must_use]
    pub fn new(url: impl Into<Secret<String>>) -> Self {
        Self {
            url: url.into(),
            role: None,
            extra_ca: None,
            application_name: "caracal".to_owned(),
            max_connections: 20,
            min_connections: 2,
            connect_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            max_lifetime: Duration::from_secs(1800),
            statement_timeout: Duration::from_secs(15),
            lock_timeout: Duration::from_secs(5),
            idle_in_transaction_timeout: Duration::from_secs(30),
            statement_cache: 256,
            migration_lock: MIGRATION_LOCK,
        }
    }

    /// The same, acting as a service.
    #[must_use]
    pub fn acting_as(mut self, role: ServiceRole) -> Self {
        self.role = Some(role);
        self
    }
}
