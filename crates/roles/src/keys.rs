use std::sync::Arc;

use async_trait::async_trait;
use caracal_core::id::ZoneId;
use caracal_crypto::KeySet;
use thiserror::Error;

/// The zone's keys could not be read: a dependency failure, never a verdict on a token.
#[derive(Debug, Clone, Error)]
#[error("the zone's key set is unavailable: {0}")]
pub struct KeysUnavailable(pub String);

/// Where a verifier gets a zone's public keys.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// The keys that live mandates of the zone may carry; `None` for an unknown zone.
    ///
    /// # Errors
    /// [`KeysUnavailable`] when they can't be read now: answer 503, not 401.
    async fn verifying_keys(&self, zone: &ZoneId) -> Result<Option<Arc<KeySet>>, KeysUnavailable>;
}
