//! The election of the node that owns each L2 address.
//!
//! Every speaker computes the same owner: among the live nodes that may announce, an advertisement must
//! select the owner, and it must be able to serve the family of the address. Of several such nodes the owner
//! is the one that serves most of the Services on the address, then the one that serves most of them with
//! endpoints that are not terminating, then the most preferred one, then the one with the highest [`rank`].
//!
//! Owners are elected per address, not per Service. Services that share an address have one owner, whatever
//! their advertisements and endpoints are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::family::Family;
use fairlead_crds::model::selector::any_or_empty;
use fairlead_crds::model::service::ObjectKey;
use fairlead_l2::InterfaceSet;

use crate::change::{AnnouncementChange, AnnouncementState};
use crate::dirty::DirtySet;
use crate::endpoints::Serving;
use crate::input::NodeName;
use crate::links::{LinkNetworks, Links};
use crate::rank::rank;
use crate::reason::NotAnnouncedReason;
use crate::takeover::TakeoverCause;
use crate::view::ClusterView;

/// The owners of all addresses, and what this node announces by L2.
#[derive(Debug, Default)]
pub(crate) struct Election {
    /// Live speakers, this one included; `None` while owners may not be elected.
    live: Option<BTreeSet<NodeName>>,
    /// The speaker announces nothing by L2.
    disabled: bool,
    /// True while this node may announce no address beyond those that it announces.
    claims_held: bool,
    /// Interfaces that can announce; `None` until they were listed: every interface counts as present.
    links: Option<Links>,
    candidates: Candidates,
    outcomes: BTreeMap<IpAddr, Outcome>,
    /// The addresses of each owner.
    owned: HashMap<NodeName, BTreeSet<IpAddr>>,
    announced: usize,
    /// Grows with each address that this node begins or ceases to announce.
    version: u64,
    /// Kept between elections for its capacity.
    scores: Vec<Score>,
}

/// The result of one election, as the plan needs it.
pub(crate) struct ElectionResult {
    /// The state of the address for each Service that holds it.
    pub(crate) states: Vec<(Arc<ObjectKey>, AnnouncementState)>,
    pub(crate) change: Option<AnnouncementChange>,
    /// Set if this node begins to announce the address: the Services for which it does, and why.
    pub(crate) takeover: Option<(Vec<Arc<ObjectKey>>, TakeoverCause)>,
}

/// The current owner of an address. Addresses without an owner have no entry.
#[derive(Debug)]
struct Outcome {
    owner: NodeName,
    /// Where this node announces the address, if it does.
    announced: Option<InterfaceSet>,
    /// This node withdrew the address while it is isolated, because another host announces it.
    yielded: bool,
}

/// Live nodes that may announce, and which of them each advertisement selects.
#[derive(Debug, Default)]
struct Candidates {
    /// Sorted by name.
    nodes: Vec<NodeName>,
    /// By name of the advertisement: index into `nodes` and weight of preference, ascending.
    selected: BTreeMap<String, Vec<(usize, u32)>>,
}

/// The score of one candidate in one election.
#[derive(Clone, Copy, Debug, Default)]
struct Score {
    /// Services on the address that it can serve; `u32::MAX` Services do not share one address.
    services: u32,
    /// Those of them that it serves not only with terminating endpoints.
    ready: u32,
    /// Number of the last Service that was counted, from 1.
    counted: u32,
    weight: u32,
}

impl Score {
    /// Returns the sort key of a candidate in the election of an address: the owner has the highest.
    fn key<'a>(&self, name: &'a NodeName, address: IpAddr) -> (u32, u32, u32, u64, &'a NodeName) {
        (self.services, self.ready, self.weight, rank(name, address), name)
    }
}

/// The standing of this node in an election, for one of the Services on the address.
struct Standing {
    /// Reason for which this node cannot announce for the Service; `None` if it can.
    reason: Option<NotAnnouncedReason>,
    /// Interfaces of the advertisements that select this node.
    interfaces: Option<InterfaceSet>,
}

