//! A circuit breaker with a single probe.
//!
//! After `threshold` failures in a row the circuit opens: calls fail at once. When it has been open
//! for `open_for`, exactly one call passes as a probe; its success closes the circuit, its failure
//! opens it again.

use std::sync::Arc;
use std::time::Duration;

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
}
