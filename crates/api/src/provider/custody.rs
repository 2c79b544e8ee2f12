//! Sealing the secret part of a configuration.

use caracal_core::id::{ProviderId, ZoneId};
use caracal_crypto::SealLocation;
use caracal_store::entity::Provider;

use super::config::SecretConfig;
use crate::api::Api;
use crate::error::ApiError;

/// What is stored of a secret configuration: the names of its keys, and the sealed document.
pub(super) struct SealedConfig {
    keys: Vec<String>,
    sealed: Option<Vec<u8>>,
}

impl SealedConfig {
    /// Seals a configuration for its row; without one nothing is stored.
    pub(super) fn seal(
        api: &Api,
        zone: &ZoneId,
        provider: &ProviderId,
        secret: Option<SecretConfig>,
    ) -> Result<Self, ApiError> {
        let Some(secret) = secret else {
            return Ok(Self {
                keys: Vec::new(),
                sealed: None,
            });
        };
        let location = SealLocation::provider_config(zone, provider);
        let sealed = api
            .keys
            .seal(&location, secret.document.expose().as_bytes(), &*api.random)?;
        Ok(Self {
            keys: secret.keys,
            sealed: Some(sealed),
        })
    }

    /// Puts it into the row, in place of what was there.
    pub(super) fn store(self, provider: &mut Provider) {
        provider.secret_config_keys = self.keys;
        provider.sealed_config = self.sealed;
    }
}
