//! Who owns an L2 address: election among the live nodes that are eligible.
//!
//! The election is per address, not per Service: Services that share an address have one owner whatever their
//! advertisements and endpoints say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::selector::any_or_empty;
use fairlead_crds::model::service::{ObjectKey, TrafficPolicy};
use fairlead_l2::InterfaceSet;

use super::change::{AnnouncementChange, AnnouncementState};
use super::input::NodeName;
use super::plan::{Entry, Plan};
use super::rank::rank;
use super::reason::{NotAnnouncedReason, Protocol};

/// Live nodes that may announce, and which of them each advertisement selects.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Sorted by name.
    nodes: Vec<NodeName>,
    /// By name of the advertisement: index into `nodes` and weight of preference, ascending.
    selected: BTreeMap<String, Vec<(usize, u32)>>,
}

/// What speaks for a candidate in one election.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Services on the address that it can serve; `u32::MAX` Services do not share one address.
    services: u32,
    /// Number of the last Service that was counted, from 1.
    counted: u32,
    weight: u32,
}

impl Candidates {
    fn position(&self, name: &str) -> Option<usize> {
        self.nodes.binary_search_by(|node| (**node).cmp(name)).ok()
    }

    /// Advertisement by advertisement: the names and weights of the nodes selected, less those in `without`.
    fn selections(&self, without: &BTreeSet<NodeName>) -> BTreeMap<&str, Vec<(&NodeName, u32)>> {
        let mut selections = BTreeMap::new();
        for (ad, selected) in &self.selected {
            let nodes = selected.iter().filter_map(|(at, weight)| Some((self.nodes.get(*at)?, *weight)));
            selections.insert(ad.as_str(), nodes.filter(|(name, _)| !without.contains(*name)).collect());
        }
        selections
    }
}

/// What one Service says about the election of an address.
struct Ballot {
    /// Why this node cannot announce for the Service; `None` if it could.
    reason: Option<NotAnnouncedReason>,
    /// Interfaces of the advertisements that select this node.
    interfaces: Option<InterfaceSet>,
}

