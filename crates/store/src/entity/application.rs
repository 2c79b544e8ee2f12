use caracal_core::Timestamp;
use caracal_core::id::{ApplicationId, ZoneId};

use super::{Attribution, wire_names};

/// How an application came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrationMethod {
    /// Created by an administrator.
    Managed,
    /// Registered itself; always expires.
    Dcr,
}

wire_names!(RegistrationMethod { Managed => "managed", Dcr => "dcr" });

/// A client of the STS.
#[derive(Debug, Clone)]
pub struct Application {
    /// Row id, the mandate's `client_id`.
    pub id: ApplicationId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// Unique (case-insensitively) among live managed applications of the zone.
    pub name: String,
    /// Managed or self-registered.
    pub registration_method: RegistrationMethod,
    /// Traits such as `control:invoke`.
    pub traits: Vec<String>,
    /// Stored form of the client secret (see `caracal_crypto::client_secret`); never the secret.
    pub secret_hash: Option<String>,
    /// Sealed custody copy of the secret, for the reveal route.
    pub sealed_secret: Option<Vec<u8>>,
    /// End of life; only self-registered applications have one.
    pub expires_at: Option<Timestamp>,
    /// Who made and changed it.
    pub attribution: Attribution,
    /// When it was created.
    pub created_at: Timestamp,
    /// First change and later; `None` until then.
    pub updated_at: Option<Timestamp>,
    /// Set: refused everywhere.
    pub archived_at: Option<Timestamp>,
}

impl Application {
    /// Whether the application may act at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.archived_at.is_none() && self.expires_at.is_none_or(|end| end > now)
    }
}
