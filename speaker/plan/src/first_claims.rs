//! Which addresses this node probes before it announces them, and which it leaves to another host.
//!
//! A *first announcement* is that of an address that no speaker announced before, as far as this node knows.
//! Another host may use such an address, so it is probed first (RFC 5227 section 2.1, RFC 4862 section 5.4).
//! A take-over is not: it must not wait, and the owner before has probed the address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::reason::NotAnnouncedReason;

/// The addresses that speakers announced, and those that this node is to announce and does not yet.
#[derive(Debug, Default)]
pub(crate) struct FirstClaims {
    /// First announcements are probed.
    enabled: bool,
    /// The addresses that a speaker announced since a Service has them, or may have announced.
    known: BTreeSet<IpAddr>,
    /// The addresses for which this node does not answer although it owns them.
    pending: BTreeMap<IpAddr, Pending>,
    /// Those that were found to be free since the last election.
    confirmed: BTreeSet<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Probing,
    /// Another host has the address.
    InUse,
}

impl FirstClaims {
    pub(crate) fn enable(&mut self) {
        self.enabled = true;
    }

    /// Returns true if this node must probe an address that it begins to announce.
    pub(crate) fn must_probe(&self, address: IpAddr) -> bool {
        self.enabled && !self.known.contains(&address)
    }

    /// Notes the result of an election. `is_held`: a Service has the address; `is_announced`: a speaker
    /// announces it, or may do so.
    pub(crate) fn handle_election(&mut self, address: IpAddr, is_held: bool, is_announced: bool) {
        if !is_held {
            self.known.remove(&address);
        } else if is_announced {
            self.known.insert(address);
        }
    }

    pub(crate) fn begin_probing(&mut self, address: IpAddr) {
        self.pending.insert(address, Pending::Probing);
    }

    /// Notes that another host has an address that this node announces or probes.
    pub(crate) fn leave(&mut self, address: IpAddr) {
        self.confirmed.remove(&address);
        self.pending.insert(address, Pending::InUse);
    }

    /// Notes that no other host has an address. Returns false if this node did not wait for it.
    pub(crate) fn confirm(&mut self, address: IpAddr) -> bool {
        self.pending.remove(&address).is_some() && self.confirmed.insert(address)
    }

    /// Returns true once after [`Self::confirm`].
    pub(crate) fn take_confirmed(&mut self, address: IpAddr) -> bool {
        self.confirmed.remove(&address)
    }

    /// Notes that this node is no longer to announce an address. If another host may have it, its next
    /// announcement is a first one again.
    pub(crate) fn cancel(&mut self, address: IpAddr) {
        if self.pending.remove(&address).is_some() {
            self.known.remove(&address);
        }
        self.confirmed.remove(&address);
    }

    /// Returns why this node does not answer for an address that it owns; `None` if it does.
    pub(crate) fn reason(&self, address: IpAddr) -> Option<NotAnnouncedReason> {
        self.pending.get(&address).map(|pending| match pending {
            Pending::Probing => NotAnnouncedReason::AddressProbing,
            Pending::InUse => NotAnnouncedReason::AddressInUse,
        })
    }

    pub(crate) fn is_pending(&self, address: IpAddr) -> bool {
        self.pending.contains_key(&address)
    }

    /// Returns the number of addresses for which this node does not answer although it owns them.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }
}
