//! A server's directory.

use std::path::Path;

use tempfile::TempDir;

use crate::TestbedError;
use crate::programs::User;

/// A temporary directory that only the server's user reads.
pub(crate) fn of(user: Option<User>) -> Result<TempDir, TestbedError> {
    let directory = tempfile::Builder::new()
        .prefix("caracal-testbed-")
        .tempdir()
        .map_err(|e| TestbedError::Io("directory", e))?;
    if let Some(user) = user {
        std::os::unix::fs::chown(directory.path(), Some(user.uid), Some(user.gid))
            .map_err(|e| TestbedError::Io("directory", e))?;
    }
    Ok(directory)
}

/// The end of a log file, for an error message.
pub(crate) fn log_tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
