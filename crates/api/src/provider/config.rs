//! What each kind of provider may be configured with.
//!
//! `config_json` is one flat object on the wire. Here it becomes two: the public part, which is
//! listed, and the secret part, which is sealed and never leaves again. A key that the kind does not
//! know is refused, so a misspelt placement never sends a credential to the wrong place.

use caracal_core::Secret;
use caracal_store::entity::ProviderKind;
use serde_json::{Map, Value};

use crate::error::{ApiError, Code};

/// Longest public string of a configuration, bytes.
const MAX_PUBLIC_BYTES: usize = 1_024;
/// Longest secret of a configuration, bytes.
const MAX_SECRET_BYTES: usize = 8_192;
/// Most entries of `allowed_token_hosts`.
const MAX_HOSTS: usize = 64;

/// A checked configuration, in its two parts.
#[derive(Debug)]
pub(crate) struct ProviderConfig {
    /// What is listed.
    pub(crate) public: Map<String, Value>,
    /// What is sealed.
    pub(crate) secret: Option<SecretConfig>,
}

/// The secret part of a configuration.
#[derive(Debug)]
pub(crate) struct SecretConfig {
    /// The names of its keys, sorted.
    pub(crate) keys: Vec<String>,
    /// The JSON object that is sealed.
    pub(crate) document: Secret<String>,
}

/// Whether the secret must come with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecretPresence {
    /// Nothing is sealed yet, or what is sealed goes.
    Required,
    /// A sealed secret stays unless a new one comes.
    MayBeKept,
}

impl ProviderConfig {
    /// Checks a configuration for its kind.
    pub(crate) fn check(
        kind: ProviderKind,
        config: Map<String, Value>,
        presence: SecretPresence,
    ) -> Result<Self, ApiError> {
        let mut draft = Draft {
            kind,
            config,
            public: Map::new(),
            secret: None,
            presence,
        };
        match kind {
            ProviderKind::None | ProviderKind::CaracalMandate => {}
            ProviderKind::ApiKey => draft.api_key()?,
            ProviderKind::BearerToken => draft.bearer_token()?,
            ProviderKind::HttpBasic => draft.http_basic()?,
            ProviderKind::Oauth2ClientCredentials | ProviderKind::Oauth2AuthorizationCode => {
                return Err(Code::InvalidProvider.into());
            }
        }
        draft.finish()
    }
}

struct Draft {
    kind: ProviderKind,
    config: Map<String, Value>,
    public: Map<String, Value>,
    secret: Option<(&'static str, Secret<String>)>,
    presence: SecretPresence,
}

impl Draft {
    fn api_key(&mut self) -> Result<(), ApiError> {
        let location = self
            .text("auth_location")?
            .unwrap_or_else(|| "header".to_owned());
        let mut scheme = None;
        match location.as_str() {
            "header" => {
                let header = self
                    .text("header_name")?
                    .ok_or_else(|| missing("header_name"))?;
                self.header("header_name", &header)?;
                scheme = self.scheme()?;
            }
            "query" => {
                let name = self
                    .text("query_param_name")?
                    .ok_or_else(|| missing("query_param_name"))?;
                if !is_parameter_name(&name) {
                    return Err(wrong(
                        "query_param_name",
                        "has letters, digits, '.', '_', '~', '-'",
                    ));
                }
                self.public
                    .insert("query_param_name".to_owned(), Value::String(name));
            }
            _ => return Err(wrong("auth_location", "is 'header' or 'query'")),
        }
        self.public
            .insert("auth_location".to_owned(), Value::String(location));
        self.shared()?;
        self.flag("allow_runtime_injection")?;
        self.take_secret("api_key", scheme.as_deref())
    }

    fn bearer_token(&mut self) -> Result<(), ApiError> {
        if let Some(header) = self.text("auth_header")? {
            self.header("auth_header", &header)?;
        }
        let scheme = self.scheme()?;
        self.shared()?;
        self.flag("allow_runtime_injection")?;
        self.take_secret("bearer_token", Some(scheme.as_deref().unwrap_or("Bearer")))
    }