impl Plan {
    /// Finds the candidates anew, and marks the addresses whose owner may change by it.
    pub(super) fn find_candidates(&mut self) {
        let none = BTreeSet::new();
        let live = self.live.as_ref().unwrap_or(&none);
        let nodes: Vec<(&NodeName, _)> =
            self.nodes.iter().filter(|(name, node)| node.usable() && live.contains(*name)).collect();
        let selected = self.config.l2_advertisements.values().map(|ad| {
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
        let new = Candidates { nodes, selected };
        let old = std::mem::replace(&mut self.candidates, new);

        let (old, new) = (&old, &self.candidates);
        let gone: BTreeSet<NodeName> =
            old.nodes.iter().filter(|name| new.position(name).is_none()).cloned().collect();
        let came = new.nodes.iter().any(|name| old.position(name).is_none());
        // Whoever loses an election still loses it when a rival goes. Only the winner's addresses move.
        let before = old.selections(&gone);
        let moved = new.selections(&gone).into_iter().any(|(ad, nodes)| {
            // A new advertisement marks its own addresses.
            before.get(ad).is_some_and(|known| *known != nodes)
        });
        if came || moved {
            self.dirty.all_addresses = true;
        }
        for name in &gone {
            self.dirty.addresses.extend(self.owned.get(name).into_iter().flatten());
        }
    }

    /// Computes who owns an address, and what this node does about it.
    pub(super) fn elect(
        &mut self,
        address: IpAddr,
        announce: &mut Vec<AnnouncementChange>,
        withdraw: &mut Vec<AnnouncementChange>,
    ) {
        self.work.elections += 1;
        let Some(state) = self.addresses.get(&address) else { return };
        let services = state.services.clone();
        let mut tally = std::mem::take(&mut self.tally);
        tally.clear();
        tally.resize(self.candidates.nodes.len(), Tally::default());
        let mut number = 0;
        let ballots: Vec<(Arc<ObjectKey>, Ballot)> = services
            .into_iter()
            .filter_map(|key| {
                number += 1;
                let ballot = self.vote(&key, self.services.get(&key)?, address, number, &mut tally);
                Some((key, ballot))
            })
            .collect();
        let owner = self.winner(address, &tally);
        self.tally = tally;

        let mine = owner.as_ref() == Some(&self.me);
        let mut able = false;
        let mut interfaces: Option<InterfaceSet> = None;
        for (_, ballot) in &ballots {
            able |= ballot.reason.is_none();
            let Some(listed) = ballot.interfaces.as_ref().filter(|_| ballot.reason.is_none()) else {
                continue;
            };
            match (&mut interfaces, listed) {
                (None, listed) => interfaces = Some(listed.clone()),
                (Some(all), InterfaceSet::Named(names)) => add_interfaces(all, names),
                (Some(all), InterfaceSet::All) => *all = InterfaceSet::All,
            }
        }
        let wanted = interfaces.filter(|_| mine);
        let nowhere = match (&wanted, &self.links) {
            (Some(InterfaceSet::Named(names)), Some(links)) => names.is_disjoint(links),
            _ => false,
        };
        for (key, ballot) in ballots {
            let verdict = match ballot.reason {
                None if mine && nowhere => AnnouncementState::Not(NotAnnouncedReason::NoMatchingInterface),
                None if mine => AnnouncementState::Announced,
                None => AnnouncementState::Not(NotAnnouncedReason::NotOwner),
                Some(reason) if owner.is_none() && reason.is_expected() => {
                    AnnouncementState::Not(NotAnnouncedReason::NoEligibleNode)
                }
                Some(reason) => AnnouncementState::Not(reason),
            };
            self.judge(&key, address, Protocol::L2, verdict);
        }
        let handover = able && owner.is_some();
        self.settle(address, owner, wanted, handover, announce, withdraw);
    }

    /// Counts one Service for every candidate that can announce it, and says how this node stands.
    fn vote(
        &self,
        key: &ObjectKey,
        entry: &Entry,
        address: IpAddr,
        number: u32,
        tally: &mut [Tally],
    ) -> Ballot {
        let no = |reason| Ballot { reason: Some(reason), interfaces: None };
        let service = &entry.service;
        let Some(pool) = service.pool_of(&self.config, address) else {
            return no(NotAnnouncedReason::AddressInNoPool);
        };
        let mut ads = self.config.l2_for(pool, &service.labels).peekable();
        if ads.peek().is_none() {
            return no(NotAnnouncedReason::NoMatchingAdvertisement);
        }
        let local = service.traffic_policy == TrafficPolicy::Local;
        let mut serving = false;
        let mut on = Vec::new();
        for slice in self.serving(key) {
            serving = true;
            if local {
                on.extend(slice.nodes.iter());
            }
        }
        let can_serve = |name: &NodeName| serving && (!local || on.contains(&name));
        let own = self.own_node();
        let mut interfaces: Option<InterfaceSet> = None;
        for ad in ads {
            if own.is_some_and(|node| any_or_empty(&ad.node_selectors, &node.labels)) {
                let united = interfaces.get_or_insert_with(|| InterfaceSet::Named(Arc::default()));
                add_interfaces(united, &ad.interfaces);
            }
            for (at, weight) in self.candidates.selected.get(&ad.name).into_iter().flatten() {
                let (Some(candidate), Some(tally)) = (self.candidates.nodes.get(*at), tally.get_mut(*at))
                else {
                    continue;
                };
                if tally.counted == number {
                    tally.weight = tally.weight.saturating_add(*weight);
                } else if can_serve(candidate) {
                    tally.counted = number;
                    tally.services += 1;
                    tally.weight = tally.weight.saturating_add(*weight);
                }
            }
        }
        let reason = match self.node_reason() {
            Some(reason) => Some(reason),
            None if !serving => Some(NotAnnouncedReason::NoEndpoints),
            None if interfaces.is_none() => Some(NotAnnouncedReason::NodeNotSelected),
            None if !can_serve(&self.me) => Some(NotAnnouncedReason::NoLocalEndpoints),
            None if self.live.is_none() => Some(NotAnnouncedReason::MeshNotSettled),
            None => None,
        };
        Ballot { reason, interfaces }
    }

    /// Serves most of the Services on the address, then is preferred most, then ranks highest.
    fn winner(&self, address: IpAddr, tally: &[Tally]) -> Option<NodeName> {
        let rated = self.candidates.nodes.iter().zip(tally).filter(|(_, tally)| tally.services > 0);
        let best =
            rated.max_by_key(|(name, tally)| (tally.services, tally.weight, rank(name, address), *name));
        best.map(|(name, _)| name.clone())
    }

    /// Carries the outcome into the index and the list of changes.
    fn settle(
        &mut self,
        address: IpAddr,
        owner: Option<NodeName>,
        wanted: Option<InterfaceSet>,
        handover: bool,
        announce: &mut Vec<AnnouncementChange>,
        withdraw: &mut Vec<AnnouncementChange>,
    ) {
        let Some(state) = self.addresses.get_mut(&address) else { return };
        if state.owner != owner {
            if let Some(owned) = state.owner.as_ref().and_then(|name| self.owned.get_mut(name)) {
                owned.remove(&address);
            }
            if let Some(name) = &owner {
                self.owned.entry(name.clone()).or_default().insert(address);
            }
            if let Some(name) =
                state.owner.as_ref().filter(|n| self.owned.get(*n).is_some_and(|o| o.is_empty()))
            {
                self.owned.remove(name);
            }
            state.owner = owner;
        }
        if state.announced != wanted {
            match &wanted {
                Some(interfaces) => {
                    announce.push(AnnouncementChange::L2Announce { address, interfaces: interfaces.clone() })
                }
                None => withdraw.push(AnnouncementChange::L2Withdraw { address, handover }),
            }
            self.l2_announced += usize::from(wanted.is_some());
            self.l2_announced -= usize::from(state.announced.is_some());
            state.announced = wanted;
        }
        if state.services.is_empty() {
            self.addresses.remove(&address);
        }
    }
}

/// Adds the interfaces that an advertisement lists; an empty list means every interface.
fn add_interfaces(set: &mut InterfaceSet, listed: &BTreeSet<String>) {
    match set {
        InterfaceSet::Named(names) if !listed.is_empty() => {
            Arc::make_mut(names).extend(listed.iter().cloned());
        }
        _ => *set = InterfaceSet::All,
    }
}
