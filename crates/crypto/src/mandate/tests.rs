use std::sync::Arc;

use caracal_core::id::{
    ApplicationId, AuthorityRecordId, DelegationId, KeyId, MandateId, SessionId, ZoneId,
};
use caracal_core::{ResourceIdentifier, SubjectType, Timestamp};
use proptest::prelude::*;

use super::{Expectation, MAX_TOKEN_BYTES, MandateError, fingerprint, verify};
use crate::base64url;
use crate::claims::{Claims, DelegationHop, MandateUse};
use crate::fuzz::fuzz_mandate;
use crate::key_set::KeySet;
use crate::peek::{Peek, peek};
use crate::zone_key::{SignError, SigningKey, VerifyingKey};

const ISSUER: &str = "https://sts.example.test";
const ISSUED_AT: i64 = 1_767_225_600;
const EVERY_USE: &[MandateUse] = &[
    MandateUse::Session,
    MandateUse::Gateway,
    MandateUse::Resource,
];

/// A published lifecycle mandate and the key that it verifies with.
const SESSION_TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6IjAxOTdmMDAwLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwMSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL3N0cy5leGFtcGxlLnRlc3QiLCJzdWIiOiJhcHAtMSIsImF1ZCI6WyJodHRwczovL3N0cy5leGFtcGxlLnRlc3QiXSwiZXhwIjoxNzY3MjI2NTAwLCJpYXQiOjE3NjcyMjU2MDAsImp0aSI6IjAxOTdmMDAwLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDBhYSIsInpvbmVfaWQiOiJ6b25lLTEiLCJjbGllbnRfaWQiOiJhcHAtMSIsInNjb3BlIjoiYWdlbnQ6bGlmZWN5Y2xlIiwic2lkIjoiMDE5N2YwMDAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMGJiIiwicm9vdF9zaWQiOiIwMTk3ZjAwMC0wMDAwLTcwMDAtODAwMC0wMDAwMDAwMDAwYmIiLCJ1c2UiOiJzZXNzaW9uIiwic3ViX3R5cGUiOiJhcHBsaWNhdGlvbiIsInRhcmdldCI6WyJyZXNvdXJjZTovL2ludmVudG9yeSJdfQ.ZldvmAB4L8VwNlllOZD-f76ZlwMUmlSBgRnxd8vptfmKIbEfFfjgD-SRDg-KLE8jlxPj9Yfnnf4YhwVdICb1wQ";

/// A published Gateway mandate and the key that it verifies with.
const GATEWAY_TOKEN: &str = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL3N0cy5leGFtcGxlIiwic3ViIjoiYXBwLTc3IiwiYXVkIjpbImh0dHBzOi8vc3RzLmV4YW1wbGUiXSwiaWF0IjoxNzY3MjI1NjAwLCJleHAiOjE3NjcyMjY1MDAsImp0aSI6Imp0aS0xIiwiem9uZV9pZCI6InpvbmUtOSIsImNsaWVudF9pZCI6ImFwcC03NyIsInNjb3BlIjoibGVkZ2VyOnJlYWQiLCJzaWQiOiJyZWMtMSIsInJvb3Rfc2lkIjoicmVjLTAiLCJ1c2UiOiJnYXRld2F5Iiwic3ViX3R5cGUiOiJhcHBsaWNhdGlvbiIsInRhcmdldCI6WyJyZXNvdXJjZTovL2xlZGdlciJdLCJhZ2VudF9zZXNzaW9uX2lkIjoic2Vzcy0yIiwiZGVsZWdhdGlvbl9lZGdlX2lkIjoiZWRnZS0zIn0.J-ftTY2s-qOp6mlHYwQGFB68J7AJk0W1VpNvvq7LznT5fSdpJD-YPSKEukwr-AVMAaUas6sWhF1AItEsQdpeUA";

fn session_token_keys() -> KeySet {
    key_set(
        "0197f000-0000-7000-8000-000000000001",
        "T_WHTcJ-x35oX7KXrQm_kdxIu_C9SiCSgnWisnHiFFU",
        "gEhApQEi2HZrNULCX-70vvMja2Jz2mNY1zjRzIu_usw",
    )
}

