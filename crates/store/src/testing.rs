//! What unit tests stand on.

use std::sync::Arc;

use caracal_core::id::ZoneId;
use caracal_core::{ManualClock, SeededRandom, Timestamp};
use tempfile::TempDir;

use crate::store::Store;

/// Where the tests' clocks begin.
pub(crate) const START: Timestamp = Timestamp::from_seconds(1_767_225_600);

/// An empty store and the directory that it lives in.
pub(crate) async fn store() -> (TempDir, Store) {
    let clock = Arc::new(ManualClock::at(START));
    store_at(clock).await
}

/// An empty store on a clock of the test's.
pub(crate) async fn store_at(clock: Arc<ManualClock>) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let random = Arc::new(SeededRandom::new(3));
    let store = Store::open_sqlite(&dir.path().join("store.db"), clock, random)
        .await
        .unwrap();
    (dir, store)
}

/// A zone's id.
pub(crate) fn zone() -> ZoneId {
    ZoneId::parse("z-1").unwrap()
}
