//! A stack of one's own: `caracal up --foreground` as a child process in a home directory of its own,
//! on free ports. The bench loads one; the fault drills kill one and start it again.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::config::{Environment, Role};
use crate::home::{Home, RunFile};
use crate::tour::Endpoints;

/// The child process did not become a stack.
#[derive(Debug, thiserror::Error)]
pub enum StackProcessError {
    /// The process or its home directory failed.
    #[error("the stack process: {0}")]
    Io(#[from] std::io::Error),
    /// It ended before it was ready.
    #[error("the stack did not become ready; its log is {0}")]
    NotReady(PathBuf),
}

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct StackProcess {
    home: PathBuf,
    child: Child,
    /// Where its roles answer.
    pub endpoints: Endpoints,
}

impl StackProcess {
    /// Starts `binary` on `home` with these settings and waits until it is ready. The same home can be
    /// started again after the process ended, however it ended.
    ///
    /// # Errors
    /// [`StackProcessError`] when the process can't be started or ends before it is ready.
    pub async fn start(
        binary: &Path,
        home: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self, StackProcessError> {
        std::fs::create_dir_all(home)?;
        let log_path = home.join("stack.log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)?;
        let mut command = Command::new(binary);
        command
            .args(["up", "--foreground", "--announce"])
            .env("CARACAL_HOME", home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        for role in Role::ALL {
            command.env(role.listen_variable(), "127.0.0.1:0");
        }
        for (name, value) in settings {
            command.env(name, value);
        }
        let mut child = command.spawn()?;
        let output = child.stdout.take();
        let ready = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            let read = output.map(|output| std::io::BufReader::new(output).read_line(&mut line));
            matches!(read, Some(Ok(_))) && !line.trim().is_empty()
        });
        let ready = ready.await.unwrap_or(false);
        let located = located(home).filter(|_| ready);
        let Some(endpoints) = located else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(StackProcessError::NotReady(log_path));
        };
        Ok(Self {
            home: home.to_owned(),
            child,
            endpoints,
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The home directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for StackProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn located(home: &Path) -> Option<Endpoints> {
    let mut environment = Environment::default();
    environment.set("CARACAL_HOME", home.to_string_lossy());
    let home = Home::locate(&environment).ok()?;
    let run: RunFile = home.running()?;
    Endpoints::of(&home, &run, &environment).ok()
}
