//! Step 15: authority for this one call, from the STS.
//!
//! A [`Permit`] is the only way on: the upstream request is built from it and from nothing else, and
//! only a granted exchange makes one.

use std::sync::Arc;
use std::time::Duration;

use caracal_roles::{Exchange, ExchangeGrant, ExchangeRefusal, ExchangeRequest};
use tokio::time::Instant;

use crate::call::Call;
use crate::circuit::{Admission, Circuit};
use crate::meter::Meter;
use crate::preflight::Framing;
use crate::refusal::Refusal;
use crate::replay::Spent;

/// Failures in a row that open the circuit, and for how long.
const CIRCUIT_THRESHOLD: u32 = 3;
const CIRCUIT_OPEN: Duration = Duration::from_secs(10);

/// The Gateway's line to the STS.
pub(crate) struct Exchanger {
    sts: Arc<dyn Exchange>,
    circuit: Arc<Circuit>,
    timeout: Duration,
    meter: Arc<Meter>,
}

/// Authority to forward one call, with the private directive for it.
pub(crate) struct Permit {
    call: Arc<Call>,
    request: Arc<ExchangeRequest>,
    framing: Framing,
    grant: ExchangeGrant,
}

impl Permit {
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
    /// A line with a closed circuit.
    pub(crate) fn new(sts: Arc<dyn Exchange>, timeout: Duration, meter: Arc<Meter>) -> Self {
        let circuit = Circuit::new(CIRCUIT_THRESHOLD, CIRCUIT_OPEN);
        Self {
            sts,
            circuit,
            timeout,
            meter,
        }
    }

    /// Step 14: whether the STS is taken to be available.
    pub(crate) fn admit(&self) -> Result<Admission, Refusal> {
        let admitted = self.circuit.admit().map_err(Refusal::CircuitOpen);
        self.observe();
        admitted
    }

    /// Whether exchanges fail at once now.
    pub(crate) fn is_open(&self) -> bool {
        self.circuit.is_open()
    }

    /// Brings the circuit's gauge up to date.
    pub(crate) fn observe(&self) {
        self.meter
            .circuit_open
            .set(u64::from(self.circuit.is_open()));
    }

    /// Asks for the call's authority.
    pub(crate) async fn exchange(
        &self,
        admission: Admission,
        spent: Spent,
    ) -> Result<Permit, Refusal> {
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
        match answer {
            Ok(Ok(grant)) => {
                admission.succeed();
                Ok(Permit {
                    call: proven.call,
                    request,
                    framing: proven.framing,
                    grant,
                })
            }
            Ok(Err(refusal)) => {
                if is_failure(&refusal) {
                    self.failed(admission);
                } else {
                    admission.succeed();
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
            tracing::warn!("the token service keeps failing: circuit open");
        }
        self.observe();
    }
}

/// A denial is an answer; only trouble counts against the STS.
fn is_failure(refusal: &ExchangeRefusal) -> bool {
    refusal.status >= 500 && refusal.code == "sts_unavailable"
}