    fn http_basic(&mut self) -> Result<(), ApiError> {
        let username = self.text("username")?.ok_or_else(|| missing("username"))?;
        if username.contains(':') {
            return Err(wrong("username", "has no colon (RFC 7617)"));
        }
        self.public
            .insert("username".to_owned(), Value::String(username));
        self.shared()?;
        self.take_secret("password", None)
    }

    /// The keys of every kind with a credential.
    fn shared(&mut self) -> Result<(), ApiError> {
        self.flag("forward_caracal_identity")?;
        self.allowed_hosts()
    }

    fn finish(self) -> Result<ProviderConfig, ApiError> {
        let unknown: Vec<&str> = self.config.keys().map(String::as_str).collect();
        if !unknown.is_empty() {
            let (kind, keys) = (self.kind.as_str(), unknown.join(", "));
            let text =
                format!("a provider of kind '{kind}' configured like this does not take: {keys}");
            return Err(ApiError::from(Code::InvalidProviderConfig).describe(text));
        }
        let secret = self.secret.map(|(key, value)| SecretConfig {
            keys: vec![key.to_owned()],
            document: Secret::new(serde_json::json!({ key: value.expose() }).to_string()),
        });
        Ok(ProviderConfig {
            public: self.public,
            secret,
        })
    }

    /// A trimmed, non-blank, single-line string.
    fn text(&mut self, key: &'static str) -> Result<Option<String>, ApiError> {
        let text = match self.config.remove(key) {
            None => return Ok(None),
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(_) => return Err(wrong(key, "is a string")),
        };
        if text.is_empty() || text.len() > MAX_PUBLIC_BYTES || has_control(&text) {
            return Err(wrong(key, "is one line of 1 to 1024 bytes"));
        }
        Ok(Some(text))
    }

    fn flag(&mut self, key: &'static str) -> Result<(), ApiError> {
        match self.config.remove(key) {
            None => Ok(()),
            Some(Value::Bool(flag)) => {
                self.public.insert(key.to_owned(), Value::Bool(flag));
                Ok(())
            }
            Some(_) => Err(wrong(key, "is true or false")),
        }
    }

    fn header(&mut self, key: &'static str, header: &str) -> Result<(), ApiError> {
        if !is_credential_header(header) {
            return Err(wrong(key, "is a header name that is not reserved"));
        }
        self.public
            .insert(key.to_owned(), Value::String(header.to_owned()));
        Ok(())
    }

    fn scheme(&mut self) -> Result<Option<String>, ApiError> {
        let Some(scheme) = self.text("auth_scheme")? else {
            return Ok(None);
        };
        let mut characters = scheme.chars();
        let well_formed = characters.next().is_some_and(|c| c.is_ascii_alphabetic())
            && characters.all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !well_formed {
            return Err(wrong(
                "auth_scheme",
                "is a letter, then letters, digits or '-'",
            ));
        }
        self.public
            .insert("auth_scheme".to_owned(), Value::String(scheme.clone()));
        Ok(Some(scheme))
    }

    fn allowed_hosts(&mut self) -> Result<(), ApiError> {
        const KEY: &str = "allowed_token_hosts";
        let hosts = match self.config.remove(KEY) {
            None => return Ok(()),
            Some(Value::Array(hosts)) if (1..=MAX_HOSTS).contains(&hosts.len()) => hosts,
            Some(_) => return Err(wrong(KEY, "is an array of 1 to 64 host names")),
        };
        let lower = |host: Value| match host {
            Value::String(host) if is_host_name(&host) => Ok(Value::String(host.to_lowercase())),
            _ => Err(wrong(KEY, "is an array of 1 to 64 host names")),
        };
        let hosts = hosts.into_iter().map(lower).collect::<Result<_, _>>()?;
        self.public.insert(KEY.to_owned(), Value::Array(hosts));
        Ok(())
    }

