//! The server pieces that every role shares.
//!
//! A role writes handlers that return typed errors; this crate gives those errors one shape on the
//! wire ([`Failure`]), gives every request its id and trace ([`RequestContext`]), counts and times it
//! ([`observe`]), and runs the listener with bounds ([`serve`]).

pub mod bearer;
pub mod body;
pub mod context;
pub mod failure;
pub mod limit;
pub mod observe;
pub mod ops;
pub mod serve;
pub mod share;

pub use context::{RequestContext, TraceContext};
pub use failure::Failure;
pub use limit::{RetryAfter, WindowLimiter};
pub use observe::{Observed, Reason};
pub use ops::{Dependencies, Dependency, MetricsAccess, NotReady, Readiness, WithDependencies};
pub use serve::{Peer, ServeOptions, serve};
pub use share::{FairShare, Place, ShareFull};
