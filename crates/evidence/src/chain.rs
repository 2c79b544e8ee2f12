//! The order of a zone's events: a sequence number, a leaf of the zone's Merkle tree and a link to
//! the event before, for each.
//!
//! ```text
//! content  = SHA-256(JSON text)
//! leaf     = SHA-256(0x00, len(D1), D1, len(zone), zone, seq, content)   D1 "caracal-evidence-leaf/1"
//! link     = SHA-256(len(D2), D2, link before, leaf)                     D2 "caracal-evidence-link/1"
//! ```
//!
//! Lengths are 4 bytes, `seq` is 8, both big-endian; the link before the first is 32 zero bytes. The
//! leaf is RFC 6962's over everything behind the 0x00. The links let one page of events be checked by
//! itself; the tree, whose root is signed, is what nobody can rewrite.

use caracal_core::id::ZoneId;
use thiserror::Error;

use crate::merkle::{CorruptFrontier, Frontier, Hash, leaf_hash};

const LEAF: &[u8] = b"caracal-evidence-leaf/1";
const LINK: &[u8] = b"caracal-evidence-link/1";

/// The place of one event in its zone's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// 1 for the zone's first event, then without gaps.
    pub seq: u64,
    /// SHA-256 of the JSON text.
    pub content: Hash,
    /// The event's leaf in the zone's tree.
    pub leaf: Hash,
    /// The link, over this leaf and the link before.
    pub chain: Hash,
}

impl Link {
    /// The place of the event with this JSON text behind `before`.
    #[must_use]
    pub fn of(zone: &ZoneId, seq: u64, before: &Hash, data: &[u8]) -> Self {
        let content = Hash::of(&[data]);
        let leaf = leaf(zone, seq, &content);
        Self {
            seq,
            content,
            leaf,
            chain: link(before, &leaf),
        }
    }
}

/// The leaf of an event whose content hash is known.
#[must_use]
pub fn leaf(zone: &ZoneId, seq: u64, content: &Hash) -> Hash {
    let zone = zone.as_str().as_bytes();
    let seq = seq.to_be_bytes();
    leaf_hash(&[
        &length(LEAF),
        LEAF,
        &length(zone),
        zone,
        &seq,
        content.as_bytes(),
    ])
}

/// The link over a leaf and the link before it.
#[must_use]
pub fn link(before: &Hash, leaf: &Hash) -> Hash {
    Hash::of(&[&length(LINK), LINK, before.as_bytes(), leaf.as_bytes()])
}

/// The end of a zone's chain: what the next event is appended to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    zone: ZoneId,
    chain: Hash,
    frontier: Frontier,
}

/// A stored head is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stored head of a zone's audit chain is corrupt")]
pub struct CorruptHead;

impl From<CorruptFrontier> for CorruptHead {
    fn from(_: CorruptFrontier) -> Self {
        Self
    }
}

impl ChainHead {
    /// The empty chain of a zone.
    #[must_use]
    pub fn genesis(zone: &ZoneId) -> Self {
        Self {
            zone: zone.clone(),
            chain: Hash::ZERO,
            frontier: Frontier::new(),
        }
    }

    /// A stored head: the last event's number and link, and the tree's frontier.
    ///
    /// # Errors
    /// [`CorruptHead`] when the parts don't belong together.
    pub fn restore(
        zone: &ZoneId,
        seq: u64,
        chain: &[u8],
        frontier: &[u8],
    ) -> Result<Self, CorruptHead> {
        let chain = Hash::from_slice(chain).ok_or(CorruptHead)?;
        let frontier = Frontier::from_bytes(seq, frontier)?;
        Ok(Self {
            zone: zone.clone(),
            chain,
            frontier,
        })
    }

    /// Appends the event with this JSON text.
    pub fn append(&mut self, data: &[u8]) -> Link {
        let link = Link::of(&self.zone, self.seq() + 1, &self.chain, data);
        self.frontier.append(link.leaf);
        self.chain = link.chain;
        link
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> &ZoneId {
        &self.zone
    }

    /// The last event's number; 0 for the empty chain.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.frontier.size()
    }

    /// The last event's link.
    #[must_use]
    pub fn chain(&self) -> &Hash {
        &self.chain
    }

    /// The tree's frontier.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    // Zone ids and the constants are far below 4 GiB.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> ZoneId {
        ZoneId::parse(text).unwrap()
    }

    #[test]
    fn a_restored_head_goes_on_like_the_original() {
        let mut head = ChainHead::genesis(&zone("zone-a"));
        for n in 0..5 {
            head.append(format!("{{\"n\":{n}}}").as_bytes());
        }
        let (seq, chain) = (head.seq(), head.chain().as_bytes().to_vec());
        let frontier = head.frontier().to_bytes();
        let mut restored = ChainHead::restore(&zone("zone-a"), seq, &chain, &frontier).unwrap();
        assert_eq!(restored.append(b"{}"), head.append(b"{}"));
        assert_eq!(restored.root(), head.root());
        assert_eq!(
            ChainHead::restore(&zone("zone-a"), seq, &chain[1..], &frontier),
            Err(CorruptHead)
        );
        assert_eq!(
            ChainHead::restore(&zone("zone-a"), seq + 2, &chain, &frontier),
            Err(CorruptHead)
        );
    }

    #[test]
    fn a_leaf_depends_on_zone_place_and_content() {
        let base = Link::of(&zone("a"), 1, &Hash::ZERO, b"{}");
        assert_ne!(Link::of(&zone("b"), 1, &Hash::ZERO, b"{}").leaf, base.leaf);
        assert_ne!(Link::of(&zone("a"), 2, &Hash::ZERO, b"{}").leaf, base.leaf);
        assert_ne!(Link::of(&zone("a"), 1, &Hash::ZERO, b"{ }").leaf, base.leaf);
        let elsewhere = Link::of(&zone("a"), 1, &base.chain, b"{}");
        assert_eq!(elsewhere.leaf, base.leaf);
        assert_ne!(elsewhere.chain, base.chain);
    }

    #[test]
    fn the_format_is_pinned() {
        let link = Link::of(&zone("zone-a"), 1, &Hash::ZERO, b"{}");
        let content = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(link.content.to_string(), content);
        let mut leaf = vec![0, 0, 0, 0, 23];
        leaf.extend_from_slice(b"caracal-evidence-leaf/1");
        leaf.extend_from_slice(&[0, 0, 0, 6]);
        leaf.extend_from_slice(b"zone-a");
        leaf.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]);
        leaf.extend_from_slice(&hex::decode(content).unwrap());
        assert_eq!(link.leaf, Hash::of(&[&leaf]));
        let mut chain = vec![0, 0, 0, 23];
        chain.extend_from_slice(b"caracal-evidence-link/1");
        chain.extend_from_slice(&[0; 32]);
        chain.extend_from_slice(link.leaf.as_bytes());
        assert_eq!(link.chain, Hash::of(&[&chain]));
    }
}
