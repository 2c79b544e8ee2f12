//! A caller's byte stream with deadlines, and with an end that can be seen.
//!
//! Reads time out by what the connection waits for: a head, or the next request. Writes time out when
//! the caller takes nothing. And a response whose authority ended is cut so that no client can take
//! it for complete: the last chunk's terminator is replaced by one that carries the revocation
//! trailer but not the empty line that would end the message; where there are no chunks the
//! connection breaks short, or is reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::link::{Cut, Link, Phase};

/// What ends a chunked body without trailers (RFC 9112 §7.1).
const TERMINATOR: &[u8] = b"0\r\n\r\n";

/// What a revoked one ends with: a trailer field, and no end of the trailer section.
const UNFINISHED: &[u8] = b"0\r\nX-Caracal-Revoked: true\r\n";

/// A connection that can be broken without a clean end.
pub(super) trait Breakable {
    /// Makes closing the connection a reset.
    fn reset_on_close(&self);
}

impl Breakable for TcpStream {
    fn reset_on_close(&self) {
        if let Err(error) = self.set_zero_linger() {
            tracing::warn!(%error, "the connection could not be set to reset");
        }
    }
}

/// Without a closing alert a TLS stream is visibly truncated; the reset makes it quick.
impl Breakable for TlsStream<TcpStream> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

/// The deadlines of a caller's connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// A request head, from its first byte.
    pub(super) head: Duration,
    /// The next request.
    pub(super) idle: Duration,
    /// Response bytes that the caller does not take.
    pub(super) write: Duration,
}

/// The stream that the HTTP server reads and writes.
pub(super) struct CallerStream<S: Breakable> {
    stream: S,
    link: Arc<Link>,
    deadlines: Deadlines,
    read_timer: Timer,
    write_timer: Timer,
    stalled: Option<Instant>,
    /// Bytes held back while a response is being cut.
    held: Vec<u8>,
    /// Bytes to write before anything else.
    due: Vec<u8>,
}

impl<S: Breakable> CallerStream<S> {
    /// Wraps an accepted connection.
    pub(super) fn new(stream: S, link: Arc<Link>, deadlines: Deadlines) -> Self {
        Self {
            stream,
            link,
            deadlines,
            read_timer: Timer::default(),
            write_timer: Timer::default(),
            stalled: None,
            held: Vec::new(),
            due: Vec::new(),
        }
    }

    /// Whether the time for what the connection waits for is over; keeps a timer running if not.
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            let deadline = match self.link.phase() {
                Phase::Head(since) => since + self.deadlines.head,
                Phase::Idle(since) => since + self.deadlines.idle,
                // Nothing to wait for; look again later, since nobody wakes this read.
                Phase::Busy => self
                    .read_timer
                    .running(now)
                    .unwrap_or(now + self.deadlines.head),
            };
            if deadline <= now {
                return Poll::Ready(());
            }
            ready!(self.read_timer.poll_until(deadline, cx));
        }
    }

    fn poll_write_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.stalled.get_or_insert_with(Instant::now);
        self.write_timer
            .poll_until(since + self.deadlines.write, cx)
    }
}

