//! Keeping what is held while pools change: the rules, and the one place that applies them.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Closed, Pool, Reclaim};

use super::{AllocationRefusal, AllocationRequest, Family, Held, Holding, Ipam, NotAdmitted, admits};

/// Why a pool would not give an address now to the Service that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    /// The pool is refused.
    PoolRefused,
    /// The pool no longer has the address.
    NoLongerInPool,
    /// The pool is no longer open to the Service.
    NotAdmitted(NotAdmitted),
}

impl Ipam {
    /// Lets a Service keep addresses, each held of the pool beside it as far as that is known: what it holds, or what its
    /// status shows when it is seen for the first time. Each address is judged by what the pools say now:
    ///
    /// 1. The pool has the address and is open to the Service: nothing is special.
    /// 2. The pool is refused, or it retains: the Service keeps the address until it releases it.
    /// 3. Another pool has the address now, because pools were renamed or split: it is held of that one from now on, and
    ///    judged by it. So it is too where the refused one is being deleted and reassigns.
    /// 4. Else the Service may not keep it.
    ///
    /// # Errors
    /// When one may not be kept, or is in use by a Service that does not share it. Nothing has changed then.
    pub fn keep(
        &mut self,
        allocation_request: &AllocationRequest<'_>,
        addresses: &[(IpAddr, Option<&str>)],
    ) -> Result<&Holding, AllocationRefusal> {
        let holding = self.keepable(allocation_request, addresses)?;
        Ok(self.hold(allocation_request, holding))
    }

    /// These addresses, if the Service may keep them.
    pub(super) fn keepable(
        &self,
        allocation_request: &AllocationRequest<'_>,
        addresses: &[(IpAddr, Option<&str>)],
    ) -> Result<Holding, AllocationRefusal> {
        let mut held = Vec::with_capacity(addresses.len());
        for (ip, of) in addresses {
            // Those who share an address hold it of one pool.
            let shared = self.addresses.get(ip).filter(|occupied| {
                occupied.holders.iter().any(|holder| **holder != *allocation_request.service)
            });
            let of = shared.map(|occupied| &*occupied.pool).or(*of);
            let pool = self.home(*ip, of).ok_or(AllocationRefusal::NotInPool(*ip))?;
            let retained = self.judge(allocation_request, *ip, &pool)?;
            self.compatible(allocation_request, &pool, *ip)?;
            held.push(Held { ip: *ip, pool, retained });
        }
        Ok(Holding { held })
    }

    /// Makes all who share an address hold it of `pool`, where it may be held of that. Returns whether that is news; then
    /// [`Ipam::keep`] is to judge each of them.
    pub fn move_sharers(&mut self, ip: IpAddr, pool: &str) -> bool {
        let Some(was) = self.addresses.get(&ip).map(|occupied| occupied.pool.clone()) else { return false };
        let Some(home) = self.home(ip, Some(pool)).filter(|home| **home == *pool && *home != was) else {
            return false;
        };
        self.unindex(ip, None);
        self.rehome(ip, &home);
        self.index(ip);
        self.note(ip, &was);
        self.note(ip, &home);
        true
    }

    /// The pool that an address is held of, given the pool it was held of until now.
    pub(super) fn home(&self, ip: IpAddr, of: Option<&str>) -> Option<Arc<str>> {
        let in_force = of.and_then(|name| self.pools.get_key_value(name));
        if let Some((name, state)) = in_force
            && (state.pool.reclaim == Reclaim::Retain || state.space(Family::of(ip)).slot(ip).is_some())
        {
            return Some(name.clone());
        }
        let refused = of.and_then(|name| self.refused.get_key_value(name));
        let new = self.pool_of(ip);
        let stays = |pool: &Pool| {
            new.is_none() || pool.reclaim == Reclaim::Retain || pool.closed != Some(Closed::Deleting)
        };
        refused.filter(|(_, pool)| stays(pool)).map(|(name, _)| name).or(new).cloned()
    }

    /// Whether a pool still gives an address to the Service that holds it, or why the Service keeps it all the same.
    fn judge(
        &self,
        allocation_request: &AllocationRequest<'_>,
        ip: IpAddr,
        pool: &Arc<str>,
    ) -> Result<Option<Retained>, AllocationRefusal> {
        let Some(state) = self.pools.get(pool) else { return Ok(Some(Retained::PoolRefused)) };
        if state.space(Family::of(ip)).slot(ip).is_none() {
            return Ok(Some(Retained::NoLongerInPool));
        }
        match (admits(&state.pool, allocation_request), state.pool.reclaim) {
            (Ok(()), _) => Ok(None),
            (Err(why), Reclaim::Retain) => Ok(Some(Retained::NotAdmitted(why))),
            (Err(why), Reclaim::Reassign) => {
                Err(AllocationRefusal::NotAdmitted(pool.clone(), why.explain(&state.pool)))
            }
        }
    }
}

impl Retained {
    /// In words for the operator, to come after the pool's name.
    pub fn explain(self) -> &'static str {
        match self {
            Self::PoolRefused => "is refused: see its condition Accepted",
            Self::NoLongerInPool => "no longer has this address",
            Self::NotAdmitted(NotAdmitted::Namespace) => "is no longer open to this namespace",
            Self::NotAdmitted(NotAdmitted::Labels) => "is no longer open to Services with these labels",
        }
    }
}
