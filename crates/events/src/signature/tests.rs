use proptest::prelude::*;

use caracal_core::Secret;
use caracal_crypto::{HmacKey, sha256_hex};

use super::{canonical_bytes, is_authentic, signature};
use crate::fields::{Fields, SIGNATURE_FIELD};

const COUNTING: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const REVOKE: &str = "caracal.sessions.revoke";
const INVALIDATE: &str = "caracal.delegations.invalidate";
const POLICY: &str = "caracal.policy.invalidate";
const LIFECYCLE: &str = "caracal.agents.lifecycle";

fn key(hex: &str) -> HmacKey {
    HmacKey::from_hex(&Secret::new(hex.to_owned())).unwrap()
}

fn fields(entries: &[(&str, &str)]) -> Fields {
    Fields::from_entry(
        entries
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    )
}

/// A published vector: the signature of an entry under a key.
fn assert_signs(key_hex: &str, stream: &str, entries: &[(&str, &str)], expected: &str) {
    let fields = fields(entries);
    let key = key(key_hex);
    assert_eq!(signature(stream, &fields, &key), expected);
    assert!(is_authentic(
        stream,
        &fields.with(SIGNATURE_FIELD, expected),
        &key
    ));
}

#[test]
fn a_delegation_revocation_with_every_anchor() {
    let entries = [
        ("outbox_id", "0197a000-0000-7000-8000-000000000001"),
        (
            "dedupe_key",
            "delegation:0197a000-0000-7000-8000-0000000000dd:subject:0197a000-0000-7000-8000-0000000000bb",
        ),
        ("zone_id", "0197a000-0000-7000-8000-0000000000aa"),
        ("session_id", "0197a000-0000-7000-8000-0000000000bb"),
        ("agent_session_id", "0197a000-0000-7000-8000-0000000000cc"),
        ("delegation_edge_id", "0197a000-0000-7000-8000-0000000000dd"),
        ("reason", "delegation_revoked"),
    ];
    let canonical = canonical_bytes(REVOKE, &fields(&entries));
    assert_eq!(canonical.len(), 404);
    assert_eq!(
        sha256_hex(&canonical),
        "e413557af0b90f9e59aa47781a68c1211b87dff596779a158e7d995672b798e1"
    );
    assert_signs(
        COUNTING,
        REVOKE,
        &entries,
        "1d50a39cfe6561fa4299594232f04b302479e1c95148378a1177b5d7db2f903f",
    );
}

#[test]
fn an_epoch_message() {
    let entries = [
        ("affected_edges", "2"),
        (
            "dedupe_key",
            "edge_revoke:0197a000-0000-7000-8000-0000000000dd",
        ),
        ("edge_id", "0197a000-0000-7000-8000-0000000000dd"),
        ("epoch", "7"),
        ("event", "edge_revoke"),
        ("outbox_id", "0197a000-0000-7000-8000-000000000002"),
        ("zone_id", "0197a000-0000-7000-8000-0000000000aa"),
    ];
    assert_eq!(canonical_bytes(INVALIDATE, &fields(&entries)).len(), 271);
    assert_signs(
        COUNTING,
        INVALIDATE,
        &entries,
        "c8d537533ccd185054e8f8c5d92947170227c8901a2ab3ea00ccf16f883895b9",
    );
}

#[test]
fn a_policy_message_whose_version_is_absent() {
    let built = Fields::new()
        .with("outbox_id", "0197a000-0000-7000-8000-000000000003")
        .with("zone_id", "zone-a")
        .with("policy_set_id", "ps-1")
        .with_some("policy_set_version_id", None::<&str>);
    assert_eq!(
        signature(POLICY, &built, &key(COUNTING)),
        "c88193ce9373c443af8ebf0d28dbb828bcbec9f824458098be9d143ee0f66943"
    );
}

