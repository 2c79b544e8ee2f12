//! Chunks: a stretch of a producer's log as one entry of the stream.
//!
//! | field | value |
//! |---|---|
//! | `id` | `<producer>-<first>` |
//! | `producer` | the opening of the log that wrote it, 32 hex digits |
//! | `origin` | the first position of that opening |
//! | `first`, `last` | the positions that the chunk covers |
//! | `damaged` | positions whose records can't be read, `7-7,9-12`; absent when there are none |
//! | `missing` | positions whose records are gone, likewise |
//! | `data` | the JSON texts of the other positions, one a line, in order |
//! | `sig` | the producer's signature of each, hex or `-`, one a line |
//! | `seal` | HMAC-SHA256, hex, under `AUDIT_HMAC_KEY`; absent without a key |
//!
//! The seal covers a label, the stream's name and the fields above in this order, absent ones as
//! empty, each preceded by its length as four bytes, big end first. Without it, somebody who can write to the stream
//! could claim positions as shipped that never were. An entry with `data` of one line and `sig`, and
//! none of the other fields, is one event of a producer without a log.

use std::collections::HashMap;
use std::fmt::Write;

use bytes::Bytes;
use caracal_crypto::HmacKey;
use thiserror::Error;

use super::STREAM;
use crate::log::{Origin, Position, ProducerId};
use crate::sign::FrameSignature;

/// The most positions of one chunk.
pub const MAX_CHUNK_EVENTS: usize = 500;
/// A chunk is cut when its texts reach this; one event more may follow. Bytes.
pub const MAX_CHUNK_BYTES: usize = 256 << 10;
/// The most bytes of texts that a reader accepts: a full chunk and one event.
const MAX_DATA_BYTES: usize = MAX_CHUNK_BYTES + crate::event::MAX_EVENT_BYTES + MAX_CHUNK_EVENTS;
/// The most holes of one chunk.
const MAX_HOLES: usize = MAX_CHUNK_EVENTS;
const SEAL_LABEL: &str = "caracal-evidence-chunk/1";
const SEALED: [&str; 8] = [
    "producer", "origin", "first", "last", "damaged", "missing", "data", "sig",
];

/// One field of an entry.
pub type Field = (&'static str, String);

/// A stretch of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Which opening of the log wrote it.
    pub origin: Origin,
    /// The first position it covers.
    pub first: Position,
    /// The last position it covers.
    pub last: Position,
    /// The events, in order.
    pub events: Vec<ChunkEvent>,
    /// The positions without an event, in order.
    pub holes: Vec<Hole>,
}

/// An event of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkEvent {
    /// Its place in the log.
    pub position: Position,
    /// Its JSON text.
    pub data: Bytes,
    /// The producer's signature over it.
    pub signature: Option<FrameSignature>,
}

/// Positions without an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// The first.
    pub first: Position,
    /// The last.
    pub last: Position,
    /// What happened to them.
    pub kind: HoleKind,
}

/// What happened to positions that have no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoleKind {
    /// Their records can't be read.
    Damaged,
    /// Their records are gone.
    Missing,
}

