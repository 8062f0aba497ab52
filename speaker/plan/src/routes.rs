//! Which routes go to which peer, with which attributes.
//!
//! Every eligible node announces; the routers balance. A Service asks for `(prefix, advertisement)` pairs;
//! prefixes count who asks, so that an aggregate is held while any member qualifies; per peer, the
//! advertisements that ask for a prefix are merged: communities are united.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_bgp::{Attributes, LargeCommunity};
use fairlead_crds::model::config::{BgpAdvertisement, Community, Peer, PeerAddress};
use fairlead_crds::model::selector::any_or_empty;
use fairlead_crds::model::service::{ObjectKey, TrafficPolicy};
use ipnet::IpNet;

use super::change::{AnnouncementChange, AnnouncementState};
use super::plan::{Entry, OpenPeer, Plan};
use super::reason::{NotAnnouncedReason, Protocol};

impl Plan {
    /// Opens and closes sessions as the node's labels and the peers' selectors say.
    pub(super) fn select_peers(
        &mut self,
        first: &mut Vec<AnnouncementChange>,
        last: &mut Vec<AnnouncementChange>,
    ) {
        let labels = self.own_node().map(|node| node.labels.clone());
        let selected =
            |peer: &&Peer| labels.as_ref().is_some_and(|labels| any_or_empty(&peer.node_selectors, labels));
        let wanted: Vec<Peer> = self.config.peers.values().filter(selected).cloned().collect();
        let names: BTreeSet<&str> = wanted.iter().map(|peer| peer.name.as_str()).collect();
        let gone: Vec<_> = self.peers.keys().filter(|name| !names.contains(&***name)).cloned().collect();
        let opens: Vec<Peer> = wanted
            .iter()
            .filter(|peer| {
                self.peers.get(peer.name.as_str()).is_none_or(|open| !same_session(&open.peer, peer))
            })
            .cloned()
            .collect();
        if gone.is_empty() && opens.is_empty() {
            return;
        }
        for name in gone {
            let Some(closed) = self.peers.remove(&name) else { continue };
            self.forget_routes(&closed);
            // Two sessions with one router would collide: there the old one goes first.
            let replaced = opens.iter().any(|peer| peer.address == closed.peer.address);
            let order = if replaced { &mut *first } else { &mut *last };
            order.push(AnnouncementChange::PeerClose { peer: name });
        }
        for peer in opens {
            let name: Arc<str> = peer.name.as_str().into();
            if let Some(replaced) = self.peers.remove(&name) {
                self.forget_routes(&replaced);
            }
            first.push(AnnouncementChange::PeerOpen(Box::new(peer.clone())));
            self.peers.insert(name, OpenPeer { peer, routes: Default::default() });
        }
        self.dirty.prefixes.extend(self.prefixes.keys());
        // Whether an address is announced at all may hang on a peer.
        self.dirty.all_services = true;
    }

    fn forget_routes(&mut self, closed: &OpenPeer) {
        for prefix in closed.routes.keys() {
            if let Some(state) = self.prefixes.get_mut(prefix) {
                state.peers -= 1;
                self.bgp_announced -= usize::from(state.peers == 0);
            }
        }
    }

    /// Computes the routes that a Service asks for.
    pub(super) fn route_service(&mut self, key: &Arc<ObjectKey>) {
        self.work.services += 1;
        let Some(entry) = self.services.get(key) else { return };
        let mut routes = Vec::new();
        let verdicts: Vec<(IpAddr, AnnouncementState)> = entry
            .service
            .addresses
            .iter()
            .map(|address| (*address, self.route_address(key, entry, *address, &mut routes)))
            .collect();
        routes.sort();
        for (address, verdict) in verdicts {
            self.judge(key, address, Protocol::Bgp, verdict);
        }
        // First the new, then the old: a prefix that stays wanted never counts down to nobody.
        for (prefix, ad) in &routes {
            *self.prefixes.entry(*prefix).or_default().wanted.entry(ad.clone()).or_default() += 1;
            self.dirty.prefixes.insert(*prefix);
        }
        let Some(entry) = self.services.get_mut(key) else { return };
        let old = std::mem::replace(&mut entry.routes, routes);
        self.release_routes(&old);
    }

