//! [`Monitor`]: the gateways of this node's default routes, kept current through netlink.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags, RoutePreference,
    RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::JoinHandle;

/// Most messages that are handled before the routes are listed again.
const MAX_MESSAGES_PER_CHANGE: usize = 1024;

/// The next hop of a default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    #[allow(missing_docs)]
    pub address: IpAddr,
    /// Index of the interface that leads to it.
    pub ifindex: u32,
}

/// The gateways of the best default routes of each family, ordered by address: of the routes with the lowest
/// metric, those with the highest preference (RFC 4191 §2.2). Next hops over interfaces without a carrier do
/// not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DefaultGateways {
    pub v4: Vec<Gateway>,
    pub v6: Vec<Gateway>,
    /// True if the IPv4 default route has an IPv6 gateway (RTA_VIA).
    pub v4_via_v6: bool,
}

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Watches the default routes of the network namespace in which it was opened.
pub struct Monitor {
    handle: Handle,
    messages: Messages,
    connection: JoinHandle<()>,
    found: Found,
}

/// The result of listing the routes.
#[derive(Debug, Default)]
struct Found {
    gateways: DefaultGateways,
    /// The interfaces of all next hops of default routes. The kernel does not tell when a next hop loses the
    /// carrier of its interface.
    interfaces: BTreeSet<u32>,
}

impl Monitor {
    /// Subscribes to changes and then lists the routes, so that it misses no change. Needs a Tokio runtime.
    pub async fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        let connection = tokio::spawn(connection);
        let found = list(&handle).await?;
        Ok(Self { handle, messages, connection, found })
    }

    /// Returns the current gateways.
    #[must_use]
    pub fn gateways(&self) -> &DefaultGateways {
        &self.found.gateways
    }

    /// Waits until [`Self::gateways`] changes. An error is permanent: open another monitor. Cancel safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let Some((message, _)) = self.messages.next().await else {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "netlink connection closed"));
            };
            let mut affected = self.affects(&message);
            // A burst of route changes, as of a routing daemon, is handled at once.
            for _ in 1..MAX_MESSAGES_PER_CHANGE {
                let Some(Some((message, _))) = self.messages.next().now_or_never() else { break };
                affected |= self.affects(&message);
            }
            if affected {
                let found = list(&self.handle).await?;
                let before = std::mem::replace(&mut self.found, found);
                if before.gateways != self.found.gateways {
                    return Ok(());
                }
            }
        }
    }

    /// A replaced route causes no message about its deletion, so that the routes are listed again after every
    /// change of a default route or of its interface, and after lost messages.
    fn affects(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        match &message.payload {
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) => route.header.destination_prefix_length == 0,
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
            ) => self.found.interfaces.contains(&link.header.index),
            NetlinkPayload::Overrun(_) => true,
            _ => false,
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn list(handle: &Handle) -> io::Result<Found> {
    let mut found = Found::default();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let mut routes = handle.route().get(request).execute();
        let mut best = Best::default();
        while let Some(route) = routes.try_next().await.map_err(io::Error::other)? {
            if let Some(route) = default_route(&route) {
                found.interfaces.extend(&route.interfaces);
                found.gateways.v4_via_v6 |= route.via_v6;
                best.add(route);
            }
        }
        match family {
            AddressFamily::Inet => found.gateways.v4 = best.into_gateways(),
            _ => found.gateways.v6 = best.into_gateways(),
        }
    }
    Ok(found)
}

/// A default route in the main table.
#[derive(Debug, Default, PartialEq, Eq)]
struct DefaultRoute {
    /// Metric, then preference: the lowest is the best.
    rank: (u32, u8),
    /// Gateways of the next hops that can be used.
    gateways: Vec<Gateway>,
    /// Interfaces of all next hops.
    interfaces: Vec<u32>,
    /// True if a next hop of an IPv4 route is an IPv6 address.
    via_v6: bool,
}

/// The best routes with gateways.
#[derive(Debug, Default)]
struct Best {
    rank: (u32, u8),
    gateways: BTreeSet<Gateway>,
}

impl Best {
    fn add(&mut self, route: DefaultRoute) {
        if route.gateways.is_empty() || !self.gateways.is_empty() && route.rank > self.rank {
            return;
        }
        if route.rank != self.rank {
            self.gateways.clear();
        }
        self.rank = route.rank;
        self.gateways.extend(route.gateways);
    }

    fn into_gateways(self) -> Vec<Gateway> {
        self.gateways.into_iter().collect()
    }
}

/// Returns a default route in the main table; `None` for any other route.
fn default_route(route: &RouteMessage) -> Option<DefaultRoute> {
    let header = &route.header;
    if header.destination_prefix_length != 0
        || header.kind != RouteType::Unicast
        || header.table != RouteHeader::RT_TABLE_MAIN
    {
        return None;
    }
    let (mut metric, mut preference) = (0, RoutePreference::Medium);
    let mut read = DefaultRoute::default();
    let is_usable = !header.flags.intersects(RouteFlags::Dead | RouteFlags::Linkdown);
    read.add_next_hop(&route.attributes, None, is_usable);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Preference(value) => preference = *value,
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    let unusable = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
                    let is_usable = !hop.flags.intersects(unusable);
                    read.add_next_hop(&hop.attributes, Some(hop.interface_index), is_usable);
                }
            }
            _ => {}
        }
    }
    read.rank = (metric, order(preference));
    Some(read)
}

/// The reserved value counts as medium (RFC 4191 §2.2).
fn order(preference: RoutePreference) -> u8 {
    match preference {
        RoutePreference::High => 0,
        RoutePreference::Low => 2,
        _ => 1,
    }
}

