//! The state behind the plan, and the verbs that change it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_bgp::Attributes;
use fairlead_crds::model::config::{Config, Peer};
use fairlead_crds::model::service::ObjectKey;
use fairlead_l2::InterfaceSet;
use ipnet::IpNet;

use super::change::{AnnouncementChange, AnnouncementState, Work};
use super::election::{Candidates, Tally};
use super::input::{Node, NodeName, Service, Slice, SliceKey};
use super::problems::{self, Problem};
use super::reason::Protocol;

/// The plan of one node.
#[derive(Debug)]
pub struct Plan {
    pub(super) me: NodeName,

    // What is known.
    pub(super) services: BTreeMap<Arc<ObjectKey>, Entry>,
    slices: BTreeMap<SliceKey, Slice>,
    slices_of: BTreeMap<ObjectKey, Vec<Box<str>>>,
    pub(super) nodes: BTreeMap<NodeName, Node>,
    pub(super) config: Config,
    /// `None` until the mesh has settled.
    pub(super) live: Option<BTreeSet<NodeName>>,
    pub(super) links: Option<BTreeSet<String>>,

    // What follows from it.
    pub(super) candidates: Candidates,
    pub(super) addresses: BTreeMap<IpAddr, Address>,
    pub(super) owned: HashMap<NodeName, BTreeSet<IpAddr>>,
    pub(super) prefixes: BTreeMap<IpNet, Prefix>,
    pub(super) peers: BTreeMap<Arc<str>, OpenPeer>,
    pub(super) interned: BTreeSet<Arc<Attributes>>,
    pub(super) problems: BTreeSet<Problem>,
    pub(super) l2_announced: usize,
    pub(super) bgp_announced: usize,

    pub(super) dirty: Dirty,
    pub(super) tally: Vec<Tally>,
    pub(super) work: Work,
}

/// A Service and what was decided about it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) service: Service,
    /// Verdicts by L2 and BGP, one pair per address of the Service.
    pub(super) verdicts: Vec<(AnnouncementState, AnnouncementState)>,
    /// Routes that this Service asks for: prefix and name of the advertisement. Sorted.
    pub(super) routes: Vec<(IpNet, Arc<str>)>,
}

/// An address that Services hold.
#[derive(Debug, Default)]
pub(super) struct Address {
    /// Those Services, sorted; several when the address is shared.
    pub(super) services: Vec<Arc<ObjectKey>>,
    /// The node that announces it by L2.
    pub(super) owner: Option<NodeName>,
    /// What this node does about it.
    pub(super) announced: Option<InterfaceSet>,
}

/// A destination that Services ask for.
#[derive(Debug, Default)]
pub(super) struct Prefix {
    /// By advertisement: how many addresses of Services need it. An aggregate stays while any does.
    pub(super) wanted: BTreeMap<Arc<str>, u32>,
    /// To how many peers it is announced.
    pub(super) peers: usize,
}

/// A session that this node opens, and what is announced over it.
#[derive(Debug)]
pub(super) struct OpenPeer {
    pub(super) peer: Peer,
    pub(super) routes: BTreeMap<IpNet, Arc<Attributes>>,
}

/// What changed since the last [`Plan::changes`].
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) services: BTreeSet<Arc<ObjectKey>>,
    pub(super) all_services: bool,
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) all_addresses: bool,
    pub(super) prefixes: BTreeSet<IpNet>,
    pub(super) peers: bool,
    pub(super) candidates: bool,
}

