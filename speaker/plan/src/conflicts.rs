//! [`Conflicts`]: the addresses of this node that hosts use that are no speakers, as the status shows them.
//!
//! The responder reports a conflict at most once in ten seconds for each address. One that is not reported
//! again within `LIFETIME` has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use fairlead_l2::{Conflict, Mac};
use jiff::Timestamp;

/// How long a conflict lasts after the other host was seen last. Longer than the 30 s after which an address
/// is probed again.
const LIFETIME: Duration = Duration::from_secs(60);

/// A conflict that lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AddressConflict {
    pub address: IpAddr,
    /// Link-layer address of the other host; `None` if its messages do not contain it.
    pub mac: Option<Mac>,
    pub interface: String,
    /// True if this node does not answer for the address.
    pub is_left: bool,
    /// When the other host was first seen.
    pub since: Timestamp,
}

/// The conflicts that last. At most one for each address of this node.
#[derive(Clone, Debug, Default)]
pub struct Conflicts {
    by_address: BTreeMap<IpAddr, (AddressConflict, Instant)>,
}

impl fmt::Display for AddressConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mac, interface, .. } = self;
        match mac {
            Some(mac) => write!(f, "the host {} on {interface}", mac_text(*mac)),
            None => write!(f, "a host on {interface}, whose Ethernet address is not known,"),
        }
    }
}

/// Returns a link-layer address as text.
pub(crate) fn mac_text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

impl Conflicts {
    /// Handles a conflict that was seen at `now`, which is `at` by the clock. Returns the conflict if it is
    /// new: it has begun, another host takes part in it, or this node leaves the address to the other host.
    pub fn handle(&mut self, now: Instant, at: Timestamp, conflict: Conflict) -> Option<AddressConflict> {
        let Conflict { address, claimant: mac, interface, is_left } = conflict;
        let mut new = AddressConflict { address, mac, interface, is_left, since: at };
        if let Some((known, seen)) = self.by_address.get_mut(&address) {
            new.since = known.since;
            if *known == new {
                *seen = now;
                return None;
            }
        }
        self.by_address.insert(address, (new.clone(), now));
        Some(new)
    }

    /// Ends the conflict about an address that is free, or that this node no longer announces.
    pub fn remove(&mut self, address: IpAddr) {
        self.by_address.remove(&address);
    }

    /// Ends the conflicts whose hosts were not seen for `LIFETIME`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.by_address.retain(|_, (_, seen)| now < *seen + LIFETIME);
    }

    /// Returns when to call [`Self::handle_timeout`] next; `None` without conflicts.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.by_address.values().map(|(_, seen)| *seen + LIFETIME).min()
    }

    /// Returns the conflict about an address.
    pub fn get(&self, address: IpAddr) -> Option<&AddressConflict> {
        self.by_address.get(&address).map(|(conflict, _)| conflict)
    }

    /// Returns all conflicts, in the order of the addresses.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &AddressConflict> {
        self.by_address.values().map(|(conflict, _)| conflict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict(mac: u8, is_left: bool) -> Conflict {
        let claimant = Some([2, 0, 0, 0, 0, mac]);
        Conflict { address: [192, 0, 2, 1].into(), claimant, interface: "eth0".to_owned(), is_left }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn repeated_conflict_is_not_new_and_keeps_its_beginning() {
        let (start, mut conflicts) = (Instant::now(), Conflicts::default());
        let after = |seconds| start + Duration::from_secs(seconds);
        let text = "the host 02:00:00:00:00:aa on eth0";
        let new = conflicts.handle(start, at(0), conflict(0xaa, false)).unwrap();
        assert_eq!((new.to_string().as_str(), new.since), (text, at(0)));
        assert_eq!(conflicts.handle(after(10), at(10), conflict(0xaa, false)), None);
        let left = conflicts.handle(after(20), at(20), conflict(0xaa, true)).unwrap();
        assert_eq!((left.is_left, left.since), (true, at(0)));
        assert!(conflicts.handle(after(30), at(30), conflict(0xbb, true)).is_some(), "another host");
    }

    #[test]
    fn conflict_ends_60_s_after_the_host_was_last_seen() {
        let (start, mut conflicts) = (Instant::now(), Conflicts::default());
        assert_eq!(conflicts.poll_timeout(), None);
        conflicts.handle(start, at(0), conflict(0xaa, false));
        conflicts.handle(start + Duration::from_secs(10), at(10), conflict(0xaa, false));
        let end = start + Duration::from_secs(70);
        assert_eq!(conflicts.poll_timeout(), Some(end));
        conflicts.handle_timeout(end - Duration::from_millis(1));
        assert_eq!(conflicts.iter().len(), 1);
        conflicts.handle_timeout(end);
        assert_eq!((conflicts.iter().len(), conflicts.poll_timeout()), (0, None));
    }
}
