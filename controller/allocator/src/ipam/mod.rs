//! Which Service holds which address of which pool. Pure.
//!
//! In: validated pools, the facts of a Service that matter ([`AllocationRequest`]), claims, and the time. Out: addresses
//! ([`Holding`]) or a typed refusal ([`AllocationRefusal`]), and the changes of addresses ([`AddressChange`]).
//!
//! [`Ipam`] is a composite. Each part owns its fields; the other files contain operations over the parts:
//!
//! | part | owns | operations |
//! |---|---|---|
//! | `pools`, `pool_state`, `space` | pools in force, their free and shared addresses, the order of pools | `pool_changes`, `admission` |
//! | `ledger` | holders by address, addresses by holder | `holders`, `retention`, `joining` (`sharing`) |
//! | `usage` | counts, holders and claims by pool | – |
//! | `reservations` | addresses that only one Service may take | `reserve` |
//! | `claim_records` | what each claim has reserved | `claims` |
//!
//! `eligibility` and `allocate` choose addresses for a Service, `refusal` explains why there is none.
//!
//! Order of calls: [`Ipam::advance`] sets the time; [`Ipam::set_pools`] changes the pools; [`Ipam::keep`] adopts or re-checks
//! what a Service holds; then `assign` and `allocate` choose addresses, and [`Ipam::release`] frees them. After each,
//! [`Ipam::take_changes`] returns the affected addresses.
//!
//! No operation walks addresses or Services. Each costs the logarithm of the number of holders, times the number of pools
//! if the Service names none.
//!
//! Pools in force do not overlap. Every held address is held of one pool. That pool may have been edited since and no
//! longer contain the address: then the address is *retained*, see [`Ipam::keep`].

mod admission;
mod allocate;
mod claim_records;
mod claims;
mod eligibility;
mod holders;
mod joining;
mod ledger;
mod pool_changes;
mod pool_state;
mod pools;
mod refusal;
mod reservations;
mod reserve;
mod retention;
mod sharing;
mod space;
mod usage;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;

#[cfg(test)]
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Labels, Pool, Reclaim};
pub use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

pub use admission::NotAdmitted;
pub use allocate::ServiceClaims;
pub use claim_records::Claimed;
pub use eligibility::Obstacle;
pub use pool_changes::PoolChanges;
pub(crate) use refusal::named;
pub use refusal::{AllocationRefusal, ReservedFor};
pub use reserve::Released;
pub use retention::Retained;
pub use sharing::{Conflict, Group, Port, Sharing};
pub use usage::PoolCounts;

use admission::admits;
use claim_records::ClaimRecords;
use ledger::{Entry, Ledger};
use pool_state::PoolState;
use pools::Pools;
use reservations::Reservations;
use usage::Usage;

/// The allocator: pools, holders, reservations and claims.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    now: Timestamp,
    pools: Pools,
    ledger: Ledger,
    usage: Usage,
    reservations: Reservations,
    claims: ClaimRecords,
    changes: Vec<AddressChange>,
}

/// What a Service holds: at most one address of each family, in the order of the Service's families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// The addresses.
    pub held: Vec<Held>,
}

/// An address that a Service holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The address.
    pub ip: IpAddr,
    /// The pool it is held of.
    pub pool: Arc<str>,
    /// Why the pool would not give it now.
    pub retained: Option<Retained>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct AllocationRequest<'a> {
    /// The Service.
    pub service: &'a ObjectKey,
    /// Its labels.
    pub labels: &'a Labels,
    /// Labels of its namespace; `None` when they are not known.
    pub namespace_labels: Option<&'a Labels>,
    /// With whom it may share.
    pub sharing: Sharing,
}

/// Which families a Service needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Exactly this one.
    One(Family),
    /// Both.
    Both {
        /// The family of the first address, and of the only one where only one can be had.
        first: Family,
        /// `RequireDualStack`: one alone will not do.
        required: bool,
    },
}

/// Something happened to an address: whoever waits for it may try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressChange {
    /// The address.
    pub address: IpAddr,
    /// The pool that may give it, or else the pool it was held of.
    pub pool: Arc<str>,
    /// Nobody holds it any more, and it is kept for nobody.
    pub free: bool,
    /// Nobody holds it, and only this Service may take it.
    pub kept_for: Option<ObjectKey>,
    /// It is held by Services of this group, which others of the group may join.
    pub shared: Option<Arc<Group>>,
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

    /// Returns every Service that holds an address, with its addresses.
    pub fn holdings(&self) -> impl Iterator<Item = (&ObjectKey, &Holding)> {
        self.ledger.entries().map(|(key, entry)| (&**key, &entry.holding))
    }

    /// Returns a pool in force.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.state(name).map(PoolState::pool)
    }

    /// Returns what happens to the holders of a pool, in force or refused, when the pool is edited or deleted.
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

    /// Returns the names of the pools in force, in the order in which they are tried for a Service that names none. Pools
    /// without automatic assignment come last.
    pub fn pools_in_order(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pools.in_order()
    }

    /// Returns the name of the pool in force that contains `ip`, held or not.
    pub fn pool_name_of(&self, ip: IpAddr) -> Option<&str> {
        self.pools.containing(ip).map(|name| &**name)
    }

    /// Returns the changes of addresses since the last call. Changes of pools are not included.
    pub fn take_changes(&mut self) -> Vec<AddressChange> {
        std::mem::take(&mut self.changes)
    }
}

impl Holding {
    /// The addresses, in order.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.held.iter().map(|held| held.ip)
    }

    /// The pools of the addresses, in order: one, if that is the pool of all.
    pub fn pools(&self) -> Vec<Arc<str>> {
        let mut pools: Vec<Arc<str>> = self.held.iter().map(|held| held.pool.clone()).collect();
        if pools.windows(2).all(|pair| pair[0] == pair[1]) {
            pools.truncate(1);
        }
        pools
    }
}

impl Families {
    /// The families, the first one first.
    pub fn wanted(&self) -> Vec<Family> {
        match *self {
            Self::One(family) => vec![family],
            Self::Both { first, .. } => vec![first, first.other()],
        }
    }

    /// The family of the first address.
    pub fn first(&self) -> Family {
        match *self {
            Self::One(family) => family,
            Self::Both { first, .. } => first,
        }
    }
}

impl fmt::Display for Families {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(family) => write!(f, "an {family} address is"),
            Self::Both { .. } => write!(f, "an IPv4 and an IPv6 address are"),
        }
    }
}