impl<S: AsyncWrite + Breakable + Unpin> CallerStream<S> {
    fn poll_raw_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.stalled = None;
                Poll::Ready(written)
            }
            Poll::Pending => {
                ready!(self.poll_write_deadline(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.due.is_empty() {
            let due = std::mem::take(&mut self.due);
            let written = self.poll_raw_write(cx, &due);
            self.due = due;
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => drop(self.due.drain(..count)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes bytes of a response that is being cut; the last few are held back, because they may be
    /// the terminator.
    fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let settled = self.held.len().saturating_sub(TERMINATOR.len());
        self.due.extend(self.held.drain(..settled));
    }

    /// Writes the unfinished terminator in the place of the finished one and breaks the connection.
    fn poll_sever(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held == TERMINATOR {
            self.held.clear();
            self.due.extend_from_slice(UNFINISHED);
        }
        ready!(self.poll_due(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.held.is_empty() {
            Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

impl<S: AsyncRead + Breakable + Unpin> AsyncRead for CallerStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(read) => {
                if buffer.filled().len() > before {
                    this.link.received();
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                ready!(this.poll_read_deadline(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncWrite + Breakable + Unpin> AsyncWrite for CallerStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.link.cut() != Cut::Trailer {
            return this.poll_raw_write(cx, bytes);
        }
        ready!(this.poll_due(cx))?;
        this.hold(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.link.cut() == Cut::Trailer {
            let first = slices
                .iter()
                .find(|slice| !slice.is_empty())
                .map_or(&[][..], |s| s);
            return self.poll_write(cx, first);
        }
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write_vectored(cx, slices) {
            Poll::Ready(written) => {
                this.stalled = None;
                Poll::Ready(written)
            }
            Poll::Pending => {
                ready!(this.poll_write_deadline(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.link.cut() == Cut::Trailer {
            return this.poll_sever(cx);
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.link.cut() == Cut::None {
            return Pin::new(&mut this.stream).poll_shutdown(cx);
        }
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl<S: Breakable> Drop for CallerStream<S> {
    fn drop(&mut self) {
        if self.link.cut() == Cut::Reset {
            self.stream.reset_on_close();
        }
    }
}

/// A timer that is set only when something waits.
#[derive(Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// The deadline that the timer runs to, if it lies ahead.
    fn running(&self, now: Instant) -> Option<Instant> {
        self.0
            .as_ref()
            .map(|sleep| sleep.deadline())
            .filter(|deadline| *deadline > now)
    }

    fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::Delimiter;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    impl Breakable for DuplexStream {
        fn reset_on_close(&self) {}
    }

    const DEADLINES: Deadlines = Deadlines {
        head: Duration::from_secs(5),
        idle: Duration::from_secs(120),
        write: Duration::from_secs(60),
    };

    fn pair(capacity: usize) -> (CallerStream<DuplexStream>, Arc<Link>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let link = Link::new();
        (
            CallerStream::new(ours, Arc::clone(&link), DEADLINES),
            link,
            theirs,
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_times_out() {
        let (mut stream, _link, mut caller) = pair(64);
        caller.write_all(b"GET / HT").await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 8);
        let began = Instant::now();
        let error = stream.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() <= DEADLINES.head + Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_longer_than_a_head() {
        let (mut stream, link, _caller) = pair(64);
        drop(link.engage());
        let began = Instant::now();
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= DEADLINES.idle);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_began_while_busy_times_out_once_idle() {
        let (mut stream, link, _caller) = pair(64);
        let engaged = link.engage();
        let reading = tokio::spawn(async move { stream.read(&mut [0; 8]).await });
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(!reading.is_finished());
        drop(engaged);
        assert_eq!(
            reading.await.unwrap().unwrap_err().kind(),
            io::ErrorKind::TimedOut
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_takes_nothing_times_out() {
        let (mut stream, _link, _caller) = pair(4);
        let error = stream.write_all(b"more than fits").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    async fn severed(parts: &[&[u8]]) -> (Vec<u8>, io::Error) {
        let (mut stream, link, mut caller) = pair(4096);
        assert!(link.sever(Delimiter::Chunks, true));
        for part in parts {
            stream.write_all(part).await.unwrap();
        }
        let error = stream.flush().await.unwrap_err();
        drop(stream);
        let mut seen = Vec::new();
        caller.read_to_end(&mut seen).await.unwrap();
        (seen, error)
    }

    #[tokio::test]
    async fn a_revoked_body_ends_in_an_unfinished_trailer_section() {
        let (seen, error) = severed(&[b"3\r\nabc\r\n", b"0\r\n\r\n"]).await;
        assert_eq!(seen, b"3\r\nabc\r\n0\r\nX-Caracal-Revoked: true\r\n");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn only_revoked_chunks_end_in_a_trailer() {
        let link = Link::new();
        assert!(!link.sever(Delimiter::Chunks, false));
        assert!(!link.sever(Delimiter::Length, true));
        assert_eq!(link.cut(), Cut::None);
        assert!(!link.sever(Delimiter::Close, true));
        assert_eq!(link.cut(), Cut::Reset);
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_split_the_message_never_ends(cuts in proptest::collection::vec(0..40usize, 0..6)) {
            let message: &[u8] = b"8\r\n0\r\n\r\n0\r\n\r\n5\r\nworld\r\n0\r\n\r\n";
            let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
            at.push(0);
            at.push(message.len());
            at.sort_unstable();
            let parts: Vec<&[u8]> = at.windows(2).map(|ends| &message[ends[0]..ends[1]]).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (seen, _) = runtime.block_on(severed(&parts));
            let body = &message[..message.len() - TERMINATOR.len()];
            prop_assert_eq!(&seen[..body.len()], body);
            prop_assert_eq!(&seen[body.len()..], UNFINISHED);
        }
    }
}
