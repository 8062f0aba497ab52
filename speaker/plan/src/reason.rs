//! Why this node does not announce an address. The reason is part of the API: it appears in the `Speaker` object.

use std::fmt;

/// A protocol of announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// ARP and NDP.
    L2,
    /// BGP.
    Bgp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L2 => "L2",
            Self::Bgp => "BGP",
        })
    }
}

/// Why an address is not announced by one protocol from this node. Ordered by how much an operator wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotAnnouncedReason {
    /// No pool contains the address (any more).
    AddressInNoPool,
    /// No advertisement of the protocol covers the address's pool and the Service.
    NoMatchingAdvertisement,
    /// Advertisements that would send the same route to the same peer disagree about its LOCAL_PREF.
    ConflictingAdvertisements,
    /// The advertisement's interfaces do not exist on this node, which owns the address.
    NoMatchingInterface,
    /// The node opens no session at all.
    NoPeer,
    /// None of the peers that the advertisement names is opened by this node.
    PeerNotSelected,
    /// No session of this node carries the address's family.
    FamilyNotCarried,
    /// The Node object has not been seen.
    NodeUnknown,
    /// The node's condition `NetworkUnavailable` is true.
    NodeNetworkUnavailable,
    /// The node is labelled `node.kubernetes.io/exclude-from-external-load-balancers`.
    NodeExcluded,
    /// Nothing serves the Service anywhere.
    NoEndpoints,
    /// No node that lives and is selected can announce the address.
    NoEligibleNode,
    /// The speakers have not found each other yet.
    MeshNotSettled,
    /// Policy `Local`, and nothing serves the Service on this node.
    NoLocalEndpoints,
    /// Advertisements cover the address, but none selects this node.
    NodeNotSelected,
    /// Another node announces the address.
    NotOwner,
}

impl NotAnnouncedReason {
    /// All reasons.
    pub const ALL: [Self; 16] = [
        Self::AddressInNoPool,
        Self::NoMatchingAdvertisement,
        Self::ConflictingAdvertisements,
        Self::NoMatchingInterface,
        Self::NoPeer,
        Self::PeerNotSelected,
        Self::FamilyNotCarried,
        Self::NodeUnknown,
        Self::NodeNetworkUnavailable,
        Self::NodeExcluded,
        Self::NoEndpoints,
        Self::NoEligibleNode,
        Self::MeshNotSettled,
        Self::NoLocalEndpoints,
        Self::NodeNotSelected,
        Self::NotOwner,
    ];

    /// Whether all is well although this node does not announce: another one does, or is meant to.
    pub fn is_expected(self) -> bool {
        matches!(self, Self::NoLocalEndpoints | Self::NodeNotSelected | Self::NotOwner)
    }

    /// What an operator may do about it, or why all is well.
    pub fn message(self) -> &'static str {
        match self {
            Self::AddressInNoPool => "no accepted IPAddressPool contains this address",
            Self::NoMatchingAdvertisement => {
                "no accepted L2Advertisement or BGPAdvertisement covers this address's pool and the Service's labels"
            }
            Self::ConflictingAdvertisements => {
                "several BGPAdvertisements match with different localPref for the same route and peer"
            }
            Self::NoMatchingInterface => {
                "this node owns the address, but has none of the interfaces that the L2Advertisement lists"
            }
            Self::NoPeer => "no accepted BGPPeer selects this node",
            Self::PeerNotSelected => "none of the peers that the BGPAdvertisement lists selects this node",
            Self::FamilyNotCarried => {
                "no session of this node carries this address family; see dualStackAddressFamily of BGPPeer"
            }
            Self::NodeUnknown => "the Node object of this node does not exist (yet)",
            Self::NodeNetworkUnavailable => "the condition NetworkUnavailable of this node is true",
            Self::NodeExcluded => {
                "this node is labelled node.kubernetes.io/exclude-from-external-load-balancers"
            }
            Self::NoEndpoints => "the Service has no endpoint that can serve",
            Self::NoEligibleNode => {
                "no live node is both selected by an L2Advertisement and able to serve the Service"
            }
            Self::MeshNotSettled => "still listening for the other speakers",
            Self::NoLocalEndpoints => "externalTrafficPolicy is Local and no endpoint on this node can serve",
            Self::NodeNotSelected => "no matching advertisement selects this node",
            Self::NotOwner => "another node announces this address",
        }
    }
}

impl fmt::Display for NotAnnouncedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The names of the variants are the API.
        fmt::Debug::fmt(self, f)
    }
}
