use caracal_core::{Secret, SeededRandom, Timestamp};
use proptest::prelude::*;

use super::{
    PresentedSignature, RequestSignature, RequestSignatureError, SignedRequest, sign, verify,
};
use crate::hmac_key::HmacKey;

const SIGNED_AT: i64 = 1_767_225_600;

fn key(hex: &str) -> HmacKey {
    HmacKey::from_hex(&Secret::new(hex.to_owned())).unwrap()
}

fn counting_key() -> HmacKey {
    key("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
}

fn now() -> Timestamp {
    Timestamp::from_seconds(SIGNED_AT)
}

fn request() -> SignedRequest<'static> {
    SignedRequest {
        method: "POST",
        path: "/oauth/2/token",
        body: b"grant_type=x",
    }
}

fn presented(signature: &RequestSignature) -> PresentedSignature<'_> {
    PresentedSignature {
        timestamp: &signature.timestamp,
        nonce: &signature.nonce,
        signature: &signature.signature,
    }
}

fn verify_at(
    timestamp: &str,
    nonce: &str,
    signature: &str,
    now: Timestamp,
) -> Result<String, RequestSignatureError> {
    let presented = PresentedSignature {
        timestamp,
        nonce,
        signature,
    };
    verify(&counting_key(), &request(), &presented, now).map(|nonce| nonce.as_str().to_owned())
}

/// A published vector: this signature belongs to this request.
fn assert_vector(
    key: &HmacKey,
    timestamp: &str,
    nonce: &str,
    request: &SignedRequest<'_>,
    signature: &str,
) {
    let presented = PresentedSignature {
        timestamp,
        nonce,
        signature,
    };
    let now = Timestamp::from_seconds(timestamp.parse().unwrap());
    assert_eq!(
        verify(key, request, &presented, now).unwrap().as_str(),
        nonce
    );
}

#[test]
fn a_gateway_exchange_verifies() {
    let body = "application_id=app-1&gateway_request_id=req-1&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&request_method=GET&request_path=%2Fv1%2Fitems&resource=resource%3A%2F%2Finventory&subject_token=aaa.bbb.ccc&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&zone_id=zone-1";
    assert_vector(
        &counting_key(),
        "1767225600",
        "nonce-0001",
        &SignedRequest {
            method: "POST",
            path: "/oauth/2/token",
            body: body.as_bytes(),
        },
        "c513e4f27c9e0c74641f5dfdfbae97eca496012288656d8d71dd567fcba24732",
    );
}

#[test]
fn an_exchange_with_a_hex_nonce_verifies() {
    let body = "application_id=app-77&gateway_request_id=req-0001&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&request_method=POST&request_path=%2Fv1%2Fitems&resource=resource%3A%2F%2Fledger&subject_token=aaa.bbb.ccc&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&zone_id=zone-9";
    assert_vector(
        &key(&"00112233445566778899aabbccddeeff".repeat(2)),
        "1767225600",
        &"0f".repeat(32),
        &SignedRequest {
            method: "POST",
            path: "/oauth/2/token",
            body: body.as_bytes(),
        },
        "59381c55427b32abac4eb9603ced8094a2d77e227703e4283cd8c9ac14af4667",
    );
}

#[test]
fn an_escaped_path_is_signed_as_sent() {
    assert_vector(
        &counting_key(),
        "1767225600",
        "nonce-0002",
        &SignedRequest {
            method: "GET",
            path: "/internal/policy/status/zone%2F1",
            body: b"",
        },
        "b49aecabd76436b8c9bd28af77698aac69fc2baa3b9b6c8f89a707a9396286a4",
    );
}

