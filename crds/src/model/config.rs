//! The configuration of a cluster and its queries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::range::IpRange;
use crate::model::selector::any_or_empty;
use crate::model::service::pool_of_nth;

pub use crate::model::advertisement::{BgpAdvertisement, Community, L2Advertisement};
pub use crate::model::labels::Labels;
pub use crate::model::peer::{BfdProfile, Peer, PeerAddress, PeerAsn, SecretRef};
pub use crate::model::pool::{Closed, Pool, PoolSelection, Reclaim, ServiceAllocation, SharingScope};

/// Everything the cluster's configuration objects say, validated, by object name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// From `IPAddressPool` objects.
    pub pools: BTreeMap<String, Pool>,
    /// `IPAddressPool` objects that are refused, with name, labels and those ranges that can be read. Nothing is given
    /// from them and no address is looked up in them. Who holds addresses of one keeps them, and they stay announced.
    pub refused_pools: BTreeMap<String, Pool>,
    /// From `L2Advertisement` objects.
    pub l2_advertisements: BTreeMap<String, L2Advertisement>,
    /// From `BGPAdvertisement` objects; communities are already looked up.
    pub bgp_advertisements: BTreeMap<String, BgpAdvertisement>,
    /// From `BGPPeer` objects; BFD profiles are already looked up.
    pub peers: BTreeMap<String, Peer>,
    /// What lookups need beyond that; `Lookup::default()` in a configuration made by hand.
    pub lookup: Lookup,
}

/// What lookups need beyond the objects. [`crate::resolve::resolve`] fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// All ranges with their pool, sorted; `None` in a configuration made by hand, whose pools are searched
    /// one by one.
    ranges: Option<Vec<(IpRange, String)>>,
    /// `(BGPAdvertisement, pool)` that would fit by name or label but must not be announced, with the reason in
    /// the verdict of the advertisement.
    pub withheld: BTreeSet<(String, String)>,
}

impl Config {
    /// The pool that `ip` belongs to. Takes logarithmic time in a configuration that came from
    /// [`crate::resolve::resolve`]; whoever changes `pools` afterwards must call [`Config::index`] again.
    pub fn pool_of(&self, ip: IpAddr) -> Option<&Pool> {
        match &self.lookup.ranges {
            Some(ranges) => {
                let after = ranges.partition_point(|(range, _)| range.first() <= ip);
                let (range, pool) = ranges.get(after.checked_sub(1)?)?;
                if range.contains(ip) { self.pools.get(pool) } else { None }
            }
            None => self.pools.values().find(|pool| pool.ranges.iter().any(|range| range.contains(ip))),
        }
    }

    /// The pool of this name, in force or refused.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name).or_else(|| self.refused_pools.get(name))
    }

    /// The pool of an address that a Service holds, the `n`th of its addresses, given the Service's
    /// `ip-allocated-from-pool` annotation: what is held of a pool stays with it after the pool was edited, even where
    /// another pool has the address now, until the controller says otherwise.
    pub fn pool_of_held(&self, ip: IpAddr, n: usize, allocated_from: Option<&str>) -> Option<&Pool> {
        let named = allocated_from.and_then(|names| self.pool(pool_of_nth(names, n)));
        named.or_else(|| self.pool_of(ip))
    }

    /// L2 advertisements that cover a Service with these labels and an address of `pool`, by name.
    pub fn l2_for<'a>(
        &'a self,
        pool: &'a Pool,
        service: &'a Labels,
    ) -> impl Iterator<Item = &'a L2Advertisement> {
        self.l2_advertisements
            .values()
            .filter(|ad| ad.pools.covers(pool) && any_or_empty(&ad.service_selectors, service))
    }

    /// BGP advertisements that cover a Service with these labels and an address of `pool`, by name.
    pub fn bgp_for<'a>(
        &'a self,
        pool: &'a Pool,
        service: &'a Labels,
    ) -> impl Iterator<Item = &'a BgpAdvertisement> {
        self.bgp_advertisements.values().filter(|ad| {
            ad.pools.covers(pool)
                && any_or_empty(&ad.service_selectors, service)
                && !self.is_withheld(ad, pool)
        })
    }

    /// Builds the index that makes [`Config::pool_of`] fast.
    pub fn index(&mut self) {
        let mut ranges: Vec<_> = self
            .pools
            .values()
            .flat_map(|pool| pool.ranges.iter().map(|range| (*range, pool.name.clone())))
            .collect();
        ranges.sort();
        self.lookup.ranges = Some(ranges);
    }

    fn is_withheld(&self, ad: &BgpAdvertisement, pool: &Pool) -> bool {
        !self.lookup.withheld.is_empty()
            && self.lookup.withheld.contains(&(ad.name.clone(), pool.name.clone()))
    }
}