impl Election {
    /// Replaces the live speakers; the own one is always among them. With `None`, no address has an owner.
    pub(crate) fn set_live(
        &mut self,
        own_name: &NodeName,
        live: Option<&BTreeSet<NodeName>>,
        dirty: &mut DirtySet,
    ) {
        let same = match (live, &self.live) {
            (None, None) => true,
            (Some(new), Some(known)) => {
                known.len() == new.len() + usize::from(!new.contains(own_name)) && new.is_subset(known)
            }
            _ => false,
        };
        if same {
            return;
        }
        if live.is_some() != self.live.is_some() {
            dirty.mark_all_addresses();
        }
        dirty.mark_candidates();
        self.live = live.map(|names| names.iter().chain([own_name]).cloned().collect());
    }

    /// Returns the live speakers, this one included; `None` while they are unknown.
    pub(crate) fn live(&self) -> Option<&BTreeSet<NodeName>> {
        self.live.as_ref()
    }

    /// Gives every address the reason [`NotAnnouncedReason::ProtocolDisabled`]. Without live speakers, no
    /// address has an owner.
    pub(crate) fn disable(&mut self) {
        self.disabled = true;
    }

    /// Sets whether this node may announce addresses that it does not announce yet.
    pub(crate) fn set_may_claim(&mut self, may_claim: bool, dirty: &mut DirtySet) {
        if self.claims_held && may_claim {
            dirty.mark_all_addresses();
        }
        self.claims_held = !may_claim;
    }

    /// Notes that this node no longer announces the address, because another host does.
    pub(crate) fn yield_address(&mut self, address: IpAddr, dirty: &mut DirtySet) {
        let Some(outcome) = self.outcomes.get_mut(&address) else { return };
        if outcome.announced.take().is_some() {
            self.announced -= 1;
            self.version += 1;
            outcome.yielded = true;
            dirty.mark_addresses([address]);
        }
    }

    /// Replaces the interfaces that can announce.
    pub(crate) fn set_links(&mut self, links: LinkNetworks, dirty: &mut DirtySet) {
        if self.links.as_ref().is_some_and(|known| *known.networks() == links) {
            return;
        }
        let links = Links::new(links);
        let old = self.links.replace(Links::default()).unwrap_or_default();
        dirty.mark_addresses(links.differing(&old).filter(|address| self.outcomes.contains_key(address)));
        self.links = Some(links);
        let restricted = |outcome: &Outcome| matches!(outcome.announced, Some(InterfaceSet::Named(_)));
        dirty
            .mark_addresses(self.outcomes.iter().filter(|(_, o)| restricted(o)).map(|(address, _)| *address));
    }

    pub(crate) fn has_links(&self) -> bool {
        self.links.as_ref().is_some_and(|links| !links.networks().is_empty())
    }

    /// Finds the candidates again and marks the addresses whose owner may change because of it.
    pub(crate) fn find_candidates(&mut self, view: ClusterView<'_>, dirty: &mut DirtySet) {
        let live = self.live.as_ref();
        let nodes: Vec<(&NodeName, _)> =
            view.nodes.usable().filter(|(name, _)| live.is_some_and(|live| live.contains(*name))).collect();
        let selected = view.config.l2_advertisements.values().map(|ad| {
            let weighted = nodes
                .iter()
                .enumerate()
                .filter(|(_, (_, node))| any_or_empty(&ad.node_selectors, &node.labels));
            let weighted = weighted.map(|(at, (_, node))| {
                let matches = ad.preferred_nodes.iter().filter(|(_, s)| s.matches(&node.labels));
                (at, matches.map(|(weight, _)| weight).sum())
            });
            (ad.name.clone(), weighted.collect())
        });
        let selected = selected.collect();
        let nodes = nodes.iter().map(|(name, _)| (*name).clone()).collect();
        let old = std::mem::replace(&mut self.candidates, Candidates { nodes, selected });

        let new = &self.candidates;
        let removed: BTreeSet<NodeName> =
            old.nodes.iter().filter(|name| new.position(name).is_none()).cloned().collect();
        let added = new.nodes.iter().any(|name| old.position(name).is_none());
        // A new advertisement marks its own addresses.
        let before = old.selections(&removed);
        let reselected = new
            .selections(&removed)
            .into_iter()
            .any(|(ad, nodes)| before.get(ad).is_some_and(|known| *known != nodes));
        if added || reselected {
            dirty.mark_all_addresses();
        }
        // A node that lost an election still loses it without a rival: only addresses of removed nodes move.
        for name in &removed {
            dirty.mark_addresses(self.owned.get(name).into_iter().flatten().copied());
        }
    }

