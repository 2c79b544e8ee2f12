//! Reading one provider's configuration, key by key.

use caracal_core::Secret;
use caracal_crypto::{KeyRing, SealLocation};
use caracal_store::entity::Provider;
use serde_json::{Map, Value};
use zeroize::Zeroize;

use super::CredentialRefused;

/// The public and the sealed part of a configuration.
pub(super) struct ProviderConfig<'a>(&'a Provider);

impl<'a> ProviderConfig<'a> {
    pub(super) fn new(provider: &'a Provider) -> Self {
        Self(provider)
    }

    /// A public text, trimmed; an empty one counts as absent.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, CredentialRefused> {
        match self.0.config.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim().to_owned()).filter(|t| !t.is_empty())),
            Some(_) => Err(CredentialRefused::Config(key)),
        }
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<bool, CredentialRefused> {
        match self.0.config.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(CredentialRefused::Config(key)),
        }
    }

    /// A header name (RFC 9110 §5.6.2).
    pub(super) fn header(&self, key: &'static str) -> Result<Option<String>, CredentialRefused> {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        self.checked(key, |name| name.bytes().all(is_token))
    }

    /// The word before a credential: a letter, then letters, digits or `-`.
    pub(super) fn scheme(&self) -> Result<Option<String>, CredentialRefused> {
        self.checked("auth_scheme", |scheme| {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
    }

    /// The name of the query parameter that takes the key.
    pub(super) fn query_parameter(&self) -> Result<String, CredentialRefused> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        self.checked("query_param_name", |name| name.bytes().all(is_plain))?
            .ok_or(CredentialRefused::Config("query_param_name"))
    }

    /// The upstream hosts that may get the credential, lower case.
    pub(super) fn allowed_hosts(&self) -> Result<Vec<String>, CredentialRefused> {
        let refused = CredentialRefused::Config("allowed_token_hosts");
        match self.0.config.get("allowed_token_hosts") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(hosts)) => hosts
                .iter()
                .map(|host| {
                    host.as_str()
                        .filter(|host| is_host(host))
                        .map(str::to_ascii_lowercase)
                })
                .collect::<Option<Vec<_>>>()
                .ok_or(refused),
            Some(_) => Err(refused),
        }
    }

    /// A sealed text, trimmed, not empty and without control characters.
    pub(super) fn secret(
        &self,
        ring: &KeyRing,
        key: &'static str,
    ) -> Result<Secret<String>, CredentialRefused> {
        let sealed = self
            .0
            .sealed_config
            .as_deref()
            .ok_or(CredentialRefused::Config(key))?;
        let location = SealLocation::provider_config(&self.0.zone_id, &self.0.id);
        let opened = ring
            .open(&location, sealed)
            .map_err(|_| CredentialRefused::Sealed)?;
        let document: Map<String, Value> =
            serde_json::from_slice(opened.expose()).map_err(|_| CredentialRefused::Sealed)?;
        take_secret(document, key)
    }

    fn checked(
        &self,
        key: &'static str,
        accepts: impl Fn(&str) -> bool,
    ) -> Result<Option<String>, CredentialRefused> {
        match self.text(key)? {
            Some(text) if !accepts(&text) => Err(CredentialRefused::Config(key)),
            other => Ok(other),
        }
    }
}

/// Takes one secret out of an opened document and wipes the rest.
fn take_secret(
    mut document: Map<String, Value>,
    key: &'static str,
) -> Result<Secret<String>, CredentialRefused> {
    let mut found = None;
    for (name, value) in &mut document {
        if let Value::String(text) = value {
            if name == key {
                found = Some(Secret::new(text.trim().to_owned()));
            }
            text.zeroize();
        }
    }
    found
        .filter(|secret| {
            let text = secret.expose();
            !text.is_empty() && !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
        })
        .ok_or(CredentialRefused::Config(key))
}

fn is_host(host: &str) -> bool {
    let bytes = host.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= 253
        && edge(bytes.first())
        && edge(bytes.last())
        && !host.contains("..")
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}
