//! Netlink messages about interfaces and addresses.

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, State,
};

use super::Link;

/// Returns the interface without its addresses, or `None` if the message describes only a part of it, as
/// wireless events do.
pub(super) fn link(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        up: false,
        broadcast: flags.contains(LinkFlags::Broadcast),
        no_arp: flags.contains(LinkFlags::Noarp),
        loopback: flags.contains(LinkFlags::Loopback),
        controller: None,
        in_vrf: false,
        addresses: Vec::new(),
        temporary: Vec::new(),
        deprecated: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) if message.header.link_layer_type == LinkLayerType::Ether => {
                link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok();
            }
            LinkAttribute::OperState(state) => {
                link.up = flags.contains(LinkFlags::Up) && matches!(state, State::Up | State::Unknown);
            }
            LinkAttribute::Controller(index) => link.controller = Some(*index).filter(|index| *index != 0),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                link.in_vrf = infos.iter().any(|info| matches!(info, LinkInfo::PortKind(InfoPortKind::Vrf)));
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// Returns the local address with its prefix length. On a point-to-point link, the attribute `Address` is
/// that of the peer.
pub(super) fn prefix(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    IpNet::new(address?, message.header.prefix_len).ok()
}

/// Returns false if duplicate address detection is in progress or has failed.
pub(super) fn usable(message: &AddressMessage) -> bool {
    let flags = message.header.flags;
    let tentative =
        flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(AddressHeaderFlags::Optimistic);
    !tentative && !flags.contains(AddressHeaderFlags::Dadfailed)
}

/// Returns true for a temporary IPv6 address (IFA_F_TEMPORARY).
pub(super) fn temporary(message: &AddressMessage) -> bool {
    let flags = message.header.flags;
    // For IPv4, the same bit marks a secondary address.
    flags.contains(AddressHeaderFlags::Secondary) && message.header.family == AddressFamily::Inet6
}

/// Returns true for a deprecated address of either family (IFA_F_DEPRECATED).
pub(super) fn deprecated(message: &AddressMessage) -> bool {
    message.header.flags.contains(AddressHeaderFlags::Deprecated)
}
