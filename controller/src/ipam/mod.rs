//! Which Service holds which address of which pool.
//!
//! A pure value: what goes in are validated pools, the few facts of a Service that matter, and the time; what comes out
//! are addresses or a typed refusal. No operation walks addresses or Services; each costs the logarithm of what is
//! held, times the number of pools where no pool is named.
//!
//! Pools in force do not overlap: `fairlead_crds::resolve` refuses the younger of two that do. Every address that is held
//! is held of one pool. That pool may have been edited since and no longer have the address: then it is *retained*, as
//! [`Ipam::keep`] explains.

mod claims;
mod counts;
mod fit;
mod hold;
mod keep;
mod pools;
mod refusal;
mod reserve;
mod select;
mod shared;
mod sharing;
mod space;

#[cfg(test)]
mod check;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::config::{Labels, Pool};
pub use fairlead_crds::family::Family;
use fairlead_crds::service::ObjectKey;
use jiff::Timestamp;

pub use claims::Claimed;
pub use counts::Counts;
pub use fit::Obstacle;
pub use keep::Retained;
pub use pools::PoolChanges;
pub(crate) use refusal::named;
pub use refusal::{Refusal, ReservedFor};
pub use reserve::Released;
pub use select::NotAdmitted;
pub use sharing::{Conflict, Group, Port, Sharing};

use counts::Tally;
use reserve::Reservation;
use select::{Order, admits};
use sharing::Ports;
use space::{Slot, Space};

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
    tallies: BTreeMap<Arc<str>, Tally>,
    reservations: BTreeMap<IpAddr, Reservation>,
    /// The same by Service.
    reserved: BTreeMap<ObjectKey, BTreeSet<IpAddr>>,
    /// When addresses stop being kept for the Service that released them.
    expiries: BTreeSet<(Timestamp, IpAddr)>,
    /// An address is kept for its last holder that was not before.
    newly_released: bool,
    claims: BTreeMap<ObjectKey, Claimed>,
    claims_of: BTreeMap<ObjectKey, BTreeSet<(i64, ObjectKey)>>,
    changes: Vec<Change>,
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
pub struct Demand<'a> {
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
pub struct Change {
    /// The address.
    pub address: IpAddr,
    /// The pool that may give it, or else the pool it was held of.
    pub pool: Arc<str>,
    /// Nobody holds it any more, and it is kept for nobody.
    pub free: bool,
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
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Gives the Service exactly these addresses, in this order, and frees what it held besides. With `several_pools` they
    /// may be of different pools.
    ///
    /// # Errors
    /// When an address is in no pool, its pool is closed or not open to the Service, the addresses are of several pools,
    /// or one is in use and cannot be shared. Nothing has changed then.
    pub fn assign(
        &mut self,
        demand: &Demand<'_>,
        addresses: &[IpAddr],
        several_pools: bool,
    ) -> Result<&Holding, Refusal> {
        let held = self.assignable(demand, addresses, several_pools)?;
        Ok(self.hold(demand, Holding { held }))
    }

    /// Gives the Service these addresses, and where both families are required and one is missing, that too, from `pool` if
    /// that is named.
    ///
    /// # Errors
    /// When one of them cannot be had. Nothing has changed then.
    pub fn assign_and_extend(
        &mut self,
        demand: &Demand<'_>,
        addresses: &[IpAddr],
        families: Families,
        pool: Option<&str>,
    ) -> Result<&Holding, Refusal> {
        let mut holding = Holding { held: self.assignable(demand, addresses, true)? };
        if matches!(families, Families::Both { required: true, .. }) {
            holding = self.extended(demand, holding, families, pool)?;
        }
        Ok(self.hold(demand, holding))
    }

    /// These addresses, if the Service may have them.
    fn assignable(
        &self,
        demand: &Demand<'_>,
        addresses: &[IpAddr],
        several_pools: bool,
    ) -> Result<Vec<Held>, Refusal> {
        let mut held: Vec<Held> = Vec::with_capacity(addresses.len());
        for &ip in addresses {
            let pool = self.pool_of(ip).ok_or(Refusal::NotInPool(ip))?.clone();
            held.push(Held { ip, pool, retained: None });
        }
        if !several_pools && held.windows(2).any(|pair| pair[0].pool != pair[1].pool) {
            return Err(Refusal::SeveralPools(addresses.to_vec()));
        }
        for Held { ip, pool, .. } in &held {
            let Some(state) = self.pools.get(pool) else { continue };
            admits(&state.pool, demand)
                .map_err(|why| Refusal::NotAdmitted(pool.clone(), why.explain(&state.pool)))?;
            let has = self.holders(*ip).iter().any(|holder| **holder == *demand.service);
            if let Some(why) = state.pool.closed
                && !has
                && !self.is_claimed_for(*ip, demand.service)
            {
                return Err(Refusal::PoolClosed(pool.clone(), why));
            }
            self.joinable(demand, pool, *ip)?;
        }
        Ok(held)
    }

    /// Gives a Service that holds nothing addresses of the pool it names, whether or not that is one for automatic
    /// assignment.
    ///
    /// # Errors
    /// When the pool does not exist, is refused or closed, is not open to the Service, lacks a family or is full.
    pub fn allocate_from(
        &mut self,
        demand: &Demand<'_>,
        pool: &str,
        families: Families,
    ) -> Result<&Holding, Refusal> {
        let Some((name, state)) = self.pools.get_key_value(pool) else { return Err(self.why_no_pool(pool)) };
        let name = name.clone();
        self.check_open(state, demand, true)?;
        let candidates = [name];
        match self.choose(&candidates, demand, families, true) {
            Some(holding) => Ok(self.hold(demand, holding)),
            None => Err(self.why_none(&candidates, demand, families)),
        }
    }

