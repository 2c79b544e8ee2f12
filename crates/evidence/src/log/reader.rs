//! Reading a log in order, from memory while the reader keeps up, else from the segments.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use super::index::{Chunk, Located, Segment};
use super::journal::Shared;
use super::segment::{HEADER_LEN, MAX_RECORD_LEN, Parsed, Record, parse, parse_intact, resync};
use super::{Batch, Frame, LostRange, Origin, Position};

/// How much of a segment is read at once; any record fits.
const WINDOW: u64 = 1 << 20;
const _: () = assert!(MAX_RECORD_LEN < 1 << 20);

/// Why a log could not be read. Trying again is safe.
#[derive(Debug, Error)]
#[error("the audit log cannot be read: {0}")]
pub struct ReadError(#[from] io::Error);

/// Reads a log in order and waits at its end.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
    /// The position to read next.
    next: u64,
    /// Where that is, when known.
    place: Option<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    segment: u64,
    offset: u64,
}

/// The bounds of a batch.
#[derive(Debug, Clone, Copy)]
struct Limits {
    events: usize,
    bytes: usize,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, from: Position) -> Self {
        let ended = shared.ended.subscribe();
        let next = from.get().max(shared.index.lock().first_pending());
        Self {
            shared,
            ended,
            next,
            place: None,
        }
    }

    /// The next events, as soon as there are any: at most `max_events`, and about `max_bytes`, but
    /// always one. `None` when the log was closed and everything is read.
    ///
    /// Dropping the future loses nothing: the same events come again.
    ///
    /// # Errors
    /// [`ReadError`] when a segment cannot be read.
    pub async fn next_batch(
        &mut self,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<Option<Batch>, ReadError> {
        let limits = Limits {
            events: max_events.max(1),
            bytes: max_bytes,
        };
        loop {
            let ended = *self.ended.borrow_and_update();
            let located = self
                .shared
                .index
                .lock()
                .locate(self.next, limits.events, max_bytes);
            match located {
                Located::Memory(chunks) => return Ok(Some(self.take_memory(&chunks, limits))),
                Located::File(segment) => {
                    let batch = self.take_file(segment, limits).await?;
                    if batch.upto >= Position::new(1) {
                        return Ok(Some(batch));
                    }
                }
                Located::Released(first) => self.next = first,
                Located::Future if ended => return Ok(None),
                // The sender lives as long as this reader, so waiting cannot fail.
                Located::Future => {
                    let _ = self.ended.changed().await;
                }
            }
        }
    }

    fn take_memory(&mut self, chunks: &[Chunk], limits: Limits) -> Batch {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for chunk in chunks {
            let mut at = self.start_in(chunk);
            while let Some(record) = parse_intact(&chunk.records[at..]) {
                if batch.frames.len() >= limits.events || bytes >= limits.bytes.max(1) {
                    return self.covered(batch);
                }
                bytes += record.data.len();
                batch
                    .frames
                    .push(frame(chunk.origin, &record, &chunk.records, at));
                at += record.len;
                self.next += 1;
                let offset = chunk.offset + length(at);
                self.place = Some(Place {
                    segment: chunk.segment,
                    offset,
                });
            }
        }
        self.covered(batch)
    }

    /// Where in the chunk the next position starts.
    fn start_in(&self, chunk: &Chunk) -> usize {
        let known = self.place.filter(|place| place.segment == chunk.segment);
        let offset = known.and_then(|place| place.offset.checked_sub(chunk.offset));
        if let Some(offset) = offset.and_then(|offset| usize::try_from(offset).ok()) {
            return offset.min(chunk.records.len());
        }
        let mut at = 0;
        for _ in chunk.first..self.next {
            let Some(record) = parse_intact(&chunk.records[at..]) else {
                break;
            };
            at += record.len;
        }
        at
    }

    async fn take_file(&mut self, segment: Segment, limits: Limits) -> Result<Batch, ReadError> {
        let place = self.place.filter(|place| place.segment == segment.base);
        let walk = Walk::new(segment, self.next, place.map(|place| place.offset), limits);
        let walked = tokio::task::spawn_blocking(move || walk.run())
            .await
            .map_err(io::Error::other)??;
        let base = walked.segment.base;
        let lost: u64 = walked.batch.lost.iter().map(|range| range.count()).sum();
        if lost > 0 {
            self.shared.stats.lost(lost);
            self.shared.index.lock().mark_damaged(base);
            let path = walked.segment.path.display();
            tracing::error!(lost, %path, "damaged records in the audit log: evidence is lost");
        }
        self.next = walked.expected.max(self.next);
        self.place = Some(Place {
            segment: base,
            offset: walked.offset,
        });
        Ok(self.covered(walked.batch))
    }

    fn covered(&self, mut batch: Batch) -> Batch {
        if !batch.frames.is_empty() || !batch.lost.is_empty() {
            batch.upto = Position::new(self.next - 1);
        }
        batch
    }
}

