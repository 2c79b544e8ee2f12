use caracal_core::Timestamp;
use proptest::prelude::*;

use crate::log::segment::{
    HEADER_LEN, Header, Parsed, fuzz_segment, parse, push_record, scan, seal,
};
use crate::log::{Origin, Position, ProducerId};
use crate::sign::FrameSignature;

fn records(texts: &[String], base: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let signature = (n % 2 == 0).then_some(FrameSignature::from_bytes([9; 32]));
        push_record(
            &mut out,
            |out| {
                out.extend_from_slice(text.as_bytes());
                Ok::<(), ()>(())
            },
            |_| signature,
        )
        .unwrap();
    }
    let end = seal(&mut out, base);
    assert_eq!(end, base + u64::try_from(texts.len()).unwrap());
    out
}

#[test]
fn a_header_is_read_back_and_any_flipped_bit_is_noticed() {
    let header = Header {
        origin: Origin {
            producer: ProducerId::from_bytes([3; 16]),
            first: Position::new(5),
        },
        base: 9,
        created: Timestamp::from_seconds(77),
    };
    let bytes = header.encode();
    assert_eq!(Header::decode(&bytes), Some(header));
    for bit in 0..HEADER_LEN * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::decode(&flipped), None, "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_a_record_is_noticed() {
    let bytes = records(&["{\"id\":\"e\"}".to_owned()], 4);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(parse(&flipped), Parsed::Record(_)), "bit {bit}");
    }
}

#[test]
fn a_record_that_was_moved_is_damage() {
    let mut bytes = records(&["{\"id\":1}".to_owned()], 1);
    bytes.extend(records(&["{\"id\":2}".to_owned()], 3));
    let found = scan(&bytes, 1);
    assert_eq!(
        found
            .damage
            .iter()
            .map(|d| d.positions.clone())
            .collect::<Vec<_>>(),
        vec![2..3]
    );
    assert_eq!(found.end, 4);
}

proptest! {
    #[test]
    fn a_cut_anywhere_leaves_exactly_the_whole_records(
        texts in proptest::collection::vec("[ -~]{1,60}", 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = records(&texts, 10);
        let cut = cut.index(bytes.len() + 1);
        let found = scan(&bytes[..cut], 10);
        let mut whole = 0;
        let mut count = 10;
        while let Parsed::Record(record) = parse(&bytes[whole..]) {
            if whole + record.len > cut { break; }
            whole += record.len;
            count += 1;
        }
        prop_assert_eq!((found.intact, found.end), (whole, count));
        prop_assert!(found.damage.is_empty());
    }

    #[test]
    fn a_flipped_bit_costs_one_record_at_most(
        texts in proptest::collection::vec("[ -~]{1,60}", 2..8),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let mut bytes = records(&texts, 1);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let found = scan(&bytes, 1);
        let all = u64::try_from(texts.len()).unwrap();
        let lost: u64 = found.damage.iter().map(|d| d.positions.end - d.positions.start).sum();
        // The last record's damage cannot be told from a torn tail.
        prop_assert_eq!(lost + (all + 1 - found.end), 1);
    }

    #[test]
    fn arbitrary_bytes_are_read_without_panic(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        fuzz_segment(&data);
    }
}
