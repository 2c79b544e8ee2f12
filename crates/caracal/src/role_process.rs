//! A role of one's own: `caracal serve <roles>` as a child process, with exactly the variables that it
//! is given. The bench loads five of them; the fault drills kill, pause and restart them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;

/// Pause between two looks at a starting or ending process.
const LOOK: Duration = Duration::from_millis(20);

/// Longest wait for one readiness answer.
const PROBE: Duration = Duration::from_secs(3);

/// The child process did not become a role.
#[derive(Debug, thiserror::Error)]
pub enum RoleProcessError {
    /// The process or its log file failed.
    #[error("the {0} process: {1}")]
    Io(String, std::io::Error),
    /// It ended before it was ready.
    #[error("the {0} process ended with {1}; its log is {2}")]
    Ended(String, ExitStatus, PathBuf),
    /// It runs and is not ready.
    #[error("the {0} process is not ready, it says {1}; its log is {2}")]
    NotReady(String, String, PathBuf),
}

/// How to start a role.
#[derive(Debug, Clone)]
pub struct RoleCommand {
    /// The binary.
    pub binary: PathBuf,
    /// What runs the binary, as program and arguments; empty: nothing.
    pub wrapper: Vec<String>,
    /// The roles, as `caracal serve` takes them.
    pub roles: String,
    /// Everything that the process sees of the environment, beside `PATH`.
    pub variables: BTreeMap<String, String>,
    /// Where one of the roles answers `/ready`.
    pub address: SocketAddr,
    /// Gets what the process logs, appended.
    pub log: PathBuf,
}

impl RoleCommand {
    /// Starts the process; it need not be ready yet.
    ///
    /// # Errors
    /// [`RoleProcessError::Io`] when it can't be started.
    pub fn spawn(&self) -> Result<RoleProcess, RoleProcessError> {
        let failed = |error| RoleProcessError::Io(self.roles.clone(), error);
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(failed)?;
        let mut line: Vec<&std::ffi::OsStr> = self.wrapper.iter().map(AsRef::as_ref).collect();
        line.push(self.binary.as_os_str());
        let mut command = Command::new(line[0]);
        command
            .args(&line[1..])
            .args(["serve", &self.roles])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.variables)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        let child = command.spawn().map_err(failed)?;
        Ok(RoleProcess {
            command: self.clone(),
            child,
        })
    }
}

/// A running role; killed when dropped.
#[derive(Debug)]
pub struct RoleProcess {
    command: RoleCommand,
    child: Child,
}

impl RoleProcess {
    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it answers `/ready`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.command.address
    }

    /// Waits until `/ready` answers 200.
    ///
    /// # Errors
    /// [`RoleProcessError`] when the process ends, or is not ready `within` this time.
    pub async fn ready(&mut self, within: Duration) -> Result<(), RoleProcessError> {
        let client = Client::new(PROBE);
        let url = format!("http://{}/ready", self.command.address);
        let deadline = Instant::now() + within;
        loop {
            let (roles, log) = (self.command.roles.clone(), self.command.log.clone());
            let ended = self.child.try_wait();
            if let Some(status) = ended.map_err(|e| RoleProcessError::Io(roles.clone(), e))? {
                return Err(RoleProcessError::Ended(roles, status, log));
            }
            let said = match client.get(&url).await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                Ok(answer) => String::from_utf8_lossy(&answer.body).into_owned(),
                Err(error) => error.to_string(),
            };
            if Instant::now() > deadline {
                return Err(RoleProcessError::NotReady(roles, said, log));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks the process to end and waits for it; `None` when it does not end `within` this time and is
    /// killed.
    pub async fn stop(mut self, within: Duration) -> Option<ExitStatus> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    /// Stops the process where it is, until [`RoleProcess::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for RoleProcess {
    fn drop(&mut self) {
        self.end();
    }
}