/// A walk through the records of one segment file.
#[derive(Debug)]
struct Walk {
    segment: Segment,
    /// Positions below are passed over.
    wanted: u64,
    /// The position that should be at `offset`.
    expected: u64,
    offset: u64,
    limits: Limits,
    batch: Batch,
    bytes: usize,
}

impl Walk {
    fn new(segment: Segment, wanted: u64, offset: Option<u64>, limits: Limits) -> Self {
        let (expected, offset) = match offset {
            Some(offset) => (wanted, offset),
            None => (segment.base, length(HEADER_LEN)),
        };
        let batch = Batch::default();
        Self {
            segment,
            wanted,
            expected,
            offset,
            limits,
            batch,
            bytes: 0,
        }
    }

    /// Reads until something is found or the segment ends.
    fn run(mut self) -> io::Result<Self> {
        let file = match File::open(&self.segment.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.at_end()),
            Err(error) => return Err(error),
        };
        while self.batch.frames.is_empty() && self.batch.lost.is_empty() {
            let left = self.segment.bytes.saturating_sub(self.offset);
            let window = read_at(&file, self.offset, left.min(WINDOW))?;
            if window.is_empty() {
                return Ok(self.at_end());
            }
            self.walk_window(&file, &Bytes::from(window))?;
        }
        Ok(self)
    }

    /// The file ends (or is gone): what should still be in it is lost.
    fn at_end(mut self) -> Self {
        self.offset = self.segment.bytes;
        self.lose(self.segment.end);
        self
    }

    fn walk_window(&mut self, file: &File, window: &Bytes) -> io::Result<()> {
        let start = self.offset;
        let mut at = 0;
        while at < window.len() && !self.is_full() {
            match parse(&window[at..]) {
                Parsed::Record(record) if record.position == self.expected => {
                    if self.expected >= self.wanted {
                        self.bytes += record.data.len();
                        let origin = self.segment.origin;
                        self.batch.frames.push(frame(origin, &record, window, at));
                    }
                    self.expected += 1;
                    at += record.len;
                    self.offset = start + length(at);
                }
                // The record may go on behind the window.
                Parsed::Incomplete if at > 0 => return Ok(()),
                Parsed::Record(_) | Parsed::Incomplete | Parsed::Damaged => {
                    return self.skip_damage(file);
                }
            }
        }
        Ok(())
    }

    /// Goes to the next intact record, or to the segment's end.
    fn skip_damage(&mut self, file: &File) -> io::Result<()> {
        let left = self.segment.bytes.saturating_sub(self.offset);
        let rest = read_at(file, self.offset, left)?;
        let wanted = self.expected..self.segment.end;
        let (skipped, position) = resync(&rest, &wanted).unwrap_or((rest.len(), self.segment.end));
        self.offset += length(skipped);
        self.lose(position);
        Ok(())
    }

    /// Notes that the positions up to `end` are lost.
    fn lose(&mut self, end: u64) {
        let Range { start, end } = self.expected.max(self.wanted)..end;
        if start < end {
            self.batch.lost.push(LostRange {
                origin: self.segment.origin,
                first: Position::new(start),
                last: Position::new(end - 1),
            });
        }
        self.expected = self.expected.max(end);
    }

    fn is_full(&self) -> bool {
        self.batch.frames.len() >= self.limits.events || self.bytes >= self.limits.bytes.max(1)
    }
}

fn frame(origin: Origin, record: &Record, bytes: &Bytes, at: usize) -> Frame {
    Frame {
        origin,
        position: Position::new(record.position),
        signature: record.signature,
        data: bytes.slice(at + record.data.start..at + record.data.end),
    }
}

fn read_at(file: &File, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + length(filled)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
