//! The interfaces of this node and their addresses, followed through netlink.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, State,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel's index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address; `None` for interfaces that have none or another kind.
    pub mac: Option<[u8; 6]>,
    /// Up, and able to carry packets (RFC 2863: operState up; unknown counts as up, for devices that never
    /// tell).
    pub up: bool,
    /// BROADCAST is set.
    pub broadcast: bool,
    /// NOARP is set.
    pub no_arp: bool,
    /// LOOPBACK is set.
    pub loopback: bool,
    /// Index of the bridge, bond or VRF that it belongs to.
    pub controller: Option<u32>,
    /// The controller is a VRF: the interface is still its own on the link.
    pub in_vrf: bool,
    /// Addresses with their prefix lengths, usable ones only: no tentative or failed IPv6 addresses.
    pub addresses: Vec<IpNet>,
}

/// The interfaces at one moment, by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// By kernel's index.
    pub by_index: BTreeMap<u32, Link>,
}

impl Link {
    /// The first link-local IPv6 address.
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        self.v6().find(Ipv6Addr::is_unicast_link_local)
    }

    /// The first IPv4 address that is neither link-local nor loopback.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        let v4 = self.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        });
        v4.into_iter().find(|address| !address.is_loopback() && !address.is_link_local())
    }

    /// The first IPv6 address that is neither link-local nor loopback.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.v6().find(|address| !address.is_loopback() && !address.is_unicast_link_local())
    }

    /// Can carry announcements on the local link: up, with a hardware address, no loopback, not in a bridge
    /// or bond.
    pub fn announces(&self) -> bool {
        self.up && self.mac.is_some() && !self.loopback && (self.controller.is_none() || self.in_vrf)
    }

    fn v6(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.addresses.iter().filter_map(|net| match net.addr() {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        })
    }
}

impl Links {
    /// The interface that holds this local address.
    pub fn holding(&self, address: IpAddr) -> Option<&Link> {
        self.by_index.values().find(|link| link.addresses.iter().any(|net| net.addr() == address))
    }

    /// The interface with this name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.by_index.values().find(|link| link.name == name)
    }

    /// What changed from `self` to `new`.
    fn differences(&self, new: &Self) -> Vec<LinkEvent> {
        let gone = self.by_index.keys().filter(|index| !new.by_index.contains_key(index));
        let changed = new.by_index.iter().filter(|(index, link)| self.by_index.get(index) != Some(link));
        gone.map(|index| LinkEvent::Removed(*index))
            .chain(changed.map(|(_, link)| LinkEvent::Changed(link.clone())))
            .collect()
    }

    /// Takes in one message and says what it changed.
    fn apply(&mut self, message: &RouteNetlinkMessage) -> Option<LinkEvent> {
        let (index, changed) = match message {
            // A bridge tells in its own family about its ports: the interface itself neither changes nor
            // goes.
            RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.set_link(link)?
            }
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.by_index.remove(&link.header.index)?;
                return Some(LinkEvent::Removed(link.header.index));
            }
            RouteNetlinkMessage::NewAddress(address) => self.set_address(address, usable(address))?,
            RouteNetlinkMessage::DelAddress(address) => self.set_address(address, false)?,
            _ => return None,
        };
        changed.then(|| self.by_index.get(&index).cloned().map(LinkEvent::Changed)).flatten()
    }

    fn set_link(&mut self, message: &LinkMessage) -> Option<(u32, bool)> {
        let index = message.header.index;
        let before = self.by_index.get(&index);
        let link =
            Link { addresses: before.map_or_else(Vec::new, |link| link.addresses.clone()), ..read(message)? };
        let changed = before != Some(&link);
        self.by_index.insert(index, link);
        Some((index, changed))
    }

    fn set_address(&mut self, message: &AddressMessage, present: bool) -> Option<(u32, bool)> {
        let index = message.header.index;
        let net = prefix(message)?;
        let link = self.by_index.get_mut(&index)?;
        let known = link.addresses.contains(&net);
        match (known, present) {
            (false, true) => link.addresses.push(net),
            (true, false) => link.addresses.retain(|other| *other != net),
            _ => {}
        }
        Some((index, known != present))
    }
}

/// An interface without its addresses; `None` for messages that say only a part of it (wireless events).
fn read(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        up: false,
        broadcast: flags.contains(LinkFlags::Broadcast),
        no_arp: flags.contains(LinkFlags::Noarp),
        loopback: flags.contains(LinkFlags::Loopback),
        controller: None,
        in_vrf: false,
        addresses: Vec::new(),
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
                link.in_vrf = infos.iter().any(|info| matches!(info, LinkInfo::PortKind(InfoPortKind::Vrf)));
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// The local address with its prefix length. On a point-to-point link `Address` is the other end's.
fn prefix(message: &AddressMessage) -> Option<IpNet> {
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

/// Not (yet) an address of this node: duplicate address detection is under way, or found a duplicate.
fn usable(message: &AddressMessage) -> bool {
    let flags = message.header.flags;
    let tentative =
        flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(AddressHeaderFlags::Optimistic);
    !tentative && !flags.contains(AddressHeaderFlags::Dadfailed)
}

/// A change, in the order it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The interface is new, or something about it changed.
    Changed(Link),
    /// The interface is gone.
    Removed(u32),
}

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Follows the interfaces of the network namespace it was opened in.
pub struct Monitor {
    handle: Handle,
    messages: Messages,
    connection: JoinHandle<()>,
    links: Links,
    events: VecDeque<LinkEvent>,
    /// Messages were lost.
    overrun: bool,
}

impl Monitor {
    /// Subscribes, then lists: nothing is missed in between. Needs a Tokio runtime.
    pub async fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        let connection = tokio::spawn(connection);
        let links = list(&handle).await?;
        Ok(Self { handle, messages, connection, links, events: VecDeque::new(), overrun: false })
    }

    /// The interfaces as known now.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Waits for the next change; [`Self::links`] already has it. After an overrun of the socket everything
    /// is listed again and the differences are given. An error means that netlink is gone for good. Cancel
    /// safe.
    pub async fn next(&mut self) -> io::Result<LinkEvent> {
        loop {
            if self.overrun {
                let links = list(&self.handle).await?;
                self.events.extend(self.links.differences(&links));
                self.links = links;
                self.overrun = false;
            }
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let Some((message, _)) = self.messages.next().await else {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "netlink connection ended"));
            };
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => self.events.extend(self.links.apply(&inner)),
                NetlinkPayload::Overrun(_) => self.overrun = true,
                _ => {}
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn list(handle: &Handle) -> io::Result<Links> {
    let mut links = Links::default();
    let mut interfaces = handle.link().get().execute();
    while let Some(link) = interfaces.try_next().await.map_err(io::Error::other)? {
        links.apply(&RouteNetlinkMessage::NewLink(link));
    }
    let mut addresses = handle.address().get().execute();
    while let Some(address) = addresses.try_next().await.map_err(io::Error::other)? {
        links.apply(&RouteNetlinkMessage::NewAddress(address));
    }
    Ok(links)
}
