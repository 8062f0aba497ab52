//! Part of [`Pools`](super::pools::Pools): the pools with addresses that further Services may share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_crds::model::family::Family;

use super::pool_set::Position;
use super::request::AllocationRequest;
use super::sharing::{Ports, SharingGroup, first_common_port};

/// The pools with automatic assignment that have shared addresses: by family and group, by the ports in use
/// on the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SharedPools(BTreeMap<(Family, Arc<SharingGroup>), BTreeMap<Ports, BTreeSet<Position>>>);

impl SharedPools {
    /// Lists a pool that has an address with these ports.
    pub(super) fn insert(&mut self, pool: Position, family: Family, group: Arc<SharingGroup>, ports: Ports) {
        self.0.entry((family, group)).or_default().entry(ports).or_default().insert(pool);
    }

    /// Reverts [`SharedPools::insert`].
    pub(super) fn remove(
        &mut self,
        pool: &Position,
        family: Family,
        group: Arc<SharingGroup>,
        ports: &Ports,
    ) {
        let listed = (family, group);
        let Some(by_ports) = self.0.get_mut(&listed) else { return };
        if let Some(pools) = by_ports.get_mut(ports) {
            pools.remove(pool);
            if pools.is_empty() {
                by_ports.remove(ports);
            }
        }
        if by_ports.is_empty() {
            self.0.remove(&listed);
        }
    }

    /// Returns the pools with an address of one of these families that the Service may share.
    pub(super) fn joinable<'a>(
        &'a self,
        request: &AllocationRequest<'_>,
        families: &[Family],
    ) -> Vec<&'a BTreeSet<Position>> {
        let mut joinable = Vec::new();
        for group in request.sharing_groups() {
            for family in families {
                let by_ports = self.0.get(&(*family, group.clone())).into_iter().flatten();
                let disjoint =
                    by_ports.filter(|(used, _)| first_common_port(used, &request.sharing.ports).is_none());
                joinable.extend(disjoint.map(|(_, pools)| pools));
            }
        }
        joinable
    }
}
