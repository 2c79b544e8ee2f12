//! A circuit breaker with a single probe.
//!
//! After `threshold` failures in a row the circuit opens: calls fail at once. When it has been open
//! for `open_for`, exactly one call passes as a probe; its success closes the circuit, its failure
//! opens it again. Where many zones share a dependency, each has a circuit of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use caracal_core::id::ZoneId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// When to come back while a probe is under way.
const PROBE: Duration = Duration::from_secs(1);

/// One dependency's breaker.
#[derive(Debug)]
pub(crate) struct Circuit {
    threshold: u32,
    open_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    opened: Option<Instant>,
    probing: bool,
}

/// Permission for one call. Dropped without a verdict it counts neither way.
#[derive(Debug)]
pub(crate) struct Admission {
    circuit: Arc<Circuit>,
    probe: bool,
}

impl Circuit {
    /// A closed circuit.
    pub(crate) fn new(threshold: u32, open_for: Duration) -> Arc<Self> {
        Arc::new(Self {
            threshold,
            open_for,
            state: Mutex::default(),
        })
    }

    /// Asks for a call.
    ///
    /// # Errors
    /// When open: how long until the next probe.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Admission, Duration> {
        let mut state = self.state.lock();
        let Some(opened) = state.opened else {
            return Ok(Admission {
                circuit: Arc::clone(self),
                probe: false,
            });
        };
        let left = self.open_for.saturating_sub(opened.elapsed());
        if !left.is_zero() {
            return Err(left);
        }
        if state.probing {
            return Err(PROBE);
        }
        state.probing = true;
        Ok(Admission {
            circuit: Arc::clone(self),
            probe: true,
        })
    }

    /// How long calls fail at once from now; `None` when one would be admitted.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let state = self.state.lock();
        let left = self.open_for.saturating_sub(state.opened?.elapsed());
        match (left.is_zero(), state.probing) {
            (false, _) => Some(left),
            (true, true) => Some(PROBE),
            (true, false) => None,
        }
    }

    /// Whether nothing is known of it that a new circuit does not say.
    fn is_forgettable(self: &Arc<Self>) -> bool {
        let state = self.state.lock();
        state.failures == 0 && state.opened.is_none() && Arc::strong_count(self) == 1
    }

    /// Whether calls fail at once now.
    pub(crate) fn is_open(&self) -> bool {
        self.state
            .lock()
            .opened
            .is_some_and(|opened| opened.elapsed() < self.open_for)
    }
}

impl Admission {
    /// The dependency answered.
    pub(crate) fn succeed(self) {
        let mut state = self.circuit.state.lock();
        // A call admitted before the circuit opened may answer after it: only the probe may close.
        if self.probe || state.opened.is_none() {
            *state = State::default();
        }
    }

    /// The dependency failed; whether this opened the circuit.
    pub(crate) fn fail(self) -> bool {
        let mut state = self.circuit.state.lock();
        state.failures = state.failures.saturating_add(1);
        let opens =
            self.probe || (state.opened.is_none() && state.failures >= self.circuit.threshold);
        if opens {
            state.opened = Some(Instant::now());
        }
        opens
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.probe {
            self.circuit.state.lock().probing = false;
        }
    }
}

/// One dependency's breakers, one for each zone: what fails for one zone pauses nobody else.
pub(crate) struct ZoneCircuits {
    threshold: u32,
    open_for: Duration,
    capacity: usize,
    zones: Mutex<HashMap<ZoneId, Arc<Circuit>>>,
}

impl ZoneCircuits {
    /// Closed circuits. At most `capacity` zones are remembered.
    pub(crate) fn new(threshold: u32, open_for: Duration, capacity: usize) -> Self {
        Self {
            threshold,
            open_for,
            capacity: capacity.max(1),
            zones: Mutex::default(),
        }
    }

