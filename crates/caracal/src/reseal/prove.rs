//! The walk that proves: every row again, with the current key alone.

use caracal_crypto::KeyRing;
use caracal_crypto::client_secret::Peppers;
use caracal_store::{SEALED_COLUMNS, Store, StoreError};

use super::judge::Keys;
use super::report::Left;

pub(super) struct Proof<'a> {
    pub(super) store: &'a Store,
    /// The current key alone.
    pub(super) ring: KeyRing,
    pub(super) peppers: Peppers,
    pub(super) batch: u16,
}

impl Proof<'_> {
    /// Every row that needs another key, or can't be used with any.
    pub(super) async fn run(&self) -> Result<Vec<Left>, StoreError> {
        let keys = Keys {
            ring: &self.ring,
            peppers: &self.peppers,
        };
        let mut left = Vec::new();
        for zone in self.store.platform().zone_ids().await? {
            let reader = self.store.read(&zone);
            for of in SEALED_COLUMNS {
                let mut after = String::new();
                loop {
                    let rows = reader.sealed_rows(of, &after, self.batch.into()).await?;
                    let Some(last) = rows.last() else { break };
                    after.clone_from(&last.id);
                    for row in &rows {
                        if let Some(why) = keys.lacks(&zone, of, row) {
                            left.push(Left::new(&zone, of, row, why));
                        }
                    }
                }
            }
        }
        Ok(left)
    }
}
