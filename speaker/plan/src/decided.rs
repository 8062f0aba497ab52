//! What was decided. Current after [`Plan::changes`].

use std::net::IpAddr;

use fairlead_crds::model::service::ObjectKey;

use super::change::{AnnouncementState, Work};
use super::input::Node;
use super::plan::Plan;
use super::problems::Problem;
use super::reason::{NotAnnouncedReason, Protocol};

impl Plan {
    /// Why this node does not announce an address of a Service, or that it does. `None`: the Service does not
    /// hold the address. Current after [`Plan::changes`].
    pub fn verdict(
        &self,
        service: &ObjectKey,
        address: IpAddr,
        protocol: Protocol,
    ) -> Option<AnnouncementState> {
        let entry = self.services.get(service)?;
        let at = entry.service.addresses.iter().position(|a| *a == address)?;
        let (l2, bgp) = entry.verdicts.get(at)?;
        Some(match protocol {
            Protocol::L2 => *l2,
            Protocol::Bgp => *bgp,
        })
    }

    /// The node that announces an address by L2.
    pub fn owner(&self, address: IpAddr) -> Option<&str> {
        self.addresses.get(&address)?.owner.as_deref()
    }

    /// What this node should announce and does not, what matters most first.
    pub fn problems(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.problems.iter()
    }

    /// How many addresses this node announces by L2.
    pub fn l2_announced(&self) -> usize {
        self.l2_announced
    }

    /// How many prefixes this node announces to at least one peer.
    pub fn bgp_announced(&self) -> usize {
        self.bgp_announced
    }

    /// How many prefixes are announced to each peer that this node opens.
    pub fn routes_by_peer(&self) -> impl Iterator<Item = (&str, usize)> {
        self.peers.iter().map(|(name, open)| (&**name, open.routes.len()))
    }

    /// The Node object of this node.
    pub fn own_node(&self) -> Option<&Node> {
        self.nodes.get(&self.me)
    }

    /// Work done so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Why this node may announce nothing at all, if so.
    pub fn node_reason(&self) -> Option<NotAnnouncedReason> {
        match self.own_node() {
            None => Some(NotAnnouncedReason::NodeUnknown),
            Some(node) if node.network_unavailable => Some(NotAnnouncedReason::NodeNetworkUnavailable),
            Some(node) if node.excluded => Some(NotAnnouncedReason::NodeExcluded),
            Some(_) => None,
        }
    }
}
