//! Which Service holds which address of which pool.
//!
//! A pure value: what goes in are validated pools and the few facts of a Service that matter, what comes out are
//! addresses or a typed refusal. No operation walks addresses or Services; each costs the logarithm of what is
//! held, times the number of pools where no pool is named.
//!
//! Pools in force do not overlap: `fairlead_crds::resolve` refuses the younger of two that do. Who holds addresses of
//! a pool that is refused keeps them, and where another pool has them now, they are taken there.

mod choose;
mod hold;
mod pools;
mod refusal;
mod refused;
mod select;
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
use fairlead_crds::service::ObjectKey;

pub use pools::PoolChanges;
pub use refusal::Refusal;
pub(crate) use refusal::named;
pub use select::NotAdmitted;
pub use sharing::{Conflict, Group, Port, Sharing};
pub use space::Family;

use select::{Order, admits};
use sharing::Ports;
use space::{Slot, Space};

/// All pools and who holds what of them.
#[derive(Clone, Debug, Default)]
pub struct Ipam {
    pools: BTreeMap<Arc<str>, PoolState>,
    /// First address of each range → its pool.
    starts: BTreeMap<IpAddr, Arc<str>>,
    order: Order,
    /// Who holds an address, ascending; never empty.
    addresses: BTreeMap<IpAddr, Vec<Arc<ObjectKey>>>,
    services: BTreeMap<Arc<ObjectKey>, Held>,
    /// Pools that are refused, and who holds addresses of them.
    refused: BTreeMap<Arc<str>, BTreeSet<Arc<ObjectKey>>>,
    /// Addresses that only these Services may take, beside those who hold them already.
    reservations: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
    /// The same by Service.
    reserved: BTreeMap<ObjectKey, BTreeSet<IpAddr>>,
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

#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    holding: Holding,
    sharing: Sharing,
}

/// What a Service holds: at most one address of each family, all from one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The pool.
    pub pool: Arc<str>,
    /// The addresses in the order of the Service's families.
    pub addresses: Vec<IpAddr>,
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
    /// The pool that may give it, or else the pool it was held from.
    pub pool: Arc<str>,
    /// Nobody holds it any more.
    pub free: bool,
    /// It is held by Services of this group, which others of the group may join.
    pub shared: Option<Arc<Group>>,
}

/// How many addresses a pool has. Shared addresses count once; all counts saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Addresses that may be given.
    pub total: u128,
    /// Those that are held.
    pub assigned: u128,
}

impl Ipam {
    /// What a Service holds.
    pub fn holding(&self, service: &ObjectKey) -> Option<&Holding> {
        self.services.get(service).map(|held| &held.holding)
    }

    /// Who holds an address, ascending by name.
    pub fn holders(&self, address: IpAddr) -> &[Arc<ObjectKey>] {
        self.addresses.get(&address).map_or(&[], Vec::as_slice)
    }

    /// Every Service that holds something, with what it holds.
    pub fn holdings(&self) -> impl Iterator<Item = (&ObjectKey, &Holding)> {
        self.services.iter().map(|(key, held)| (&**key, &held.holding))
    }

