//! Who waits, and who goes with which read. No time, no I/O: every step is one call under one lock.

use std::collections::{BTreeMap, HashMap};

use caracal_core::id::ZoneId;
use tokio::sync::oneshot;

use super::Reply;
use crate::error::StoreError;

/// The callers that wait for the next read, in the order of their arrival.
#[derive(Debug)]
pub(super) struct Rounds<W> {
    waiting: BTreeMap<u64, (ZoneId, W)>,
    arrivals: u64,
    max_waiting: usize,
    max_zones: usize,
    closed: bool,
}

/// The callers of one read. Nobody can join any more.
#[derive(Debug)]
pub(super) struct Round<W> {
    zones: Vec<ZoneId>,
    /// Each with the index of its zone.
    callers: Vec<(usize, W)>,
}

impl<W> Rounds<W> {
    pub(super) fn new(max_waiting: usize, max_zones: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            arrivals: 0,
            max_waiting,
            max_zones,
            closed: false,
        }
    }

    /// A caller arrives; the number names its place.
    pub(super) fn arrive(&mut self, zone: ZoneId, caller: W) -> Result<u64, StoreError> {
        if self.closed {
            return Err(StoreError::Unavailable(
                "the barrier has stopped".to_owned(),
            ));
        }
        if self.waiting.len() >= self.max_waiting {
            return Err(StoreError::Unavailable(
                "too many callers wait at the barrier".to_owned(),
            ));
        }
        let number = self.arrivals;
        self.arrivals += 1;
        self.waiting.insert(number, (zone, caller));
        Ok(number)
    }

    /// A caller goes away, wherever it stands.
    pub(super) fn leave(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes those who wait into a round: in the order of their arrival, as many as one read has
    /// zones for. The others go with the next.
    pub(super) fn begin(&mut self) -> Round<W> {
        let mut round = Round {
            zones: Vec::new(),
            callers: Vec::new(),
        };
        let mut index: HashMap<ZoneId, usize> = HashMap::new();
        for (number, (zone, caller)) in std::mem::take(&mut self.waiting) {
            let known = index.get(&zone).copied();
            match known {
                Some(at) => round.callers.push((at, caller)),
                None if round.zones.len() < self.max_zones => {
                    index.insert(zone.clone(), round.zones.len());
                    round.callers.push((round.zones.len(), caller));
                    round.zones.push(zone);
                }
                None => {
                    self.waiting.insert(number, (zone, caller));
                }
            }
        }
        round
    }

    /// Sends everybody away and lets nobody in.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
    }
}

impl<W> Round<W> {
    pub(super) fn zones(&self) -> &[ZoneId] {
        &self.zones
    }

    pub(super) fn len(&self) -> usize {
        self.callers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }
}

impl Round<Reply> {
    /// Tells each caller its zone's position, or everybody why there is none.
    pub(super) fn answer(self, result: &Result<Vec<u64>, StoreError>) {
        for (zone, caller) in self.callers {
            tell(caller, result, zone);
        }
    }
}

fn tell(
    caller: oneshot::Sender<Result<u64, StoreError>>,
    result: &Result<Vec<u64>, StoreError>,
    zone: usize,
) {
    let answer = match result {
        Ok(positions) => positions
            .get(zone)
            .copied()
            .ok_or_else(|| StoreError::corrupt("zone_sequences", "a zone was not read")),
        Err(error) => Err(error.clone()),
    };
    // A caller that has gone does not hear it.
    let _ = caller.send(answer);
}
