//! What a backup holds, and whether it still does.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use caracal_core::Timestamp;
use caracal_store::SchemaMigration;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The manifest's name.
const NAME: &str = "manifest.json";
/// The layout that this version writes and reads.
const FORMAT: u32 = 1;
/// Largest manifest that is read, bytes.
const MAX_MANIFEST: u64 = 16 * 1024 * 1024;

/// Which deployment a backup is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shape {
    Embedded,
    Postgres,
}

/// What was written, beyond its files.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) schema: Vec<SchemaMigration>,
    pub(crate) server: Option<String>,
    pub(crate) tool: Option<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    bytes: u64,
    sha256: String,
}

/// The manifest of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    pub(crate) shape: Shape,
    pub(crate) created_at: Timestamp,
    version: String,
    pub(crate) schema: Vec<SchemaMigration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<String>,
    files: Vec<Entry>,
}

/// A directory is no backup, or not any more.
#[derive(Debug, Error)]
pub(crate) enum ManifestError {
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    #[error("{0} is no manifest of a backup: {1}")]
    NoManifest(PathBuf, String),
    #[error(
        "the backup has layout {0}, this version reads {FORMAT}; use the version that wrote it"
    )]
    Format(u32),
    #[error("the backup was written by version {0}, which is newer than this one")]
    Newer(String),
    #[error("the manifest names {0}, which leads out of the backup")]
    Outside(PathBuf),
    #[error("{0} is missing from the backup")]
    Missing(PathBuf),
    #[error("{0} is not what was backed up: its size or checksum differs")]
    Changed(PathBuf),
    #[error("{0} is in the backup's directory, but not in its manifest")]
    Unknown(PathBuf),
}

impl Manifest {
    /// Of everything in `directory`.
    pub(crate) fn of(
        directory: &Path,
        shape: Shape,
        content: Content,
        now: Timestamp,
    ) -> Result<Self, ManifestError> {
        let mut files = Vec::new();
        for path in files_below(directory)? {
            let (bytes, sha256) = digest(&directory.join(&path))?;
            files.push(Entry {
                path,
                bytes,
                sha256,
            });
        }
        Ok(Self {
            format: FORMAT,
            shape,
            created_at: now,
            version: crate::version::VERSION.to_owned(),
            schema: content.schema,
            server: content.server,
            tool: content.tool,
            files,
        })
    }

    /// Writes it into the directory that it is of.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), ManifestError> {
        let path = directory.join(NAME);
        let write = || {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            io::Write::write_all(&mut file, self.json().as_bytes())?;
            file.sync_all()?;
            fs::File::open(directory)?.sync_all()
        };
        write().map_err(|error| ManifestError::Io(path.clone(), error))
    }

    /// Reads the manifest of `directory` and checks every file against it.
    pub(crate) fn verified(directory: &Path) -> Result<Self, ManifestError> {
        let manifest = Self::read(&directory.join(NAME))?;
        let mut present: BTreeSet<PathBuf> = files_below(directory)?.into_iter().collect();
        for entry in &manifest.files {
            let plain = |part| matches!(part, Component::Normal(_));
            if !entry.path.components().all(plain) {
                return Err(ManifestError::Outside(entry.path.clone()));
            }
            if !present.remove(&entry.path) {
                return Err(ManifestError::Missing(entry.path.clone()));
            }
            let found = digest(&directory.join(&entry.path))?;
            if found != (entry.bytes, entry.sha256.clone()) {
                return Err(ManifestError::Changed(entry.path.clone()));
            }
        }
        match present.into_iter().next() {
            Some(path) => Err(ManifestError::Unknown(path)),
            None => Ok(manifest),
        }
    }

    fn read(path: &Path) -> Result<Self, ManifestError> {
        let failed = |error| ManifestError::Io(path.to_owned(), error);
        let mut text = Vec::new();
        fs::File::open(path)
            .and_then(|file| file.take(MAX_MANIFEST).read_to_end(&mut text))
            .map_err(failed)?;
        let malformed = |error: serde_json::Error| {
            ManifestError::NoManifest(path.to_owned(), error.to_string())
        };
        let document: serde_json::Value = serde_json::from_slice(&text).map_err(malformed)?;
        let format = document["format"].as_u64().unwrap_or_default();
        if format != u64::from(FORMAT) {
            return Err(ManifestError::Format(u32::try_from(format).unwrap_or(0)));
        }
        let manifest: Self = serde_json::from_value(document).map_err(malformed)?;
        if crate::version::is_older(crate::version::VERSION, &manifest.version) {
            return Err(ManifestError::Newer(manifest.version));
        }
        Ok(manifest)
    }

    /// The paths of the files.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|entry| entry.path.as_path())
    }

    pub(crate) fn json(&self) -> String {
        let document = serde_json::to_value(self).unwrap_or_default();
        format!("{document:#}\n")
    }

    pub(crate) fn text(&self) -> String {
        let bytes: u64 = self.files.iter().map(|entry| entry.bytes).sum();
        let newest = self.schema.last().map_or(0, |row| row.version);
        let shape = match self.shape {
            Shape::Embedded => "embedded stack; it holds the secrets: keep it as safe as they are",
            Shape::Postgres => "PostgreSQL; its key-encryption key is not in it: back that up too",
        };
        format!(
            "  of       {shape}\n  at       {}\n  schema   version {newest}\n  content  {} files, {bytes} bytes\n",
            self.created_at.to_rfc3339_seconds(),
            self.files.len(),
        )
    }
}

