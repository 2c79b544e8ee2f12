//! The Gateway from outside: a real server, a real store, a real audit log, raw bytes on both sides.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod bodies;
mod caller;
mod concurrency;
mod credentials;
mod distant_sts;
mod evidence;
mod exchange_client;
mod forwarding;
mod heads;
mod isolation;
mod operations;
mod order;
mod refusals;
mod revocation;
mod sts;
mod tls;
mod upstream;
mod world;
