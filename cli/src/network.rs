//! What the speakers should announce, computed by the crate that also decides in the speaker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_bgp::{Attributes, Community};
use fairlead_crds::model::config::{Config, Peer};
use fairlead_crds::model::service::ObjectKey;
use fairlead_plan::{
    AnnouncementChange, Node, NodeInterfaces, NodeName, Plan, Service, Slice, SliceKey, trim,
};
use ipnet::IpNet;
use serde::Serialize;

use crate::cluster::Snapshot;

/// The inputs of the plans of all nodes.
pub(crate) struct Network {
    pub config: Config,
    pub services: Vec<(ObjectKey, Service)>,
    slices: Vec<(SliceKey, Slice)>,
    pub nodes: Vec<(NodeName, Node)>,
    live: BTreeSet<NodeName>,
    /// The interfaces that the Speaker objects list.
    interfaces: NodeInterfaces,
}

/// The plan of one node, and its routes.
pub(crate) struct NodePlan {
    pub plan: Plan,
    /// The peers to which the node opens sessions, by name.
    pub peers: BTreeMap<String, Peer>,
    pub routes: Vec<Route>,
}

/// A route that a node sends to a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Route {
    pub peer: String,
    pub prefix: IpNet,
    /// The AS numbers, the nearest first; empty to an iBGP peer.
    pub as_path: Vec<u32>,
    pub med: Option<u32>,
    /// Sent to iBGP peers only.
    pub local_pref: Option<u32>,
    /// Standard, large and extended communities.
    pub communities: Vec<String>,
}

impl Network {
    /// Returns the network of a cluster with this configuration, of which the peers of other classes are
    /// ignored, as in the speaker.
    pub(crate) fn of(snapshot: &Snapshot, mut config: Config) -> Self {
        let class = snapshot.instance.class.as_deref();
        config.peers.retain(|_, peer| peer.class.as_deref() == class);
        config.index();
        let slices = snapshot.slices.iter().cloned().map(trim::slice);
        // Whether speakers drain cordoned nodes is a flag of theirs.
        let nodes = snapshot.nodes.iter().cloned().map(|node| trim::node(node, false));
        Self {
            config,
            services: snapshot.balancers().map(|(_, one)| (one.key.clone(), Service::from(one))).collect(),
            slices: slices.filter_map(|(key, slice)| Some((key, slice?))).collect(),
            nodes: nodes.map(|(name, node, _)| (name, node)).collect(),
            interfaces: snapshot.node_interfaces(),
            live: snapshot.live_nodes().into_iter().map(NodeName::from).collect(),
        }
    }

    /// Keeps the Services on which the announcement of these addresses depends: those that share an address
    /// or the route of an aggregate.
    pub(crate) fn keep_related(&mut self, addresses: &[IpAddr]) {
        let aggregates: Vec<IpNet> = self
            .config
            .bgp_advertisements
            .values()
            .flat_map(|ad| addresses.iter().map(move |address| (ad, *address)))
            .filter_map(|(ad, address)| {
                let length = if address.is_ipv4() { ad.aggregation_length } else { ad.aggregation_length_v6 };
                IpNet::new(address, length).ok()
            })
            .collect();
        let is_related = |address: &IpAddr| {
            addresses.contains(address) || aggregates.iter().any(|prefix| prefix.contains(address))
        };
        self.services.retain(|(_, service)| service.addresses.iter().any(is_related));
        let kept: BTreeSet<ObjectKey> = self.services.iter().map(|(key, _)| key.clone()).collect();
        self.slices.retain(|(key, slice)| {
            kept.contains(&ObjectKey { namespace: key.namespace.clone(), name: slice.service.clone() })
        });
    }

    /// Returns the plan with which every node computes the owners of L2 addresses.
    pub(crate) fn plan_of_owners(&self) -> Plan {
        let mut plan = self.plan("", self.nodes.clone());
        plan.set_live(Some(&self.live));
        plan.changes();
        plan
    }

