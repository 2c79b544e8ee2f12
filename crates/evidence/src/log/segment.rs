//! The bytes of a segment.
//!
//! A segment is a header and records. All integers are little-endian.
//!
//! ```text
//! header   0  8  "CARWAL01"
//!          8 16  producer id
//!         24  8  the producer's first position
//!         32  8  position of the first record
//!         40  8  when the first event happened, microseconds since 1970
//!         48  4  CRC-32 of bytes 0..48
//!
//! record   0  4  length of the body
//!          4  4  CRC-32 of bytes 0..4 and 8..16+length
//!          8  8  position
//!         16  .  body: one byte 0 (unsigned) or 1 (signed), the 32 signature bytes when signed,
//!                the event's JSON text
//! ```
//!
//! The position makes a missing or moved record as visible as a flipped bit. It is also what makes
//! it safe to find the next good record behind a damaged one by looking at every offset: the
//! position's zero bytes never occur in JSON text, so no event can look like a record.

use std::ops::Range;

use caracal_core::Timestamp;

use super::{Origin, Position, ProducerId};
use crate::event::MAX_EVENT_BYTES;
use crate::sign::{FrameSignature, SIGNATURE_LEN};

/// The length of a segment's header.
pub(super) const HEADER_LEN: usize = 52;
/// The length of a record's fixed part.
pub(super) const RECORD_HEADER_LEN: usize = 16;
/// The largest body of a record.
const MAX_BODY_LEN: usize = 1 + SIGNATURE_LEN + MAX_EVENT_BYTES;
/// The largest record.
pub(super) const MAX_RECORD_LEN: usize = RECORD_HEADER_LEN + MAX_BODY_LEN;
/// The smallest record that can hold anything.
const MIN_RECORD_LEN: usize = RECORD_HEADER_LEN + 1;

