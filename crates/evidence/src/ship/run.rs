//! Shipping: read, cut, send; ask what is stored, release.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::chunk::{Chunk, MAX_CHUNK_BYTES, MAX_CHUNK_EVENTS};
use super::cut::Cutter;
use super::{EntryId, Inner, TransportError};
use crate::log::{Batch, Origin, Position, Reader};

const STORED: &str = "what is stored of the audit log can't be read";
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between two looks at a stream that keeps what the Audit role does not store.
const LONGEST_STALL: Duration = Duration::from_secs(10 * 60);

/// An entry in the stream that is not known to be stored.
#[derive(Debug)]
struct Sent {
    id: EntryId,
    origin: Origin,
    first: Position,
    last: Position,
    bytes: usize,
}

/// The state of one run.
struct Run<'a> {
    inner: &'a Inner,
    cutter: Cutter,
    reader: Reader,
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    stall: Stall,
}

/// How long nothing has been stored.
#[derive(Debug)]
struct Stall {
    since: Instant,
    patience: Duration,
}

impl Stall {
    fn new(patience: Duration) -> Self {
        Self {
            since: Instant::now(),
            patience,
        }
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() < self.patience
    }
}

pub(super) async fn run(inner: &Inner) {
    let interval = inner.parts.options.poll_interval;
    let mut run = Run {
        inner,
        cutter: Cutter::new(inner.parts.random.clone()),
        reader: inner.parts.journal.reader(Position::ZERO),
        sent: VecDeque::new(),
        sent_bytes: 0,
        stall: Stall::new(inner.parts.options.stalled_after),
    };
    let mut polled = Instant::now();
    loop {
        if run.sent_bytes >= inner.parts.options.unstored_bytes {
            sleep(interval.saturating_sub(polled.elapsed())).await;
        } else {
            // With nothing sent there is nothing to ask for: only an event wakes.
            let wait = (!run.sent.is_empty()).then(|| interval.saturating_sub(polled.elapsed()));
            match run.read(wait).await {
                Read::Batch(batch) => run.send(&batch).await,
                Read::Nothing => {}
                Read::End => break,
            }
        }
        if polled.elapsed() >= interval {
            run.settle().await;
            polled = Instant::now();
        }
    }
    run.settle().await;
}

/// What a read found.
enum Read {
    Batch(Batch),
    /// Nothing in time.
    Nothing,
    /// The log is closed, and everything in it is read.
    End,
}