fn gateway_token_keys() -> KeySet {
    key_set(
        "k1",
        "5EujfUSSD39RQOME9Bp2D3uRUCG5aAWauC3rcGS1JTU",
        "7cs48BT7Ao_WUlsMeWkZyIDcymHrMJspzhA8T7PBT1Y",
    )
}

fn key_set(kid: &str, x: &str, y: &str) -> KeySet {
    let kid = KeyId::parse(kid).unwrap();
    [VerifyingKey::from_coordinates(kid, x, y).unwrap()]
        .into_iter()
        .collect()
}

fn zone() -> ZoneId {
    ZoneId::parse("zone-1").unwrap()
}

fn signing_key() -> SigningKey {
    SigningKey::generate(KeyId::parse("k1").unwrap()).unwrap()
}

fn keys_of(key: &SigningKey) -> KeySet {
    [key.verifying_key().clone()].into_iter().collect()
}

fn expect(zone: &ZoneId) -> Expectation<'_> {
    Expectation {
        issuer: ISSUER,
        audience: ISSUER,
        zone,
        uses: EVERY_USE,
        now: Timestamp::from_seconds(ISSUED_AT + 10),
        leeway_seconds: 60,
    }
}

/// The claims of a lifecycle mandate; tests change what they are about.
fn claims() -> Claims {
    let record = AuthorityRecordId::parse("rec-1").unwrap();
    Claims {
        iss: ISSUER.into(),
        sub: "app-1".into(),
        aud: vec![ISSUER.into()],
        exp: Timestamp::from_seconds(ISSUED_AT + 900),
        iat: Timestamp::from_seconds(ISSUED_AT),
        jti: MandateId::parse("jti-1").unwrap(),
        zone_id: zone(),
        client_id: ApplicationId::parse("app-1").unwrap(),
        scope: Some("agent:lifecycle".into()),
        sid: record.clone(),
        root_sid: record,
        mandate_use: MandateUse::Session,
        sub_type: SubjectType::Application,
        target: vec![ResourceIdentifier::new("resource://inventory")],
        agent_session_id: None,
        delegation_edge_id: None,
        source_session_id: None,
        target_session_id: None,
        delegation_path: Vec::new(),
        delegation_chain: Vec::new(),
        hop_count: 0,
        delegation_graph_epoch: 0,
    }
}

/// Signs any payload, also one that no [`Claims`] can express.
fn sign_raw(key: &SigningKey, header: &str, payload: &str) -> String {
    let signed = format!(
        "{}.{}",
        base64url::encode(header),
        base64url::encode(payload)
    );
    let signature = key.sign_bytes(signed.as_bytes()).unwrap();
    format!("{signed}.{}", base64url::encode(signature))
}

fn header() -> &'static str {
    r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#
}

/// The refusal of a good mandate whose payload had one claim replaced (`None`: removed).
fn refusal_with(claim: &str, value: Option<serde_json::Value>) -> Option<MandateError> {
    let key = signing_key();
    let mut payload = serde_json::to_value(claims()).unwrap();
    let object = payload.as_object_mut().unwrap();
    match value {
        Some(value) => object.insert(claim.to_owned(), value),
        None => object.remove(claim),
    };
    let token = sign_raw(&key, header(), &payload.to_string());
    verify(&token, &keys_of(&key), &expect(&zone())).err()
}

fn refusal_of(claims: &Claims) -> Option<MandateError> {
    let key = signing_key();
    verify(&key.sign(claims).unwrap(), &keys_of(&key), &expect(&zone())).err()
}

#[test]
fn a_published_lifecycle_mandate_verifies() {
    let zone = zone();
    let verified = verify(SESSION_TOKEN, &session_token_keys(), &expect(&zone)).unwrap();
    assert_eq!(verified.claims().scope.as_deref(), Some("agent:lifecycle"));
    assert_eq!(verified.claims().mandate_use, MandateUse::Session);
    assert!(verified.claims().targets("resource://inventory"));
    assert_eq!(&**verified.token(), SESSION_TOKEN);
}

