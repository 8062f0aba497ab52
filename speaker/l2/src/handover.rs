//! The handovers in progress: the addresses that another node takes over, and when each overlap ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Time for which this node keeps answering for an address after it starts to hand it over. Longer than both
/// nodes need to learn of the move, so that one of them answers at any time.
const OVERLAP: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
pub(crate) struct Handovers {
    ends: BTreeMap<IpAddr, Instant>,
    by_end: BTreeSet<(Instant, IpAddr)>,
}

impl Handovers {
    /// Starts the overlap of an address, or restarts it.
    pub(crate) fn start(&mut self, now: Instant, address: IpAddr) {
        self.cancel(address);
        self.ends.insert(address, now + OVERLAP);
        self.by_end.insert((now + OVERLAP, address));
    }

    /// Returns true if the address was being handed over.
    pub(crate) fn cancel(&mut self, address: IpAddr) -> bool {
        let end = self.ends.remove(&address);
        end.is_some_and(|end| self.by_end.remove(&(end, address)))
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.ends.contains_key(&address)
    }

    /// Returns when the next overlap ends.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.by_end.first().map(|(end, _)| *end)
    }

    /// Removes and returns an address whose overlap has ended.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<IpAddr> {
        let &(_, address) = self.by_end.first().filter(|(end, _)| *end <= now)?;
        self.cancel(address).then_some(address)
    }
}
