//! One role's trait over another role's service.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use caracal_api::{EvidenceBarrier, ZoneKeyError, ZoneKeys};
use caracal_audit::Audit;
use caracal_core::{Clock, Random};
use caracal_crypto::KeyRing;
use caracal_store::ZoneUnit;
use caracal_sts::{KeyCreationError, create_zone_key};

/// Lets the Admin API's searches wait for the Audit role.
pub(super) struct EvidenceOf(pub(super) Audit);

#[async_trait]
impl EvidenceBarrier for EvidenceOf {
    async fn caught_up(&self, timeout: Duration) -> bool {
        self.0.caught_up(timeout).await.is_ok()
    }
}

/// Makes the first key of a zone the way the STS makes keys.
pub(super) struct KeysOf {
    ring: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl KeysOf {
    pub(super) fn new(ring: Arc<KeyRing>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            ring,
            clock,
            random,
        }
    }
}

#[async_trait]
impl ZoneKeys for KeysOf {
    async fn create_first_key(&self, unit: &mut ZoneUnit) -> Result<(), ZoneKeyError> {
        let made = create_zone_key(unit, &self.ring, &*self.clock, &*self.random).await;
        match made {
            Ok(_) => Ok(()),
            Err(KeyCreationError::Store(error)) => Err(ZoneKeyError::Store(error)),
            Err(error) => Err(ZoneKeyError::Key(error.to_string())),
        }
    }
}
