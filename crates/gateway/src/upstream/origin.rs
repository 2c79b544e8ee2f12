//! The places and the idle connections of one origin.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use caracal_core::id::ZoneId;
use caracal_http::FairShare;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::OriginLimits;
use crate::circuit::{Admission, ZoneCircuits};
use crate::upload::Upload;

/// Failures in a row that open an origin's circuit, and for how long.
const CIRCUIT_THRESHOLD: u32 = 5;
const CIRCUIT_OPEN: Duration = Duration::from_secs(5);

/// How long a connection whose response is complete may take to be ready for the next request.
const SETTLE: Duration = Duration::from_secs(1);

/// Zones whose failures at one origin are remembered.
const MAX_ZONES: usize = 1_024;

/// The right to have one request run at an origin.
pub(super) type Place = caracal_http::Place<ZoneId>;

/// One origin's share of the Gateway. Zones that call the same origin share its places fairly, and
/// each has its own circuit: a service may be slow for one customer and well for all others.
pub(crate) struct OriginPool {
    limits: OriginLimits,
    circuits: ZoneCircuits,
    places: FairShare<ZoneId>,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl OriginPool {
    /// No connections, all places free.
    pub(super) fn new(limits: OriginLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            circuits: ZoneCircuits::new(CIRCUIT_THRESHOLD, CIRCUIT_OPEN, MAX_ZONES),
            places: FairShare::new(limits.concurrency, limits.queue),
            idle: Mutex::default(),
        })
    }

    /// Asks the zone's circuit at this origin.
    pub(super) fn admit(&self, zone: &ZoneId) -> Result<Admission, Duration> {
        self.circuits.admit(zone)
    }

    /// A place, after a bounded wait in the zone's bounded queue.
    pub(super) async fn place(&self, zone: &ZoneId) -> Option<Place> {
        tokio::time::timeout(self.limits.queue_timeout, self.places.place(zone))
            .await
            .ok()?
            .ok()
    }

    /// The most recently used idle connection that is still open.
    pub(super) fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        while let Some((since, connection)) = idle.pop() {
            if since.elapsed() < self.limits.idle_timeout && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes connections that are closed on the other side or idle for too long.
    pub(super) fn sweep(&self) {
        let timeout = self.limits.idle_timeout;
        self.idle.lock().retain(|(since, connection)| {
            since.elapsed() < timeout && !connection.sender.is_closed()
        });
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < self.limits.idle_connections {
            idle.push((Instant::now(), connection));
        }
    }
}

/// An open connection; dropping it closes it.
pub(super) struct Connection {
    sender: SendRequest<Upload>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// A connection driven by `task`.
    pub(super) fn new(sender: SendRequest<Upload>, task: AbortHandle) -> Self {
        Self { sender, task }
    }

    /// Takes it into use.
    pub(super) fn lease(self, pool: Arc<OriginPool>, place: Option<Place>) -> Lease {
        Lease {
            pool,
            place,
            connection: self,
        }
    }
}

/// A connection in use. Dropped before its response is complete, it closes the connection: nothing
/// more goes either way.
pub(super) struct Lease {
    pool: Arc<OriginPool>,
    place: Option<Place>,
    connection: Connection,
}

type Answered = Result<Response<Incoming>, TrySendError<Request<Upload>>>;

impl Lease {
    /// Sends the request.
    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> impl Future<Output = Answered> + use<> {
        self.connection.sender.try_send_request(request)
    }

    /// Closes the connection and frees the place for another one.
    pub(super) fn give_up(self) -> Option<Place> {
        self.place
    }

    /// The response is complete: the connection may serve the next request.
    fn release(self) {
        let Self {
            pool,
            mut connection,
            place: _freed,
        } = self;
        if connection.sender.is_ready() {
            pool.keep(connection);
        } else if !connection.sender.is_closed() {
            tokio::spawn(async move {
                let ready = std::future::poll_fn(|cx| connection.sender.poll_ready(cx));
                if let Ok(Ok(())) = tokio::time::timeout(SETTLE, ready).await {
                    pool.keep(connection);
                }
            });
        }
    }
}

/// A response body that holds its connection until it is complete.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self {
            incoming,
            lease: Some(lease),
        };
        body.release_when_complete();
        body
    }

    fn release_when_complete(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.release();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => {
                if let Some(lease) = this.lease.take() {
                    lease.release();
                }
            }
            Poll::Ready(Some(Ok(_))) => this.release_when_complete(),
            Poll::Ready(Some(Err(_))) => this.lease = None,
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
