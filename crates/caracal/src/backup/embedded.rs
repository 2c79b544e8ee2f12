//! The backup of an embedded stack, which may run meanwhile.

use std::fs;
use std::path::{Path, PathBuf};

use caracal_store::copy_sqlite;

use super::audit_log::{self, copy_file};
use super::manifest::Content;
use crate::config::Environment;
use crate::home::{Home, private_directory};

/// The store's file in a backup.
pub(crate) const STORE: &str = "caracal.db";
/// The local audit log's directory in a backup.
pub(crate) const LOG: &str = "audit-replay";
/// Files of the home directory that a backup takes as they are.
const FILES: [&str; 2] = ["caracal.env", "runtime.json"];

pub(super) async fn write(
    home: &Home,
    environment: &Environment,
    to: &Path,
) -> Result<Content, Box<dyn std::error::Error>> {
    if !home.database().exists() {
        return Err(format!("{} holds no store", home.path().display()).into());
    }
    let log = environment
        .get("AUDIT_REPLAY_DIR")
        .map_or_else(|| home.journal(), PathBuf::from);
    audit_log::copy(&log, &to.join(LOG))?;
    let store = to.join(STORE);
    // Made beforehand, so that it is never readable for others.
    fs::write(&store, b"")?;
    fs::set_permissions(&store, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let schema = copy_sqlite(&home.database(), &store).await?;
    fs::File::open(&store)?.sync_all()?;
    audit_log::copy(&log, &to.join(LOG))?;

    let secrets = home.path().join("secrets");
    private_directory(&to.join("secrets"))?;
    for entry in fs::read_dir(&secrets)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let target = to.join("secrets").join(entry.file_name());
            copy_file(&entry.path(), &target)?;
        }
    }
    for name in FILES {
        let source = home.path().join(name);
        if source.exists() {
            copy_file(&source, &to.join(name))?;
        }
    }
    Ok(Content {
        schema,
        server: None,
        tool: None,
    })
}
