//! The vocabulary of Caracal.
//!
//! Every other crate speaks in these words: ids, scopes, resource identifiers, timestamps, secrets.
//! They are parsed once, at the edge; code that holds one may trust it. Nothing here does I/O, and
//! nothing here reads the clock or the random source behind the caller's back: [`Clock`] and
//! [`Random`] are inputs, so that tests drive both.

pub mod clock;
pub mod error;
pub mod header;
pub mod id;
pub mod mode;
pub mod path;
pub mod random;
pub mod resource;
pub mod scope;
pub mod secret;
pub mod subject;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use error::ErrorBody;
pub use id::RequestId;
pub use mode::Mode;
pub use random::{Random, SeededRandom, SystemRandom};
pub use resource::ResourceIdentifier;
pub use scope::{Scope, ScopeSet};
pub use secret::Secret;
pub use subject::SubjectType;