const MAGIC: &[u8; 8] = b"CARWAL01";
const UNSIGNED: u8 = 0;
const SIGNED: u8 = 1;

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) origin: Origin,
    pub(super) base: u64,
    pub(super) created: Timestamp,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..24].copy_from_slice(self.origin.producer.as_bytes());
        out[24..32].copy_from_slice(&self.origin.first.get().to_le_bytes());
        out[32..40].copy_from_slice(&self.base.to_le_bytes());
        out[40..48].copy_from_slice(&self.created.micros().to_le_bytes());
        let crc = crc32fast::hash(&out[..48]);
        out[48..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` for anything but an intact header.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_LEN)?;
        if &bytes[..8] != MAGIC || crc32fast::hash(&bytes[..48]) != u32_at(bytes, 48)? {
            return None;
        }
        let producer = ProducerId::from_bytes(bytes[8..24].try_into().ok()?);
        Some(Self {
            origin: Origin {
                producer,
                first: Position::new(u64_at(bytes, 24)?),
            },
            base: u64_at(bytes, 32)?,
            created: Timestamp::from_micros(i64::from_le_bytes(bytes[40..48].try_into().ok()?)),
        })
    }
}

/// Appends a record whose position and checksum are still to be [`seal`]ed.
///
/// `write` appends the event's JSON text; on its error the caller drops the whole buffer.
pub(super) fn push_record<E>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    sign: impl FnOnce(&[u8]) -> Option<FrameSignature>,
) -> Result<(), E> {
    let start = out.len();
    out.resize(start + RECORD_HEADER_LEN + 1 + SIGNATURE_LEN, 0);
    let data = out.len();
    write(out)?;
    let body = start + RECORD_HEADER_LEN;
    match sign(&out[data..]) {
        Some(signature) => {
            out[body] = SIGNED;
            out[body + 1..data].copy_from_slice(signature.as_bytes());
        }
        None => {
            out[body] = UNSIGNED;
            out.drain(body + 1..data);
        }
    }
    // The writer's limit on event size keeps the length far below 4 GiB.
    let length = u32::try_from(out.len() - body).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Writes the position and the checksum into every record of `records`, from `position` on.
/// Answers the position after the last one.
pub(super) fn seal(records: &mut [u8], mut position: u64) -> u64 {
    let mut rest = records;
    while let Some(len) = record_len(rest).filter(|len| *len <= rest.len()) {
        let (record, behind) = rest.split_at_mut(len);
        record[8..16].copy_from_slice(&position.to_le_bytes());
        let crc = checksum(record);
        record[4..8].copy_from_slice(&crc.to_le_bytes());
        position += 1;
        rest = behind;
    }
    position
}

/// One record, as offsets into the bytes it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) position: u64,
    pub(super) signature: Option<FrameSignature>,
    pub(super) data: Range<usize>,
    /// The whole record's length.
    pub(super) len: usize,
}

/// What is at the start of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// An intact record.
    Record(Record),
    /// The start of a record that goes on behind the bytes; or damage that looks like one.
    Incomplete,
    /// Not a record.
    Damaged,
}

/// Parses the record at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some(len) = record_len(bytes) else {
        return Parsed::Incomplete;
    };
    if !(MIN_RECORD_LEN..=MAX_RECORD_LEN).contains(&len) {
        return Parsed::Damaged;
    }
    let Some(record) = bytes.get(..len) else {
        return Parsed::Incomplete;
    };
    if u32_at(record, 4) != Some(checksum(record)) {
        return Parsed::Damaged;
    }
    parse_intact(record).map_or(Parsed::Damaged, Parsed::Record)
}

/// Parses a record that this process wrote and still holds: it needs no checksum. `None` at the end.
pub(super) fn parse_intact(bytes: &[u8]) -> Option<Record> {
    let position = u64_at(bytes, 8)?;
    let len = record_len(bytes).filter(|len| *len <= bytes.len())?;
    let body = bytes.get(RECORD_HEADER_LEN..len)?;
    let (signature, skip) = match *body.first()? {
        UNSIGNED => (None, 1),
        SIGNED => {
            let signature = body.get(1..=SIGNATURE_LEN)?.try_into().ok()?;
            (
                Some(FrameSignature::from_bytes(signature)),
                1 + SIGNATURE_LEN,
            )
        }
        _ => return None,
    };
    Some(Record {
        position,
        signature,
        data: RECORD_HEADER_LEN + skip..len,
        len,
    })
}

/// Finds the first intact record whose position is in `wanted`; answers its offset and position.
pub(super) fn resync(bytes: &[u8], wanted: &Range<u64>) -> Option<(usize, u64)> {
    let last = bytes.len().checked_sub(MIN_RECORD_LEN)?;
    (0..=last).find_map(|offset| {
        let candidate = &bytes[offset..];
        let position = u64_at(candidate, 8).filter(|position| wanted.contains(position))?;
        matches!(parse(candidate), Parsed::Record(_)).then_some((offset, position))
    })
}

/// A stretch of records that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    /// Its bytes.
    pub(super) bytes: Range<usize>,
    /// The positions that were there.
    pub(super) positions: Range<u64>,
}

/// What the records of a segment are like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scan {
    /// The position behind the last intact record.
    pub(super) end: u64,
    /// The offset behind the last intact record; what follows is a torn tail.
    pub(super) intact: usize,
    /// Damage before that.
    pub(super) damage: Vec<Damage>,
}

/// Walks the records in `bytes` (a segment without its header), the first of which should be at
/// position `base`.
pub(super) fn scan(bytes: &[u8], base: u64) -> Scan {
    let mut found = Scan {
        end: base,
        ..Scan::default()
    };
    let mut offset = 0;
    while offset < bytes.len() {
        match parse(&bytes[offset..]) {
            Parsed::Record(record) if record.position == found.end => {
                offset += record.len;
                found.end += 1;
                found.intact = offset;
            }
            Parsed::Record(_) | Parsed::Incomplete | Parsed::Damaged => {
                let wanted = found.end..plausible_end(found.end, bytes.len() - offset);
                let Some((skipped, position)) = resync(&bytes[offset..], &wanted) else {
                    break;
                };
                found.damage.push(Damage {
                    bytes: offset..offset + skipped,
                    positions: found.end..position,
                });
                offset += skipped;
                found.end = position;
            }
        }
    }
    found
}

/// The position that `len` bytes of the smallest records from `first` on cannot reach.
pub(super) fn plausible_end(first: u64, len: usize) -> u64 {
    let records = u64::try_from(len / MIN_RECORD_LEN).unwrap_or(u64::MAX);
    first.saturating_add(records).saturating_add(1)
}

/// Reads arbitrary bytes as a segment: must never panic, and whatever it accepts must be consistent.
pub fn fuzz_segment(data: &[u8]) {
    let base = Header::decode(data).map_or(1, |header| header.base);
    let records = data.get(HEADER_LEN..).unwrap_or_default();
    let found = scan(records, base);
    assert!(found.intact <= records.len() && found.end >= base);
    for damage in &found.damage {
        assert!(damage.bytes.end <= found.intact && damage.positions.start <= damage.positions.end);
    }
}

fn record_len(bytes: &[u8]) -> Option<usize> {
    let body = usize::try_from(u32_at(bytes, 0)?).ok()?;
    body.checked_add(RECORD_HEADER_LEN)
}

fn checksum(record: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[..4]);
    crc.update(&record[8..]);
    crc.finalize()
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..offset + 4)?
        .try_into()
        .ok()
        .map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes
        .get(offset..offset + 8)?
        .try_into()
        .ok()
        .map(u64::from_le_bytes)
}
