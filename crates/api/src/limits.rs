//! Rate limits, per minute.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::Clock;
use caracal_core::id::AdminTokenId;
use caracal_http::{RetryAfter, WindowLimiter};

const MINUTE: Duration = Duration::from_secs(60);
/// Most keys that one limiter remembers.
const REMEMBERED: usize = 16_384;

/// How many requests a minute; 0 switches a limit off.
#[derive(Debug, Clone, Copy)]
pub struct RateLimits {
    /// Requests under `/v1` per peer, and again per token (`API_V1_RATE_LIMIT_PER_MIN`).
    pub v1: u32,
    /// Failed authentications per peer (`ADMIN_AUTH_FAIL_LIMIT_PER_MIN`).
    pub auth_failures: u32,
    /// Readiness checks per peer (`READY_RATE_LIMIT_PER_MIN`).
    pub ready: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            v1: 600,
            auth_failures: 60,
            ready: 120,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Limits {
    peers: WindowLimiter<IpAddr>,
    tokens: WindowLimiter<AdminTokenId>,
    failures: WindowLimiter<IpAddr>,
    ready: WindowLimiter<IpAddr>,
}

impl Limits {
    pub(crate) fn new(rates: RateLimits, clock: &Arc<dyn Clock>) -> Self {
        let peers = |limit| WindowLimiter::new(Arc::clone(clock), limit, MINUTE, REMEMBERED);
        Self {
            peers: peers(rates.v1),
            tokens: WindowLimiter::new(Arc::clone(clock), rates.v1, MINUTE, REMEMBERED),
            failures: peers(rates.auth_failures),
            ready: peers(rates.ready),
        }
    }

    /// Counts a request of a peer, before anything else is done for it.
    pub(crate) fn peer(&self, peer: IpAddr) -> Result<(), RetryAfter> {
        self.peers.check(peer)
    }

    /// Counts a request of an authenticated token.
    pub(crate) fn token(&self, token: &AdminTokenId) -> Result<(), RetryAfter> {
        self.tokens.check(token.clone())
    }

    /// Counts a failed authentication. A token that verifies is never counted, so a guesser locks
    /// nobody else out.
    pub(crate) fn failure(&self, peer: IpAddr) -> Result<(), RetryAfter> {
        self.failures.check(peer)
    }

    /// Counts a readiness check.
    pub(crate) fn ready(&self, peer: IpAddr) -> Result<(), RetryAfter> {
        self.ready.check(peer)
    }
}
