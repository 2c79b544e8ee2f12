//! Room on a file system.

use std::path::Path;

use super::check::{Check, bytes};

const SCARCE: u64 = 1024 * 1024 * 1024;
const EMPTY: u64 = 128 * 1024 * 1024;

/// How much room there is where `path` lives.
pub(super) fn examine(name: &'static str, path: &Path) -> Check {
    let Ok(found) = rustix::fs::statvfs(path) else {
        let found = format!("{} can't be looked at", path.display());
        return Check::fail(name, found, "make the directory reachable for this user");
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} free at {}", bytes(free), path.display());
    let remedy = "free space or grow the volume: a full disk refuses every decision";
    match free {
        free if free < EMPTY => Check::fail(name, text, remedy),
        free if free < SCARCE => Check::warn(name, text, remedy),
        _ => Check::ok(name, text),
    }
}