/// Why an entry is not a chunk of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadChunk {
    /// The seal is missing or not the key's.
    #[error("the entry's seal is missing or wrong")]
    Seal,
    /// A field is missing.
    #[error("the entry has no field {0}")]
    Missing(&'static str),
    /// A field can't be read, or the fields don't fit together.
    #[error("the entry's field {0} can't be read")]
    Malformed(&'static str),
    /// More than a chunk may have.
    #[error("the entry is too large")]
    TooLarge,
}

impl Chunk {
    /// About how much memory it takes. Bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.data.len() + 80).sum()
    }

    /// The entry's fields, sealed when there is a key.
    #[must_use]
    pub fn encode(&self, key: Option<&HmacKey>) -> Vec<Field> {
        let mut data = String::with_capacity(self.bytes());
        let mut signatures = String::with_capacity(self.events.len() * 65);
        for (n, event) in self.events.iter().enumerate() {
            if n > 0 {
                data.push('\n');
                signatures.push('\n');
            }
            let (text, intact) = one_line(&event.data);
            data.push_str(&text);
            match event.signature.filter(|_| intact) {
                Some(signature) => {
                    let _ = write!(signatures, "{signature}");
                }
                None => signatures.push('-'),
            }
        }
        let producer = self.origin.producer.to_string();
        let mut entry = vec![
            ("id", format!("{producer}-{}", self.first.get())),
            ("producer", producer),
            ("origin", self.origin.first.get().to_string()),
            ("first", self.first.get().to_string()),
            ("last", self.last.get().to_string()),
        ];
        for (name, kind) in [
            ("damaged", HoleKind::Damaged),
            ("missing", HoleKind::Missing),
        ] {
            let ranges = ranges(self.holes.iter().filter(|hole| hole.kind == kind));
            if !ranges.is_empty() {
                entry.push((name, ranges));
            }
        }
        entry.push(("data", data));
        entry.push(("sig", signatures));
        if let Some(key) = key {
            let sealed = SEALED.map(|name| {
                let field = entry.iter().find(|(field, _)| *field == name);
                field.map_or("", |(_, value)| value.as_str())
            });
            entry.push(("seal", hex::encode(seal(key, &sealed))));
        }
        entry
    }

    /// Whether an entry is a chunk rather than a single event.
    #[must_use]
    pub fn is_one(entry: &HashMap<String, Bytes>) -> bool {
        entry.contains_key("producer")
    }

    /// Reads an entry. With a key, one without the key's seal is refused before anything is parsed.
    ///
    /// # Errors
    /// [`BadChunk`]; never a chunk whose positions and events don't fit together.
    pub fn decode(entry: &HashMap<String, Bytes>, key: Option<&HmacKey>) -> Result<Self, BadChunk> {
        if let Some(key) = key {
            check_seal(entry, key)?;
        }
        let position = |name| number(entry, name).map(Position::new);
        let producer = hex_id(text(entry, "producer")?).ok_or(BadChunk::Malformed("producer"))?;
        let (first, last) = (position("first")?, position("last")?);
        let origin = Origin {
            producer,
            first: position("origin")?,
        };
        let covered = last
            .get()
            .checked_sub(first.get())
            .and_then(|n| n.checked_add(1));
        let covered = covered.ok_or(BadChunk::Malformed("last"))?;
        if first < origin.first || first == Position::ZERO {
            return Err(BadChunk::Malformed("first"));
        }
        let mut holes = holes(entry, "damaged", HoleKind::Damaged)?;
        holes.extend(self::holes(entry, "missing", HoleKind::Missing)?);
        holes.sort_by_key(|hole| hole.first);
        let chunk = Self {
            origin,
            first,
            last,
            events: events(entry)?,
            holes,
        };
        chunk.placed(covered)
    }

    /// Gives the events the positions that the holes leave.
    fn placed(mut self, covered: u64) -> Result<Self, BadChunk> {
        let mut next = self.first;
        let mut holes = self.holes.iter().peekable();
        let mut lost = 0;
        for event in &mut self.events {
            while let Some(hole) = holes.next_if(|hole| hole.first == next) {
                lost += hole.count();
                next = hole.last.next();
            }
            event.position = next;
            next = next.next();
        }
        while let Some(hole) = holes.next_if(|hole| hole.first == next) {
            lost += hole.count();
            next = hole.last.next();
        }
        let events = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        if holes.next().is_some() || next != self.last.next() || events + lost != covered {
            return Err(BadChunk::Malformed("last"));
        }
        Ok(self)
    }
}

impl Hole {
    /// How many positions.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last
            .get()
            .saturating_sub(self.first.get())
            .saturating_add(1)
    }
}

/// A text on one line. What is not one can't be an event; it is carried so that it can be looked at,
/// and its signature is withheld because it is not over what is carried.
fn one_line(data: &[u8]) -> (std::borrow::Cow<'_, str>, bool) {
    let text = String::from_utf8_lossy(data);
    let intact = matches!(text, std::borrow::Cow::Borrowed(_)) && !text.contains('\n');
    if intact {
        (text, true)
    } else {
        (text.replace('\n', " ").into(), false)
    }
}

fn ranges<'a>(holes: impl Iterator<Item = &'a Hole>) -> String {
    let ranges: Vec<String> = holes
        .map(|hole| format!("{}-{}", hole.first.get(), hole.last.get()))
        .collect();
    ranges.join(",")
}

