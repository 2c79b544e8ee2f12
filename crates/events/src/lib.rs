//! Stream messages: topics, fields, signatures, and delivery inside one process.
//!
//! A message is a hint. It warms caches, ends running streams early and feeds the revocation stores
//! of resource servers; no allow ever depends on one having arrived. Messages are born as
//! [`Message`]s in the transaction that changes state, lie in the outbox as JSON, and leave it as
//! signed [`Fields`] through a [`Publisher`].

pub mod bus;
pub mod fields;
pub mod message;
pub mod publisher;
pub mod reason;
pub mod redis;
pub mod signature;
pub mod topic;

pub use bus::{Delivery, InProcessBus, Subscription};
pub use fields::{Fields, FieldsError};
pub use message::{Message, MessageError};
pub use publisher::{PublishError, Publisher};
pub use reason::{InvalidReason, Reason};
pub use topic::{Topic, UnknownTopic};
