//! `caracal up`: the embedded stack.
//!
//! Detached, the command starts itself again in the foreground form, in a process group of its own,
//! and waits for one line on a pipe: the child says that every listener is bound and every role is
//! ready, or its end says that it failed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use caracal_core::{Clock, Mode, SystemClock, SystemRandom};
use tokio::signal::unix::{SignalKind, signal};

use crate::CommandResult;
use crate::assembly;
use crate::config::{Environment, Role, Settings};
use crate::home::{Home, HomeError, RunFile};

/// What the child prints when the stack is ready.
const READY: &str = "ready";

/// Longest wait for the child's line.
const START: Duration = Duration::from_secs(60);

/// Starts the stack and returns when it is ready.
pub(crate) async fn detached(environment: &Environment) -> CommandResult {
    let home = Home::locate(environment)?;
    if let Some(run) = home.running() {
        crate::say(&format!(
            "✓ the stack already runs (pid {})\n{}",
            run.pid,
            summary(&run)
        ));
        return Ok(ExitCode::SUCCESS);
    }
    if home.provision(&SystemClock, &SystemRandom)? {
        crate::say(&format!(
            "ℹ provisioned runtime assets at {}\n",
            home.path().display()
        ));
    }
    start(&home).await?;
    match home.running() {
        Some(run) => crate::say(&format!("✓ runtime services ready\n{}", summary(&run))),
        None => return Err("the stack ended right after its start".into()),
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(home: &Home) -> Result<(), Box<dyn std::error::Error>> {
    let log = home.open_private(&home.log(), true)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["up", "--foreground", "--announce"])
        .env("CARACAL_HOME", home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let Some(output) = child.stdout.take() else {
        return Err("no pipe to the stack".into());
    };
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map(|_| line)
    });
    let line = tokio::time::timeout(START, line).await.map_err(|_| {
        format!(
            "the stack is not ready after {} s; see {}",
            START.as_secs(),
            home.log().display()
        )
    })???;
    if line.trim() == READY {
        return Ok(());
    }
    child.wait()?;
    Err(format!("the stack did not start:\n{}", tail(home)).into())
}

fn tail(home: &Home) -> String {
    let text = std::fs::read_to_string(home.log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn summary(run: &RunFile) -> String {
    let mut text = String::new();
    for role in Role::ALL {
        if let Some(address) = run.address(role) {
            text.push_str(&format!(
                "  {:<12} http://localhost:{}\n",
                role.name(),
                address.port()
            ));
        }
    }
    text
}

/// Runs the stack in this process until SIGTERM or SIGINT.
pub(crate) fn foreground(mut environment: Environment, announce: bool) -> CommandResult {
    let home = Home::locate(&environment)?;
    home.provision(&SystemClock, &SystemRandom)?;
    let lock = home.lock()?;
    home.feed(&mut environment);
    let roles = BTreeSet::from(Role::ALL);
    let settings = Settings::load(&environment, &roles, Mode::Dev, true)?;
    let level = settings.text("LOG_LEVEL").unwrap_or("info");
    let label = settings.text("CARACAL_ENV").unwrap_or("development");
    crate::logging::start(level, "caracal", label);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(run(&home, &settings, announce));
    home.remove_run_file();
    runtime.shutdown_timeout(Duration::from_secs(2));
    drop(lock);
    outcome
}

async fn run(home: &Home, settings: &Settings, announce: bool) -> CommandResult {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let clock = Arc::new(SystemClock);
    let stack =
        assembly::start_embedded(settings, home, clock.clone(), Arc::new(SystemRandom)).await?;
    let run = RunFile {
        pid: std::process::id(),
        version: crate::version::VERSION.to_owned(),
        started_at: clock.now(),
        addresses: stack.addresses(),
        issuer: stack.issuer().to_owned(),
    };
    home.write_run_file(&run)?;
    tracing::info!(mode = %settings.mode, home = %home.path().display(), "ready");
    if announce {
        let mut output = std::io::stdout();
        writeln!(output, "{READY}")?;
        output.flush()?;
    }
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {}
        }
    }
    tracing::info!("stopping");
    stack.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// Starts the stack for another command when it does not run yet; returns where it listens.
pub(crate) async fn ensure_running(
    environment: &Environment,
) -> Result<(Home, RunFile), Box<dyn std::error::Error>> {
    let home = Home::locate(environment)?;
    if home.running().is_none() {
        home.provision(&SystemClock, &SystemRandom)?;
        start(&home).await?;
    }
    match home.running() {
        Some(run) => Ok((home, run)),
        None => Err(Box::new(HomeError::Running(home.path().to_owned()))),
    }
}
