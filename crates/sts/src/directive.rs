//! The forwarding directive: where the upstream is and which credential it gets.
//!
//! A provider's configuration was checked when it was written; it is checked again here, because a
//! header built from a bad value would be the Gateway's mistake. Whatever is wrong with a credential
//! is the provider's trouble (502), never the caller's fault and never trouble of the STS.

mod config;
#[cfg(test)]
mod tests;

use caracal_core::Secret;
use caracal_crypto::KeyRing;
use caracal_roles::{Credential, Directive};
use caracal_store::entity::{Provider, ProviderKind, Resource};
use thiserror::Error;

use config::ProviderConfig;

/// Why no credential can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum CredentialRefused {
    /// The provider of the resource is gone.
    #[error("the credential provider of the resource does not exist")]
    ProviderNotFound,
    /// Its kind obtains tokens, which this build does not.
    #[error("the credential provider's kind is not available")]
    KindUnavailable,
    /// Its configuration is wrong.
    #[error("the credential provider's {0} is missing or invalid")]
    Config(&'static str),
    /// Its sealed secrets do not open.
    #[error("the credential provider's secret cannot be opened")]
    Sealed,
}

impl CredentialRefused {
    /// The `evaluation_status` of the deny event.
    pub(crate) fn audit_status(self) -> &'static str {
        match self {
            Self::ProviderNotFound | Self::KindUnavailable => "provider_unavailable",
            Self::Config(_) | Self::Sealed => "provider_credential_unavailable",
        }
    }

    /// The `reason` of the deny event.
    pub(crate) fn audit_reason(self) -> &'static str {
        match self {
            Self::ProviderNotFound => "provider_not_found",
            Self::KindUnavailable => "provider_kind_unavailable",
            Self::Config(_) => "provider_config_invalid",
            Self::Sealed => "provider_secret_unreadable",
        }
    }

    /// Whether the resource is refused as if policy denied it, rather than as a failing upstream.
    pub(crate) fn is_denial(self) -> bool {
        matches!(self, Self::ProviderNotFound | Self::KindUnavailable)
    }
}

/// A provider whose kind can be served: the proof that [`require`] looked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UsableProvider<'a>(Option<&'a Provider>);

impl UsableProvider<'_> {
    /// The provider, unless the resource has none.
    pub(crate) fn get(&self) -> Option<&Provider> {
        self.0
    }
}

/// Judges the provider before policy is asked: it must exist and be of a kind that can be served.
pub(crate) fn require<'a>(
    resource: &Resource,
    provider: Option<&'a Provider>,
) -> Result<UsableProvider<'a>, CredentialRefused> {
    if resource.credential_provider_id.is_none() {
        return Ok(UsableProvider(None));
    }
    let provider = provider.filter(|found| found.archived_at.is_none());
    let provider = provider.ok_or(CredentialRefused::ProviderNotFound)?;
    match provider.kind {
        ProviderKind::Oauth2ClientCredentials | ProviderKind::Oauth2AuthorizationCode => {
            Err(CredentialRefused::KindUnavailable)
        }
        ProviderKind::None
        | ProviderKind::CaracalMandate
        | ProviderKind::ApiKey
        | ProviderKind::BearerToken
        | ProviderKind::HttpBasic => Ok(UsableProvider(Some(provider))),
    }
}

/// Builds the directive, opening the provider's secret.
pub(crate) fn build(
    resource: &Resource,
    provider: UsableProvider<'_>,
    ring: &KeyRing,
) -> Result<Directive, CredentialRefused> {
    let mut directive = Directive {
        upstream_url: resource.upstream_url.clone().unwrap_or_default(),
        credential: Credential::Mandate,
        allowed_hosts: Vec::new(),
        forward_identity: false,
        provider_id: None,
        connection_id: None,
    };
    let Some(provider) = provider.get() else {
        return Ok(directive);
    };
    directive.provider_id = Some(provider.id.clone());
    let config = ProviderConfig::new(provider);
    directive.credential = match provider.kind {
        ProviderKind::CaracalMandate => return Ok(directive),
        ProviderKind::None => {
            directive.credential = Credential::None;
            return Ok(directive);
        }
        ProviderKind::ApiKey => api_key(&config, ring)?,
        ProviderKind::BearerToken => bearer_token(&config, ring)?,
        ProviderKind::HttpBasic => http_basic(&config, ring)?,
        ProviderKind::Oauth2ClientCredentials | ProviderKind::Oauth2AuthorizationCode => {
            return Err(CredentialRefused::KindUnavailable);
        }
    };
    directive.allowed_hosts = config.allowed_hosts()?;
    directive.forward_identity = config.flag("forward_caracal_identity")?;
    Ok(directive)
}

/// Whether the upstream gets a Caracal mandate, so that one must be minted.
pub(crate) fn sends_mandate(directive: &Directive) -> bool {
    directive.forward_identity || matches!(directive.credential, Credential::Mandate)
}

fn api_key(config: &ProviderConfig<'_>, ring: &KeyRing) -> Result<Credential, CredentialRefused> {
    let value = config.secret(ring, "api_key")?;
    match config.text("auth_location")?.as_deref() {
        None | Some("header") => Ok(Credential::KeyHeader {
            header: config
                .header("header_name")?
                .ok_or(CredentialRefused::Config("header_name"))?,
            scheme: config.scheme()?,
            value,
        }),
        Some("query") if config.scheme()?.is_some() => {
            Err(CredentialRefused::Config("auth_scheme"))
        }
        Some("query") => Ok(Credential::KeyQuery {
            parameter: config.query_parameter()?,
            value,
        }),
        Some(_) => Err(CredentialRefused::Config("auth_location")),
    }
}

fn bearer_token(
    config: &ProviderConfig<'_>,
    ring: &KeyRing,
) -> Result<Credential, CredentialRefused> {
    Ok(Credential::Token {
        header: config
            .header("auth_header")?
            .unwrap_or_else(|| "Authorization".to_owned()),
        scheme: Some(config.scheme()?.unwrap_or_else(|| "Bearer".to_owned())),
        value: config.secret(ring, "bearer_token")?,
    })
}

fn http_basic(
    config: &ProviderConfig<'_>,
    ring: &KeyRing,
) -> Result<Credential, CredentialRefused> {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let username = config
        .text("username")?
        .ok_or(CredentialRefused::Config("username"))?;
    let password = config.secret(ring, "password")?;
    let pair = Secret::new(format!("{username}:{}", password.expose()));
    Ok(Credential::Token {
        header: "Authorization".to_owned(),
        scheme: Some("Basic".to_owned()),
        value: Secret::new(STANDARD.encode(pair.expose())),
    })
}
