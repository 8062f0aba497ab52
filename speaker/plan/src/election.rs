//! The election of the node that owns each L2 address.
//!
//! Every speaker computes the same owner: among the live nodes that may announce, an advertisement must
//! select the owner, and the owner must have an interface that the advertisement lists and that serves the
//! family of the address (see the module `candidates`). Of several such nodes the owner
//! is the one that serves most of the Services on the address, then the one that serves most of them with
//! endpoints that are not terminating, then the most preferred one, then the one with the highest [`rank`].
//!
//! Owners are elected per address, not per Service. Services that share an address have one owner, whatever
//! their advertisements and endpoints are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::advertisement;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;
use fairlead_l2::{Claim, InterfaceSet, OnConflict, ServedInterfaces};

use crate::candidates::{Candidates, NodeInterfaces, families};
use crate::change::{AnnouncementChange, AnnouncementState};
use crate::dirty::DirtySet;
use crate::endpoints::Serving;
use crate::first_claims::FirstClaims;
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
    /// Speakers that announced that they leave the mesh.
    departed: BTreeSet<NodeName>,
    /// The speaker announces nothing by L2.
    disabled: bool,
    /// True while this node may announce no address beyond those that it announces.
    claims_held: bool,
    /// Interfaces that can announce; `None` until they were listed: every interface counts as present.
    links: Option<Links>,
    /// The interfaces that the speakers of other nodes reported.
    interfaces: NodeInterfaces,
    candidates: Candidates,
    outcomes: BTreeMap<IpAddr, Outcome>,
    /// The addresses of each owner.
    owned: HashMap<NodeName, BTreeSet<IpAddr>>,
    announced: usize,
    first_claims: FirstClaims,
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
    /// Set if this node begins to announce the address, after it has probed it if it must.
    pub(crate) takeover: Option<NewOwner>,
}

/// This node answers for an address from now on.
pub(crate) struct NewOwner {
    /// The Services for which it does.
    pub(crate) services: Vec<Arc<ObjectKey>>,
    pub(crate) interfaces: InterfaceSet,
    pub(crate) cause: TakeoverCause,
}

/// The current owner of an address. Addresses without an owner have no entry.
#[derive(Debug)]
struct Outcome {
    owner: NodeName,
    /// Where this node announces the address, if it does.
    announced: Option<InterfaceSet>,
    claim: Claim,
    /// This node withdrew the address while it is isolated, because another host announces it.
    yielded: bool,
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
    /// What all advertisements that cover the address say; `None` without one.
    on_conflict: Option<OnConflict>,
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

