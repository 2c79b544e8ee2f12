//! Step 15: authority for this one call, from the STS.
//!
//! A [`Permit`] is the only way on: the upstream request is built from it and from nothing else, and
//! only a granted exchange makes one.
//!
//! Every zone has a circuit of its own: decisions that keep failing for one zone (its store rows, its
//! keys, its provider) pause that zone's calls and nobody else's. Whether the STS is there at all is
//! known by the line to it, and pauses everybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caracal_core::id::ZoneId;
use caracal_roles::{Exchange, ExchangeGrant, ExchangeRefusal, ExchangeRequest, RefusalOrigin};
use tokio::time::Instant;

use crate::call::Call;
use crate::circuit::{Admission, ZoneCircuits};
use crate::meter::Meter;
use crate::preflight::Framing;
use crate::refusal::Refusal;
use crate::replay::Spent;

/// Failures in a row that open a zone's circuit, and for how long.
const CIRCUIT_THRESHOLD: u32 = 3;
const CIRCUIT_OPEN: Duration = Duration::from_secs(10);

/// Zones whose failures are remembered.
const MAX_ZONES: usize = 16_384;

/// The Gateway's line to the STS.
pub(crate) struct Exchanger {
    sts: Arc<dyn Exchange>,
    circuits: ZoneCircuits,
    /// Whether the line to the STS was down when it was last looked at.
    paused: AtomicBool,
    timeout: Duration,
    meter: Arc<Meter>,
}

/// Authority to forward one call, with the private directive for it.
pub(crate) struct Permit {
    call: Arc<Call>,
    request: Arc<ExchangeRequest>,
    framing: Framing,
    grant: ExchangeGrant,
    judged_at: u64,
}

impl Permit {
    /// The position of the change feed that the call was judged at, before the STS judged it.
    pub(crate) fn judged_at(&self) -> u64 {
        self.judged_at
    }

    /// Who calls.
    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }

    /// What was granted, for judging it again.
    pub(crate) fn request(&self) -> &Arc<ExchangeRequest> {
        &self.request
    }

    /// How the caller delimits the body.
    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// The directive and the resource mandate.
    pub(crate) fn grant(&self) -> &ExchangeGrant {
        &self.grant
    }
}

impl Exchanger {
    /// A line on which nothing has failed.
    pub(crate) fn new(sts: Arc<dyn Exchange>, timeout: Duration, meter: Arc<Meter>) -> Self {
        Self {
            sts,
            circuits: ZoneCircuits::new(CIRCUIT_THRESHOLD, CIRCUIT_OPEN, MAX_ZONES),
            paused: AtomicBool::new(false),
            timeout,
            meter,
        }
    }

    /// Step 14: whether the STS is taken to be available to this zone.
    pub(crate) fn admit(&self, zone: &ZoneId) -> Result<Admission, Refusal> {
        let pause = self.sts.pause();
        let was_paused = self.paused.swap(pause.is_some(), Ordering::Relaxed);
        if let Some(pause) = pause {
            if !was_paused {
                self.meter.circuit_opened.add();
            }
            return Err(Refusal::CircuitOpen(pause));
        }
        self.circuits.admit(zone).map_err(Refusal::CircuitOpen)
    }

    /// Whether the STS answers: readiness.
    pub(crate) async fn reachable(&self) -> bool {
        self.sts.pause().is_none() && self.sts.reachable().await
    }

    /// Brings the circuits' gauge up to date: 1 while exchanges of anybody fail at once.
    pub(crate) fn observe(&self) {
        let open = self.sts.pause().is_some() || self.circuits.is_any_open();
        self.meter.circuit_open.set(u64::from(open));
    }

    /// Asks for the call's authority.
    pub(crate) async fn exchange(
        &self,
        admission: Admission,
        spent: Spent,
    ) -> Result<Permit, Refusal> {
        let judged_at = spent.judged_at();
        let proven = spent.into_proven().into_parts();
        let request = Arc::new(ExchangeRequest {
            mandate: proven.mandate,
            resource: proven.call.resource.clone(),
            method: proven.call.method.as_str().to_owned(),
            path: proven.path,
            request_id: proven.call.request_id.clone(),
        });
        let began = Instant::now();
        let answer = tokio::time::timeout(self.timeout, self.sts.exchange(&request)).await;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.meter.exchange_latency_ms.set(took);
        metrics::histogram!("caracal_gateway_exchange_seconds").record(began.elapsed());
        match answer {
            Ok(Ok(grant)) => {
                admission.succeed();
                Ok(Permit {
                    call: proven.call,
                    request,
                    framing: proven.framing,
                    grant,
                    judged_at,
                })
            }
            Ok(Err(refusal)) => {
                match refusal.origin {
                    // It says nothing about this zone; the line leaves a dead STS alone by itself.
                    RefusalOrigin::Line => drop(admission),
                    RefusalOrigin::Sts if is_failure(&refusal) => self.failed(admission),
                    RefusalOrigin::Sts => admission.succeed(),
                }
                Err(Refusal::Exchange(Box::new(refusal)))
            }
            Err(_) => {
                self.failed(admission);
                Err(Refusal::ExchangeTimedOut)
            }
        }
    }

    /// Asks whether a running call would still be granted.
    pub(crate) async fn still_granted(
        &self,
        request: &ExchangeRequest,
    ) -> Result<(), ExchangeRefusal> {
        self.sts.still_granted(request).await
    }

    fn failed(&self, admission: Admission) {
        if admission.fail() {
            self.meter.circuit_opened.add();
            tracing::warn!("exchanges of a zone keep failing: circuit open");
        }
        self.observe();
    }
}

/// A denial is an answer; only trouble counts.
pub(crate) fn is_failure(refusal: &ExchangeRefusal) -> bool {
    refusal.status >= 500 && refusal.code == "sts_unavailable"
}