    /// Gives a Service that holds nothing addresses of the first pool that is open to it and has them: pools with a
    /// `serviceAllocation` by priority, then the others. Where both families are required and no pool has both, each is
    /// taken from the first pool that has it.
    ///
    /// # Errors
    /// When no pool is open to the Service, or those that are lack a family or are full.
    pub fn allocate(&mut self, demand: &Demand<'_>, families: Families) -> Result<&Holding, Refusal> {
        let Order { pinned, unpinned } = &self.order;
        let one = || {
            self.choose(pinned, demand, families, false)
                .or_else(|| self.choose(unpinned, demand, families, false))
        };
        match one().or_else(|| self.choose_of_two(demand, families)) {
            Some(holding) => Ok(self.hold(demand, holding)),
            None => Err(self.why_nothing(demand, families)),
        }
    }

    /// Gives a Service that holds one address the other family too, from the same pool. Where both families are required,
    /// from another if that has none; from `pool`, if that is named.
    ///
    /// # Errors
    /// When there is none to be had. Nothing has changed then.
    pub fn extend(
        &mut self,
        demand: &Demand<'_>,
        families: Families,
        pool: Option<&str>,
    ) -> Result<&Holding, Refusal> {
        let Some(holding) = self.holding(demand.service).cloned() else {
            return Err(self.why_no_pool_matches(demand));
        };
        let holding = self.extended(demand, holding, families, pool)?;
        Ok(self.hold(demand, holding))
    }

    /// What is held, and the other family besides if it is missing.
    fn extended(
        &self,
        demand: &Demand<'_>,
        holding: Holding,
        families: Families,
        pool: Option<&str>,
    ) -> Result<Holding, Refusal> {
        let has = |family: &Family| holding.ips().any(|ip| Family::of(ip) == *family);
        let (Some(missing), Some(first)) =
            (families.wanted().into_iter().find(|f| !has(f)), holding.held.first())
        else {
            return Ok(holding);
        };
        let one = Families::One(missing);
        let same = [first.pool.clone()];
        let open = |state: &PoolState| self.check_open(state, demand, true);
        let refused = match self.pools.get(&same[0]).map(open) {
            Some(Err(why)) => Some(why),
            _ => None,
        };
        let others = matches!(families, Families::Both { required: true, .. });
        let chosen = match pool {
            Some(named) if *named != *same[0] => self.choose(&[named.into()], demand, one, true),
            Some(_) => self.choose(&same, demand, one, true),
            None => self.choose(&same, demand, one, true).or_else(|| {
                let any = |pools: &[Arc<str>]| self.choose(pools, demand, one, false);
                others.then(|| any(&self.order.pinned).or_else(|| any(&self.order.unpinned))).flatten()
            }),
        };
        let Some(more) = chosen else {
            return Err(match refused {
                Some(why) => why,
                None if others && pool.is_none() => self.why_nothing(demand, families),
                None => self.why_none(&same, demand, one),
            });
        };
        let mut held = [holding.held, more.held].concat();
        held.sort_by_key(|held| Family::of(held.ip) != families.first());
        Ok(Holding { held })
    }

    /// The pool that may give `ip`.
    fn pool_of(&self, ip: IpAddr) -> Option<&Arc<str>> {
        let (_, name) = self.starts.range(..=ip).next_back()?;
        let state = self.pools.get(name)?;
        state.space(Family::of(ip)).slot(ip).map(|_| name)
    }

    /// Whether the Service may hold `ip` as one of `pool` beside those who hold it.
    fn joinable(&self, demand: &Demand<'_>, pool: &Arc<str>, ip: IpAddr) -> Result<(), Refusal> {
        self.compatible(demand, pool, ip)?;
        let holders = self.holders(ip);
        let one_namespace = self.pools.get(pool).is_some_and(|state| state.is_for_one_namespace());
        if !one_namespace || holders.iter().any(|holder| **holder == *demand.service) {
            return Ok(());
        }
        match holders.iter().find(|holder| holder.namespace != demand.service.namespace) {
            Some(holder) => Err(Refusal::InUse {
                address: ip,
                holder: holder.clone(),
                conflict: Conflict::OtherNamespace(pool.clone()),
            }),
            None => Ok(()),
        }
    }

    /// The same, whatever the pool says of sharing between namespaces.
    fn compatible(&self, demand: &Demand<'_>, pool: &Arc<str>, ip: IpAddr) -> Result<(), Refusal> {
        let Some(occupied) = self.addresses.get(&ip) else { return self.kept_for_others(ip, demand.service) };
        if !occupied.holders.iter().any(|holder| **holder == *demand.service) {
            self.kept_for_others(ip, demand.service)?;
        }
        for holder in occupied.holders.iter().filter(|holder| ***holder != *demand.service) {
            let Some(entry) = self.services.get(holder) else { continue };
            // What is retained of another pool is for those who have it.
            let joined = if occupied.pool == *pool {
                demand.sharing.join(&entry.sharing)
            } else {
                Err(Conflict::HolderSharesNot)
            };
            joined.map_err(|conflict| Refusal::InUse { address: ip, holder: holder.clone(), conflict })?;
        }
        Ok(())
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
