//! What one role may ask of another.
//!
//! Roles never depend on one another's insides. They hold these traits; in one process the trait is a
//! function call, apart it is a signed HTTP hop. A message type here says everything the other side
//! may rely on: a [`VerifiedMandate`] can only be made by verification, so an exchange can't be asked
//! for an unverified token.

mod exchange;
mod keys;

pub use exchange::{
    Credential, Directive, Exchange, ExchangeGrant, ExchangeRefusal, ExchangeRequest,
};
pub use keys::{KeySource, KeysUnavailable};

pub use caracal_crypto::VerifiedMandate;
