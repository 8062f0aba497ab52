//! Which Service holds which address of which pool. Pure.
//!
//! In: validated pools, the facts of a Service that matter ([`AllocationRequest`]), claims, and the time.
//! Out: addresses ([`Holding`]) or a typed refusal ([`AllocationRefusal`]), and the changes of addresses
//! ([`AddressChange`]).
//!
//! [`Ipam`] is a composite. Each part owns its fields. Operations over the parts are in files of their own:
//!
//! | part | owns | operations |
//! |---|---|---|
//! | `pools`, `pool_state`, `space` | pools, their free and shared addresses | `pool_changes` |
//! | `open_pools`, `pool_index`, `shared_pools`, over `pool_set` | the pools that a Service may get an address of, in order | – |
//! | `ledger` | holders by address, addresses by holder | `holders`, `retention`, `joining` |
//! | `usage` | counts, holders and claims by pool | – |
//! | `reservations` | addresses that only one Service may take | `reserve` |
//! | `orphans` | pools that disappeared with all others while in use | – |
//! | `others` | the Services of other load balancer classes that show addresses | – |
//! | `claim_records` | what each claim has reserved | `claims` |
//! | `node_networks` | the addresses of Nodes, which no Service gets, and their Pod ranges | – |
//! | `service_ranges` | the ranges of cluster IPs | – |
//! | `changes` | changes since the last [`Ipam::take_changes`] | – |
//!
//! `admission` and `sharing` are the rules for one pool and one pair of Services. `eligibility` lists the
//! obstacles between a Service and a pool, `selection` chooses addresses, `allocate` gives them to the
//! Service, and `diagnosis` finds the [`AllocationRefusal`] if there are none. `holding`, `request` and
//! `refusal` are the values that go in and out.
//!
//! Order of calls: [`Ipam::advance`] sets the time; [`Ipam::set_pools`] changes the pools; [`Ipam::keep`]
//! adopts or checks again what a Service holds; then `assign` and `allocate` choose addresses, and
//! [`Ipam::release`] frees them. After each, [`Ipam::take_changes`] returns the affected addresses.
//!
//! No operation walks addresses, Services or pools. Each costs the logarithm of their numbers. A refusal of a
//! Service that names no pool also costs the number of pools with a `serviceAllocation` that admit it.
//!
//! Pools in force do not overlap. Every held address is held of one pool. That pool may have been edited
//! since and no longer contain the address: then the address is *retained*, see [`Ipam::keep`].

mod admission;
mod allocate;
mod changes;
mod claim_records;
mod claims;
mod diagnosis;
mod eligibility;
mod holders;
mod holding;
mod joining;
mod ledger;
mod node_networks;
mod open_pools;
mod orphans;
mod others;
mod pool_changes;
mod pool_index;
mod pool_set;
mod pool_state;
mod pools;
mod refusal;
mod request;
mod reservations;
mod reserve;
mod retention;
mod selection;
mod service_ranges;
mod shared_pools;
mod sharing;
mod space;
mod usage;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Pool, Reclaim};
pub use fairlead_crds::model::family::Family;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

pub use admission::NotAdmitted;
pub(crate) use admission::admits;
pub use changes::AddressChange;
pub use claim_records::Claimed;
pub(crate) use claim_records::ClaimsByService;
pub use eligibility::Obstacle;
pub use holding::{Held, Holding, Retained};
pub use node_networks::{NodeChange, NodeNetwork};
pub use others::OtherService;
pub use pool_changes::PoolChanges;
pub(crate) use refusal::list_pools;
pub use refusal::{AllocationRefusal, ReservedFor};
pub use request::{AllocationRequest, Families, ServiceClaims};
pub use reserve::Released;
pub use service_ranges::service_ranges;
pub use sharing::{Port, Sharing, SharingConflict, SharingGroup};
pub use usage::PoolCounts;

use changes::Changes;
use claim_records::ClaimRecords;
use ledger::Ledger;
use node_networks::NodeNetworks;
use orphans::Orphans;
use others::OtherServices;
use pool_state::PoolState;
use pools::Pools;
use reservations::Reservations;
use service_ranges::ServiceRanges;
use usage::Usage;

