//! `caracal migrate`: brings a PostgreSQL database to this version's schema, as its administrative
//! login, and gives the services' roles the passwords that the environment holds.
//!
//! Runs at the same time wait for each other. The database may still be starting: it is asked again,
//! `MIGRATION_CONNECT_RETRIES` times with `MIGRATION_CONNECT_SLEEP_SECONDS` between.

mod logins;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use caracal_core::{Clock, SystemClock, SystemRandom};
use caracal_store::{
    OpenError, PostgresFindings, PostgresOptions, StoreError, inspect_postgres, migrate_postgres,
    plan_postgres,
};

use crate::CommandResult;
use crate::cli::MigrateArgs;
use crate::config::Environment;
use crate::deployment::{Deployment, owner_options};
pub(crate) use report::server_version;
use report::{Report, Step};

/// What the embedded stack answers.
const EMBEDDED: &str = "ℹ no database is named: the embedded stack migrates by itself when `caracal up` \
     starts it; for PostgreSQL set DATABASE_URL or CARACAL_MIGRATION_DATABASE_URL\n";

pub(crate) async fn run(environment: &Environment, args: &MigrateArgs) -> CommandResult {
    if let Deployment::Embedded(_) = Deployment::of(environment, false)? {
        crate::say(EMBEDDED);
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = owner_options(environment)?;
    "caracal-migrate".clone_into(&mut options.application_name);
    // A password that can't be used is told before anything is changed.
    let logins = logins::from(environment)?;
    let before = wait_for_server(environment, &options).await?;
    let planned = plan_postgres(&options).await?;
    let steps = planned.iter().map(Step::of).collect::<Vec<_>>();
    let mut report = Report::new(args.plan, &before, steps);
    if !args.plan {
        let applied = migrate_postgres(&options, SystemClock.now()).await?;
        report.keep_applied(&applied);
        report.logins = logins::give(&options, &logins, &SystemRandom).await?;
    }
    crate::say(&if args.json {
        report.json()
    } else {
        report.text()
    });
    Ok(if args.plan && report.has_steps() {
        ExitCode::from(2)
    } else {
        ExitCode::SUCCESS
    })
}

async fn wait_for_server(
    environment: &Environment,
    options: &PostgresOptions,
) -> Result<PostgresFindings, Box<dyn std::error::Error>> {
    let retries = number(environment, "MIGRATION_CONNECT_RETRIES", 30)?;
    let pause = Duration::from_secs(number(environment, "MIGRATION_CONNECT_SLEEP_SECONDS", 1)?);
    let mut attempt = 0;
    loop {
        match inspect_postgres(options).await {
            Ok(findings) => return Ok(findings),
            Err(OpenError::Store(StoreError::Unavailable(why))) if attempt < retries => {
                attempt += 1;
                crate::say_error(&format!(
                    "ℹ the database does not answer yet ({attempt}/{retries}): {}",
                    crate::logging::scrub_lines(&why)
                ));
                tokio::time::sleep(pause).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn number(environment: &Environment, name: &str, default: u64) -> Result<u64, String> {
    match environment.get(name) {
        None => Ok(default),
        Some(text) => match text.parse::<u64>() {
            Ok(number) if number <= 3_600 => Ok(number),
            _ => Err(format!(
                "{name}: a whole number from 0 to 3600, not {text:?}"
            )),
        },
    }
}