impl Plan {
    /// The plan of node `me`, which knows nothing yet and therefore announces nothing.
    pub fn new(me: impl Into<NodeName>) -> Self {
        Self {
            me: me.into(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            nodes: BTreeMap::new(),
            config: Config::default(),
            live: None,
            links: None,
            candidates: Candidates::default(),
            addresses: BTreeMap::new(),
            owned: HashMap::new(),
            prefixes: BTreeMap::new(),
            peers: BTreeMap::new(),
            interned: BTreeSet::new(),
            problems: BTreeSet::new(),
            l2_announced: 0,
            bgp_announced: 0,
            dirty: Dirty::default(),
            tally: Vec::new(),
            work: Work::default(),
        }
    }

    // ----- Services -----

    /// A Service of ours is new or changed.
    pub fn apply_service(&mut self, key: ObjectKey, mut service: Service) {
        let mut seen = BTreeSet::new();
        service.addresses.retain(|address| seen.insert(*address));
        if self.services.get(&key).is_some_and(|entry| entry.service == service) {
            return;
        }
        let key = match self.services.get_key_value(&key) {
            Some((known, _)) => known.clone(),
            None => Arc::new(key),
        };
        let mut routes = Vec::new();
        if let Some(old) = self.services.remove(&key) {
            self.unlink(&key, &old);
            routes = old.routes;
        }
        for address in &service.addresses {
            let services = &mut self.addresses.entry(*address).or_default().services;
            if let Err(at) = services.binary_search(&key) {
                services.insert(at, key.clone());
            }
            self.dirty.addresses.insert(*address);
        }
        let verdicts =
            vec![(AnnouncementState::Announced, AnnouncementState::Announced); service.addresses.len()];
        self.services.insert(key.clone(), Entry { service, verdicts, routes });
        self.dirty.services.insert(key);
    }

    /// A Service is gone, or is not ours any more.
    pub fn remove_service(&mut self, key: &ObjectKey) {
        if let Some((key, old)) = self.services.remove_entry(key) {
            self.unlink(&key, &old);
            self.release_routes(&old.routes);
            self.dirty.services.remove(&key);
        }
    }

    /// These are all Services of ours.
    pub fn reset_services(&mut self, all: Vec<(ObjectKey, Service)>) {
        let kept: BTreeSet<&ObjectKey> = all.iter().map(|(key, _)| key).collect();
        let gone: Vec<_> = self.services.keys().filter(|k| !kept.contains(k.as_ref())).cloned().collect();
        gone.iter().for_each(|key| self.remove_service(key));
        all.into_iter().for_each(|(key, service)| self.apply_service(key, service));
    }

    /// Takes a Service's addresses out of the index of addresses, and its verdicts out of the reports.
    fn unlink(&mut self, key: &Arc<ObjectKey>, entry: &Entry) {
        for (address, verdicts) in entry.service.addresses.iter().zip(&entry.verdicts) {
            let quiet = (AnnouncementState::Announced, AnnouncementState::Announced);
            problems::update(&mut self.problems, key, *address, *verdicts, quiet);
            if let Some(state) = self.addresses.get_mut(address) {
                state.services.retain(|other| other != key);
            }
            self.dirty.addresses.insert(*address);
        }
    }

    // ----- EndpointSlices -----

    /// An EndpointSlice is new or changed.
    pub fn apply_slice(&mut self, key: SliceKey, slice: Slice) {
        match self.slices.get(&key) {
            Some(known) if *known == slice => return,
            Some(known) if known.service != slice.service => self.remove_slice(&key),
            _ => {}
        }
        let service = ObjectKey { namespace: key.namespace.clone(), name: slice.service.clone() };
        self.touch_service(&service);
        let slices = self.slices_of.entry(service).or_default();
        if !slices.iter().any(|name| **name == *key.name) {
            slices.push(key.name.as_str().into());
        }
        self.slices.insert(key, slice);
    }

    /// An EndpointSlice is gone.
    pub fn remove_slice(&mut self, key: &SliceKey) {
        let Some(slice) = self.slices.remove(key) else { return };
        let service = ObjectKey { namespace: key.namespace.clone(), name: slice.service };
        if let Some(slices) = self.slices_of.get_mut(&service) {
            slices.retain(|name| **name != *key.name);
            if slices.is_empty() {
                self.slices_of.remove(&service);
            }
        }
        self.touch_service(&service);
    }

    /// These are all EndpointSlices.
    pub fn reset_slices(&mut self, all: Vec<(SliceKey, Slice)>) {
        let kept: BTreeSet<&SliceKey> = all.iter().map(|(key, _)| key).collect();
        let gone: Vec<_> = self.slices.keys().filter(|key| !kept.contains(key)).cloned().collect();
        gone.iter().for_each(|key| self.remove_slice(key));
        all.into_iter().for_each(|(key, slice)| self.apply_slice(key, slice));
    }

    /// The slices of a Service that have endpoints which can serve.
    pub(super) fn serving(&self, service: &ObjectKey) -> impl Iterator<Item = &Slice> {
        let names = self.slices_of.get(service).map(Vec::as_slice).unwrap_or_default();
        let namespace = service.namespace.clone();
        names
            .iter()
            .filter_map(move |name| {
                self.slices.get(&SliceKey { namespace: namespace.clone(), name: name.to_string() })
            })
            .filter(|slice| slice.serving)
    }

    fn touch_service(&mut self, key: &ObjectKey) {
        if let Some((key, entry)) = self.services.get_key_value(key) {
            self.dirty.addresses.extend(&entry.service.addresses);
            self.dirty.services.insert(key.clone());
        }
    }

    // ----- Nodes, the mesh, links -----

    /// A Node is new or changed.
    pub fn apply_node(&mut self, name: NodeName, node: Node) {
        let matters = match self.nodes.get(&name) {
            Some(known) => {
                known.labels != node.labels
                    || known.excluded != node.excluded
                    || known.network_unavailable != node.network_unavailable
            }
            None => true,
        };
        if matters {
            self.touch_node(&name);
        }
        self.nodes.insert(name, node);
    }

    /// A Node is gone.
    pub fn remove_node(&mut self, name: &str) {
        if let Some((name, _)) = self.nodes.remove_entry(name) {
            self.touch_node(&name);
        }
    }

    /// These are all Nodes.
    pub fn reset_nodes(&mut self, all: Vec<(NodeName, Node)>) {
        let kept: BTreeSet<&NodeName> = all.iter().map(|(name, _)| name).collect();
        let gone: Vec<_> = self.nodes.keys().filter(|name| !kept.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.remove_node(name));
        all.into_iter().for_each(|(name, node)| self.apply_node(name, node));
    }

    fn touch_node(&mut self, name: &NodeName) {
        self.dirty.candidates = true;
        if *name == self.me {
            self.dirty.all_services = true;
            self.dirty.all_addresses = true;
            self.dirty.peers = true;
        }
    }

    /// These speakers live, as the mesh has it; this one always does. `None`: the mesh has not settled, and no
    /// address is owned by anybody.
    pub fn set_live(&mut self, live: Option<&BTreeSet<NodeName>>) {
        let same = match (live, &self.live) {
            (None, None) => true,
            (Some(new), Some(known)) => {
                known.len() == new.len() + usize::from(!new.contains(&self.me)) && new.is_subset(known)
            }
            _ => false,
        };
        if same {
            return;
        }
        self.dirty.all_addresses |= live.is_some() != self.live.is_some();
        self.dirty.candidates = true;
        self.live = live.map(|names| names.iter().chain([&self.me]).cloned().collect());
    }

    /// These interfaces can announce. Until told, every interface is believed to exist.
    pub fn set_links(&mut self, links: BTreeSet<String>) {
        if self.links.as_ref() == Some(&links) {
            return;
        }
        self.links = Some(links);
        let restricted = |state: &Address| matches!(state.announced, Some(InterfaceSet::Named(_)));
        self.dirty.addresses.extend(self.addresses.iter().filter(|(_, s)| restricted(s)).map(|(a, _)| *a));
    }

    // ----- What follows -----

    /// What is to be done about all that changed since the last call, in the order in which to do it.
    pub fn changes(&mut self) -> Vec<AnnouncementChange> {
        let mut first = Vec::new();
        let mut announce = Vec::new();
        let mut withdraw = Vec::new();

        if std::mem::take(&mut self.dirty.candidates) {
            self.find_candidates();
        }
        if std::mem::take(&mut self.dirty.peers) {
            self.select_peers(&mut first, &mut withdraw);
        }
        let services = if std::mem::take(&mut self.dirty.all_services) {
            self.dirty.services.clear();
            self.services.keys().cloned().collect()
        } else {
            std::mem::take(&mut self.dirty.services)
        };
        for key in services {
            self.route_service(&key);
        }
        for prefix in std::mem::take(&mut self.dirty.prefixes) {
            self.merge_prefix(prefix, &mut announce, &mut withdraw);
        }
        let mut addresses = std::mem::take(&mut self.dirty.addresses);
        if std::mem::take(&mut self.dirty.all_addresses) {
            addresses.extend(self.addresses.keys());
        }
        for address in addresses {
            self.elect(address, &mut announce, &mut withdraw);
        }
        first.append(&mut announce);
        first.append(&mut withdraw);
        first
    }

    /// Notes a verdict, and keeps the reports in step with it.
    pub(super) fn judge(
        &mut self,
        key: &Arc<ObjectKey>,
        address: IpAddr,
        protocol: Protocol,
        verdict: AnnouncementState,
    ) {
        let Some(entry) = self.services.get_mut(key) else { return };
        let Some(at) = entry.service.addresses.iter().position(|a| *a == address) else { return };
        let Some(verdicts) = entry.verdicts.get_mut(at) else { return };
        let before = *verdicts;
        match protocol {
            Protocol::L2 => verdicts.0 = verdict,
            Protocol::Bgp => verdicts.1 = verdict,
        }
        problems::update(&mut self.problems, key, address, before, *verdicts);
    }
}