impl DefaultRoute {
    /// Adds the next hop in these attributes. `ifindex` is the interface if no attribute names it.
    fn add_next_hop(&mut self, attributes: &[RouteAttribute], ifindex: Option<u32>, is_usable: bool) {
        let (mut address, mut ifindex) = (None, ifindex);
        for attribute in attributes {
            match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
                RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
                RouteAttribute::Via(RouteVia::Inet6(_)) => self.via_v6 = true,
                RouteAttribute::Oif(index) => ifindex = Some(*index),
                _ => {}
            }
        }
        let Some(ifindex) = ifindex else { return };
        self.interfaces.push(ifindex);
        if let Some(address) = address.filter(|_| is_usable) {
            self.gateways.push(Gateway { address, ifindex });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteNextHop;

    fn route(change: impl FnOnce(&mut RouteMessage)) -> Option<DefaultRoute> {
        let mut route = RouteMessage::default();
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.kind = RouteType::Unicast;
        change(&mut route);
        default_route(&route)
    }

    /// The gateways of the best of several routes.
    fn best(routes: impl IntoIterator<Item = Option<DefaultRoute>>) -> Vec<Gateway> {
        let mut best = Best::default();
        routes.into_iter().flatten().for_each(|route| best.add(route));
        best.into_gateways()
    }

    fn gateway(address: &str, ifindex: u32) -> Gateway {
        Gateway { address: address.parse().unwrap(), ifindex }
    }

    fn via(address: &str) -> RouteAttribute {
        RouteAttribute::Gateway(match address.parse().unwrap() {
            IpAddr::V4(v4) => RouteAddress::Inet(v4),
            IpAddr::V6(v6) => RouteAddress::Inet6(v6),
        })
    }

    fn hop(address: &str, index: u32, flags: RouteNextHopFlags) -> RouteNextHop {
        let mut hop = RouteNextHop::default();
        hop.interface_index = index;
        hop.attributes = vec![via(address)];
        hop.flags = flags;
        hop
    }

    #[test]
    fn gateways_of_a_default_route_are_read() {
        let single = |flags| {
            route(|route| {
                route.header.flags = flags;
                route.attributes =
                    vec![via("192.0.2.1"), RouteAttribute::Oif(2), RouteAttribute::Priority(100)];
            })
        };
        let usable = single(RouteFlags::empty()).unwrap();
        assert_eq!((usable.rank.0, usable.gateways), (100, vec![gateway("192.0.2.1", 2)]));
        for flags in [RouteFlags::Dead, RouteFlags::Linkdown] {
            let unusable = single(flags).unwrap();
            assert_eq!((unusable.gateways, unusable.interfaces), (vec![], vec![2]), "{flags:?}");
        }
        let none = RouteNextHopFlags::empty();
        let multipath = route(|route| {
            let (dead, down) = (RouteNextHopFlags::Dead, RouteNextHopFlags::Linkdown);
            let hops = vec![
                hop("fe80::9", 3, none),
                hop("fe80::1", 4, none),
                hop("fe80::2", 5, dead),
                hop("fe80::3", 6, down),
            ];
            route.attributes = vec![RouteAttribute::MultiPath(hops)];
        });
        assert_eq!(best([multipath]), [gateway("fe80::1", 4), gateway("fe80::9", 3)]);
        let via_v6 = route(|route| {
            let address = "fe80::1".parse().unwrap();
            route.attributes = vec![RouteAttribute::Via(RouteVia::Inet6(address)), RouteAttribute::Oif(2)];
        });
        assert!(via_v6.is_some_and(|route| route.via_v6 && route.gateways.is_empty()));
    }

    #[test]
    fn best_routes_have_the_lowest_metric_then_the_highest_preference() {
        use RoutePreference::{High, Invalid, Low, Medium};
        let with = |(address, metric, preference): (&str, u32, Option<RoutePreference>)| {
            route(|route| {
                route.attributes =
                    vec![via(address), RouteAttribute::Oif(2), RouteAttribute::Priority(metric)];
                route.attributes.extend(preference.map(RouteAttribute::Preference));
            })
        };
        for (routes, expected) in [
            (vec![("fe80::1", 200, None), ("fe80::2", 100, None)], vec!["fe80::2"]),
            (vec![("fe80::2", 100, None), ("fe80::1", 200, Some(High))], vec!["fe80::2"]),
            (vec![("fe80::1", 100, Some(Low)), ("fe80::2", 100, Some(Medium))], vec!["fe80::2"]),
            (vec![("fe80::2", 100, Some(High)), ("fe80::1", 100, None)], vec!["fe80::2"]),
            (vec![("fe80::2", 100, Some(Medium)), ("fe80::1", 100, None)], vec!["fe80::1", "fe80::2"]),
            (vec![("fe80::1", 100, Some(Invalid)), ("fe80::2", 100, Some(Low))], vec!["fe80::1"]),
        ] {
            let expected: Vec<Gateway> = expected.iter().map(|address| gateway(address, 2)).collect();
            assert_eq!(best(routes.iter().copied().map(with)), expected, "{routes:?}");
        }
    }

    #[test]
    fn other_routes_have_no_gateway() {
        let attributes = || vec![via("192.0.2.1"), RouteAttribute::Oif(2)];
        type Change = fn(&mut RouteMessage);
        for (what, change) in [
            ("a subnet", (|route| route.header.destination_prefix_length = 24) as Change),
            ("another table", |route| route.header.table = 100),
            ("unreachable", |route| route.header.kind = RouteType::Unreachable),
            ("an interface only", |route| drop(route.attributes.remove(0))),
        ] {
            let read = route(|route| {
                route.attributes = attributes();
                change(route);
            });
            assert_eq!(best([read]), [], "{what}");
        }
    }
}
