//! The routes that this node announces to each BGP peer.
//!
//! Every eligible node announces; the routers balance. A Service requests pairs of prefix and source: an
//! advertisement, with the attributes that the Service requests by annotations.
//! Each prefix counts its requests, so that an aggregate is announced while any member needs it. For each
//! peer, the advertisements that request a prefix are merged: the route carries the communities of all.
//!
//! An aggregate attracts traffic for every address in it. Under the traffic policy `Local`, a node drops the
//! traffic for an address without an endpoint on that node. The nodes that serve such an address announce a
//! host route beside the aggregate, which routers prefer.
//!
//! An advertisement can require that the announcement of an address waits; see [`Holds`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use fairlead_bgp::Attributes;
use fairlead_crds::model::config::{AnnounceWhen, BgpAdvertisement, Peer};
use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::{ObjectKey, TrafficPolicy};
use ipnet::IpNet;

use crate::change::{AnnouncementChange, AnnouncementState, ChangeList};
use crate::data_path::ProbeAnswer;
use crate::endpoints::Serving;
use crate::holds::{Holds, Observation, ServedBy};
use crate::input::{NodeName, Service};
use crate::open_peers::{OpenPeer, OpenPeers, Selected};
use crate::reason::NotAnnouncedReason;
use crate::route_attributes::{RouteSource, merged_attributes, peer_attributes};
use crate::view::ClusterView;
use crate::weights::PrefixWeights;

/// The requests of the Services and the routes of each peer.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// The requests of each Service, sorted. Services without a request have no entry.
    requests: BTreeMap<Arc<ObjectKey>, Box<[PrefixRequest]>>,
    prefixes: BTreeMap<IpNet, Prefix>,
    /// Prefixes whose requests or peers changed since they were merged last.
    changed: BTreeSet<IpNet>,
    peers: OpenPeers,
    /// The attributes of all routes. All of them fit into a message.
    attributes: BTreeSet<Arc<Attributes>>,
    /// The weights of the prefixes; empty unless [`Routes::weighted`].
    weights: PrefixWeights,
    /// True if routes to a peer carry a link bandwidth.
    weighted: bool,
    announced: usize,
    /// The speaker announces nothing by BGP.
    disabled: bool,
    /// Grows with each route that is added or removed.
    version: u64,
    /// The addresses that wait for the data path, or after a withdrawal.
    pub(crate) holds: Holds,
}

/// A prefix and a reason to announce it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PrefixRequest {
    prefix: IpNet,
    source: RouteSource,
    /// Number of endpoints on this node that serve the address. Zero in all requests but one for the same
    /// address and prefix, and where the weight does not matter.
    endpoints: u32,
}

/// A prefix that Services request.
#[derive(Debug, Default)]
struct Prefix {
    /// Number of addresses that need it, by source.
    requests: BTreeMap<RouteSource, u32>,
    /// Number of peers to which it is announced.
    peers: usize,
}

impl Routes {
    /// Opens, changes and closes sessions; see [`OpenPeers::select`]. Returns true if every Service must be
    /// computed again: its state depends on which routes the sessions carry, and its weights on whether any
    /// peer has link bandwidths.
    pub(crate) fn select_peers(
        &mut self,
        view: ClusterView<'_>,
        live: Option<&BTreeSet<NodeName>>,
        changes: &mut ChangeList,
    ) -> bool {
        // A session may get another name.
        self.version += 1;
        let Selected { closed, carried_differ, attributes_differ } = self.peers.select(view, live, changes);
        closed.iter().for_each(|open| self.forget_routes(open));
        if carried_differ || attributes_differ {
            self.changed.extend(self.prefixes.keys());
        }
        self.update_weighted() || carried_differ
    }

    /// Gives every address the reason [`NotAnnouncedReason::ProtocolDisabled`].
    pub(crate) fn disable(&mut self) {
        self.disabled = true;
    }

    /// Returns true if the weights of Services begin or cease to matter.
    fn update_weighted(&mut self) -> bool {
        let weighted = self.peers.iter().any(|open| open.peer().link_bandwidth.is_some());
        std::mem::replace(&mut self.weighted, weighted) != weighted
    }

