//! A server process that ends with the process that started it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::programs::User;
use crate::{TestbedError, directory};

const START: Duration = Duration::from_secs(60);

/// Runs the server and stops it when a word comes in, the signal to stop it by, or when standard
/// input ends: then its starter is gone and nobody misses its directory. `$1` is the signal for the
/// latter, `$2` the file that gets its process id, `$3` the log; the rest is the command.
const SUPERVISOR: &str = r#"
signal=$1; pid=$2; log=$3; left=$PWD; shift 3
"$@" >>"$log" 2>&1 </dev/null &
server=$!
echo "$server" >"$pid"
read -r word && signal=$word left=
kill -s CONT "$server" 2>/dev/null
kill -s "$signal" "$server" 2>/dev/null
wait "$server"
[ -z "$left" ] || rm -rf "$left"
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Supervised {
    supervisor: Child,
    input: Option<ChildStdin>,
    pid: u32,
}

impl Supervised {
    /// Starts `command` and waits until `ready`.
    pub(crate) fn start(
        name: &'static str,
        home: &Path,
        user: Option<User>,
        signal: &str,
        command: &[String],
        ready: impl Fn() -> bool,
    ) -> Result<Self, TestbedError> {
        let failed = |error| TestbedError::Io(name, error);
        let (pid_file, log) = (home.join("server.pid"), home.join("server.log"));
        let _ = std::fs::remove_file(&pid_file);
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", SUPERVISOR, "supervisor", signal])
            .args([&pid_file, &log])
            .args(command)
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the starter's group is for the starter.
            .process_group(0);
        if let Some(user) = user {
            shell.uid(user.uid).gid(user.gid);
        }
        let mut supervisor = shell.spawn().map_err(failed)?;
        let input = supervisor.stdin.take();
        let mut running = Self {
            supervisor,
            input,
            pid: 0,
        };
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            let ended = running.supervisor.try_wait().map_err(failed)?.is_some();
            if ended {
                break;
            }
            if let Some(pid) = read_pid(&pid_file).filter(|_| ready()) {
                running.pid = pid;
                return Ok(running);
            }
            pause();
        }
        Err(TestbedError::Silent(name, directory::log_tail(&log)))
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Stops the server by `signal` and waits for its end.
    pub(crate) fn stop_by(mut self, signal: &str) {
        if let Some(input) = &mut self.input {
            let _ = writeln!(input, "{signal}");
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.supervisor.wait();
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "another program's start can only be polled"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

fn read_pid(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
