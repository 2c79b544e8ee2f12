//! The Admin API from outside: requests against the router on a store of its own.

mod access;
mod applications;
mod audit;
mod authentication;
mod envelope;
mod malformed;
mod order;
mod pages;
mod policies;
mod providers;
mod reconcile;
mod resources;
mod shapes;
mod spelling;
mod tokens;
mod world;
mod zones;
