use caracal_core::id::ZoneId;
use caracal_core::{Secret, SeededRandom};
use proptest::prelude::*;

use super::{MIN_BYTES, SealError, SealLocation};
use crate::kek::{Kek, KeyRing};

fn kek(seed: u8) -> Kek {
    Kek::from_bytes(Secret::new(crate::sha256(&[seed]))).unwrap()
}

fn ring(seed: u8) -> KeyRing {
    KeyRing::new(kek(seed), None)
}

fn zone(id: &str) -> ZoneId {
    ZoneId::parse(id).unwrap()
}

fn location<'a>(row: &'a str, zone: &'a ZoneId) -> SealLocation<'a> {
    SealLocation {
        table: "zone_keys",
        column: "private_key",
        row,
        zone: Some(zone),
    }
}

fn seal(ring: &KeyRing, location: &SealLocation<'_>, value: &[u8]) -> Vec<u8> {
    ring.seal(location, value, &SeededRandom::new(7)).unwrap()
}

#[test]
fn a_sealed_value_opens_in_its_place() {
    let zone = zone("z1");
    let place = location("k1", &zone);
    let sealed = seal(&ring(1), &place, b"private");
    assert_eq!(ring(1).open(&place, &sealed).unwrap().expose(), b"private");
    assert_eq!(sealed.len(), MIN_BYTES + b"private".len());
}

#[test]
fn an_empty_value_can_be_sealed() {
    let zone = zone("z1");
    let place = location("k1", &zone);
    assert!(
        ring(1)
            .open(&place, &seal(&ring(1), &place, b""))
            .unwrap()
            .expose()
            .is_empty()
    );
}

#[test]
fn the_stored_form_does_not_change() {
    let zone = zone("z1");
    let sealed = seal(&ring(1), &location("k1", &zone), b"private");
    assert_eq!(hex::encode(sealed), PINNED);
}

#[test]
fn a_value_moved_to_another_place_does_not_open() {
    let (here, there) = (zone("z1"), zone("z2"));
    let place = location("k1", &here);
    let sealed = seal(&ring(1), &place, b"private");
    for moved in [
        SealLocation {
            table: "providers",
            ..place
        },
        SealLocation {
            column: "public_key",
            ..place
        },
        SealLocation { row: "k2", ..place },
        SealLocation {
            zone: Some(&there),
            ..place
        },
        SealLocation {
            zone: None,
            ..place
        },
    ] {
        assert_eq!(
            ring(1).open(&moved, &sealed).err(),
            Some(SealError::Tampered),
            "{moved:?}"
        );
    }
}

#[test]
fn the_parts_of_a_place_cannot_be_shifted() {
    let zone = zone("z1");
    let place = SealLocation {
        table: "ab",
        column: "c",
        row: "d",
        zone: Some(&zone),
    };
    let sealed = seal(&ring(1), &place, b"private");
    let shifted = SealLocation {
        table: "a",
        column: "bc",
        ..place
    };
    assert_eq!(
        ring(1).open(&shifted, &sealed).err(),
        Some(SealError::Tampered)
    );
}

#[test]
fn a_changed_bit_does_not_open() {
    let zone = zone("z1");
    let place = location("k1", &zone);
    let sealed = seal(&ring(1), &place, b"private");
    for position in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[position] ^= 1;
        assert!(ring(1).open(&place, &changed).is_err(), "byte {position}");
    }
}

#[test]
fn the_key_is_chosen_by_its_fingerprint() {
    let zone = zone("z1");
    let place = location("k1", &zone);
    let sealed = seal(&ring(1), &place, b"private");
    assert_eq!(
        ring(2).open(&place, &sealed).err(),
        Some(SealError::UnknownKey)
    );
}

#[test]
fn during_a_rotation_the_previous_key_opens_and_the_current_one_seals() {
    let zone = zone("z1");
    let place = location("k1", &zone);
    let old = seal(&ring(1), &place, b"private");
    let rotating = KeyRing::new(kek(2), Some(kek(1)));
    assert_eq!(rotating.open(&place, &old).unwrap().expose(), b"private");
    assert!(!rotating.is_current(&old));
    let new = seal(&rotating, &place, b"private");
    assert!(rotating.is_current(&new));
    assert_eq!(ring(2).open(&place, &new).unwrap().expose(), b"private");
}

#[test]
fn two_seals_of_one_value_differ() {
    let zone = zone("z1");
    let random = SeededRandom::new(7);
    let first = ring(1)
        .seal(&location("k1", &zone), b"private", &random)
        .unwrap();
    let second = ring(1)
        .seal(&location("k1", &zone), b"private", &random)
        .unwrap();
    assert_ne!(first[13..], second[13..]);
}

#[test]
fn bytes_that_were_never_sealed_are_refused() {
    let zone = zone("z1");
    let place = location("k1", &zone);
    let sealed = seal(&ring(1), &place, b"private");
    let cut = &sealed[..MIN_BYTES - 1];
    let other_format = [b"CSS1", &sealed[4..]].concat();
    let other_version = [&sealed[..4], &[2], &sealed[5..]].concat();
    for bad in [&[][..], cut, &other_format, &other_version] {
        assert_eq!(ring(1).open(&place, bad).err(), Some(SealError::Malformed));
        assert!(!ring(1).is_current(bad));
    }
}

proptest! {
    #[test]
    fn no_other_place_opens_it(
        row in "[a-z0-9-]{1,12}",
        other_row in "[a-z0-9-]{1,12}",
        zone_id in "[a-z0-9-]{1,12}",
        other_zone in proptest::option::of("[a-z0-9-]{1,12}"),
        value in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (here, there) = (zone(&zone_id), other_zone.as_deref().map(zone));
        let place = location(&row, &here);
        let sealed = seal(&ring(1), &place, &value);
        let elsewhere = SealLocation { row: &other_row, zone: there.as_ref(), ..place };
        prop_assume!(elsewhere != place);
        prop_assert_eq!(ring(1).open(&elsewhere, &sealed).err(), Some(SealError::Tampered));
        let opened = ring(1).open(&place, &sealed).unwrap();
        prop_assert_eq!(opened.expose(), &value);
    }

    #[test]
    fn no_bytes_make_opening_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let zone = zone("z1");
        prop_assert!(ring(1).open(&location("k1", &zone), &bytes).is_err());
    }
}

/// What [`seal`] gave when the format was fixed.
const PINNED: &str = "43525356019c12cfdc04c74584da211e6a663bd37311aabecbfb046453cd3464cc37f62ff90a770727b1f668ac8003b05ea9648c378db221aa80f8d11c22079300abb30a3f477b69d2f6d0c233a1c4cb77febe023d2ec2a589198db4cbe2d2481500b76aa0f62ce09d58e003";
