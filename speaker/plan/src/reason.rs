//! The reasons for which a node does not announce an address. They are part of the API: the `Speaker` object
//! lists them.

use std::fmt;

/// A protocol that announces addresses.
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

/// The reason for which this node does not announce an address by one protocol. Ordered by importance for an
/// operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NotAnnouncedReason {
    /// No accepted pool contains the address.
    AddressInNoPool,
    /// No advertisement of the protocol covers the pool and the Service.
    NoMatchingAdvertisement,
    /// The attributes that the advertisements request do not fit into a BGP message.
    AttributesTooLarge,
    /// This node has none of the interfaces that the advertisement lists, or none of them serves the address
    /// family, and no other node owns the address.
    NoMatchingInterface,
    /// This node owns the address, but hosts on the link cannot use it: it is the network or broadcast
    /// address of the subnet, its subnet-router anycast address, an address of the interface, or the default
    /// gateway.
    UnusableOnLink,
    /// The flag `--protocols` of the speaker does not name the protocol.
    ProtocolDisabled,
    /// This node opens no BGP session.
    NoPeer,
    /// This node opens no session to any peer that the advertisement lists.
    PeerNotSelected,
    /// No session of this node carries the address family.
    FamilyNotCarried,
    /// The Node object of this node is unknown.
    NodeUnknown,
    /// The condition `NetworkUnavailable` of the Node is true.
    NodeNetworkUnavailable,
    /// The Node has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
    NodeExcluded,
    /// The node is being drained.
    NodeDraining,
    /// The Service has no endpoint that can serve, on any node.
    NoEndpoints,
    /// The endpoints of the Service that can serve are all of the other address family.
    NoEndpointsOfFamily,
    /// No live node is both selected by an advertisement and able to serve.
    NoEligibleNode,
    /// The members of the mesh are not known yet, or this node is isolated.
    MeshNotSettled,
    /// This node is isolated, and withdrew the address because another host announces it.
    ClaimedByAnotherHost,
    /// Another host on the link uses the address.
    AddressInUse,
    /// The Service proxy of this node has not applied the change that makes the node serve the address.
    DataPathNotReady,
    /// As `DataPathNotReady`, for less than 5 seconds.
    DataPathPending,
    /// This node asks whether another host on the link uses the address, for less than a second.
    AddressProbing,
    /// This node withdrew the address because of its endpoints, less than `reannounceAfter` ago.
    WithdrawnRecently,
    /// The traffic policy is `Local` and no endpoint of the address family on this node can serve.
    NoLocalEndpoints,
    /// The traffic policy is `Local`, the endpoints of the address family on this node are all terminating,
    /// and another node has a ready one.
    LocalEndpointsTerminating,
    /// Advertisements cover the address, but none selects this node.
    NodeNotSelected,
    /// Another node owns the address.
    NotOwner,
}

impl NotAnnouncedReason {
    /// All reasons, the most important first.
    pub const ALL: [Self; 27] = [
        Self::AddressInNoPool,
        Self::NoMatchingAdvertisement,
        Self::AttributesTooLarge,
        Self::NoMatchingInterface,
        Self::UnusableOnLink,
        Self::ProtocolDisabled,
        Self::NoPeer,
        Self::PeerNotSelected,
        Self::FamilyNotCarried,
        Self::NodeUnknown,
        Self::NodeNetworkUnavailable,
        Self::NodeExcluded,
        Self::NodeDraining,
        Self::NoEndpoints,
        Self::NoEndpointsOfFamily,
        Self::NoEligibleNode,
        Self::MeshNotSettled,
        Self::ClaimedByAnotherHost,
        Self::AddressInUse,
        Self::DataPathNotReady,
        Self::DataPathPending,
        Self::AddressProbing,
        Self::WithdrawnRecently,
        Self::NoLocalEndpoints,
        Self::LocalEndpointsTerminating,
        Self::NodeNotSelected,
        Self::NotOwner,
    ];

