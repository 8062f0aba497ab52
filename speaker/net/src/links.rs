//! [`Monitor`]: the interfaces of this node and their addresses, kept current through netlink.

mod message;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's interface index.
    pub index: u32,
    #[allow(missing_docs)]
    pub name: String,
    /// What created the interface, as the kernel names it: `bridge`, `bond`, `vlan`, `veth`, `vxlan`, …;
    /// `None` for hardware.
    pub kind: Option<String>,
    /// Ethernet address; `None` if the interface is not Ethernet.
    pub mac: Option<[u8; 6]>,
    /// True if the interface is up and its operational state (RFC 2863) is up, or unknown, as for drivers
    /// that do not report it.
    pub up: bool,
    /// The flag BROADCAST.
    pub broadcast: bool,
    /// The flag NOARP.
    pub no_arp: bool,
    /// The flag LOOPBACK.
    pub loopback: bool,
    /// Index of the bridge, bond or VRF that the interface belongs to.
    pub controller: Option<u32>,
    /// True if the controller is a VRF. Unlike a port of a bridge or bond, such an interface has its own
    /// addresses.
    pub in_vrf: bool,
    /// Addresses with their prefix lengths, without IPv6 addresses that are tentative or failed duplicate
    /// address detection.
    pub addresses: Vec<IpNet>,
    /// The members of [`Link::addresses`] that are temporary IPv6 addresses (RFC 8981).
    pub temporary: Vec<IpAddr>,
    /// The members of [`Link::addresses`] that are deprecated: in use, but not to be chosen anew (RFC 4862
    /// §5.5.4). A lapse of router advertisements deprecates an address until the next one.
    pub deprecated: Vec<IpAddr>,
}

/// The interfaces of the node at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The interfaces by the kernel's index.
    pub by_index: BTreeMap<u32, Link>,
}

impl Link {
    /// Returns the first link-local IPv6 address, see [`Link::ipv6`].
    pub fn link_local(&self) -> Option<Ipv6Addr> {
        let candidates = self.v6().filter(|(address, _)| address.is_unicast_link_local());
        first(candidates, |_| false)
    }

    /// Returns the lowest IPv4 address that is neither link-local nor loopback. An address of host length
    /// comes after all others, because it may be a virtual one, and a deprecated address last.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        let v4 = self.addresses.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some((net.addr(), net.prefix_len() == 32)),
            IpNet::V6(_) => None,
        });
        let candidates = v4.filter(|(address, _)| !address.is_loopback() && !address.is_link_local());
        first(candidates, |address| self.deprecated.contains(&address.into()))
    }

    /// Returns the lowest permanent IPv6 address that is neither link-local nor loopback. An address of host
    /// length comes after all others, because it may be a virtual one, and a deprecated address last.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        let candidates = self.v6().filter(|(address, _)| {
            let permanent = !self.temporary.contains(&(*address).into());
            permanent && !address.is_loopback() && !address.is_unicast_link_local()
        });
        first(candidates, |address| self.deprecated.contains(&address.into()))
    }

    /// Returns whether the link has this address.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// Returns whether the address is in the subnet of an address of the link.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.contains(&address))
    }

    /// Returns true if addresses can be announced on the link: the interface is up, Ethernet, not a loopback
    /// and not a port of a bridge or bond.
    pub fn announces(&self) -> bool {
        self.up && self.mac.is_some() && !self.loopback && (self.controller.is_none() || self.in_vrf)
    }

    /// The IPv6 addresses, and whether they have host length.
    fn v6(&self) -> impl Iterator<Item = (Ipv6Addr, bool)> + '_ {
        self.addresses.iter().filter_map(|net| match net {
            IpNet::V6(net) => Some((net.addr(), net.prefix_len() == 128)),
            IpNet::V4(_) => None,
        })
    }
}

/// Returns the first of these addresses: neither deprecated nor of host length, the lowest.
fn first<A: Copy + Ord>(
    candidates: impl Iterator<Item = (A, bool)>,
    is_deprecated: impl Fn(A) -> bool,
) -> Option<A> {
    let best = candidates.min_by_key(|(address, host)| (is_deprecated(*address), *host, *address));
    best.map(|(address, _)| address)
}

