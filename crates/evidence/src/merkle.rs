//! The Merkle tree of RFC 6962 §2.1: a hash over a list, from which nobody can take an element
//! without being noticed.
//!
//! The writer keeps only a [`Frontier`], the roots of the full subtrees, and appends in constant
//! time. Proofs are made from the leaf hashes and verified without them.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A SHA-256 hash; printed as lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Thirty-two zero bytes: what precedes the first link of a chain.
    pub const ZERO: Self = Self([0; 32]);

    /// From the raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From exactly 32 raw bytes.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// From 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// SHA-256 of these bytes.
    #[must_use]
    pub fn of_data(data: &[u8]) -> Self {
        Self::of(&[data])
    }

    /// SHA-256 of the concatenated parts. Parts have no borders: put lengths in.
    #[must_use]
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not 64 hex digits"))
    }
}

/// The hash of a leaf with this content.
#[must_use]
pub fn leaf_hash(content: &[&[u8]]) -> Hash {
    let mut parts: Vec<&[u8]> = Vec::with_capacity(content.len() + 1);
    parts.push(&[0]);
    parts.extend_from_slice(content);
    Hash::of(&parts)
}

/// The hash of a node above these two.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash::of(&[&[1], &left.0, &right.0])
}

/// The root of the empty tree.
#[must_use]
pub fn empty_root() -> Hash {
    Hash::of(&[])
}

/// What is needed to append to a tree and to know its root: the roots of its full subtrees, from the
/// largest to the smallest, one per bit of its size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

/// Stored bytes are no frontier of a tree of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stored Merkle frontier does not fit its tree's size")]
pub struct CorruptFrontier;

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn append(&mut self, leaf: Hash) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }

    /// The subtree roots, 32 bytes each; the size goes beside them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.peaks.iter().flat_map(|peak| peak.0).collect()
    }

    /// From the size and the bytes of [`Frontier::to_bytes`].
    ///
    /// # Errors
    /// [`CorruptFrontier`] when the bytes are not those of a tree of this size.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, CorruptFrontier> {
        let peaks: Vec<Hash> = bytes.chunks(32).filter_map(Hash::from_slice).collect();
        let fits = u32::try_from(peaks.len()) == Ok(size.count_ones());
        if fits && peaks.len() * 32 == bytes.len() {
            Ok(Self { size, peaks })
        } else {
            Err(CorruptFrontier)
        }
    }
}

/// The root over leaf hashes.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The proof that the leaf at `index` is in the tree over `leaves`; `None` when it is not.
#[must_use]
pub fn prove_inclusion(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let mut proof = Vec::new();
    let (mut leaves, mut index) = (leaves, index);
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if index < left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Whether `proof` shows that `leaf` is at `index` of the tree of this size and root (RFC 9162
/// §2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, expected: Hash, proof: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == expected
}

/// The proof that the tree over `leaves` continues the tree over its first `old` ones; `None` when
/// `old` is not in `1..=leaves.len()`.
#[must_use]
pub fn prove_consistency(leaves: &[Hash], old: usize) -> Option<Vec<Hash>> {
    if old == 0 || old > leaves.len() {
        return None;
    }
    let mut proof = Vec::new();
    let (mut leaves, mut old) = (leaves, old);
    let mut complete = true;
    while old < leaves.len() {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if old <= left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            old -= left.len();
            leaves = right;
            complete = false;
        }
    }
    if !complete {
        proof.push(root(leaves));
    }
    proof.reverse();
    Some(proof)
}

