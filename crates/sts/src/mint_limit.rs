//! How often an application may mint for a resource.
//!
//! The window is counted at the client's mint only, so a governed call counts once. It is judged in
//! memory: a limiter that needs a store turns the store's outage into its own. Where several STS serve
//! the same zones, [`SharedCounts`] brings their counts together. Denied mints count too.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::Clock;
use caracal_core::id::{ApplicationId, ResourceId, ZoneId};
use caracal_http::{RetryAfter, WindowLimiter};

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(60);

/// Triples of zone, resource and application that are counted at a time.
const REMEMBERED: usize = 65_536;

/// Windows of a minute that several STS count together; the limit is `STS_MINT_RATE_LIMIT_PER_MIN`.
pub trait SharedCounts: Send + Sync + fmt::Debug {
    /// Counts one mint, without waiting for anything.
    ///
    /// # Errors
    /// The time until the next window when this mint is over the limit.
    fn count(&self, key: &str) -> Result<(), Duration>;
}

/// `STS_MINT_RATE_LIMIT_PER_MIN` per (zone, resource, application).
#[derive(Debug)]
pub(crate) enum MintLimit {
    /// Of this process.
    Own(WindowLimiter<(ZoneId, ResourceId, ApplicationId)>),
    /// Of all STS.
    Shared(Arc<dyn SharedCounts>),
}

impl MintLimit {
    pub(crate) fn new(clock: Arc<dyn Clock>, per_minute: u32) -> Self {
        Self::Own(WindowLimiter::new(clock, per_minute, WINDOW, REMEMBERED))
    }

    /// Counts one mint.
    pub(crate) fn count(
        &self,
        zone: &ZoneId,
        resource: &ResourceId,
        application: &ApplicationId,
    ) -> Result<(), RetryAfter> {
        match self {
            Self::Own(windows) => {
                windows.check((zone.clone(), resource.clone(), application.clone()))
            }
            Self::Shared(counts) => counts
                .count(&format!("{zone}:{resource}:{application}"))
                .map_err(RetryAfter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::{ManualClock, Timestamp};

    #[test]
    fn each_resource_and_application_has_its_own_window() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000)));
        let limit = MintLimit::new(clock.clone(), 1);
        let count = |resource: &str, application: &str| {
            limit.count(
                &ZoneId::parse("z").unwrap(),
                &ResourceId::parse(resource).unwrap(),
                &ApplicationId::parse(application).unwrap(),
            )
        };
        assert_eq!(count("r-1", "app-1"), Ok(()));
        clock.advance_seconds(10);
        assert_eq!(
            count("r-1", "app-1"),
            Err(RetryAfter(Duration::from_secs(50)))
        );
        assert_eq!(count("r-2", "app-1"), Ok(()));
        assert_eq!(count("r-1", "app-2"), Ok(()));
        clock.advance_seconds(50);
        assert_eq!(count("r-1", "app-1"), Ok(()));
    }
}
