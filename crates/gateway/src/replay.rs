//! Step 12: a mandate is good for one request.
//!
//! The mark is set last, just before the exchange, so that nothing that can be known without it
//! burns a mandate. A memory that began empty can't know what was used before it: it accepts only
//! mandates whose UUIDv7 `jti` was made after it began.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use async_trait::async_trait;
use caracal_core::id::{MandateId, ZoneId, uuid_v7_millis};
use caracal_core::{Clock, Timestamp};
use parking_lot::Mutex;
use thiserror::Error;

use crate::anchors::Standing;
use crate::prove::Proven;
use crate::refusal::Refusal;

/// What the memory says about a mandate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// First use; it is used now.
    First,
    /// Used before.
    Again,
    /// Made before the memory began, or not dated: it may have been used before.
    Predates,
}

/// The memory can't answer: refuse, do not guess.
#[derive(Debug, Clone, Error)]
#[error("the replay memory is unavailable: {0}")]
pub struct MarksUnavailable(pub String);

/// A memory of used mandates.
#[async_trait]
pub trait ReplayMarks: Send + Sync {
    /// Marks the mandate as used until `expires` and says whether it was used before.
    ///
    /// # Errors
    /// [`MarksUnavailable`] when that can't be known.
    async fn mark(
        &self,
        zone: &ZoneId,
        jti: &MandateId,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Mark, MarksUnavailable>;

    /// Whether marks can be set now: readiness.
    ///
    /// # Errors
    /// [`MarksUnavailable`].
    async fn check(&self) -> Result<(), MarksUnavailable>;

    /// How many marks are held, where that is known.
    fn held(&self) -> u64;
}

/// A call whose mandate has been spent on it.
#[derive(Debug)]
pub(crate) struct Spent(Standing);

impl Spent {
    /// The position of the change feed that the call was judged at.
    pub(crate) fn judged_at(&self) -> u64 {
        self.0.judged_at()
    }

