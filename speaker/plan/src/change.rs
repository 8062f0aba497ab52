//! The output of the plan: the changes to carry out, and the state of an address.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fairlead_bgp::Attributes;
use fairlead_crds::model::config::Peer;
use fairlead_l2::{Claim, InterfaceSet};
use ipnet::IpNet;

#[cfg(doc)]
use crate::peer_edit::PeerEdit;
use crate::reason::NotAnnouncedReason;

/// One thing to do. A list of changes is in the order in which they must be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AnnouncementChange {
    /// Open a session. Its routes follow.
    PeerOpen(Box<Peer>),
    /// Change the parameters of an open session. Its routes remain.
    PeerUpdate {
        /// Name of the BGPPeer before the change.
        peer: Arc<str>,
        wanted: Box<Peer>,
        /// If the change needs a new session ([`PeerEdit::NewSession`]): how long to wait before the
        /// established one is replaced. The nodes take turns.
        delay: Duration,
    },
    /// Set whether the peers should prefer other paths to all routes of this node, on all sessions, present
    /// and future (RFC 8326).
    GracefulShutdown(bool),
    /// Close a session.
    PeerClose {
        /// Name of the BGPPeer.
        peer: Arc<str>,
    },
    /// Announce a route, or announce it again with other attributes.
    RouteAnnounce {
        /// Name of the BGPPeer.
        peer: Arc<str>,
        prefix: IpNet,
        /// One value for all routes with equal attributes.
        attributes: Arc<Attributes>,
    },
    /// Withdraw a route.
    RouteWithdraw {
        /// Name of the BGPPeer.
        peer: Arc<str>,
        prefix: IpNet,
    },
    /// Answer ARP or NDP for an address, or change the interfaces on which this node does.
    L2Announce { address: IpAddr, interfaces: InterfaceSet, claim: Claim },
    /// Stop answering for an address.
    L2Withdraw {
        address: IpAddr,
        /// Another node takes the address while this one can still serve it: keep answering until the new
        /// owner has announced it.
        handover: bool,
    },
}

/// The state of an address on this node, for one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AnnouncementState {
    #[default]
    Announced,
    Not(NotAnnouncedReason),
}

impl fmt::Display for AnnouncementState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announced => f.write_str("Announced"),
            Self::Not(reason) => reason.fmt(f),
        }
    }
}

/// Collects changes and brings them into order: sessions first, then announcements, then withdrawals.
#[derive(Debug, Default)]
pub(crate) struct ChangeList {
    sessions: Vec<AnnouncementChange>,
    announcements: Vec<AnnouncementChange>,
    withdrawals: Vec<AnnouncementChange>,
}

impl ChangeList {
    pub(crate) fn push(&mut self, change: AnnouncementChange) {
        let list = match change {
            AnnouncementChange::PeerOpen(_)
            | AnnouncementChange::PeerUpdate { .. }
            | AnnouncementChange::GracefulShutdown(_) => &mut self.sessions,
            AnnouncementChange::RouteAnnounce { .. } | AnnouncementChange::L2Announce { .. } => {
                &mut self.announcements
            }
            AnnouncementChange::PeerClose { .. }
            | AnnouncementChange::RouteWithdraw { .. }
            | AnnouncementChange::L2Withdraw { .. } => &mut self.withdrawals,
        };
        list.push(change);
    }

    /// Adds a session to close before others are opened.
    pub(crate) fn push_close_first(&mut self, peer: Arc<str>) {
        self.sessions.push(AnnouncementChange::PeerClose { peer });
    }

    pub(crate) fn into_ordered(mut self) -> Vec<AnnouncementChange> {
        self.sessions.append(&mut self.announcements);
        self.sessions.append(&mut self.withdrawals);
        self.sessions
    }
}
