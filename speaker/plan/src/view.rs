//! The inputs of the plan, as the election and the routes read them.

use std::net::IpAddr;

use fairlead_crds::model::config::{Config, L2Advertisement, Labels};
use fairlead_crds::model::selector::{Selector, any_or_empty};

use crate::endpoints::Endpoints;
use crate::nodes::Nodes;
use crate::services::Services;

/// A borrowed view of everything that is known about the cluster.
#[derive(Clone, Copy)]
pub(crate) struct ClusterView<'a> {
    pub(crate) config: &'a Config,
    pub(crate) nodes: &'a Nodes,
    pub(crate) services: &'a Services,
    pub(crate) endpoints: &'a Endpoints,
}

impl<'a> ClusterView<'a> {
    pub(crate) fn own_labels(self) -> Option<&'a Labels> {
        self.nodes.own().map(|node| &node.labels)
    }

    /// Returns whether an L2 advertisement covers an address, for one of the Services that hold it.
    pub(crate) fn is_covered(self, ad: &L2Advertisement, address: IpAddr) -> bool {
        self.services.holders(address).iter().any(|key| {
            let service = self.services.get(key);
            service.is_some_and(|service| {
                let pool = service.pool_of(self.config, address);
                pool.is_some_and(|pool| ad.pools.covers(pool))
                    && any_or_empty(&ad.service_selectors, &service.labels)
            })
        })
    }

    /// Returns whether these node selectors select this node; without selectors, every node is selected.
    pub(crate) fn selects_own_node(self, selectors: &[Selector]) -> bool {
        self.own_labels().is_some_and(|labels| any_or_empty(selectors, labels))
    }
}
