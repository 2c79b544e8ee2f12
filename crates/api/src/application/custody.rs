//! What is stored of a client secret: a hash to verify it by, and a sealed copy to show it again.

use std::sync::Arc;

use caracal_core::Secret;
use caracal_core::id::{ApplicationId, ZoneId};
use caracal_crypto::SealLocation;
use caracal_crypto::client_secret::{SecretKind, hash_chosen};
use caracal_store::entity::Application;

use crate::api::Api;
use crate::error::{ApiError, Code};

/// Both stored forms of one secret.
#[derive(Debug)]
pub(super) struct Custody {
    hash: String,
    sealed: Vec<u8>,
}

impl Custody {
    /// A fresh secret and its stored forms. 256 random bits need no slow hash.
    pub(super) fn generate(
        api: &Api,
        zone: &ZoneId,
        application: &ApplicationId,
    ) -> Result<(Secret<String>, Self), ApiError> {
        let secret = SecretKind::Application.generate(&*api.random);
        let hash = api.peppers.hash_generated(&secret);
        let sealed = seal(api, zone, application, &secret)?;
        Ok((secret, Self { hash, sealed }))
    }

    /// The stored forms of a secret that the caller chose: a slow hash, off the async threads.
    pub(super) async fn of_chosen(
        api: &Api,
        zone: &ZoneId,
        application: &ApplicationId,
        secret: Secret<String>,
    ) -> Result<Self, ApiError> {
        let sealed = seal(api, zone, application, &secret)?;
        let random = Arc::clone(&api.random);
        let hashed = api
            .hashing
            .run(move || hash_chosen(&secret, &*random))
            .await?;
        let hash = hashed.map_err(|error| {
            let text = format!("client_secret: {error}");
            ApiError::from(Code::InvalidApplication).describe(text)
        })?;
        Ok(Self { hash, sealed })
    }

    /// Replaces whatever secret the application had: the old one is dead when this is committed.
    pub(super) fn replace(self, application: &mut Application) {
        application.secret_hash = Some(self.hash);
        application.sealed_secret = Some(self.sealed);
    }

    /// The stored forms for a new row: hash and sealed copy.
    pub(super) fn into_parts(self) -> (String, Vec<u8>) {
        (self.hash, self.sealed)
    }
}

fn seal(
    api: &Api,
    zone: &ZoneId,
    application: &ApplicationId,
    secret: &Secret<String>,
) -> Result<Vec<u8>, ApiError> {
    let location = SealLocation::client_secret(zone, application);
    Ok(api
        .keys
        .seal(&location, secret.expose().as_bytes(), &*api.random)?)
}

/// Opens the copy of an application's secret.
pub(super) fn open(api: &Api, application: &Application) -> Result<Secret<String>, ApiError> {
    let sealed = application
        .sealed_secret
        .as_ref()
        .ok_or(Code::ClientSecretNotStored)?;
    let location = SealLocation::client_secret(&application.zone_id, &application.id);
    let bytes = api.keys.open(&location, sealed)?;
    let text = String::from_utf8(bytes.expose().clone()).map_err(|_| Code::SecretBackend)?;
    Ok(Secret::new(text))
}
