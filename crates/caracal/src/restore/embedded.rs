//! The restore of an embedded stack: a new home directory beside the old one, then in its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use caracal_core::{Clock, SystemClock, SystemRandom};
use caracal_store::Store;

use super::{Restored, Terms, fence};
use crate::backup::audit_log::copy_file;
use crate::backup::manifest::Manifest;
use crate::cli::RestoreArgs;
use crate::config::Environment;
use crate::deployment::{Keks, keyed};
use crate::doctor;
use crate::home::{Home, HomeLock, private_directory};

pub(super) async fn restore(
    home: &Home,
    environment: &Environment,
    args: &RestoreArgs,
    manifest: &Manifest,
    terms: Terms,
) -> Result<Restored, Box<dyn std::error::Error>> {
    let held = take(home, args.force)?;
    let place = beside(home, ".restoring");
    let _ = fs::remove_dir_all(&place);
    let fresh = Home::at(place.clone());
    let fenced = match fill(&fresh, &args.from, environment, manifest, terms).await {
        Ok(fenced) => fenced,
        Err(error) => {
            let _ = fs::remove_dir_all(&place);
            return Err(error);
        }
    };
    let aside = replace(home, &place)?;
    drop(held);
    let mut seen = environment.clone();
    home.feed(&mut seen);
    Ok(Restored {
        fenced,
        aside,
        checks: doctor::examine_home(home, &seen).await,
    })
}

/// Takes the home directory for this process; refuses one that runs, and one that holds a store
/// unless that may be moved aside.
fn take(home: &Home, force: bool) -> Result<Option<HomeLock>, Box<dyn std::error::Error>> {
    if !home.path().exists() {
        return Ok(None);
    }
    let lock = home.lock()?;
    let used = home.database().exists() || home.path().join("secrets").exists();
    if used && !force {
        return Err(format!(
            "{} is in use; --force moves it aside and puts the backup in its place",
            home.path().display()
        )
        .into());
    }
    Ok(Some(lock))
}

/// Makes the new home whole: files, schema, and no old authority.
async fn fill(
    fresh: &Home,
    from: &Path,
    environment: &Environment,
    manifest: &Manifest,
    terms: Terms,
) -> Result<fence::Fenced, Box<dyn std::error::Error>> {
    private_directory(fresh.path())?;
    for path in manifest.paths() {
        let to = fresh.path().join(path);
        if let Some(directory) = to.parent() {
            private_directory(directory)?;
        }
        copy_file(&from.join(path), &to)?;
    }
    let mut environment = environment.clone();
    fresh.feed(&mut environment);
    let ring = Keks::of(&environment)?.ring()?;
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let store = Store::open_sqlite(&fresh.database(), clock.clone(), random.clone()).await?;
    let store = keyed(store, &environment)?;
    let fenced = fence::raise(&store, &ring, terms, &*clock, &*random).await?;
    store.close().await;
    fs::File::open(fresh.path())?.sync_all()?;
    Ok(fenced)
}

/// Puts the new home in the place of the old one; answers where the old one went.
fn replace(home: &Home, place: &Path) -> std::io::Result<Option<PathBuf>> {
    let aside = home.path().exists().then(|| {
        let now = SystemClock.now().to_rfc3339_millis();
        beside(home, &format!(".before-restore-{}", now.replace(':', "")))
    });
    if let Some(aside) = &aside {
        fs::rename(home.path(), aside)?;
    }
    fs::rename(place, home.path())?;
    Ok(aside)
}

fn beside(home: &Home, suffix: &str) -> PathBuf {
    let mut name = home.path().as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