    /// Replaces the requests of a Service. Returns the state of each of its addresses.
    pub(crate) fn request(
        &mut self,
        key: &Arc<ObjectKey>,
        service: &Service,
        view: ClusterView<'_>,
        now: Option<Instant>,
    ) -> Vec<(IpAddr, AnnouncementState)> {
        self.holds.retain(key, &service.addresses);
        let mut requests = Vec::new();
        let states = service
            .addresses
            .iter()
            .map(|address| match self.request_address(key, service, *address, view, now, &mut requests) {
                Ok(()) => (*address, AnnouncementState::Announced),
                Err(reason) => (*address, AnnouncementState::Not(reason)),
            })
            .collect();
        requests.sort();
        // First the new requests, then the old ones: a prefix that stays requested never counts down to zero.
        for PrefixRequest { prefix, source, endpoints } in &requests {
            *self.prefixes.entry(*prefix).or_default().requests.entry(source.clone()).or_default() += 1;
            self.weights.add(*prefix, *endpoints);
            self.changed.insert(*prefix);
        }
        let is_same = self.requests.get(key).map_or(&[][..], |old| old) == requests.as_slice();
        self.version += u64::from(!is_same);
        let old = if requests.is_empty() {
            self.requests.remove(key)
        } else {
            self.requests.insert(key.clone(), requests.into())
        };
        self.count_down(&old.unwrap_or_default());
        states
    }

    /// Removes the requests of a Service.
    pub(crate) fn release(&mut self, key: &ObjectKey) {
        self.holds.release(key);
        if let Some(old) = self.requests.remove(key) {
            self.count_down(&old);
        }
    }

