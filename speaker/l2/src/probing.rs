//! The addresses that this node has not announced yet, because it first asks whether another host uses them
//! (RFC 5227 section 2.1, RFC 4862 section 5.4), or because another host does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::Mac;

/// Number of probes (PROBE_NUM in RFC 5227 section 1.1).
const PROBES: u8 = 3;
/// Time from one probe to the next, and from the last one to the announcement. RFC 5227 section 1.1 waits for
/// 1 to 2 s, which a new Service would wait for its first client.
const INTERVAL: Duration = Duration::from_millis(200);
/// Time after a conflict until the address is probed again.
const RETRY: Duration = Duration::from_secs(30);

/// Maximum number of addresses that are probed in one [`BURST_WINDOW`], as for announcements.
const BURST: u32 = 256;
const BURST_WINDOW: Duration = Duration::from_millis(10);

/// The addresses being probed, and those that another host has. Empty at rest.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    probes: BTreeMap<IpAddr, Probe>,
    by_due: BTreeSet<(Instant, IpAddr)>,
    burst: Option<(Instant, u32)>,
}

#[derive(Debug)]
struct Probe {
    due: Instant,
    /// Probes sent in this series.
    sent: u8,
    /// The host that has the address. It is probed again nevertheless.
    claimant: Option<Mac>,
}

/// What is due for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbingStep {
    /// Send a probe on every interface.
    Send(IpAddr),
    /// No other host has the address. It is no longer probed.
    Free(IpAddr),
}

impl Probing {
    /// Begins to probe an address, or begins anew.
    pub(crate) fn start(&mut self, now: Instant, address: IpAddr) {
        let claimant = self.probes.get(&address).and_then(|probe| probe.claimant);
        self.insert(address, Probe { due: now, sent: 0, claimant });
    }

    /// Begins anew if the address is being probed or another host has it.
    pub(crate) fn restart(&mut self, now: Instant, address: IpAddr) {
        if self.contains(address) {
            self.start(now, address);
        }
    }

    /// Notes that another host has the address: it is probed again after [`RETRY`].
    pub(crate) fn block(&mut self, now: Instant, address: IpAddr, claimant: Option<Mac>) {
        self.insert(address, Probe { due: now + RETRY, sent: 0, claimant });
    }

    /// Returns true if the address was being probed, or another host had it.
    pub(crate) fn cancel(&mut self, address: IpAddr) -> bool {
        let probe = self.probes.remove(&address);
        probe.is_some_and(|probe| self.by_due.remove(&(probe.due, address)))
    }

    /// Returns true if this node may not use the address.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.probes.contains_key(&address)
    }

    /// Returns true if a probe of the current series was sent: what other hosts say about the address counts.
    pub(crate) fn listens_for(&self, address: IpAddr) -> bool {
        self.probes.get(&address).is_some_and(|probe| probe.sent > 0)
    }

    /// Returns the addresses that hosts with these link-layer addresses have.
    pub(crate) fn blocked_by(&self, macs: &BTreeSet<Mac>) -> Vec<IpAddr> {
        let blocked = |probe: &Probe| probe.claimant.is_some_and(|claimant| macs.contains(&claimant));
        self.probes.iter().filter(|(_, probe)| blocked(probe)).map(|(address, _)| *address).collect()
    }

    /// Returns when to call [`Self::pop`] next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let (due, _) = *self.by_due.first()?;
        match self.burst {
            Some((begin, count)) if count >= BURST => Some(due.max(begin + BURST_WINDOW)),
            _ => Some(due),
        }
    }

    /// Returns what is due. Returns `None` if nothing is, or if the current burst is full.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<ProbingStep> {
        self.burst = self.burst.filter(|(begin, _)| now < *begin + BURST_WINDOW);
        if self.burst.is_some_and(|(_, count)| count >= BURST) {
            return None;
        }
        let &(_, address) = self.by_due.first().filter(|(due, _)| *due <= now)?;
        let Probe { sent, claimant, .. } = *self.probes.get(&address)?;
        if sent >= PROBES {
            self.cancel(address);
            return Some(ProbingStep::Free(address));
        }
        // Counted from now: a late probe must not shorten the time to answer it.
        self.insert(address, Probe { due: now + INTERVAL, sent: sent + 1, claimant });
        self.burst.get_or_insert((now, 0)).1 += 1;
        Some(ProbingStep::Send(address))
    }

    fn insert(&mut self, address: IpAddr, probe: Probe) {
        self.by_due.insert((probe.due, address));
        if let Some(before) = self.probes.insert(address, probe)
            && self.probes.get(&address).is_some_and(|probe| probe.due != before.due)
        {
            self.by_due.remove(&(before.due, address));
        }
    }
}
