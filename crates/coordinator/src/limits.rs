//! Rate limits, local to the process.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use caracal_core::Clock;
use caracal_http::{Failure, RequestContext, RetryAfter, WindowLimiter};

use crate::options::CoordinatorOptions;

const WINDOW: Duration = Duration::from_secs(60);

/// Addresses that each limiter remembers.
const MAX_ADDRESSES: usize = 65_536;

/// When to try again after a refusal for want of room, which nobody can know better.
pub(crate) const CAPACITY_RETRY: Duration = Duration::from_secs(5);

/// The limiters, one hit counted per peer address.
#[derive(Debug)]
pub(crate) struct Limits {
    requests: WindowLimiter<IpAddr>,
    ready_checks: WindowLimiter<IpAddr>,
    verifications: WindowLimiter<IpAddr>,
}

impl Limits {
    pub(crate) fn new(options: &CoordinatorOptions, clock: &Arc<dyn Clock>) -> Self {
        let limiter = |limit| WindowLimiter::new(Arc::clone(clock), limit, WINDOW, MAX_ADDRESSES);
        Self {
            requests: limiter(options.requests_per_minute),
            ready_checks: limiter(options.ready_checks_per_minute),
            verifications: limiter(options.verifications_per_minute),
        }
    }

    /// Counts a call of `/v1/verify`.
    pub(crate) fn verification(&self, peer: IpAddr) -> Result<(), RetryAfter> {
        self.verifications.check(peer)
    }
}

/// Counts every request but `/health`, which must answer whatever the load.
pub(crate) async fn count(
    State(limits): State<Arc<Limits>>,
    context: RequestContext,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("", MatchedPath::as_str);
    if route == "/health" {
        return next.run(request).await;
    }
    let mut counted = limits.requests.check(context.peer);
    if route == "/ready" {
        counted = counted.and(limits.ready_checks.check(context.peer));
    }
    match counted {
        Ok(()) => next.run(request).await,
        Err(RetryAfter(after)) => Failure::too_many("rate_limited", after).into_response(),
    }
}
