//! The Nodes of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::dirty::DirtySet;
use crate::input::{Node, NodeName};
use crate::reason::NotAnnouncedReason;

/// All Nodes, and which of them is this one.
#[derive(Debug)]
pub(crate) struct Nodes {
    own_name: NodeName,
    by_name: BTreeMap<NodeName, Node>,
    /// True while this node announces nothing because it is being drained.
    withdrawn: bool,
}

impl Nodes {
    pub(crate) fn new(own_name: NodeName) -> Self {
        Self { own_name, by_name: BTreeMap::new(), withdrawn: false }
    }

    pub(crate) fn apply(&mut self, name: NodeName, node: Node, dirty: &mut DirtySet) {
        let relevant = self.by_name.get(&name).is_none_or(|known| {
            known.labels != node.labels
                || known.excluded != node.excluded
                || known.network_unavailable != node.network_unavailable
                || known.drain.is_some() != node.drain.is_some()
        });
        if relevant {
            self.mark(&name, dirty);
        }
        self.by_name.insert(name, node);
    }

    pub(crate) fn delete(&mut self, name: &str, dirty: &mut DirtySet) {
        if self.by_name.remove(name).is_some() {
            self.mark(name, dirty);
        }
    }

    pub(crate) fn reset(&mut self, all: Vec<(NodeName, Node)>, dirty: &mut DirtySet) {
        let listed: BTreeSet<&NodeName> = all.iter().map(|(name, _)| name).collect();
        let deleted: Vec<_> = self.by_name.keys().filter(|name| !listed.contains(name)).cloned().collect();
        deleted.iter().for_each(|name| self.delete(name, dirty));
        all.into_iter().for_each(|(name, node)| self.apply(name, node, dirty));
    }

    pub(crate) fn own_name(&self) -> &NodeName {
        &self.own_name
    }

    pub(crate) fn own(&self) -> Option<&Node> {
        self.by_name.get(&self.own_name)
    }

    /// Returns why this node announces nothing at all; `None` if it is eligible.
    pub(crate) fn own_reason(&self) -> Option<NotAnnouncedReason> {
        match self.own() {
            None => Some(NotAnnouncedReason::NodeUnknown),
            Some(node) if node.network_unavailable => Some(NotAnnouncedReason::NodeNetworkUnavailable),
            Some(node) if node.excluded => Some(NotAnnouncedReason::NodeExcluded),
            Some(node) if self.withdrawn && node.drain.is_some() => Some(NotAnnouncedReason::NodeDraining),
            Some(_) => None,
        }
    }

    /// Sets whether this node announces nothing because it is being drained.
    pub(crate) fn set_withdrawn(&mut self, withdrawn: bool, dirty: &mut DirtySet) {
        if std::mem::replace(&mut self.withdrawn, withdrawn) != withdrawn {
            dirty.mark_own_node();
        }
    }

    /// Returns all Nodes, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&NodeName, &Node)> {
        self.by_name.iter()
    }

    /// Returns the Nodes that may announce, by name.
    pub(crate) fn usable(&self) -> impl Iterator<Item = (&NodeName, &Node)> {
        self.all().filter(|(_, node)| node.usable())
    }

    fn mark(&self, name: &str, dirty: &mut DirtySet) {
        dirty.mark_candidates();
        if *name == *self.own_name {
            dirty.mark_own_node();
        }
    }
}
