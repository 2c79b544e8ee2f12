//! Sealed values: secrets at rest in the store.
//!
//! A fresh data key seals the value, the key-encryption key seals the data key. Both layers are bound
//! to the place where the value lives, so a row copied to another row, column, table or zone does not
//! open. Which key-encryption key to open with is read off the fingerprint, never tried out.
//!
//! | offset | length | content |
//! |---|---|---|
//! | 0 | 4 | `CRSV` |
//! | 4 | 1 | format version, 1 |
//! | 5 | 8 | fingerprint of the key-encryption key |
//! | 13 | 12 | nonce of the data key |
//! | 25 | 48 | data key, AES-256-GCM under the key-encryption key |
//! | 73 | 12 | nonce of the value |
//! | 85 | n + 16 | value, AES-256-GCM under the data key |
//!
//! The additional data of a layer are a label for the layer, the first 13 bytes, and the location's
//! parts, each preceded by its length as 8 bytes, big end first.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use caracal_core::id::{ApplicationId, ProviderId, ZoneId};
use caracal_core::random::bytes;
use caracal_core::{Random, Secret};
use thiserror::Error;

use crate::kek::KeyRing;

const MAGIC: &[u8; 4] = b"CRSV";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 13;
const NONCE_BYTES: usize = 12;
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const WRAPPED_KEY_BYTES: usize = KEY_BYTES + TAG_BYTES;
const MIN_BYTES: usize = HEADER_BYTES + NONCE_BYTES + WRAPPED_KEY_BYTES + NONCE_BYTES + TAG_BYTES;

/// Where a sealed value lives. Sealing and opening must name the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealLocation<'a> {
    /// The table.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The row's primary key.
    pub row: &'a str,
    /// The zone that owns the row; `None` for rows above zones.
    pub zone: Option<&'a ZoneId>,
}

impl<'a> SealLocation<'a> {
    /// The secret part of a provider's configuration: a JSON object of its secret keys.
    #[must_use]
    pub fn provider_config(zone: &'a ZoneId, provider: &'a ProviderId) -> Self {
        Self {
            table: "providers",
            column: "sealed_config",
            row: provider.as_str(),
            zone: Some(zone),
        }
    }

    /// The custody copy of an application's client secret: its UTF-8 text.
    #[must_use]
    pub fn client_secret(zone: &'a ZoneId, application: &'a ApplicationId) -> Self {
        Self {
            table: "applications",
            column: "sealed_secret",
            row: application.as_str(),
            zone: Some(zone),
        }
    }
}

/// A value cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// Not a sealed value of a known version.
    #[error("not a sealed value of a known format")]
    Malformed,
    /// Sealed under a key that is not in the ring.
    #[error("the value is sealed under another key-encryption key")]
    UnknownKey,
    /// Changed, or moved from another place.
    #[error("the sealed value was changed or belongs elsewhere")]
    Tampered,
    /// The cryptographic module failed.
    #[error("the cryptographic module cannot seal")]
    Module,
}

impl KeyRing {
    /// Seals `value` for `location` under the current key.
    ///
    /// # Errors
    /// [`SealError::Module`] when the cryptographic module fails.
    pub fn seal(
        &self,
        location: &SealLocation<'_>,
        value: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, SealError> {
        let data_key = Secret::new(bytes::<KEY_BYTES>(random));
        let mut sealed = Vec::with_capacity(MIN_BYTES + value.len());
        sealed.extend_from_slice(MAGIC);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.current().fingerprint());
        let header: [u8; HEADER_BYTES] = sealed
            .as_slice()
            .try_into()
            .map_err(|_| SealError::Module)?;
        let key_layer = Layer {
            label: b"data key",
            header: &header,
            location,
        };
        let value_layer = Layer {
            label: b"value",
            header: &header,
            location,
        };
        key_layer.seal(
            self.current().cipher(),
            data_key.expose(),
            random,
            &mut sealed,
        )?;
        value_layer.seal(&cipher(&data_key)?, value, random, &mut sealed)?;
        Ok(sealed)
    }

