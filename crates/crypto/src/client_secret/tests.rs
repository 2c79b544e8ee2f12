use caracal_core::{Secret, SeededRandom};

use super::{
    MAX_SECRET_BYTES, Peppers, SecretHashError, SecretKind, hash_chosen, is_slow, verify_slow,
};
use crate::kek::{Kek, KeyRing};

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn kek(seed: u8) -> Kek {
    Kek::from_bytes(Secret::new(crate::sha256(&[seed]))).unwrap()
}

fn peppers(seed: u8) -> Peppers {
    Peppers::derive(&KeyRing::new(kek(seed), None)).unwrap()
}

/// A PHC string of our parameters with a salt of the bytes 0 to 15.
fn phc(hash: &str) -> String {
    format!("$argon2id$v=19$m=65536,t=3,p=2$AAECAwQFBgcICQoLDA0ODw${hash}")
}

#[test]
fn generated_secrets_carry_their_prefix_and_256_bits() {
    let random = SeededRandom::new(5);
    for (kind, prefix) in [
        (SecretKind::Application, "cs_"),
        (SecretKind::Workload, "ws_"),
        (SecretKind::AdminToken, "cat_"),
    ] {
        let generated = kind.generate(&random);
        let text = generated.expose().strip_prefix(prefix).unwrap();
        assert_eq!(text.len(), 43);
        assert_ne!(generated.expose(), kind.generate(&random).expose());
    }
}

#[test]
fn a_generated_secret_verifies_against_its_keyed_hash() {
    let generated = SecretKind::Application.generate(&SeededRandom::new(5));
    let stored = peppers(1).hash_generated(&generated);
    assert!(stored.starts_with("hmac1$"), "{stored}");
    assert!(peppers(1).verify_keyed(&stored, &generated));
    assert!(!peppers(1).verify_keyed(&stored, &secret("cs_other")));
}

#[test]
fn a_keyed_hash_needs_its_pepper() {
    let stored = peppers(1).hash_generated(&secret("cs_secret"));
    assert!(!peppers(2).verify_keyed(&stored, &secret("cs_secret")));
    let renamed = peppers(2).hash_generated(&secret("x"));
    let name = renamed.split('$').nth(1).unwrap();
    let forged = stored.replace(stored.split('$').nth(1).unwrap(), name);
    assert!(!peppers(2).verify_keyed(&forged, &secret("cs_secret")));
}

#[test]
fn during_a_rotation_old_hashes_verify_and_are_outdated() {
    let stored = peppers(1).hash_generated(&secret("cs_secret"));
    let rotating = Peppers::derive(&KeyRing::new(kek(2), Some(kek(1)))).unwrap();
    assert!(rotating.verify_keyed(&stored, &secret("cs_secret")));
    assert!(rotating.is_outdated(&stored));
    assert!(!rotating.is_outdated(&rotating.hash_generated(&secret("cs_secret"))));
}

#[test]
fn a_ring_knows_the_hashes_of_its_own_keys() {
    let stored = peppers(1).hash_generated(&secret("cs_secret"));
    let rotating = Peppers::derive(&KeyRing::new(kek(2), Some(kek(1)))).unwrap();
    assert!(rotating.knows(&stored) && rotating.is_hash_of(&stored, &secret("cs_secret")));
    assert!(!rotating.is_hash_of(&stored, &secret("cs_another")));
    assert!(!peppers(2).knows(&stored) && !peppers(2).is_hash_of(&stored, &secret("cs_secret")));
    assert!(!peppers(1).knows("no hash"));
}

#[test]
fn a_slow_hash_is_never_outdated_by_a_rotation() {
    assert!(!peppers(1).is_outdated(&phc("iedae7qCnUWQbRjupR8danLyOuikhouhE7DEHmvUExI")));
}

#[test]
fn damaged_stored_text_never_verifies() {
    let stored = peppers(1).hash_generated(&secret("cs_secret"));
    for bad in [
        "",
        "hmac1$",
        "hmac1$$",
        "hmac2$a$b",
        &stored[..stored.len() - 1],
        &stored[1..],
    ] {
        assert!(!peppers(1).verify_keyed(bad, &secret("cs_secret")), "{bad}");
    }
}

#[test]
fn slow_hashes_match_the_published_vectors() {
    let issued = format!("cs_{}", "A".repeat(43));
    for (chosen, hash) in [
        (
            "s3cret-value",
            "iedae7qCnUWQbRjupR8danLyOuikhouhE7DEHmvUExI",
        ),
        (
            "caracal-client-secret",
            "ZWKNd6LOakqT3r+7lWfMv9Y1FsqIIG/xDLBm+WXzF3U",
        ),
        (&issued, "qCml8G+c2fM9UNW5G/gD/Etnurk4hT5Bmd8AYprbAVM"),
    ] {
        assert!(verify_slow(&phc(hash), &secret(chosen)), "{chosen}");
    }
    assert!(!verify_slow(
        &phc("iedae7qCnUWQbRjupR8danLyOuikhouhE7DEHmvUExI"),
        &secret("s3cret-valuf")
    ));
}

#[test]
fn a_chosen_secret_verifies_against_its_slow_hash() {
    let stored = hash_chosen(&secret("correct horse"), &SeededRandom::new(5)).unwrap();
    assert!(
        stored.starts_with("$argon2id$v=19$m=65536,t=3,p=2$"),
        "{stored}"
    );
    assert!(is_slow(&stored));
    assert!(verify_slow(&stored, &secret("correct horse")));
}

#[test]
fn other_parameters_are_not_run() {
    let hash = "iedae7qCnUWQbRjupR8danLyOuikhouhE7DEHmvUExI";
    let ours = phc(hash);
    for (parameter, other) in [
        ("m=65536", "m=4194304"),
        ("t=3", "t=4000000000"),
        ("p=2", "p=1"),
        ("v=19", "v=16"),
        ("argon2id", "argon2i"),
    ] {
        let stored = ours.replace(parameter, other);
        assert!(!verify_slow(&stored, &secret("s3cret-value")), "{stored}");
    }
}

#[test]
fn a_chosen_secret_is_neither_empty_nor_endless() {
    for bad in [String::new(), "x".repeat(MAX_SECRET_BYTES + 1)] {
        let result = hash_chosen(&secret(&bad), &SeededRandom::new(5));
        assert_eq!(result, Err(SecretHashError::WrongLength));
    }
}
