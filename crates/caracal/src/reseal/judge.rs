//! What a row needs, from its bytes and the keys alone.

use caracal_core::id::ZoneId;
use caracal_core::{Random, Secret};
use caracal_crypto::client_secret::Peppers;
use caracal_crypto::{KeyRing, SealError, SealLocation};
use caracal_store::{SealedColumn, SealedRow};
use serde::Serialize;

/// Why a row can't do without another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Why {
    /// Sealed under a key that was not given.
    UnknownKey,
    /// Changed, or moved from another place.
    Tampered,
    /// No sealed value of a known format.
    Malformed,
    /// The cryptographic module failed.
    Module,
    /// A keyed hash of another key, and no sealed copy to make it again from.
    HashWithoutCopy,
    /// The keyed hash is of another secret than the sealed copy.
    HashOfAnother,
    /// Sealed under the previous key still.
    Previous,
}

impl Why {
    /// What is wrong, and what to do about it.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::UnknownKey => {
                "sealed under a key that was not given: give it as SECRET_STORE_KEK_PREVIOUS and run \
                 this again"
            }
            Self::Tampered => {
                "changed or moved from another row: restore it from a backup, or set the secret anew"
            }
            Self::Malformed => "no sealed value: restore it from a backup, or set the secret anew",
            Self::Module => "the cryptographic module failed: run this again",
            Self::HashWithoutCopy => {
                "its secret is stored only as a hash under another key: give the application a new \
                 client secret"
            }
            Self::HashOfAnother => {
                "its hash and its sealed copy are of different secrets: give the application a new \
                 client secret"
            }
            Self::Previous => "still sealed under the previous key: run this again",
        }
    }
}

impl From<SealError> for Why {
    fn from(error: SealError) -> Self {
        match error {
            SealError::UnknownKey => Self::UnknownKey,
            SealError::Tampered => Self::Tampered,
            SealError::Malformed => Self::Malformed,
            SealError::Module => Self::Module,
        }
    }
}

/// What a row needs.
#[derive(Debug)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// These in the place of what it holds.
    Replace {
        sealed: Vec<u8>,
        hash: Option<String>,
        rehashed: bool,
    },
    /// What no key at hand can do.
    Stuck(Why),
}

/// The keys that rows are judged with.
pub(super) struct Keys<'a> {
    pub(super) ring: &'a KeyRing,
    pub(super) peppers: &'a Peppers,
}

impl Keys<'_> {
    /// What the row needs to do without any key but the current one.
    pub(super) fn need(
        &self,
        zone: &ZoneId,
        of: &SealedColumn,
        row: &SealedRow,
        random: &dyn Random,
    ) -> Need {
        match self.judge(zone, of, row, random) {
            Ok(need) => need,
            Err(why) => Need::Stuck(why),
        }
    }

    fn judge(
        &self,
        zone: &ZoneId,
        of: &SealedColumn,
        row: &SealedRow,
        random: &dyn Random,
    ) -> Result<Need, Why> {
        let outdated = row.hash.as_deref().filter(|h| self.peppers.is_outdated(h));
        let Some(sealed) = &row.sealed else {
            return match outdated {
                Some(_) => Err(Why::HashWithoutCopy),
                None => Ok(Need::Nothing),
            };
        };
        if self.ring.is_current(sealed) && outdated.is_none() {
            return Ok(Need::Nothing);
        }
        let location = location(zone, of, row);
        let plain = self.ring.open(&location, sealed)?;
        let hash = match outdated {
            Some(stored) => Some(self.rehash(stored, &plain)?),
            None => row.hash.clone(),
        };
        let sealed = self.ring.seal(&location, plain.expose(), random)?;
        let rehashed = outdated.is_some();
        Ok(Need::Replace {
            sealed,
            hash,
            rehashed,
        })
    }

    /// A hash of the sealed secret under the current key. A hash that is provably of another secret
    /// is left alone: making it again would change which secret is accepted.
    fn rehash(&self, stored: &str, plain: &Secret<Vec<u8>>) -> Result<String, Why> {
        let text = String::from_utf8(plain.expose().clone()).map_err(|_| Why::Malformed)?;
        let secret = Secret::new(text);
        if self.peppers.knows(stored) && !self.peppers.is_hash_of(stored, &secret) {
            return Err(Why::HashOfAnother);
        }
        Ok(self.peppers.hash_generated(&secret))
    }

    /// Why the row can't do with exactly these keys; `None` when it can.
    pub(super) fn lacks(&self, zone: &ZoneId, of: &SealedColumn, row: &SealedRow) -> Option<Why> {
        let outdated = row.hash.as_deref().filter(|h| self.peppers.is_outdated(h));
        let Some(sealed) = &row.sealed else {
            return outdated.map(|_| Why::HashWithoutCopy);
        };
        let plain = match self.ring.open(&location(zone, of, row), sealed) {
            Ok(plain) => plain,
            Err(error) => return Some(error.into()),
        };
        let stored = row.hash.as_deref()?;
        if outdated.is_some() {
            return Some(Why::Previous);
        }
        let secret = String::from_utf8(plain.expose().clone()).ok()?;
        let fits =
            !self.peppers.knows(stored) || self.peppers.is_hash_of(stored, &Secret::new(secret));
        (!fits).then_some(Why::HashOfAnother)
    }
}

