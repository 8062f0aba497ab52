//! [`Monitor`]: the gateways of this node's default routes, kept current through netlink.

use std::io;
use std::net::IpAddr;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt};
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType};
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

/// The gateway of the default route of each family. Of several default routes, the one with the lowest metric
/// counts; of several gateways of one route, the one with the lowest address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DefaultGateways {
    pub v4: Option<Gateway>,
    pub v6: Option<Gateway>,
}

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Watches the default routes of the network namespace in which it was opened.
pub struct Monitor {
    handle: Handle,
    messages: Messages,
    connection: JoinHandle<()>,
    gateways: DefaultGateways,
}

impl Monitor {
    /// Subscribes to changes and then lists the routes, so that it misses no change. Needs a Tokio runtime.
    pub async fn open() -> io::Result<Self> {
        let groups = [MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
        let (connection, handle, messages) = rtnetlink::new_multicast_connection(&groups)?;
        let connection = tokio::spawn(connection);
        let gateways = list(&handle).await?;
        Ok(Self { handle, messages, connection, gateways })
    }

    /// Returns the current gateways.
    #[must_use]
    pub fn gateways(&self) -> DefaultGateways {
        self.gateways
    }

    /// Waits until [`Self::gateways`] changes. An error is permanent: open another monitor. Cancel safe.
    pub async fn changed(&mut self) -> io::Result<()> {
        loop {
            let Some((message, _)) = self.messages.next().await else {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "netlink connection closed"));
            };
            let mut affected = affects_default_route(&message);
            // A burst of route changes, as of a routing daemon, is handled at once.
            for _ in 1..MAX_MESSAGES_PER_CHANGE {
                let Some(Some((message, _))) = self.messages.next().now_or_never() else { break };
                affected |= affects_default_route(&message);
            }
            if affected {
                let gateways = list(&self.handle).await?;
                if std::mem::replace(&mut self.gateways, gateways) != gateways {
                    return Ok(());
                }
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// A replaced route causes no message about its deletion, so that the routes are listed again after every
/// change of a default route, and after lost messages.
fn affects_default_route(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => route.header.destination_prefix_length == 0,
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

async fn list(handle: &Handle) -> io::Result<DefaultGateways> {
    let mut gateways = [None, None];
    for (family, gateway) in [AddressFamily::Inet, AddressFamily::Inet6].into_iter().zip(&mut gateways) {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let mut routes = handle.route().get(request).execute();
        let mut best = None;
        while let Some(route) = routes.try_next().await.map_err(io::Error::other)? {
            best = [best, default_gateway(&route)].into_iter().flatten().min();
        }
        *gateway = best.map(|(_, gateway)| gateway);
    }
    let [v4, v6] = gateways;
    Ok(DefaultGateways { v4, v6 })
}

/// Returns the metric and the gateway of a default route in the main table; `None` for any other route.
fn default_gateway(route: &RouteMessage) -> Option<(u32, Gateway)> {
    let header = &route.header;
    if header.destination_prefix_length != 0
        || header.kind != RouteType::Unicast
        || header.table != RouteHeader::RT_TABLE_MAIN
    {
        return None;
    }
    let mut metric = 0;
    let mut gateways: Vec<Gateway> = next_hop(&route.attributes, None).into_iter().collect();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::MultiPath(hops) => gateways
                .extend(hops.iter().filter_map(|hop| next_hop(&hop.attributes, Some(hop.interface_index)))),
            _ => {}
        }
    }
    gateways.into_iter().min().map(|gateway| (metric, gateway))
}

/// Returns the gateway in these attributes. `ifindex` is the interface if no attribute names it.
fn next_hop(attributes: &[RouteAttribute], ifindex: Option<u32>) -> Option<Gateway> {
    let address = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let oif = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    Some(Gateway { address: address?, ifindex: oif.or(ifindex)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::route::RouteNextHop;

    fn route(change: impl FnOnce(&mut RouteMessage)) -> Option<(u32, Gateway)> {
        let mut route = RouteMessage::default();
        route.header.table = RouteHeader::RT_TABLE_MAIN;
        route.header.kind = RouteType::Unicast;
        change(&mut route);
        default_gateway(&route)
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

    #[test]
    fn gateway_of_a_default_route_is_read() {
        let single = route(|route| {
            route.attributes = vec![via("192.0.2.1"), RouteAttribute::Oif(2), RouteAttribute::Priority(100)];
        });
        assert_eq!(single, Some((100, gateway("192.0.2.1", 2))));
        let hop = |address: &str, index: u32| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.attributes = vec![via(address)];
            hop
        };
        let multipath = route(|route| {
            route.attributes = vec![RouteAttribute::MultiPath(vec![hop("fe80::9", 3), hop("fe80::1", 4)])];
        });
        assert_eq!(multipath, Some((0, gateway("fe80::1", 4))));
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
            assert_eq!(read, None, "{what}");
        }
    }
}
