//! Recomputes a zone's chain from the stored bytes.
//!
//! After a finding the check goes on from what is stored, so that one change is found where it was
//! made and not at every event behind it.

use caracal_core::id::ZoneId;
use caracal_evidence::merkle::Frontier;
use caracal_evidence::{ChainHead, Checkpoint, Hash, chain};
use thiserror::Error;

use crate::ledger::ChainRow;

/// What is wrong with an event or with the chain at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Finding {
    /// The text is not the one that was stored.
    #[error("the event's text or leaf was changed")]
    Altered,
    /// The link does not lead here from the event before.
    #[error("the event does not follow the one before it")]
    Unlinked,
    /// Events before this one are gone.
    #[error("events before this one are missing")]
    Gap,
    /// The chain is shorter than it was.
    #[error("the last events of the chain are missing")]
    Truncated,
    /// The head says something else than the events.
    #[error("the chain does not end in its head")]
    WrongHead,
    /// An event is behind the head.
    #[error("the event is behind the chain's head")]
    Stray,
    /// The signed root is another one.
    #[error("the events are not those of the signed checkpoint")]
    WrongRoot,
    /// The latest checkpoint does not verify with this role's key.
    #[error("the latest checkpoint is not signed with this role's key")]
    Unsigned,
    /// Rows that this program can't have written.
    #[error("the chain can't be read")]
    Unreadable,
}

/// Which counter a finding counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An event is not what was stored.
    Mismatch,
    /// The chain is not the one that was made.
    Break,
}

impl Finding {
    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::Altered => Fault::Mismatch,
            _ => Fault::Break,
        }
    }
}

/// The chain so far.
#[derive(Debug)]
pub(super) struct ChainCheck<'a> {
    zone: &'a ZoneId,
    /// The last event's number.
    last: u64,
    /// The last event's link; `None` when it is missing.
    link: Option<Hash>,
    /// The tree; `None` when not every leaf is known.
    tree: Option<Frontier>,
    signed: Option<Checkpoint>,
    found: Vec<(u64, Finding)>,
}

impl<'a> ChainCheck<'a> {
    /// Of all events.
    pub(super) fn from_the_first(zone: &'a ZoneId) -> Self {
        Self {
            zone,
            last: 0,
            link: Some(Hash::ZERO),
            tree: Some(Frontier::new()),
            signed: None,
            found: Vec::new(),
        }
    }

    /// Of the events behind `seq`, which `anchor` should be.
    pub(super) fn behind(zone: &'a ZoneId, seq: u64, anchor: Option<&ChainRow>) -> Self {
        let anchor = anchor.filter(|row| row.seq == seq);
        let mut check = Self {
            last: seq,
            link: anchor.and_then(|row| row.chain),
            tree: None,
            ..Self::from_the_first(zone)
        };
        if check.link.is_none() {
            check.found.push((seq + 1, Finding::Gap));
        }
        check
    }

    /// There is a checkpoint; `None` when it does not verify.
    pub(super) fn expect(&mut self, signed: Option<Checkpoint>) {
        if signed.is_none() {
            self.found.push((self.last, Finding::Unsigned));
        }
        self.signed = signed;
    }

    /// The head must not be before where a sweep or a checkpoint has seen the chain already.
    pub(super) fn end_is_behind(&mut self, seen: u64, head: &ChainHead) {
        let signed = self.signed.as_ref().map_or(0, |signed| signed.size);
        if head.seq() < seen.max(signed) {
            self.found.push((head.seq(), Finding::Truncated));
        }
    }

    /// The next event.
    pub(super) fn row(&mut self, row: &ChainRow) {
        if row.seq != self.last + 1 {
            self.found.push((row.seq, Finding::Gap));
            (self.link, self.tree) = (None, None);
        }
        self.last = row.seq;
        let before = std::mem::replace(&mut self.link, row.chain);
        let Some(leaf) = row.leaf else {
            self.tree = None;
            return self.found.push((row.seq, Finding::Altered));
        };
        if let Some(data) = &row.data
            && chain::leaf(self.zone, row.seq, &Hash::of_data(data.as_bytes())) != leaf
        {
            self.found.push((row.seq, Finding::Altered));
        }
        if before.is_some_and(|before| Some(chain::link(&before, &leaf)) != row.chain) {
            self.found.push((row.seq, Finding::Unlinked));
        }
        if let Some(tree) = &mut self.tree {
            tree.append(leaf);
            let signed = self.signed.as_ref();
            if signed.is_some_and(|is| is.size == tree.size() && is.root != tree.root()) {
                self.found.push((row.seq, Finding::WrongRoot));
            }
        }
    }

    /// All events up to the head were read; `stray` is one behind it.
    pub(super) fn finish(&mut self, head: &ChainHead, stray: Option<u64>) {
        if let Some(seq) = stray {
            self.found.push((seq, Finding::Stray));
        }
        if self.last < head.seq() {
            return self.found.push((head.seq(), Finding::Truncated));
        }
        let links = self.last > head.seq() || self.link.is_none_or(|link| link == *head.chain());
        let tree = self.tree.as_ref();
        let fits = tree.is_none_or(|tree| tree.root() == head.root());
        if !links || !fits {
            self.found.push((head.seq(), Finding::WrongHead));
        }
        // Without every leaf the head's tree still speaks for a checkpoint of the same size.
        let signed = self.signed.as_ref();
        if tree.is_none()
            && signed.is_some_and(|is| is.size == head.seq() && is.root != head.root())
        {
            self.found.push((head.seq(), Finding::WrongRoot));
        }
    }

    /// The number of the last event that was read.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// What was found since this was last asked.
    pub(super) fn take_found(&mut self) -> Vec<(u64, Finding)> {
        std::mem::take(&mut self.found)
    }
}