    /// Elects the owner of an address and decides whether this node announces it.
    pub(crate) fn elect(&mut self, address: IpAddr, view: ClusterView<'_>) -> ElectionResult {
        let mut scores = std::mem::take(&mut self.scores);
        scores.clear();
        scores.resize(self.candidates.nodes.len(), Score::default());
        let standings: Vec<(&Arc<ObjectKey>, Standing)> = view
            .services
            .holders(address)
            .iter()
            .zip(1..)
            .map(|(key, number)| (key, self.count_service(key, address, view, number, &mut scores)))
            .collect();
        let owner = self.winner(address, &scores);
        self.scores = scores;

        let own = owner.as_ref() == Some(view.nodes.own_name());
        let able: Vec<&Standing> =
            standings.iter().map(|(_, standing)| standing).filter(|s| s.reason.is_none()).collect();
        let interfaces = able.iter().filter_map(|standing| standing.interfaces.clone()).reduce(united);
        let announces = |outcome: &Outcome| outcome.announced.is_some();
        let held = self.claims_held && !self.outcomes.get(&address).is_some_and(announces);
        let yielded = held && self.outcomes.get(&address).is_some_and(|outcome| outcome.yielded);
        let announced = interfaces.filter(|_| own && !held);
        let on_links = |test: &dyn Fn(&Links, &InterfaceSet) -> bool| match (&self.links, &announced) {
            (Some(links), Some(interfaces)) => test(links, interfaces),
            _ => false,
        };
        let no_interface = on_links(&|links, interfaces| links.lacks(interfaces));
        let unusable = on_links(&|links, interfaces| links.is_unusable(address, interfaces));
        let announced = announced.filter(|_| !unusable);
        let handover = !able.is_empty() && owner.is_some() && !unusable;
        let states = standings.iter().map(|(key, standing)| {
            let state = match standing.reason {
                None if own && yielded => AnnouncementState::Not(NotAnnouncedReason::ClaimedByAnotherHost),
                None if own && held => AnnouncementState::Not(NotAnnouncedReason::MeshNotSettled),
                None if unusable => AnnouncementState::Not(NotAnnouncedReason::UnusableOnLink),
                None if own && no_interface => {
                    AnnouncementState::Not(NotAnnouncedReason::NoMatchingInterface)
                }
                None if own => AnnouncementState::Announced,
                None => AnnouncementState::Not(NotAnnouncedReason::NotOwner),
                Some(reason) if owner.is_none() && reason.is_expected() => {
                    AnnouncementState::Not(NotAnnouncedReason::NoEligibleNode)
                }
                Some(reason) => AnnouncementState::Not(reason),
            };
            ((*key).clone(), state)
        });
        let states = states.collect();
        let begins = announced.is_some() && !self.outcomes.get(&address).is_some_and(announces);
        let takeover = begins.then(|| {
            let able = standings.iter().filter(|(_, standing)| standing.reason.is_none());
            (able.map(|(key, _)| (*key).clone()).collect(), self.takeover_cause(address, view))
        });
        let outcome = owner.map(|owner| Outcome { owner, announced, yielded });
        ElectionResult { states, change: self.record(address, outcome, handover), takeover }
    }

