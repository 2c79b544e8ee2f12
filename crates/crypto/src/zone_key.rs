//! The keys of a zone: ES256 (ECDSA on P-256 with SHA-256, RFC 7518 §3.4).

use std::fmt;

use aws_lc_rs::rand::SystemRandom as AwsRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    ParsedPublicKey, Signature,
};
use caracal_core::Secret;
use caracal_core::id::KeyId;
use thiserror::Error;

use crate::base64url;
use crate::claims::Claims;
use crate::mandate::MAX_TOKEN_BYTES;

/// The length of an uncompressed P-256 point: `04`, x, y (SEC 1 §2.3.3).
const POINT_BYTES: usize = 65;

/// A key cannot be made or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The bytes are no P-256 key in the expected form.
    #[error("not a P-256 key")]
    Invalid,
    /// The cryptographic module failed.
    #[error("the cryptographic module cannot make or export a key")]
    Module,
}

/// A mandate cannot be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignError {
    /// The mandate would be longer than [`MAX_TOKEN_BYTES`], so nobody would accept it.
    #[error("the mandate would exceed {MAX_TOKEN_BYTES} bytes: ask for fewer resources or scopes")]
    TooLarge,
    /// The cryptographic module failed.
    #[error("the cryptographic module cannot sign")]
    Module,
}

/// A zone's private key, with its JOSE header encoded once.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: VerifyingKey,
    encoded_header: String,
}

impl SigningKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`KeyError::Module`] when the cryptographic module fails.
    pub fn generate(kid: KeyId) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| KeyError::Module)?;
        Self::new(kid, pair)
    }

    /// The key of a PKCS #8 document (RFC 5958).
    ///
    /// # Errors
    /// [`KeyError::Invalid`] for anything but an unencrypted P-256 key.
    pub fn from_pkcs8(kid: KeyId, pkcs8: &Secret<Vec<u8>>) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose())
            .map_err(|_| KeyError::Invalid)?;
        Self::new(kid, pair)
    }

    fn new(kid: KeyId, pair: EcdsaKeyPair) -> Result<Self, KeyError> {
        let encoded_header =
            base64url::encode(format!(r#"{{"alg":"ES256","kid":"{kid}","typ":"JWT"}}"#));
        let public = VerifyingKey::from_point(kid, pair.public_key().as_ref())?;
        Ok(Self {
            pair,
            public,
            encoded_header,
        })
    }

    /// The key as a PKCS #8 document, to be sealed.
    ///
    /// # Errors
    /// [`KeyError::Module`] when the cryptographic module fails.
    pub fn to_pkcs8(&self) -> Result<Secret<Vec<u8>>, KeyError> {
        let document = self.pair.to_pkcs8v1().map_err(|_| KeyError::Module)?;
        Ok(Secret::new(document.as_ref().to_vec()))
    }

    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        self.public.kid()
    }

    /// The public half.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    /// Signs `claims`: the compact mandate.
    ///
    /// # Errors
    /// [`SignError`] when it would be too long, or the cryptographic module fails.
    pub fn sign(&self, claims: &Claims) -> Result<String, SignError> {
        let payload = serde_json::to_vec(claims).map_err(|_| SignError::Module)?;
        let mut token = String::with_capacity(self.encoded_header.len() + payload.len() * 2 + 96);
        token.push_str(&self.encoded_header);
        token.push('.');
        base64url::encode_onto(payload, &mut token);
        let signature = self.sign_bytes(token.as_bytes())?;
        token.push('.');
        base64url::encode_onto(signature, &mut token);
        if token.len() > MAX_TOKEN_BYTES {
            Err(SignError::TooLarge)
        } else {
            Ok(token)
        }
    }

    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Result<Signature, SignError> {
        self.pair
            .sign(&AwsRandom::new(), message)
            .map_err(|_| SignError::Module)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", self.kid())
            .finish_non_exhaustive()
    }
}

/// A zone's public key.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    kid: KeyId,
    point: [u8; POINT_BYTES],
    parsed: ParsedPublicKey,
}

impl VerifyingKey {
    /// The key at an uncompressed point.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] unless `point` is 65 bytes, uncompressed and on the curve.
    pub fn from_point(kid: KeyId, point: &[u8]) -> Result<Self, KeyError> {
        let point: [u8; POINT_BYTES] = point.try_into().map_err(|_| KeyError::Invalid)?;
        if point[0] != 4 {
            return Err(KeyError::Invalid);
        }
        let parsed =
            ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| KeyError::Invalid)?;
        Ok(Self { kid, point, parsed })
    }

    /// The key at the coordinates of a JWK (RFC 7518 §6.2.1): unpadded base64url of 32 bytes each.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] for any other text, or a point off the curve.
    pub fn from_coordinates(kid: KeyId, x: &str, y: &str) -> Result<Self, KeyError> {
        let x: [u8; 32] = base64url::decode_array(x).ok_or(KeyError::Invalid)?;
        let y: [u8; 32] = base64url::decode_array(y).ok_or(KeyError::Invalid)?;
        let mut point = [4; POINT_BYTES];
        point[1..33].copy_from_slice(&x);
        point[33..].copy_from_slice(&y);
        Self::from_point(kid, &point)
    }

    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// The uncompressed point: `04`, x, y.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// The x coordinate as unpadded base64url of 32 bytes (RFC 7518 §6.2.1.2).
    #[must_use]
    pub fn x(&self) -> String {
        base64url::encode(&self.point[1..33])
    }

    /// The y coordinate as unpadded base64url of 32 bytes (RFC 7518 §6.2.1.3).
    #[must_use]
    pub fn y(&self) -> String {
        base64url::encode(&self.point[33..])
    }

    pub(crate) fn accepts(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kid() -> KeyId {
        KeyId::parse("k1").unwrap()
    }

    #[test]
    fn a_key_reads_back_from_its_document() {
        let key = SigningKey::generate(kid()).unwrap();
        let read = SigningKey::from_pkcs8(kid(), &key.to_pkcs8().unwrap()).unwrap();
        assert_eq!(read.verifying_key().point(), key.verifying_key().point());
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        let document = SigningKey::generate(kid()).unwrap().to_pkcs8().unwrap();
        let cut = document.expose()[..document.expose().len() - 1].to_vec();
        for bad in [Vec::new(), vec![0; 32], cut] {
            let refused = SigningKey::from_pkcs8(kid(), &Secret::new(bad)).err();
            assert_eq!(refused, Some(KeyError::Invalid));
        }
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let mut point = SigningKey::generate(kid())
            .unwrap()
            .verifying_key()
            .point()
            .to_vec();
        point[64] ^= 1;
        assert_eq!(
            VerifyingKey::from_point(kid(), &point).err(),
            Some(KeyError::Invalid)
        );
    }

    #[test]
    fn only_uncompressed_points_are_read() {
        let point = SigningKey::generate(kid())
            .unwrap()
            .verifying_key()
            .point()
            .to_vec();
        for bad in [
            &[][..],
            &point[..64],
            &point[..33],
            &[&[5], &point[1..]].concat(),
        ] {
            assert_eq!(
                VerifyingKey::from_point(kid(), bad).err(),
                Some(KeyError::Invalid)
            );
        }
    }

    #[test]
    fn debug_output_hides_the_private_key() {
        let shown = format!("{:?}", SigningKey::generate(kid()).unwrap());
        assert_eq!(shown, "SigningKey { kid: KeyId(k1), .. }");
    }
}