#[test]
fn claims_are_written_in_the_published_form() {
    let zone = zone();
    let verified = verify(SESSION_TOKEN, &session_token_keys(), &expect(&zone)).unwrap();
    let payload = base64url::decode(SESSION_TOKEN.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(
        serde_json::to_string(&**verified.claims()).unwrap(),
        String::from_utf8(payload).unwrap()
    );
}

#[test]
fn a_published_gateway_mandate_verifies() {
    let zone = ZoneId::parse("zone-9").unwrap();
    let expect = Expectation {
        issuer: "https://sts.example",
        audience: "https://sts.example",
        uses: &[MandateUse::Gateway],
        ..expect(&zone)
    };
    let verified = verify(GATEWAY_TOKEN, &gateway_token_keys(), &expect).unwrap();
    let claims = verified.claims();
    assert_eq!(
        claims.agent_session_id.as_ref().map(SessionId::as_str),
        Some("sess-2")
    );
    assert_eq!(
        claims.delegation_edge_id.as_ref().map(DelegationId::as_str),
        Some("edge-3")
    );
    assert_eq!(claims.hop_count, 0);
    assert_eq!(verified.subject_fingerprint(), "0fbd0060be680ab4");
}

#[test]
fn a_fingerprint_is_eight_bytes_of_sha256() {
    assert_eq!(fingerprint("aaa.bbb.ccc"), "ce887a8eece06ba3");
}

#[test]
fn debug_output_hides_the_token() {
    let zone = zone();
    let verified = verify(SESSION_TOKEN, &session_token_keys(), &expect(&zone)).unwrap();
    assert!(!format!("{verified:?}").contains("eyJ"));
}

#[test]
fn empty_claims_are_left_out() {
    let bare = Claims {
        scope: Some("".into()),
        target: Vec::new(),
        ..claims()
    };
    let written = serde_json::to_value(&bare).unwrap();
    let names: Vec<&String> = written.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "aud",
            "client_id",
            "exp",
            "iat",
            "iss",
            "jti",
            "root_sid",
            "sid",
            "sub",
            "sub_type",
            "use",
            "zone_id"
        ]
    );
}

#[test]
fn the_header_is_alg_kid_typ() {
    let token = signing_key().sign(&claims()).unwrap();
    let first = base64url::decode(token.split('.').next().unwrap()).unwrap();
    assert_eq!(String::from_utf8(first).unwrap(), header());
}

#[test]
fn any_changed_bit_is_refused() {
    let key = signing_key();
    let keys = keys_of(&key);
    let zone = zone();
    let token = key.sign(&claims()).unwrap().into_bytes();
    for position in 0..token.len() {
        for bit in 0..8 {
            let mut changed = token.clone();
            changed[position] ^= 1 << bit;
            let Ok(changed) = String::from_utf8(changed) else {
                continue;
            };
            assert!(
                verify(&changed, &keys, &expect(&zone)).is_err(),
                "bit {bit} of {position}"
            );
        }
    }
}

#[test]
fn a_token_has_exactly_three_parts() {
    let key = signing_key();
    let token = key.sign(&claims()).unwrap();
    let zone = zone();
    for bad in [
        "",
        ".",
        "..",
        "a.b",
        &format!("{token}."),
        &format!(".{token}"),
        "a.b.c.d",
    ] {
        assert_eq!(
            verify(bad, &keys_of(&key), &expect(&zone)).err(),
            Some(MandateError::Malformed),
            "{bad}"
        );
    }
}

#[test]
fn padding_is_refused() {
    let key = signing_key();
    let token = key.sign(&claims()).unwrap();
    let padded = format!("{token}==");
    let refused = verify(&padded, &keys_of(&key), &expect(&zone())).err();
    assert_eq!(refused, Some(MandateError::SignatureInvalid));
}

