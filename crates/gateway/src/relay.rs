//! The response body on its way down, and its end.
//!
//! A running response lives under the authority that permitted it. Every change of the zone has it
//! judged again: while the judgement runs nothing is passed on, and a chunk is looked at after it was
//! read and before it is written, so nothing that arrives after a revocation reaches the caller. It
//! also ends with its mandate, and when it falls silent. Every such end is visibly a cut.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};

use crate::audit::Record;
use crate::listener::Engaged;
use crate::meter::Meter;
use crate::refusal::Refusal;
use crate::rejudge::Rejudge;
use crate::respond::Delimiter;
use crate::upstream::UpstreamBody;

/// Why a response body was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum RelayCut {
    /// The authority ended, or could not be confirmed in time.
    #[error("the authority of the call has ended")]
    Revoked,
    /// The mandate's `exp` has come.
    #[error("the mandate has expired")]
    Expired,
    /// The upstream was silent for too long.
    #[error("the upstream was silent for too long")]
    Idle,
    /// The upstream's response broke off.
    #[error("the upstream's response broke off")]
    Broken,
}

/// A silent body is judged at most once in this time, however often its zone changes; data that comes
/// is judged at once.
const SILENT_SPACING: Duration = Duration::from_millis(15);

type Changed = Pin<Box<dyn Future<Output = ()> + Send>>;
type Verdict = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// What a response body runs under.
pub(crate) struct RelayTerms {
    pub(crate) rejudge: Arc<Rejudge>,
    pub(crate) changes: watch::Receiver<u64>,
    pub(crate) expires: Instant,
    pub(crate) idle: Duration,
    pub(crate) delimiter: Delimiter,
    pub(crate) meter: Arc<Meter>,
}

/// A response body under authority.
pub(crate) struct Relay {
    upstream: Option<UpstreamBody>,
    terms: RelayTerms,
    record: Record,
    engaged: Engaged,
    /// Data that waits for a judgement.
    held: Option<Bytes>,
    /// The upstream's body is complete.
    ended: bool,
    changed: Option<Changed>,
    verdict: Option<Verdict>,
    idle_until: Instant,
    judged_at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Relay {
    /// Wraps the upstream's body.
    pub(crate) fn new(
        upstream: UpstreamBody,
        terms: RelayTerms,
        record: Record,
        engaged: Engaged,
    ) -> Self {
        let now = Instant::now();
        let idle_until = now + terms.idle;
        Self {
            upstream: Some(upstream),
            terms,
            record,
            engaged,
            held: None,
            ended: false,
            changed: None,
            verdict: None,
            idle_until,
            judged_at: now,
            timer: None,
        }
    }

    fn zone_changed(&self) -> bool {
        // A closed channel means that nobody watches the zone any more: judge.
        self.terms.changes.has_changed().unwrap_or(true)
    }

    fn must_judge_now(&self) -> bool {
        let something_waits = self.held.is_some() || self.ended;
        self.zone_changed() && (something_waits || self.judged_at.elapsed() >= SILENT_SPACING)
    }

    fn begin_judging(&mut self) {
        self.terms.changes.mark_unchanged();
        self.changed = None;
        self.judged_at = Instant::now();
        self.verdict = Some(Arc::clone(&self.terms.rejudge).run());
    }

    /// Judges if there is anything to judge. Ready: the call stands as of now.
    fn poll_standing(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayCut>> {
        loop {
            if let Some(verdict) = self.verdict.as_mut() {
                match verdict.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(())) => self.verdict = None,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(RelayCut::Revoked)),
                }
            } else if self.must_judge_now() {
                self.begin_judging();
            } else {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Wakes this task when the zone changes. Ready: it has.
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let changes = &self.terms.changes;
        let changed = self.changed.get_or_insert_with(|| {
            let mut changes = changes.clone();
            Box::pin(async move {
                // An error means that the channel closed, which is a change too.
                let _ = changes.changed().await;
            })
        });
        ready!(changed.as_mut().poll(cx));
        self.changed = None;
        Poll::Ready(())
    }

    /// Waits while nothing comes. Ready with `None`: look again; with a cut: end.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<RelayCut>> {
        let mut deadline = self.terms.expires.min(self.idle_until);
        if self.zone_changed() {
            deadline = deadline.min(self.judged_at + SILENT_SPACING);
        } else if self.poll_changed(cx).is_ready() {
            return Poll::Ready(None);
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        let now = Instant::now();
        Poll::Ready(if self.terms.expires <= now {
            Some(RelayCut::Expired)
        } else if self.idle_until <= now {
            Some(RelayCut::Idle)
        } else {
            None
        })
    }

    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, RelayCut>>> {
        let Some(upstream) = self.upstream.as_mut() else {
            return Poll::Ready(None);
        };
        loop {
            match Pin::new(&mut *upstream).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "upstream response broke off");
                    return Poll::Ready(Some(Err(RelayCut::Broken)));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // The upstream's trailers end here.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }

    /// Ends the body so that the caller sees it was cut.
    fn cut(&mut self, cut: RelayCut) -> Poll<Option<Result<Frame<Bytes>, RelayCut>>> {
        self.upstream = None;
        self.held = None;
        self.verdict = None;
        let revoked = cut == RelayCut::Revoked;
        if revoked {
            self.record.interrupted();
        } else {
            self.terms.meter.upstream_errors.add();
        }
        tracing::info!(request_id = %self.record.call().request_id, %cut, "response cut");
        if self.engaged.link().sever(self.terms.delimiter, revoked) {
            Poll::Ready(None)
        } else {
            Poll::Ready(Some(Err(cut)))
        }
    }

    fn pass_on(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, RelayCut>>> {
        self.idle_until = Instant::now() + self.terms.idle;
        self.record.passed_on(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = RelayCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RelayCut>>> {
        let this = self.get_mut();
        loop {
            match this.poll_standing(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(cut)) => return this.cut(cut),
                Poll::Ready(Ok(())) => {}
            }
            if let Some(data) = this.held.take() {
                return this.pass_on(data);
            }
            if this.ended {
                this.record.completed();
                return Poll::Ready(None);
            }
            match this.poll_upstream(cx) {
                Poll::Ready(Some(Ok(_))) if this.terms.expires <= Instant::now() => {
                    return this.cut(RelayCut::Expired);
                }
                Poll::Ready(Some(Ok(data))) => this.held = Some(data),
                Poll::Ready(Some(Err(cut))) => return this.cut(cut),
                Poll::Ready(None) => this.ended = true,
                Poll::Pending => {
                    if let Some(cut) = ready!(this.poll_silence(cx)) {
                        return this.cut(cut);
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.upstream.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.upstream
            .as_ref()
            .map(Body::size_hint)
            .unwrap_or_default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.record.completed();
        }
    }
}