impl Run<'_> {
    /// Reads what waits in the log, for at most `wait`; little waits a moment for more.
    async fn read(&mut self, wait: Option<Duration>) -> Read {
        let next = self.reader.next_batch(MAX_CHUNK_EVENTS, MAX_CHUNK_BYTES);
        // Dropping a read that waits loses nothing.
        let read = match wait {
            Some(wait) => timeout(wait, next).await.ok(),
            None => Some(next.await),
        };
        match read {
            Some(Ok(Some(batch))) => Read::Batch(self.top_up(batch).await),
            Some(Ok(None)) => Read::End,
            Some(Err(error)) => {
                self.failed("the audit log can't be shipped", &error);
                sleep(FIRST_PAUSE).await;
                Read::Nothing
            }
            None => Read::Nothing,
        }
    }

    async fn top_up(&mut self, mut batch: Batch) -> Batch {
        let wanted = MAX_CHUNK_EVENTS.saturating_sub(batch.frames.len());
        let linger = self.inner.parts.options.linger;
        if wanted == 0 || linger.is_zero() {
            return batch;
        }
        sleep(linger).await;
        let waiting = self.reader.next_batch(wanted, MAX_CHUNK_BYTES);
        if let Ok(Ok(Some(more))) = timeout(Duration::ZERO, waiting).await {
            batch.frames.extend(more.frames);
            batch.lost.extend(more.lost);
            batch.upto = more.upto;
        }
        batch
    }

    async fn send(&mut self, batch: &Batch) {
        for producer in self.cutter.unknown(batch) {
            let mut pause = FIRST_PAUSE;
            let stored = loop {
                match self.inner.parts.stored.stored(producer).await {
                    Ok(stored) => break stored,
                    Err(error) => {
                        self.failed(STORED, &error);
                        back_off(&mut pause).await;
                    }
                }
            };
            self.cutter.met(producer, stored);
        }
        let chunks = self.cutter.cut(batch);
        if chunks.is_empty() && self.sent.is_empty() {
            self.inner.parts.journal.release(batch.upto);
        }
        for chunk in chunks {
            self.append(chunk).await;
        }
    }

    async fn append(&mut self, chunk: Chunk) {
        let entry = chunk.encode(self.inner.parts.key.as_ref());
        let mut pause = FIRST_PAUSE;
        let id = loop {
            match self.inner.parts.stream.append(&entry).await {
                Ok(id) => break id,
                Err(error) => {
                    self.failed("the audit stream takes no evidence", &error);
                    back_off(&mut pause).await;
                }
            }
        };
        let counters = &self.inner.counters;
        let events = u64::try_from(chunk.events.len()).unwrap_or(u64::MAX);
        counters.events.fetch_add(events, Ordering::Relaxed);
        counters.entries.fetch_add(1, Ordering::Relaxed);
        if self.sent.is_empty() {
            self.stall = Stall::new(self.inner.parts.options.stalled_after);
        }
        self.sent_bytes += chunk.bytes();
        self.sent.push_back(Sent {
            id,
            origin: chunk.origin,
            first: chunk.first,
            last: chunk.last,
            bytes: chunk.bytes(),
        });
        self.publish();
    }

    /// Asks what is stored and releases it; when nothing is for long, looks why.
    async fn settle(&mut self) {
        match self.release().await {
            Ok(true) => self.stall = Stall::new(self.inner.parts.options.stalled_after),
            Ok(false) if self.sent.is_empty() || self.stall.is_over() => {}
            Ok(false) => self.look_for_loss().await,
            Err(error) => self.failed(STORED, &error),
        }
    }

    /// Releases what is stored; answers whether anything was.
    async fn release(&mut self) -> Result<bool, TransportError> {
        let mut released = false;
        while let Some(front) = self.sent.front() {
            let producer = front.origin.producer;
            let stored = self.inner.parts.stored.stored(producer).await?;
            let stored = stored.unwrap_or_default();
            let mut done = None;
            while let Some(sent) = self.sent.front()
                && sent.origin.producer == producer
                && sent.last <= stored
            {
                done = Some(sent.last);
                self.sent_bytes -= sent.bytes;
                self.sent.pop_front();
            }
            let Some(done) = done else {
                break;
            };
            self.inner.parts.journal.release(done);
            released = true;
        }
        self.publish();
        Ok(released)
    }

    /// Sends again from the oldest entry on when the stream does not hold it. While it holds it, the
    /// Audit role is only late, and sending again would fill the stream.
    async fn look_for_loss(&mut self) {
        let Some(front) = self.sent.front() else {
            return;
        };
        match self.inner.parts.stream.holds(&front.id).await {
            Ok(true) => {}
            // What is stored is trimmed: perhaps that is where it went.
            Ok(false) => match self.release().await {
                Ok(true) => {}
                Ok(false) => self.send_again(),
                Err(error) => return self.failed(STORED, &error),
            },
            Err(error) => return self.failed("the audit stream can't be read", &error),
        }
        self.stall = Stall::new((self.stall.patience * 2).min(LONGEST_STALL));
        self.publish();
    }

    fn send_again(&mut self) {
        let Some(front) = self.sent.front() else {
            return;
        };
        let (origin, first) = (front.origin, front.first);
        let entries = self.sent.len();
        let position = first.get();
        tracing::warn!(
            entries,
            position,
            "the audit stream lost evidence; it is sent again"
        );
        let resent = u64::try_from(entries).unwrap_or(u64::MAX);
        self.inner
            .counters
            .resent
            .fetch_add(resent, Ordering::Relaxed);
        self.cutter
            .rewind(origin, Position::new(position.saturating_sub(1)));
        self.reader = self.inner.parts.journal.reader(first);
        self.sent.clear();
        self.sent_bytes = 0;
    }

    fn publish(&self) {
        let bytes = u64::try_from(self.sent_bytes).unwrap_or(u64::MAX);
        self.inner
            .counters
            .unstored_bytes
            .store(bytes, Ordering::Relaxed);
    }

    fn failed(&self, what: &str, error: &dyn Display) {
        self.inner.counters.errors.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "{what}");
    }
}

async fn back_off(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}
