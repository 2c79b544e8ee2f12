//! PostgreSQL and Redis servers of a test's own: on free ports, in a temporary directory, stopped
//! when the process that started them ends, however it ends.
//!
//! Each server runs under a small shell that holds the read end of a pipe: when the starter is gone
//! the pipe closes and the shell stops the server. Servers refuse to run as root, so under root they
//! run as the user that their package made.

mod directory;
mod postgres;
mod programs;
mod redis;
mod supervised;

pub use postgres::{Database, Postgres};
pub use redis::{Redis, RedisOptions};

use thiserror::Error;

/// A server could not be started or asked.
#[derive(Debug, Error)]
pub enum TestbedError {
    /// The program is not installed.
    #[error("{0} is not installed; on Debian: apt-get install {1}")]
    Missing(&'static str, &'static str),
    /// A file or process failed.
    #[error("{0}: {1}")]
    Io(&'static str, std::io::Error),
    /// A program ended with an error.
    #[error("{0} failed: {1}")]
    Failed(&'static str, String),
    /// The server did not answer in time.
    #[error("{0} did not answer; its log:\n{1}")]
    Silent(&'static str, String),
}
