//! Signed notes in the C2SP `signed-note` format, with Ed25519 keys.
//!
//! A note is text that ends in a line feed, an empty line, and one line per signature:
//! `— <key name> <base64 of the key id and the signature>`. Any verifier of such notes reads ours.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caracal_core::random::bytes;
use caracal_core::{Random, Secret};
use thiserror::Error;

use crate::merkle::Hash;

/// The longest note that is read. Bytes.
const MAX_NOTE_BYTES: usize = 64 * 1024;
/// The algorithm byte of Ed25519 in key ids and encoded keys.
const ED25519_ALGORITHM: u8 = 1;
const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why a note is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoteError {
    /// The text is not a signed note.
    #[error("not a signed note")]
    Malformed,
    /// No signature of the expected key is on it.
    #[error("the note is not signed by the expected key")]
    Unsigned,
    /// The signature of the expected key is wrong.
    #[error("the note's signature is wrong: the note or its signature was changed")]
    BadSignature,
    /// A key's text is not one.
    #[error("not a verifier key: expected <name>+<8 hex digits>+<base64>")]
    BadKey,
    /// A key's name is empty, or has spaces or a plus sign.
    #[error("a key name is not empty and has neither spaces nor '+'")]
    BadName,
}

/// A key that signs notes. Each log signs under its own name with it.
#[derive(Debug)]
pub struct NoteKey(Ed25519KeyPair);

/// A stored seed is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stored seed is not an Ed25519 seed")]
pub struct BadSeed;

impl NoteKey {
    /// A fresh seed, to be stored sealed.
    #[must_use]
    pub fn generate_seed(random: &dyn Random) -> Secret<[u8; 32]> {
        Secret::new(bytes(random))
    }

    /// The key of a stored seed.
    ///
    /// # Errors
    /// [`BadSeed`] when the library refuses it.
    pub fn from_seed(seed: &Secret<[u8; 32]>) -> Result<Self, BadSeed> {
        Ed25519KeyPair::from_seed_unchecked(seed.expose())
            .map(Self)
            .map_err(|_| BadSeed)
    }

    /// The public half, under a name.
    ///
    /// # Errors
    /// [`NoteError::BadName`].
    pub fn verifier(&self, name: &str) -> Result<VerifierKey, NoteError> {
        let public = self
            .0
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| NoteError::BadKey)?;
        VerifierKey::new(name, public)
    }

    /// Signs a text under a name.
    ///
    /// # Errors
    /// [`NoteError::BadName`], or [`NoteError::Malformed`] when the text doesn't end in a line feed.
    pub fn sign(&self, name: &str, text: &str) -> Result<String, NoteError> {
        if !text.ends_with('\n') {
            return Err(NoteError::Malformed);
        }
        let mut blob = self.verifier(name)?.id().to_vec();
        blob.extend_from_slice(self.0.sign(text.as_bytes()).as_ref());
        Ok(format!(
            "{text}\n{SIGNATURE_PREFIX}{name} {}\n",
            STANDARD.encode(blob)
        ))
    }
}

