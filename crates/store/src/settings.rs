//! Platform-wide settings that operators change at run time.

use caracal_core::Timestamp;

use crate::error::StoreError;
use crate::handle::{Access, OnPlatform, PlatformUnit};
use crate::sql::{Row, params};

const TABLE: &str = "platform_settings";

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingName {
    /// Mints per minute and application.
    MintRateLimitPerMinute,
    /// Days that audit events are kept.
    AuditRetentionDays,
}

crate::entity::wire_names!(SettingName {
    MintRateLimitPerMinute => "mint_rate_limit_per_minute",
    AuditRetentionDays => "audit_retention_days",
});

/// A setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value.
    pub value: i64,
    /// Who set it.
    pub updated_by: Option<String>,
    /// When.
    pub updated_at: Timestamp,
}

impl<A: Access> OnPlatform<A> {
    /// The value that somebody set; `None` when nobody did.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub async fn get_setting(&self, name: SettingName) -> Result<Option<Setting>, StoreError> {
        let sql = "SELECT value, updated_by, updated_at FROM platform_settings WHERE name = $1";
        let rows = self.query(TABLE, sql, params![name]).await?;
        let Some(row) = rows.first().map(|row| Row::new(row, TABLE)) else {
            return Ok(None);
        };
        Ok(Some(Setting {
            value: row.get("value")?,
            updated_by: row.opt("updated_by")?,
            updated_at: row.get("updated_at")?,
        }))
    }
}

impl PlatformUnit {
    /// Sets a value.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be written.
    pub async fn set_setting(
        &mut self,
        name: SettingName,
        value: i64,
        by: Option<&str>,
    ) -> Result<(), StoreError> {
        let now = self.now();
        self.execute(
            TABLE,
            "INSERT INTO platform_settings (name, value, updated_by, updated_at)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value,
                updated_by = excluded.updated_by, updated_at = excluded.updated_at",
            params![name, value, by, now],
        )
        .await
        .map(|_| ())
    }
}
