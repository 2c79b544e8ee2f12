//! The role as its clients see it: requests through the router over a real store, with a clock that
//! the test moves.

mod authentication;
mod delegations;
mod idempotency;
mod leases;
mod malformed;
mod operations;
mod outbox;
mod properties;
mod reads;
mod revocation;
mod sessions;
mod stats;
mod sweeps;
mod trail;
mod transport;
mod verification;
mod world;
