//! Where the servers' programs are, and who runs them.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::TestbedError;

/// A user of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The user that servers run as: nobody special, unless this process is root's.
pub(crate) fn server_user() -> Option<User> {
    let own = std::fs::metadata("/proc/self").ok()?.uid();
    if own != 0 {
        return None;
    }
    let table = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| user(&table, name))
}

fn user(table: &str, name: &str) -> Option<User> {
    let row = table
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = row.split(':').skip(2);
    Some(User {
        uid: fields.next()?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
    })
}

/// A program of PostgreSQL: Debian keeps servers of each version in a directory of its own.
pub(crate) fn postgres(name: &'static str) -> Result<PathBuf, TestbedError> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|found| found.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    versions.sort_by_key(|path| {
        let version = path.file_name().and_then(|name| name.to_str());
        version.and_then(|text| text.parse::<u32>().ok())
    });
    let packaged = versions
        .into_iter()
        .rev()
        .map(|version| version.join("bin"));
    find(name, packaged).ok_or(TestbedError::Missing(name, "postgresql"))
}

/// A program on the path.
pub(crate) fn on_path(name: &'static str, package: &'static str) -> Result<PathBuf, TestbedError> {
    find(name, std::iter::empty()).ok_or(TestbedError::Missing(name, package))
}

fn find(name: &str, first: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    first
        .chain(std::env::split_paths(&path))
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
}

/// A port that nobody listens on now.
pub(crate) fn free_port() -> Result<u16, TestbedError> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address.map_err(|e| TestbedError::Io("port", e))?.port())
}
