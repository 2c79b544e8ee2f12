//! The home directory of the embedded stack.
//!
//! `CARACAL_HOME`, else `$XDG_DATA_HOME/caracal`, else `~/.local/share/caracal`. It holds the
//! generated secrets (0600, made once, never rewritten), the SQLite file, the local audit log, and
//! while the stack runs, where it listens. One process owns it at a time through an OS file lock, so
//! a dead owner never blocks the next one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use caracal_core::{Clock, Random, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Environment, Role};

/// File name in `secrets/` and the variable that it feeds; each holds 32 random bytes as hex.
const SECRETS: [(&str, &str); 11] = [
    ("caracalAdminToken", "CARACAL_ADMIN_TOKEN"),
    ("caracalCoordinatorToken", "CARACAL_COORDINATOR_TOKEN"),
    ("metricsBearer", "METRICS_BEARER"),
    ("secretStoreKek", "SECRET_STORE_KEK"),
    ("auditHmacKey", "AUDIT_HMAC_KEY"),
    ("streamsHmacKey", "STREAMS_HMAC_KEY"),
    ("idempotencyHmacKey", "IDEMPOTENCY_HMAC_KEY"),
    ("auditCheckpointKey", "AUDIT_CHECKPOINT_KEY"),
    ("gatewayStsHmacKey", "GATEWAY_STS_HMAC_KEY"),
    ("stsAdminToken", "STS_ADMIN_TOKEN"),
    ("auditAdminToken", "AUDIT_ADMIN_TOKEN"),
];

/// File in `secrets/` that the operator makes while a key is being rotated, and its variable.
const PREVIOUS_KEK: (&str, &str) = ("secretStoreKekPrevious", "SECRET_STORE_KEK_PREVIOUS");

const OPERATOR_FILE: &str = "\
# Settings of the embedded stack: NAME=value, one a line. Variables of the process win.
# `caracal config print --schema` lists every name.
#MAX_AGENTS_PER_ZONE=50
#STS_MINT_RATE_LIMIT_PER_MIN=1000
";

/// The home directory can't be used.
#[derive(Debug, Error)]
pub(crate) enum HomeError {
    #[error("no home directory: set CARACAL_HOME")]
    Nowhere,
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{path} was last used by version {found}; this is {mine}. Use the newer binary, or another CARACAL_HOME"
    )]
    Downgrade {
        path: PathBuf,
        found: String,
        mine: &'static str,
    },
    #[error("the stack already runs from {0}; `caracal down` stops it")]
    Running(PathBuf),
}

/// Where the running stack listens; `run.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunFile {
    pub(crate) pid: u32,
    pub(crate) version: String,
    pub(crate) started_at: Timestamp,
    pub(crate) addresses: BTreeMap<String, SocketAddr>,
    pub(crate) issuer: String,
}

impl RunFile {
    pub(crate) fn address(&self, role: Role) -> Option<SocketAddr> {
        self.addresses.get(role.name()).copied()
    }
}

#[derive(Serialize, Deserialize)]
struct RuntimeFile {
    version: String,
    #[serde(rename = "updatedAt")]
    updated_at: Timestamp,
}

/// An existing home directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

