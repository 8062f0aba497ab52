//! Which addresses a Service may join, and an index of the shared ones by group and ports to find them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::SharingScope;
use fairlead_crds::model::service::ObjectKey;

use super::sharing::{Conflict, Group, Ports};
use super::{AllocationRefusal, AllocationRequest, Entry, Family, Ipam, PoolState};

impl Ipam {
    /// Whether the Service may hold `ip` as one of `pool` beside those who hold it.
    pub(super) fn joinable(
        &self,
        allocation_request: &AllocationRequest<'_>,
        pool: &Arc<str>,
        ip: IpAddr,
    ) -> Result<(), AllocationRefusal> {
        self.compatible(allocation_request, pool, ip)?;
        let holders = self.holders(ip);
        let one_namespace = self.pools.get(pool).is_some_and(|state| state.is_for_one_namespace());
        if !one_namespace || holders.iter().any(|holder| **holder == *allocation_request.service) {
            return Ok(());
        }
        match holders.iter().find(|holder| holder.namespace != allocation_request.service.namespace) {
            Some(holder) => Err(AllocationRefusal::InUse {
                address: ip,
                holder: holder.clone(),
                conflict: Conflict::OtherNamespace(pool.clone()),
            }),
            None => Ok(()),
        }
    }

    /// The same, whatever the pool says of sharing between namespaces.
    pub(super) fn compatible(
        &self,
        allocation_request: &AllocationRequest<'_>,
        pool: &Arc<str>,
        ip: IpAddr,
    ) -> Result<(), AllocationRefusal> {
        let Some(occupied) = self.addresses.get(&ip) else {
            return self.kept_for_others(ip, allocation_request.service);
        };
        if !occupied.holders.iter().any(|holder| **holder == *allocation_request.service) {
            self.kept_for_others(ip, allocation_request.service)?;
        }
        for holder in occupied.holders.iter().filter(|holder| ***holder != *allocation_request.service) {
            let Some(entry) = self.services.get(holder) else { continue };
            // What is retained of another pool is for those who have it.
            let joined = if occupied.pool == *pool {
                allocation_request.sharing.join(&entry.sharing)
            } else {
                Err(Conflict::HolderSharesNot)
            };
            joined.map_err(|conflict| AllocationRefusal::InUse {
                address: ip,
                holder: holder.clone(),
                conflict,
            })?;
        }
        Ok(())
    }

    /// The group that a Service shares within in a pool, if it shares at all.
    pub fn group_in(&self, pool: &str, allocation_request: &AllocationRequest<'_>) -> Option<Arc<Group>> {
        Some(self.pools.get(pool)?.group(allocation_request.sharing.group()?, allocation_request.service))
    }

    /// Lists a shared address under its group and the ports in use. What is retained of another pool nobody can join.
    pub(super) fn index(&mut self, ip: IpAddr) {
        if let Some((group, ports)) = self.sharing_of(ip, None)
            && let Some(state) = self.joinable_state(ip)
            && let Some(slot) = state.space(Family::of(ip)).slot(ip)
        {
            let by_ports = state.shared.entry((Family::of(ip), group)).or_default();
            by_ports.entry(ports).or_default().insert(slot);
        }
    }

    /// Takes a shared address off the list it is on. `leaving` is a holder whose entry is gone from `services` already.
    pub(super) fn unindex(&mut self, ip: IpAddr, leaving: Option<(&Arc<ObjectKey>, &Entry)>) {
        let Some((group, ports)) = self.sharing_of(ip, leaving) else { return };
        let Some(state) = self.joinable_state(ip) else { return };
        let Some(slot) = state.space(Family::of(ip)).slot(ip) else { return };
        let listed = (Family::of(ip), group);
        let Some(by_ports) = state.shared.get_mut(&listed) else { return };
        if let Some(slots) = by_ports.get_mut(&ports) {
            slots.remove(&slot);
            if slots.is_empty() {
                by_ports.remove(&ports);
            }
        }
        if by_ports.is_empty() {
            state.shared.remove(&listed);
        }
    }

    /// The group that holds an address and all ports in use on it; `None` when nobody can join it.
    pub(super) fn sharing_of(
        &self,
        ip: IpAddr,
        leaving: Option<(&Arc<ObjectKey>, &Entry)>,
    ) -> Option<(Arc<Group>, Ports)> {
        let occupied = self.addresses.get(&ip).filter(|occupied| occupied.shared)?;
        let entry_of = |holder: &Arc<ObjectKey>| match leaving {
            Some((key, entry)) if key == holder => Some(entry),
            _ => self.services.get(holder),
        };
        let [holders @ .., last] = occupied.holders.as_slice() else { return None };
        let sharing = &entry_of(last)?.sharing;
        let mut group = sharing.group.clone()?;
        if self.pools.get(&occupied.pool).is_some_and(PoolState::is_for_one_namespace) {
            if holders.iter().any(|holder| holder.namespace != last.namespace) {
                return None;
            }
            group = group.within(&last.namespace);
        }
        if holders.is_empty() {
            return Some((group, sharing.ports.clone()));
        }
        let entries = occupied.holders.iter().filter_map(entry_of);
        let all: BTreeSet<_> = entries.flat_map(|entry| entry.sharing.ports.iter().copied()).collect();
        Some((group, all.into_iter().collect()))
    }

    /// The pool that has an address, if that is the pool it is held of.
    fn joinable_state(&mut self, ip: IpAddr) -> Option<&mut PoolState> {
        let pool = self.pool_of(ip)?;
        if self.addresses.get(&ip)?.pool != *pool {
            return None;
        }
        let pool = pool.clone();
        self.pools.get_mut(&pool)
    }
}

impl PoolState {
    /// Whether addresses are shared within one namespace only.
    pub(super) fn is_for_one_namespace(&self) -> bool {
        self.pool.sharing == SharingScope::SameNamespace
    }

    /// The group that a Service shares within in this pool.
    pub(super) fn group(&self, group: &Arc<Group>, service: &ObjectKey) -> Arc<Group> {
        if self.is_for_one_namespace() { group.within(&service.namespace) } else { group.clone() }
    }
}

impl Group {
    /// This group in one namespace.
    fn within(&self, namespace: &str) -> Arc<Self> {
        Arc::new(Self { namespace: Some(namespace.to_owned()), ..self.clone() })
    }
}
