//! The operator's commands, through the built binary.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod backups;
mod doctors;
mod health;
mod rotation;
mod server;
mod shop;