    /// Returns the plan of a node as if no other node existed, which has the routes of the node.
    pub(crate) fn plan_of(&self, name: &str) -> NodePlan {
        let own = self.nodes.iter().filter(|(node, _)| **node == *name).cloned();
        let mut plan = self.plan(name, own.collect());
        plan.set_live(Some(&BTreeSet::from([name.into()])));
        let mut peers: BTreeMap<String, Peer> = BTreeMap::new();
        let (mut announced, mut shutdown) = (Vec::new(), false);
        for change in plan.changes() {
            match change {
                AnnouncementChange::PeerOpen(peer) => {
                    peers.insert(peer.name.clone(), *peer);
                }
                AnnouncementChange::GracefulShutdown(is_on) => shutdown = is_on,
                AnnouncementChange::RouteAnnounce { peer, prefix, attributes } => {
                    announced.push((peer, prefix, attributes));
                }
                _ => {}
            }
        }
        let route = |(name, prefix, attributes): (Arc<str>, IpNet, Arc<Attributes>)| {
            let peer = peers.get(&*name)?;
            Some(Route::new(peer, prefix, &attributes, shutdown))
        };
        let mut routes: Vec<Route> = announced.into_iter().filter_map(route).collect();
        routes.sort();
        NodePlan { plan, peers, routes }
    }

    fn plan(&self, name: &str, nodes: Vec<(NodeName, Node)>) -> Plan {
        let mut plan = Plan::new(name);
        plan.set_config(&self.config);
        plan.reset_nodes(nodes);
        plan.set_interfaces(&self.interfaces);
        plan.reset_slices(self.slices.clone());
        plan.reset_services(self.services.clone());
        plan
    }
}

impl Route {
    fn new(peer: &Peer, prefix: IpNet, attributes: &Attributes, shutdown: bool) -> Self {
        let own = peer.local_asn.unwrap_or(peer.my_asn);
        let length = if peer.is_internal() { 0 } else { 1 + usize::from(attributes.as_path_prepend) };
        let mut standard = attributes.communities.clone();
        if shutdown {
            standard.insert(Community::GRACEFUL_SHUTDOWN);
        }
        let standard = standard.iter().map(ToString::to_string);
        let large = attributes.large_communities.iter().map(ToString::to_string);
        let extended = attributes.extended_communities.iter().map(|community| {
            let octets: String = community.0.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("0x{octets}")
        });
        Self {
            peer: peer.name.clone(),
            prefix,
            as_path: vec![own; length],
            med: attributes.med,
            local_pref: attributes.local_pref.or(peer.is_internal().then_some(100)),
            communities: standard.chain(large).chain(extended).collect(),
        }
    }

    /// Returns the AS path as routers write it.
    pub(crate) fn path(&self) -> String {
        self.as_path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    /// Describes the attributes.
    pub(crate) fn attributes(&self) -> String {
        let mut parts = Vec::new();
        if !self.as_path.is_empty() {
            parts.push(format!("AS path {}", self.path()));
        }
        parts.extend(self.med.map(|med| format!("MED {med}")));
        parts.extend(self.local_pref.map(|preference| format!("LOCAL_PREF {preference}")));
        if !self.communities.is_empty() {
            parts.push(format!("communities {}", self.communities.join(" ")));
        }
        if parts.is_empty() { "empty AS path".to_owned() } else { parts.join(", ") }
    }
}

/// Returns true if a list of addresses and ranges `first-last` contains an address.
pub(crate) fn lists(entries: &[String], address: IpAddr) -> bool {
    entries.iter().any(|entry| {
        let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
        match (first.parse::<IpAddr>(), last.parse::<IpAddr>()) {
            (Ok(first), Ok(last)) => {
                first.is_ipv4() == address.is_ipv4() && (first..=last).contains(&address)
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_contain_the_addresses_of_ranges() {
        let entries = ["192.0.2.1".to_owned(), "192.0.2.5-192.0.2.7".to_owned(), "x".to_owned()];
        for (address, listed) in
            [("192.0.2.1", true), ("192.0.2.2", false), ("192.0.2.6", true), ("::1", false)]
        {
            assert_eq!(lists(&entries, address.parse().unwrap()), listed, "{address}");
        }
    }
}
