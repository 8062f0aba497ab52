//! The configuration of a cluster and its queries.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::range::IpRange;
use crate::model::selector::any_or_empty;
use crate::model::service::pool_of_nth;

pub use crate::model::advertisement::{AnnounceWhen, BgpAdvertisement, L2Advertisement, OnConflict};
pub use crate::model::community::Community;
pub use crate::model::labels::Labels;
pub use crate::model::peer::{
    BfdProfile, GATEWAY_V4, GATEWAY_V6, LinkBandwidth, Peer, PeerAddress, PeerAsn, SecretRef, TcpAo,
    TcpAoAlgorithm,
};
pub use crate::model::pool::{Closed, Pool, PoolSelection, Reclaim, ServiceAllocation, SharingScope};

/// The configuration of a cluster. Maps are keyed by object name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `IPAddressPool` objects.
    pub pools: BTreeMap<String, Pool>,
    /// `IPAddressPool` objects that are refused, with their names, labels and valid ranges. No addresses are
    /// allocated from them, and [`Config::pool_of`] does not search them. Services keep addresses of these
    /// pools, and the addresses remain announced.
    pub refused_pools: BTreeMap<String, Pool>,
    /// `IPAddressPool` objects in force that another instance uses; see [`Config::keep_class`].
    pub other_pools: BTreeMap<String, Pool>,
    /// `L2Advertisement` objects.
    pub l2_advertisements: BTreeMap<String, L2Advertisement>,
    /// `BGPAdvertisement` objects, with their community aliases replaced by values.
    pub bgp_advertisements: BTreeMap<String, BgpAdvertisement>,
    /// `BGPPeer` objects, with the parameters of their BFD profiles.
    pub peers: BTreeMap<String, Peer>,
    /// Data for the queries. `Lookup::default()` in a configuration that was not resolved from objects, as in
    /// tests.
    pub lookup: Lookup,
}

/// Disjoint ranges with the names of their pools, by first address.
pub(crate) type PoolRanges = BTreeMap<IpAddr, (IpRange, String)>;

/// Data that the queries of a [`Config`] need beyond the objects. [`crate::resolve::resolve`] fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// All ranges with the names of their pools, by first address; `None` in a configuration that was not
    /// resolved from objects. Then queries search the pools one by one.
    ranges: Option<PoolRanges>,
    /// Pairs of a `BGPAdvertisement` and a pool that it selects but must not announce. The condition of the
    /// advertisement contains the reason.
    pub withheld: BTreeSet<(String, String)>,
}

impl Config {
    /// Returns the pool in force that contains `ip`. Takes logarithmic time after [`Config::index`], which
    /// has to be called again after each change of `pools` except by [`Config::apply`].
    pub fn pool_of(&self, ip: IpAddr) -> Option<&Pool> {
        match &self.lookup.ranges {
            Some(ranges) => {
                let (_, (range, pool)) = ranges.range(..=ip).next_back()?;
                if range.contains(ip) { self.pools.get(pool) } else { None }
            }
            None => self.pools.values().find(|pool| pool.ranges.iter().any(|range| range.contains(ip))),
        }
    }

    /// Returns the pool with this name, in force or refused.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name).or_else(|| self.refused_pools.get(name))
    }

    /// Returns the pool of the `n`th address of a Service, given the value of the `ip-allocated-from-pool`
    /// annotation of the Service. An address remains in the pool it was allocated from after edits of that
    /// pool, even if another pool contains it now, until the controller moves it.
    pub fn pool_of_held(&self, ip: IpAddr, n: usize, allocated_from: Option<&str>) -> Option<&Pool> {
        let named = allocated_from.and_then(|names| self.pool(pool_of_nth(names, n)));
        named.or_else(|| self.pool_of(ip))
    }

    /// Returns the L2 advertisements that cover an address of `pool` for a Service with these labels, sorted
    /// by name.
    pub fn l2_for<'a>(
        &'a self,
        pool: &'a Pool,
        service: &'a Labels,
    ) -> impl Iterator<Item = &'a L2Advertisement> {
        self.l2_advertisements
            .values()
            .filter(|ad| ad.pools.covers(pool) && any_or_empty(&ad.service_selectors, service))
    }

    /// Returns the BGP advertisements that cover an address of `pool` for a Service with these labels, sorted
    /// by name.
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

    /// Removes the pools of all load balancer classes but `class` from those that allocate. The controller of
    /// one instance uses only its own pools. Speakers do not call this: an address stays announced if its
    /// pool changes its class.
    pub fn keep_class(&mut self, class: Option<&str>) {
        self.refused_pools.retain(|_, pool| pool.class.as_deref() == class);
        let pools = std::mem::take(&mut self.pools).into_iter();
        (self.pools, self.other_pools) = pools.partition(|(_, pool)| pool.class.as_deref() == class);
    }

    /// Builds the index for [`Config::pool_of`].
    pub fn index(&mut self) {
        self.lookup.ranges = Some(self.pools.values().flat_map(ranges_of).collect());
    }

    /// Puts a pool in force, or with `None` out of force. Returns the previous version.
    pub(crate) fn set_pool(&mut self, name: &str, pool: Option<Pool>) -> Option<Pool> {
        let previous = self.pools.remove(name);
        if let Some(ranges) = &mut self.lookup.ranges {
            for range in previous.iter().flat_map(|pool| &pool.ranges) {
                // Another pool may have put a range with the same start in force.
                if ranges.get(&range.first()).is_some_and(|(_, owner)| owner == name) {
                    ranges.remove(&range.first());
                }
            }
            ranges.extend(pool.iter().flat_map(ranges_of));
        }
        self.pools.extend(pool.map(|pool| (name.to_owned(), pool)));
        previous
    }

    /// Returns the ranges of the pools in force after [`Config::index`].
    pub(crate) fn ranges(&self) -> &PoolRanges {
        static NONE: PoolRanges = PoolRanges::new();
        self.lookup.ranges.as_ref().unwrap_or(&NONE)
    }

    fn is_withheld(&self, ad: &BgpAdvertisement, pool: &Pool) -> bool {
        !self.lookup.withheld.is_empty()
            && self.lookup.withheld.contains(&(ad.name.clone(), pool.name.clone()))
    }
}

fn ranges_of(pool: &Pool) -> impl Iterator<Item = (IpAddr, (IpRange, String))> {
    pool.ranges.iter().map(|range| (range.first(), (*range, pool.name.clone())))
}