#[test]
fn an_overlong_token_is_refused_unread() {
    let key = signing_key();
    let wide = Claims {
        scope: Some("s".repeat(MAX_TOKEN_BYTES).into()),
        ..claims()
    };
    let payload = serde_json::to_string(&wide).unwrap();
    let token = sign_raw(&key, r#"{"alg":"ES256","kid":"k1"}"#, &payload);
    let refused = verify(&token, &keys_of(&key), &expect(&zone())).err();
    assert_eq!(refused, Some(MandateError::Malformed));
}

#[test]
fn an_overlong_mandate_is_not_signed() {
    let wide = Claims {
        scope: Some("s".repeat(MAX_TOKEN_BYTES).into()),
        ..claims()
    };
    assert_eq!(signing_key().sign(&wide), Err(SignError::TooLarge));
}

#[test]
fn only_es256_is_accepted() {
    let key = signing_key();
    let payload = serde_json::to_string(&claims()).unwrap();
    for alg in ["none", "HS256", "RS256", "es256", "ES384", ""] {
        let token = sign_raw(&key, &format!(r#"{{"alg":"{alg}","kid":"k1"}}"#), &payload);
        assert_eq!(
            verify(&token, &keys_of(&key), &expect(&zone())).err(),
            Some(MandateError::AlgorithmNotAllowed),
            "{alg}"
        );
    }
}

#[test]
fn a_header_extension_that_must_be_understood_is_refused() {
    let key = signing_key();
    let payload = serde_json::to_string(&claims()).unwrap();
    let token = sign_raw(
        &key,
        r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}"#,
        &payload,
    );
    let refused = verify(&token, &keys_of(&key), &expect(&zone())).err();
    assert_eq!(refused, Some(MandateError::Malformed));
}

#[test]
fn a_key_that_is_not_named_or_not_known_is_told_apart_from_a_bad_signature() {
    let key = signing_key();
    let payload = serde_json::to_string(&claims()).unwrap();
    for header in [r#"{"alg":"ES256"}"#, r#"{"alg":"ES256","kid":"k2"}"#] {
        let token = sign_raw(&key, header, &payload);
        let refused = verify(&token, &keys_of(&key), &expect(&zone())).err();
        assert_eq!(refused, Some(MandateError::UnknownKey), "{header}");
    }
}

#[test]
fn another_key_of_the_same_name_does_not_verify() {
    let token = signing_key().sign(&claims()).unwrap();
    let refused = verify(&token, &keys_of(&signing_key()), &expect(&zone())).err();
    assert_eq!(refused, Some(MandateError::SignatureInvalid));
}

#[test]
fn the_signature_is_judged_before_the_claims() {
    let expired = Claims {
        exp: Timestamp::from_seconds(ISSUED_AT - 1),
        ..claims()
    };
    let token = signing_key().sign(&expired).unwrap();
    let refused = verify(&token, &keys_of(&signing_key()), &expect(&zone())).err();
    assert_eq!(refused, Some(MandateError::SignatureInvalid));
}

#[test]
fn a_mandate_dies_at_its_expiry_without_leeway() {
    let now = expect(&zone()).now;
    assert_eq!(
        refusal_of(&Claims {
            exp: now,
            ..claims()
        }),
        Some(MandateError::Expired)
    );
    assert_eq!(
        refusal_of(&Claims {
            exp: now.plus_seconds(1),
            ..claims()
        }),
        None
    );
}

#[test]
fn a_mandate_from_the_future_is_refused_beyond_the_leeway() {
    let now = expect(&zone()).now;
    assert_eq!(
        refusal_of(&Claims {
            iat: now.plus_seconds(60),
            ..claims()
        }),
        None
    );
    let refused = refusal_of(&Claims {
        iat: now.plus_seconds(61),
        ..claims()
    });
    assert_eq!(refused, Some(MandateError::NotYetValid));
}

#[test]
fn not_before_is_honoured_though_never_minted() {
    let now = expect(&zone()).now.seconds();
    assert_eq!(refusal_with("nbf", Some((now + 60).into())), None);
    assert_eq!(
        refusal_with("nbf", Some((now + 61).into())),
        Some(MandateError::NotYetValid)
    );
}

#[test]
fn another_issuer_is_refused_down_to_the_slash() {
    let other = Claims {
        iss: format!("{ISSUER}/").into(),
        ..claims()
    };
    assert_eq!(refusal_of(&other), Some(MandateError::IssuerMismatch));
}

#[test]
fn another_audience_is_refused() {
    let other = Claims {
        aud: vec!["resource://inventory".into()],
        ..claims()
    };
    assert_eq!(refusal_of(&other), Some(MandateError::AudienceMismatch));
}

#[test]
fn one_of_several_audiences_suffices() {
    let several = Claims {
        aud: vec!["resource://inventory".into(), ISSUER.into()],
        ..claims()
    };
    assert_eq!(refusal_of(&several), None);
}

#[test]
fn an_audience_may_be_a_single_text() {
    assert_eq!(refusal_with("aud", Some(ISSUER.into())), None);
}

#[test]
fn another_zone_is_refused() {
    let other = Claims {
        zone_id: ZoneId::parse("zone-2").unwrap(),
        ..claims()
    };
    assert_eq!(refusal_of(&other), Some(MandateError::ZoneMismatch));
}

#[test]
fn a_use_that_is_not_expected_is_refused() {
    let key = signing_key();
    let token = key.sign(&claims()).unwrap();
    let zone = zone();
    let expect = Expectation {
        uses: &[MandateUse::Gateway],
        ..expect(&zone)
    };
    let refused = verify(&token, &keys_of(&key), &expect).err();
    assert_eq!(refused, Some(MandateError::UseNotAllowed));
}

#[test]
fn every_required_claim_is_required() {
    for claim in [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "jti",
        "zone_id",
        "client_id",
        "sid",
        "root_sid",
        "use",
        "sub_type",
    ] {
        assert_eq!(
            refusal_with(claim, None),
            Some(MandateError::ClaimInvalid(claim))
        );
    }
}

#[test]
fn a_claim_of_the_wrong_form_is_named() {
    use serde_json::json;
    for (claim, value) in [
        ("iss", json!("")),
        ("iss", json!(1)),
        ("sub", json!("")),
        ("aud", json!([])),
        ("aud", json!("")),
        ("aud", json!([ISSUER, ""])),
        ("aud", json!([ISSUER, 1])),
        ("exp", json!(1_767_226_500.0)),
        ("exp", json!("1767226500")),
        ("iat", json!(1_767_225_600.5)),
        ("nbf", json!("soon")),
        ("jti", json!("")),
        ("jti", json!("a b")),
        ("zone_id", json!("zone/1")),
        ("client_id", json!(7)),
        ("sid", json!("")),
        ("root_sid", json!("x".repeat(129))),
        ("use", json!("Session")),
        ("sub_type", json!("robot")),
        ("scope", json!("")),
        ("scope", json!(["a"])),
        ("target", json!("resource://a")),
        ("target", json!(["resource://a", ""])),
        ("agent_session_id", json!(1)),
        ("delegation_edge_id", json!({})),
        ("source_session_id", json!("a b")),
        ("target_session_id", json!([])),
        ("delegation_path", json!("edge-1")),
        ("delegation_path", json!([""])),
        ("delegation_chain", json!([{}])),
        ("delegation_chain", json!([{"application_id": 1}])),
        ("hop_count", json!(11)),
        ("hop_count", json!(-1)),
        ("hop_count", json!(1.0)),
        ("delegation_graph_epoch", json!(-1)),
    ] {
        assert_eq!(
            refusal_with(claim, Some(value.clone())),
            Some(MandateError::ClaimInvalid(claim)),
            "{claim}: {value}"
        );
    }
}

#[test]
fn an_optional_id_may_be_absent_null_or_empty() {
    for value in [None, Some(serde_json::Value::Null), Some("".into())] {
        assert_eq!(refusal_with("agent_session_id", value), None);
    }
}

#[test]
fn a_claim_that_occurs_twice_is_refused() {
    let key = signing_key();
    let payload = serde_json::to_string(&claims()).unwrap();
    let doubled = payload.replacen('{', r#"{"zone_id":"zone-2","#, 1);
    let refused = verify(
        &sign_raw(&key, header(), &doubled),
        &keys_of(&key),
        &expect(&zone()),
    )
    .err();
    assert_eq!(refused, Some(MandateError::Malformed));
}

#[test]
fn unknown_claims_are_ignored() {
    assert_eq!(refusal_with("region", Some("eu".into())), None);
}

#[test]
fn a_look_shows_what_the_caller_wrote() {
    assert_eq!(
        peek(GATEWAY_TOKEN),
        Ok(Peek {
            exp: Timestamp::from_seconds(1_767_226_500),
            zone_id: Some(ZoneId::parse("zone-9").unwrap()),
            client_id: Some(ApplicationId::parse("app-77").unwrap()),
        })
    );
}

#[test]
fn a_look_leaves_out_ids_of_the_wrong_form() {
    let payload = base64url::encode(r#"{"exp":5,"zone_id":"a b","client_id":7}"#);
    let seen = peek(&format!("x.{payload}.y")).unwrap();
    assert_eq!((seen.zone_id, seen.client_id), (None, None));
}

#[test]
fn a_look_needs_an_integer_expiry() {
    for payload in [
        "{}",
        r#"{"exp":0}"#,
        r#"{"exp":1.5}"#,
        r#"{"exp":1e3}"#,
        r#"{"exp":"5"}"#,
        r#"{"exp":null}"#,
        r#"{"exp":99999999999999999999}"#,
        r#"{"exp":5,"exp":6}"#,
        "[]",
        "not json",
    ] {
        let token = format!("x.{}.y", base64url::encode(payload));
        assert_eq!(peek(&token), Err(MandateError::Malformed), "{payload}");
    }
}

#[test]
fn a_look_is_strict_about_the_encoding() {
    let payload = base64url::encode(r#"{"exp":12}"#);
    assert!(peek(&format!("x.{payload}.y")).is_ok());
    for bad in [
        format!("x.{payload}=.y"),
        format!("x.{payload}"),
        format!("x.{payload}.y.z"),
    ] {
        assert_eq!(peek(&bad), Err(MandateError::Malformed), "{bad}");
    }
}

fn any_id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_.:-]{1,40}"
}

prop_compose! {
    fn any_hop()(
        application in any_id(),
        session in proptest::option::of(any_id()),
        edge in proptest::option::of(any_id()),
    ) -> DelegationHop {
        DelegationHop {
            application_id: ApplicationId::parse(&application).unwrap(),
            agent_session_id: session.map(|id| SessionId::parse(&id).unwrap()),
            delegation_edge_id: edge.map(|id| DelegationId::parse(&id).unwrap()),
        }
    }
}

prop_compose! {
    fn any_claims()(
        sub in "\\PC{1,40}",
        scope in proptest::option::of("\\PC{1,40}"),
        targets in proptest::collection::vec("\\PC{1,30}", 0..4),
        ids in proptest::collection::vec(any_id(), 6),
        delegation in proptest::option::of((any_id(), any_id(), any_id())),
        path in proptest::collection::vec(any_id(), 0..4),
        chain in proptest::collection::vec(any_hop(), 0..4),
        hop_count in 0..=10u32,
        delegation_graph_epoch in any::<u64>(),
        mandate_use in prop::sample::select(EVERY_USE),
        sub_type in prop::sample::select(&[SubjectType::Application, SubjectType::User][..]),
        lifetime in 20..100_000i64,
    ) -> Claims {
        let delegation = delegation.as_ref();
        Claims {
            sub: sub.into(),
            exp: Timestamp::from_seconds(ISSUED_AT + lifetime),
            jti: MandateId::parse(&ids[0]).unwrap(),
            client_id: ApplicationId::parse(&ids[1]).unwrap(),
            sid: AuthorityRecordId::parse(&ids[2]).unwrap(),
            root_sid: AuthorityRecordId::parse(&ids[3]).unwrap(),
            scope: scope.map(Arc::from),
            target: targets.iter().map(|target| ResourceIdentifier::new(target)).collect(),
            mandate_use,
            sub_type,
            agent_session_id: Some(SessionId::parse(&ids[4]).unwrap()),
            delegation_edge_id: delegation.map(|(edge, _, _)| edge.parse().unwrap()),
            source_session_id: delegation.map(|(_, source, _)| source.parse().unwrap()),
            target_session_id: delegation.map(|(_, _, target)| target.parse().unwrap()),
            delegation_path: path.iter().map(|edge| edge.parse().unwrap()).collect(),
            delegation_chain: chain,
            hop_count,
            delegation_graph_epoch,
            ..claims()
        }
    }
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_reads_back(claims in any_claims()) {
        let key = signing_key();
        let zone = zone();
        let token = key.sign(&claims).unwrap();
        let verified = verify(&token, &keys_of(&key), &expect(&zone)).unwrap();
        prop_assert_eq!(&**verified.claims(), &claims);
        prop_assert_eq!(peek(&token).unwrap().exp, claims.exp);
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_mandate(&bytes);
    }

    #[test]
    fn no_damaged_mandate_makes_the_readers_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut token = GATEWAY_TOKEN.as_bytes().to_vec();
        let mut payload = base64url::decode(GATEWAY_TOKEN.split('.').nth(1).unwrap()).unwrap();
        for (place, byte) in damage {
            let position = place.index(token.len());
            token[position] = byte;
            let position = place.index(payload.len());
            payload[position] = byte;
        }
        fuzz_mandate(&token);
        fuzz_mandate(&payload);
    }
}