    /// Returns true if the reason is no problem: another node announces the address or is meant to, or this
    /// node probably announces it soon.
    pub fn is_expected(self) -> bool {
        matches!(
            self,
            Self::NodeDraining
                | Self::DataPathPending
                | Self::AddressProbing
                | Self::NoLocalEndpoints
                | Self::LocalEndpointsTerminating
                | Self::NodeNotSelected
                | Self::NotOwner
        )
    }

    /// Returns the message that explains the reason in the `Speaker` object.
    pub fn message(self) -> &'static str {
        match self {
            Self::AddressInNoPool => "no accepted IPAddressPool contains this address",
            Self::NoMatchingAdvertisement => {
                "no accepted L2Advertisement or BGPAdvertisement matches both the pool of this address and \
                 the labels of the Service"
            }
            Self::AttributesTooLarge => {
                "the attributes that all matching BGPAdvertisements request do not fit into a BGP message of \
                 4096 octets: the route is not announced, or still has its earlier attributes; use fewer \
                 communities, or list different peers"
            }
            Self::NoMatchingInterface => {
                "none of the interfaces that the L2Advertisement lists is up on this node and serves the \
                 address family; IPv6 needs a link-local address"
            }
            Self::UnusableOnLink => {
                "this address cannot be used on the link of this node: it is the network or broadcast address \
                 of the subnet, its subnet-router anycast address, an address of the node's interface, or \
                 the default gateway; exclude it from the IPAddressPool"
            }
            Self::ProtocolDisabled => {
                "the flag --protocols of the speaker on this node does not name this protocol"
            }
            Self::NoPeer => "no accepted BGPPeer selects this node",
            Self::PeerNotSelected => "none of the BGPPeers listed in the BGPAdvertisement selects this node",
            Self::FamilyNotCarried => {
                "no BGP session of this node carries the address family of this address; to carry both \
                 families, set dualStackAddressFamily in the BGPPeer"
            }
            Self::NodeUnknown => "the Node object of this node was not found",
            Self::NodeNetworkUnavailable => "the condition NetworkUnavailable of this node is True",
            Self::NodeExcluded => {
                "this node has the label node.kubernetes.io/exclude-from-external-load-balancers"
            }
            Self::NodeDraining => "this node is being drained",
            Self::NoEndpoints => "the Service has no endpoint that is ready to serve",
            Self::NoEndpointsOfFamily => {
                "the Service has no endpoint of this address family that is ready to serve; its endpoints \
                 of the other family cannot serve this address"
            }
            Self::NoEligibleNode => {
                "no live node is both selected by a matching L2Advertisement and able to serve the Service"
            }
            Self::MeshNotSettled => {
                "this speaker does not know which other speakers are alive; if this lasts, see its log"
            }
            Self::ClaimedByAnotherHost => {
                "no other speaker answers this one, and another host announces this address: this node \
                 withdrew it until a speaker answers; see the log of this speaker"
            }
            Self::AddressInUse => {
                "another host on the link uses this address: this node does not announce it until the host \
                 stops, and asks every 30 seconds; find the host by its Ethernet address, and remove the \
                 address from it, or exclude the address from the IPAddressPool"
            }
            Self::AddressProbing => "this node asks whether another host on the link uses this address",
            Self::DataPathNotReady | Self::DataPathPending => {
                "announceWhen is DataPathReady and the Service proxy of this node has not confirmed that it \
                 forwards the traffic of this address; if this lasts, see the log of this speaker"
            }
            Self::WithdrawnRecently => {
                "this node withdrew the address because of its endpoints, and announces it again after the \
                 time in reannounceAfter"
            }
            Self::NoLocalEndpoints => {
                "externalTrafficPolicy is Local and the Service has no endpoint of this address family on \
                 this node that is ready to serve"
            }
            Self::LocalEndpointsTerminating => {
                "externalTrafficPolicy is Local and the endpoints of this address family on this node are \
                 all terminating, while another node has a ready one"
            }
            Self::NodeNotSelected => "no matching advertisement selects this node",
            Self::NotOwner => "another node announces this address",
        }
    }
}

impl fmt::Display for NotAnnouncedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The API uses the names of the variants.
        fmt::Debug::fmt(self, f)
    }
}