#[test]
fn values_are_not_escaped() {
    assert_signs(
        COUNTING,
        "s",
        &[("a", "é"), ("b", "x\ny")],
        "ad640b59e513bb936b4b8067e9995f297df31b4ee64eeea4d26f7d025f0842e0",
    );
}

#[test]
fn a_revocation_under_a_repeating_key() {
    assert_signs(
        &"00112233445566778899aabbccddeeff".repeat(2),
        REVOKE,
        &[
            ("zone_id", "zone-9"),
            ("session_id", "rec-1"),
            ("agent_session_id", "sess-2"),
            ("delegation_edge_id", "edge-3"),
            ("reason", "delegation_revoked"),
        ],
        "4b0fd700aa53333fa38516197049f328d4ec87e60579cc532d1ef260eb7ec34a",
    );
}

#[test]
fn a_terminated_session() {
    assert_signs(
        COUNTING,
        REVOKE,
        &[
            ("outbox_id", "01990000-0000-7000-8000-000000000001"),
            (
                "dedupe_key",
                "agent_terminate:01990000-0000-7000-8000-0000000000aa",
            ),
            ("zone_id", "zone-1"),
            ("session_id", "rec-1"),
            ("agent_session_id", "01990000-0000-7000-8000-0000000000aa"),
            ("reason", "requested"),
        ],
        "08c14e2dd09a55cb5ef4fe4d4369088b26fc485cc3bd6491177fb12a1a4aa0b4",
    );
}

#[test]
fn a_started_session_without_a_parent() {
    assert_signs(
        COUNTING,
        LIFECYCLE,
        &[
            ("outbox_id", "01990000-0000-7000-8000-000000000002"),
            ("dedupe_key", "spawn:01990000-0000-7000-8000-0000000000aa"),
            ("event", "spawn"),
            ("zone_id", "zone-1"),
            ("agent_session_id", "01990000-0000-7000-8000-0000000000aa"),
            ("parent_id", "null"),
            ("application_id", "app-1"),
        ],
        "d24c6cc975ebb0d6f86047c0600181b9bbb75a40a63ae07e82b26a623afe08ed",
    );
}

