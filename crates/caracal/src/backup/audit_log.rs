//! A copy of the local audit log while its owner writes to it.
//!
//! Segments only grow, and one is removed only after the store has all of it. So what was there
//! before the store's snapshot, together with what is there after it, misses nothing that the
//! snapshot lacks; a record that was cut in the middle is cut off when the log is opened.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::home::private_directory;

/// The lock of the log's owner.
const LOCK: &str = "lock";

/// Copies every file of `from` that `to` lacks or has shorter.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    private_directory(to)?;
    for entry in entries {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&source, &target)?;
        } else if entry.file_name() != LOCK {
            match copy_file(&source, &target) {
                // Stored and removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => copied?,
            }
        }
    }
    Ok(())
}

/// Copies a file so that only its owner may read it, and syncs it.
pub(crate) fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    let mut target = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_or_after_is_in_the_copy() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = |name: &str| from.path().join(name);
        fs::write(file("1.wal"), "first").unwrap();
        fs::write(file("2.wal"), "sec").unwrap();
        fs::write(file("lock"), "").unwrap();
        copy(from.path(), to.path()).unwrap();
        fs::remove_file(file("1.wal")).unwrap();
        fs::write(file("2.wal"), "second").unwrap();
        fs::write(file("3.wal"), "third").unwrap();
        copy(from.path(), to.path()).unwrap();
        let read = |name: &str| fs::read_to_string(to.path().join(name)).ok();
        assert_eq!(read("1.wal").as_deref(), Some("first"));
        assert_eq!(read("2.wal").as_deref(), Some("second"));
        assert_eq!(read("3.wal").as_deref(), Some("third"));
        assert_eq!(read("lock"), None);
    }
}