/// Every file below `directory` but the manifest, sorted, relative to it.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        let path = directory.join(&inner);
        let failed = |error| ManifestError::Io(path.clone(), error);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let relative = inner.join(entry.file_name());
            if entry.file_type().map_err(failed)?.is_dir() {
                open.push(relative);
            } else if relative != Path::new(NAME) {
                files.push(relative);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn digest(path: &Path) -> Result<(u64, String), ManifestError> {
    let failed = |error| ManifestError::Io(path.to_owned(), error);
    let mut file = fs::File::open(path).map_err(failed)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((bytes, hex::encode(context.finish())));
        }
        bytes += u64::try_from(read).unwrap_or(0);
        context.update(&buffer[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("secrets")).unwrap();
        fs::write(directory.path().join("secrets/key"), "secret").unwrap();
        fs::write(directory.path().join("caracal.db"), "store").unwrap();
        let content = Content {
            schema: Vec::new(),
            server: None,
            tool: None,
        };
        let now = Timestamp::from_seconds(1_767_225_600);
        let manifest = Manifest::of(directory.path(), Shape::Embedded, content, now).unwrap();
        manifest.write(directory.path()).unwrap();
        directory
    }

    #[test]
    fn an_untouched_backup_is_accepted() {
        let directory = backup();
        let manifest = Manifest::verified(directory.path()).unwrap();
        let paths: Vec<_> = manifest.paths().map(Path::to_owned).collect();
        assert_eq!(paths, [Path::new("caracal.db"), Path::new("secrets/key")]);
    }

    #[test]
    fn a_changed_missing_or_added_file_is_refused() {
        let directory = backup();
        fs::write(directory.path().join("caracal.db"), "stoge").unwrap();
        let refused = Manifest::verified(directory.path());
        assert!(
            matches!(refused, Err(ManifestError::Changed(_))),
            "{refused:?}"
        );

        let directory = backup();
        fs::remove_file(directory.path().join("secrets/key")).unwrap();
        let refused = Manifest::verified(directory.path());
        assert!(
            matches!(refused, Err(ManifestError::Missing(_))),
            "{refused:?}"
        );

        let directory = backup();
        fs::write(directory.path().join("more"), "").unwrap();
        let refused = Manifest::verified(directory.path());
        assert!(
            matches!(refused, Err(ManifestError::Unknown(_))),
            "{refused:?}"
        );
    }

    #[test]
    fn a_manifest_of_another_layout_or_version_is_refused() {
        let rewrite = |from: &str, to: &str| {
            let directory = backup();
            let path = directory.path().join(NAME);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(&path, text.replace(from, to)).unwrap();
            Manifest::verified(directory.path())
        };
        let mine = format!("\"version\": \"{}\"", crate::version::VERSION);
        assert!(matches!(
            rewrite("\"format\": 1", "\"format\": 2"),
            Err(ManifestError::Format(2))
        ));
        assert!(matches!(
            rewrite(&mine, "\"version\": \"99.0.0\""),
            Err(ManifestError::Newer(_))
        ));
        assert!(matches!(
            rewrite("\"secrets/key\"", "\"../secrets/key\""),
            Err(ManifestError::Outside(_) | ManifestError::Missing(_))
        ));
    }
}
