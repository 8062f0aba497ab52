//! Marks of what changed since the last [`Plan::changes`](crate::Plan::changes) and must be recomputed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

/// Services, addresses and choices to recompute.
#[derive(Debug, Default)]
pub(crate) struct DirtySet {
    services: BTreeSet<Arc<ObjectKey>>,
    all_services: bool,
    addresses: BTreeSet<IpAddr>,
    all_addresses: bool,
    peers: bool,
    candidates: bool,
}

impl DirtySet {
    /// Marks the routes of a Service.
    pub(crate) fn mark_service(&mut self, key: &Arc<ObjectKey>) {
        self.services.insert(key.clone());
    }

    /// Removes the mark of a Service that was deleted.
    pub(crate) fn unmark_service(&mut self, key: &ObjectKey) {
        self.services.remove(key);
    }

    /// Marks the routes of every Service.
    pub(crate) fn mark_all_services(&mut self) {
        self.all_services = true;
    }

    /// Marks the L2 owners of addresses.
    pub(crate) fn mark_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.addresses.extend(addresses);
    }

    /// Marks the L2 owner of every address.
    pub(crate) fn mark_all_addresses(&mut self) {
        self.all_addresses = true;
    }

    /// Marks the choice of the BGP peers.
    pub(crate) fn mark_peers(&mut self) {
        self.peers = true;
    }

    /// Marks the candidates of L2 elections.
    pub(crate) fn mark_candidates(&mut self) {
        self.candidates = true;
    }

    /// Marks everything that depends on this node's own Node object.
    pub(crate) fn mark_own_node(&mut self) {
        self.mark_all_services();
        self.mark_all_addresses();
        self.mark_peers();
    }

    pub(crate) fn take_candidates(&mut self) -> bool {
        std::mem::take(&mut self.candidates)
    }

    pub(crate) fn take_peers(&mut self) -> bool {
        std::mem::take(&mut self.peers)
    }

    /// Takes the marked Services, in order; `all` lists every Service.
    pub(crate) fn take_services<'a>(
        &mut self,
        all: impl Iterator<Item = &'a Arc<ObjectKey>>,
    ) -> BTreeSet<Arc<ObjectKey>> {
        let marked = std::mem::take(&mut self.services);
        if std::mem::take(&mut self.all_services) { all.cloned().collect() } else { marked }
    }

    /// Takes the marked addresses, in order; `all` lists every address that a Service holds.
    pub(crate) fn take_addresses(&mut self, all: impl Iterator<Item = IpAddr>) -> BTreeSet<IpAddr> {
        // Also when all are marked: addresses that no Service holds any more are only among the marks.
        let mut marked = std::mem::take(&mut self.addresses);
        if std::mem::take(&mut self.all_addresses) {
            marked.extend(all);
        }
        marked
    }
}
