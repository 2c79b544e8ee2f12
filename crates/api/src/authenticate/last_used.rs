//! When each token was last used, written in groups.

use std::collections::HashMap;

use caracal_core::Clock;
use caracal_core::Timestamp;
use caracal_core::id::AdminTokenId;
use caracal_store::{Store, StoreError};
use parking_lot::Mutex;
use std::sync::Arc;

/// Uses that are not written yet: one instant per token.
#[derive(Debug)]
pub(crate) struct LastUsed {
    clock: Arc<dyn Clock>,
    pending: Mutex<HashMap<AdminTokenId, Timestamp>>,
}

impl LastUsed {
    /// Nothing pending.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            pending: Mutex::default(),
        }
    }

    /// Remembers that the token is used now. Only tokens that the store knows come here, so the map
    /// is as small as their number.
    pub(crate) fn touch(&self, token: &AdminTokenId) {
        self.pending.lock().insert(token.clone(), self.clock.now());
    }

    /// Writes what is pending; after a failure it stays pending.
    pub(crate) async fn flush(&self, store: &Store) -> Result<(), StoreError> {
        let uses = std::mem::take(&mut *self.pending.lock());
        if uses.is_empty() {
            return Ok(());
        }
        let written = write(store, &uses).await;
        if written.is_err() {
            let mut pending = self.pending.lock();
            for (token, at) in uses {
                pending.entry(token).or_insert(at);
            }
        }
        written
    }
}

async fn write(store: &Store, uses: &HashMap<AdminTokenId, Timestamp>) -> Result<(), StoreError> {
    let mut unit = store.begin_platform().await?;
    for (token, at) in uses {
        unit.touch_admin_token(token, *at).await?;
    }
    unit.commit().await
}
