//! `caracal serve <roles>`: roles on PostgreSQL and Redis.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::{Mode, SystemClock, SystemRandom};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::CommandResult;
use crate::assembly;
use crate::config::{Environment, Role, Settings};

/// How long threads that block may take to end once everything is stopped.
const THREADS: Duration = Duration::from_secs(2);

/// Runs the roles in this process until SIGTERM or SIGINT.
pub(crate) fn serve(environment: &Environment, roles: &BTreeSet<Role>) -> CommandResult {
    let settings = Settings::load(environment, roles, Mode::Stable, false)?;
    let level = settings.text("LOG_LEVEL").unwrap_or("info");
    let label = settings.text("CARACAL_ENV").unwrap_or("production");
    crate::logging::start(level, &service_name(roles), label);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(&settings, roles));
    runtime.shutdown_timeout(THREADS);
    outcome
}

fn service_name(roles: &BTreeSet<Role>) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    format!("caracal-{}", names.join("-"))
}

async fn run(settings: &Settings, roles: &BTreeSet<Role>) -> CommandResult {
    let mut signals = Signals::catch()?;
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let started = tokio::select! {
        started = assembly::start_apart(settings, roles, clock, random) => started,
        () = signals.end() => return Ok(ExitCode::SUCCESS),
    };
    let stack = started?;
    for (role, address) in stack.addresses() {
        tracing::info!(mode = %settings.mode, role, %address, "ready");
    }
    signals.end().await;
    tracing::info!("stopping");
    stack.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// The signals that end a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
