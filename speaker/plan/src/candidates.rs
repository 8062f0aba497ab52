//! The candidates of L2 elections: nodes, and the interfaces on which each advertisement lets them announce.
//!
//! A node is a candidate for an address if an advertisement that covers the address selects the node, and
//! if one of the interfaces that this advertisement lists serves the family of the address on the node. Of a
//! node that has not reported its interfaces, every interface counts as present.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_crds::model::selector::any_or_empty;
use fairlead_l2::{ServedFamilies, ServedInterfaces};

use crate::input::{Node, NodeName};
use crate::view::ClusterView;

/// The interfaces of nodes, as far as they are known.
pub type NodeInterfaces = BTreeMap<NodeName, Arc<ServedInterfaces>>;

/// Live nodes that may announce, and how each advertisement selects them.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    /// Sorted by name.
    nodes: Vec<NodeName>,
    /// By name of the advertisement, ascending by node.
    selections: BTreeMap<String, Vec<Selection>>,
}

/// An advertisement selects a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Index into [`Candidates::nodes`].
    pub(crate) node: usize,
    /// Weight of the preference for the node.
    pub(crate) weight: u32,
    /// The families that the node can announce on the interfaces of the advertisement.
    pub(crate) families: ServedFamilies,
}

/// What differs between the candidates before and now.
#[derive(Debug, Default)]
pub(crate) struct CandidateChange {
    /// A node is new, or an advertisement selects other nodes or with other weights.
    pub(crate) reselected: bool,
    /// The nodes that are no candidates any more.
    pub(crate) removed: BTreeSet<NodeName>,
    /// The families that a node can announce now by an advertisement, by the name of the advertisement.
    pub(crate) gained: BTreeMap<String, ServedFamilies>,
    /// The nodes that can no longer announce these families by the advertisement with this name.
    pub(crate) lost: Vec<(NodeName, String, ServedFamilies)>,
}

impl Candidates {
    /// Finds the candidates among `nodes`, which are sorted by name. `interfaces` returns those of a node;
    /// `None` if they are not known.
    pub(crate) fn find<'a>(
        view: ClusterView<'_>,
        nodes: &[(&NodeName, &Node)],
        interfaces: impl Fn(&NodeName) -> Option<&'a ServedInterfaces>,
    ) -> Self {
        let selections = view.config.l2_advertisements.values().map(|ad| {
            let selected = nodes
                .iter()
                .enumerate()
                .filter(|(_, (_, node))| any_or_empty(&ad.node_selectors, &node.labels));
            let selections = selected.map(|(at, (name, node))| {
                let matches = ad.preferred_nodes.iter().filter(|(_, s)| s.matches(&node.labels));
                Selection {
                    node: at,
                    weight: matches.map(|(weight, _)| weight).sum(),
                    families: families(interfaces(name), &ad.interfaces),
                }
            });
            (ad.name.clone(), selections.collect())
        });
        let selections = selections.collect();
        Self { nodes: nodes.iter().map(|(name, _)| (*name).clone()).collect(), selections }
    }

    /// Returns the names of the nodes, sorted.
    pub(crate) fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// Returns how an advertisement selects the nodes.
    pub(crate) fn selections(&self, advertisement: &str) -> &[Selection] {
        self.selections.get(advertisement).map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.nodes.binary_search_by(|node| (**node).cmp(name)).ok()
    }

    /// Returns what differs from the candidates before. Advertisements that are new or gone are left out.
    pub(crate) fn change_since(&self, old: &Self) -> CandidateChange {
        let removed: BTreeSet<NodeName> =
            old.nodes.iter().filter(|name| self.position(name).is_none()).cloned().collect();
        let added = self.nodes.iter().any(|name| old.position(name).is_none());
        let mut change = CandidateChange { reselected: added, removed, ..Default::default() };
        for (ad, selections) in &self.selections {
            let Some(before) = old.selections.get(ad) else { continue };
            let mut before = old.named(before).filter(|(name, _)| !change.removed.contains(*name));
            let mut gained = ServedFamilies::NONE;
            for (name, selection) in self.named(selections) {
                let same =
                    |(known, old): &(&NodeName, &Selection)| *known == name && old.weight == selection.weight;
                let Some((_, old)) = before.next().filter(same) else {
                    change.reselected = true;
                    break;
                };
                gained = gained.union(selection.families.without(old.families));
                let lost = old.families.without(selection.families);
                if lost != ServedFamilies::NONE {
                    change.lost.push((name.clone(), ad.clone(), lost));
                }
            }
            change.reselected |= before.next().is_some();
            if gained != ServedFamilies::NONE {
                change.gained.insert(ad.clone(), gained);
            }
        }
        change
    }

    fn named<'a>(
        &'a self,
        selections: &'a [Selection],
    ) -> impl Iterator<Item = (&'a NodeName, &'a Selection)> {
        selections.iter().filter_map(|selection| Some((self.nodes.get(selection.node)?, selection)))
    }
}

/// Returns the families that a node can announce on the interfaces that an advertisement lists; an empty list
/// means every interface.
pub(crate) fn families(interfaces: Option<&ServedInterfaces>, listed: &BTreeSet<String>) -> ServedFamilies {
    let Some(interfaces) = interfaces else { return ServedFamilies::BOTH };
    let usable = interfaces.iter().filter(|(name, _)| listed.is_empty() || listed.contains(*name));
    usable.fold(ServedFamilies::NONE, |families, (_, served)| families.union(*served))
}