    /// Returns why this node becomes the owner of an address, from the owner before.
    fn takeover_cause(&self, address: IpAddr, view: ClusterView<'_>) -> TakeoverCause {
        let before = self.outcomes.get(&address).map(|outcome| &outcome.owner);
        match before.filter(|name| *name != view.nodes.own_name()) {
            None => TakeoverCause::First,
            Some(from) if !self.live.as_ref().is_some_and(|live| live.contains(from)) => {
                TakeoverCause::Gone(from.clone())
            }
            Some(from) if self.candidates.position(from).is_none() => TakeoverCause::Unusable(from.clone()),
            Some(from) => TakeoverCause::Preferred(from.clone()),
        }
    }

    /// Returns a number that grows with each address that this node begins or ceases to announce.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the addresses that this node announces, in order.
    pub(crate) fn announced_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.outcomes.iter().filter(|(_, outcome)| outcome.announced.is_some()).map(|(address, _)| *address)
    }

    /// Returns the number of addresses that this node announces.
    pub(crate) fn announced(&self) -> usize {
        self.announced
    }

    #[cfg(test)]
    pub(crate) fn owner(&self, address: IpAddr) -> Option<&str> {
        self.outcomes.get(&address).map(|outcome| &*outcome.owner)
    }

    /// Adds one Service to the score of every candidate that can announce it, and returns how this node
    /// stands.
    fn count_service(
        &self,
        key: &ObjectKey,
        address: IpAddr,
        view: ClusterView<'_>,
        number: u32,
        scores: &mut [Score],
    ) -> Standing {
        let no = |reason| Standing { reason: Some(reason), interfaces: None };
        let pool = view.services.get(key).and_then(|s| Some((s, s.pool_of(view.config, address)?)));
        let Some((service, pool)) = pool else {
            return no(NotAnnouncedReason::AddressInNoPool);
        };
        let mut ads = view.config.l2_for(pool, &service.labels).peekable();
        if ads.peek().is_none() {
            return no(NotAnnouncedReason::NoMatchingAdvertisement);
        }
        let endpoints = view.endpoints.of(key, Family::of(address));
        let serving = |name: &NodeName| endpoints.serving(service.traffic_policy, name);
        let mut interfaces: Option<InterfaceSet> = None;
        for ad in ads {
            if view.selects_own_node(&ad.node_selectors) {
                let listed = listed_interfaces(&ad.interfaces);
                interfaces = Some(match interfaces {
                    Some(known) => united(known, listed),
                    None => listed,
                });
            }
            for (at, weight) in self.candidates.selected.get(&ad.name).into_iter().flatten() {
                let (Some(candidate), Some(score)) = (self.candidates.nodes.get(*at), scores.get_mut(*at))
                else {
                    continue;
                };
                if score.counted != number {
                    let serving = serving(candidate);
                    if serving == Serving::No {
                        continue;
                    }
                    score.counted = number;
                    score.services += 1;
                    score.ready += u32::from(serving == Serving::Yes);
                }
                score.weight = score.weight.saturating_add(*weight);
            }
        }
        let reason = match view.nodes.own_reason().or_else(|| endpoints.reason()) {
            Some(reason) => Some(reason),
            None if interfaces.is_none() => Some(NotAnnouncedReason::NodeNotSelected),
            None if serving(view.nodes.own_name()) == Serving::No => {
                Some(NotAnnouncedReason::NoLocalEndpoints)
            }
            None if self.disabled => Some(NotAnnouncedReason::ProtocolDisabled),
            None if self.live.is_none() => Some(NotAnnouncedReason::MeshNotSettled),
            None => None,
        };
        Standing { reason, interfaces }
    }

    fn winner(&self, address: IpAddr, scores: &[Score]) -> Option<NodeName> {
        let able = self.candidates.nodes.iter().zip(scores).filter(|(_, score)| score.services > 0);
        able.max_by_key(|(name, score)| score.key(name, address)).map(|(name, _)| name.clone())
    }

    /// Returns the candidates that can announce an address: the owner, then the others in the order in which
    /// they become the owner if those before them fail.
    pub(crate) fn order(&self, address: IpAddr, view: ClusterView<'_>) -> Vec<NodeName> {
        let mut scores = vec![Score::default(); self.candidates.nodes.len()];
        for (key, number) in view.services.holders(address).iter().zip(1..) {
            self.count_service(key, address, view, number, &mut scores);
        }
        let able = self.candidates.nodes.iter().zip(&scores).filter(|(_, score)| score.services > 0);
        let mut able: Vec<_> = able.collect();
        able.sort_by_key(|(name, score)| std::cmp::Reverse(score.key(name, address)));
        able.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// Returns why this node cannot announce an address for a Service, whichever node owns it; `None` if it
    /// can.
    pub(crate) fn inability(
        &self,
        service: &ObjectKey,
        address: IpAddr,
        view: ClusterView<'_>,
    ) -> Option<NotAnnouncedReason> {
        let mut scores = vec![Score::default(); self.candidates.nodes.len()];
        self.count_service(service, address, view, 1, &mut scores).reason
    }

    /// Stores the outcome of an election and returns the change that follows from it.
    fn record(
        &mut self,
        address: IpAddr,
        outcome: Option<Outcome>,
        handover: bool,
    ) -> Option<AnnouncementChange> {
        let owner = outcome.as_ref().map(|outcome| outcome.owner.clone());
        let announced = outcome.as_ref().and_then(|outcome| outcome.announced.clone());
        let before = self.outcomes.get(&address);
        let owner_before = before.map(|outcome| outcome.owner.clone());
        let announced_before = before.and_then(|outcome| outcome.announced.clone());
        if owner_before != owner {
            if let Some(name) = &owner_before
                && let Some(owned) = self.owned.get_mut(name)
            {
                owned.remove(&address);
                if owned.is_empty() {
                    self.owned.remove(name);
                }
            }
            if let Some(name) = &owner {
                self.owned.entry(name.clone()).or_default().insert(address);
            }
        }
        self.version += u64::from(announced.is_some() != announced_before.is_some());
        self.announced += usize::from(announced.is_some());
        self.announced -= usize::from(announced_before.is_some());
        let change = match &announced {
            _ if announced == announced_before => None,
            Some(interfaces) => {
                Some(AnnouncementChange::L2Announce { address, interfaces: interfaces.clone() })
            }
            None => Some(AnnouncementChange::L2Withdraw { address, handover }),
        };
        match outcome {
            Some(outcome) => self.outcomes.insert(address, outcome),
            None => self.outcomes.remove(&address),
        };
        change
    }
}

