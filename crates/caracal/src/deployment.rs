//! What an operator's tool works on: the embedded stack of the home directory, or PostgreSQL.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::{Secret, SystemClock, SystemRandom};
use caracal_crypto::kek::KekError;
use caracal_crypto::{Kek, KeyRing};
use caracal_store::{OpenError, PostgresOptions, Store};
use thiserror::Error;

use crate::config::{ConfigError, Environment};
use crate::home::{Home, HomeError, HomeLock};

/// The variables that name a PostgreSQL server, for any of its users.
const DATABASE_VARIABLES: [&str; 7] = [
    "CARACAL_MIGRATION_DATABASE_URL",
    "DATABASE_URL",
    "CARACAL_API_DATABASE_URL",
    "CARACAL_STS_DATABASE_URL",
    "CARACAL_GATEWAY_DATABASE_URL",
    "CARACAL_AUDIT_DATABASE_URL",
    "CARACAL_COORDINATOR_DATABASE_URL",
];

/// The longest that a statement of a tool may run.
const STATEMENT: Duration = Duration::from_secs(300);

/// A deployment can't be worked on.
#[derive(Debug, Error)]
pub(crate) enum DeploymentError {
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("{0} holds no store; `caracal up` makes one, CARACAL_HOME names another directory")]
    NoStore(PathBuf),
    #[error("the store: {0}")]
    Open(#[from] OpenError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}: {1}")]
    Kek(&'static str, KekError),
    #[error("SECRET_STORE_KEK is not set (or SECRET_STORE_KEK_FILE)")]
    NoKek,
    #[error(
        "no administrative login: set DATABASE_URL or CARACAL_MIGRATION_DATABASE_URL (or either with \
         _FILE) to the login that owns the schema"
    )]
    NoDatabase,
}

/// The state that a tool works on.
#[derive(Debug, Clone)]
pub(crate) enum Deployment {
    /// One SQLite file in a home directory.
    Embedded(Home),
    /// The PostgreSQL server that the environment names.
    Postgres,
}

/// An open store, and what keeps others from it meanwhile.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Store,
    _lock: Option<HomeLock>,
}

impl Deployment {
    /// PostgreSQL when the environment names one, else the home directory; `embedded` insists on the
    /// home directory.
    pub(crate) fn of(environment: &Environment, embedded: bool) -> Result<Self, HomeError> {
        let named = DATABASE_VARIABLES.iter().any(|name| {
            environment.get(name).is_some() || environment.get(&format!("{name}_FILE")).is_some()
        });
        if named && !embedded {
            Ok(Self::Postgres)
        } else {
            Ok(Self::Embedded(Home::locate(environment)?))
        }
    }

    /// The environment as the deployment's roles see it.
    pub(crate) fn environment(&self, environment: &Environment) -> Environment {
        let mut environment = environment.clone();
        if let Self::Embedded(home) = self {
            home.feed(&mut environment);
        }
        environment
    }

    /// Opens the store to write. An embedded stack must not run: its process owns the file.
    pub(crate) async fn open(&self, environment: &Environment) -> Result<Opened, DeploymentError> {
        match self {
            Self::Embedded(home) => {
                if !home.database().exists() {
                    return Err(DeploymentError::NoStore(home.path().to_owned()));
                }
                let lock = home.lock()?;
                let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
                let store = Store::open_sqlite(&home.database(), clock, random).await?;
                Ok(Opened {
                    store: keyed(store, environment)?,
                    _lock: Some(lock),
                })
            }
            Self::Postgres => {
                let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
                let options = owner_options(environment)?;
                let store = Store::open_postgres(options, clock, random).await?;
                Ok(Opened {
                    store: keyed(store, environment)?,
                    _lock: None,
                })
            }
        }
    }
}

/// The administrative login: the one that owns the schema.
pub(crate) fn owner_options(environment: &Environment) -> Result<PostgresOptions, DeploymentError> {
    let url = match environment.secret("CARACAL_MIGRATION_DATABASE_URL")? {
        Some(url) => url,
        None => environment
            .secret("DATABASE_URL")?
            .ok_or(DeploymentError::NoDatabase)?,
    };
    Ok(options(environment, url))
}

/// How a tool uses a database: few connections, patient statements.
pub(crate) fn options(environment: &Environment, url: Secret<String>) -> PostgresOptions {
    PostgresOptions {
        extra_ca: environment
            .get("CARACAL_TLS_EXTRA_CA_FILE")
            .map(PathBuf::from),
        application_name: "caracal-tool".to_owned(),
        max_connections: 4,
        min_connections: 0,
        statement_timeout: STATEMENT,
        ..PostgresOptions::new(url)
    }
}

/// Signs the admin audit chain with the audit key, where there is one.
pub(crate) fn keyed(store: Store, environment: &Environment) -> Result<Store, ConfigError> {
    let key = environment.secret("AUDIT_HMAC_KEY")?;
    Ok(match key.map(|key| hex::decode(key.expose())) {
        Some(Ok(key)) => store.with_admin_audit_key(key.into()),
        _ => store,
    })
}

/// The key-encryption keys that the environment gives.
#[derive(Debug)]
pub(crate) struct Keks {
    current: Secret<String>,
    previous: Option<Secret<String>>,
}

impl Keks {
    pub(crate) fn of(environment: &Environment) -> Result<Self, DeploymentError> {
        let current = environment
            .secret("SECRET_STORE_KEK")?
            .ok_or(DeploymentError::NoKek)?;
        let keks = Self {
            current,
            previous: environment.secret("SECRET_STORE_KEK_PREVIOUS")?,
        };
        keks.ring()?;
        Ok(keks)
    }

    /// Whether a rotation is under way.
    pub(crate) fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// Both keys.
    pub(crate) fn ring(&self) -> Result<KeyRing, DeploymentError> {
        let previous = self.previous.as_ref();
        let previous = previous.map(|hex| kek("SECRET_STORE_KEK_PREVIOUS", hex));
        Ok(KeyRing::new(
            kek("SECRET_STORE_KEK", &self.current)?,
            previous.transpose()?,
        ))
    }

    /// The current key alone.
    pub(crate) fn current(&self) -> Result<KeyRing, DeploymentError> {
        Ok(KeyRing::new(kek("SECRET_STORE_KEK", &self.current)?, None))
    }
}

fn kek(name: &'static str, hex: &Secret<String>) -> Result<Kek, DeploymentError> {
    Kek::from_hex(hex).map_err(|error| DeploymentError::Kek(name, error))
}
