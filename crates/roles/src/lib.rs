//! What one role may ask of another.
//!
//! Roles never depend on one another's insides. They hold these traits; in one process the trait is a
//! function call, apart it is a signed HTTP hop. A message type here says everything the other side
//! may rely on: a [`VerifiedMandate`] can only be made by verification, so an exchange can't be asked
//! for an unverified token.
//!
//! Two things are here because both ends need one and the same: the words of the HTTP hop ([`wire`])
//! and the verifying keys of roles that have no STS in their process ([`StoredKeys`]).

mod exchange;
mod keys;
mod stored_keys;
pub mod wire;

pub use exchange::{
    Credential, Directive, Exchange, ExchangeGrant, ExchangeRefusal, ExchangeRequest, RefusalOrigin,
};
pub use keys::{KeySource, KeysUnavailable};
pub use stored_keys::StoredKeys;

pub use caracal_crypto::VerifiedMandate;
