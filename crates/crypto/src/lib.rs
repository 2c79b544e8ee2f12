//! Keys, and what is signed, sealed or hashed with them.
//!
//! One file per construction. Primitives come from AWS-LC (`aws-lc-rs`); only Argon2id, which it
//! lacks, comes from RustCrypto. Nothing here does I/O. Time and the randomness of nonces, data keys
//! and secrets are inputs; the randomness of EC keys and ECDSA signatures is AWS-LC's own, because
//! its validated module takes no other.
//!
//! | file | what |
//! |---|---|
//! | [`claims`], [`mandate`], [`peek`] | the mandate: its claims, its verification, a look before it |
//! | [`zone_key`], [`key_set`] | the keys that sign mandates, and the published sets that verify them |
//! | [`kek`], [`seal`], [`derive`] | the key-encryption key, sealed values, keys derived from it |
//! | [`hmac_key`], [`request_signature`] | shared keys between services, and signed requests |
//! | [`client_secret`], [`secret_verifier`] | secrets of clients: made, stored, verified |
//! | [`admin_token`] | console tokens, account assertions, token digests |

pub mod admin_token;
pub mod claims;
pub mod client_secret;
pub mod derive;
pub mod digest;
pub mod fuzz;
pub mod hmac_key;
pub mod kek;
pub mod key_set;
pub mod mandate;
pub mod peek;
pub mod request_signature;
pub mod seal;
pub mod secret_verifier;
pub mod zone_key;

mod base64url;

pub use claims::{Claims, DelegationHop, MandateUse};
pub use digest::{sha256, sha256_hex};
pub use hmac_key::HmacKey;
pub use kek::{Kek, KeyRing};
pub use key_set::KeySet;
pub use mandate::{Expectation, MandateError, VerifiedMandate, verify};
pub use peek::{Peek, peek};
pub use seal::{SealError, SealLocation};
pub use secret_verifier::SecretVerifier;
pub use zone_key::{SigningKey, VerifyingKey};
