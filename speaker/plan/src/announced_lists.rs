//! The addresses that this node announces, for the `Speaker` object.
//!
//! A list costs as much as this node has addresses. So it is made again only after something changed, and at
//! most once per `LIST_INTERVAL`, the interval at which the object is written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_crds::model::address_list::AddressList;
use fairlead_crds::model::range::IpRange;

use crate::Plan;

/// Minimum time between two lists.
const LIST_INTERVAL: Duration = Duration::from_secs(1);

/// What this node announces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnouncedList {
    /// Addresses announced by L2.
    pub l2: AddressList,
    /// Number of these addresses.
    pub l2_count: usize,
    /// Addresses with a route, by the names of the BGPPeers that receive it.
    pub bgp: BTreeMap<Vec<Arc<str>>, AddressList>,
    /// Number of prefixes announced to at least one peer.
    pub bgp_count: usize,
}

impl AnnouncedList {
    /// Returns the addresses with a route to a peer for which `carries` is true. Its second argument is true
    /// for IPv4.
    pub fn by_bgp(&self, carries: impl Fn(&str, bool) -> bool) -> AddressList {
        let ranges = self.bgp.iter().flat_map(|(peers, list)| {
            let is_carried = |is_ipv4| peers.iter().any(|peer| carries(peer, is_ipv4));
            let [v4, v6] = [true, false].map(is_carried);
            let ranges = list.ranges().iter().copied();
            ranges.filter(move |range: &IpRange| if range.first().is_ipv4() { v4 } else { v6 })
        });
        ranges.collect()
    }
}

/// The last list.
#[derive(Debug, Default)]
pub struct AnnouncedLists {
    current: Arc<AnnouncedList>,
    /// [`Plan::announced_version`] of the list.
    version: Option<u64>,
    not_before: Option<Instant>,
    timeout: Option<Instant>,
}

impl AnnouncedLists {
    /// Returns the list of a plan.
    pub fn update(&mut self, plan: &Plan, now: Instant) -> Arc<AnnouncedList> {
        self.timeout = None;
        if self.version != Some(plan.announced_version()) {
            match self.not_before.filter(|not_before| now < *not_before) {
                Some(not_before) => self.timeout = Some(not_before),
                None => {
                    self.version = Some(plan.announced_version());
                    self.not_before = Some(now + LIST_INTERVAL);
                    self.current = Arc::new(plan.announced_list());
                }
            }
        }
        self.current.clone()
    }

    /// Returns when to call [`AnnouncedLists::update`] although nothing changes.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }
}
