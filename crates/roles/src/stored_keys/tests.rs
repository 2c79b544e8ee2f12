use caracal_core::id::KeyId;
use caracal_core::{ManualClock, SeededRandom};
use caracal_crypto::SigningKey;
use caracal_store::entity::{Attribution, SigningKeyRow, Zone};
use caracal_store::{AuthorityLimits, Store};

use super::*;

const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

struct Bench {
    clock: Arc<ManualClock>,
    store: Store,
    keys: Arc<StoredKeys>,
    zone: ZoneId,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let random = Arc::new(SeededRandom::new(7));
        let path = dir.path().join("caracal.db");
        let store = Store::open_sqlite(&path, clock.clone(), random)
            .await
            .unwrap();
        let authority = Authority::new(store.clone(), AuthorityLimits::default());
        Self {
            keys: StoredKeys::new(authority, clock.clone()),
            clock,
            store,
            zone: ZoneId::parse("z-demo").unwrap(),
            _dir: dir,
        }
    }

    async fn create_zone(&self) {
        let zone = Zone {
            id: self.zone.clone(),
            name: "orchard".to_owned(),
            slug: "orchard".to_owned(),
            dcr_enabled: false,
            operator_coauthor_badge: false,
            operator_governed: false,
            owner_account_id: None,
            attribution: Attribution::default(),
            created_at: START,
            updated_at: START,
            archived_at: None,
        };
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_zone(&zone).await.unwrap();
        unit.commit().await.unwrap();
    }

    /// A key whose private part this role can't read.
    async fn publish(&self, kid: &str) -> SigningKey {
        let key = SigningKey::generate(KeyId::parse(kid).unwrap()).unwrap();
        let row = SigningKeyRow {
            id: key.kid().clone(),
            zone_id: self.zone.clone(),
            sealed: Vec::new(),
            x: key.verifying_key().x(),
            y: key.verifying_key().y(),
            created_at: START,
            signs_from: START,
            retires_at: None,
        };
        let mut unit = self.store.begin(&self.zone).await.unwrap();
        unit.insert_signing_key(&row).await.unwrap();
        unit.commit().await.unwrap();
        key
    }

    async fn kids(&self) -> Option<Vec<String>> {
        let keys = self.keys.verifying_keys(&self.zone).await.unwrap()?;
        Some(keys.iter().map(|key| key.kid().to_string()).collect())
    }
}

#[tokio::test]
async fn an_unknown_zone_has_no_keys_and_a_new_one_has_them_at_once() {
    let bench = Bench::new().await;
    assert_eq!(bench.kids().await, None);
    bench.create_zone().await;
    bench.publish("k1").await;
    assert_eq!(bench.kids().await, Some(vec!["k1".to_owned()]));
}

#[tokio::test]
async fn a_new_key_is_known_within_seconds() {
    let bench = Bench::new().await;
    bench.create_zone().await;
    bench.publish("k1").await;
    assert_eq!(bench.kids().await.unwrap().len(), 1);
    bench.publish("k2").await;
    bench.clock.advance_seconds(FRESH_SECONDS - 1);
    assert_eq!(bench.kids().await.unwrap().len(), 1);
    bench.clock.advance_seconds(1);
    assert_eq!(bench.kids().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_clock_that_steps_back_makes_no_set_fresh() {
    let bench = Bench::new().await;
    bench.create_zone().await;
    bench.publish("k1").await;
    assert_eq!(bench.kids().await.unwrap().len(), 1);
    bench.publish("k2").await;
    bench.clock.advance_seconds(-3_600);
    assert_eq!(bench.kids().await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_archived_zones_keys_stay_until_its_last_token_has_expired() {
    let bench = Bench::new().await;
    bench.create_zone().await;
    bench.publish("k1").await;
    let mut unit = bench.store.begin(&bench.zone).await.unwrap();
    assert!(unit.archive_zone(&Default::default()).await.unwrap());
    unit.commit().await.unwrap();
    bench.clock.advance_seconds(LONGEST_TOKEN_SECONDS - 1);
    assert!(bench.kids().await.is_some());
    bench.clock.advance_seconds(FRESH_SECONDS);
    assert_eq!(bench.kids().await, None);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_verdict() {
    let bench = Bench::new().await;
    bench.create_zone().await;
    bench.publish("k1").await;
    bench.store.close().await;
    assert!(bench.keys.verifying_keys(&bench.zone).await.is_err());
}

#[tokio::test]
async fn a_zone_without_a_usable_key_is_trouble_not_absence() {
    let bench = Bench::new().await;
    bench.create_zone().await;
    assert!(bench.keys.verifying_keys(&bench.zone).await.is_err());
}
