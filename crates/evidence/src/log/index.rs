//! What is where: the segments on disk, the newest events in memory, and how far all is released.

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::Bytes;
use caracal_core::Timestamp;

use super::{Age, Origin};

/// Marks closer together than this are one: the precision of the oldest event's age.
const MARK_SPACING_MICROS: i64 = 1_000_000;
/// With this many marks no further ones are made until old ones leave.
const MAX_MARKS: usize = 4096;

/// A segment on disk.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) origin: Origin,
    /// The position of its first record; also its name.
    pub(super) base: u64,
    /// The position behind its last record.
    pub(super) end: u64,
    /// Its length, as far as it is written.
    pub(super) bytes: u64,
    /// When its first event happened.
    pub(super) created: Age,
    /// Whether records of it could not be read: kept for inspection instead of removed.
    pub(super) damaged: bool,
}

/// Events that were written together, still in memory.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub(super) origin: Origin,
    /// The base of the segment that holds them.
    pub(super) segment: u64,
    /// Where in that segment they start.
    pub(super) offset: u64,
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) records: Bytes,
}

/// A segment that is no longer needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Removal {
    pub(super) path: PathBuf,
    pub(super) damaged: bool,
}

/// Where a position is found.
#[derive(Debug)]
pub(super) enum Located {
    /// In memory, from the first chunk on.
    Memory(Vec<Chunk>),
    /// In this segment.
    File(Segment),
    /// Before the first segment; reading can go on at this position.
    Released(u64),
    /// Not written yet.
    Future,
}

#[derive(Debug)]
pub(super) struct Index {
    segments: VecDeque<Segment>,
    /// Whether the last segment is being written.
    open: bool,
    tail: VecDeque<Chunk>,
    tail_bytes: usize,
    tail_limit: usize,
    total_bytes: u64,
    /// Everything below is released.
    first_pending: u64,
    /// The position the next event gets.
    next: u64,
    /// From which position on events are how old.
    marks: VecDeque<(u64, Age)>,
}

impl Index {
    /// The state after recovery: sealed segments, in order.
    pub(super) fn recovered(segments: Vec<Segment>, next: u64, tail_limit: usize) -> Self {
        let marks = segments.iter().map(|s| (s.base, s.created)).collect();
        Self {
            total_bytes: segments.iter().map(|s| s.bytes).sum(),
            first_pending: segments.first().map_or(next, |s| s.base),
            segments: segments.into(),
            open: false,
            tail: VecDeque::new(),
            tail_bytes: 0,
            tail_limit,
            next,
            marks,
        }
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    pub(super) fn first_pending(&self) -> u64 {
        self.first_pending
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn files(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn pending_events(&self) -> u64 {
        self.next - self.first_pending
    }

    /// When the oldest unreleased event happened.
    pub(super) fn oldest(&self) -> Option<Age> {
        if self.pending_events() == 0 {
            return None;
        }
        self.marks.front().map(|(_, at)| *at)
    }

    /// Notes a segment that was created together with its first chunk.
    pub(super) fn opened(&mut self, segment: Segment) {
        self.total_bytes += segment.bytes;
        self.segments.push_back(segment);
        self.open = true;
    }

    /// Notes a chunk that was written to the last segment.
    pub(super) fn wrote(&mut self, chunk: Chunk, occurred: Age) {
        let written = u64::try_from(chunk.records.len()).unwrap_or(u64::MAX);
        if let Some(segment) = self.segments.back_mut() {
            segment.end = chunk.end;
            segment.bytes += written;
        }
        self.total_bytes += written;
        self.next = chunk.end;
        self.mark(chunk.first, occurred);
        self.tail_bytes += chunk.records.len();
        self.tail.push_back(chunk);
        while self.tail_bytes > self.tail_limit {
            let Some(oldest) = self.tail.pop_front() else {
                break;
            };
            self.tail_bytes -= oldest.records.len();
        }
    }

    /// The last segment gets no further record.
    pub(super) fn seal(&mut self) -> Vec<Removal> {
        self.open = false;
        self.collect()
    }

    /// Everything up to and including `upto` is stored elsewhere; answers what can go.
    pub(super) fn release(&mut self, upto: u64) -> Vec<Removal> {
        let first_pending = upto.saturating_add(1).min(self.next);
        if first_pending <= self.first_pending {
            return Vec::new();
        }
        self.first_pending = first_pending;
        while self
            .marks
            .get(1)
            .is_some_and(|(position, _)| *position <= first_pending)
        {
            self.marks.pop_front();
        }
        while let Some(chunk) = self.tail.front().filter(|chunk| chunk.end <= first_pending) {
            self.tail_bytes -= chunk.records.len();
            self.tail.pop_front();
        }
        self.collect()
    }

    /// Notes that records of the segment could not be read.
    pub(super) fn mark_damaged(&mut self, base: u64) {
        if let Some(segment) = self
            .segments
            .iter_mut()
            .find(|segment| segment.base == base)
        {
            segment.damaged = true;
        }
    }

    /// Finds a position; in memory it answers up to `max_events` and about `max_bytes`.
    pub(super) fn locate(&self, position: u64, max_events: usize, max_bytes: usize) -> Located {
        if position >= self.next {
            return Located::Future;
        }
        if self
            .tail
            .front()
            .is_some_and(|chunk| chunk.first <= position)
        {
            return Located::Memory(self.in_memory(position, max_events, max_bytes));
        }
        let behind = self
            .segments
            .partition_point(|segment| segment.base <= position);
        match behind.checked_sub(1).and_then(|at| self.segments.get(at)) {
            Some(segment) => Located::File(segment.clone()),
            None => Located::Released(self.segments.front().map_or(self.next, |s| s.base)),
        }
    }

    fn in_memory(&self, position: u64, max_events: usize, max_bytes: usize) -> Vec<Chunk> {
        let from = self.tail.partition_point(|chunk| chunk.end <= position);
        let (mut events, mut bytes) = (0, 0);
        self.tail
            .range(from..)
            .take_while(|chunk| {
                let enough = events >= max_events || bytes >= max_bytes;
                events += usize::try_from(chunk.end - chunk.first).unwrap_or(usize::MAX);
                bytes += chunk.records.len();
                !enough
            })
            .cloned()
            .collect()
    }

    fn collect(&mut self) -> Vec<Removal> {
        let keep = usize::from(self.open);
        let mut removals = Vec::new();
        while self.segments.len() > keep {
            let Some(segment) = self
                .segments
                .front()
                .filter(|s| s.end <= self.first_pending)
            else {
                break;
            };
            self.total_bytes -= segment.bytes;
            removals.push(Removal {
                path: segment.path.clone(),
                damaged: segment.damaged,
            });
            self.segments.pop_front();
        }
        removals
    }

    fn mark(&mut self, position: u64, at: Timestamp) {
        if self.first_pending == position {
            self.marks.clear();
        }
        let spaced = self
            .marks
            .back()
            .is_none_or(|(_, last)| at.micros() - last.micros() >= MARK_SPACING_MICROS);
        if spaced && self.marks.len() < MAX_MARKS {
            self.marks.push_back((position, at));
        }
    }
}
