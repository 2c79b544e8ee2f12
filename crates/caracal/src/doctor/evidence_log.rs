//! The local audit log: what waits in it, and whether it can take more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caracal_core::{Clock, SystemClock, Timestamp};
use rustix::fs::{Access, access};

use super::check::{Check, bytes};
use super::disk;
use crate::config::{Environment, Role};
use crate::home::Home;

const NAME: &str = "audit log";

/// A segment that waits longer says that nothing takes events away.
const OLD: Duration = Duration::from_secs(300);

/// What lies in a log's directory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Backlog {
    segments: u64,
    bytes: u64,
    oldest: Option<Timestamp>,
    quarantined: u64,
}

pub(super) fn examine(
    environment: &Environment,
    home: Option<&Home>,
    roles: &BTreeSet<Role>,
) -> Vec<Check> {
    let writers = [Role::Sts, Role::Gateway, Role::Api, Role::Coordinator];
    if !writers.iter().any(|role| roles.contains(role)) {
        return Vec::new();
    }
    let directory = environment
        .get("AUDIT_REPLAY_DIR")
        .map(PathBuf::from)
        .or_else(|| home.map(Home::journal))
        .unwrap_or_else(|| PathBuf::from("/var/lib/caracal/audit-replay"));
    if !directory.exists() {
        let found = format!("{} does not exist here", directory.display());
        return vec![match home {
            Some(_) => Check::ok(NAME, found),
            None => Check::warn(
                NAME,
                found,
                "run this where the role runs, or set AUDIT_REPLAY_DIR",
            ),
        }];
    }
    let mut checks = vec![backlog_of(&directory)];
    checks.push(disk::examine("audit log disk", &directory));
    checks
}

fn backlog_of(directory: &Path) -> Check {
    let shown = directory.display();
    if access(directory, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return Check::fail(
            NAME,
            format!("{shown} is not writable for this user"),
            "give the directory to the role's user, mode 0700",
        );
    }
    let backlog = match measure(directory) {
        Ok(backlog) => backlog,
        Err(error) => {
            return Check::fail(
                NAME,
                format!("{shown}: {error}"),
                "make the directory readable for this user",
            );
        }
    };
    let age = backlog
        .oldest
        .map_or(Duration::ZERO, |at| SystemClock.now().since(at));
    let found = format!(
        "{shown}: {} segments, {}, oldest {} s",
        backlog.segments,
        bytes(backlog.bytes),
        age.as_secs()
    );
    if backlog.quarantined > 0 {
        return Check::warn(
            NAME,
            format!(
                "{found}; {} damaged pieces in quarantine",
                backlog.quarantined
            ),
            "keep the quarantine directory for the investigation, then remove it",
        );
    }
    if backlog.segments > 1 && age > OLD {
        return Check::warn(
            NAME,
            found,
            "see whether the Audit role is ready: nothing is lost, but nothing is stored either",
        );
    }
    Check::ok(NAME, found)
}

/// Counts the segments of `directory` and of the directories in it.
fn measure(directory: &Path) -> std::io::Result<Backlog> {
    let mut backlog = Backlog::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let metadata = entry.metadata()?;
        if metadata.is_dir() && name.contains("quarantine") {
            backlog.quarantined += u64::try_from(fs::read_dir(entry.path())?.count()).unwrap_or(0);
        } else if metadata.is_dir() {
            let inner = measure(&entry.path())?;
            backlog.segments += inner.segments;
            backlog.bytes += inner.bytes;
            backlog.quarantined += inner.quarantined;
            backlog.oldest = backlog.oldest.into_iter().chain(inner.oldest).min();
        } else if name.ends_with(".wal") {
            backlog.segments += 1;
            backlog.bytes += metadata.len();
            let written = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
            let micros = written.map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX));
            let written = Some(Timestamp::from_micros(micros));
            backlog.oldest = backlog.oldest.into_iter().chain(written).min();
        }
    }
    Ok(backlog)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn segments_are_counted_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("00000000000000000001.wal"), b"12345").unwrap();
        let backlog = measure(directory.path()).unwrap();
        assert_eq!((backlog.segments, backlog.bytes), (1, 5));
        assert_eq!(backlog_of(directory.path()).verdict, Verdict::Ok);
        let quarantine = directory.path().join("quarantine");
        fs::create_dir(&quarantine).unwrap();
        fs::write(quarantine.join("piece"), b"x").unwrap();
        assert_eq!(backlog_of(directory.path()).verdict, Verdict::Warn);
    }
}
