//! From settings to running roles.
//!
//! Every role gets plain values and the traits it needs; nothing here decides anything. `ground` puts
//! each role on what it stands on. `embedded` runs all five on one SQLite file; `apart` runs some of
//! them on PostgreSQL and Redis. Start order: stores, log, roles, listeners; `stack` has the stop order.

mod adapters;
mod apart;
mod embedded;
mod ground;
mod listeners;
mod options;
mod outbox;
mod shared;
mod stack;

use std::net::SocketAddr;

use thiserror::Error;

use crate::config::Role;

pub(crate) use apart::start as start_apart;
pub(crate) use embedded::start as start_embedded;

/// The roles could not be started.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("the store: {0}")]
    Store(String),
    #[error("the audit log: {0}")]
    Journal(String),
    #[error("keys: {0}")]
    Keys(String),
    #[error("{role} can't listen on {address}: {source}; {variable} moves it", variable = role.listen_variable())]
    Listen {
        role: Role,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("{role} can't serve operations on {address}: {source}; CARACAL_OPS_PORT moves them")]
    Operations {
        role: Role,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("{0}")]
    Setup(String),
}