    /// Counts down what a Service asked for.
    pub(super) fn release_routes(&mut self, routes: &[(IpNet, Arc<str>)]) {
        for (prefix, ad) in routes {
            self.dirty.prefixes.insert(*prefix);
            let Some(state) = self.prefixes.get_mut(prefix) else { continue };
            if let Some(count) = state.wanted.get_mut(ad) {
                *count -= 1;
                if *count == 0 {
                    state.wanted.remove(ad);
                }
            }
        }
    }

    fn route_address(
        &self,
        key: &ObjectKey,
        entry: &Entry,
        address: IpAddr,
        routes: &mut Vec<(IpNet, Arc<str>)>,
    ) -> AnnouncementState {
        let service = &entry.service;
        let Some(pool) = service.pool_of(&self.config, address) else {
            return AnnouncementState::Not(NotAnnouncedReason::AddressInNoPool);
        };
        let covering: Vec<_> = self.config.bgp_for(pool, &service.labels).collect();
        if covering.is_empty() {
            return AnnouncementState::Not(NotAnnouncedReason::NoMatchingAdvertisement);
        }
        if let Some(reason) = self.node_reason() {
            return AnnouncementState::Not(reason);
        }
        if self.serving(key).next().is_none() {
            return AnnouncementState::Not(NotAnnouncedReason::NoEndpoints);
        }
        let here = |ad: &&BgpAdvertisement| {
            self.own_node().is_some_and(|node| any_or_empty(&ad.node_selectors, &node.labels))
        };
        let ads: Vec<_> = covering.into_iter().filter(here).collect();
        if ads.is_empty() {
            return AnnouncementState::Not(NotAnnouncedReason::NodeNotSelected);
        }
        if service.traffic_policy == TrafficPolicy::Local
            && !self.serving(key).any(|slice| slice.nodes.binary_search(&self.me).is_ok())
        {
            return AnnouncementState::Not(NotAnnouncedReason::NoLocalEndpoints);
        }
        if conflicting(&ads, address) {
            return AnnouncementState::Not(NotAnnouncedReason::ConflictingAdvertisements);
        }
        for ad in &ads {
            let Ok(prefix) = IpNet::new(address, aggregation_length(ad, address)) else { continue };
            // The names are shared with those that other Services already use.
            let known =
                self.prefixes.get(&prefix.trunc()).and_then(|p| p.wanted.get_key_value(ad.name.as_str()));
            let name = known.map_or_else(|| ad.name.as_str().into(), |(name, _)| name.clone());
            routes.push((prefix.trunc(), name));
        }
        self.reached(&ads, address)
    }

    /// Whether any open session carries what these advertisements announce.
    fn reached(&self, ads: &[&BgpAdvertisement], address: IpAddr) -> AnnouncementState {
        if self.peers.is_empty() {
            return AnnouncementState::Not(NotAnnouncedReason::NoPeer);
        }
        let mut listed =
            self.peers.values().filter(|open| ads.iter().any(|ad| sent_to(ad, &open.peer))).peekable();
        if listed.peek().is_none() {
            return AnnouncementState::Not(NotAnnouncedReason::PeerNotSelected);
        }
        if !listed.any(|open| carries(&open.peer, address)) {
            return AnnouncementState::Not(NotAnnouncedReason::FamilyNotCarried);
        }
        AnnouncementState::Announced
    }

