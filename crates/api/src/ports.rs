//! What the Admin API needs of other roles.

use std::time::Duration;

use async_trait::async_trait;
use caracal_store::{StoreError, ZoneUnit};
use thiserror::Error;

/// A zone's first signing key could not be made.
#[derive(Debug, Clone, Error)]
pub enum ZoneKeyError {
    /// It could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be made or sealed.
    #[error("no signing key could be made: {0}")]
    Key(String),
}

/// Makes signing keys. The STS owns how keys look, are sealed and follow one another; the Admin API
/// only has the first one made in the transaction that creates its zone, so no zone is ever without a
/// key.
#[async_trait]
pub trait ZoneKeys: Send + Sync {
    /// Stores, with `unit`, the first signing key of the unit's zone.
    ///
    /// # Errors
    /// [`ZoneKeyError`] when it can't be made, sealed or stored.
    async fn create_first_key(&self, unit: &mut ZoneUnit) -> Result<(), ZoneKeyError>;
}

/// Waits until what was logged before the call can be searched.
#[async_trait]
pub trait EvidenceBarrier: Send + Sync {
    /// Returns when every event that was in the local log at the call is stored, or after `timeout`.
    /// The search answers either way; `false` says that it may lack the newest events.
    async fn caught_up(&self, timeout: Duration) -> bool;
}
