use caracal_core::id::{EventId, ZoneId};
use caracal_core::{ManualClock, RequestId, SeededRandom, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::bundle::{BundleError, BundleWriter};
use crate::chain::ChainHead;
use crate::event::{Decision, Event, EventType, Stamp};
use crate::note::NoteKey;

fn key() -> NoteKey {
    NoteKey::from_seed(&NoteKey::generate_seed(&SeededRandom::new(5))).unwrap()
}

fn zone() -> ZoneId {
    ZoneId::parse("zone-a").unwrap()
}

fn event(zone: &ZoneId, n: u64) -> String {
    let clock = ManualClock::at(Timestamp::from_seconds(1_767_225_600));
    let id = EventId::parse(&format!("event-{n}")).unwrap();
    let request = RequestId::accept(Some("req"), &clock, &SeededRandom::new(1));
    let stamp = Stamp::of(id, Timestamp::from_seconds(1_767_225_600));
    let event = Event::new(
        stamp,
        zone,
        &request,
        EventType::TokenExchange,
        Decision::Allow,
        "complete",
    );
    String::from_utf8(event.to_json().unwrap()).unwrap()
}

/// A bundle of `size` events, of which those in `removed` are gone, and the checkpoint at `earlier`.
fn bundle(size: u64, removed: &[u64], earlier: u64) -> (Vec<String>, Checkpoint) {
    let mut head = ChainHead::genesis(&zone());
    let mut links = Vec::new();
    let mut seen = Checkpoint::of(&head, Timestamp::from_seconds(1));
    for n in 1..=size {
        let data = event(&zone(), n);
        links.push((head.append(data.as_bytes()), data));
        if n == earlier {
            seen = Checkpoint::of(&head, Timestamp::from_seconds(1));
        }
    }
    let checkpoint = Checkpoint::of(&head, Timestamp::from_seconds(2));
    let note = checkpoint.sign(&key()).unwrap();
    let verifier = Checkpoint::verifier(&key(), &zone()).unwrap();
    let mut writer = BundleWriter::begin(Vec::new(), &checkpoint, &note, &verifier).unwrap();
    for (link, data) in links {
        if removed.contains(&link.seq) {
            writer.removed(link.seq, link.leaf).unwrap();
        } else {
            writer.event(link.seq, link.leaf, &data).unwrap();
        }
    }
    let text = String::from_utf8(writer.finish().unwrap()).unwrap();
    (text.lines().map(str::to_owned).collect(), seen)
}

fn check(lines: &[String], earlier: &[Checkpoint]) -> Result<Verified, VerifyError> {
    let key = Some(Checkpoint::verifier(&key(), &zone()).unwrap());
    let text = lines
        .iter()
        .flat_map(|line| [line, "\n"])
        .collect::<String>();
    verify(
        text.as_bytes(),
        &Trust {
            key,
            earlier: earlier.to_vec(),
        },
    )
}

#[test]
fn an_untouched_bundle_passes() {
    let (lines, seen) = bundle(5, &[], 3);
    let verified = check(&lines, &[seen]).unwrap();
    assert_eq!(
        (verified.size, verified.events, verified.removed),
        (5, 5, 0)
    );
    assert_eq!(
        (verified.first_event, verified.key_trusted),
        (Some(1), true)
    );
}

#[test]
fn events_that_retention_removed_leave_a_bundle_that_passes() {
    let (lines, seen) = bundle(6, &[1, 2, 5], 3);
    let verified = check(&lines, &[seen]).unwrap();
    assert_eq!((verified.events, verified.removed), (3, 3));
    assert_eq!(
        (verified.first_event, verified.removed_behind_first),
        (Some(3), 1)
    );
}

#[test]
fn an_empty_log_passes() {
    let (lines, seen) = bundle(0, &[], 0);
    assert_eq!(check(&lines, &[seen]).unwrap().events, 0);
}

#[test]
fn without_a_trusted_key_the_bundles_own_is_used_and_said() {
    let (lines, _) = bundle(2, &[], 0);
    let text = lines.join("\n");
    let verified = verify(text.as_bytes(), &Trust::default()).unwrap();
    assert!(!verified.key_trusted);
}

#[test]
fn a_bundle_signed_by_another_key_is_refused() {
    let (lines, _) = bundle(2, &[], 0);
    let other = NoteKey::from_seed(&NoteKey::generate_seed(&SeededRandom::new(6))).unwrap();
    let key = Some(Checkpoint::verifier(&other, &zone()).unwrap());
    let text = lines.join("\n");
    let refused = verify(
        text.as_bytes(),
        &Trust {
            key,
            earlier: Vec::new(),
        },
    );
    assert!(matches!(refused, Err(VerifyError::Checkpoint(_))));
}

#[test]
fn a_removed_line_is_named() {
    let (mut lines, _) = bundle(5, &[], 0);
    lines.remove(3);
    assert!(matches!(
        check(&lines, &[]),
        Err(VerifyError::Order {
            expected: 3,
            found: 4
        })
    ));
}

#[test]
fn two_swapped_lines_are_named() {
    let (mut lines, _) = bundle(5, &[], 0);
    lines.swap(2, 4);
    assert!(matches!(
        check(&lines, &[]),
        Err(VerifyError::Order {
            expected: 2,
            found: 4
        })
    ));
}

#[test]
fn a_cut_end_is_named() {
    let (mut lines, _) = bundle(5, &[], 0);
    lines.truncate(4);
    assert!(matches!(
        check(&lines, &[]),
        Err(VerifyError::Missing { first: 4, size: 5 })
    ));
}

#[test]
fn an_added_line_is_named() {
    let (mut lines, _) = bundle(2, &[], 0);
    lines.push(lines[2].replacen("\"seq\":2", "\"seq\":3", 1));
    assert!(matches!(
        check(&lines, &[]),
        Err(VerifyError::Order { expected: 3, .. })
    ));
}

#[test]
fn a_changed_event_is_named() {
    let (mut lines, _) = bundle(5, &[], 0);
    lines[4] = lines[4].replace("\"allow\"", "\"deny\"");
    assert!(matches!(
        check(&lines, &[]),
        Err(VerifyError::Changed { seq: 4 })
    ));
}

#[test]
fn an_event_replaced_together_with_its_leaf_does_not_reach_the_root() {
    let (mut lines, _) = bundle(5, &[], 0);
    let forged = event(&zone(), 99);
    let hash = leaf(&zone(), 4, &Hash::of(&[forged.as_bytes()]));
    lines[4] = format!(r#"{{"seq":4,"leaf":"{hash}","event":{forged}}}"#);
    assert!(matches!(check(&lines, &[]), Err(VerifyError::Root)));
}

#[test]
fn an_event_of_another_zone_is_named() {
    let (mut lines, _) = bundle(3, &[], 0);
    let foreign = event(&ZoneId::parse("zone-b").unwrap(), 9);
    let hash = leaf(&zone(), 2, &Hash::of(&[foreign.as_bytes()]));
    lines[2] = format!(r#"{{"seq":2,"leaf":"{hash}","event":{foreign}}}"#);
    assert!(matches!(
        check(&lines, &[]),
        Err(VerifyError::Changed { seq: 2 })
    ));
}

#[test]
fn a_rewritten_history_is_noticed_by_an_earlier_checkpoint() {
    let (lines, _) = bundle(5, &[], 0);
    let seen = Checkpoint {
        zone: zone(),
        size: 3,
        root: Hash::ZERO,
        at: Timestamp::default(),
    };
    assert!(matches!(
        check(&lines, &[seen]),
        Err(VerifyError::Rewritten { size: 3 })
    ));
}

#[test]
fn a_tree_shorter_than_an_earlier_checkpoint_is_noticed() {
    let (lines, _) = bundle(5, &[], 0);
    let (_, seen) = bundle(7, &[], 7);
    assert!(matches!(
        check(&lines, &[seen]),
        Err(VerifyError::Rewritten { size: 7 })
    ));
}

#[test]
fn a_header_that_contradicts_its_checkpoint_is_refused() {
    let (mut lines, _) = bundle(2, &[], 0);
    lines[0] = lines[0].replace("\"size\":2", "\"size\":1");
    assert!(matches!(
        check(&lines, &[]),
        Err(VerifyError::HeaderMismatch)
    ));
}

#[test]
fn a_line_with_an_unknown_member_is_refused() {
    let (mut lines, _) = bundle(3, &[], 0);
    lines[2] = lines[2].replacen("\"event\"", "\"evens\"", 1);
    assert!(matches!(
        check(&lines, &[]),
        Err(VerifyError::Line { seq: 2 })
    ));
}

#[test]
fn the_writer_takes_events_in_order_only() {
    let checkpoint = Checkpoint {
        zone: zone(),
        size: 2,
        root: Hash::ZERO,
        at: Timestamp::default(),
    };
    let verifier = Checkpoint::verifier(&key(), &zone()).unwrap();
    let begin = || BundleWriter::begin(Vec::new(), &checkpoint, "", &verifier).unwrap();
    assert!(matches!(
        begin().removed(2, Hash::ZERO),
        Err(BundleError::Order { .. })
    ));
    assert!(matches!(
        begin().event(1, Hash::ZERO, "{}\n"),
        Err(BundleError::NotJson(1))
    ));
    assert!(matches!(
        begin().event(1, Hash::ZERO, "{"),
        Err(BundleError::NotJson(1))
    ));
    assert!(begin().finish().is_err());
}

proptest! {
    /// Whatever one byte of a bundle becomes, either the bundle is refused or what it proves is the
    /// same (a space in the JSON frame, or a digit's case, changes no evidence).
    #[test]
    fn no_changed_byte_changes_the_evidence_unnoticed(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (lines, seen) = bundle(4, &[1], 2);
        let original = check(&lines, std::slice::from_ref(&seen)).unwrap();
        let mut bytes = lines.join("\n").into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let key = Some(Checkpoint::verifier(&key(), &zone()).unwrap());
        if let Ok(verified) = verify(bytes.as_slice(), &Trust { key, earlier: vec![seen] }) {
            prop_assert_eq!(verified, original);
        }
    }

    #[test]
    fn arbitrary_text_is_refused_without_panic(text in "[ -~\n]{0,200}") {
        prop_assert!(verify(text.as_bytes(), &Trust::default()).is_err());
    }
}
