//! What can go wrong in the store.

use thiserror::Error;

/// Which uniqueness rule a write would have broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UniqueConstraint {
    /// A zone's slug, over all zones, archived ones included.
    ZoneSlug,
    /// The name of a live managed application, whatever its case.
    ApplicationName,
    /// The identifier of a live provider.
    ProviderIdentifier,
    /// The identifier of a live resource.
    ResourceIdentifier,
    /// The name of a live policy.
    PolicyName,
    /// The name of a live policy set.
    PolicySetName,
    /// The digest of an admin token.
    AdminTokenDigest,
    /// A receipt for the same idempotency key.
    IdempotencyKey,
    /// An audit event of the same id in the zone.
    AuditEventId,
    /// A row of the same id, or another key that only a programming error can repeat.
    Id,
}

/// Why the store could not answer.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// The store can't be reached, is busy beyond the bounded wait, or its disk is full: answer 503.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The write would break a uniqueness rule.
    #[error("already taken: {0:?}")]
    Conflict(UniqueConstraint),
    /// A row that the program can't have written, or a statement that it must not make: answer 500.
    #[error("the store holds or was given something impossible in {table}: {detail}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// What is wrong.
        detail: String,
    },
}

impl StoreError {
    /// A [`StoreError::Corrupt`].
    pub(crate) fn corrupt(table: &'static str, detail: impl Into<String>) -> Self {
        Self::Corrupt {
            table,
            detail: detail.into(),
        }
    }
}

/// Why a store was not opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds the file.
    #[error("{path} is in use by {holder}; one process at a time may open it")]
    Locked {
        /// The file.
        path: String,
        /// The holder, as it named itself.
        holder: String,
    },
    /// The file or its lock could not be created or read.
    #[error("cannot open {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The schema is newer than this build knows: run the newer build, this one would misread it.
    #[error("the store has schema version {found}, this build knows up to {known}")]
    SchemaTooNew {
        /// The store's version.
        found: i64,
        /// The newest version that this build knows.
        known: i64,
    },
    /// An applied migration is not the one that this build carries.
    #[error("migration {version} ({name}) was applied with another content")]
    MigrationChanged {
        /// Its number.
        version: i64,
        /// Its name.
        name: String,
    },
    /// The schema is older than this build needs.
    #[error("the database's schema is not up to date; run `caracal migrate`")]
    NotMigrated,
    /// The database holds another product's tables.
    #[error(
        "the database holds another product's schema, which is not adopted; use an empty database"
    )]
    ForeignSchema,
    /// The login may not act as the service's role.
    #[error("the database login can't act as {role}: {detail}")]
    Role {
        /// The role.
        role: &'static str,
        /// The database's answer.
        detail: String,
    },
    /// The login sees every row whatever the rules say.
    #[error(
        "the database login {login} bypasses row-level security; use one that is no superuser and \
         has no BYPASSRLS, or act as a service's role"
    )]
    Unbound {
        /// The login.
        login: String,
    },
    /// The database's URL can't be used. The text never holds the URL.
    #[error("the database URL can't be used: {0}")]
    Url(String),
    /// Anything else.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(inner) => inner,
            other => Self::Unavailable(other.to_string()),
        }
    }
}