impl Links {
    /// Returns the interface with this name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.by_index.values().find(|link| link.name == name)
    }

    /// Returns the interface that has this address.
    pub fn holding(&self, address: IpAddr) -> Option<&Link> {
        self.by_index.values().find(|link| link.holds(address))
    }

    /// Returns the interfaces on which addresses can be announced ([`Link::announces`]). A bridge whose ports
    /// are all down is none of them: the kernel reports the loss of its carrier up to a second later.
    pub fn announcing(&self) -> impl Iterator<Item = &Link> {
        self.by_index.values().filter(|link| link.announces() && !self.is_cut_off(link))
    }

    /// Returns true if the interface is a bridge with ports, all of which are down.
    fn is_cut_off(&self, link: &Link) -> bool {
        let ports = || self.by_index.values().filter(|port| port.controller == Some(link.index));
        link.kind.as_deref() == Some("bridge") && ports().next().is_some() && !ports().any(|port| port.up)
    }

    /// Applies a netlink message. Returns true if it changed an interface.
    fn apply(&mut self, message: &RouteNetlinkMessage) -> bool {
        match message {
            // A message of the family AF_BRIDGE is about the membership in a bridge, not about the interface.
            RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.set_link(link)
            }
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                self.by_index.remove(&link.header.index).is_some()
            }
            RouteNetlinkMessage::NewAddress(address) => self.set_address(address, message::usable(address)),
            RouteNetlinkMessage::DelAddress(address) => self.set_address(address, false),
            _ => false,
        }
    }

    fn set_link(&mut self, message: &LinkMessage) -> bool {
        let Some(mut link) = message::link(message) else { return false };
        let before = self.by_index.get(&link.index);
        if let Some(before) = before {
            link.addresses.clone_from(&before.addresses);
            link.temporary.clone_from(&before.temporary);
            link.deprecated.clone_from(&before.deprecated);
        }
        let changed = before != Some(&link);
        self.by_index.insert(link.index, link);
        changed
    }

    fn set_address(&mut self, message: &AddressMessage, present: bool) -> bool {
        let Some(net) = message::prefix(message) else { return false };
        let Some(link) = self.by_index.get_mut(&message.header.index) else { return false };
        let changed = set_member(&mut link.addresses, net, present);
        let temporary = present && message::temporary(message);
        let deprecated = present && message::deprecated(message);
        let changed = set_member(&mut link.temporary, net.addr(), temporary) || changed;
        set_member(&mut link.deprecated, net.addr(), deprecated) || changed
    }
}

/// Adds or removes a value. Returns true if the list changed.
fn set_member<T: PartialEq>(list: &mut Vec<T>, value: T, present: bool) -> bool {
    let known = list.contains(&value);
    match (known, present) {
        (false, true) => list.push(value),
        (true, false) => list.retain(|other| *other != value),
        _ => {}
    }
    known != present
}

/// Most messages that one change consists of.
const MAX_MESSAGES_PER_CHANGE: usize = 1024;

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Watches the interfaces of the network namespace in which it was opened.
pub struct Monitor {
    handle: Handle,
    messages: Messages,
    connection: JoinHandle<()>,
    links: Links,
    /// True if the kernel dropped messages because the buffer of the socket was full.
    overrun: bool,
}

