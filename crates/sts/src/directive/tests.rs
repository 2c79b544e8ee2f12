use super::*;
use crate::testing::rows;
use caracal_core::SeededRandom;
use caracal_crypto::{Kek, SealLocation};
use serde_json::{Value, json};

fn ring() -> KeyRing {
    let kek = "6aa31e7043b5cf8b9312cd2d9c721525f233b457fb12347ff048c5663bff9f5b";
    KeyRing::new(Kek::from_hex(&Secret::new(kek.to_owned())).unwrap(), None)
}

#[allow(clippy::needless_pass_by_value, reason = "the cases read better")]
fn provider(kind: ProviderKind, config: Value, secret: Value) -> Provider {
    let mut provider = rows::provider("prov-1");
    provider.kind = kind;
    provider.config = config.as_object().unwrap().clone();
    let document = serde_json::to_vec(&secret).unwrap();
    let location = SealLocation::provider_config(&provider.zone_id, &provider.id);
    let sealed = ring()
        .seal(&location, &document, &SeededRandom::new(3))
        .unwrap();
    provider.sealed_config = Some(sealed);
    provider
}

fn directive(provider: &Provider) -> Result<Directive, CredentialRefused> {
    let resource = rows::resource("resource://ledger", &["ledger:read"]);
    build(&resource, require(&resource, Some(provider))?, &ring())
}

/// Mode, header or parameter, scheme and value of a credential.
fn parts(credential: &Credential) -> (&str, &str, &str, &str) {
    let mode = credential.auth_mode();
    match credential {
        Credential::None | Credential::Mandate => (mode, "", "", ""),
        Credential::Token {
            header,
            scheme,
            value,
        }
        | Credential::KeyHeader {
            header,
            scheme,
            value,
        } => (
            mode,
            header,
            scheme.as_deref().unwrap_or_default(),
            value.expose(),
        ),
        Credential::KeyQuery { parameter, value } => (mode, parameter, "", value.expose()),
    }
}

#[test]
fn each_kind_gives_its_credential() {
    let cases = [
        (
            ProviderKind::None,
            json!({}),
            json!({}),
            ("none", "", "", ""),
        ),
        (
            ProviderKind::CaracalMandate,
            json!({}),
            json!({}),
            ("caracal_jwt", "", "", ""),
        ),
        (
            ProviderKind::ApiKey,
            json!({ "header_name": "X-Key" }),
            json!({ "api_key": " k " }),
            ("provider_apikey", "X-Key", "", "k"),
        ),
        (
            ProviderKind::ApiKey,
            json!({ "auth_location": "header", "header_name": "Authorization", "auth_scheme": "Bearer" }),
            json!({ "api_key": "k" }),
            ("provider_apikey", "Authorization", "Bearer", "k"),
        ),
        (
            ProviderKind::ApiKey,
            json!({ "auth_location": "query", "query_param_name": "key" }),
            json!({ "api_key": "k" }),
            ("provider_apikey", "key", "", "k"),
        ),
        (
            ProviderKind::BearerToken,
            json!({}),
            json!({ "bearer_token": "t" }),
            ("provider_oauth", "Authorization", "Bearer", "t"),
        ),
        (
            ProviderKind::BearerToken,
            json!({ "auth_header": "X-Token", "auth_scheme": "Token" }),
            json!({ "bearer_token": "t" }),
            ("provider_oauth", "X-Token", "Token", "t"),
        ),
        (
            ProviderKind::HttpBasic,
            json!({ "username": " svc@example.com " }),
            json!({ "password": "tok-123" }),
            (
                "provider_oauth",
                "Authorization",
                "Basic",
                "c3ZjQGV4YW1wbGUuY29tOnRvay0xMjM=",
            ),
        ),
    ];
    for (kind, config, secret, expected) in cases {
        let provider = provider(kind, config.clone(), secret);
        let directive = directive(&provider).unwrap();
        assert_eq!(parts(&directive.credential), expected, "{kind:?} {config}");
        assert_eq!(directive.provider_id, Some(provider.id));
    }
}

#[test]
fn a_mandate_is_sent_only_where_the_directive_says_so() {
    let sends = |kind, config| {
        let secret = json!({ "api_key": "k", "bearer_token": "t", "password": "p" });
        sends_mandate(&directive(&provider(kind, config, secret)).unwrap())
    };
    assert!(!sends(ProviderKind::None, json!({})));
    assert!(!sends(ProviderKind::BearerToken, json!({})));
    assert!(sends(
        ProviderKind::BearerToken,
        json!({ "forward_caracal_identity": true })
    ));
    assert!(sends(ProviderKind::CaracalMandate, json!({})));
}