/// The public half of a [`NoteKey`] under a name; printed as `<name>+<key id>+<base64>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    fn new(name: &str, public: [u8; 32]) -> Result<Self, NoteError> {
        let fits = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == '+');
        if fits {
            Ok(Self {
                name: name.to_owned(),
                public,
            })
        } else {
            Err(NoteError::BadName)
        }
    }

    /// Parses the printed form; the key id in it must be right.
    ///
    /// # Errors
    /// [`NoteError::BadKey`] or [`NoteError::BadName`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(NoteError::BadKey);
        };
        let decoded = STANDARD.decode(encoded).map_err(|_| NoteError::BadKey)?;
        let public = match decoded.split_first() {
            Some((&ED25519_ALGORITHM, public)) => public.try_into().ok(),
            _ => None,
        };
        let key = Self::new(name, public.ok_or(NoteError::BadKey)?)?;
        if hex::encode(key.id()) == id {
            Ok(key)
        } else {
            Err(NoteError::BadKey)
        }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same key under another name.
    ///
    /// # Errors
    /// [`NoteError::BadName`].
    pub fn renamed(&self, name: &str) -> Result<Self, NoteError> {
        Self::new(name, self.public)
    }

    /// Checks this key's signature on a note; answers the text.
    ///
    /// # Errors
    /// [`NoteError`] unless the text carries a good signature of this key.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        if note.len() > MAX_NOTE_BYTES || !note.ends_with('\n') {
            return Err(NoteError::Malformed);
        }
        let border = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, signatures) = (&note[..=border], &note[border + 2..]);
        for line in signatures.lines() {
            let signature = line
                .strip_prefix(SIGNATURE_PREFIX)
                .ok_or(NoteError::Malformed)?;
            let (name, encoded) = signature.split_once(' ').ok_or(NoteError::Malformed)?;
            let blob = STANDARD.decode(encoded).map_err(|_| NoteError::Malformed)?;
            let Some((id, signature)) = blob.split_first_chunk::<4>() else {
                return Err(NoteError::Malformed);
            };
            if name == self.name && *id == self.id() {
                return UnparsedPublicKey::new(&ED25519, self.public)
                    .verify(text.as_bytes(), signature)
                    .map(|()| text)
                    .map_err(|_| NoteError::BadSignature);
            }
        }
        Err(NoteError::Unsigned)
    }

    fn id(&self) -> [u8; 4] {
        let hash = Hash::of(&[
            self.name.as_bytes(),
            b"\n",
            &[ED25519_ALGORITHM],
            &self.public,
        ]);
        let [a, b, c, d, ..] = *hash.as_bytes();
        [a, b, c, d]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut encoded = vec![ED25519_ALGORITHM];
        encoded.extend_from_slice(&self.public);
        write!(
            f,
            "{}+{}+{}",
            self.name,
            hex::encode(self.id()),
            STANDARD.encode(encoded)
        )
    }
}

#[cfg(test)]
mod tests {
    use caracal_core::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    /// The published example of the format.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\
        \n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn key() -> NoteKey {
        NoteKey::from_seed(&NoteKey::generate_seed(&SeededRandom::new(5))).unwrap()
    }

    #[test]
    fn the_published_note_verifies() {
        let key = VerifierKey::parse(KEY).unwrap();
        assert_eq!(key.to_string(), KEY);
        assert!(key.open(NOTE).unwrap().ends_with("problem is.\n"));
        assert_eq!(
            key.open(&NOTE.replace("answer", "Answer")),
            Err(NoteError::BadSignature)
        );
    }

    #[test]
    fn our_notes_verify_under_their_name_only() {
        let note = key().sign("log.example/a", "hello\n").unwrap();
        let verifier = key().verifier("log.example/a").unwrap();
        assert_eq!(verifier.open(&note), Ok("hello\n"));
        let other = verifier.renamed("log.example/b").unwrap();
        assert_eq!(other.open(&note), Err(NoteError::Unsigned));
        assert_eq!(VerifierKey::parse(&verifier.to_string()), Ok(verifier));
    }

    #[test]
    fn a_signature_of_another_key_beside_ours_is_ignored() {
        let mut note = key().sign("a", "hello\n").unwrap();
        let other = NoteKey::from_seed(&NoteKey::generate_seed(&SeededRandom::new(6))).unwrap();
        let foreign = other.sign("b", "hello\n").unwrap();
        note.push_str(foreign.lines().last().unwrap());
        note.push('\n');
        assert_eq!(key().verifier("a").unwrap().open(&note), Ok("hello\n"));
    }

    #[test]
    fn malformed_notes_and_keys_are_refused() {
        let verifier = key().verifier("a").unwrap();
        for bad in [
            "",
            "\n",
            "hello",
            "hello\n",
            "hello\n\n- a AAAA\n",
            "hello\n\n\u{2014} a !\n",
        ] {
            assert!(verifier.open(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "a", "a+b", "a+00000000+AAAA", "a b+c74f20a3+ARpc"] {
            assert!(VerifierKey::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(key().verifier("a b"), Err(NoteError::BadName));
        assert_eq!(key().sign("a", "no line feed"), Err(NoteError::Malformed));
    }

    proptest! {
        #[test]
        fn a_changed_note_never_verifies_as_the_same_text(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let note = key().sign("a", "hello\nworld\n").unwrap();
            let mut changed = note.clone().into_bytes();
            let at = at.index(changed.len());
            changed[at] = byte;
            if let Ok(changed) = String::from_utf8(changed) {
                let opened = key().verifier("a").unwrap().open(&changed).map(str::to_owned);
                prop_assert!(opened.is_err() || changed == note);
            }
        }
    }
}
