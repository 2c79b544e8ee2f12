//! `caracal backup`: a consistent copy of what can't be made again, in a directory of its own.
//!
//! | deployment | what is in it |
//! |---|---|
//! | embedded | the store (one snapshot, the stack may run), the secrets, the local audit log, the settings |
//! | PostgreSQL | one `pg_dump` of the schema in its custom format; secrets are the secret manager's |
//!
//! `manifest.json` names every file with its size and SHA-256. The directory appears under its name
//! only when it is complete, and everything in it is readable for its owner alone.

pub(crate) mod audit_log;
mod embedded;
pub(crate) mod manifest;
pub(crate) mod postgres;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caracal_core::{Clock, SystemClock};

use crate::CommandResult;
use crate::cli::BackupArgs;
use crate::config::Environment;
use crate::deployment::Deployment;
use crate::home::private_directory;
use manifest::{Manifest, Shape};

pub(crate) async fn run(environment: &Environment, args: &BackupArgs) -> CommandResult {
    let deployment = Deployment::of(environment, args.embedded)?;
    let environment = deployment.environment(environment);
    if args.out.exists() {
        let taken = format!("{} exists; a backup replaces nothing", args.out.display());
        return Err(taken.into());
    }
    let part = unfinished(&args.out)?;
    let _ = std::fs::remove_dir_all(&part);
    private_directory(&part)?;
    let written = match &deployment {
        Deployment::Embedded(home) => embedded::write(home, &environment, &part).await,
        Deployment::Postgres => postgres::dump(&environment, &part).await,
    };
    let content = match written {
        Ok(content) => content,
        Err(error) => {
            let _ = std::fs::remove_dir_all(&part);
            return Err(error);
        }
    };
    let shape = match deployment {
        Deployment::Embedded(_) => Shape::Embedded,
        Deployment::Postgres => Shape::Postgres,
    };
    let manifest = Manifest::of(&part, shape, content, SystemClock.now())?;
    manifest.write(&part)?;
    std::fs::rename(&part, &args.out)?;
    crate::say(&if args.json {
        manifest.json()
    } else {
        format!("✓ backup at {}\n{}", args.out.display(), manifest.text())
    });
    Ok(ExitCode::SUCCESS)
}

/// Where an unfinished backup is written: beside the finished one, on the same file system.
fn unfinished(out: &Path) -> Result<PathBuf, String> {
    let name = out
        .file_name()
        .ok_or_else(|| format!("{} names no directory", out.display()))?;
    let mut part = std::ffi::OsString::from(".");
    part.push(name);
    part.push(".part");
    Ok(out.with_file_name(part))
}