    fn take_secret(&mut self, key: &'static str, scheme: Option<&str>) -> Result<(), ApiError> {
        let value = match self.config.remove(key) {
            Some(Value::String(value)) => Secret::new(value.trim().to_owned()),
            Some(_) => return Err(wrong(key, "is a string")),
            None if self.presence == SecretPresence::MayBeKept => return Ok(()),
            None => return Err(missing(key)),
        };
        let length = value.expose().len();
        if !(1..=MAX_SECRET_BYTES).contains(&length) || has_control(value.expose()) {
            return Err(wrong(key, "is one line of 1 to 8192 bytes"));
        }
        if scheme.is_some_and(|scheme| begins_with_scheme(value.expose(), scheme)) {
            return Err(wrong(key, "is the bare credential, without its scheme"));
        }
        self.secret = Some((key, value));
        Ok(())
    }
}

fn missing(key: &'static str) -> ApiError {
    wrong(key, "is required")
}

fn wrong(key: &'static str, rule: &str) -> ApiError {
    ApiError::at(
        Code::InvalidProviderConfig,
        &["config_json".to_owned(), key.to_owned()],
        rule,
    )
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
}

fn begins_with_scheme(value: &str, scheme: &str) -> bool {
    let Some((head, _)) = value.split_once(' ') else {
        return false;
    };
    head.eq_ignore_ascii_case(scheme)
}

fn is_parameter_name(name: &str) -> bool {
    name.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'))
}

/// RFC 9110 §5.1, without the headers that the Gateway and the connection own.
fn is_credential_header(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    name.bytes().all(is_token) && !caracal_core::header::is_reserved_for_credentials(name)
}

fn is_host_name(host: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    (1..=253).contains(&host.len())
        && host.bytes().all(inner)
        && host
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && host
            .bytes()
            .next_back()
            .is_some_and(|b| b.is_ascii_alphanumeric())
        && !host.contains("..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(kind: ProviderKind, config: Value) -> Result<ProviderConfig, ApiError> {
        let Value::Object(config) = config else {
            panic!("an object")
        };
        ProviderConfig::check(kind, config, SecretPresence::Required)
    }

    fn refused(kind: ProviderKind, config: &Value) {
        let error = check(kind, config.clone()).expect_err(&config.to_string());
        assert_eq!(error.code(), Code::InvalidProviderConfig, "{config}");
    }

    #[test]
    fn an_api_key_goes_into_a_header_by_default() {
        let config = json!({ "header_name": "X-Api-Key", "api_key": " k-1 " });
        let config = check(ProviderKind::ApiKey, config).unwrap();
        assert_eq!(
            Value::Object(config.public),
            json!({ "header_name": "X-Api-Key", "auth_location": "header" })
        );
        let secret = config.secret.unwrap();
        assert_eq!(secret.keys, ["api_key"]);
        assert_eq!(secret.document.expose(), r#"{"api_key":"k-1"}"#);
    }

    #[test]
    fn a_kind_without_a_credential_takes_no_key() {
        assert!(
            check(ProviderKind::None, json!({}))
                .unwrap()
                .secret
                .is_none()
        );
        assert!(check(ProviderKind::CaracalMandate, json!({})).is_ok());
        refused(
            ProviderKind::None,
            &json!({ "forward_caracal_identity": true }),
        );
        refused(ProviderKind::CaracalMandate, &json!({ "audience": "x" }));
    }

    #[test]
    fn keys_of_another_placement_are_refused() {
        refused(
            ProviderKind::ApiKey,
            &json!({ "header_name": "K", "query_param_name": "k", "api_key": "s" }),
        );
        refused(
            ProviderKind::ApiKey,
            &json!({ "auth_location": "query", "query_param_name": "k", "auth_scheme": "Key", "api_key": "s" }),
        );
        refused(
            ProviderKind::ApiKey,
            &json!({ "auth_location": "cookie", "header_name": "K", "api_key": "s" }),
        );
        refused(
            ProviderKind::ApiKey,
            &json!({ "auth_location": "query", "query_param_name": "a b", "api_key": "s" }),
        );
        refused(ProviderKind::ApiKey, &json!({ "api_key": "s" }));
        refused(
            ProviderKind::HttpBasic,
            &json!({ "username": "u", "password": "p", "allow_runtime_injection": true }),
        );
    }

    #[test]
    fn a_credential_never_carries_its_scheme() {
        refused(
            ProviderKind::BearerToken,
            &json!({ "bearer_token": "bEARER abc" }),
        );
        refused(
            ProviderKind::BearerToken,
            &json!({ "bearer_token": "token abc", "auth_scheme": "Token" }),
        );
        refused(
            ProviderKind::ApiKey,
            &json!({ "header_name": "K", "auth_scheme": "Key", "api_key": "key abc" }),
        );
        assert!(
            check(
                ProviderKind::BearerToken,
                json!({ "bearer_token": "bearerless abc" })
            )
            .is_ok()
        );
        assert!(
            check(
                ProviderKind::ApiKey,
                json!({ "header_name": "K", "api_key": "key abc" })
            )
            .is_ok()
        );
    }

    #[test]
    fn headers_of_the_connection_and_of_ours_are_reserved() {
        for header in [
            "Host",
            "X-Caracal-Resource",
            "x-forwarded-for",
            "Proxy-X",
            "te",
            "a b",
            "é",
            "a:",
        ] {
            refused(
                ProviderKind::BearerToken,
                &json!({ "bearer_token": "t", "auth_header": header }),
            );
        }
        for header in ["Authorization", "Cookie", "X-Auth"] {
            assert!(
                check(
                    ProviderKind::BearerToken,
                    json!({ "bearer_token": "t", "auth_header": header })
                )
                .is_ok()
            );
        }
    }

    #[test]
    fn secrets_are_one_line_and_not_blank() {
        for secret in ["", "  ", "a\nb", "a\u{7f}"] {
            refused(
                ProviderKind::HttpBasic,
                &json!({ "username": "u", "password": secret }),
            );
        }
        refused(
            ProviderKind::HttpBasic,
            &json!({ "username": "u", "password": 7 }),
        );
        refused(
            ProviderKind::HttpBasic,
            &json!({ "username": "a:b", "password": "p" }),
        );
    }

    #[test]
    fn hosts_are_names_and_stored_in_lower_case() {
        let config = json!({ "bearer_token": "t", "allowed_token_hosts": ["API.Example.com"] });
        let config = check(ProviderKind::BearerToken, config).unwrap();
        assert_eq!(
            config.public["allowed_token_hosts"],
            json!(["api.example.com"])
        );
        for hosts in [
            json!([]),
            json!("a"),
            json!(["a..b"]),
            json!(["-a"]),
            json!(["a:1"]),
            json!([7]),
        ] {
            refused(
                ProviderKind::BearerToken,
                &json!({ "bearer_token": "t", "allowed_token_hosts": hosts }),
            );
        }
    }

    #[test]
    fn a_sealed_secret_may_stay() {
        let config = Map::from_iter([("header_name".to_owned(), json!("K"))]);
        let kept = ProviderConfig::check(ProviderKind::ApiKey, config, SecretPresence::MayBeKept);
        assert!(kept.unwrap().secret.is_none());
    }

    proptest! {
        #[test]
        fn the_public_part_never_holds_the_secret(secret in "[!-~]{20,40}") {
            let config = json!({ "header_name": "K", "api_key": secret });
            if let Ok(config) = check(ProviderKind::ApiKey, config) {
                let public = Value::Object(config.public).to_string();
                prop_assert!(!public.contains(&secret));
            }
        }
    }
}
