//! Step 19: the call to the upstream.
//!
//! One pool of connections for each origin, with its own bounded number of places, shared fairly
//! between zones, and a circuit for each zone, so that one slow upstream starves nobody else, nor one
//! zone the others at the same upstream. Nothing is retried, except a request of which not a byte was
//! written because the idle connection it was given had just closed. Redirects are answers.

mod connect;
mod origin;

use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::ZoneId;
use http::{Request, Response};
use moka::sync::Cache;
use tokio::time::Instant;

use crate::audit::Dispatched;
use crate::host_guard::{HostGuard, Origin, Target};
use crate::options::GatewayOptions;
use crate::refusal::Refusal;
use crate::upload::{Upload, UploadCut, UploadState};
use connect::{Connector, DialError};
use origin::{Lease, OriginPool};

pub(crate) use origin::UpstreamBody;

/// Origins remembered at once, and for how long after their last use.
const MAX_ORIGINS: u64 = 4_096;
const ORIGIN_IDLE: Duration = Duration::from_secs(600);

/// The Gateway's side towards all upstreams.
pub(crate) struct Upstreams {
    origins: Cache<Origin, Arc<OriginPool>>,
    connector: Connector,
    limits: OriginLimits,
    response_timeout: Duration,
    max_body: u64,
}

/// The bounds of one origin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OriginLimits {
    pub(crate) concurrency: usize,
    pub(crate) queue: usize,
    pub(crate) queue_timeout: Duration,
    pub(crate) idle_connections: usize,
    pub(crate) idle_timeout: Duration,
}

impl Upstreams {
    /// No connections yet.
    pub(crate) fn new(options: &GatewayOptions, guard: Arc<HostGuard>) -> Self {
        Self {
            origins: Cache::builder()
                .max_capacity(MAX_ORIGINS)
                .time_to_idle(ORIGIN_IDLE)
                .build(),
            connector: Connector::new(options, guard),
            limits: OriginLimits {
                concurrency: options.upstream_concurrency,
                queue: options.upstream_queue,
                queue_timeout: options.upstream_queue_timeout,
                idle_connections: options.upstream_idle_connections,
                idle_timeout: options.upstream_idle_timeout,
            },
            response_timeout: options.upstream_timeout,
            max_body: options.max_request_bytes,
        }
    }

    /// Sends the request and waits for the response head.
    pub(crate) async fn send(
        &self,
        dispatched: Dispatched,
        body: Upload,
        upload: &UploadState,
        zone: &ZoneId,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let (target, head) = dispatched.into_outbound().into_parts();
        let request = head.map(|()| body);
        let pool = self.pool(&target.origin);
        let admission = pool.admit(zone).map_err(Refusal::UpstreamBusy)?;
        let place = pool
            .place(zone)
            .await
            .ok_or(Refusal::UpstreamBusy(Duration::from_secs(1)))?;
        let exchanged = self.exchange(&pool, &target, request, upload, place).await;
        match exchanged {
            Ok(response) => {
                admission.succeed();
                Ok(response)
            }
            Err(refusal) => {
                // What the caller's body did says nothing about the upstream.
                if matches!(refusal, Refusal::UpstreamFailed | Refusal::UpstreamTimedOut)
                    && admission.fail()
                {
                    tracing::warn!(host = %target.origin.host, %zone, "upstream keeps failing: circuit open");
                }
                Err(refusal)
            }
        }
    }

    /// Closes connections that have been idle for too long.
    pub(crate) fn sweep(&self) {
        self.origins.run_pending_tasks();
        for (_, pool) in &self.origins {
            pool.sweep();
        }
    }

    fn pool(&self, origin: &Origin) -> Arc<OriginPool> {
        if let Some(pool) = self.origins.get(origin) {
            return pool;
        }
        self.origins
            .get_with(origin.clone(), || OriginPool::new(self.limits))
    }

    async fn exchange(
        &self,
        pool: &Arc<OriginPool>,
        target: &Target,
        mut request: Request<Upload>,
        upload: &UploadState,
        place: origin::Place,
    ) -> Result<Response<UpstreamBody>, Refusal> {
        let mut place = Some(place);
        while let Some(idle) = pool.take_idle() {
            let lease = idle.lease(Arc::clone(pool), place.take());
            match self.send_on(lease, request, upload).await {
                Ok(response) => return Ok(response),
                Err(Unsent::Refused(refusal)) => return Err(refusal),
                Err(Unsent::Stale(unsent, freed)) => {
                    request = *unsent;
                    place = freed;
                }
            }
        }
        let connection =
            tokio::time::timeout(self.response_timeout, self.connector.connect(target))
                .await
                .unwrap_or(Err(DialError::TimedOut))
                .map_err(|error| dial_refusal(&error, target))?;
        let lease = connection.lease(Arc::clone(pool), place);
        match self.send_on(lease, request, upload).await {
            Ok(response) => Ok(response),
            Err(Unsent::Refused(refusal)) => Err(refusal),
            Err(Unsent::Stale(..)) => Err(Refusal::UpstreamFailed),
        }
    }

    async fn send_on(
        &self,
        mut lease: Lease,
        request: Request<Upload>,
        upload: &UploadState,
    ) -> Result<Response<UpstreamBody>, Unsent> {
        let answer = lease.send(request);
        tokio::pin!(answer);
        let mut deadline = Instant::now() + self.response_timeout;
        let answer = loop {
            match tokio::time::timeout_at(deadline, &mut answer).await {
                Ok(answer) => break answer,
                Err(_) => {
                    // The time to the response head counts from the end of the request.
                    let extended = upload.last_progress() + self.response_timeout;
                    if extended <= deadline {
                        return Err(Unsent::Refused(Refusal::UpstreamTimedOut));
                    }
                    deadline = extended;
                }
            }
        };
        match answer {
            Ok(response) if response.status().is_informational() => {
                Err(Unsent::Refused(Refusal::UpstreamFailed))
            }
            Ok(response) => Ok(response.map(|incoming| UpstreamBody::new(incoming, lease))),
            Err(mut error) => match error.take_message() {
                Some(unsent) => Err(Unsent::Stale(Box::new(unsent), lease.give_up())),
                None => Err(Unsent::Refused(self.cause(upload, error.error()))),
            },
        }
    }

    fn cause(&self, upload: &UploadState, error: &hyper::Error) -> Refusal {
        match upload.cut() {
            Some(UploadCut::TooLarge) => Refusal::BodyTooLarge(self.max_body),
            Some(UploadCut::TimedOut) => Refusal::BodyTimedOut,
            Some(UploadCut::Broken) => Refusal::BodyBroken,
            None => {
                tracing::warn!(%error, "upstream call failed");
                Refusal::UpstreamFailed
            }
        }
    }
}

/// Why a request got no response.
enum Unsent {
    /// Not a byte was written: the request can go on another connection.
    Stale(Box<Request<Upload>>, Option<origin::Place>),
    /// It ends here.
    Refused(Refusal),
}

fn dial_refusal(error: &DialError, target: &Target) -> Refusal {
    tracing::warn!(host = %target.origin.host, %error, "upstream connection failed");
    match error {
        DialError::TimedOut => Refusal::UpstreamTimedOut,
        DialError::Own => Refusal::NotAddressable,
        DialError::Connect(_) | DialError::Tls(_) | DialError::Roots(_) | DialError::Http(_) => {
            Refusal::UpstreamFailed
        }
    }
}
