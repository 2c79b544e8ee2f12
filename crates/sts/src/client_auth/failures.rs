//! Which failed authentications still want an audit event.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::ApplicationId;
use caracal_core::{RequestId, Timestamp};
use caracal_store::entity::Application;
use parking_lot::Mutex;

/// The time between two events of one application.
const INTERVAL: Duration = Duration::from_secs(60);

/// Applications that are remembered; they exist, so an attacker can't invent them.
const REMEMBERED: usize = 16_384;

/// Spreads the events of failing applications.
#[derive(Debug, Default)]
pub(crate) struct FailureLog(Mutex<HashMap<ApplicationId, Recent>>);

#[derive(Debug)]
struct Recent {
    written_at: Timestamp,
    /// Failures since then.
    pending: u64,
    application: Arc<Application>,
    request_id: RequestId,
}

/// Failures that wait for their event.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) application: Arc<Application>,
    pub(super) request_id: RequestId,
    pub(super) count: u64,
}

impl FailureLog {
    /// Notes one failure; answers the count to write when an event is due now.
    pub(super) fn record(
        &self,
        application: &Arc<Application>,
        request_id: &RequestId,
        now: Timestamp,
    ) -> Option<u64> {
        let mut log = self.0.lock();
        if let Some(recent) = log.get_mut(&application.id) {
            recent.pending += 1;
            recent.request_id = request_id.clone();
            if now.since(recent.written_at) < INTERVAL && now >= recent.written_at {
                return None;
            }
            recent.written_at = now;
            return Some(std::mem::take(&mut recent.pending));
        }
        if log.len() >= REMEMBERED {
            log.retain(|_, recent| recent.pending > 0);
        }
        if log.len() < REMEMBERED {
            let recent = Recent {
                written_at: now,
                pending: 0,
                application: Arc::clone(application),
                request_id: request_id.clone(),
            };
            log.insert(application.id.clone(), recent);
        }
        Some(1)
    }

    /// Takes the failures whose minute is over, and forgets applications without any.
    pub(super) fn take_due(&self, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        self.0.lock().retain(|_, recent| {
            if now.since(recent.written_at) < INTERVAL {
                return true;
            }
            if recent.pending > 0 {
                due.push(Due {
                    application: Arc::clone(&recent.application),
                    request_id: recent.request_id.clone(),
                    count: std::mem::take(&mut recent.pending),
                });
                recent.written_at = now;
                return true;
            }
            false
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rows;
    use caracal_core::{SeededRandom, SystemClock};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_767_225_600 + seconds)
    }

    fn request() -> RequestId {
        RequestId::accept(Some("req-1"), &SystemClock, &SeededRandom::new(1))
    }

    #[test]
    fn the_first_failure_is_written_and_the_rest_of_the_minute_is_counted() {
        let log = FailureLog::default();
        let application = Arc::new(rows::application("app-7"));
        assert_eq!(log.record(&application, &request(), at(0)), Some(1));
        assert_eq!(log.record(&application, &request(), at(1)), None);
        assert_eq!(log.record(&application, &request(), at(59)), None);
        assert_eq!(log.record(&application, &request(), at(60)), Some(3));
    }

    #[test]
    fn the_last_failures_of_an_attack_are_written_too() {
        let log = FailureLog::default();
        let application = Arc::new(rows::application("app-7"));
        log.record(&application, &request(), at(0));
        log.record(&application, &request(), at(5));
        assert!(log.take_due(at(30)).is_empty());
        let due = log.take_due(at(60));
        assert_eq!(due.iter().map(|due| due.count).collect::<Vec<_>>(), [1]);
        assert!(log.take_due(at(120)).is_empty());
        assert_eq!(log.record(&application, &request(), at(121)), Some(1));
    }
}
