//! Audit events and the evidence they leave.
//!
//! An event travels like this:
//!
//! 1. A role builds an [`Event`] and awaits [`Journal::append`]. When that returns, the event's JSON
//!    text and its signature are in the operating system's hands (or on the disk, by policy); only
//!    then may the decision it records take effect.
//! 2. Where the Audit role is another process, the producer ships its log over a stream ([`ship`]) and
//!    keeps it until the Audit role has stored it.
//! 3. The Audit role reads the log in order, verifies the signatures and gives each event its place
//!    in its zone's [`chain`]: a sequence number, a leaf of the zone's [`merkle`] tree and a link to
//!    the event before it.
//! 4. A [`checkpoint`] signs the tree's size and root every few seconds.
//! 5. An exported [`bundle`] can be checked by [`verify`] without the service: nothing removed,
//!    nothing changed, order kept.

pub mod bundle;
pub mod chain;
pub mod checkpoint;
pub mod event;
pub mod log;
pub mod merkle;
pub mod note;
pub mod ship;
pub mod sign;
pub mod verify;

pub use chain::{ChainHead, Link};
pub use checkpoint::Checkpoint;
pub use event::{Decision, Event, EventType, Metadata, ReceivedEvent, Stamp};
pub use log::{AppendError, Durability, Journal, JournalError, JournalOptions, Position};
pub use merkle::Hash;
pub use note::{NoteKey, VerifierKey};
pub use ship::{EvidenceStream, Shipper, ShipperOptions, ShipperParts, StoredUpto};
pub use sign::FrameSignature;
