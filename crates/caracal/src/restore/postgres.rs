//! The restore of a PostgreSQL database: roles, then the dump, then the migrations since.

use std::path::Path;

use caracal_core::{Clock, Secret, SystemClock, SystemRandom};
use caracal_store::{PostgresFindings, drop_schemas, inspect_postgres, migrate_postgres};

use super::{Restored, Terms, fence};
use crate::backup::manifest::Manifest;
use crate::backup::postgres::{DUMP, run, version_of};
use crate::cli::RestoreArgs;
use crate::config::Environment;
use crate::deployment::{Deployment, Keks, owner_options};
use crate::doctor;

pub(super) async fn restore(
    environment: &Environment,
    args: &RestoreArgs,
    manifest: &Manifest,
    terms: Terms,
) -> Result<Restored, Box<dyn std::error::Error>> {
    // The keys first: without them no zone would get a signing key after the restore.
    let ring = Keks::of(environment)?.ring()?;
    let options = owner_options(environment)?;
    let target = inspect_postgres(&options).await?;
    let services: Vec<&str> = target
        .connections
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    if !services.is_empty() {
        return Err(format!(
            "the database is in use by {}; stop every role first",
            services.join(", ")
        )
        .into());
    }
    if target.migrations.is_some() && !args.force {
        return Err("the database holds a schema; --force removes it with everything in it".into());
    }
    version_of("pg_restore", target.version).await?;
    refuse_newer(manifest, &target)?;
    let dump = args.from.join(DUMP);
    run(
        "pg_restore",
        &options.url,
        &["--list".into(), dump.clone().into()],
    )
    .await?;

    // Makes the roles that the dump's grants name; the schemas come from the dump.
    migrate_postgres(&options, SystemClock.now()).await?;
    drop_schemas(&options).await?;
    load(&options.url, &dump).await?;
    migrate_postgres(&options, SystemClock.now()).await?;

    let opened = Deployment::Postgres.open(environment).await?;
    let fenced = fence::raise(&opened.store, &ring, terms, &SystemClock, &SystemRandom).await?;
    opened.store.close().await;
    Ok(Restored {
        fenced,
        aside: None,
        checks: doctor::examine_server(environment).await,
    })
}

/// Refuses a dump whose schema this version does not know.
fn refuse_newer(manifest: &Manifest, target: &PostgresFindings) -> Result<(), String> {
    let applied = target.migrations.as_ref().map_or(0, Vec::len);
    let known = i64::try_from(applied + target.pending).unwrap_or(i64::MAX);
    match manifest.schema.last() {
        Some(newest) if newest.version > known => Err(format!(
            "the backup has schema version {}, this version knows up to {known}; use the version that wrote it",
            newest.version
        )),
        _ => Ok(()),
    }
}

/// All or nothing.
async fn load(url: &Secret<String>, dump: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let database = url::Url::parse(url.expose())?;
    let database = database.path().trim_start_matches('/').to_owned();
    let arguments = [
        format!("--dbname={database}").into(),
        "--exit-on-error".into(),
        "--single-transaction".into(),
        "--no-owner".into(),
        "--no-password".into(),
        dump.into(),
    ];
    run("pg_restore", url, &arguments).await.map_err(|error| {
        format!("{error}; the database is empty now: correct the cause and restore again").into()
    })
}
