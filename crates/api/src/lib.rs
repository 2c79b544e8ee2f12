//! The Admin API.
//!
//! A request goes down one path, [`pipeline`]: peer limit, [`authenticate`], gate ([`capability`]),
//! token limit, parameters, query, body, handler. [`routes`] lists every handler with what it does
//! and where; the gate judges that declaration, so there is no way around it. There is one folder per
//! object ([`zone`], [`application`], [`provider`], [`resource`], [`policy`], [`policy_set`]) and one
//! for evidence ([`audit_read`]). A change and its [`admin_audit`] row are one transaction. Refusals
//! are listed in [`error`], which alone knows their status.

mod admin_audit;
mod admin_token;
mod api;
mod application;
mod attribution;
mod audit_read;
mod authenticate;
mod capability;
mod error;
mod limits;
mod outbox;
mod page;
mod pipeline;
mod policy;
mod policy_set;
mod ports;
mod provider;
mod reply;
mod request;
mod reserved;
mod resource;
mod route;
mod routes;
mod slug;
#[cfg(test)]
mod tests;
mod turns;
mod zone;

pub use api::{Api, ApiOptions, ApiParts};
pub use limits::RateLimits;
pub use ports::{EvidenceBarrier, ZoneKeyError, ZoneKeys};
