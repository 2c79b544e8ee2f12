//! A position: the zone's sequence number below, the barrier's epoch above.

use crate::error::StoreError;

/// Bits of the sequence number. A zone that changed a thousand times a second would take 34 years to
/// use them up; a barrier that connected anew every second would take half a year to use up the rest.
const SEQUENCE_BITS: u32 = 40;
const MAX_SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;
const MAX_EPOCH: u64 = u64::MAX >> SEQUENCE_BITS;

/// A zone's position in the change log of a shared database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(u64);

impl Position {
    /// From a sequence number as the database has it.
    pub(super) fn new(epoch: u64, sequence: i64) -> Result<Self, StoreError> {
        let sequence = u64::try_from(sequence).ok().filter(|n| *n <= MAX_SEQUENCE);
        match sequence {
            Some(sequence) if epoch <= MAX_EPOCH => Ok(Self(epoch << SEQUENCE_BITS | sequence)),
            _ => Err(StoreError::corrupt(
                "zone_sequences",
                "a position is out of range",
            )),
        }
    }

    pub(super) fn unpack(packed: u64) -> Self {
        Self(packed)
    }

    pub(super) fn pack(self) -> u64 {
        self.0
    }

    pub(super) fn epoch(self) -> u64 {
        self.0 >> SEQUENCE_BITS
    }

    pub(super) fn sequence(self) -> Result<i64, StoreError> {
        i64::try_from(self.0 & MAX_SEQUENCE)
            .map_err(|e| StoreError::corrupt("zone_sequences", e.to_string()))
    }

    /// The position `count` changes later.
    pub(super) fn plus(self, count: usize) -> Self {
        Self(self.0 + count as u64)
    }

    /// How many changes lie between an earlier position of the same epoch and this one.
    pub(super) fn changes_since(self, earlier: Self) -> Option<usize> {
        if self.epoch() != earlier.epoch() {
            return None;
        }
        usize::try_from(self.0.checked_sub(earlier.0)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_epoch_is_above_every_sequence_number_of_an_earlier_one() {
        let late = Position::new(3, i64::try_from(MAX_SEQUENCE).unwrap()).unwrap();
        let early = Position::new(4, 0).unwrap();
        assert!(early > late);
        assert_eq!(early.changes_since(late), None);
        assert_eq!((early.epoch(), early.sequence().unwrap()), (4, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (epoch, sequence) in [(0, -1), (0, 1 << 40), (1 << 24, 0)] {
            assert!(Position::new(epoch, sequence).is_err());
        }
    }
}