#[test]
fn a_resource_without_provider_gets_the_mandate() {
    let mut resource = rows::resource("resource://ledger", &["ledger:read"]);
    resource.credential_provider_id = None;
    let directive = build(&resource, require(&resource, None).unwrap(), &ring()).unwrap();
    assert_eq!(directive.credential.auth_mode(), "caracal_jwt");
    assert_eq!(directive.upstream_url, "http://ledger-upstream:9000");
}

#[test]
fn a_missing_or_archived_provider_is_not_found() {
    let resource = rows::resource("resource://ledger", &["ledger:read"]);
    let refused = |provider| require(&resource, provider).unwrap_err();
    assert_eq!(refused(None), CredentialRefused::ProviderNotFound);
    let mut archived = rows::provider("prov-1");
    archived.archived_at = Some(rows::START);
    assert_eq!(
        refused(Some(&archived)),
        CredentialRefused::ProviderNotFound
    );
}

#[test]
fn kinds_that_obtain_tokens_are_unavailable() {
    for kind in [
        ProviderKind::Oauth2ClientCredentials,
        ProviderKind::Oauth2AuthorizationCode,
    ] {
        let refused = directive(&provider(kind, json!({}), json!({}))).unwrap_err();
        assert_eq!(refused, CredentialRefused::KindUnavailable);
        assert_eq!(refused.audit_status(), "provider_unavailable");
    }
}

#[test]
fn hosts_are_lower_case_names() {
    let with = |hosts: Value| {
        let config = json!({ "allowed_token_hosts": hosts });
        directive(&provider(
            ProviderKind::BearerToken,
            config,
            json!({ "bearer_token": "t" }),
        ))
        .map(|directive| directive.allowed_hosts)
    };
    assert_eq!(
        with(json!(["API.Example.com"])),
        Ok(vec!["api.example.com".to_owned()])
    );
    for bad in [
        json!("api.example.com"),
        json!(["a..b"]),
        json!(["-a"]),
        json!(["a/b"]),
        json!([7]),
    ] {
        assert_eq!(
            with(bad.clone()),
            Err(CredentialRefused::Config("allowed_token_hosts")),
            "{bad}"
        );
    }
}

#[test]
fn bad_configurations_name_the_key() {
    let cases = [
        (ProviderKind::ApiKey, json!({}), "header_name"),
        (
            ProviderKind::ApiKey,
            json!({ "header_name": "X Key" }),
            "header_name",
        ),
        (
            ProviderKind::ApiKey,
            json!({ "header_name": "X-Key\r\nHost" }),
            "header_name",
        ),
        (
            ProviderKind::ApiKey,
            json!({ "header_name": 7 }),
            "header_name",
        ),
        (
            ProviderKind::ApiKey,
            json!({ "auth_location": "cookie" }),
            "auth_location",
        ),
        (
            ProviderKind::ApiKey,
            json!({ "auth_location": "query" }),
            "query_param_name",
        ),
        (
            ProviderKind::ApiKey,
            json!({ "auth_location": "query", "query_param_name": "a&b" }),
            "query_param_name",
        ),
        (
            ProviderKind::ApiKey,
            json!({ "auth_location": "query", "query_param_name": "k", "auth_scheme": "Bearer" }),
            "auth_scheme",
        ),
        (
            ProviderKind::BearerToken,
            json!({ "auth_scheme": "1st" }),
            "auth_scheme",
        ),
        (
            ProviderKind::BearerToken,
            json!({ "forward_caracal_identity": "yes" }),
            "forward_caracal_identity",
        ),
        (ProviderKind::HttpBasic, json!({}), "username"),
    ];
    let secret = json!({ "api_key": "k", "bearer_token": "t", "password": "p" });
    for (kind, config, key) in cases {
        let refused = directive(&provider(kind, config.clone(), secret.clone())).unwrap_err();
        assert_eq!(refused, CredentialRefused::Config(key), "{config}");
        assert_eq!(refused.audit_status(), "provider_credential_unavailable");
    }
}

#[test]
fn a_secret_is_one_clean_line() {
    for bad in [
        json!({}),
        json!({ "bearer_token": " " }),
        json!({ "bearer_token": "a\nb" }),
        json!({ "bearer_token": 1 }),
    ] {
        let refused = directive(&provider(ProviderKind::BearerToken, json!({}), bad.clone()));
        assert_eq!(
            refused.unwrap_err(),
            CredentialRefused::Config("bearer_token"),
            "{bad}"
        );
    }
}

#[test]
fn a_sealed_configuration_of_another_row_does_not_open() {
    let mut moved = provider(
        ProviderKind::BearerToken,
        json!({}),
        json!({ "bearer_token": "t" }),
    );
    moved.id = caracal_core::id::ProviderId::parse("prov-2").unwrap();
    assert_eq!(directive(&moved).unwrap_err(), CredentialRefused::Sealed);
}