/// Whether `proof` shows that the tree (`new`, `new_root`) continues the tree (`old`, `old_root`)
/// (RFC 9162 §2.1.4.2). Any tree continues the empty one.
#[must_use]
pub fn verify_consistency(
    old: u64,
    old_root: Hash,
    new: u64,
    new_root: Hash,
    proof: &[Hash],
) -> bool {
    if old == 0 || old >= new {
        let same = old == 0 && old_root == empty_root() || old == new && old_root == new_root;
        return same && proof.is_empty();
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let mut proof = proof.iter();
    let start = if node == 0 {
        Some(&old_root)
    } else {
        proof.next()
    };
    let Some(start) = start.copied() else {
        return false;
    };
    let (mut old_hash, mut new_hash) = (start, start);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old_root && new_hash == new_root
}

/// The largest power of two below `len`, which is at least 2.
fn split(len: usize) -> usize {
    1 << (usize::BITS - 1 - (len - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The inputs and roots that Certificate Transparency implementations test with.
    const INPUTS: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaves() -> Vec<Hash> {
        INPUTS
            .iter()
            .map(|input| leaf_hash(&[&hex::decode(input).unwrap()]))
            .collect()
    }

    fn hashes(texts: &[&str]) -> Vec<Hash> {
        texts
            .iter()
            .map(|text| Hash::from_hex(text).unwrap())
            .collect()
    }

    #[test]
    fn the_empty_tree_hashes_nothing() {
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Frontier::new().root().to_string(), expected);
    }

    #[test]
    fn roots_match_the_certificate_transparency_vectors() {
        let mut frontier = Frontier::new();
        for (leaf, expected) in leaves().into_iter().zip(ROOTS) {
            frontier.append(leaf);
            assert_eq!(
                frontier.root().to_string(),
                expected,
                "size {}",
                frontier.size()
            );
        }
    }

    #[test]
    fn inclusion_proofs_match_the_certificate_transparency_vectors() {
        let leaves = leaves();
        assert_eq!(
            prove_inclusion(&leaves, 5).unwrap(),
            hashes(&[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ])
        );
        assert_eq!(
            prove_inclusion(&leaves[..3], 2).unwrap(),
            hashes(&["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"])
        );
    }

    #[test]
    fn consistency_proofs_match_the_certificate_transparency_vectors() {
        let leaves = leaves();
        assert_eq!(
            prove_consistency(&leaves, 6).unwrap(),
            hashes(&[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ])
        );
        assert_eq!(
            prove_consistency(&leaves[..5], 2).unwrap(),
            hashes(&[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ])
        );
    }

    fn tree(size: usize) -> Vec<Hash> {
        (0..size).map(|n| leaf_hash(&[&n.to_be_bytes()])).collect()
    }

    fn count(len: usize) -> u64 {
        u64::try_from(len).unwrap()
    }

    proptest! {
        #[test]
        fn a_frontier_that_was_stored_goes_on_like_one_that_was_not(size in 0usize..200, more in 0usize..20) {
            let leaves = tree(size + more);
            let mut frontier = Frontier::new();
            leaves[..size].iter().for_each(|leaf| frontier.append(*leaf));
            prop_assert_eq!(frontier.root(), root(&leaves[..size]));
            let mut stored = Frontier::from_bytes(count(size), &frontier.to_bytes()).unwrap();
            prop_assert_eq!(&stored, &frontier);
            leaves[size..].iter().for_each(|leaf| stored.append(*leaf));
            prop_assert_eq!(stored.root(), root(&leaves));
            prop_assert!(Frontier::from_bytes(count(size + 1), &frontier.to_bytes()).is_err() == ((size + 1).count_ones() != size.count_ones()));
        }

        #[test]
        fn an_inclusion_proof_holds_for_its_leaf_only(size in 1usize..80, index in any::<prop::sample::Index>(), other in any::<prop::sample::Index>()) {
            let leaves = tree(size);
            let (index, other) = (index.index(size), other.index(size));
            let proof = prove_inclusion(&leaves, index).unwrap();
            let top = root(&leaves);
            prop_assert!(verify_inclusion(leaves[index], count(index), count(size), top, &proof));
            prop_assert_eq!(verify_inclusion(leaves[other], count(index), count(size), top, &proof), other == index);
            prop_assert_eq!(verify_inclusion(leaves[index], count(other), count(size), top, &proof), other == index);
            prop_assert!(!verify_inclusion(leaves[index], count(index), count(size), leaf_hash(&[b"x"]), &proof));
            prop_assert_eq!(prove_inclusion(&leaves, size), None);
        }

        #[test]
        fn a_consistency_proof_holds_for_its_trees_only(size in 1usize..80, old in any::<prop::sample::Index>()) {
            let leaves = tree(size);
            let old = old.index(size) + 1;
            let proof = prove_consistency(&leaves, old).unwrap();
            let (old_root, new_root) = (root(&leaves[..old]), root(&leaves));
            prop_assert!(verify_consistency(count(old), old_root, count(size), new_root, &proof));
            let wrong = leaf_hash(&[b"x"]);
            prop_assert!(!verify_consistency(count(old), wrong, count(size), new_root, &proof));
            prop_assert!(!verify_consistency(count(old), old_root, count(size), wrong, &proof));
            let mut longer = proof;
            longer.push(wrong);
            prop_assert!(!verify_consistency(count(old), old_root, count(size), new_root, &longer));
        }
    }
}
