//! Which Service holds which address of which pool.
//!
//! A pure value: what goes in are validated pools, the few facts of a Service that matter, and the time; what comes out
//! are addresses or a typed refusal. No operation walks addresses or Services; each costs the logarithm of what is
//! held, times the number of pools where no pool is named.
//!
//! Pools in force do not overlap: `fairlead_crds::resolve` refuses the younger of two that do. Every address that is held
//! is held of one pool. That pool may have been edited since and no longer have the address: then it is *retained*, as
//! [`Ipam::keep`] explains.

mod admission;
mod allocate;
mod claims;
mod eligibility;
mod holders;
mod joining;
mod pool_changes;
mod refusal;
mod reserve;
mod retention;
mod sharing;
mod space;
mod usage;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Labels, Pool, Reclaim};
pub use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

pub use admission::NotAdmitted;
pub use allocate::OfClaims;
pub use claims::Claimed;
pub use eligibility::Obstacle;
pub use pool_changes::PoolChanges;
pub(crate) use refusal::named;
pub use refusal::{AllocationRefusal, ReservedFor};
pub use reserve::Released;
pub use retention::Retained;
pub use sharing::{Conflict, Group, Port, Sharing};
pub use usage::Counts;

use admission::{Order, admits};
use reserve::Reservation;
use sharing::Ports;
use space::{Slot, Space};
use usage::PoolUsage;

/// All pools and who holds what of them.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    now: Timestamp,
    pools: BTreeMap<Arc<str>, PoolState>,
    /// Pools that exist but are refused.
    refused: BTreeMap<Arc<str>, Pool>,
    /// First address of each range → its pool.
    starts: BTreeMap<IpAddr, Arc<str>>,
    order: Order,
    addresses: BTreeMap<IpAddr, Occupied>,
    services: BTreeMap<Arc<ObjectKey>, Entry>,
    /// Who holds and reserves addresses of a pool, in force or refused.
    usages: BTreeMap<Arc<str>, PoolUsage>,
    reservations: BTreeMap<IpAddr, Reservation>,
    /// The same by Service.
    reserved: BTreeMap<ObjectKey, BTreeSet<IpAddr>>,
    /// When addresses stop being kept for the Service that released them.
    expiries: BTreeSet<(Timestamp, IpAddr)>,
    /// How often an address came to be kept for its last holder.
    releases: u64,
    /// An address is kept for its last holder that was not before.
    newly_released: bool,
    claims: BTreeMap<ObjectKey, Claimed>,
    claims_of: BTreeMap<ObjectKey, BTreeSet<(i64, ObjectKey)>>,
    changes: Vec<AddressChange>,
}

#[derive(Clone, Debug)]
struct PoolState {
    pool: Pool,
    v4: Space,
    v6: Space,
    /// Addresses held by Services that share: by group, by the ports in use on the address.
    shared: BTreeMap<(Family, Arc<Group>), BTreeMap<Ports, BTreeSet<Slot>>>,
}

/// Who holds an address, ascending and never empty, and of which pool.
#[derive(Clone, Debug)]
struct Occupied {
    pool: Arc<str>,
    /// Its holders have a sharing key. Most have none, and then there is nothing to look up.
    shared: bool,
    holders: Vec<Arc<ObjectKey>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    holding: Holding,
    sharing: Sharing,
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
    /// What a Service holds.
    pub fn holding(&self, service: &ObjectKey) -> Option<&Holding> {
        self.services.get(service).map(|entry| &entry.holding)
    }

    /// Who holds an address, ascending by name.
    pub fn holders(&self, address: IpAddr) -> &[Arc<ObjectKey>] {
        self.addresses.get(&address).map_or(&[], |occupied| occupied.holders.as_slice())
    }

    /// Every Service that holds something, with what it holds.
    pub fn holdings(&self) -> impl Iterator<Item = (&ObjectKey, &Holding)> {
        self.services.iter().map(|(key, entry)| (&**key, &entry.holding))
    }

    /// A pool in force.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name).map(|state| &state.pool)
    }

    /// What becomes of those who hold addresses of a pool, in force or refused, when it is edited or deleted.
    pub fn reclaim(&self, pool: &str) -> Option<Reclaim> {
        self.pool(pool).or_else(|| self.refused.get(pool)).map(|pool| pool.reclaim)
    }

    /// Whether a pool of this name exists but is refused.
    pub fn is_refused(&self, pool: &str) -> bool {
        self.refused.contains_key(pool)
    }

    /// Names of the refused pools.
    pub fn refused_pools(&self) -> impl Iterator<Item = &Arc<str>> {
        self.refused.keys()
    }

    /// Names of the pools in force, in the order in which they are tried for a Service that names none; those that are
    /// not for automatic assignment come last.
    pub fn pools_in_order(&self) -> impl Iterator<Item = &Arc<str>> {
        let automatic = self.order.pinned.iter().chain(&self.order.unpinned);
        automatic.chain(self.pools.iter().filter(|(_, state)| !state.pool.auto_assign).map(|(name, _)| name))
    }

    /// Name of the pool that may give `ip`, held or not.
    pub fn pool_name_of(&self, ip: IpAddr) -> Option<&str> {
        self.pool_of(ip).map(|name| &**name)
    }

    /// What happened to addresses since the last call. Changes of pools are not listed.
    pub fn take_changes(&mut self) -> Vec<AddressChange> {
        std::mem::take(&mut self.changes)
    }

    /// The pool that may give `ip`.
    fn pool_of(&self, ip: IpAddr) -> Option<&Arc<str>> {
        let (_, name) = self.starts.range(..=ip).next_back()?;
        let state = self.pools.get(name)?;
        state.space(Family::of(ip)).slot(ip).map(|_| name)
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

impl PoolState {
    fn space(&self, family: Family) -> &Space {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn space_mut(&mut self, family: Family) -> &mut Space {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
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
