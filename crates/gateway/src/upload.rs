//! The request body on its way up: counted, timed, and telling the other side why it ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

/// The bounds of a request body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UploadLimits {
    pub(crate) bytes: u64,
    /// Longest silence.
    pub(crate) idle: Duration,
    /// Longest time for the whole body.
    pub(crate) total: Duration,
}

/// Why a request body was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum UploadCut {
    /// Over the byte limit.
    #[error("the request body is over the limit")]
    TooLarge,
    /// Too slow.
    #[error("the request body did not arrive in time")]
    TimedOut,
    /// The caller's connection broke.
    #[error("the request body broke off")]
    Broken,
}

/// How far the body has come; shared with whoever waits for the response.
#[derive(Debug)]
pub(crate) struct UploadState(Mutex<Progress>);

#[derive(Debug, Clone, Copy)]
struct Progress {
    cut: Option<UploadCut>,
    last: Instant,
}

impl UploadState {
    /// Why the body was cut, if it was.
    pub(crate) fn cut(&self) -> Option<UploadCut> {
        self.0.lock().cut
    }

    /// When the body last moved, or ended.
    pub(crate) fn last_progress(&self) -> Instant {
        self.0.lock().last
    }

    fn moved(&self, now: Instant) {
        self.0.lock().last = now;
    }

    fn cut_off(&self, cut: UploadCut) -> UploadCut {
        self.0.lock().cut = Some(cut);
        cut
    }
}

/// A bounded request body.
pub(crate) struct Upload {
    incoming: Incoming,
    limits: UploadLimits,
    seen: u64,
    began: Instant,
    timer: Option<Pin<Box<Sleep>>>,
    state: Arc<UploadState>,
}

impl Upload {
    /// Wraps the caller's body.
    pub(crate) fn new(incoming: Incoming, limits: UploadLimits) -> (Self, Arc<UploadState>) {
        let began = Instant::now();
        let state = Arc::new(UploadState(Mutex::new(Progress {
            cut: None,
            last: began,
        })));
        let upload = Self {
            incoming,
            limits,
            seen: 0,
            began,
            timer: None,
            state: Arc::clone(&state),
        };
        (upload, state)
    }

    fn deadline(&self) -> Instant {
        (self.state.last_progress() + self.limits.idle).min(self.began + self.limits.total)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline();
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, UploadCut> {
        let now = Instant::now();
        self.state.moved(now);
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.seen = self
            .seen
            .saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        if self.seen > self.limits.bytes {
            return Err(self.state.cut_off(UploadCut::TooLarge));
        }
        if now >= self.began + self.limits.total {
            return Err(self.state.cut_off(UploadCut::TimedOut));
        }
        Ok(frame)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadCut>>> {
        let this = self.get_mut();
        loop {
            match Pin::new(&mut this.incoming).poll_frame(cx) {
                // Trailers of the request end here.
                Poll::Ready(Some(Ok(frame))) if !frame.is_data() => {}
                Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(this.take(frame))),
                Poll::Ready(Some(Err(_))) => {
                    return Poll::Ready(Some(Err(this.state.cut_off(UploadCut::Broken))));
                }
                Poll::Ready(None) => {
                    this.state.moved(Instant::now());
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if this.poll_deadline(cx).is_ready() {
                        return Poll::Ready(Some(Err(this.state.cut_off(UploadCut::TimedOut))));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
