//! What was sent and received on the current connection, by address family.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::Family;

/// Largest number of prefixes of a peer at a time that [`crate::Session::exceeds_expected_prefixes`] does not
/// report. A speaker discards all of them, so a router should send none, or a default route.
pub const EXPECTED_PREFIXES: usize = 1000;
/// Number of prefixes per [`WINDOW`] after which no UPDATE is looked up. It bounds the cost of a flood of
/// prefixes, and suffices to report a router that sends its whole table.
const MAX_LOOKUPS: usize = 10 * EXPECTED_PREFIXES;
/// Period of [`MAX_LOOKUPS`].
const WINDOW: Duration = Duration::from_secs(60);

/// The routes of one address family on an established session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyStatus {
    /// Number of prefixes that the peer has from this session ("PfxSnt" in FRR).
    pub sent: usize,
    /// Number of prefixes that the peer announced on this connection, including repetitions. The session
    /// discards them.
    pub received: u64,
    /// True if the End-of-RIB marker was sent: all initial routes are announced (RFC 4724 §2).
    pub end_of_rib_sent: bool,
    /// True if the peer sent the End-of-RIB marker.
    pub end_of_rib_received: bool,
}

/// Counts what the peer sends. A new connection starts at zero.
#[derive(Debug, Default)]
pub(super) struct ReceivedRoutes {
    ipv4: Received,
    ipv6: Received,
    /// Prefixes that the peer has announced and not withdrawn; empty once there were more than
    /// [`EXPECTED_PREFIXES`]. A prefix that was not looked up can be missing.
    present: BTreeSet<IpNet>,
    /// Lookups in the current window.
    lookups: usize,
    /// End of the current window.
    window: Option<Instant>,
    /// True if the peer has announced more than [`EXPECTED_PREFIXES`] prefixes at a time on this connection.
    exceeded: bool,
}

/// What the peer sent of one family.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Received {
    pub(super) prefixes: u64,
    pub(super) end_of_rib: bool,
}

impl ReceivedRoutes {
    pub(super) fn handle_announced(&mut self, now: Instant, family: Family, prefixes: &[IpNet]) {
        self.family_mut(family).prefixes += prefixes.len() as u64;
        if !self.may_look_up(now, prefixes.len()) {
            return;
        }
        for prefix in prefixes {
            if self.exceeded {
                return;
            }
            self.present.insert(*prefix);
            if self.present.len() > EXPECTED_PREFIXES {
                self.exceeded = true;
                self.present = BTreeSet::new();
            }
        }
    }

    pub(super) fn handle_withdrawn(&mut self, now: Instant, prefixes: &[IpNet]) {
        if !self.may_look_up(now, prefixes.len()) {
            return;
        }
        for prefix in prefixes {
            self.present.remove(prefix);
        }
    }

    pub(super) const fn exceeded(&self) -> bool {
        self.exceeded
    }

    /// Returns whether to look up this number of prefixes. If a window had too many, the next one begins with
    /// an empty `present`, because withdrawals that were not looked up left their prefixes in it.
    fn may_look_up(&mut self, now: Instant, count: usize) -> bool {
        if self.window.is_none_or(|end| now >= end) {
            if self.lookups > MAX_LOOKUPS {
                self.present.clear();
            }
            self.lookups = 0;
            self.window = now.checked_add(WINDOW);
        }
        // Decided before adding, so that the first UPDATE of a window is looked up, whatever its size.
        let may = self.lookups <= MAX_LOOKUPS;
        if may {
            self.lookups += count;
        }
        may
    }

    pub(super) fn handle_end_of_rib(&mut self, family: Family) {
        self.family_mut(family).end_of_rib = true;
    }

    pub(super) const fn family(&self, family: Family) -> Received {
        match family {
            Family::Ipv4Unicast => self.ipv4,
            Family::Ipv6Unicast => self.ipv6,
        }
    }

    const fn family_mut(&mut self, family: Family) -> &mut Received {
        match family {
            Family::Ipv4Unicast => &mut self.ipv4,
            Family::Ipv6Unicast => &mut self.ipv6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns different prefixes.
    fn prefixes(count: usize) -> Vec<IpNet> {
        (0..count).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap()).collect()
    }

    /// An UPDATE of 65,535 octets (RFC 8654) has room for more prefixes than a window.
    #[test]
    fn one_update_with_more_prefixes_than_a_window_is_reported() {
        let (mut received, now) = (ReceivedRoutes::default(), Instant::now());
        received.handle_announced(now, Family::Ipv4Unicast, &prefixes(MAX_LOOKUPS + 1));
        assert!(received.exceeded());
    }

    #[test]
    fn update_after_a_full_window_is_not_looked_up() {
        let (mut received, now) = (ReceivedRoutes::default(), Instant::now());
        let repeated = vec![prefixes(1)[0]; MAX_LOOKUPS + 1];
        received.handle_announced(now, Family::Ipv4Unicast, &repeated);
        received.handle_announced(now, Family::Ipv4Unicast, &prefixes(EXPECTED_PREFIXES + 1));
        assert!(!received.exceeded());
        received.handle_announced(now + WINDOW, Family::Ipv4Unicast, &prefixes(EXPECTED_PREFIXES + 1));
        assert!(received.exceeded());
    }
}