    /// Replaces the speakers that announced that they leave the mesh, and have not joined again.
    pub(crate) fn set_departed(&mut self, departed: &BTreeSet<NodeName>) {
        if self.departed != *departed {
            self.departed.clone_from(departed);
        }
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
            self.first_claims.cancel(address);
            dirty.mark_addresses([address]);
        }
    }

    /// Sets that this node probes an address before its first announcement.
    pub(crate) fn enable_probes(&mut self) {
        self.first_claims.enable();
    }

    /// Notes that another host uses an address, for which this node does not answer therefore.
    pub(crate) fn leave_address(&mut self, address: IpAddr, dirty: &mut DirtySet) {
        if self.outcomes.get(&address).is_some_and(|outcome| outcome.announced.is_some()) {
            self.first_claims.leave(address);
            self.version += 1;
            dirty.mark_addresses([address]);
        }
    }

    /// Notes that no other host uses an address that this node has probed.
    pub(crate) fn confirm_address(&mut self, address: IpAddr, dirty: &mut DirtySet) {
        if self.first_claims.confirm(address) {
            self.version += 1;
            dirty.mark_addresses([address]);
        }
    }

    /// Replaces the interfaces that can announce.
    pub(crate) fn set_links(&mut self, links: LinkNetworks, dirty: &mut DirtySet) {
        if self.links.as_ref().is_some_and(|known| *known.networks() == links) {
            return;
        }
        let links = Links::new(links);
        let is_first = self.links.is_none();
        let old = self.links.replace(Links::default()).unwrap_or_default();
        dirty.mark_addresses(links.differing(&old).filter(|address| self.outcomes.contains_key(address)));
        // At the first call, every interface counted as present.
        if *links.served() != *old.served() || is_first {
            dirty.mark_candidates();
        }
        self.links = Some(links);
        let restricted = |outcome: &Outcome| matches!(outcome.announced, Some(InterfaceSet::Named(_)));
        dirty
            .mark_addresses(self.outcomes.iter().filter(|(_, o)| restricted(o)).map(|(address, _)| *address));
    }

    /// Replaces the interfaces that the speakers of other nodes reported.
    pub(crate) fn set_interfaces(&mut self, interfaces: &NodeInterfaces, dirty: &mut DirtySet) {
        if self.interfaces != *interfaces {
            self.interfaces.clone_from(interfaces);
            dirty.mark_candidates();
        }
    }

    /// Returns the interfaces of this node; `None` if they are not known, or without L2.
    pub(crate) fn own_interfaces(&self) -> Option<&ServedInterfaces> {
        self.links.as_ref().filter(|_| !self.disabled).map(Links::served)
    }

    pub(crate) fn has_links(&self) -> bool {
        self.links.as_ref().is_some_and(|links| !links.networks().is_empty())
    }

    /// Finds the candidates again and marks the addresses whose owner may change because of it.
    pub(crate) fn find_candidates(&mut self, view: ClusterView<'_>, dirty: &mut DirtySet) {
        let live = self.live.as_ref();
        let nodes: Vec<(&NodeName, _)> =
            view.nodes.usable().filter(|(name, _)| live.is_some_and(|live| live.contains(*name))).collect();
        let interfaces = |name: &NodeName| self.served_by(view.nodes.own_name(), name);
        let candidates = Candidates::find(view, &nodes, interfaces);
        let old = std::mem::replace(&mut self.candidates, candidates);

        // A new advertisement marks its own addresses.
        let change = self.candidates.change_since(&old);
        if change.reselected {
            dirty.mark_all_addresses();
        }
        for (ad, families) in &change.gained {
            let Some(ad) = view.config.l2_advertisements.get(ad) else { continue };
            let of_families = view.services.addresses().filter(|address| families.serves(*address));
            dirty.mark_addresses(of_families.filter(|address| view.is_covered(ad, *address)));
        }
        // A node that lost an election still loses it without a rival: only addresses of removed nodes move.
        for name in &change.removed {
            dirty.mark_addresses(self.owned.get(name).into_iter().flatten().copied());
        }
        for (name, ad, families) in &change.lost {
            let Some(ad) = view.config.l2_advertisements.get(ad) else { continue };
            let owned = self.owned.get(name).into_iter().flatten().copied();
            let of_families = owned.filter(|address| families.serves(*address));
            dirty.mark_addresses(of_families.filter(|address| view.is_covered(ad, *address)));
        }
    }

    /// Returns the interfaces of a node; `None` if they are not known.
    fn served_by(&self, own_name: &NodeName, name: &NodeName) -> Option<&ServedInterfaces> {
        let own = self.links.as_ref().filter(|_| name == own_name).map(Links::served);
        own.or_else(|| self.interfaces.get(name).map(|interfaces| &**interfaces))
    }

    /// Elects the owner of an address and decides whether this node announces it.
    pub(crate) fn elect(&mut self, address: IpAddr, view: ClusterView<'_>) -> ElectionResult {
        let mut scores = std::mem::take(&mut self.scores);
        scores.clear();
        scores.resize(self.candidates.nodes().len(), Score::default());
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
        let unusable = match (&self.links, &announced) {
            (Some(links), Some(interfaces)) => links.is_unusable(address, interfaces),
            _ => false,
        };
        let announced = announced.filter(|_| !unusable);
        let handover = !able.is_empty() && owner.is_some() && !unusable;
        let begins = announced.is_some() && !self.outcomes.get(&address).is_some_and(announces);
        let cause = begins.then(|| self.takeover_cause(address, view));
        // While the other speakers are not known, one of them may announce the address.
        let is_planned = cause.as_ref().is_some_and(TakeoverCause::is_planned);
        let is_first = cause == Some(TakeoverCause::First) && self.first_claims.must_probe(address);
        if is_first {
            self.first_claims.begin_probing(address);
        }
        let is_announced = owner.is_some() || self.live.is_none();
        self.first_claims.handle_election(address, !standings.is_empty(), is_announced);
        let pending = self.first_claims.reason(address);
        let states = standings.iter().map(|(key, standing)| {
            let state = match standing.reason {
                None if own && yielded => AnnouncementState::Not(NotAnnouncedReason::ClaimedByAnotherHost),
                None if own && held => AnnouncementState::Not(NotAnnouncedReason::MeshNotSettled),
                None if unusable => AnnouncementState::Not(NotAnnouncedReason::UnusableOnLink),
                None if own => pending.map_or(AnnouncementState::Announced, AnnouncementState::Not),
                None => AnnouncementState::Not(NotAnnouncedReason::NotOwner),
                // A node with such an interface owns the address.
                Some(NotAnnouncedReason::NoMatchingInterface) if owner.is_some() => {
                    AnnouncementState::Not(NotAnnouncedReason::NotOwner)
                }
                Some(reason) if owner.is_none() && reason.is_expected() => {
                    AnnouncementState::Not(NotAnnouncedReason::NoEligibleNode)
                }
                Some(reason) => AnnouncementState::Not(reason),
            };
            ((*key).clone(), state)
        });
        let states = states.collect();
        let confirmed = self.first_claims.take_confirmed(address).then_some(TakeoverCause::First);
        let cause = cause.filter(|_| !is_first).or(confirmed);
        let takeover = cause.zip(announced.clone()).map(|(cause, interfaces)| {
            let able = standings.iter().filter(|(_, standing)| standing.reason.is_none());
            NewOwner { services: able.map(|(key, _)| (*key).clone()).collect(), interfaces, cause }
        });
        let able = standings.iter().filter(|(_, standing)| standing.reason.is_none());
        let on_conflict = able.filter_map(|(_, standing)| standing.on_conflict).reduce(both);
        let before = self.outcomes.get(&address).filter(|before| announces(before));
        let claim = Claim {
            probe: before.map_or(is_first, |before| before.claim.probe),
            is_planned: before.map_or(is_planned, |before| before.claim.is_planned),
            on_conflict: on_conflict.unwrap_or_default(),
        };
        let outcome = owner.map(|owner| Outcome { owner, announced, claim, yielded });
        ElectionResult { states, change: self.record(address, outcome, handover), takeover }
    }

    /// Returns why this node becomes the owner of an address, from the owner before.
    fn takeover_cause(&self, address: IpAddr, view: ClusterView<'_>) -> TakeoverCause {
        let before = self.outcomes.get(&address).map(|outcome| &outcome.owner);
        match before.filter(|name| *name != view.nodes.own_name()) {
            None => TakeoverCause::First,
            Some(from) if !self.live.as_ref().is_some_and(|live| live.contains(from)) => {
                let left = self.departed.contains(from);
                if left { TakeoverCause::Left(from.clone()) } else { TakeoverCause::Gone(from.clone()) }
            }
            Some(from) if self.candidates.position(from).is_none() => TakeoverCause::Unusable(from.clone()),
            Some(from) if self.lacks_interface(address, from, view) => {
                TakeoverCause::NoInterface(from.clone())
            }
            Some(from) => TakeoverCause::Preferred(from.clone()),
        }
    }

    /// Returns true if advertisements of an address select a candidate, and it has none of their interfaces.
    fn lacks_interface(&self, address: IpAddr, name: &NodeName, view: ClusterView<'_>) -> bool {
        let Some(at) = self.candidates.position(name) else { return false };
        let ads = view.config.l2_advertisements.values().filter(|ad| view.is_covered(ad, address));
        let selections = ads.flat_map(|ad| self.candidates.selections(&ad.name));
        let mut selections = selections.filter(|selection| selection.node == at).peekable();
        selections.peek().is_some() && selections.all(|selection| !selection.families.serves(address))
    }

    /// Returns a number that grows with each address that this node begins or ceases to announce.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Returns the addresses that this node announces, in order.
    pub(crate) fn announced_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let announces = |address: &IpAddr, outcome: &Outcome| {
            outcome.announced.is_some() && !self.first_claims.is_pending(*address)
        };
        let outcomes = self.outcomes.iter().filter(move |(address, outcome)| announces(address, outcome));
        outcomes.map(|(address, _)| *address)
    }

    /// Returns true if this node announces an address, or is to announce it unless another host has it.
    pub(crate) fn claims(&self, address: IpAddr) -> bool {
        self.outcomes.get(&address).is_some_and(|outcome| outcome.announced.is_some())
    }

    /// Returns the number of addresses that this node announces.
    pub(crate) fn announced(&self) -> usize {
        self.announced - self.first_claims.pending()
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
        let no = |reason| Standing { reason: Some(reason), interfaces: None, on_conflict: None };
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
        let own_interfaces = self.served_by(view.nodes.own_name(), view.nodes.own_name());
        let mut has_interface = false;
        let mut on_conflict = None;
        for ad in ads {
            on_conflict = on_conflict.into_iter().chain([on_conflict_of(ad.on_conflict)]).reduce(both);
            if view.selects_own_node(&ad.node_selectors) {
                has_interface |= families(own_interfaces, &ad.interfaces).serves(address);
                let listed = listed_interfaces(&ad.interfaces);
                interfaces = Some(match interfaces {
                    Some(known) => united(known, listed),
                    None => listed,
                });
            }
            for selection in self.candidates.selections(&ad.name) {
                if !selection.families.serves(address) {
                    continue;
                }
                let at = selection.node;
                let (Some(candidate), Some(score)) = (self.candidates.nodes().get(at), scores.get_mut(at))
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
                score.weight = score.weight.saturating_add(selection.weight);
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
            None if !has_interface => Some(NotAnnouncedReason::NoMatchingInterface),
            None => None,
        };
        Standing { reason, interfaces, on_conflict }
    }

    fn winner(&self, address: IpAddr, scores: &[Score]) -> Option<NodeName> {
        let able = self.candidates.nodes().iter().zip(scores).filter(|(_, score)| score.services > 0);
        able.max_by_key(|(name, score)| score.key(name, address)).map(|(name, _)| name.clone())
    }

    /// Returns the candidates that can announce an address: the owner, then the others in the order in which
    /// they become the owner if those before them fail.
    pub(crate) fn order(&self, address: IpAddr, view: ClusterView<'_>) -> Vec<NodeName> {
        let mut scores = vec![Score::default(); self.candidates.nodes().len()];
        for (key, number) in view.services.holders(address).iter().zip(1..) {
            self.count_service(key, address, view, number, &mut scores);
        }
        let able = self.candidates.nodes().iter().zip(&scores).filter(|(_, score)| score.services > 0);
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
        let mut scores = vec![Score::default(); self.candidates.nodes().len()];
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
        let claim = outcome.as_ref().map(|outcome| outcome.claim).unwrap_or_default();
        let before = self.outcomes.get(&address);
        let claim_before = before.map(|outcome| outcome.claim).unwrap_or_default();
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
            _ if announced == announced_before && (announced.is_none() || claim == claim_before) => None,
            Some(interfaces) => {
                let interfaces = interfaces.clone();
                Some(AnnouncementChange::L2Announce { address, interfaces, claim })
            }
            None => {
                self.first_claims.cancel(address);
                Some(AnnouncementChange::L2Withdraw { address, handover })
            }
        };
        match outcome {
            Some(outcome) => self.outcomes.insert(address, outcome),
            None => self.outcomes.remove(&address),
        };
        change
    }
}

/// Returns the interfaces that an advertisement lists; an empty list means every interface.
fn listed_interfaces(listed: &BTreeSet<String>) -> InterfaceSet {
    if listed.is_empty() { InterfaceSet::All } else { InterfaceSet::Named(Arc::new(listed.clone())) }
}

fn on_conflict_of(configured: advertisement::OnConflict) -> OnConflict {
    match configured {
        advertisement::OnConflict::Keep => OnConflict::Keep,
        advertisement::OnConflict::Yield => OnConflict::Yield,
    }
}

/// Returns what a node does in a conflict if two advertisements cover the address: it keeps the address if
/// one of them says so.
fn both(a: OnConflict, b: OnConflict) -> OnConflict {
    match (a, b) {
        (OnConflict::Yield, OnConflict::Yield) => OnConflict::Yield,
        _ => OnConflict::Keep,
    }
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