    /// Computes what each peer hears of a prefix.
    pub(super) fn merge_prefix(
        &mut self,
        prefix: IpNet,
        announce: &mut Vec<AnnouncementChange>,
        withdraw: &mut Vec<AnnouncementChange>,
    ) {
        self.work.prefixes += 1;
        let Some(state) = self.prefixes.get_mut(&prefix) else { return };
        let ads: Vec<&BgpAdvertisement> =
            state.wanted.keys().filter_map(|name| self.config.bgp_advertisements.get(&**name)).collect();
        let before = state.peers;
        for (name, open) in &mut self.peers {
            let carried = carries(&open.peer, prefix.addr());
            let mut sent = ads.iter().filter(|ad| carried && sent_to(ad, &open.peer)).peekable();
            if sent.peek().is_none() {
                if open.routes.remove(&prefix).is_some() {
                    state.peers -= 1;
                    withdraw.push(AnnouncementChange::RouteWithdraw { peer: name.clone(), prefix });
                }
                continue;
            }
            let merged = merge(sent);
            if open.routes.get(&prefix).is_some_and(|known| **known == merged) {
                continue;
            }
            let attributes = match self.interned.get(&merged) {
                Some(known) => known.clone(),
                None => {
                    let new = Arc::new(merged);
                    self.interned.insert(new.clone());
                    new
                }
            };
            if open.routes.insert(prefix, attributes.clone()).is_none() {
                state.peers += 1;
            }
            announce.push(AnnouncementChange::RouteAnnounce { peer: name.clone(), prefix, attributes });
        }
        self.bgp_announced += usize::from(state.peers > 0);
        self.bgp_announced -= usize::from(before > 0);
        if state.wanted.is_empty() {
            self.prefixes.remove(&prefix);
        }
    }
}

/// Whether the session need not be opened anew. Which nodes open it is none of its parameters.
fn same_session(open: &Peer, wanted: &Peer) -> bool {
    *open == Peer { node_selectors: open.node_selectors.clone(), ..wanted.clone() }
}

/// Whether a session carries routes of this family: that of its transport, or both where so configured.
fn carries(peer: &Peer, family_of: IpAddr) -> bool {
    match peer.address {
        PeerAddress::Ip(address) => {
            peer.dual_stack_address_family || address.is_ipv4() == family_of.is_ipv4()
        }
        PeerAddress::Interface(_) => true,
    }
}

fn sent_to(ad: &BgpAdvertisement, peer: &Peer) -> bool {
    ad.peers.is_empty() || ad.peers.contains(&peer.name)
}

fn aggregation_length(ad: &BgpAdvertisement, address: IpAddr) -> u8 {
    if address.is_ipv4() { ad.aggregation_length } else { ad.aggregation_length_v6 }
}

/// Whether two advertisements would send the same route to the same peer with different LOCAL_PREF.
fn conflicting(ads: &[&BgpAdvertisement], address: IpAddr) -> bool {
    let overlap = |a: &BgpAdvertisement, b: &BgpAdvertisement| {
        a.peers.is_empty() || b.peers.is_empty() || !a.peers.is_disjoint(&b.peers)
    };
    ads.iter().enumerate().any(|(at, a)| {
        ads.iter().skip(at + 1).any(|b| {
            a.local_pref != b.local_pref
                && aggregation_length(a, address) == aggregation_length(b, address)
                && overlap(a, b)
        })
    })
}

/// Communities are united. LOCAL_PREF can differ only where different Services share an aggregate: the highest.
fn merge<'a>(ads: impl Iterator<Item = &'a &'a BgpAdvertisement>) -> Attributes {
    let mut merged = Attributes::default();
    for ad in ads {
        merged.local_pref = merged.local_pref.max(ad.local_pref);
        for community in &ad.communities {
            match *community {
                Community::Standard(asn, value) => {
                    merged.communities.insert(fairlead_bgp::Community(asn, value));
                }
                Community::Large(global, one, two) => {
                    merged.large_communities.insert(LargeCommunity(global, one, two));
                }
            }
        }
    }
    merged
}