fn location<'a>(zone: &'a ZoneId, of: &SealedColumn, row: &'a SealedRow) -> SealLocation<'a> {
    SealLocation {
        table: of.table,
        column: of.column,
        row: &row.id,
        zone: Some(zone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::SeededRandom;
    use caracal_crypto::{Kek, sha256};
    use caracal_store::SEALED_COLUMNS;

    fn kek(seed: &str) -> Kek {
        Kek::from_bytes(Secret::new(sha256(seed.as_bytes()))).unwrap()
    }

    fn ring(current: &str, previous: Option<&str>) -> (KeyRing, Peppers) {
        let ring = KeyRing::new(kek(current), previous.map(kek));
        let peppers = Peppers::derive(&ring).unwrap();
        (ring, peppers)
    }

    fn zone() -> ZoneId {
        ZoneId::parse("z-1").unwrap()
    }

    /// An application's row as a stack with this one key writes it.
    fn written_under(key: &str, sealed_secret: &str, hashed_secret: &str) -> SealedRow {
        let (ring, peppers) = ring(key, None);
        let mut row = SealedRow {
            id: "app-1".to_owned(),
            sealed: None,
            hash: Some(peppers.hash_generated(&Secret::new(hashed_secret.to_owned()))),
        };
        let zone = zone();
        let location = location(&zone, &SEALED_COLUMNS[0], &row);
        let random = SeededRandom::new(1);
        let sealed = ring.seal(&location, sealed_secret.as_bytes(), &random);
        row.sealed = Some(sealed.unwrap());
        row
    }

    fn need(row: &SealedRow, current: &str, previous: Option<&str>) -> Need {
        let (ring, peppers) = ring(current, previous);
        let keys = Keys {
            ring: &ring,
            peppers: &peppers,
        };
        keys.need(&zone(), &SEALED_COLUMNS[0], row, &SeededRandom::new(2))
    }

    fn lacks(row: &SealedRow, key: &str) -> Option<Why> {
        let (ring, peppers) = ring(key, None);
        let keys = Keys {
            ring: &ring,
            peppers: &peppers,
        };
        keys.lacks(&zone(), &SEALED_COLUMNS[0], row)
    }

    #[test]
    fn a_row_of_the_previous_key_is_made_to_do_with_the_current_one() {
        let row = written_under("a", "cs_1", "cs_1");
        assert_eq!(lacks(&row, "b"), Some(Why::UnknownKey));
        let Need::Replace {
            sealed,
            hash,
            rehashed: true,
        } = need(&row, "b", Some("a"))
        else {
            panic!("it must be replaced")
        };
        let replaced = SealedRow {
            id: row.id,
            sealed: Some(sealed),
            hash,
        };
        assert_eq!(lacks(&replaced, "b"), None);
        assert!(matches!(need(&replaced, "b", Some("a")), Need::Nothing));
    }

    #[test]
    fn a_row_of_the_current_key_needs_nothing() {
        let row = written_under("b", "cs_1", "cs_1");
        assert!(matches!(need(&row, "b", Some("a")), Need::Nothing));
        assert_eq!(lacks(&row, "b"), None);
    }

    #[test]
    fn a_slow_hash_stays_as_it_is() {
        let mut row = written_under("a", "chosen", "x");
        row.hash = Some("$argon2id$v=19$m=65536,t=3,p=2$c2FsdA$aGFzaA".to_owned());
        let Need::Replace { hash, rehashed, .. } = need(&row, "b", Some("a")) else {
            panic!("it must be replaced")
        };
        assert_eq!((hash, rehashed), (row.hash, false));
    }

    #[test]
    fn what_no_key_opens_is_named() {
        let stuck = |row: &SealedRow, current, previous| match need(row, current, previous) {
            Need::Stuck(why) => Some(why),
            _ => None,
        };
        let row = written_under("a", "cs_1", "cs_1");
        assert_eq!(stuck(&row, "b", None), Some(Why::UnknownKey));
        let mut changed = row.clone();
        if let Some(last) = changed.sealed.as_mut().and_then(|bytes| bytes.last_mut()) {
            *last ^= 1;
        }
        assert_eq!(stuck(&changed, "b", Some("a")), Some(Why::Tampered));
        let mut moved = row.clone();
        moved.id = "app-2".to_owned();
        assert_eq!(stuck(&moved, "b", Some("a")), Some(Why::Tampered));
        let mut short = row.clone();
        short.sealed = Some(b"short".to_vec());
        assert_eq!(stuck(&short, "b", Some("a")), Some(Why::Malformed));
        let mut without_copy = row;
        without_copy.sealed = None;
        assert_eq!(
            stuck(&without_copy, "b", Some("a")),
            Some(Why::HashWithoutCopy)
        );
        let other = written_under("a", "cs_1", "cs_2");
        assert_eq!(stuck(&other, "b", Some("a")), Some(Why::HashOfAnother));
    }

    #[test]
    fn a_hash_of_a_lost_key_is_made_again_from_a_sealed_copy() {
        let mut row = written_under("b", "cs_1", "cs_1");
        row.hash = written_under("lost", "cs_1", "cs_1").hash;
        assert_eq!(lacks(&row, "b"), Some(Why::Previous));
        assert!(matches!(
            need(&row, "b", None),
            Need::Replace { rehashed: true, .. }
        ));
    }
}
