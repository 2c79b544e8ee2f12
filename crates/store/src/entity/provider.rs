use caracal_core::Timestamp;
use caracal_core::id::{ProviderId, ZoneId};
use serde_json::{Map, Value};

use super::{Attribution, wire_names};

/// How the Gateway authenticates to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// No credential.
    None,
    /// Forward the minted resource mandate.
    CaracalMandate,
    /// A key in a header or a query parameter.
    ApiKey,
    /// A static bearer token.
    BearerToken,
    /// A user name and password.
    HttpBasic,
    /// OAuth 2.0 client credentials.
    Oauth2ClientCredentials,
    /// OAuth 2.0 authorization code, one connection a subject.
    Oauth2AuthorizationCode,
}

wire_names!(ProviderKind {
    None => "none",
    CaracalMandate => "caracal_mandate",
    ApiKey => "api_key",
    BearerToken => "bearer_token",
    HttpBasic => "http_basic",
    Oauth2ClientCredentials => "oauth2_client_credentials",
    Oauth2AuthorizationCode => "oauth2_authorization_code",
});

/// A credential provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Row id.
    pub id: ProviderId,
    /// Owning zone.
    pub zone_id: ZoneId,
    /// Display name.
    pub name: String,
    /// `provider://<slug>`, unique among live providers of the zone.
    pub identifier: String,
    /// The kind.
    pub kind: ProviderKind,
    /// The public part of the configuration.
    pub config: Map<String, Value>,
    /// Names of the sealed keys, sorted.
    pub secret_config_keys: Vec<String>,
    /// The sealed JSON object of secret keys; `None` when the kind has none.
    pub sealed_config: Option<Vec<u8>>,
    /// Last failed connectivity check.
    pub connectivity_failed_at: Option<Timestamp>,
    /// Who made and changed it.
    pub attribution: Attribution,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Set: exchanges that need it are refused.
    pub archived_at: Option<Timestamp>,
}
