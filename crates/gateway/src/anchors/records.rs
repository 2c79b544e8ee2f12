//! Which authority records have changed since a known moment, without reading them.
//!
//! The `sid` of a leaf mandate is fresh and mostly has no record, so looking it up would miss every
//! cache and read the store on every call. The change log answers instead: a record whose id was made
//! after this memory of the zone began, and that no change since then names, can't have been revoked.
//!
//! "After" compares the STS's clock with the Gateway's. Nothing rests on their agreeing: the STS gives no
//! leaf mandate a record of its own, so there is none that could have been revoked before the memory
//! began. What is looked for here is a record that something else made for a leaf.

use std::collections::HashSet;
use std::sync::Arc;

use caracal_core::Clock;
use caracal_core::id::{AuthorityRecordId, uuid_v7_millis};
use caracal_store::{ChangeFeed, ChangeKind, Changes, Unavailable, ZoneView};
use moka::sync::Cache;
use parking_lot::Mutex;

use caracal_core::id::ZoneId;

/// Zones remembered at once.
const MAX_ZONES: u64 = 1_024;

/// Changed records remembered of one zone; past it the memory begins anew.
const MAX_CHANGED: usize = 16_384;

/// What has changed, zone by zone.
pub(super) struct ChangedRecords {
    feed: Arc<dyn ChangeFeed>,
    clock: Arc<dyn Clock>,
    zones: Cache<ZoneId, Arc<Mutex<Memory>>>,
}

/// All changes of records from `began` up to `position`.
struct Memory {
    began_millis: u64,
    position: u64,
    changed: HashSet<Arc<str>>,
}

impl ChangedRecords {
    /// Nothing is remembered yet.
    pub(super) fn new(feed: Arc<dyn ChangeFeed>, clock: Arc<dyn Clock>) -> Self {
        Self {
            feed,
            clock,
            zones: Cache::new(MAX_ZONES),
        }
    }

    /// Whether the record can't have been revoked as of `view`. False means: read it.
    pub(super) async fn is_untouched(
        &self,
        view: &ZoneView,
        id: &AuthorityRecordId,
    ) -> Result<bool, Unavailable> {
        let memory = self.memory(view);
        let position = memory.lock().position;
        if position < view.seq() {
            let changes = self.feed.since(view.zone_id(), position).await?;
            self.take(&mut memory.lock(), changes);
        }
        let memory = memory.lock();
        let made_since = uuid_v7_millis(id.as_str()).is_some_and(|made| made > memory.began_millis);
        Ok(made_since && !memory.changed.contains(id.as_str()))
    }

    fn memory(&self, view: &ZoneView) -> Arc<Mutex<Memory>> {
        if let Some(memory) = self.zones.get(view.zone_id()) {
            return memory;
        }
        self.zones.get_with(view.zone_id().clone(), || {
            Arc::new(Mutex::new(self.begin(view.seq())))
        })
    }

    fn begin(&self, position: u64) -> Memory {
        let began_millis = u64::try_from(self.clock.now().millis()).unwrap_or(u64::MAX);
        Memory {
            began_millis,
            position,
            changed: HashSet::new(),
        }
    }

    fn take(&self, memory: &mut Memory, changes: Changes) {
        match changes {
            Changes::Complete { upto, changes } => {
                let records = changes
                    .into_iter()
                    .filter(|change| change.kind == ChangeKind::AuthorityRecord);
                memory.changed.extend(records.map(|change| change.id));
                memory.position = memory.position.max(upto);
                if memory.changed.len() > MAX_CHANGED {
                    *memory = self.begin(memory.position);
                }
            }
            Changes::Gap { upto } => *memory = self.begin(memory.position.max(upto)),
        }
    }
}