    /// Takes the prefixes to merge, in order.
    pub(crate) fn take_changed(&mut self, now: Option<Instant>) -> BTreeSet<IpNet> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.extend(now.into_iter().flat_map(|now| self.weights.take_due(now).collect::<Vec<_>>()));
        changed
    }

    /// Returns the next time at which [`Routes::take_changed`] has prefixes, or [`Routes::holds`] has
    /// Services, although nothing else changes.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.weights.poll_timeout().into_iter().chain(self.holds.poll_timeout()).min()
    }

    /// Handles the answer of the data path; see [`Holds::handle_answer`].
    pub(crate) fn handle_probe(&mut self, answer: &ProbeAnswer, changed: &mut impl FnMut(&Arc<ObjectKey>)) {
        self.holds.handle_answer(answer, changed);
    }

    /// Computes the route for a prefix that each peer receives.
    pub(crate) fn merge(
        &mut self,
        prefix: IpNet,
        view: ClusterView<'_>,
        now: Option<Instant>,
        changes: &mut ChangeList,
    ) {
        let Some(state) = self.prefixes.get_mut(&prefix) else { return };
        let weight = self.weights.update(prefix, now);
        let sources = state.requests.keys().filter_map(|source| {
            let ad = view.config.bgp_advertisements.get(&*source.ad)?;
            Some((ad, source.request.as_deref()))
        });
        let sources: Vec<_> = sources.collect();
        let before = state.peers;
        for (name, open) in self.peers.iter_mut() {
            let carried = open.carries(prefix.addr());
            let sent = sources.iter().filter(|(ad, _)| carried && is_sent_to(ad, open.peer()));
            let mut sent = sent.copied().peekable();
            if sent.peek().is_none() {
                if open.routes.remove(&prefix).is_some() {
                    state.peers -= 1;
                    self.version += 1;
                    changes.push(AnnouncementChange::RouteWithdraw { peer: name.clone(), prefix });
                }
                continue;
            }
            let merged = peer_attributes(open.peer(), weight, merged_attributes(prefix, sent));
            if open.routes.get(&prefix).is_some_and(|known| **known == merged) {
                continue;
            }
            let attributes = match self.attributes.get(&merged) {
                Some(known) => known.clone(),
                // The peer keeps the route with its earlier attributes.
                None if merged.check_size().is_err() => continue,
                None => {
                    let new = Arc::new(merged);
                    self.attributes.insert(new.clone());
                    new
                }
            };
            if open.routes.insert(prefix, attributes.clone()).is_none() {
                state.peers += 1;
                self.version += 1;
            }
            changes.push(AnnouncementChange::RouteAnnounce { peer: name.clone(), prefix, attributes });
        }
        self.announced += usize::from(state.peers > 0);
        self.announced -= usize::from(before > 0);
        if state.requests.is_empty() {
            self.prefixes.remove(&prefix);
            self.weights.forget(prefix);
        }
    }

    /// Drops attributes that no route has any more.
    pub(crate) fn drop_unused_attributes(&mut self) {
        self.attributes.retain(|attributes| Arc::strong_count(attributes) > 1);
    }

    /// Returns a number that grows with each route that is added or removed.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Groups addresses by the peers that receive a route which the Service requests for them.
    pub(crate) fn announced_addresses<'a>(
        &self,
        addresses: impl Iterator<Item = (&'a ObjectKey, IpAddr)>,
    ) -> BTreeMap<Vec<Arc<str>>, Vec<IpAddr>> {
        let mut by_peers: BTreeMap<Vec<Arc<str>>, Vec<IpAddr>> = BTreeMap::new();
        for (service, address) in addresses {
            let requests = self.requests.get(service).into_iter().flatten();
            let prefixes: Vec<IpNet> =
                requests.map(|request| request.prefix).filter(|prefix| prefix.contains(&address)).collect();
            let receives = |open: &OpenPeer| prefixes.iter().any(|prefix| open.routes.contains_key(prefix));
            let peers: Vec<Arc<str>> = self
                .peers
                .iter_named()
                .filter(|(_, open)| receives(open))
                .map(|(name, _)| name.clone())
                .collect();
            if !peers.is_empty() {
                by_peers.entry(peers).or_default().push(address);
            }
        }
        by_peers
    }

    /// Returns the number of prefixes that this node announces to at least one peer.
    pub(crate) fn announced(&self) -> usize {
        self.announced
    }

    /// Adds the requests of one address. Returns why no session carries any of them, if so.
    fn request_address(
        &mut self,
        key: &Arc<ObjectKey>,
        service: &Service,
        address: IpAddr,
        view: ClusterView<'_>,
        now: Option<Instant>,
        requests: &mut Vec<PrefixRequest>,
    ) -> Result<(), NotAnnouncedReason> {
        let Some(pool) = service.pool_of(view.config, address) else {
            self.holds.forget(key, address);
            return Err(NotAnnouncedReason::AddressInNoPool);
        };
        let covering: Vec<_> = view.config.bgp_for(pool, &service.labels).collect();
        if covering.is_empty() {
            self.holds.forget(key, address);
            return Err(NotAnnouncedReason::NoMatchingAdvertisement);
        }
        let endpoints = view.endpoints.of(key, Family::of(address));
        let unserved = endpoints.reason();
        let serving = endpoints.serving(service.traffic_policy, view.nodes.own_name());
        let served = match serving {
            _ if unserved.is_some() => ServedBy::Nothing,
            Serving::No => ServedBy::Nothing,
            Serving::Terminating if endpoints.ready_on_a_node() => ServedBy::Terminating,
            Serving::Terminating | Serving::Yes => ServedBy::Endpoints,
        };
        let is_announced = self.is_requested(key, address);
        let seen = Observation { service: key, address, ads: &covering, served, is_announced };
        let is_served = self.holds.observe(seen, now);
        if let Some(reason) = view.nodes.own_reason().or(unserved) {
            return Err(reason);
        }
        let ads: Vec<_> =
            covering.into_iter().filter(|ad| view.selects_own_node(&ad.node_selectors)).collect();
        if ads.is_empty() {
            return Err(NotAnnouncedReason::NodeNotSelected);
        }
        if !is_served {
            return Err(match served {
                ServedBy::Terminating => NotAnnouncedReason::LocalEndpointsTerminating,
                ServedBy::Nothing | ServedBy::Endpoints => NotAnnouncedReason::NoLocalEndpoints,
            });
        }
        if ads.iter().any(|ad| ad.announce_when == AnnounceWhen::DataPathReady) {
            // Without a session for it, the address need not wait.
            self.carrying_peers(&ads, address)?;
        }
        let mut held = None;
        let mut begins = |ad: &&BgpAdvertisement| {
            let reason = self.holds.reason(key, address, ad, now);
            held = held.or(reason);
            reason.is_none()
        };
        let announced: Vec<_> = ads.iter().copied().filter(&mut begins).collect();
        if let Some(reason) = held.filter(|_| announced.is_empty()) {
            return Err(reason);
        }
        let ads = announced;
        let weight = match service.traffic_policy {
            TrafficPolicy::Local if self.weighted => endpoints.serving_on(view.nodes.own_name()),
            // Under the policy Cluster, kube-proxy distributes the traffic to the endpoints of all nodes.
            TrafficPolicy::Local | TrafficPolicy::Cluster => 0,
        };
        let first = requests.len();
        let host = IpNet::from(address);
        for ad in &ads {
            let prefix = prefix_of(ad, address);
            let beside =
                Some(host).filter(|_| prefix != host && service.traffic_policy == TrafficPolicy::Local);
            for prefix in [Some(prefix), beside].into_iter().flatten() {
                // Requests for one prefix share the name.
                let mut known = self.prefixes.get(&prefix).into_iter().flat_map(|p| p.requests.keys());
                let known = known.find(|source| *source.ad == *ad.name);
                let ad_name = known.map_or_else(|| ad.name.as_str().into(), |source| source.ad.clone());
                let request = service.route_request.clone().filter(|_| ad.service_attributes.is_some());
                let counted = requests.iter().skip(first).any(|request| request.prefix == prefix);
                let endpoints = if counted { 0 } else { weight };
                requests.push(PrefixRequest {
                    prefix,
                    source: RouteSource { ad: ad_name, request },
                    endpoints,
                });
            }
        }
        let carrying = self.carrying_peers(&ads, address)?;
        self.check_size(&ads, service, address, &carrying)
    }

    /// Returns true if a Service requests a prefix that contains this address.
    fn is_requested(&self, key: &ObjectKey, address: IpAddr) -> bool {
        let requests = self.requests.get(key).into_iter().flatten();
        requests.into_iter().any(|request| request.prefix.contains(&address))
    }

    /// Returns the peers whose sessions carry what these advertisements announce. Returns an error if there
    /// is none.
    fn carrying_peers(
        &self,
        ads: &[&BgpAdvertisement],
        address: IpAddr,
    ) -> Result<Vec<&Peer>, NotAnnouncedReason> {
        if self.disabled {
            return Err(NotAnnouncedReason::ProtocolDisabled);
        }
        if self.peers.is_empty() {
            return Err(NotAnnouncedReason::NoPeer);
        }
        let mut listed =
            self.peers.iter().filter(|open| ads.iter().any(|ad| is_sent_to(ad, open.peer()))).peekable();
        if listed.peek().is_none() {
            return Err(NotAnnouncedReason::PeerNotSelected);
        }
        let carrying: Vec<&Peer> = listed.filter(|open| open.carries(address)).map(OpenPeer::peer).collect();
        if carrying.is_empty() { Err(NotAnnouncedReason::FamilyNotCarried) } else { Ok(carrying) }
    }

    /// Returns an error if the attributes of a route fit into no message, for each of these peers.
    fn check_size(
        &self,
        ads: &[&BgpAdvertisement],
        service: &Service,
        address: IpAddr,
        peers: &[&Peer],
    ) -> Result<(), NotAnnouncedReason> {
        let fits = |peer: &&Peer| {
            let sent = ads.iter().filter(|ad| is_sent_to(ad, peer));
            let sources = sent.map(|ad| (*ad, service.route_request.as_deref()));
            let attributes = peer_attributes(peer, 1, merged_attributes(IpNet::from(address), sources));
            self.attributes.contains(&attributes) || attributes.check_size().is_ok()
        };
        if peers.iter().any(fits) { Ok(()) } else { Err(NotAnnouncedReason::AttributesTooLarge) }
    }

    fn count_down(&mut self, requests: &[PrefixRequest]) {
        for PrefixRequest { prefix, source, endpoints } in requests {
            self.changed.insert(*prefix);
            self.weights.remove(*prefix, *endpoints);
            let Some(state) = self.prefixes.get_mut(prefix) else { continue };
            if let Some(count) = state.requests.get_mut(source) {
                *count -= 1;
                if *count == 0 {
                    state.requests.remove(source);
                }
            }
        }
    }

    /// Takes the routes of a closed session out of the counts.
    fn forget_routes(&mut self, closed: &OpenPeer) {
        self.version += 1;
        for prefix in closed.routes.keys() {
            if let Some(state) = self.prefixes.get_mut(prefix) {
                state.peers -= 1;
                self.announced -= usize::from(state.peers == 0);
            }
        }
    }
}

fn is_sent_to(ad: &BgpAdvertisement, peer: &Peer) -> bool {
    ad.peers.is_empty() || ad.peers.contains(&peer.name)
}

/// Returns the prefix that an advertisement announces for an address.
fn prefix_of(ad: &BgpAdvertisement, address: IpAddr) -> IpNet {
    let length = if address.is_ipv4() { ad.aggregation_length } else { ad.aggregation_length_v6 };
    IpNet::new(address, length).map_or_else(|_| address.into(), |prefix| prefix.trunc())
}
