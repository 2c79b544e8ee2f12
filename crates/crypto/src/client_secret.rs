//! Secrets of applications, workloads and operators: how they are made and what is stored of them.
//!
//! A secret that we generate has 256 bits, so one keyed hash protects it as well as a slow one would.
//! Only a secret that somebody chose costs Argon2id. The stored text names its method:
//!
//! * `hmac1$<key>$<tag>`: HMAC-SHA256 under a pepper derived from the key-encryption key; `<key>` is
//!   that key's fingerprint in hex, `<tag>` unpadded base64url.
//! * `$argon2id$v=19$m=65536,t=3,p=2$<salt>$<hash>`: a PHC string.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use caracal_core::random::bytes;
use caracal_core::{Random, Secret};
use thiserror::Error;

use crate::base64url;
use crate::derive::{DeriveError, Purpose, derive_hmac_key};
use crate::hmac_key::HmacKey;
use crate::kek::{Kek, KeyRing};

/// Argon2id memory, in KiB.
pub const ARGON2_MEMORY_KIB: u32 = 65_536;
/// Argon2id passes.
pub const ARGON2_PASSES: u32 = 3;
/// Argon2id lanes.
pub const ARGON2_LANES: u32 = 2;

/// The longest secret that is hashed or compared, in bytes.
pub const MAX_SECRET_BYTES: usize = 1_024;

const KEYED_PREFIX: &str = "hmac1$";
const SLOW_PREFIX: &str = "$argon2id$";

/// Who a generated secret is for; says its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// An application's client secret, `cs_`.
    Application,
    /// A workload's secret, `ws_`.
    Workload,
    /// An admin token, `cat_`.
    AdminToken,
}

impl SecretKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Application => "cs_",
            Self::Workload => "ws_",
            Self::AdminToken => "cat_",
        }
    }

    /// A fresh secret: the prefix and 32 random bytes in base64url.
    #[must_use]
    pub fn generate(self, random: &dyn Random) -> Secret<String> {
        let entropy = Secret::new(bytes::<32>(random));
        Secret::new(format!(
            "{}{}",
            self.prefix(),
            base64url::encode(entropy.expose())
        ))
    }
}

/// A chosen secret cannot be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SecretHashError {
    /// Empty, or longer than [`MAX_SECRET_BYTES`].
    #[error("a secret has 1 to {MAX_SECRET_BYTES} bytes")]
    WrongLength,
    /// Argon2id could not run.
    #[error("the secret cannot be hashed")]
    Failed,
}

/// The stored form of a secret that somebody chose: Argon2id, 64 MiB and tens of milliseconds of
/// processor time. Call it off the async threads.
///
/// # Errors
/// [`SecretHashError`] for an empty or overlong secret.
pub fn hash_chosen(
    secret: &Secret<String>,
    random: &dyn Random,
) -> Result<String, SecretHashError> {
    if !has_usable_length(secret) {
        return Err(SecretHashError::WrongLength);
    }
    let salt = SaltString::encode_b64(&bytes::<16>(random)).map_err(|_| SecretHashError::Failed)?;
    let hash = slow_hasher()
        .and_then(|argon2| argon2.hash_password(secret.expose().as_bytes(), &salt).ok())
        .ok_or(SecretHashError::Failed)?;
    Ok(hash.to_string())
}

/// The keys of keyed hashes: one per key-encryption key of the ring.
#[derive(Debug, Clone)]
pub struct Peppers {
    current: Pepper,
    previous: Option<Pepper>,
}

#[derive(Debug, Clone)]
struct Pepper {
    name: String,
    key: HmacKey,
}

impl Pepper {
    fn of(kek: &Kek) -> Result<Self, DeriveError> {
        let key = derive_hmac_key(kek, Purpose::SecretPepper)?;
        Ok(Self {
            name: hex::encode(kek.fingerprint()),
            key,
        })
    }
}

impl Peppers {
    /// Derives the peppers of a ring.
    ///
    /// # Errors
    /// [`DeriveError`] when the cryptographic module fails.
    pub fn derive(ring: &KeyRing) -> Result<Self, DeriveError> {
        let previous = ring.previous().map(Pepper::of).transpose()?;
        Ok(Self {
            current: Pepper::of(ring.current())?,
            previous,
        })
    }

    /// The stored form of a secret that we generated.
    #[must_use]
    pub fn hash_generated(&self, secret: &Secret<String>) -> String {
        let tag = self.current.key.sign(secret.expose().as_bytes());
        format!(
            "{KEYED_PREFIX}{}${}",
            self.current.name,
            base64url::encode(tag)
        )
    }

    /// Whether `stored` is a keyed hash under another pepper than the current one. Rewrite it from
    /// the secret while the previous key-encryption key is still configured: afterwards it never
    /// verifies again.
    #[must_use]
    pub fn is_outdated(&self, stored: &str) -> bool {
        parse_keyed(stored).is_some_and(|keyed| keyed.pepper != self.current.name)
    }

    /// Whether `stored` is a keyed hash of `secret` under a pepper of the ring.
    #[must_use]
    pub fn is_hash_of(&self, stored: &str, secret: &Secret<String>) -> bool {
        self.verify_keyed(stored, secret)
    }

    /// Whether `stored` is a keyed hash under one of the ring's peppers.
    #[must_use]
    pub fn knows(&self, stored: &str) -> bool {
        parse_keyed(stored).is_some_and(|keyed| self.by_name(keyed.pepper).is_some())
    }

    pub(crate) fn verify_keyed(&self, stored: &str, presented: &Secret<String>) -> bool {
        let keyed = parse_keyed(stored);
        let pepper = keyed
            .as_ref()
            .and_then(|keyed| self.by_name(keyed.pepper))
            .unwrap_or(&self.current);
        let computed = pepper.key.sign(presented.expose().as_bytes());
        let expected = keyed
            .as_ref()
            .filter(|keyed| keyed.pepper == pepper.name)
            .map_or([0; 32], |keyed| keyed.tag);
        verify_slices_are_equal(&computed, &expected).is_ok()
    }

    fn by_name(&self, name: &str) -> Option<&Pepper> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .find(|pepper| pepper.name == name)
    }
}

pub(crate) fn is_slow(stored: &str) -> bool {
    stored.starts_with(SLOW_PREFIX)
}

pub(crate) fn has_usable_length(secret: &Secret<String>) -> bool {
    (1..=MAX_SECRET_BYTES).contains(&secret.expose().len())
}

/// Runs Argon2id. Only our own parameters are accepted, so a stored text cannot raise the cost.
pub(crate) fn verify_slow(stored: &str, presented: &Secret<String>) -> bool {
    let (Ok(hash), Some(argon2)) = (PasswordHash::new(stored), slow_hasher()) else {
        return false;
    };
    let ours = hash.version == Some(Version::V0x13.into())
        && Params::try_from(&hash).is_ok_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                == (ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES)
        });
    ours && argon2
        .verify_password(presented.expose().as_bytes(), &hash)
        .is_ok()
}

fn slow_hasher() -> Option<Argon2<'static>> {
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, Some(32)).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

struct Keyed<'a> {
    pepper: &'a str,
    tag: [u8; 32],
}

fn parse_keyed(stored: &str) -> Option<Keyed<'_>> {
    let (pepper, tag) = stored.strip_prefix(KEYED_PREFIX)?.split_once('$')?;
    Some(Keyed {
        pepper,
        tag: base64url::decode_array(tag)?,
    })
}

#[cfg(test)]
#[path = "client_secret/tests.rs"]
mod tests;