#[test]
fn policy_calls_verify() {
    let nonce = "0190f000-0000-7000-8000-0000000000ff";
    let body = r#"{"policy_set_id":"ps-1","version_id":"psv-1","manifest_sha256":"","policies":[],"input":{}}"#;
    assert_vector(
        &counting_key(),
        "1767225600",
        nonce,
        &SignedRequest {
            method: "POST",
            path: "/internal/policy/simulate",
            body: body.as_bytes(),
        },
        "9bcdf7ccb941872e843bee8221af0fff801090beb3237d7402bfe0aed6ac1d4e",
    );
    assert_vector(
        &counting_key(),
        "1767225600",
        nonce,
        &SignedRequest {
            method: "GET",
            path: "/internal/policy/status/zone-1",
            body: b"",
        },
        "7ef4ed17ea571d08514748c177d2cea46810f5c2909cea96c6be9436f79e348c",
    );
}

#[test]
fn a_lower_case_method_is_signed_in_upper_case() {
    assert_vector(
        &counting_key(),
        "1767323045",
        "req-1",
        &SignedRequest {
            method: "post",
            ..request()
        },
        "cb9015d1c604e9bed748dbea5e4ad11e72af9e90130c6d2358dceaecd2588ea1",
    );
}

#[test]
fn a_fresh_signature_verifies_and_hands_its_nonce_over() {
    let signature = sign(&counting_key(), &request(), now(), &SeededRandom::new(3));
    assert_eq!(signature.timestamp, "1767225600");
    assert_eq!(signature.nonce.len(), 64);
    let nonce = verify(&counting_key(), &request(), &presented(&signature), now()).unwrap();
    assert_eq!(nonce.as_str(), signature.nonce);
}

#[test]
fn a_signature_is_fresh_for_a_minute_either_way() {
    let signature = sign(&counting_key(), &request(), now(), &SeededRandom::new(3));
    for (skew, expected) in [
        (-61, Some(RequestSignatureError::Stale)),
        (-60, None),
        (60, None),
        (61, Some(RequestSignatureError::Stale)),
    ] {
        let at = now().plus_seconds(skew);
        let result = verify(&counting_key(), &request(), &presented(&signature), at);
        assert_eq!(result.err(), expected, "{skew}");
    }
}

#[test]
fn a_timestamp_is_decimal_digits() {
    let tag = "00".repeat(32);
    for bad in [
        "",
        "+1767225600",
        "-1",
        " 1767225600",
        "1767225600.0",
        "99999999999999999999",
    ] {
        let result = verify_at(bad, "nonce-1", &tag, now());
        assert_eq!(result, Err(RequestSignatureError::Malformed), "{bad:?}");
    }
}

#[test]
fn a_nonce_is_of_the_id_alphabet() {
    let tag = "00".repeat(32);
    for bad in ["", "a b", "a\nPOST", &"n".repeat(129)] {
        let result = verify_at("1767225600", bad, &tag, now());
        assert_eq!(result, Err(RequestSignatureError::Malformed), "{bad:?}");
    }
}

#[test]
fn a_signature_of_another_form_does_not_verify() {
    for bad in ["", "zz", "c513e4"] {
        let result = verify_at("1767225600", "nonce-1", bad, now());
        assert_eq!(result, Err(RequestSignatureError::Mismatch), "{bad:?}");
    }
}

#[test]
fn every_signed_part_matters() {
    let signature = sign(&counting_key(), &request(), now(), &SeededRandom::new(3));
    for other in [
        SignedRequest {
            method: "PUT",
            ..request()
        },
        SignedRequest {
            path: "/oauth/2/token/",
            ..request()
        },
        SignedRequest {
            body: b"grant_type=y",
            ..request()
        },
    ] {
        let result = verify(&counting_key(), &other, &presented(&signature), now());
        assert_eq!(result, Err(RequestSignatureError::Mismatch), "{other:?}");
    }
    let other_key = key(&"07".repeat(32));
    let result = verify(&other_key, &request(), &presented(&signature), now());
    assert_eq!(result, Err(RequestSignatureError::Mismatch));
}

proptest! {
    #[test]
    fn no_header_values_make_it_panic(
        timestamp in "\\PC{0,24}", nonce in "\\PC{0,24}", signature in "\\PC{0,70}",
    ) {
        let result = verify_at(&timestamp, &nonce, &signature, now());
        prop_assert!(result.is_err());
    }
}
