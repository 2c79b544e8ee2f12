//! The `caracal` command: every role and every tool in one binary.
//!
//! The library exists for the binary and for the black-box tests beside it; it is no public API.

mod assembly;
mod backup;
pub mod bench;
mod cli;
pub mod client;
mod config;
mod deployment;
mod doctor;
mod down;
mod evidence_tools;
mod healthcheck;
mod home;
mod logging;
mod migrate;
mod outbox_tools;
mod quickstart;
mod reseal;
mod restore;
pub mod role_process;
mod serve;
pub mod stack_process;
mod status;
pub mod tour;
mod up;
mod version;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use caracal_core::Mode;
use clap::Parser;

use crate::cli::{Cli, Command, ConfigAction, PolicyAction, SecretsAction};
use crate::config::{Environment, Settings};
use crate::home::Home;

/// A command failed; the text says what to do.
type CommandResult = Result<ExitCode, Box<dyn std::error::Error>>;

/// Runs the command of this process.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    }
    let mut environment = Environment::of_process();
    environment.forget_project_variables(Path::new("."));
    if let Some(file) = environment.get("CARACAL_ENV_FILE").map(ToOwned::to_owned) {
        environment.fill_from_file(Path::new(&file));
    }
    match dispatch(&arguments, &environment) {
        Ok(code) => code,
        Err(error) => {
            say_error(&format!("✗ {}", logging::scrub_lines(&error.to_string())));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[OsString], environment: &Environment) -> CommandResult {
    let first = arguments
        .first()
        .map(|first| first.to_string_lossy().into_owned());
    match first.as_deref() {
        None | Some("help" | "-h" | "--help") => {
            say(cli::USAGE);
            return Ok(ExitCode::SUCCESS);
        }
        Some("-v" | "--version") => {
            let json = arguments.iter().any(|argument| argument == "--json");
            return print_version(environment, json);
        }
        Some(word) if !cli::is_command(word) => {
            say_error(&format!("✗ unknown command\n\n{}", cli::USAGE));
            return Ok(ExitCode::FAILURE);
        }
        Some(_) => {}
    }
    let name = OsString::from("caracal");
    match Cli::try_parse_from(std::iter::once(&name).chain(arguments)) {
        Ok(cli) => run(cli.command, environment),
        Err(error) if error.use_stderr() => {
            say_error(&error.to_string());
            Ok(ExitCode::FAILURE)
        }
        Err(help) => {
            say(&help.to_string());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run(command: Command, environment: &Environment) -> CommandResult {
    match command {
        Command::Up {
            foreground: true,
            announce,
        } => up::foreground(environment.clone(), announce),
        Command::Up {
            foreground: false, ..
        } => block_on(up::detached(environment)),
        Command::Down => block_on(down::down(environment)),
        Command::Status { ready, json } => block_on(show_status(environment, ready, json)),
        Command::Quickstart(args) => block_on(quickstart::run(environment, &args)),
        Command::Bench(args) => block_on(bench::run(environment, &args)),
        Command::Serve { roles } => serve::serve(environment, &cli::role_set(&roles)),
        Command::Healthcheck(args) => block_on(healthcheck::run(environment, &args)),
        Command::Migrate(args) => block_on(migrate::run(environment, &args)),
        Command::Doctor(args) => block_on(doctor::run(environment, &args)),
        Command::Secrets {
            action: SecretsAction::Reseal(args),
        } => block_on(reseal::run(environment, &args)),
        Command::Backup(args) => block_on(backup::run(environment, &args)),
        Command::Outbox { action } => block_on(outbox_tools::run(environment, action)),
        Command::Restore(args) => block_on(restore::run(environment, &args)),
        Command::Config {
            action: ConfigAction::Print { schema: true, .. },
        } => {
            say(&config::print_schema());
            Ok(ExitCode::SUCCESS)
        }
        Command::Config {
            action: ConfigAction::Print { roles, .. },
        } => print_config(environment.clone(), &roles),
        Command::Audit { action } => block_on(evidence_tools::run(environment, action)),
        Command::Policy {
            action: PolicyAction::Export,
        } => {
            say(caracal_policy::contract_source());
            Ok(ExitCode::SUCCESS)
        }
        Command::Version { json } => print_version(environment, json),
    }
}

fn block_on(command: impl Future<Output = CommandResult>) -> CommandResult {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

async fn show_status(environment: &Environment, ready: bool, json: bool) -> CommandResult {
    let home = Home::locate(environment).ok();
    let probes = status::probe(home.as_ref(), ready).await;
    say(&if json {
        status::json_report(&probes, ready)
    } else {
        status::table(&probes, ready)
    });
    let all = probes.iter().all(|probe| probe.ok);
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print_config(mut environment: Environment, roles: &[config::Role]) -> CommandResult {
    let embedded = roles.is_empty();
    let roles = cli::role_set(roles);
    let default_mode = if embedded { Mode::Dev } else { Mode::Stable };
    if embedded {
        Home::locate(&environment)?.feed(&mut environment);
    }
    let settings = Settings::load(&environment, &roles, default_mode, embedded)?;
    say(&config::print(&settings, &roles));
    Ok(ExitCode::SUCCESS)
}

fn print_version(environment: &Environment, json: bool) -> CommandResult {
    let mode = environment
        .get("CARACAL_MODE")
        .map_or(Ok(Mode::Stable), str::parse)?;
    say(&if json {
        version::json(mode)
    } else {
        version::text(mode)
    });
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output; a closed pipe is not an error.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes a line to standard error.
fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}