    /// The call.
    pub(crate) fn into_proven(self) -> Proven {
        self.0.into_proven()
    }
}

/// Spends the call's mandate.
pub(crate) async fn spend(
    marks: &dyn ReplayMarks,
    standing: Standing,
    now: Timestamp,
) -> Result<Spent, Refusal> {
    let claims = standing.proven().claims();
    match marks
        .mark(&claims.zone_id, &claims.jti, claims.exp, now)
        .await
    {
        Ok(Mark::First) => Ok(Spent(standing)),
        Ok(Mark::Again) => Err(Refusal::Replayed),
        Ok(Mark::Predates) => Err(Refusal::Predates),
        Err(error) => {
            tracing::error!(%error, "replay memory unavailable");
            Err(Refusal::MarksUnavailable)
        }
    }
}

const SHARDS: usize = 32;

/// Marks that end within the same span are dropped together.
const SPAN_SECONDS: i64 = 32;

/// The replay memory of one process: nothing outside it may accept the same mandates.
///
/// A mark is a keyed 64-bit hash of zone and `jti`, filed under the time at which it ends; the same
/// mandate always ends at the same time, so one span is looked at. Two mandates share a hash once in
/// some 10^13; then a good one is refused.
pub struct ProcessMarks {
    began: Timestamp,
    hasher: RandomState,
    shard_capacity: usize,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    spans: BTreeMap<i64, HashSet<u64>>,
    held: usize,
    /// Spans before this one are forgotten, so nothing that ends in them may be accepted again.
    forgotten_before: i64,
}

impl ProcessMarks {
    /// An empty memory that begins now and holds at most `capacity` marks.
    #[must_use]
    pub fn new(clock: &dyn Clock, capacity: usize) -> Self {
        Self {
            began: clock.now(),
            hasher: RandomState::new(),
            shard_capacity: (capacity / SHARDS).max(1),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    fn is_dated_after_begin(&self, jti: &MandateId) -> bool {
        let began = u64::try_from(self.began.millis()).unwrap_or(u64::MAX);
        uuid_v7_millis(jti.as_str()).is_some_and(|made| made > began)
    }

    fn set(&self, key: u64, expires: Timestamp, now: Timestamp) -> Result<Mark, MarksUnavailable> {
        let shard = usize::try_from(key % 32).unwrap_or_default() % SHARDS;
        let mut shard = self.shards[shard].lock();
        shard.forget_before(span(now));
        let span = span(expires);
        if span < shard.forgotten_before {
            return Ok(Mark::Predates);
        }
        if shard.held >= self.shard_capacity {
            return Err(MarksUnavailable("it is full".to_owned()));
        }
        if shard.spans.entry(span).or_default().insert(key) {
            shard.held += 1;
            Ok(Mark::First)
        } else {
            Ok(Mark::Again)
        }
    }
}

impl Shard {
    fn forget_before(&mut self, span: i64) {
        if span <= self.forgotten_before {
            return;
        }
        self.forgotten_before = span;
        let kept = self.spans.split_off(&span);
        let dropped = std::mem::replace(&mut self.spans, kept);
        self.held -= dropped.values().map(HashSet::len).sum::<usize>();
    }
}

fn span(at: Timestamp) -> i64 {
    at.seconds().div_euclid(SPAN_SECONDS)
}

#[async_trait]
impl ReplayMarks for ProcessMarks {
    async fn mark(
        &self,
        zone: &ZoneId,
        jti: &MandateId,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Mark, MarksUnavailable> {
        if !self.is_dated_after_begin(jti) {
            return Ok(Mark::Predates);
        }
        self.set(self.hasher.hash_one((zone, jti)), expires, now)
    }

    async fn check(&self) -> Result<(), MarksUnavailable> {
        let full = self
            .shards
            .iter()
            .any(|shard| shard.lock().held >= self.shard_capacity);
        if full {
            Err(MarksUnavailable("it is full".to_owned()))
        } else {
            Ok(())
        }
    }

    fn held(&self) -> u64 {
        let held: usize = self.shards.iter().map(|shard| shard.lock().held).sum();
        u64::try_from(held).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_core::{ManualClock, SeededRandom};
    use proptest::prelude::*;

    const START: i64 = 1_767_225_600;

    struct Bench {
        clock: ManualClock,
        random: SeededRandom,
        marks: ProcessMarks,
        zone: ZoneId,
    }

    fn bench(capacity: usize) -> Bench {
        let clock = ManualClock::at(Timestamp::from_seconds(START));
        let marks = ProcessMarks::new(&clock, capacity);
        clock.advance_seconds(1);
        let zone = ZoneId::parse("zone-9").unwrap();
        Bench {
            clock,
            random: SeededRandom::new(7),
            marks,
            zone,
        }
    }

    impl Bench {
        fn jti(&self) -> MandateId {
            MandateId::generate(&self.clock, &self.random)
        }

        async fn mark(&self, jti: &MandateId, life: i64) -> Result<Mark, MarksUnavailable> {
            let now = self.clock.now();
            self.marks
                .mark(&self.zone, jti, now.plus_seconds(life), now)
                .await
        }
    }

    #[tokio::test]
    async fn the_second_use_is_seen() {
        let bench = bench(100);
        let jti = bench.jti();
        assert_eq!(bench.mark(&jti, 900).await.unwrap(), Mark::First);
        assert_eq!(bench.mark(&jti, 900).await.unwrap(), Mark::Again);
        assert_eq!(bench.mark(&bench.jti(), 900).await.unwrap(), Mark::First);
    }

    #[tokio::test]
    async fn one_zones_use_is_no_use_in_another() {
        let bench = bench(100);
        let jti = bench.jti();
        assert_eq!(bench.mark(&jti, 60).await.unwrap(), Mark::First);
        let other = Bench {
            zone: ZoneId::parse("zone-8").unwrap(),
            ..bench
        };
        assert_eq!(other.mark(&jti, 60).await.unwrap(), Mark::First);
        assert_eq!(other.mark(&jti, 60).await.unwrap(), Mark::Again);
    }

    #[tokio::test]
    async fn a_mandate_from_before_the_memory_began_is_not_accepted() {
        let bench = bench(100);
        bench.clock.advance_seconds(-2);
        let old = bench.jti();
        bench.clock.advance_seconds(2);
        assert_eq!(bench.mark(&old, 900).await.unwrap(), Mark::Predates);
    }

    #[tokio::test]
    async fn an_undated_id_is_not_accepted() {
        let bench = bench(100);
        for text in ["jti-1", "3d813cbb-47fb-32ba-91df-831e1593ac29"] {
            let jti = MandateId::parse(text).unwrap();
            assert_eq!(bench.mark(&jti, 900).await.unwrap(), Mark::Predates);
        }
    }

    #[tokio::test]
    async fn marks_leave_when_their_mandates_have_ended() {
        let bench = bench(100_000);
        for _ in 0..1_000 {
            bench.mark(&bench.jti(), 60).await.unwrap();
        }
        assert_eq!(bench.marks.held(), 1_000);
        bench.clock.advance_seconds(120);
        for _ in 0..1_000 {
            bench.mark(&bench.jti(), 60).await.unwrap();
        }
        assert_eq!(bench.marks.held(), 1_000);
    }

    #[tokio::test]
    async fn a_clock_that_steps_back_revives_nothing() {
        let bench = bench(100);
        let jti = bench.jti();
        let now = bench.clock.now();
        let expires = now.plus_seconds(60);
        bench
            .marks
            .mark(&bench.zone, &jti, expires, now)
            .await
            .unwrap();
        // The same shard forgets the mark once its time is over.
        let later = now.plus_seconds(600);
        bench
            .marks
            .mark(&bench.zone, &jti, expires, later)
            .await
            .unwrap();
        let again = bench
            .marks
            .mark(&bench.zone, &jti, expires, now)
            .await
            .unwrap();
        assert_eq!(again, Mark::Predates);
    }

    #[tokio::test]
    async fn a_full_memory_refuses_instead_of_forgetting() {
        let bench = bench(SHARDS);
        let mut refused = 0;
        for _ in 0..200 {
            refused += usize::from(bench.mark(&bench.jti(), 900).await.is_err());
        }
        assert!(refused >= 200 - SHARDS);
        assert!(bench.marks.check().await.is_err());
    }

    proptest! {
        #[test]
        fn of_any_sequence_of_uses_each_mandate_passes_once(uses in proptest::collection::vec(0..8usize, 1..60)) {
            let bench = bench(10_000);
            let ids: Vec<MandateId> = (0..8).map(|_| bench.jti()).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut passed = HashSet::new();
            for used in uses {
                let first = runtime.block_on(bench.mark(&ids[used], 900)).unwrap() == Mark::First;
                prop_assert_eq!(first, passed.insert(used));
            }
        }
    }
}
