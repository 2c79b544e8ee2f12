//! `caracal-drills`: breaks a deployment of one's own on purpose, under load, and judges what clients
//! saw. Prints a table; ends with 1 when a drill fails.
//!
//! A drill plays one [`fault`] on a [`deployment`] while the [`load`] writes a [`history`]; the
//! [`checker`] judges it against the upstream's book and the exported [`evidence`]. The [`topology`]
//! rounds break nothing: they ask whether what one replica answered binds the others.

mod balancer;
mod checker;
mod deployment;
mod drill;
mod evidence;
mod fault;
mod history;
mod load;
mod table;
mod topology;
mod upstream;
mod wire;
mod zone;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use caracal::role_process::RoleProcessError;
use caracal_testbed::TestbedError;
use clap::Parser;
use thiserror::Error;

use deployment::Deployment;
use fault::{Fault, Lengths};
use table::Row;
use topology::Rounds;

/// A drill could not be played; that is no judgement on the product.
#[derive(Debug, Error)]
pub(crate) enum DrillError {
    #[error("{0}: {1}")]
    Io(&'static str, std::io::Error),
    #[error("{0} failed: {1}")]
    Command(&'static str, String),
    #[error("{0} is not installed; on Debian: apt-get install {1}")]
    Missing(&'static str, &'static str),
    #[error("{0} was refused: {1}")]
    Refused(&'static str, String),
    #[error(transparent)]
    Testbed(#[from] TestbedError),
    #[error(transparent)]
    Role(#[from] RoleProcessError),
    #[error("{0}\n{1}")]
    Start(RoleProcessError, String),
}

/// Fault drills on a deployment of two replicas of each role.
#[derive(Debug, Parser)]
struct Arguments {
    /// The full lengths; without it, short ones for every change of the code.
    #[arg(long)]
    full: bool,
    /// Only drills whose name begins so; may be repeated.
    #[arg(long)]
    only: Vec<String>,
    /// Print the names of the drills.
    #[arg(long)]
    list: bool,
    /// The binary; default: the one beside this.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Where histories and logs of failed drills are left.
    #[arg(long, default_value = "target/drills")]
    keep: PathBuf,
}

/// The name of the rounds without a fault.
const TOPOLOGY: &str = "topology";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |name: &str| {
        let only = &arguments.only;
        only.is_empty() || only.iter().any(|prefix| name.starts_with(prefix.as_str()))
    };
    let faults: Vec<Fault> = Fault::all()
        .into_iter()
        .filter(|fault| wanted(&fault.name()))
        .collect();
    if arguments.list {
        say(TOPOLOGY);
        faults.iter().for_each(|fault| say(&fault.name()));
        return ExitCode::SUCCESS;
    }
    let mut runner = Runner::new(&arguments);
    if wanted(TOPOLOGY) {
        runner.topology().await;
    }
    for fault in faults {
        runner.drill(fault).await;
    }
    say(&table::render(&runner.rows));
    if runner.rows.iter().all(Row::passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Plays drills one after the other on one deployment; after a failure on a new one.
struct Runner<'a> {
    arguments: &'a Arguments,
    deployment: Option<Deployment>,
    rows: Vec<Row>,
}

impl<'a> Runner<'a> {
    fn new(arguments: &'a Arguments) -> Self {
        Self {
            arguments,
            deployment: None,
            rows: Vec::new(),
        }
    }

    async fn topology(&mut self) {
        let rounds = if self.arguments.full {
            Rounds::FULL
        } else {
            Rounds::SHORT
        };
        let began = Instant::now();
        let played = match self.deployment().await {
            Ok(deployment) => topology::run(deployment, rounds).await,
            Err(error) => Err(error),
        };
        self.note(match played {
            Ok((wrong, verdict)) => Row::of_topology(rounds, wrong, verdict, began.elapsed()),
            Err(error) => Row::of_error(TOPOLOGY, &error, began.elapsed()),
        });
    }

    async fn drill(&mut self, fault: Fault) {
        let lengths = if self.arguments.full {
            Lengths::FULL
        } else {
            Lengths::SHORT
        };
        let (began, keep) = (Instant::now(), self.arguments.keep.clone());
        let played = match self.deployment().await {
            Ok(deployment) => drill::run(deployment, fault, lengths, &keep).await,
            Err(error) => Err(error),
        };
        self.note(match played {
            Ok((verdict, events)) => Row::of_drill(fault, verdict, events, began.elapsed()),
            Err(error) => Row::of_error(&fault.name(), &error, began.elapsed()),
        });
    }

    async fn deployment(&mut self) -> Result<&mut Deployment, DrillError> {
        let running = match self.deployment.take() {
            Some(deployment) => deployment,
            None => Deployment::start(&self.binary()?).await?,
        };
        Ok(self.deployment.insert(running))
    }

    fn binary(&self) -> Result<PathBuf, DrillError> {
        if let Some(binary) = &self.arguments.binary {
            return Ok(binary.clone());
        }
        let own = std::env::current_exe().map_err(|e| DrillError::Io("own path", e))?;
        Ok(own.with_file_name("caracal"))
    }

    fn note(&mut self, row: Row) {
        say(&row.line());
        if !row.passed() {
            if let Some(deployment) = &self.deployment {
                let _ = std::fs::create_dir_all(&self.arguments.keep);
                let path = self.arguments.keep.join(format!("{}.log", row.name()));
                let _ = std::fs::write(path, deployment.log_tails());
            }
            self.deployment = None;
        }
        self.rows.push(row);
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
