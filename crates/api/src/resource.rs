//! Resources: what agents call, through the Gateway.

mod change;
mod create;
mod identifier;
mod input;
mod operations;
mod read;
mod rules;
mod view;

pub(crate) use change::{delete, patch};
pub(crate) use create::create;
pub(crate) use read::{list, read};
