//! What putting an old state back needs: to make sure that nothing which was given before stands.

use crate::change::ChangeKind;
use crate::error::StoreError;
use crate::handle::{PlatformUnit, ZoneUnit};
use crate::sql::params;

impl ZoneUnit {
    /// Raises the delegation epoch by `steps` and returns it.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn raise_delegation_epoch(&mut self, steps: u32) -> Result<i64, StoreError> {
        let sql = "INSERT INTO delegation_epochs (zone_id, epoch) VALUES ($1, $2)
             ON CONFLICT (zone_id) DO UPDATE SET epoch = delegation_epochs.epoch + $2
             RETURNING epoch AS n";
        let steps = i64::from(steps);
        let epoch = self
            .number("delegation_epochs", sql, params![steps])
            .await?;
        let zone = self.zone_id().clone();
        self.changed(ChangeKind::DelegationEpoch, zone);
        Ok(epoch)
    }
}

impl PlatformUnit {
    /// Revokes every admin token; tokens that the configuration defines come back when the Admin API
    /// starts. Returns how many it revoked.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn revoke_every_admin_token(&mut self) -> Result<u64, StoreError> {
        let now = self.now();
        self.execute(
            "admin_tokens",
            "UPDATE admin_tokens SET revoked_at = $1 WHERE revoked_at IS NULL",
            params![now],
        )
        .await
    }
}