    /// A pool in force.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name).map(|state| &state.pool)
    }

    /// Name of the pool that may give `ip`, held or not.
    pub fn pool_name_of(&self, ip: IpAddr) -> Option<&str> {
        self.pool_of(ip).map(|name| &**name)
    }

    /// Counts of a pool in one family. A refused pool has what is held of it.
    pub fn counts(&self, pool: &str, family: Family) -> Counts {
        let Some(state) = self.pools.get(pool) else { return self.counts_of_refused(pool, family) };
        let space = state.space(family);
        Counts { total: space.total(), assigned: space.taken() }
    }

    /// What happened to addresses since the last call. Changes of pools are not listed.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Gives the Service exactly these addresses, in this order, and frees what it held besides. With what the Service
    /// holds already, this checks that it may keep it.
    ///
    /// # Errors
    /// When an address is in no pool, the pool is not open to the Service, the addresses are of several pools, or
    /// one is in use and cannot be shared. Nothing has changed then.
    pub fn assign(&mut self, demand: &Demand<'_>, addresses: &[IpAddr]) -> Result<&Holding, Refusal> {
        if let Some(pool) = self.keeps_of_refused(demand.service, addresses) {
            return self.keep_of_refused(demand, &pool, addresses);
        }
        let mut pool: Option<Arc<str>> = None;
        for &ip in addresses {
            let found = self.pool_of(ip).ok_or(Refusal::NotInPool(ip))?.clone();
            match &pool {
                Some(first) if *first != found => return Err(Refusal::SeveralPools(addresses.to_vec())),
                _ => pool = Some(found),
            }
        }
        // Without an address there is no pool either; the family logic never asks for none.
        let pool = pool.ok_or(self.why_no_pool_matches())?;
        if let Some(state) = self.pools.get(&pool) {
            admits(&state.pool, demand).map_err(|why| Refusal::NotAdmitted(pool.clone(), why))?;
        }
        for &ip in addresses {
            self.joinable(demand, &pool, ip)?;
        }
        Ok(self.hold(demand, Holding { pool, addresses: addresses.to_vec() }))
    }

    /// Gives a Service that holds nothing addresses of the pool it names, whether or not that is one for automatic
    /// assignment.
    ///
    /// # Errors
    /// When the pool does not exist, is refused, is not open to the Service, lacks a family or is full.
    pub fn allocate_from(
        &mut self,
        demand: &Demand<'_>,
        pool: &str,
        families: Families,
    ) -> Result<&Holding, Refusal> {
        let (name, state) = self.pools.get_key_value(pool).ok_or_else(|| self.why_no_pool(pool))?;
        let name = name.clone();
        admits(&state.pool, demand).map_err(|why| Refusal::NotAdmitted(name.clone(), why))?;
        let candidates = [name];
        match self.choose_among(&candidates, demand, families) {
            Some(holding) => Ok(self.hold(demand, holding)),
            None => Err(self.why_none(&candidates, families)),
        }
    }

    /// Gives a Service that holds nothing addresses of the first pool that is open to it and has them: pools with a
    /// `serviceAllocation` by priority, then the others.
    ///
    /// # Errors
    /// When no pool is open to the Service, or those that are lack a family or are full.
    pub fn allocate(&mut self, demand: &Demand<'_>, families: Families) -> Result<&Holding, Refusal> {
        let open = |names: &[Arc<str>]| -> Vec<Arc<str>> {
            let admitted = |name: &&Arc<str>| {
                self.pools.get(*name).is_some_and(|state| admits(&state.pool, demand).is_ok())
            };
            names.iter().filter(admitted).cloned().collect()
        };
        let (mut pinned, unpinned) = (open(&self.order.pinned), open(&self.order.unpinned));
        if pinned.is_empty() && unpinned.is_empty() {
            return Err(self.why_no_pool_matches());
        }
        let chosen = self
            .choose_among(&pinned, demand, families)
            .or_else(|| self.choose_among(&unpinned, demand, families));
        match chosen {
            Some(holding) => Ok(self.hold(demand, holding)),
            None => {
                pinned.extend(unpinned);
                Err(self.why_none(&pinned, families))
            }
        }
    }

    /// Gives a Service that holds one address the other family too, from the same pool.
    ///
    /// # Errors
    /// When the pool lacks that family or is full. Nothing has changed then.
    pub fn extend(&mut self, demand: &Demand<'_>, first: Family) -> Result<&Holding, Refusal> {
        let Some(holding) = self.holding(demand.service).cloned() else {
            return Err(self.why_no_pool_matches());
        };
        let has: BTreeSet<Family> = holding.addresses.iter().map(|ip| Family::of(*ip)).collect();
        let Some(missing) = [first, first.other()].into_iter().find(|family| !has.contains(family)) else {
            return self.assign(demand, &holding.addresses);
        };
        let one = Families::One(missing);
        let candidates = [holding.pool.clone()];
        let Some(more) = self.choose_among(&candidates, demand, one) else {
            return Err(self.why_none(&candidates, one));
        };
        let mut addresses = [holding.addresses, more.addresses].concat();
        addresses.sort_by_key(|ip| Family::of(*ip) != first);
        Ok(self.hold(demand, Holding { pool: holding.pool, addresses }))
    }

    /// The pool that may give `ip`.
    fn pool_of(&self, ip: IpAddr) -> Option<&Arc<str>> {
        let (_, name) = self.starts.range(..=ip).next_back()?;
        let state = self.pools.get(name)?;
        state.space(Family::of(ip)).slot(ip).map(|_| name)
    }

    /// Whether the Service may hold `ip` as one of `pool` beside those who hold it.
    fn joinable(&self, demand: &Demand<'_>, pool: &Arc<str>, ip: IpAddr) -> Result<(), Refusal> {
        let holders = self.holders(ip);
        if let Some(reserved) = self.reservations.get(&ip)
            && let Some(other) = reserved.iter().find(|service| *service != demand.service)
            && !holders.iter().any(|holder| **holder == *demand.service)
        {
            let holder = Arc::new(other.clone());
            return Err(Refusal::InUse { address: ip, holder, conflict: Conflict::HolderSharesNot });
        }
        for holder in holders.iter().filter(|holder| ***holder != *demand.service) {
            let Some(held) = self.services.get(holder) else { continue };
            // What is kept of a refused pool is for those who have it.
            let joined = if held.holding.pool == *pool {
                demand.sharing.join(&held.sharing)
            } else {
                Err(Conflict::HolderSharesNot)
            };
            joined.map_err(|conflict| Refusal::InUse { address: ip, holder: holder.clone(), conflict })?;
        }
        Ok(())
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

impl Counts {
    /// Addresses that are still to be had.
    pub fn available(&self) -> u128 {
        self.total.saturating_sub(self.assigned)
    }
}
