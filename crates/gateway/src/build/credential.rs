//! The upstream's credential: where it goes and in which form.

use caracal_core::Secret;
use caracal_roles::{Credential, ExchangeGrant};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::BuildError;

static IDENTITY: HeaderName = HeaderName::from_static("x-caracal-identity");

/// A credential, checked and ready to be set.
pub(super) struct Injection<'a> {
    header: Option<(HeaderName, HeaderValue)>,
    query: Option<(&'a str, &'a str)>,
    identity: Option<HeaderValue>,
}

impl<'a> Injection<'a> {
    /// Prepares the grant's credential.
    pub(super) fn of(grant: &'a ExchangeGrant) -> Result<Self, BuildError> {
        let mut injection = Self {
            header: None,
            query: None,
            identity: identity(grant)?,
        };
        match &grant.directive.credential {
            Credential::None => {}
            Credential::Mandate => {
                let mandate = grant.mandate.as_ref().ok_or(BuildError::NoMandate)?;
                injection.header = Some((AUTHORIZATION, value(Some("Bearer"), mandate)?));
            }
            Credential::Token {
                header,
                scheme,
                value: secret,
            }
            | Credential::KeyHeader {
                header,
                scheme,
                value: secret,
            } => {
                let name = name(header)?;
                injection.header = Some((name, value(scheme.as_deref(), secret)?));
            }
            Credential::KeyQuery {
                parameter,
                value: secret,
            } => {
                if parameter.is_empty() {
                    return Err(BuildError::CredentialName);
                }
                injection.query = Some((parameter, secret.expose()));
            }
        }
        Ok(injection)
    }

    /// The header that carries the credential: no caller may send it.
    pub(super) fn header_name(&self) -> Option<&HeaderName> {
        self.header.as_ref().map(|(name, _)| name)
    }

    /// The query parameter that carries the credential.
    pub(super) fn query(&self) -> Option<(&'a str, &'a str)> {
        self.query
    }

    /// Sets the headers.
    pub(super) fn apply(self, headers: &mut HeaderMap) {
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        if let Some(identity) = self.identity {
            headers.insert(IDENTITY.clone(), identity);
        }
    }
}

/// The resource mandate beside a provider's credential, where the provider asks for it.
fn identity(grant: &ExchangeGrant) -> Result<Option<HeaderValue>, BuildError> {
    let wanted = grant.directive.forward_identity
        && !matches!(
            grant.directive.credential,
            Credential::None | Credential::Mandate
        );
    if !wanted {
        return Ok(None);
    }
    let mandate = grant.mandate.as_ref().ok_or(BuildError::NoMandate)?;
    value(None, mandate).map(Some)
}

fn name(header: &str) -> Result<HeaderName, BuildError> {
    let name = HeaderName::from_bytes(header.as_bytes()).map_err(|_| BuildError::CredentialName)?;
    if caracal_core::header::is_reserved_for_credentials(name.as_str()) {
        Err(BuildError::CredentialName)
    } else {
        Ok(name)
    }
}

fn value(scheme: Option<&str>, secret: &Secret<String>) -> Result<HeaderValue, BuildError> {
    let text = Secret::new(match scheme.filter(|scheme| !scheme.is_empty()) {
        Some(scheme) => format!("{scheme} {}", secret.expose()),
        None => secret.expose().clone(),
    });
    let mut value =
        HeaderValue::from_str(text.expose()).map_err(|_| BuildError::CredentialValue)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_roles::Directive;

    fn grant(credential: Credential, forward_identity: bool) -> ExchangeGrant {
        ExchangeGrant {
            mandate: Some(Secret::new("m.m.m".to_owned())),
            directive: Directive {
                upstream_url: "http://up.example".to_owned(),
                credential,
                allowed_hosts: Vec::new(),
                forward_identity,
                provider_id: None,
                connection_id: None,
            },
            operation: None,
        }
    }

    fn applied(grant: &ExchangeGrant) -> HeaderMap {
        let mut headers = HeaderMap::new();
        Injection::of(grant).unwrap().apply(&mut headers);
        headers
    }

    fn token(header: &str, scheme: Option<&str>) -> Credential {
        Credential::Token {
            header: header.to_owned(),
            scheme: scheme.map(str::to_owned),
            value: Secret::new("t".to_owned()),
        }
    }

    #[test]
    fn every_kind_has_its_form() {
        assert!(applied(&grant(Credential::None, true)).is_empty());
        assert_eq!(
            applied(&grant(Credential::Mandate, true))["authorization"],
            "Bearer m.m.m"
        );
        assert_eq!(
            applied(&grant(token("Authorization", Some("Basic")), false))["authorization"],
            "Basic t"
        );
        assert_eq!(
            applied(&grant(token("X-Token", None), false))["x-token"],
            "t"
        );
        assert_eq!(
            applied(&grant(token("X-Token", Some("")), false))["x-token"],
            "t"
        );
        let key = Credential::KeyHeader {
            header: "X-Key".to_owned(),
            scheme: Some("Key".to_owned()),
            value: Secret::new("k".to_owned()),
        };
        assert_eq!(applied(&grant(key, false))["x-key"], "Key k");
    }

    #[test]
    fn a_query_key_sets_no_header_but_the_identity() {
        let key = Credential::KeyQuery {
            parameter: "key".into(),
            value: Secret::new("k".into()),
        };
        let grant = grant(key, true);
        assert_eq!(Injection::of(&grant).unwrap().query(), Some(("key", "k")));
        let headers = applied(&grant);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-caracal-identity"], "m.m.m");
    }

    #[test]
    fn reserved_or_malformed_names_and_values_are_refused() {
        for name in [
            "Host",
            "x-caracal-identity",
            "Proxy-Key",
            "te",
            "a b",
            "",
            "X-Forwarded-For",
        ] {
            assert!(
                Injection::of(&grant(token(name, None), false)).is_err(),
                "{name}"
            );
        }
        let broken = Credential::Token {
            header: "x-token".to_owned(),
            scheme: None,
            value: Secret::new("a\r\nb".to_owned()),
        };
        assert!(Injection::of(&grant(broken, false)).is_err());
        let nameless = Credential::KeyQuery {
            parameter: String::new(),
            value: Secret::new("k".into()),
        };
        assert!(Injection::of(&grant(nameless, false)).is_err());
    }

    #[test]
    fn a_mandate_that_was_not_minted_can_not_be_sent() {
        let mut bare = grant(Credential::Mandate, false);
        bare.mandate = None;
        assert!(Injection::of(&bare).is_err());
    }

    #[test]
    fn the_credential_is_hidden_from_debug_output() {
        let headers = applied(&grant(token("x-token", None), false));
        assert!(headers["x-token"].is_sensitive());
    }
}
