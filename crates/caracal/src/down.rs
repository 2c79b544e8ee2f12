//! `caracal down`: stops the embedded stack.

use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::CommandResult;
use crate::config::Environment;
use crate::home::Home;

/// How long the stack may drain before it is killed.
const DRAIN: Duration = Duration::from_secs(25);

/// Asks the owner of the home directory to stop and waits until it has.
pub(crate) async fn down(environment: &Environment) -> CommandResult {
    let home = Home::locate(environment)?;
    let Some(run) = home.running() else {
        crate::say("ℹ the stack does not run\n");
        return Ok(ExitCode::SUCCESS);
    };
    let pid = i32::try_from(run.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or("run.json names no process; remove it")?;
    kill_process(pid, Signal::TERM)?;
    let waiting = home.clone();
    let released = tokio::task::spawn_blocking(move || waiting.wait_released());
    match tokio::time::timeout(DRAIN, released).await {
        Ok(joined) => joined??,
        Err(_) => kill_process(pid, Signal::KILL)?,
    }
    crate::say("✓ the stack is down\n");
    Ok(ExitCode::SUCCESS)
}
