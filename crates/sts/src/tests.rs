//! The STS from outside: bytes in, bytes out, and what it leaves in the store and the log.

mod chain;
mod client;
mod control;
mod delegated;
mod depth;
mod gateway;
mod lifecycle;
mod malformed;
mod published;
mod trouble;
