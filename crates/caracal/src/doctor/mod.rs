//! `caracal doctor`: looks at everything a deployment stands on and changes nothing.
//!
//! Each check is one line. What is not well has exactly one remedy. No check prints a secret: texts
//! of others (a driver's error) pass the scrubber of the logs.

mod check;
mod clocks;
mod configuration;
mod disk;
mod embedded;
mod evidence_log;
mod redis;
mod server;
mod store;

use std::process::ExitCode;

use crate::CommandResult;
use crate::cli::{self, DoctorArgs};
use crate::config::Environment;
use crate::deployment::Deployment;
pub(crate) use check::{Check, Verdict};

pub(crate) async fn run(environment: &Environment, args: &DoctorArgs) -> CommandResult {
    let deployment = Deployment::of(environment, args.embedded)?;
    let environment = deployment.environment(environment);
    let roles = cli::role_set(&args.roles);
    let checks = match &deployment {
        Deployment::Embedded(home) => embedded::examine(home, &environment, &roles).await,
        Deployment::Postgres => {
            let mut checks = configuration::examine(&environment, &roles, false);
            checks.extend(server::examine(&environment, &roles).await);
            checks.extend(redis::examine(&environment, &roles).await);
            checks.extend(evidence_log::examine(&environment, None, &roles));
            checks
        }
    };
    crate::say(&if args.json {
        check::json(&checks)
    } else {
        check::text(&checks)
    });
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The checks of an embedded home, for other tools.
pub(crate) async fn examine_home(
    home: &crate::home::Home,
    environment: &Environment,
) -> Vec<Check> {
    embedded::examine(home, environment, &cli::role_set(&[])).await
}

/// The checks of the server, for other tools.
pub(crate) async fn examine_server(environment: &Environment) -> Vec<Check> {
    server::examine(environment, &cli::role_set(&[])).await
}

/// Checks as lines.
pub(crate) fn lines(checks: &[Check]) -> String {
    check::text(checks)
}
