//! The log's writing thread: takes whatever waits, writes it at once, then acknowledges it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::disk::{Disk, SegmentFile};
use super::index::{Chunk, Segment};
use super::journal::Shared;
use super::queue::Pending;
use super::recover::segment_path;
use super::segment::{HEADER_LEN, Header, seal};
use super::{Age, AppendError, Durability, Origin, Position};

/// The most bytes of one write.
const GROUP_BYTES: usize = 1 << 20;

/// The writing thread's own state.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    origin: Origin,
    /// The position the next event gets.
    next: u64,
    active: Option<Active>,
}

/// The segment that is being written.
#[derive(Debug)]
struct Active {
    file: Arc<dyn SegmentFile>,
    base: u64,
    /// The length of what was acknowledged; 0 until the header is written, with the first records.
    len: u64,
    /// A failed write may have left bytes behind `len`.
    unclean: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, disk: Arc<dyn Disk>, origin: Origin) -> Self {
        Self {
            shared,
            disk,
            origin,
            next: origin.first.get(),
            active: None,
        }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        while let Some(pending) = self.shared.queue.take() {
            let mut group = Vec::new();
            let mut bytes = 0;
            for append in pending {
                bytes += append.records.len();
                group.push(append);
                if bytes >= GROUP_BYTES {
                    self.write(std::mem::take(&mut group), bytes);
                    bytes = 0;
                }
            }
            self.write(group, bytes);
        }
    }

    fn write(&mut self, group: Vec<Pending>, bytes: usize) {
        let Some(first) = group.first() else { return };
        let occurred = first.occurred;
        let mut records = Vec::with_capacity(HEADER_LEN + bytes);
        for append in &group {
            records.extend_from_slice(&append.records);
        }
        let end = seal(&mut records, self.next);
        let stored = self.store(records, end, occurred);
        self.shared.stats.wrote(stored.is_ok(), end - self.next);
        match stored {
            Ok(()) => self.acknowledge(group),
            Err(error) => {
                tracing::error!(%error, "the audit log refused {} appends", group.len());
                for append in group {
                    // A caller that no longer waits has failed closed already.
                    let _ = append.ack.send(Err(error.clone()));
                }
            }
        }
    }

    fn acknowledge(&mut self, group: Vec<Pending>) {
        for append in group {
            self.next += append.events;
            let _ = append.ack.send(Ok(Position::new(self.next - 1)));
        }
    }

    /// Writes sealed records, makes them visible to the reader and, by policy, syncs them.
    fn store(&mut self, records: Vec<u8>, end: u64, occurred: Age) -> Result<(), AppendError> {
        self.make_room(records.len())?;
        let header = Header {
            origin: self.origin,
            base: self.next,
            created: occurred,
        };
        let active = match self.active.take() {
            Some(active) if active.len < self.shared.options.segment_bytes => active,
            _ => self.create_segment()?,
        };
        let active = self.active.insert(active);
        let fresh = active.len == 0;
        let durable = self.shared.options.durability == Durability::Disk;
        active.append(&header, &records, durable)?;
        if durable && fresh {
            self.disk
                .sync_dir(&self.shared.dir)
                .inspect_err(|_| active.unclean = true)?;
        }
        let offset = if fresh {
            length(HEADER_LEN)
        } else {
            active.len
        };
        active.len = offset + length(records.len());
        let chunk = Chunk {
            origin: self.origin,
            segment: active.base,
            offset,
            first: self.next,
            end,
            records: Bytes::from(records),
        };
        let file = Arc::clone(&active.file);
        self.publish(chunk, fresh.then_some(header), occurred);
        if !durable {
            self.shared.chores.sync(&file);
            if fresh {
                self.shared.chores.sync_names();
            }
        }
        Ok(())
    }

    fn create_segment(&self) -> io::Result<Active> {
        let removals = self.shared.index.lock().seal();
        self.shared.chores.remove(removals);
        let file = self
            .disk
            .create(&segment_path(&self.shared.dir, self.next))?;
        Ok(Active {
            file,
            base: self.next,
            len: 0,
            unclean: false,
        })
    }

    /// Keeps the log within its size: the active segment can be given up when all of it is released.
    fn make_room(&mut self, bytes: usize) -> Result<(), AppendError> {
        let limit = self.shared.options.max_total_bytes;
        let mut index = self.shared.index.lock();
        if index.total_bytes().saturating_add(length(bytes)) <= limit {
            return Ok(());
        }
        if index.pending_events() == 0 {
            let removals = index.seal();
            drop(index);
            self.shared.chores.remove(removals);
            self.active = None;
            return Ok(());
        }
        Err(AppendError::Full)
    }

    fn publish(&self, chunk: Chunk, fresh: Option<Header>, occurred: Age) {
        let mut index = self.shared.index.lock();
        if let Some(header) = fresh {
            index.opened(Segment {
                path: segment_path(&self.shared.dir, header.base),
                origin: header.origin,
                base: header.base,
                end: header.base,
                bytes: length(HEADER_LEN),
                created: header.created,
                damaged: false,
            });
        }
        index.wrote(chunk, occurred);
        drop(index);
        self.shared.ended.send_modify(|_| {});
    }
}

impl Active {
    /// Writes behind what was acknowledged. On an error nothing is acknowledged: whatever got there
    /// is cut before the next write.
    fn append(&mut self, header: &Header, records: &[u8], durable: bool) -> io::Result<()> {
        if self.unclean {
            self.file.set_len(self.len)?;
            self.unclean = false;
        }
        self.unclean = true;
        let mut offset = self.len;
        if self.len == 0 {
            self.file.write_all_at(&header.encode(), 0)?;
            offset = length(HEADER_LEN);
        }
        let written = self.file.write_all_at(records, offset).and_then(|()| {
            if durable {
                self.file.sync_data()
            } else {
                Ok(())
            }
        });
        if written.is_err() {
            self.unclean = self.file.set_len(self.len).is_err();
            return written;
        }
        self.unclean = false;
        Ok(())
    }
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