    /// Asks for a call of this zone.
    ///
    /// # Errors
    /// When the zone's circuit is open: how long until its next probe.
    pub(crate) fn admit(&self, zone: &ZoneId) -> Result<Admission, Duration> {
        self.of(zone).admit()
    }

    /// Whether calls of some zone fail at once now.
    pub(crate) fn is_any_open(&self) -> bool {
        self.zones.lock().values().any(|circuit| circuit.is_open())
    }

    fn of(&self, zone: &ZoneId) -> Arc<Circuit> {
        let mut zones = self.zones.lock();
        if let Some(circuit) = zones.get(zone) {
            return Arc::clone(circuit);
        }
        if zones.len() >= self.capacity {
            zones.retain(|_, circuit| !circuit.is_forgettable());
        }
        // Every zone fails or is busy: the newcomer's failures are not counted.
        let circuit = Circuit::new(self.threshold, self.open_for);
        if zones.len() < self.capacity {
            zones.insert(zone.clone(), Arc::clone(&circuit));
        }
        circuit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(10);

    fn opened() -> Arc<Circuit> {
        let circuit = Circuit::new(2, OPEN);
        assert!(!circuit.admit().unwrap().fail());
        assert!(circuit.admit().unwrap().fail());
        circuit
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it() {
        let circuit = opened();
        assert!(circuit.is_open());
        assert_eq!(circuit.admit().unwrap_err(), OPEN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_in_between_starts_the_count_again() {
        let circuit = Circuit::new(2, OPEN);
        circuit.admit().unwrap().fail();
        circuit.admit().unwrap().succeed();
        assert!(!circuit.admit().unwrap().fail());
        assert!(!circuit.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_pause_one_probe_passes_and_decides() {
        let circuit = opened();
        tokio::time::advance(OPEN).await;
        let probe = circuit.admit().unwrap();
        assert!(circuit.admit().is_err());
        assert!(probe.fail());
        assert!(circuit.is_open());
        tokio::time::advance(OPEN).await;
        circuit.admit().unwrap().succeed();
        assert!(circuit.admit().is_ok());
        assert!(!circuit.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_verdict_frees_its_place() {
        let circuit = opened();
        tokio::time::advance(OPEN).await;
        drop(circuit.admit().unwrap());
        assert!(circuit.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_straggler_does_not_close_it() {
        let circuit = Circuit::new(1, OPEN);
        let straggler = circuit.admit().unwrap();
        assert!(circuit.admit().unwrap().fail());
        straggler.succeed();
        assert!(circuit.is_open());
    }

    fn zone(name: &str) -> ZoneId {
        ZoneId::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_zones_failures_pause_that_zone_only() {
        let circuits = ZoneCircuits::new(2, OPEN, 10);
        for _ in 0..2 {
            circuits.admit(&zone("a")).unwrap().fail();
        }
        assert!(circuits.admit(&zone("a")).is_err());
        assert!(circuits.admit(&zone("b")).is_ok());
        assert!(circuits.is_any_open());
        tokio::time::advance(OPEN).await;
        circuits.admit(&zone("a")).unwrap().succeed();
        assert!(!circuits.is_any_open());
    }

    #[tokio::test(start_paused = true)]
    async fn zones_that_do_well_make_room_and_failing_ones_are_kept() {
        let circuits = ZoneCircuits::new(1, OPEN, 2);
        circuits.admit(&zone("failing")).unwrap().fail();
        for number in 0..100 {
            circuits
                .admit(&zone(&format!("z-{number}")))
                .unwrap()
                .succeed();
        }
        assert!(circuits.zones.lock().len() <= 2);
        assert!(circuits.admit(&zone("failing")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_lasts_through_the_probe() {
        let circuit = opened();
        assert_eq!(circuit.pause(), Some(OPEN));
        tokio::time::advance(OPEN).await;
        assert_eq!(circuit.pause(), None);
        let probe = circuit.admit().unwrap();
        assert_eq!(circuit.pause(), Some(PROBE));
        probe.succeed();
        assert_eq!(circuit.pause(), None);
    }
}