/// The allocator: pools, holders, reservations and claims.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    now: Timestamp,
    pools: Pools,
    ledger: Ledger,
    usage: Usage,
    reservations: Reservations,
    orphans: Orphans,
    others: OtherServices,
    claims: ClaimRecords,
    nodes: NodeNetworks,
    service_ranges: ServiceRanges,
    changes: Changes,
}

impl Ipam {
    /// Returns what a Service holds.
    pub fn holding(&self, service: &ObjectKey) -> Option<&Holding> {
        self.ledger.entry(service).map(|entry| &entry.holding)
    }

    /// Returns the holders of an address, ascending by name.
    pub fn holders(&self, address: IpAddr) -> &[Arc<ObjectKey>] {
        self.ledger.holders(address)
    }

    /// Returns the holders of the addresses in a range. A Service that holds several of them occurs several
    /// times.
    pub fn holders_in(&self, range: &IpRange) -> impl Iterator<Item = &Arc<ObjectKey>> {
        self.ledger.holders_in(range)
    }

    /// Returns every Service that holds an address, with its addresses.
    pub fn holdings(&self) -> impl Iterator<Item = (&ObjectKey, &Holding)> {
        self.ledger.entries().map(|(key, entry)| (&**key, &entry.holding))
    }

    /// Returns a pool in force.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.state(name).map(PoolState::pool)
    }

    /// Returns what happens to the holders of a pool, in force or refused, when the pool is edited or
    /// deleted.
    pub fn reclaim(&self, pool: &str) -> Option<Reclaim> {
        let refused = || self.pools.refused(pool).map(|(_, pool)| pool);
        self.pool(pool).or_else(refused).map(|pool| pool.reclaim)
    }

    /// Returns true if a pool of this name exists but is refused.
    pub fn is_refused(&self, pool: &str) -> bool {
        self.pools.refused(pool).is_some()
    }

    /// Returns the names of the refused pools.
    pub fn refused_pools(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pools.refused_names()
    }

    /// Returns the names of the pools in force, in the order in which they are tried for a Service that names
    /// none. Pools without automatic assignment come last.
    pub fn pools_in_order(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pools.in_order()
    }

    /// Returns true if messages name the pools: there are only a few. The messages of many waiting Services
    /// would otherwise change with each pool.
    pub fn names_pools(&self) -> bool {
        self.pools.len() <= refusal::MAX_LISTED
    }

    /// Returns true if the pool is in force and open to every Service that names no pool.
    pub fn is_open_to_all(&self, pool: &str) -> bool {
        self.pools.is_open_to_all(pool)
    }

    /// Returns true if a pool that is open to all has a free address of this family.
    pub fn has_open_address(&self, family: Family) -> bool {
        self.pools.has_open_address(family)
    }

    /// Returns true if Services share addresses of the pool that others may join.
    pub fn has_shared_addresses(&self, pool: &str) -> bool {
        self.pools.state(pool).is_some_and(PoolState::has_shared)
    }

    /// Returns the name of the pool in force that contains `ip`, held or not.
    pub fn pool_name_of(&self, ip: IpAddr) -> Option<&str> {
        self.pools.containing(ip).map(|name| &**name)
    }

    /// Returns the counts of a pool in one family. A refused pool contains the addresses that are held of it.
    pub fn counts(&self, pool: &str, family: Family) -> PoolCounts {
        self.usage.counts(pool, family, self.pools.state(pool).map(|state| state.space(family)))
    }

    /// Returns every Service that holds an address of a pool, in force or refused.
    pub fn holders_of(&self, pool: &str) -> impl ExactSizeIterator<Item = &Arc<ObjectKey>> {
        self.usage.holders(pool)
    }

    /// Returns every claim that has reserved an address of a pool.
    pub fn claims_on(&self, pool: &str) -> impl ExactSizeIterator<Item = &ObjectKey> {
        self.usage.claims(pool)
    }

    /// Forgets all pools, holders, claims and reservations, but not the networks of the cluster.
    pub fn forget_decisions(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        let service_ranges = std::mem::take(&mut self.service_ranges);
        *self = Self { nodes, service_ranges, ..Self::default() };
    }

    /// Returns the changes of addresses since the last call. Of a pool that is new in force or was edited,
    /// one free address of each family is included.
    pub fn take_changes(&mut self) -> Vec<AddressChange> {
        self.changes.take()
    }
}