impl Candidates {
    fn position(&self, name: &str) -> Option<usize> {
        self.nodes.binary_search_by(|node| (**node).cmp(name)).ok()
    }

    /// Returns, for each advertisement, the names and weights of the nodes selected, less those in `without`.
    fn selections(&self, without: &BTreeSet<NodeName>) -> BTreeMap<&str, Vec<(&NodeName, u32)>> {
        let mut selections = BTreeMap::new();
        for (ad, selected) in &self.selected {
            let nodes = selected.iter().filter_map(|(at, weight)| Some((self.nodes.get(*at)?, *weight)));
            selections.insert(ad.as_str(), nodes.filter(|(name, _)| !without.contains(*name)).collect());
        }
        selections
    }
}

/// Returns the interfaces that an advertisement lists; an empty list means every interface.
fn listed_interfaces(listed: &BTreeSet<String>) -> InterfaceSet {
    if listed.is_empty() { InterfaceSet::All } else { InterfaceSet::Named(Arc::new(listed.clone())) }
}

fn united(a: InterfaceSet, b: InterfaceSet) -> InterfaceSet {
    match (a, b) {
        (InterfaceSet::Named(mut a), InterfaceSet::Named(b)) => {
            if a != b {
                Arc::make_mut(&mut a).extend(b.iter().cloned());
            }
            InterfaceSet::Named(a)
        }
        _ => InterfaceSet::All,
    }
}
