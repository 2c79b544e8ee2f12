//! Redis, or Valkey where that is what is installed.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::programs::{self, User};
use crate::supervised::Supervised;
use crate::{TestbedError, directory};

const ANSWER: Duration = Duration::from_secs(2);

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// What happens when memory is full; evidence and replay marks demand `noeviction`.
    pub maxmemory_policy: String,
    /// Whether it writes an append-only file.
    pub append_only: bool,
    /// Further arguments, as in the configuration file: `["--requirepass", "x"]`.
    pub arguments: Vec<String>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            maxmemory_policy: "noeviction".to_owned(),
            append_only: true,
            arguments: Vec::new(),
        }
    }
}

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    server: Option<Supervised>,
    port: u16,
    program: PathBuf,
    user: Option<User>,
    options: RedisOptions,
    home: TempDir,
}

impl Redis {
    /// Starts a server of the default set-up.
    ///
    /// # Errors
    /// [`TestbedError`] when it is not installed or can't be started.
    pub fn start() -> Result<Self, TestbedError> {
        Self::start_with(RedisOptions::default())
    }

    /// Starts a server.
    ///
    /// # Errors
    /// [`TestbedError`] when it is not installed or can't be started.
    pub fn start_with(options: RedisOptions) -> Result<Self, TestbedError> {
        let user = programs::server_user();
        let program = programs::on_path("redis-server", "redis-server")
            .or_else(|_| programs::on_path("valkey-server", "redis-server"))?;
        let mut redis = Self {
            server: None,
            port: programs::free_port()?,
            program,
            user,
            options,
            home: directory::of(user)?,
        };
        redis.start_again()?;
        Ok(redis)
    }

    /// Starts the server again after [`Redis::stop`], on the same port and what data is left.
    ///
    /// # Errors
    /// [`TestbedError`] when it can't be started.
    pub fn start_again(&mut self) -> Result<(), TestbedError> {
        let home = self.home.path();
        let port = self.port.to_string();
        let append_only = if self.options.append_only {
            "yes"
        } else {
            "no"
        };
        let mut command = vec![self.program.display().to_string()];
        command.extend(
            [
                "--bind",
                "127.0.0.1",
                "--port",
                &port,
                "--dir",
                &home.display().to_string(),
                "--appendonly",
                append_only,
                "--appendfsync",
                "everysec",
                "--save",
                "",
                "--maxmemory-policy",
                &self.options.maxmemory_policy,
            ]
            .map(str::to_owned),
        );
        command.extend(self.options.arguments.iter().cloned());
        let own_port = self.port;
        let ready = || answers(own_port).is_ok_and(|line| !line.starts_with("-LOADING"));
        let server = Supervised::start("redis", home, self.user, "TERM", &command, ready)?;
        self.server = Some(server);
        Ok(())
    }

    /// Stops the server; what it had in memory only is lost when `at_once`.
    pub fn stop(&mut self, at_once: bool) {
        if let Some(server) = self.server.take() {
            server.stop_by(if at_once { "KILL" } else { "TERM" });
        }
    }

    /// Removes the data of a stopped server.
    ///
    /// # Errors
    /// [`TestbedError`] when files can't be removed.
    pub fn forget(&mut self) -> Result<(), TestbedError> {
        let failed = |error| TestbedError::Io("redis", error);
        for name in ["appendonlydir", "appendonly.aof", "dump.rdb"] {
            let path = self.home.path().join(name);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).map_err(failed)?;
            } else if path.exists() {
                std::fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Connection URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// The server's port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Supervised::pid)
    }

    /// The server's directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

/// The first line of the server's answer to PING.
fn answers(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"PING\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(port: u16, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    #[test]
    fn data_survives_a_stop_unless_it_is_forgotten() {
        let mut redis = Redis::start().unwrap();
        assert_eq!(say(redis.port(), "SET mark 1"), "+OK");
        redis.stop(false);
        redis.start_again().unwrap();
        assert_eq!(say(redis.port(), "EXISTS mark"), ":1");
        redis.stop(true);
        redis.forget().unwrap();
        redis.start_again().unwrap();
        assert_eq!(say(redis.port(), "EXISTS mark"), ":0");
    }
}
