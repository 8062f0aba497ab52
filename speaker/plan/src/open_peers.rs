//! The BGP sessions that this node opens, and the routes that it announces over each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_bgp::Attributes;
use fairlead_crds::model::config::Peer;
use fairlead_crds::model::selector::any_or_empty;
use ipnet::IpNet;

use crate::change::{AnnouncementChange, ChangeList};
use crate::input::NodeName;
use crate::peer_edit::PeerEdit;
use crate::turns::turn;
use crate::view::ClusterView;

/// The open sessions, by name of the BGPPeer.
#[derive(Debug, Default)]
pub(crate) struct OpenPeers(BTreeMap<Arc<str>, OpenPeer>);

/// A session that this node opens.
#[derive(Debug)]
pub(crate) struct OpenPeer {
    peer: Peer,
    /// Routes announced over it.
    pub(crate) routes: BTreeMap<IpNet, Arc<Attributes>>,
}

/// The effect of [`OpenPeers::select`].
#[derive(Debug, Default)]
pub(crate) struct Selected {
    /// Sessions that were closed.
    pub(crate) closed: Vec<OpenPeer>,
    /// True if there are sessions that carry other routes than before.
    pub(crate) carried_differ: bool,
    /// True if routes may have other attributes than before.
    pub(crate) attributes_differ: bool,
}

impl OpenPeer {
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns whether the session carries routes of the family of an address: that of its transport, or both
    /// if so configured.
    pub(crate) fn carries(&self, address: std::net::IpAddr) -> bool {
        self.peer.carries(address.is_ipv4())
    }
}

impl OpenPeers {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &OpenPeer> {
        self.0.values()
    }

    pub(crate) fn iter_named(&self) -> impl Iterator<Item = (&Arc<str>, &OpenPeer)> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut OpenPeer)> {
        self.0.iter_mut()
    }

    /// Opens, changes and closes sessions according to the labels of this node and the BGPPeers. `live` are
    /// the live speakers; `None` if they are unknown.
    pub(crate) fn select(
        &mut self,
        view: ClusterView<'_>,
        live: Option<&BTreeSet<NodeName>>,
        changes: &mut ChangeList,
    ) -> Selected {
        let labels = view.own_labels();
        let selected = |peer: &&Peer| labels.is_some_and(|labels| any_or_empty(&peer.node_selectors, labels));
        let wanted: BTreeMap<&str, &Peer> =
            view.config.peers.values().filter(selected).map(|peer| (peer.name.as_str(), peer)).collect();
        let mut closed: Vec<Arc<str>> =
            self.0.keys().filter(|name| !wanted.contains_key(&***name)).cloned().collect();
        let mut result = Selected::default();
        let mut opened = Vec::new();
        for (name, peer) in wanted {
            let known = match self.0.get_key_value(name) {
                Some((known, _)) => Some(known.clone()),
                // A session keeps its routes if only the name of its BGPPeer changes.
                None => {
                    let renamed = closed.iter().position(|name| self.has_endpoint(name, peer));
                    renamed.map(|position| closed.remove(position))
                }
            };
            match known {
                Some(known) => self.edit(known, peer, view, live, changes, &mut result),
                None => opened.push(peer),
            }
        }
        result.carried_differ |= !closed.is_empty() || !opened.is_empty();
        for name in closed {
            let Some(open) = self.0.remove(&name) else { continue };
            // Two sessions with one router would collide: there the old one is closed first.
            if opened.iter().any(|peer| peer.address.may_be_same_router(&open.peer.address)) {
                changes.push_close_first(name);
            } else {
                changes.push(AnnouncementChange::PeerClose { peer: name });
            }
            result.closed.push(open);
        }
        for peer in opened {
            changes.push(AnnouncementChange::PeerOpen(Box::new(peer.clone())));
            let open = OpenPeer { peer: peer.clone(), routes: BTreeMap::new() };
            self.0.insert(peer.name.as_str().into(), open);
        }
        result
    }

    /// Changes an open session.
    fn edit(
        &mut self,
        name: Arc<str>,
        wanted: &Peer,
        view: ClusterView<'_>,
        live: Option<&BTreeSet<NodeName>>,
        changes: &mut ChangeList,
        result: &mut Selected,
    ) {
        let Some(OpenPeer { peer, routes }) = self.0.remove(&name) else { return };
        let edit = PeerEdit::between(&peer, wanted);
        let key = if peer.name == wanted.name { name.clone() } else { wanted.name.as_str().into() };
        if edit != PeerEdit::None || key != name {
            let delay = match edit {
                PeerEdit::NewSession => {
                    let nodes = view.nodes.all().filter(|(name, node)| {
                        any_or_empty(&wanted.node_selectors, &node.labels)
                            && live.is_none_or(|live| live.contains(*name))
                    });
                    turn(view.nodes.own_name(), nodes.map(|(name, _)| &**name))
                }
                PeerEdit::None | PeerEdit::Live => Default::default(),
            };
            changes.push(AnnouncementChange::PeerUpdate {
                peer: name,
                wanted: Box::new(wanted.clone()),
                delay,
            });
        }
        result.carried_differ |= carried(&peer) != carried(wanted);
        result.attributes_differ |= peer.link_bandwidth != wanted.link_bandwidth;
        self.0.insert(key, OpenPeer { peer: wanted.clone(), routes });
    }

    /// Returns whether an open session has the endpoints of this peer.
    fn has_endpoint(&self, name: &str, wanted: &Peer) -> bool {
        let source = |peer: &Peer| (peer.source_address, peer.source_interface.clone());
        let endpoint = |peer: &Peer| (peer.address.clone(), peer.port, source(peer), peer.vrf.clone());
        self.0.get(name).is_some_and(|open| endpoint(&open.peer) == endpoint(wanted))
    }
}

/// Returns everything about a peer on which it depends which routes its session carries.
fn carried(peer: &Peer) -> impl PartialEq {
    (&peer.name, peer.carries(true), peer.carries(false))
}
