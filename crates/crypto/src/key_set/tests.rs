use caracal_core::id::KeyId;
use serde_json::{Value, json};

use super::{KeySet, KeySetError, MAX_JWKS_BYTES, MAX_KEYS};
use crate::zone_key::{SigningKey, VerifyingKey};

const X: &str = "5EujfUSSD39RQOME9Bp2D3uRUCG5aAWauC3rcGS1JTU";
const Y: &str = "7cs48BT7Ao_WUlsMeWkZyIDcymHrMJspzhA8T7PBT1Y";

fn jwk() -> Value {
    json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": "k1", "alg": "ES256", "x": X, "y": Y})
}

fn read(keys: &[Value]) -> Result<KeySet, KeySetError> {
    KeySet::from_jwks_json(json!({ "keys": keys }).to_string().as_bytes())
}

#[test]
fn a_published_document_has_exactly_seven_members_per_key() {
    let kid = KeyId::parse("k1").unwrap();
    let set: KeySet = [VerifyingKey::from_coordinates(kid, X, Y).unwrap()]
        .into_iter()
        .collect();
    let expected = format!(
        r#"{{"keys":[{{"kty":"EC","crv":"P-256","use":"sig","kid":"k1","alg":"ES256","x":"{X}","y":"{Y}"}}]}}"#
    );
    assert_eq!(String::from_utf8(set.to_jwks_json()).unwrap(), expected);
}

#[test]
fn a_published_document_reads_back_in_order() {
    let set: KeySet = ["k2", "k1"]
        .into_iter()
        .map(|kid| SigningKey::generate(KeyId::parse(kid).unwrap()).unwrap())
        .map(|key| key.verifying_key().clone())
        .collect();
    let read = KeySet::from_jwks_json(&set.to_jwks_json()).unwrap();
    let points = |set: &KeySet| -> Vec<(String, Vec<u8>)> {
        set.iter()
            .map(|key| (key.kid().to_string(), key.point().to_vec()))
            .collect()
    };
    assert_eq!(points(&read), points(&set));
}

#[test]
fn a_key_may_leave_use_and_operations_out() {
    let mut key = jwk();
    key.as_object_mut().unwrap().remove("use");
    assert!(read(&[key]).is_ok());
}

#[test]
fn operations_may_be_empty_or_hold_verify() {
    for (operations, usable) in [
        (json!([]), true),
        (json!(["verify"]), true),
        (json!(["sign", "verify"]), true),
        (json!(["sign"]), false),
    ] {
        let mut key = jwk();
        key["key_ops"] = operations.clone();
        assert_eq!(read(&[key]).is_ok(), usable, "{operations}");
    }
}

#[test]
fn a_bad_key_is_skipped_and_the_good_one_kept() {
    for (member, value) in [
        ("kty", json!("RSA")),
        ("crv", json!("P-384")),
        ("alg", json!("ES384")),
        ("alg", Value::Null),
        ("use", json!("enc")),
        ("kid", json!("")),
        ("kid", json!("a b")),
        ("x", json!("")),
        ("x", json!(format!("{X}="))),
        ("y", json!(X)),
        ("y", json!(&Y[1..])),
        ("x", json!(7)),
    ] {
        let mut bad = jwk();
        bad[member] = value.clone();
        assert_eq!(
            read(&[bad.clone()]).err(),
            Some(KeySetError::NoUsableKey),
            "{member}: {value}"
        );
        let mut good = jwk();
        good["kid"] = json!("good");
        assert!(
            read(&[bad, good]).unwrap().get("good").is_some(),
            "{member}: {value}"
        );
    }
}

#[test]
fn of_two_keys_with_one_id_the_first_is_kept() {
    let other = SigningKey::generate(KeyId::parse("k1").unwrap()).unwrap();
    let mut second = jwk();
    second["x"] = json!(other.verifying_key().x());
    second["y"] = json!(other.verifying_key().y());
    let set = read(&[jwk(), second]).unwrap();
    assert_eq!(set.get("k1").unwrap().x(), X);
    assert_eq!(set.iter().count(), 1);
}

#[test]
fn anything_but_a_key_set_is_refused() {
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#, "null", r#"{"keys":[]"#] {
        assert_eq!(
            KeySet::from_jwks_json(bad.as_bytes()).err(),
            Some(KeySetError::Malformed)
        );
    }
    assert_eq!(read(&[]).err(), Some(KeySetError::NoUsableKey));
    assert_eq!(
        read(&[json!(1), Value::Null]).err(),
        Some(KeySetError::NoUsableKey)
    );
}

#[test]
fn size_and_number_of_keys_are_bounded() {
    let document = " ".repeat(MAX_JWKS_BYTES + 1);
    assert_eq!(
        KeySet::from_jwks_json(document.as_bytes()).err(),
        Some(KeySetError::TooLarge)
    );
    let keys: Vec<Value> = (0..MAX_KEYS * 2)
        .map(|number| {
            let mut key = jwk();
            key["kid"] = json!(format!("k{number}"));
            key
        })
        .collect();
    assert_eq!(read(&keys).unwrap().iter().count(), MAX_KEYS);
}