/// Ownership of a home directory; ends with the process or on drop.
#[derive(Debug)]
pub(crate) struct HomeLock(#[allow(dead_code, reason = "held, not read")] File);

impl Home {
    /// The directory that the environment names; it need not exist yet.
    pub(crate) fn locate(environment: &Environment) -> Result<Self, HomeError> {
        let named = environment.get("CARACAL_HOME").map(PathBuf::from);
        let data = || {
            environment
                .get("XDG_DATA_HOME")
                .map(|dir| Path::new(dir).join("caracal"))
        };
        let user = || {
            environment
                .get("HOME")
                .map(|dir| Path::new(dir).join(".local/share/caracal"))
        };
        named
            .or_else(data)
            .or_else(user)
            .map(Self)
            .ok_or(HomeError::Nowhere)
    }

    /// The directory at a path.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("caracal.db")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.0.join("audit-replay")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("caracal.log")
    }

    pub(crate) fn secret_path(&self, name: &str) -> PathBuf {
        self.0.join("secrets").join(name)
    }

    /// Makes what is missing, and refuses a directory that a newer binary has used. Returns whether
    /// the directory is new.
    pub(crate) fn provision(
        &self,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<bool, HomeError> {
        let fresh = !self.0.join("secrets").exists();
        self.directory(&self.0)?;
        self.refuse_downgrade()?;
        self.directory(&self.0.join("secrets"))?;
        for (name, _) in SECRETS {
            let path = self.secret_path(name);
            if !path.exists() {
                let value = hex::encode(caracal_core::random::bytes::<32>(random));
                self.write_once(&path, value.as_bytes())?;
            }
        }
        let operator_file = self.0.join("caracal.env");
        if !operator_file.exists() {
            self.write_once(&operator_file, OPERATOR_FILE.as_bytes())?;
        }
        let runtime = RuntimeFile {
            version: crate::version::VERSION.to_owned(),
            updated_at: clock.now(),
        };
        self.replace(
            "runtime.json",
            &serde_json::to_vec(&runtime).unwrap_or_default(),
        )?;
        Ok(fresh)
    }

    /// Gives unset variables the home's values.
    pub(crate) fn feed(&self, environment: &mut Environment) {
        environment.fill_from_file(&self.0.join("caracal.env"));
        for (name, variable) in SECRETS {
            if environment.get(variable).is_none() {
                let path = self.secret_path(name).to_string_lossy().into_owned();
                environment.set_default(&format!("{variable}_FILE"), path);
            }
        }
        let previous = self.secret_path(PREVIOUS_KEK.0);
        if environment.get(PREVIOUS_KEK.1).is_none() && previous.exists() {
            let name = format!("{}_FILE", PREVIOUS_KEK.1);
            environment.set_default(&name, previous.to_string_lossy());
        }
        environment.set_default("AUDIT_REPLAY_DIR", self.journal().to_string_lossy());
    }

    /// Takes the directory for this process.
    pub(crate) fn lock(&self) -> Result<HomeLock, HomeError> {
        let path = self.0.join(".lock");
        let file = self.open_private(&path, false)?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock(file)),
            Err(fs::TryLockError::WouldBlock) => Err(HomeError::Running(self.0.clone())),
            Err(fs::TryLockError::Error(source)) => Err(HomeError::Io { path, source }),
        }
    }

    /// Waits until no process owns the directory. Blocks; call it off the async threads.
    pub(crate) fn wait_released(&self) -> Result<(), HomeError> {
        let path = self.0.join(".lock");
        let file = self.open_private(&path, false)?;
        file.lock().map_err(|source| HomeError::Io { path, source })
    }

    /// The running stack, as long as its owner lives.
    pub(crate) fn running(&self) -> Option<RunFile> {
        if !self.0.join(".lock").exists() || self.lock().is_ok() {
            return None;
        }
        serde_json::from_slice(&fs::read(self.0.join("run.json")).ok()?).ok()
    }

    pub(crate) fn write_run_file(&self, run: &RunFile) -> Result<(), HomeError> {
        self.replace(
            "run.json",
            &serde_json::to_vec_pretty(run).unwrap_or_default(),
        )
    }

    pub(crate) fn remove_run_file(&self) {
        let _ = fs::remove_file(self.0.join("run.json"));
    }

    fn refuse_downgrade(&self) -> Result<(), HomeError> {
        let path = self.0.join("runtime.json");
        let Ok(bytes) = fs::read(&path) else {
            return Ok(());
        };
        let Ok(runtime) = serde_json::from_slice::<RuntimeFile>(&bytes) else {
            return Ok(());
        };
        if crate::version::is_older(crate::version::VERSION, &runtime.version) {
            let mine = crate::version::VERSION;
            return Err(HomeError::Downgrade {
                path,
                found: runtime.version,
                mine,
            });
        }
        Ok(())
    }

    fn directory(&self, path: &Path) -> Result<(), HomeError> {
        private_directory(path).map_err(|source| HomeError::Io {
            path: path.to_owned(),
            source,
        })
    }

    pub(crate) fn open_private(&self, path: &Path, append: bool) -> Result<File, HomeError> {
        OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .append(append)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| HomeError::Io {
                path: path.to_owned(),
                source,
            })
    }

    fn write_once(&self, path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
        let file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path);
        file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .map_err(|source| HomeError::Io {
                path: path.to_owned(),
                source,
            })
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        let (path, part) = (self.0.join(name), self.0.join(format!(".{name}.part")));
        let write = || {
            fs::write(&part, bytes)?;
            fs::rename(&part, &path)
        };
        write().map_err(|source| HomeError::Io {
            path: path.clone(),
            source,
        })
    }
}

/// Makes a directory that only its owner may enter, and those above it.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::{SystemClock, SystemRandom};
    use std::os::unix::fs::PermissionsExt;

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home(directory.path().join("caracal"));
        (directory, home)
    }

    #[test]
    fn secrets_are_private_and_made_once() {
        let (_keep, home) = home();
        assert!(home.provision(&SystemClock, &SystemRandom).unwrap());
        let path = home.secret_path("secretStoreKek");
        let first = fs::read(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(!home.provision(&SystemClock, &SystemRandom).unwrap());
        assert_eq!(fs::read(&path).unwrap(), first);
    }

    #[test]
    fn an_older_binary_refuses_and_changes_nothing() {
        let (_keep, home) = home();
        home.provision(&SystemClock, &SystemRandom).unwrap();
        let newer = br#"{"version":"999.0.0","updatedAt":"2026-01-01T00:00:00.000Z"}"#;
        fs::write(home.path().join("runtime.json"), newer).unwrap();
        let error = home.provision(&SystemClock, &SystemRandom).unwrap_err();
        assert!(matches!(error, HomeError::Downgrade { .. }), "{error}");
        assert_eq!(fs::read(home.path().join("runtime.json")).unwrap(), newer);
    }

    #[test]
    fn one_owner_at_a_time() {
        let (_keep, home) = home();
        home.provision(&SystemClock, &SystemRandom).unwrap();
        let owner = home.lock().unwrap();
        assert!(matches!(home.lock(), Err(HomeError::Running(_))));
        drop(owner);
        assert!(home.lock().is_ok());
    }
}
