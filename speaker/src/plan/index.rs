//! The state behind the plan, and the verbs that change it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::config::{Config, Peer, Pool, PoolSelection};
use fairlead_crds::service::ObjectKey;
use ipnet::IpNet;

use super::input::{Node, NodeName, Service, Slice, SliceKey};
use super::l2::{Candidates, Tally};
use super::output::{Attributes, Change, Interfaces, Verdict, Work};
use super::reason::{Protocol, Reason};
use super::trouble::{self, Trouble};

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
    troubles: BTreeSet<Trouble>,
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
    pub(super) verdicts: Vec<(Verdict, Verdict)>,
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
    pub(super) announced: Option<Interfaces>,
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
            troubles: BTreeSet::new(),
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
        let verdicts = vec![(Verdict::Announced, Verdict::Announced); service.addresses.len()];
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
            let quiet = (Verdict::Announced, Verdict::Announced);
            trouble::update(&mut self.troubles, key, *address, *verdicts, quiet);
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
        let restricted = |state: &Address| matches!(state.announced, Some(Interfaces::Only(_)));
        self.dirty.addresses.extend(self.addresses.iter().filter(|(_, s)| restricted(s)).map(|(a, _)| *a));
    }

    // ----- Configuration -----

    /// This is the configuration.
    pub fn set_config(&mut self, new: Config) {
        let old = std::mem::replace(&mut self.config, new);
        self.dirty.peers |= old.peers != self.config.peers;
        self.dirty.candidates |= old.l2_advertisements != self.config.l2_advertisements;
        self.touch_pools(&old);
        self.interned.retain(|attributes| Arc::strong_count(attributes) > 1);
    }

    /// Marks the addresses in all pools that changed, or whose advertisements did.
    fn touch_pools(&mut self, old: &Config) {
        let new = &self.config;
        let mut selections: Vec<&PoolSelection> = Vec::new();
        for ads in differing(&old.l2_advertisements, &new.l2_advertisements) {
            selections.extend(ads.into_iter().flatten().map(|ad| &ad.pools));
        }
        for ads in differing(&old.bgp_advertisements, &new.bgp_advertisements) {
            selections.extend(ads.into_iter().flatten().map(|ad| &ad.pools));
        }
        let withheld: BTreeSet<&str> = old
            .lookup
            .withheld
            .symmetric_difference(&new.lookup.withheld)
            .map(|(_, pool)| pool.as_str())
            .collect();
        let concerned = |pool: &&Pool| {
            withheld.contains(pool.name.as_str()) || selections.iter().any(|selection| selection.covers(pool))
        };

        let changed = differing(&old.pools, &new.pools).flatten().flatten();
        let covered = old.pools.values().chain(new.pools.values()).filter(concerned);
        for range in changed.chain(covered).flat_map(|pool| &pool.ranges) {
            for (address, state) in self.addresses.range(range.first()..=range.last()) {
                self.dirty.addresses.insert(*address);
                self.dirty.services.extend(state.services.iter().cloned());
            }
        }

        // What is held of a refused pool hangs on its name: its ranges may be the very thing that is wrong with it.
        let changed = differing(&old.refused_pools, &new.refused_pools).flatten().flatten();
        let covered = old.refused_pools.values().chain(new.refused_pools.values()).filter(concerned);
        let refused: BTreeSet<&str> = changed.chain(covered).map(|pool| pool.name.as_str()).collect();
        if refused.is_empty() {
            return;
        }
        for (key, entry) in &self.services {
            if entry.service.allocated_from.as_deref().is_some_and(|name| refused.contains(name)) {
                self.dirty.addresses.extend(&entry.service.addresses);
                self.dirty.services.insert(key.clone());
            }
        }
    }

    // ----- What follows -----

    /// What is to be done about all that changed since the last call, in the order in which to do it.
    pub fn changes(&mut self) -> Vec<Change> {
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
        verdict: Verdict,
    ) {
        let Some(entry) = self.services.get_mut(key) else { return };
        let Some(at) = entry.service.addresses.iter().position(|a| *a == address) else { return };
        let Some(verdicts) = entry.verdicts.get_mut(at) else { return };
        let before = *verdicts;
        match protocol {
            Protocol::L2 => verdicts.0 = verdict,
            Protocol::Bgp => verdicts.1 = verdict,
        }
        trouble::update(&mut self.troubles, key, address, before, *verdicts);
    }

    // ----- What was decided -----

    /// Why this node does not announce an address of a Service, or that it does. `None`: the Service does not
    /// hold the address. Current after [`Plan::changes`].
    pub fn verdict(&self, service: &ObjectKey, address: IpAddr, protocol: Protocol) -> Option<Verdict> {
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
    pub fn troubles(&self) -> impl ExactSizeIterator<Item = &Trouble> {
        self.troubles.iter()
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
    pub fn node_reason(&self) -> Option<Reason> {
        match self.own_node() {
            None => Some(Reason::NodeUnknown),
            Some(node) if node.network_unavailable => Some(Reason::NodeNetworkUnavailable),
            Some(node) if node.excluded => Some(Reason::NodeExcluded),
            Some(_) => None,
        }
    }
}

/// The entries that differ between two maps, each as it was before and is after.
fn differing<'a, V: PartialEq>(
    old: &'a BTreeMap<String, V>,
    new: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = [Option<&'a V>; 2]> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names.into_iter().map(|name| [old.get(name), new.get(name)]).filter(|[before, after]| before != after)
}