    /// Opens what [`KeyRing::seal`] made for the same location.
    ///
    /// # Errors
    /// [`SealError`]; never a value that was changed, or moved from another place.
    pub fn open(
        &self,
        location: &SealLocation<'_>,
        sealed: &[u8],
    ) -> Result<Secret<Vec<u8>>, SealError> {
        let (header, rest) = read_header(sealed)?;
        let kek = self
            .by_fingerprint(&header[5..])
            .ok_or(SealError::UnknownKey)?;
        let (wrapped, value) = rest.split_at(NONCE_BYTES + WRAPPED_KEY_BYTES);
        let key_layer = Layer {
            label: b"data key",
            header,
            location,
        };
        let value_layer = Layer {
            label: b"value",
            header,
            location,
        };
        let data_key = key_layer.open(kek.cipher(), wrapped)?;
        let data_key = <[u8; KEY_BYTES]>::try_from(data_key.expose().as_slice())
            .map_err(|_| SealError::Tampered)?;
        value_layer.open(&cipher(&Secret::new(data_key))?, value)
    }

    /// Whether `sealed` is under the current key; else it wants to be sealed again.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        read_header(sealed).is_ok_and(|(header, _)| header[5..] == self.current().fingerprint())
    }
}

fn read_header(sealed: &[u8]) -> Result<(&[u8; HEADER_BYTES], &[u8]), SealError> {
    if sealed.len() < MIN_BYTES {
        return Err(SealError::Malformed);
    }
    let (header, rest) = sealed
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(SealError::Malformed)?;
    if header[..4] == *MAGIC && header[4] == VERSION {
        Ok((header, rest))
    } else {
        Err(SealError::Malformed)
    }
}

fn cipher(key: &Secret<[u8; KEY_BYTES]>) -> Result<LessSafeKey, SealError> {
    let unbound = UnboundKey::new(&AES_256_GCM, key.expose()).map_err(|_| SealError::Module)?;
    Ok(LessSafeKey::new(unbound))
}

/// One of the two encryptions of a sealed value: nonce, then ciphertext with its tag.
struct Layer<'a> {
    label: &'static [u8],
    header: &'a [u8; HEADER_BYTES],
    location: &'a SealLocation<'a>,
}

impl Layer<'_> {
    fn seal(
        &self,
        cipher: &LessSafeKey,
        plain: &[u8],
        random: &dyn Random,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let nonce = bytes::<NONCE_BYTES>(random);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let tag = cipher
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                self.additional_data(),
                &mut out[start..],
            )
            .map_err(|_| SealError::Module)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(&self, cipher: &LessSafeKey, sealed: &[u8]) -> Result<Secret<Vec<u8>>, SealError> {
        let (nonce, ciphertext) = sealed
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SealError::Malformed)?;
        let mut plain = ciphertext.to_vec();
        let length = cipher
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                self.additional_data(),
                &mut plain,
            )
            .map_err(|_| SealError::Tampered)?
            .len();
        plain.truncate(length);
        Ok(Secret::new(plain))
    }

    fn additional_data(&self) -> Aad<Vec<u8>> {
        let zone = self.location.zone.map_or("", ZoneId::as_str);
        let location = [
            self.location.table,
            self.location.column,
            self.location.row,
            zone,
        ];
        let mut data = Vec::with_capacity(128);
        append(&mut data, self.label);
        append(&mut data, self.header);
        for part in location {
            append(&mut data, part.as_bytes());
        }
        Aad::from(data)
    }
}

/// Length first, so that no two locations have the same encoding.
fn append(data: &mut Vec<u8>, part: &[u8]) {
    let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(part);
}

#[cfg(test)]
#[path = "seal/tests.rs"]
mod tests;
