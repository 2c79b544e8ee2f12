use caracal_core::Secret;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const NONCE: &str = "nonce-1";

fn grant(credential: Credential) -> ExchangeGrant {
    ExchangeGrant {
        mandate: Some(Secret::new("aaa.bbb.ccc".to_owned())),
        directive: Directive {
            upstream_url: "https://ledger.example/base?region=eu".to_owned(),
            credential,
            allowed_hosts: vec!["ledger.example".to_owned()],
            forward_identity: true,
            provider_id: "prov-5".parse().ok(),
            connection_id: Some("conn-1".to_owned()),
        },
        operation: Some("GET /v1/items".to_owned()),
    }
}

fn credentials() -> Vec<Credential> {
    let value = || Secret::new("k\"ey\u{e9}\\".to_owned());
    vec![
        Credential::None,
        Credential::Mandate,
        Credential::Token {
            header: "Authorization".to_owned(),
            scheme: Some("Bearer".to_owned()),
            value: value(),
        },
        Credential::KeyHeader {
            header: "X-Key".to_owned(),
            scheme: None,
            value: value(),
        },
        Credential::KeyQuery {
            parameter: "key".to_owned(),
            value: value(),
        },
    ]
}

/// Everything of a grant, secrets shown.
fn laid_open(grant: &ExchangeGrant) -> String {
    let secret = match &grant.directive.credential {
        Credential::Token { value, .. }
        | Credential::KeyHeader { value, .. }
        | Credential::KeyQuery { value, .. } => value.expose().clone(),
        Credential::None | Credential::Mandate => String::new(),
    };
    let mandate = grant.mandate.as_ref().map(|token| token.expose().clone());
    format!("{grant:?} {secret} {mandate:?}")
}

fn document(grant: &ExchangeGrant) -> Value {
    serde_json::from_slice(encode_grant(grant, NONCE).unwrap().expose()).unwrap()
}

fn decode_value(value: &Value) -> Result<Answer, UnreadableAnswer> {
    decode(&serde_json::to_vec(value).unwrap(), NONCE)
}

#[test]
fn every_credential_arrives_as_it_was_sent() {
    for credential in credentials() {
        let sent = grant(credential);
        let bytes = encode_grant(&sent, NONCE).unwrap();
        let Ok(Answer::Granted(read)) = decode(bytes.expose(), NONCE) else {
            panic!("not granted");
        };
        assert_eq!(laid_open(&read), laid_open(&sent));
    }
}

#[test]
fn the_written_form_is_fixed() {
    let credential = Credential::Token {
        header: "Authorization".to_owned(),
        scheme: Some("Bearer".to_owned()),
        value: Secret::new("tok".to_owned()),
    };
    let expected = json!({
        "version": 1,
        "answers": "nonce-1",
        "granted": {
            "mandate": "aaa.bbb.ccc",
            "operation": "GET /v1/items",
            "directive": {
                "upstream_url": "https://ledger.example/base?region=eu",
                "credential": {"token": {"header": "Authorization", "scheme": "Bearer", "value": "tok"}},
                "allowed_hosts": ["ledger.example"],
                "forward_identity": true,
                "provider_id": "prov-5",
                "connection_id": "conn-1"
            }
        }
    });
    assert_eq!(document(&grant(credential)), expected);
}

#[test]
fn a_refusal_arrives_with_all_its_members() {
    let mut extension = Map::new();
    extension.insert("approval_id".to_owned(), json!("ap-1"));
    let sent = ExchangeRefusal {
        status: 429,
        code: "provider_rate_limited".into(),
        description: "wait".to_owned(),
        retry_after: Some(Duration::from_millis(1_500)),
        extension,
        origin: RefusalOrigin::Sts,
    };
    let bytes = encode_refusal(&sent, NONCE).unwrap();
    let Ok(Answer::Refused(read)) = decode(bytes.expose(), NONCE) else {
        panic!("not refused");
    };
    assert_eq!(format!("{read:?}"), format!("{:?}", Box::new(sent)));
}

#[test]
fn standing_is_its_own_answer() {
    let bytes = encode_standing(NONCE).unwrap();
    assert!(matches!(
        decode(bytes.expose(), NONCE),
        Ok(Answer::Standing)
    ));
}

#[test]
fn an_answer_to_another_request_is_refused() {
    let bytes = encode_standing("nonce-2").unwrap();
    assert_eq!(
        decode(bytes.expose(), NONCE).unwrap_err(),
        UnreadableAnswer::Misdirected
    );
}

#[test]
fn another_version_is_refused_before_its_members_are_looked_at() {
    let mut newer = document(&grant(Credential::None));
    newer["version"] = json!(2);
    newer["something_new"] = json!(true);
    assert_eq!(
        decode_value(&newer).unwrap_err(),
        UnreadableAnswer::Version(2)
    );
}

#[test]
fn an_unknown_member_is_refused_at_every_level() {
    let token = Credential::Token {
        header: "Authorization".to_owned(),
        scheme: None,
        value: Secret::new("tok".to_owned()),
    };
    let good = document(&grant(token));
    for place in [
        "",
        "/granted",
        "/granted/directive",
        "/granted/directive/credential",
        "/granted/directive/credential/token",
    ] {
        let mut bad = good.clone();
        let object = bad.pointer_mut(place).unwrap().as_object_mut().unwrap();
        object.insert("more".to_owned(), json!(1));
        assert!(decode_value(&bad).is_err(), "{place}");
    }
    let refusal = json!({"status": 403, "code": "access_denied", "description": "no",
        "retry_after_ms": null, "extension": {}, "more": 1});
    let bad = json!({"version": 1, "answers": NONCE, "refused": refusal});
    assert!(decode_value(&bad).is_err());
}

#[test]
fn silence_contradiction_and_a_refusal_without_failure_are_no_answers() {
    let refused = |status: u16| {
        json!({"status": status, "code": "x", "description": "x",
            "retry_after_ms": null, "extension": {}})
    };
    for (members, expected) in [
        (json!({}), UnreadableAnswer::Ambiguous),
        (json!({"standing": false}), UnreadableAnswer::Ambiguous),
        (
            json!({"standing": true, "refused": refused(403)}),
            UnreadableAnswer::Ambiguous,
        ),
        (
            json!({"refused": refused(200)}),
            UnreadableAnswer::Status(200),
        ),
        (
            json!({"refused": refused(700)}),
            UnreadableAnswer::Status(700),
        ),
    ] {
        let mut answer = json!({"version": 1, "answers": NONCE});
        let object = answer.as_object_mut().unwrap();
        object.extend(members.as_object().unwrap().clone());
        assert_eq!(decode_value(&answer).unwrap_err(), expected, "{members}");
    }
}

#[test]
fn an_error_never_quotes_what_it_could_not_read() {
    let bad = json!({"version": 1, "answers": NONCE, "granted": {"mandate": ["s3cret"]}});
    let error = decode_value(&bad).unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let bad = json!({"version": 1, "answers": NONCE, "s3cret": 1});
    assert!(
        !decode_value(&bad)
            .unwrap_err()
            .to_string()
            .contains("s3cret")
    );
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(&bytes, NONCE).is_err());
    }

    #[test]
    fn a_cut_answer_is_no_answer(cut in 0usize..300) {
        let bytes = encode_grant(&grant(Credential::Mandate), NONCE).unwrap();
        let bytes = bytes.expose();
        prop_assume!(cut < bytes.len());
        prop_assert!(decode(&bytes[..cut], NONCE).is_err());
    }
}