impl Monitor {
    /// Subscribes to changes and then lists the interfaces, so that it misses no change. Needs a Tokio
    /// runtime.
    pub async fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        let connection = tokio::spawn(connection);
        let links = list(&handle).await?;
        Ok(Self { handle, messages, connection, links, overrun: false })
    }

    /// Returns the current interfaces.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Waits until [`Self::links`] changes, and applies all changes that arrived: a burst, as when many pods
    /// start, costs one turn of the caller. After an overrun of the socket, lists the interfaces again. An
    /// error is permanent: open another monitor. Cancel safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.next_change().await?;
        for _ in 1..MAX_MESSAGES_PER_CHANGE {
            let Some(Some((message, _))) = self.messages.next().now_or_never() else { break };
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => drop(self.links.apply(&inner)),
                NetlinkPayload::Overrun(_) => self.overrun = true,
                _ => {}
            }
        }
        Ok(())
    }

    async fn next_change(&mut self) -> io::Result<()> {
        loop {
            if self.overrun {
                let links = list(&self.handle).await?;
                self.overrun = false;
                if links != self.links {
                    self.links = links;
                    return Ok(());
                }
            }
            let Some((message, _)) = self.messages.next().await else {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "netlink connection closed"));
            };
            match message.payload {
                NetlinkPayload::InnerMessage(inner) if self.links.apply(&inner) => return Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, kind: Option<&str>, up: bool, controller: Option<u32>) -> Link {
        Link {
            index,
            name: format!("if{index}"),
            kind: kind.map(str::to_owned),
            mac: Some([2, 0, 0, 0, 0, 1]),
            up,
            broadcast: true,
            no_arp: false,
            loopback: false,
            controller,
            in_vrf: false,
            addresses: Vec::new(),
            temporary: Vec::new(),
            deprecated: Vec::new(),
        }
    }

    /// Given an interface that is up, and whether each of its ports is: whether it can announce.
    #[test]
    fn bridge_announces_while_a_port_is_up() {
        for (kind, ports, expected) in [
            (Some("bridge"), vec![], true),
            (Some("bridge"), vec![true], true),
            (Some("bridge"), vec![false, true], true),
            (Some("bridge"), vec![false, false], false),
            (Some("bond"), vec![false], true),
            (None, vec![], true),
        ] {
            let ports = ports.iter().zip(2..).map(|(up, index)| link(index, Some("veth"), *up, Some(1)));
            let all = ports.chain([link(1, kind, true, None)]);
            let links = Links { by_index: all.map(|link| (link.index, link)).collect() };
            let announcing: Vec<u32> = links.announcing().map(|link| link.index).collect();
            assert_eq!(announcing, [1][..usize::from(expected)], "{kind:?}");
        }
    }

    #[test]
    fn first_address_does_not_depend_on_the_order_of_changes() {
        for (addresses, deprecated, ipv4, ipv6, link_local) in [
            ("192.0.2.2/24 192.0.2.1/24", "", "192.0.2.1", "", ""),
            ("192.0.2.9/24 192.0.2.1/32", "", "192.0.2.9", "", ""),
            ("192.0.2.9/32 192.0.2.1/32 127.0.0.1/8", "", "192.0.2.1", "", ""),
            ("192.0.2.1/24 192.0.2.2/32", "192.0.2.1", "192.0.2.2", "", ""),
            ("2001:db8::2/64 2001:db8::1/128", "", "", "2001:db8::2", ""),
            ("2001:db8::2/64 2001:db8::3/64", "2001:db8::2", "", "2001:db8::3", ""),
            ("fe80::2/64 fe80::1/64 fe80::/128", "", "", "", "fe80::1"),
        ] {
            let mut addresses: Vec<IpNet> =
                addresses.split_whitespace().map(|address| address.parse().unwrap()).collect();
            for _ in 0..2 {
                let link = Link {
                    index: 2,
                    name: "eth0".to_owned(),
                    kind: None,
                    mac: None,
                    up: true,
                    broadcast: true,
                    no_arp: false,
                    loopback: false,
                    controller: None,
                    in_vrf: false,
                    addresses: addresses.clone(),
                    temporary: Vec::new(),
                    deprecated: deprecated.parse().into_iter().collect(),
                };
                assert_eq!(link.ipv4(), ipv4.parse().ok(), "{addresses:?}");
                assert_eq!(link.ipv6(), ipv6.parse().ok(), "{addresses:?}");
                assert_eq!(link.link_local(), link_local.parse().ok(), "{addresses:?}");
                addresses.reverse();
            }
        }
    }
}