#[test]
fn a_message_with_a_list_as_json_text() {
    assert_signs(
        COUNTING,
        INVALIDATE,
        &[
            ("outbox_id", "01990000-0000-7000-8000-000000000003"),
            ("dedupe_key", "edge_expire:zone-1:7"),
            ("event", "edge_expire"),
            ("zone_id", "zone-1"),
            ("affected_edges", "2"),
            ("edge_ids", r#"["edge-1","edge-2"]"#),
            ("epoch", "7"),
        ],
        "4833e1319b1f8aa00be908e7a56659118d56acb6bdde86c267e563b907be75e0",
    );
}

#[test]
fn an_empty_value_is_signed() {
    assert_signs(
        &"a1b2c3d4e5f60718293a4b5c6d7e8f90".repeat(2),
        REVOKE,
        &[
            ("zone_id", "zn-orchard"),
            ("session_id", "ar-4410"),
            ("sid", "ar-4410"),
            ("root_sid", "ar-4400"),
            ("agent_session_id", "as-77"),
            ("delegation_edge_id", ""),
            ("reason", "operator"),
        ],
        "d47fa7bc011f124c16b28e31a699ab9edc93877bcc6ea202ed0241e0f65a4bea",
    );
}

#[test]
fn a_bare_epoch_message() {
    assert_signs(
        &"a1b2c3d4e5f60718293a4b5c6d7e8f90".repeat(2),
        INVALIDATE,
        &[
            ("zone_id", "zn-orchard"),
            ("epoch", "18"),
            ("event", "edge_revoked"),
        ],
        "5a33674441deb74498847049f9bcc58016635738be679240e3c05439fa93bd87",
    );
}

#[test]
fn a_record_revocation_by_an_administrator() {
    assert_signs(
        COUNTING,
        REVOKE,
        &[
            ("zone_id", "zone-1"),
            ("session_id", "ar-1"),
            ("reason", "admin"),
        ],
        "85242ecd2d41185e3e34f79c1ae03961898a1fb213247d73ba211fb5193da893",
    );
}

#[test]
fn a_policy_activation_and_an_archive() {
    let archived = [
        ("outbox_id", "0190f000-0000-7000-8000-0000000000aa"),
        ("policy_set_id", "ps-1"),
        ("zone_id", "zone-1"),
    ];
    let activated = [&archived[..], &[("policy_set_version_id", "psv-1")]].concat();
    assert_signs(
        COUNTING,
        POLICY,
        &activated,
        "f94ab91b2d128ca0297b43e53bb59d87e6cf92666ef3bcab99a2d3e11cac627a",
    );
    assert_signs(
        COUNTING,
        POLICY,
        &archived,
        "9bfd9e37caefa2d1234ed5ba00d31af68c9584597d565b3c5ecd83ad75872d52",
    );
}

#[test]
fn a_revoked_grant() {
    assert_signs(
        &format!("{}01", "00".repeat(31)),
        REVOKE,
        &[
            ("zone_id", "z1"),
            ("session_id", "ar-1"),
            ("reason", "grant_revoked"),
            ("grant_id", "g-1"),
            ("outbox_id", "ob-1"),
        ],
        "27c7f12bb102e74f60d112119c1ab4a48bfdff4eec249e656039ea8677342fe9",
    );
}

#[test]
fn an_upper_case_signature_is_read() {
    let message = fields(&[("zone_id", "zone-1")]);
    let signed = signature(REVOKE, &message, &key(COUNTING)).to_uppercase();
    assert!(is_authentic(
        REVOKE,
        &message.with(SIGNATURE_FIELD, signed),
        &key(COUNTING)
    ));
}

#[test]
fn a_missing_or_malformed_signature_is_refused() {
    let message = fields(&[("zone_id", "zone-1")]);
    assert!(!is_authentic(REVOKE, &message, &key(COUNTING)));
    for bad in ["", "zz", "85242ecd"] {
        let message = message.clone().with(SIGNATURE_FIELD, bad);
        assert!(!is_authentic(REVOKE, &message, &key(COUNTING)), "{bad}");
    }
}

#[test]
fn an_entry_moved_to_another_stream_is_refused() {
    let message = fields(&[("zone_id", "zone-1"), ("epoch", "7")]);
    let signed = signature(INVALIDATE, &message, &key(COUNTING));
    assert!(!is_authentic(
        REVOKE,
        &message.with(SIGNATURE_FIELD, signed),
        &key(COUNTING)
    ));
}

proptest! {
    #[test]
    fn any_changed_value_is_refused(
        values in proptest::collection::btree_map("[a-z_]{1,8}", "[ -~]{0,12}", 1..6),
        changed in any::<prop::sample::Index>(),
        suffix in "[ -~]{1,4}",
    ) {
        let mut entries: Vec<(String, String)> = values
            .into_iter()
            .filter(|(name, _)| name != SIGNATURE_FIELD)
            .collect();
        prop_assume!(!entries.is_empty());
        let signed = signature(REVOKE, &Fields::from_entry(entries.clone()), &key(COUNTING));
        let place = changed.index(entries.len());
        entries[place].1.push_str(&suffix);
        let tampered = Fields::from_entry(entries).with(SIGNATURE_FIELD, signed);
        prop_assert!(!is_authentic(REVOKE, &tampered, &key(COUNTING)));
    }

    #[test]
    fn the_order_of_fields_does_not_matter(
        values in proptest::collection::btree_map("[a-z_]{1,8}", "[ -~]{0,12}", 0..6),
    ) {
        let forward = Fields::from_entry(values.clone());
        let backward = Fields::from_entry(values.into_iter().rev());
        prop_assert_eq!(canonical_bytes("s", &forward), canonical_bytes("s", &backward));
    }
}
