//! Whose turn it is: what all zones share is given to them in equal parts.
//!
//! Two things are shared. Requests under way hold store connections while they read, so a zone whose
//! reads hang, or that floods the STS, must not take them all. Derivations of chosen secrets cost a
//! processor each for a while, so a zone that brings hundreds of them must not make the others wait
//! for all of those.

use std::time::Duration;

use caracal_core::id::ZoneId;
use caracal_http::{FairShare, Place};

use crate::error::Refusal;

/// Requests under way at a time, of all zones.
const REQUESTS: usize = 256;

/// Requests of one zone that may wait for their turn.
const WAITING_REQUESTS: usize = 4_096;

/// Derivations of one zone that may wait for their turn.
const WAITING_DERIVATIONS: usize = 512;

/// Longest wait for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The turns of all zones. A request that names no zone shares the turns of those that don't.
#[derive(Debug)]
pub(crate) struct Turns {
    requests: FairShare<Option<ZoneId>>,
    derivations: FairShare<ZoneId>,
}

impl Turns {
    /// Turns for a verifier of secrets that derives `derivations` at a time.
    pub(crate) fn new(derivations: usize) -> Self {
        Self {
            requests: FairShare::new(REQUESTS, WAITING_REQUESTS),
            derivations: FairShare::without_reserve(derivations, WAITING_DERIVATIONS),
        }
    }

    /// The zone's turn to have a request worked on.
    pub(crate) async fn request(
        &self,
        zone: Option<&ZoneId>,
    ) -> Result<Place<Option<ZoneId>>, Refusal> {
        let zone = zone.cloned();
        let turn = tokio::time::timeout(LONGEST_WAIT, self.requests.place(&zone)).await;
        turn.ok().and_then(Result::ok).ok_or_else(crowded)
    }

    /// The zone's turn to have a secret derived.
    pub(crate) async fn derivation(&self, zone: &ZoneId) -> Result<Place<ZoneId>, Refusal> {
        let turn = tokio::time::timeout(LONGEST_WAIT, self.derivations.place(zone)).await;
        turn.ok().and_then(Result::ok).ok_or_else(crowded)
    }
}

fn crowded() -> Refusal {
    Refusal::unavailable("too many requests of the zone are waiting")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use caracal_core::Secret;
    use caracal_core::id::ApplicationId;
    use caracal_crypto::client_secret::hash_chosen;
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use http::StatusCode;

    use super::*;
    use crate::testing::{APP, World};

    fn slow() -> ZoneId {
        ZoneId::parse("z-slow").unwrap()
    }

    #[tokio::test]
    async fn a_zone_whose_requests_hang_delays_no_other_zone() {
        let world = World::new().await;
        let slow = slow();
        let calls = (0..2_000).map(|_| Box::pin(world.sts.turns.request(Some(&slow))));
        let mut hanging = join_all(calls);
        assert!((&mut hanging).now_or_never().is_none());
        let answer = tokio::time::timeout(Duration::from_secs(2), world.lifecycle()).await;
        assert_eq!(answer.expect("no wait").status, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_zone_with_many_chosen_secrets_makes_another_wait_for_one_at_most() {
        let world = Arc::new(World::new().await);
        let chosen = Secret::new("a-chosen-secret-of-some-length".to_owned());
        let mut unit = world.unit().await;
        let id = ApplicationId::parse(APP).unwrap();
        let mut application = unit.get_application(&id).await.unwrap().unwrap();
        application.secret_hash = Some(hash_chosen(&chosen, &*world.random).unwrap());
        assert!(unit.update_application(&application).await.unwrap());
        unit.commit().await.unwrap();
        let slow = slow();
        let turns = &world.sts.turns;
        let first = turns.derivation(&slow).await.unwrap();
        let _second = turns.derivation(&slow).await.unwrap();
        let mut queue = join_all((0..100).map(|_| Box::pin(turns.derivation(&slow))));
        assert!((&mut queue).now_or_never().is_none());
        let asking = tokio::spawn({
            let (world, secret) = (Arc::clone(&world), chosen.expose().clone());
            async move {
                let fields = [
                    ("client_secret", secret.as_str()),
                    ("scope", "agent:lifecycle"),
                ];
                world.token(&fields).await.status
            }
        });
        while turns.derivations.active_keys() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(!asking.is_finished());
        drop(first);
        assert_eq!(asking.await.unwrap(), StatusCode::OK);
        assert!(
            (&mut queue).now_or_never().is_none(),
            "the slow zone still waits"
        );
    }
}
