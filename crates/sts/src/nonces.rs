//! Which signed requests have been seen: a nonce is good once.
//!
//! A signature is accepted for a bounded time around its own; within that time the same bytes could
//! come again. Where several STS replicas serve one Gateway the memory must be shared, or a request
//! could be repeated at each of them; [`ProcessNonces`] is for the only STS there is.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use async_trait::async_trait;
use caracal_core::{Clock, Timestamp};
use caracal_crypto::request_signature::{MAX_SKEW_SECONDS, UnspentNonce};
use parking_lot::Mutex;
use thiserror::Error;

/// What the memory says about a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// For the first time; from now on it is spent.
    First,
    /// It was spent before.
    Again,
    /// The request was signed before the memory began: it may have been spent before.
    Predates,
}

/// The memory can't say now. Never a verdict: answer 503.
#[derive(Debug, Clone, Error)]
#[error("the nonce memory is unavailable: {0}")]
pub struct NoncesUnavailable(pub String);

/// A memory of nonces. It must remember each for
/// [`NONCE_SECONDS`](caracal_crypto::request_signature::NONCE_SECONDS).
#[async_trait]
pub trait NonceStore: Send + Sync {
    /// Spends the nonce of a request that was signed at `signed_at` and verified at `now`.
    ///
    /// # Errors
    /// [`NoncesUnavailable`] when it can't be known whether it was spent before.
    async fn spend(
        &self,
        nonce: &UnspentNonce,
        signed_at: Timestamp,
        now: Timestamp,
    ) -> Result<Spent, NoncesUnavailable>;
}

/// The nonces of one process, in memory.
///
/// It can't know what was spent before the process began, so it refuses what was signed before that.
pub struct ProcessNonces {
    began: Timestamp,
    capacity: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// Nonces by the second of their signature.
    by_second: BTreeMap<i64, HashSet<Box<str>>>,
    count: usize,
    /// What was signed before this second is forgotten, so it is refused, whatever the clock says.
    forgotten_before: i64,
}

impl ProcessNonces {
    /// An empty memory that begins now and holds at most `capacity` nonces; past that it can't say.
    #[must_use]
    pub fn new(clock: &dyn Clock, capacity: usize) -> Self {
        Self {
            began: clock.now(),
            capacity: capacity.max(1),
            held: Mutex::default(),
        }
    }
}

#[async_trait]
impl NonceStore for ProcessNonces {
    async fn spend(
        &self,
        nonce: &UnspentNonce,
        signed_at: Timestamp,
        now: Timestamp,
    ) -> Result<Spent, NoncesUnavailable> {
        // Signatures carry whole seconds: one from the second in which this began may be older.
        if signed_at.seconds() <= self.began.seconds() {
            return Ok(Spent::Predates);
        }
        let mut held = self.held.lock();
        held.forget_before(now.seconds() - MAX_SKEW_SECONDS);
        if signed_at.seconds() < held.forgotten_before {
            return Ok(Spent::Predates);
        }
        if held.count >= self.capacity {
            return Err(NoncesUnavailable("it is full".to_owned()));
        }
        let second = held.by_second.entry(signed_at.seconds()).or_default();
        if second.insert(nonce.as_str().into()) {
            held.count += 1;
            Ok(Spent::First)
        } else {
            Ok(Spent::Again)
        }
    }
}

impl Held {
    fn forget_before(&mut self, second: i64) {
        if second <= self.forgotten_before {
            return;
        }
        self.forgotten_before = second;
        let kept = self.by_second.split_off(&second);
        let dropped = std::mem::replace(&mut self.by_second, kept);
        self.count -= dropped.values().map(HashSet::len).sum::<usize>();
    }
}

impl fmt::Debug for ProcessNonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessNonces").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use caracal_core::{ManualClock, SeededRandom};
    use caracal_crypto::HmacKey;
    use caracal_crypto::request_signature::{PresentedSignature, SignedRequest, sign, verify};

    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

    fn nonce(random: &SeededRandom) -> UnspentNonce {
        let key = HmacKey::from_secret_bytes(&[7; 32]);
        let request = SignedRequest {
            method: "POST",
            path: "/",
            body: b"",
        };
        let signed = sign(&key, &request, START, random);
        let presented = PresentedSignature {
            timestamp: &signed.timestamp,
            nonce: &signed.nonce,
            signature: &signed.signature,
        };
        verify(&key, &request, &presented, START).unwrap()
    }

    struct Bench {
        nonces: ProcessNonces,
        random: SeededRandom,
    }

    fn bench(capacity: usize) -> Bench {
        let clock = ManualClock::at(START);
        Bench {
            nonces: ProcessNonces::new(&clock, capacity),
            random: SeededRandom::new(3),
        }
    }

    impl Bench {
        async fn spend(&self, nonce: &UnspentNonce, signed: i64, now: i64) -> Option<Spent> {
            let (signed, now) = (START.plus_seconds(signed), START.plus_seconds(now));
            self.nonces.spend(nonce, signed, now).await.ok()
        }
    }

    #[tokio::test]
    async fn a_nonce_is_good_once() {
        let bench = bench(10);
        let (one, other) = (nonce(&bench.random), nonce(&bench.random));
        assert_eq!(bench.spend(&one, 5, 5).await, Some(Spent::First));
        assert_eq!(bench.spend(&one, 5, 6).await, Some(Spent::Again));
        assert_eq!(bench.spend(&other, 5, 6).await, Some(Spent::First));
    }

    #[tokio::test]
    async fn a_nonce_is_remembered_as_long_as_its_signature_is_accepted() {
        let bench = bench(10);
        let ahead = nonce(&bench.random);
        assert_eq!(bench.spend(&ahead, 65, 5).await, Some(Spent::First));
        assert_eq!(bench.spend(&ahead, 65, 125).await, Some(Spent::Again));
    }

    #[tokio::test]
    async fn what_was_signed_before_the_memory_began_may_be_a_replay() {
        let bench = bench(10);
        for signed in [-1, 0] {
            let old = nonce(&bench.random);
            assert_eq!(bench.spend(&old, signed, 1).await, Some(Spent::Predates));
        }
    }

    #[tokio::test]
    async fn a_clock_that_steps_back_revives_nothing() {
        let bench = bench(10);
        let used = nonce(&bench.random);
        assert_eq!(bench.spend(&used, 10, 10).await, Some(Spent::First));
        let later = nonce(&bench.random);
        assert_eq!(bench.spend(&later, 600, 600).await, Some(Spent::First));
        assert_eq!(bench.spend(&used, 10, 10).await, Some(Spent::Predates));
    }

    #[tokio::test]
    async fn a_full_memory_says_nothing_until_time_makes_room() {
        let bench = bench(2);
        for _ in 0..2 {
            let fresh = nonce(&bench.random);
            assert_eq!(bench.spend(&fresh, 10, 10).await, Some(Spent::First));
        }
        let late = nonce(&bench.random);
        assert_eq!(bench.spend(&late, 10, 10).await, None);
        assert_eq!(bench.spend(&late, 100, 100).await, Some(Spent::First));
    }
}
