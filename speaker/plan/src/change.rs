//! What the plan says: differences to carry out, and verdicts to report.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_bgp::Attributes;
use fairlead_crds::model::config::Peer;
use fairlead_l2::InterfaceSet;
use ipnet::IpNet;

use super::reason::NotAnnouncedReason;

/// One thing to do. Lists of changes are in the order in which they must be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnnouncementChange {
    /// Open a session; one of the same name is closed first. Its routes follow.
    PeerOpen(Box<Peer>),
    /// Close a session.
    PeerClose {
        /// Name of the BGPPeer.
        peer: Arc<str>,
    },
    /// Announce a route, or announce it again with other attributes.
    RouteAnnounce {
        /// Name of the BGPPeer.
        peer: Arc<str>,
        /// Destination.
        prefix: IpNet,
        /// What goes with it.
        attributes: Arc<Attributes>,
    },
    /// Withdraw a route.
    RouteWithdraw {
        /// Name of the BGPPeer.
        peer: Arc<str>,
        /// Destination.
        prefix: IpNet,
    },
    /// Answer ARP or NDP for an address, or change on which interfaces.
    L2Announce {
        /// The address.
        address: IpAddr,
        /// Where.
        interfaces: InterfaceSet,
    },
    /// Stop answering for an address.
    L2Withdraw {
        /// The address.
        address: IpAddr,
        /// Another node takes over while this one is still able to serve: keep answering until it has begun.
        handover: bool,
    },
}

/// Whether an address is announced by one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncementState {
    /// It is.
    Announced,
    /// It is not.
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

/// How much work was done, to show that an event costs what it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Services whose routes were computed.
    pub services: u64,
    /// Addresses whose owner was computed.
    pub elections: u64,
    /// Prefixes whose attributes were merged.
    pub prefixes: u64,
}
