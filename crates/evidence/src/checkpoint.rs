//! Checkpoints: the size and the root of a zone's tree, signed.
//!
//! The format is C2SP `tlog-checkpoint`. The origin, which is also the key's name, is
//! `caracal.audit/<zone>`; one extension line, `time <RFC 3339>`, says when the checkpoint was made.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caracal_core::Timestamp;
use caracal_core::id::ZoneId;
use thiserror::Error;

use crate::chain::ChainHead;
use crate::merkle::Hash;
use crate::note::{NoteError, NoteKey, VerifierKey};

const ORIGIN: &str = "caracal.audit/";
const TIME: &str = "time ";

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The zone whose tree it is.
    pub zone: ZoneId,
    /// How many events the tree has.
    pub size: u64,
    /// The tree's root.
    pub root: Hash,
    /// When it was signed.
    pub at: Timestamp,
}

/// Why a text is no checkpoint to rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CheckpointError {
    /// The note or its signature is not good.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The signed text is not a checkpoint of a zone's audit log.
    #[error("the signed note is not an audit checkpoint")]
    NotACheckpoint,
}

impl Checkpoint {
    /// The state of a chain.
    #[must_use]
    pub fn of(head: &ChainHead, at: Timestamp) -> Self {
        Self {
            zone: head.zone().clone(),
            size: head.seq(),
            root: head.root(),
            at,
        }
    }

    /// The log's name: the checkpoint's origin and its key's name.
    #[must_use]
    pub fn origin(zone: &ZoneId) -> String {
        format!("{ORIGIN}{zone}")
    }

    /// The public key that verifies a zone's checkpoints.
    ///
    /// # Errors
    /// [`NoteError`] when the key can't be named.
    pub fn verifier(key: &NoteKey, zone: &ZoneId) -> Result<VerifierKey, NoteError> {
        key.verifier(&Self::origin(zone))
    }

    /// The signed note.
    ///
    /// # Errors
    /// [`NoteError`] when the key can't be named.
    pub fn sign(&self, key: &NoteKey) -> Result<String, NoteError> {
        let origin = Self::origin(&self.zone);
        let root = STANDARD.encode(self.root.as_bytes());
        let time = self.at.to_rfc3339_micros();
        key.sign(
            &origin,
            &format!("{origin}\n{}\n{root}\n{TIME}{time}\n", self.size),
        )
    }

    /// Opens a signed note. The key is renamed to the checkpoint's own zone, so the caller must
    /// compare [`Checkpoint::zone`] with the zone it means.
    ///
    /// # Errors
    /// [`CheckpointError`] unless it is a checkpoint that this key signed.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, CheckpointError> {
        let zone = note
            .lines()
            .next()
            .and_then(|origin| ZoneId::parse(origin.strip_prefix(ORIGIN)?).ok())
            .ok_or(CheckpointError::NotACheckpoint)?;
        let text = key.renamed(&Self::origin(&zone))?.open(note)?;
        Self::parse(text, zone).ok_or(CheckpointError::NotACheckpoint)
    }

    fn parse(text: &str, zone: ZoneId) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let size = decimal(lines.next()?)?;
        let root = Hash::from_slice(&STANDARD.decode(lines.next()?).ok()?)?;
        let at = Timestamp::parse_rfc3339(lines.next()?.strip_prefix(TIME)?)?;
        Some(Self {
            zone,
            size,
            root,
            at,
        })
    }
}

/// Decimal digits without leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if canonical && digits {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use caracal_core::SeededRandom;

    use super::*;

    fn key() -> NoteKey {
        NoteKey::from_seed(&NoteKey::generate_seed(&SeededRandom::new(5))).unwrap()
    }

    fn checkpoint() -> Checkpoint {
        let zone = ZoneId::parse("zone-a").unwrap();
        let mut head = ChainHead::genesis(&zone);
        head.append(b"{}");
        Checkpoint::of(&head, Timestamp::from_micros(1_767_225_600_000_001))
    }

    #[test]
    fn a_checkpoint_has_the_lines_of_the_format() {
        let note = checkpoint().sign(&key()).unwrap();
        let lines: Vec<_> = note.lines().collect();
        assert_eq!(lines[0], "caracal.audit/zone-a");
        assert_eq!(lines[1], "1");
        assert_eq!(
            STANDARD.decode(lines[2]).unwrap(),
            checkpoint().root.as_bytes()
        );
        assert_eq!(lines[3], "time 2026-01-01T00:00:00.000001Z");
        assert_eq!(lines[4], "");
        assert!(lines[5].starts_with("\u{2014} caracal.audit/zone-a "));
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn what_was_signed_is_what_is_opened() {
        let note = checkpoint().sign(&key()).unwrap();
        let verifier = Checkpoint::verifier(&key(), &checkpoint().zone).unwrap();
        assert_eq!(Checkpoint::open(&note, &verifier), Ok(checkpoint()));
    }

    #[test]
    fn a_checkpoint_of_another_zone_does_not_pass_as_ours() {
        let verifier = Checkpoint::verifier(&key(), &checkpoint().zone).unwrap();
        let note = checkpoint()
            .sign(&key())
            .unwrap()
            .replacen("zone-a", "zone-b", 1);
        assert_eq!(
            Checkpoint::open(&note, &verifier),
            Err(CheckpointError::Note(NoteError::Unsigned))
        );
    }

    #[test]
    fn a_signed_text_that_is_no_checkpoint_is_refused() {
        let zone = checkpoint().zone;
        let origin = Checkpoint::origin(&zone);
        let verifier = Checkpoint::verifier(&key(), &zone).unwrap();
        let root = STANDARD.encode([0; 32]);
        let bad = [
            format!("{origin}\n"),
            format!("{origin}\n01\n{root}\ntime 2026-01-01T00:00:00Z\n"),
            format!("{origin}\n-1\n{root}\ntime 2026-01-01T00:00:00Z\n"),
            format!("{origin}\n1\nAAAA\ntime 2026-01-01T00:00:00Z\n"),
            format!("{origin}\n1\n{root}\n"),
        ];
        for text in bad {
            let note = key().sign(&origin, &text).unwrap();
            assert_eq!(
                Checkpoint::open(&note, &verifier),
                Err(CheckpointError::NotACheckpoint),
                "{text}"
            );
        }
        let elsewhere = key().sign("other", "other\n1\n").unwrap();
        assert!(Checkpoint::open(&elsewhere, &verifier).is_err());
    }
}
