//! The store's promises, checked through its public API on every backend.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod admin;
mod authority_records;
mod catalogue;
mod changes;
mod delegations;
mod evidence;
mod evidence_plans;
mod freshness;
mod isolation;
mod leftovers;
mod messages;
mod opening;
mod pages;
mod plans;
mod policies;
mod replicas;
mod roles;
mod server;
mod server_plans;
mod sessions;
mod units;
mod world;
mod zones;
