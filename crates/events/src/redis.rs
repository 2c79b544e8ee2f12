//! Redis or Valkey: streams between processes, marks that are set once, shared counts.
//!
//! A [`Redis`] is one connection that several parts of a process share. It reconnects by itself, and
//! while it is down every command fails at once: nothing queues without bound, and nothing is tried
//! again behind the caller's back. With Cluster no command names keys of two slots.
//!
//! What each part may rest on it:
//! - hint streams ([`RedisPublisher`]): nothing; see the crate's page;
//! - the audit stream ([`StreamWriter`], [`StreamReader`]): transport only, producers keep their logs
//!   until an event is stored;
//! - [`RedisMarks`] and [`RedisNonces`]: that an id passes once, also across restarts and failovers;
//!   [`once`] holds the argument;
//! - [`SharedWindow`]: nothing, a limit falls back to each process's own count.

mod address;
mod connection;
mod entry;
mod error;
mod findings;
mod marks;
pub mod once;
mod publisher;
mod reader;
mod tls;
mod window;
mod writer;

pub use address::{InvalidAddress, RedisAddress};
pub use connection::{Redis, RedisOptions};
pub use entry::{Entry, EntryId, InvalidEntryId};
pub use error::RedisError;
pub use findings::{ServerFinding, ServerReport};
pub use marks::{RedisMarks, RedisNonces};
pub use once::{Once, OnceGate};
pub use publisher::RedisPublisher;
pub use reader::{Lag, StreamReader};
pub use window::SharedWindow;
pub use writer::{StreamWriter, Trim};

#[cfg(test)]
mod tests;