fn seal(key: &HmacKey, fields: &[&str]) -> [u8; 32] {
    let mut lengths = Vec::with_capacity(fields.len() + 2);
    let all: Vec<&str> = [SEAL_LABEL, STREAM]
        .into_iter()
        .chain(fields.iter().copied())
        .collect();
    for field in &all {
        // A field is far below 4 GiB; one that is not gets a length that nothing else has.
        lengths.push(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    let parts: Vec<&[u8]> = lengths
        .iter()
        .zip(&all)
        .flat_map(|(length, field)| [length.as_slice(), field.as_bytes()])
        .collect();
    key.sign_parts(&parts)
}

fn check_seal(entry: &HashMap<String, Bytes>, key: &HmacKey) -> Result<(), BadChunk> {
    let mut sealed = [""; SEALED.len()];
    for (value, name) in sealed.iter_mut().zip(SEALED) {
        if entry.contains_key(name) {
            *value = text(entry, name)?;
        }
    }
    let presented = FrameSignature::from_hex(text(entry, "seal").map_err(|_| BadChunk::Seal)?);
    let expected = seal(key, &sealed);
    let good = presented.is_some_and(|presented| {
        aws_lc_rs::constant_time::verify_slices_are_equal(presented.as_bytes(), &expected).is_ok()
    });
    if good { Ok(()) } else { Err(BadChunk::Seal) }
}

fn text<'a>(entry: &'a HashMap<String, Bytes>, name: &'static str) -> Result<&'a str, BadChunk> {
    let value = entry.get(name).ok_or(BadChunk::Missing(name))?;
    std::str::from_utf8(value).map_err(|_| BadChunk::Malformed(name))
}

fn number(entry: &HashMap<String, Bytes>, name: &'static str) -> Result<u64, BadChunk> {
    let digits = text(entry, name)?;
    let number: u64 = digits.parse().map_err(|_| BadChunk::Malformed(name))?;
    // Positions are kept as signed numbers.
    if i64::try_from(number).is_ok_and(|number| number < i64::MAX) {
        Ok(number)
    } else {
        Err(BadChunk::Malformed(name))
    }
}

fn hex_id(text: &str) -> Option<ProducerId> {
    let mut bytes = [0; 16];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(ProducerId::from_bytes(bytes))
}

fn holes(
    entry: &HashMap<String, Bytes>,
    name: &'static str,
    kind: HoleKind,
) -> Result<Vec<Hole>, BadChunk> {
    if !entry.contains_key(name) {
        return Ok(Vec::new());
    }
    let bad = BadChunk::Malformed(name);
    let ranges: Vec<&str> = text(entry, name)?.split(',').take(MAX_HOLES + 1).collect();
    if ranges.len() > MAX_HOLES {
        return Err(BadChunk::TooLarge);
    }
    ranges
        .iter()
        .map(|range| {
            let (first, last) = range.split_once('-').ok_or(bad)?;
            let first: u64 = first.parse().map_err(|_| bad)?;
            let last: u64 = last.parse().map_err(|_| bad)?;
            let ordered = first <= last && i64::try_from(last).is_ok();
            ordered
                .then_some(Hole {
                    first: Position::new(first),
                    last: Position::new(last),
                    kind,
                })
                .ok_or(bad)
        })
        .collect()
}

fn events(entry: &HashMap<String, Bytes>) -> Result<Vec<ChunkEvent>, BadChunk> {
    let data = entry.get("data").ok_or(BadChunk::Missing("data"))?;
    let signatures = text(entry, "sig")?;
    if data.len() > MAX_DATA_BYTES {
        return Err(BadChunk::TooLarge);
    }
    if data.is_empty() && signatures.is_empty() {
        return Ok(Vec::new());
    }
    let mut events = Vec::new();
    let mut signatures = signatures.split('\n');
    for line in data.split(|byte| *byte == b'\n') {
        if events.len() == MAX_CHUNK_EVENTS {
            return Err(BadChunk::TooLarge);
        }
        let signature = match signatures.next().ok_or(BadChunk::Malformed("sig"))? {
            "-" => None,
            hex => Some(FrameSignature::from_hex(hex).ok_or(BadChunk::Malformed("sig"))?),
        };
        events.push(ChunkEvent {
            position: Position::ZERO,
            data: data.slice_ref(line),
            signature,
        });
    }
    if signatures.next().is_some() {
        return Err(BadChunk::Malformed("sig"));
    }
    Ok(events)
}
