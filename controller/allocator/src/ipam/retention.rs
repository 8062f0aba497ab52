//! Retention: what a Service keeps when pools change. The rules and the only place that applies them.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Closed, Pool, Reclaim};

use super::Ipam;
use super::admission::admits;
use super::holding::{Held, Holding, Retained};
use super::refusal::AllocationRefusal;
use super::request::AllocationRequest;

impl Ipam {
    /// Lets a Service keep addresses, each with the pool it is held of if that is known. These are the
    /// addresses that the Service holds, or that its status shows when the controller first sees it. The
    /// pools decide on each address:
    ///
    /// 1. The pool contains the address and admits the Service: the Service keeps it. It retains the address
    ///    of a Node.
    /// 2. The pool is refused, or its `reclaim` is `Retain`: the Service retains the address until its
    ///    release.
    /// 3. Another pool contains the address now, because pools were renamed or split: that pool becomes the
    ///    owning pool and decides. This includes a refused pool in deletion with `reclaim: Reassign`.
    /// 4. All pools disappeared at once, and none contains the address: the Service retains it until then.
    /// 5. Otherwise the Service may not keep it.
    ///
    /// # Errors
    /// If an address may not be kept, or is held by a Service that does not share it. Nothing has changed
    /// then.
    pub fn keep(
        &mut self,
        request: &AllocationRequest<'_>,
        addresses: &[(IpAddr, Option<&str>)],
    ) -> Result<&Holding, AllocationRefusal> {
        let holding = self.keepable(request, addresses)?;
        Ok(self.set_holding(request, holding))
    }

    /// Returns the holding that [`Ipam::keep`] would set.
    pub(super) fn keepable(
        &self,
        request: &AllocationRequest<'_>,
        addresses: &[(IpAddr, Option<&str>)],
    ) -> Result<Holding, AllocationRefusal> {
        let mut held = Vec::with_capacity(addresses.len());
        for (ip, of) in addresses {
            // All holders of a shared address hold it of one pool.
            let occupied = self.ledger.occupied(*ip);
            let shared = occupied.filter(|occupied| occupied.is_held_by_others(request.service));
            let of = shared.map(|occupied| &**occupied.pool()).or(*of);
            let pool = self.owning_pool(*ip, of).or_else(|| self.orphaned(of));
            let pool = pool.ok_or(AllocationRefusal::NotInPool(*ip))?;
            let retained = self.retention(request, *ip, &pool)?;
            self.check_holders(request, &pool, *ip)?;
            held.push(Held { ip: *ip, pool, retained });
        }
        Ok(Holding { held })
    }

    /// Makes all Services that share an address hold it of `pool`, if that pool can own it. Returns true if
    /// the pool changed; then the caller calls [`Ipam::keep`] for each of them.
    pub fn move_sharers(&mut self, ip: IpAddr, pool: &str) -> bool {
        let Some(previous) = self.ledger.occupied(ip).map(|occupied| occupied.pool().clone()) else {
            return false;
        };
        let owning = self.owning_pool(ip, Some(pool));
        let Some(owning) = owning.filter(|owning| **owning == *pool && *owning != previous) else {
            return false;
        };
        self.unlist_shared(ip, None);
        self.move_to_pool(ip, &owning);
        self.list_shared(ip);
        self.record_change(ip, &previous);
        self.record_change(ip, &owning);
        true
    }

    /// Returns the owning pool of an address that was held of the pool `of` until now.
    pub(super) fn owning_pool(&self, ip: IpAddr, of: Option<&str>) -> Option<Arc<str>> {
        let in_force = of.and_then(|name| self.pools.named_state(name));
        if let Some((name, state)) = in_force
            && (state.pool().reclaim == Reclaim::Retain || state.contains(ip))
        {
            return Some(name.clone());
        }
        let refused = of.and_then(|name| self.pools.refused(name));
        let containing = self.pools.containing(ip);
        let stays = |pool: &Pool| {
            containing.is_none() || pool.reclaim == Reclaim::Retain || pool.closed != Some(Closed::Deleting)
        };
        refused.filter(|(_, pool)| stays(pool)).map(|(name, _)| name).or(containing).cloned()
    }

    /// Returns why the Service retains an address of a pool; None if the pool would still allocate it to the
    /// Service.
    fn retention(
        &self,
        request: &AllocationRequest<'_>,
        ip: IpAddr,
        pool: &Arc<str>,
    ) -> Result<Option<Retained>, AllocationRefusal> {
        let Some(state) = self.pools.state(pool) else {
            let exists = self.pool_exists(pool);
            return Ok(Some(if exists { Retained::PoolRefused } else { Retained::PoolGone }));
        };
        if !state.contains(ip) {
            return Ok(Some(Retained::NoLongerInPool));
        }
        if let Some(node) = self.nodes.node(ip) {
            return Ok(Some(Retained::NodeAddress { address: ip, node: node.clone() }));
        }
        match (admits(state.pool(), request), state.pool().reclaim) {
            (Ok(()), _) => Ok(None),
            (Err(why), Reclaim::Retain) => Ok(Some(Retained::NotAdmitted(why))),
            (Err(why), Reclaim::Reassign) => {
                Err(AllocationRefusal::NotAdmitted(pool.clone(), why.explain(state.pool())))
            }
        }
    }
}
