//! Tests of the plan: tables of clusters and what their nodes announce.

mod aggregates;
mod announced_lists;
mod cost;
mod differences;
mod drain;
mod edits;
mod election;
mod families;
mod first_claims;
mod holds;
mod interfaces;
mod l2;
mod order;
mod peers;
mod reasons;
mod routes;
mod takeovers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_bgp::Attributes;
use fairlead_crds::model::config::{
    BgpAdvertisement, Config, L2Advertisement, Peer, PeerAddress, Pool, PoolSelection,
};
use fairlead_crds::model::family::Family;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::selector::Selector;
use fairlead_crds::model::service::TrafficPolicy;
use fairlead_l2::{InterfaceSet, ServedFamilies, ServedInterfaces};
pub(super) use fairlead_test_support::{bgp_advertisement, ip, key, peer};
use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::*;

/// A cluster that a test describes.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) services: BTreeMap<String, Service>,
    /// Nodes with an endpoint, by Service: `n1`, with `/v4` or `/v6` if the endpoint is of one family only,
    /// and with `!` if it is terminating.
    pub(super) endpoints: BTreeMap<String, Vec<String>>,
    pub(super) config: Config,
    pub(super) live: Option<BTreeSet<String>>,
    /// The interfaces of nodes that reported them, in the form of [`served`].
    pub(super) interfaces: BTreeMap<String, &'static str>,
}

/// Parses `a=b,c=d`.
pub(super) fn labels<L: FromIterator<(String, String)>>(text: &str) -> L {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Parses interfaces: `eth0 eth1/v4 eth2/v6`, the latter two with one address family only.
pub(super) fn served(text: &str) -> ServedInterfaces {
    let interface = |text: &str| match text.split_once('/') {
        Some((name, family)) => (name.to_owned(), ServedFamilies { v4: family == "v4", v6: family == "v6" }),
        None => (text.to_owned(), ServedFamilies::BOTH),
    };
    text.split_whitespace().map(interface).collect()
}

/// Returns a selector by `matchLabels`.
pub(super) fn selector(text: &str) -> Selector {
    let selector = LabelSelector { match_labels: Some(labels(text)), match_expressions: None };
    Selector::try_from(&selector).unwrap()
}

pub(super) fn l2_advertisement(name: &str) -> L2Advertisement {
    L2Advertisement {
        name: name.to_owned(),
        pools: PoolSelection::default(),
        node_selectors: Vec::new(),
        preferred_nodes: Vec::new(),
        service_selectors: Vec::new(),
        interfaces: BTreeSet::new(),
        on_conflict: Default::default(),
    }
}

impl World {
    /// Returns live nodes n1 … n`count`, each with the label `name=<its name>`, and the pool `main` with
    /// 192.0.2.0/24 and 2001:db8::/112.
    pub(super) fn of(count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|n| format!("n{n}")).collect();
        let mut world = Self { live: Some(names.iter().cloned().collect()), ..Self::default() };
        for name in names {
            let node = Node { labels: labels(&format!("name={name}")), ..Node::default() };
            world.nodes.insert(name, node);
        }
        world.pool("main", &["192.0.2.0-192.0.2.255", "2001:db8::-2001:db8::ffff"])
    }

    pub(super) fn pool(mut self, name: &str, ranges: &[&str]) -> Self {
        let ranges = ranges.iter().map(|range| {
            let (first, last) = range.split_once('-').unwrap();
            IpRange::new(ip(first), ip(last)).unwrap()
        });
        let pool = Pool { labels: labels(&format!("pool={name}")), ..Pool::new(name, ranges.collect()) };
        self.config.pools.insert(name.to_owned(), pool);
        self
    }

    /// Adds a Service with addresses and nodes with serving endpoints, both separated by spaces.
    pub(super) fn service(
        mut self,
        name: &str,
        policy: TrafficPolicy,
        addresses: &str,
        endpoints: &str,
    ) -> Self {
        let service = Service {
            labels: labels(&format!("app={name}")),
            traffic_policy: policy,
            addresses: addresses.split_whitespace().map(ip).collect(),
            ..Service::default()
        };
        self.services.insert(name.to_owned(), service);
        self.endpoints.insert(name.to_owned(), endpoints.split_whitespace().map(str::to_owned).collect());
        self
    }

    pub(super) fn l2(mut self, ad: L2Advertisement) -> Self {
        self.config.l2_advertisements.insert(ad.name.clone(), ad);
        self
    }

    pub(super) fn bgp(mut self, ad: BgpAdvertisement) -> Self {
        self.config.bgp_advertisements.insert(ad.name.clone(), ad);
        self
    }

    pub(super) fn peer(mut self, peer: Peer) -> Self {
        self.config.peers.insert(peer.name.clone(), peer);
        self
    }

    /// Returns the EndpointSlices of a Service, one for each family.
    pub(super) fn slices(&self, service: &str) -> [(SliceKey, Slice); 2] {
        let endpoints = self.endpoints.get(service).map(Vec::as_slice).unwrap_or_default();
        [(Family::V4, "/v4"), (Family::V6, "/v6")].map(|(family, suffix)| {
            let of_family = endpoints.iter().filter_map(|endpoint| {
                let (name, terminating) = match endpoint.strip_suffix('!') {
                    Some(name) => (name, true),
                    None => (endpoint.as_str(), false),
                };
                let name = name.strip_suffix(suffix).unwrap_or(name);
                (!name.contains('/')).then(|| (NodeName::from(name), terminating))
            });
            let (terminating, ready): (Vec<_>, Vec<_>) = of_family.partition(|(_, terminating)| *terminating);
            let set =
                |endpoints: Vec<(NodeName, bool)>| endpoints.into_iter().map(|(n, _)| Some(n)).collect();
            let name = format!("{service}-{}", family.to_string().to_lowercase());
            let service = service.to_owned();
            (key(&name), Slice { service, family, ready: set(ready), terminating: set(terminating) })
        })
    }

    pub(super) fn live_names(&self) -> Option<BTreeSet<NodeName>> {
        Some(self.live.as_ref()?.iter().map(|name| name.as_str().into()).collect())
    }

    /// Passes the interfaces to a plan: those of its own node as the kernel has them, the others as reported.
    pub(super) fn set_interfaces(&self, plan: &mut Plan) {
        let own_name = plan.own_name().to_string();
        if let Some(own) = self.interfaces.get(&own_name) {
            let network = |families| LinkNetwork { families, ..LinkNetwork::default() };
            plan.set_links(served(own).into_iter().map(|(name, f)| (name, network(f))).collect());
        }
        let others = self.interfaces.iter().filter(|(name, _)| **name != own_name);
        let others = others.map(|(name, text)| (name.as_str().into(), Arc::new(served(text))));
        plan.set_interfaces(&others.collect());
    }

    /// Lists everything to a plan.
    pub(super) fn list_to(&self, plan: &mut Plan) {
        self.set_interfaces(plan);
        let nodes = self.nodes.iter().map(|(name, node)| (name.as_str().into(), node.clone()));
        plan.reset_nodes(nodes.collect());
        plan.set_config(&self.config);
        plan.set_live(self.live_names().as_ref());
        plan.reset_slices(self.endpoints.keys().flat_map(|service| self.slices(service)).collect());
        plan.reset_services(self.services.iter().map(|(name, s)| (key(name), s.clone())).collect());
    }

    /// Returns the plan of one node and what it announces.
    pub(super) fn plan_of(&self, node: &str) -> (Plan, Announced) {
        let mut plan = Plan::new(node);
        self.list_to(&mut plan);
        let mut announced = Announced::default();
        announced.carry_out(plan.changes());
        (plan, announced)
    }

    /// Returns the nodes that announce an address by L2; more than one is wrong.
    pub(super) fn l2_nodes(&self, address: &str) -> Vec<String> {
        let owns = |name: &&String| self.plan_of(name).1.l2.contains_key(&ip(address));
        self.nodes.keys().filter(owns).cloned().collect()
    }

    /// Returns the nodes that announce a prefix to a peer.
    pub(super) fn bgp_nodes(&self, peer: &str, prefix: &str) -> Vec<String> {
        let route = (peer.to_owned(), prefix.parse::<IpNet>().unwrap());
        let has = |name: &&String| self.plan_of(name).1.routes.contains_key(&route);
        self.nodes.keys().filter(has).cloned().collect()
    }
}

