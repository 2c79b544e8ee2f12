//! What a connection's byte stream and its requests tell each other.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::respond::Delimiter;

/// What the connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A request head, since then.
    Head(Instant),
    /// A request is being handled.
    Busy,
    /// The next request, since then.
    Idle(Instant),
}

/// How a cut response ends on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The connection has not been cut.
    None,
    /// The terminator of the chunked body becomes an unfinished one that names the revocation.
    Trailer,
    /// The connection is reset.
    Reset,
}

/// Shared by a connection's stream and its requests.
#[derive(Debug)]
pub(crate) struct Link {
    phase: Mutex<Phase>,
    cut: Mutex<Cut>,
}

impl Link {
    /// A connection that waits for its first request.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            phase: Mutex::new(Phase::Head(Instant::now())),
            cut: Mutex::new(Cut::None),
        })
    }

    /// What the connection waits for.
    pub(super) fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// Bytes came: an idle connection is now reading a head.
    pub(super) fn received(&self) {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Idle(_)) {
            *phase = Phase::Head(Instant::now());
        }
    }

    /// A request has been read; the connection is idle again when the answer's [`Engaged`] is gone.
    pub(crate) fn engage(self: &Arc<Self>) -> Engaged {
        *self.phase.lock() = Phase::Busy;
        Engaged(Arc::clone(self))
    }

    /// How the connection is to be cut.
    pub(super) fn cut(&self) -> Cut {
        *self.cut.lock()
    }

    /// Ends the running response visibly. True: end the body as if it were complete, the stream will
    /// not finish it. False: fail the body.
    pub(crate) fn sever(&self, delimiter: Delimiter, revoked: bool) -> bool {
        let cut = match delimiter {
            Delimiter::Chunks if revoked => Cut::Trailer,
            Delimiter::Close => Cut::Reset,
            Delimiter::Chunks | Delimiter::Length | Delimiter::Nothing => Cut::None,
        };
        *self.cut.lock() = cut;
        cut == Cut::Trailer
    }

    /// The connection is about to be dropped in the middle of whatever runs on it.
    pub(super) fn abandon(&self) {
        if self.phase() == Phase::Busy {
            *self.cut.lock() = Cut::Reset;
        }
    }
}

/// The connection is handling a request.
#[derive(Debug)]
pub(crate) struct Engaged(Arc<Link>);

impl Engaged {
    /// The connection.
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.0
    }
}

impl Drop for Engaged {
    fn drop(&mut self) {
        *self.0.phase.lock() = Phase::Idle(Instant::now());
    }
}
