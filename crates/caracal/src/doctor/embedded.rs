//! The embedded stack: its home directory, its process, and its store, looked at in a copy.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use caracal_core::random::bytes as random_bytes;
use caracal_core::{SystemClock, SystemRandom};
use caracal_store::{OpenError, Store, copy_sqlite};

use super::check::{Check, bytes};
use super::{configuration, disk, evidence_log, store};
use crate::config::{Environment, Role};
use crate::home::Home;
use crate::status;

/// A larger store is not copied for a look.
const LARGEST_COPY: u64 = 4 * 1024 * 1024 * 1024;

pub(super) async fn examine(
    home: &Home,
    environment: &Environment,
    roles: &BTreeSet<Role>,
) -> Vec<Check> {
    if !home.path().exists() {
        let found = format!("{} does not exist", home.path().display());
        let remedy = "`caracal up` makes it; CARACAL_HOME names another";
        return vec![Check::fail("home", found, remedy)];
    }
    let mut checks = vec![private(home)];
    checks.extend(configuration::examine(environment, roles, true));
    checks.push(running(home).await);
    checks.push(Check::ok("clock", "one host, one clock"));
    checks.push(disk::examine("disk", home.path()));
    checks.extend(evidence_log::examine(environment, Some(home), roles));
    checks.extend(look_into_store(home, environment).await);
    checks
}

/// Whether others can read the secrets.
fn private(home: &Home) -> Check {
    const NAME: &str = "home";
    let secrets = home.path().join("secrets");
    let files = std::fs::read_dir(&secrets).into_iter().flatten().flatten();
    let paths = files.map(|file| file.path()).chain([secrets]);
    for path in paths {
        let mode = std::fs::metadata(&path).map_or(0, |found| found.permissions().mode() & 0o077);
        if mode != 0 {
            let found = format!("{} can be read by others", path.display());
            let remedy = format!("chmod go-rwx {}", path.display());
            return Check::fail(NAME, found, remedy);
        }
    }
    Check::ok(NAME, format!("{}", home.path().display()))
}

async fn running(home: &Home) -> Check {
    const NAME: &str = "stack";
    if home.running().is_none() {
        return Check::ok(NAME, "does not run");
    }
    let probes = status::probe(Some(home), true).await;
    match probes.iter().find(|probe| !probe.ok) {
        None => Check::ok(NAME, "runs, every role is ready"),
        Some(probe) => Check::fail(
            NAME,
            format!("runs, but a role is not ready: {}", probe.sentence()),
            format!("see {}", home.log().display()),
        ),
    }
}

async fn look_into_store(home: &Home, environment: &Environment) -> Vec<Check> {
    const NAME: &str = "store";
    let Ok(size) = std::fs::metadata(home.database()).map(|found| found.len()) else {
        return vec![Check::ok(NAME, "none yet")];
    };
    if size > LARGEST_COPY {
        let found = format!("{} are too many to look into", bytes(size));
        let remedy = "stop the stack and run `caracal secrets reseal --dry-run`";
        return vec![Check::warn(NAME, found, remedy)];
    }
    let random = SystemRandom;
    let name = format!(".look-{}", hex::encode(random_bytes::<8>(&random)));
    let place = home.path().join(name);
    let checks = match look(home, &place, environment).await {
        Ok(mut checks) => {
            checks.insert(0, Check::ok(NAME, format!("sound, {}", bytes(size))));
            checks
        }
        Err(error) => vec![Check::fail(
            NAME,
            error.to_string(),
            "restore the newest backup with `caracal restore`",
        )],
    };
    let _ = std::fs::remove_dir_all(&place);
    checks
}

async fn look(
    home: &Home,
    place: &Path,
    environment: &Environment,
) -> Result<Vec<Check>, OpenError> {
    let file = |source| OpenError::File {
        path: place.display().to_string(),
        source,
    };
    crate::home::private_directory(place).map_err(file)?;
    let copy = place.join("copy.db");
    let before = copy_sqlite(&home.database(), &copy).await?;
    let store = Store::open_sqlite(&copy, Arc::new(SystemClock), Arc::new(SystemRandom)).await?;
    let version = before.last().map_or(0, |row| row.version);
    let found = if version < store.schema_version() {
        format!(
            "version {version}; `caracal up` brings it to {}",
            store.schema_version()
        )
    } else {
        format!("complete, version {version}")
    };
    let mut checks = vec![Check::ok("migrations", found)];
    checks.extend(store::examine(&store, environment).await);
    store.close().await;
    Ok(checks)
}