/// The announcements of a node that carried out changes. Panics on inconsistent changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Announced {
    pub(super) peers: BTreeMap<String, Peer>,
    pub(super) routes: BTreeMap<(String, IpNet), Attributes>,
    pub(super) l2: BTreeMap<IpAddr, InterfaceSet>,
}

impl Announced {
    pub(super) fn carry_out(&mut self, changes: Vec<AnnouncementChange>) {
        for change in changes {
            match change {
                AnnouncementChange::PeerOpen(mut peer) => {
                    forget_plan_parameters(&mut peer);
                    self.routes.retain(|(name, _), _| *name != peer.name);
                    self.peers.insert(peer.name.clone(), *peer);
                }
                AnnouncementChange::PeerUpdate { peer, mut wanted, .. } => {
                    forget_plan_parameters(&mut wanted);
                    assert!(self.peers.remove(&*peer).is_some(), "{peer} was not open");
                    self.routes = std::mem::take(&mut self.routes)
                        .into_iter()
                        .map(|((name, prefix), attributes)| {
                            let name = if name == *peer { wanted.name.clone() } else { name };
                            ((name, prefix), attributes)
                        })
                        .collect();
                    self.peers.insert(wanted.name.clone(), *wanted);
                }
                AnnouncementChange::GracefulShutdown(_) => {}
                AnnouncementChange::PeerClose { peer } => {
                    assert!(self.peers.remove(&*peer).is_some(), "{peer} was not open");
                    self.routes.retain(|(name, _), _| **name != *peer);
                }
                AnnouncementChange::RouteAnnounce { peer, prefix, attributes } => {
                    assert!(self.peers.contains_key(&*peer), "{peer} is not open");
                    let before = self.routes.insert((peer.to_string(), prefix), (*attributes).clone());
                    assert_ne!(before.as_ref(), Some(&*attributes), "{prefix} was announced already");
                }
                AnnouncementChange::RouteWithdraw { peer, prefix } => {
                    let before = self.routes.remove(&(peer.to_string(), prefix));
                    assert!(before.is_some(), "{prefix} was not announced to {peer}");
                }
                AnnouncementChange::L2Announce { address, interfaces, .. } => {
                    let before = self.l2.insert(address, interfaces.clone());
                    assert_ne!(before, Some(interfaces), "{address} was announced already");
                }
                AnnouncementChange::L2Withdraw { address, .. } => {
                    assert!(self.l2.remove(&address).is_some(), "{address} was not announced");
                }
            }
        }
    }
}

/// Removes what the plan evaluates itself: the selection of nodes, and what it adds to routes.
fn forget_plan_parameters(peer: &mut Peer) {
    peer.node_selectors.clear();
    peer.link_bandwidth = None;
}
