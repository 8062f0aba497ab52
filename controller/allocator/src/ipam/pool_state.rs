//! One pool in force: its configuration, its free addresses, and its addresses that further Services may
//! share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::{Pool, SharingScope};
use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;

use super::sharing::{Ports, SharingGroup, first_common_port};
use super::space::{Slot, Space};

/// A pool in force.
#[derive(Clone, Debug)]
pub(super) struct PoolState {
    pool: Pool,
    v4: Space,
    v6: Space,
    /// Addresses whose holders share them: by group, by the ports in use on the address.
    shared: BTreeMap<(Family, Arc<SharingGroup>), BTreeMap<Ports, BTreeSet<Slot>>>,
}

impl PoolState {
    /// Returns the state of a pool without holders.
    pub(super) fn new(pool: Pool) -> Self {
        let (v4, v6) = (Space::new(&pool, Family::V4), Space::new(&pool, Family::V6));
        Self { pool, v4, v6, shared: BTreeMap::new() }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn into_pool(self) -> Pool {
        self.pool
    }

    /// Returns true if the holders of an address share it with others that may join.
    pub(super) fn has_shared(&self) -> bool {
        !self.shared.is_empty()
    }

    pub(super) fn space(&self, family: Family) -> &Space {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// Returns true if the pool contains the address and may allocate it.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.space(Family::of(ip)).slot(ip).is_some()
    }

    pub(super) fn take(&mut self, ip: IpAddr) {
        let space = self.space_mut(Family::of(ip));
        if let Some(slot) = space.slot(ip) {
            space.take(slot);
        }
    }

    pub(super) fn free(&mut self, ip: IpAddr) {
        let space = self.space_mut(Family::of(ip));
        if let Some(slot) = space.slot(ip) {
            space.free(slot);
        }
    }

    /// Returns true if only Services of one namespace may share an address.
    pub(super) fn shares_within_namespace(&self) -> bool {
        self.pool.sharing == SharingScope::SameNamespace
    }

    /// Returns the group within which a Service shares in this pool.
    pub(super) fn group(&self, group: &Arc<SharingGroup>, service: &ObjectKey) -> Arc<SharingGroup> {
        if self.shares_within_namespace() { group.within(&service.namespace) } else { group.clone() }
    }

    /// Lists an address as shared by a group that uses `ports` on it.
    pub(super) fn list_shared(&mut self, ip: IpAddr, group: Arc<SharingGroup>, ports: Ports) {
        let family = Family::of(ip);
        if let Some(slot) = self.space(family).slot(ip) {
            let by_ports = self.shared.entry((family, group)).or_default();
            by_ports.entry(ports).or_default().insert(slot);
        }
    }

    /// Reverts [`PoolState::list_shared`] with the same arguments.
    pub(super) fn unlist_shared(&mut self, ip: IpAddr, group: Arc<SharingGroup>, ports: &Ports) {
        let family = Family::of(ip);
        let Some(slot) = self.space(family).slot(ip) else { return };
        let listed = (family, group);
        let Some(by_ports) = self.shared.get_mut(&listed) else { return };
        if let Some(slots) = by_ports.get_mut(ports) {
            slots.remove(&slot);
            if slots.is_empty() {
                by_ports.remove(ports);
            }
        }
        if by_ports.is_empty() {
            self.shared.remove(&listed);
        }
    }

    /// Returns the first shared address of a group whose ports are disjoint from `ports` and that `is_open`
    /// accepts.
    pub(super) fn first_joinable(
        &self,
        family: Family,
        group: Arc<SharingGroup>,
        ports: &Ports,
        is_open: impl Fn(IpAddr) -> bool,
    ) -> Option<Slot> {
        let by_ports = self.shared.get(&(family, group))?;
        let joinable = by_ports.iter().filter(|(used, _)| first_common_port(used, ports).is_none());
        let space = self.space(family);
        // Reservations are rare, so nearly always the first slot is open.
        let open = |slot: &&Slot| is_open(space.address(**slot));
        joinable.filter_map(|(_, slots)| slots.iter().find(open).copied()).min()
    }

    /// Returns true if a group uses these ports on a listed address.
    pub(super) fn shares(&self, family: Family, group: &Arc<SharingGroup>, ports: &Ports) -> bool {
        self.shared.get(&(family, group.clone())).is_some_and(|by_ports| by_ports.contains_key(ports))
    }

    /// Returns the groups that share addresses, with the ports in use on them.
    pub(super) fn shared(&self) -> impl Iterator<Item = (Family, &Arc<SharingGroup>, &Ports)> {
        let by_group = self.shared.iter();
        by_group
            .flat_map(|((family, group), by_ports)| by_ports.keys().map(move |ports| (*family, group, ports)))
    }

    /// Returns the number of addresses listed as shared.
    #[cfg(test)]
    pub(super) fn shared_count(&self) -> usize {
        self.shared.values().flat_map(|by_ports| by_ports.values()).map(BTreeSet::len).sum()
    }

    fn space_mut(&mut self, family: Family) -> &mut Space {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}
