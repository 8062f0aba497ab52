//! Where the session of a peer connects to, and when it moves. Contains no I/O.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use fairlead_crds::model::config::{Peer, PeerAddress};
use fairlead_net::default_routes::{DefaultGateways, Gateway};
use fairlead_net::links::{Link, Links};

/// Time for which a new gateway must remain before an established session moves to it. A DHCP client that
/// renews its lease replaces the default route.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// Shortest time between two attempts that do not wait for the back-off of the session. A host on the link
/// that advertises new addresses all the time causes no more.
const EARLY_INTERVAL: Duration = Duration::from_secs(5);

/// Addresses of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub remote: IpAddr,
    /// Index of the interface of a link-local remote address.
    pub interface: Option<u32>,
    /// The local address; `None` lets the kernel select one.
    pub source: Option<IpAddr>,
}

impl Endpoint {
    /// Returns the address of the router, with the interface as its scope if it is link-local.
    pub(super) fn socket_address(&self, port: u16) -> SocketAddr {
        match (self.remote, self.interface) {
            (IpAddr::V6(v6), Some(interface)) => SocketAddrV6::new(v6, port, 0, interface).into(),
            (remote, _) => SocketAddr::new(remote, port),
        }
    }
}

/// The routers that advertise themselves on the link of an unnumbered peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FoundRouter {
    /// Link-local address of the router.
    pub address: Option<Ipv6Addr>,
    /// True if several routers advertise on the link.
    pub others: bool,
    /// Why the speaker cannot listen on the link.
    pub problem: Option<String>,
}

/// Returns where to connect to.
///
/// # Errors
/// Returns why that is not known, as a text for the operator.
pub(super) fn endpoint(
    peer: &Peer,
    links: &Links,
    gateways: DefaultGateways,
    found: Option<&FoundRouter>,
) -> Result<Endpoint, String> {
    if let Some(vrf) =
        peer.vrf.as_ref().filter(|vrf| !links.by_index.is_empty() && links.named(vrf).is_none())
    {
        return Err(format!(
            "the node has no VRF device {vrf}: create it, which needs a kernel with CONFIG_NET_VRF"
        ));
    }
    let mut endpoint = match &peer.address {
        PeerAddress::Ip(remote) => Endpoint { remote: *remote, interface: None, source: None },
        PeerAddress::LinkLocal { address, interface } => on_link(links, interface, *address)?,
        PeerAddress::Interface(interface) => {
            let found = found.cloned().unwrap_or_default();
            match found.address {
                Some(router) => on_link(links, interface, router)?,
                None => {
                    usable_link(links, interface)?;
                    return Err(found.problem.unwrap_or_else(|| no_advertisement(interface)));
                }
            }
        }
        PeerAddress::GatewayV4 => gateway(gateways.v4, "IPv4")?,
        PeerAddress::GatewayV6 => gateway(gateways.v6, "IPv6")?,
    };
    endpoint.source = match &peer.source_interface {
        Some(name) => Some(source(links, name, endpoint.remote)?),
        None => peer.source_address,
    };
    Ok(endpoint)
}

fn no_advertisement(interface: &str) -> String {
    format!(
        "no router advertisement was received on interface {interface}: check that the router advertises on the \
         link, as FRR does for `neighbor INTERFACE interface`"
    )
}

fn gateway(gateway: Option<Gateway>, family: &str) -> Result<Endpoint, String> {
    let Some(Gateway { address, ifindex }) = gateway else {
        return Err(format!("the node has no default route with a gateway for {family} in its main table"));
    };
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    Ok(Endpoint { remote: address, interface: link_local.then_some(ifindex), source: None })
}

fn on_link(links: &Links, interface: &str, router: Ipv6Addr) -> Result<Endpoint, String> {
    let link = usable_link(links, interface)?;
    Ok(Endpoint { remote: router.into(), interface: Some(link.index), source: None })
}

/// Returns the interface if it can carry a session between link-local addresses.
pub(super) fn usable_link<'a>(links: &'a Links, interface: &str) -> Result<&'a Link, String> {
    let Some(link) = links.named(interface) else {
        return Err(format!("the node has no interface {interface}"));
    };
    if !link.up {
        return Err(format!("interface {interface} is down or has no carrier"));
    }
    if link.link_local().is_none() {
        return Err(format!("interface {interface} has no IPv6 link-local address: enable IPv6 on it"));
    }
    Ok(link)
}

fn source(links: &Links, interface: &str, remote: IpAddr) -> Result<IpAddr, String> {
    let Some(link) = links.named(interface) else {
        return Err(format!("the node has no interface {interface} (sourceInterface)"));
    };
    let (address, family) = match remote {
        IpAddr::V4(_) => (link.ipv4().map(IpAddr::from), "IPv4"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => (link.link_local().map(IpAddr::from), "link-local"),
        IpAddr::V6(_) => (link.ipv6().map(IpAddr::from), "IPv6"),
    };
    address.ok_or_else(|| format!("interface {interface} has no {family} address (sourceInterface)"))
}

/// What to do when the endpoint of a peer may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndpointAction {
    Nothing,
    /// Connect at once.
    Connect,
    /// Replace the session.
    Move,
}

/// The endpoint of the last connection attempt, and when to leave it.
#[derive(Debug, Default)]
pub(super) struct EndpointTracker {
    dialed: Option<Endpoint>,
    move_at: Option<Instant>,
    early_at: Option<Instant>,
}

impl EndpointTracker {
    /// Returns the endpoint of the last attempt.
    pub(super) const fn dialed(&self) -> Option<Endpoint> {
        self.dialed
    }

    /// Sets the endpoint of an attempt.
    pub(super) fn set_dialed(&mut self, endpoint: Option<Endpoint>) {
        self.dialed = endpoint;
        self.move_at = None;
    }

    /// Returns when to call [`EndpointTracker::update`] although nothing changed.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.move_at
    }

    /// Returns whether the session may connect at once although it backs off. Each true counts.
    pub(super) fn may_connect(&mut self, now: Instant) -> bool {
        let may = self.early_at.is_none_or(|at| at + EARLY_INTERVAL <= now);
        if may {
            self.early_at = Some(now);
        }
        may
    }

    /// Handles the endpoint of the peer at this time; `None` if it is not known. An established session moves
    /// only if it follows a route of this node (`follows`): any host on the link can send advertisements.
    pub(super) fn update(
        &mut self,
        now: Instant,
        wanted: Option<Endpoint>,
        has_connection: bool,
        follows: bool,
    ) -> EndpointAction {
        let changed = wanted.filter(|wanted| self.dialed != Some(*wanted));
        if changed.is_none() || has_connection && !follows {
            self.move_at = None;
            return EndpointAction::Nothing;
        }
        if has_connection {
            let at = *self.move_at.get_or_insert(now + SETTLE_TIME);
            if at > now {
                return EndpointAction::Nothing;
            }
            self.move_at = None;
            return EndpointAction::Move;
        }
        if self.may_connect(now) { EndpointAction::Connect } else { EndpointAction::Nothing }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn link(index: u32, name: &str, up: bool, addresses: &[&str]) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            up,
            broadcast: true,
            no_arp: false,
            loopback: name == "lo",
            controller: None,
            in_vrf: false,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            temporary: Default::default(),
            deprecated: Default::default(),
        }
    }

    /// Interfaces of a node.
    pub(in super::super) fn links() -> Links {
        let links = [
            link(1, "lo", true, &["127.0.0.1/8", "192.0.2.99/32", "2001:db8::99/128"]),
            link(2, "eth0", true, &["192.0.2.11/24", "2001:db8::11/64", "fe80::11/64"]),
            link(3, "eth1", true, &["fe80::11/64"]),
            link(4, "down", false, &["fe80::11/64"]),
            link(5, "v4only", true, &["198.51.100.1/24"]),
        ];
        Links { by_index: links.into_iter().map(|link| (link.index, link)).collect() }
    }

    pub(in super::super) fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    pub(in super::super) fn at(address: PeerAddress) -> Peer {
        Peer { address, ..fairlead_test_support::peer("tor", "192.0.2.254") }
    }

    fn link_local(interface: &str) -> PeerAddress {
        PeerAddress::LinkLocal { address: "fe80::1".parse().unwrap(), interface: interface.to_owned() }
    }

    fn unnumbered(interface: &str) -> PeerAddress {
        PeerAddress::Interface(interface.to_owned())
    }

    #[test]
    fn endpoint_follows_links_routes_and_advertisements() {
        let gateways = DefaultGateways {
            v4: Some(Gateway { address: ip("192.0.2.1"), ifindex: 2 }),
            v6: Some(Gateway { address: ip("fe80::9"), ifindex: 3 }),
        };
        let none = DefaultGateways::default();
        let found = |address: &str| FoundRouter { address: address.parse().ok(), ..FoundRouter::default() };
        let problem = FoundRouter { problem: Some("no permission".to_owned()), ..FoundRouter::default() };
        for (peer, gateways, found, expected) in [
            (PeerAddress::Ip(ip("192.0.2.254")), none, None, Ok(("192.0.2.254", None))),
            (link_local("eth1"), none, None, Ok(("fe80::1", Some(3)))),
            (link_local("eth9"), none, None, Err("no interface eth9")),
            (link_local("down"), none, None, Err("interface down is down")),
            (link_local("v4only"), none, None, Err("no IPv6 link-local address")),
            (unnumbered("eth1"), none, Some(found("fe80::5")), Ok(("fe80::5", Some(3)))),
            (unnumbered("eth1"), none, Some(found("")), Err("no router advertisement")),
            (unnumbered("eth1"), none, Some(problem), Err("no permission")),
            (unnumbered("down"), none, Some(found("")), Err("interface down is down")),
            (PeerAddress::GatewayV4, gateways, None, Ok(("192.0.2.1", None))),
            (PeerAddress::GatewayV4, none, None, Err("no default route with a gateway for IPv4")),
            (PeerAddress::GatewayV6, gateways, None, Ok(("fe80::9", Some(3)))),
            (PeerAddress::GatewayV6, none, None, Err("no default route with a gateway for IPv6")),
        ] {
            let seen = endpoint(&at(peer.clone()), &links(), gateways, found.as_ref());
            match expected {
                Ok((remote, interface)) => {
                    let expected = Endpoint { remote: ip(remote), interface, source: None };
                    assert_eq!(seen, Ok(expected), "{peer}");
                }
                Err(words) => assert!(seen.as_ref().is_err_and(|e| e.contains(words)), "{peer}: {seen:?}"),
            }
        }
    }

    #[test]
    fn source_interface_gives_address_of_the_family() {
        for (peer, source, expected) in [
            ("192.0.2.254", "lo", Ok("192.0.2.99")),
            ("2001:db8::1", "lo", Ok("2001:db8::99")),
            ("192.0.2.254", "eth1", Err("interface eth1 has no IPv4 address")),
            ("2001:db8::1", "v4only", Err("interface v4only has no IPv6 address")),
            ("192.0.2.254", "eth9", Err("no interface eth9 (sourceInterface)")),
        ] {
            let peer = Peer { source_interface: Some(source.to_owned()), ..at(PeerAddress::Ip(ip(peer))) };
            let seen = endpoint(&peer, &links(), DefaultGateways::default(), None);
            match expected {
                Ok(expected) => assert_eq!(seen.unwrap().source, Some(ip(expected)), "{source}"),
                Err(words) => assert!(seen.as_ref().is_err_and(|e| e.contains(words)), "{source}: {seen:?}"),
            }
        }
    }

    #[test]
    fn missing_vrf_is_reported() {
        let vrf = |name: &str| Peer { vrf: Some(name.to_owned()), ..at(PeerAddress::Ip(ip("192.0.2.1"))) };
        let seen = endpoint(&vrf("red"), &links(), DefaultGateways::default(), None);
        assert!(seen.as_ref().is_err_and(|e| e.contains("no VRF device red")), "{seen:?}");
        assert!(endpoint(&vrf("eth1"), &links(), DefaultGateways::default(), None).is_ok());
        assert!(endpoint(&vrf("red"), &Links::default(), DefaultGateways::default(), None).is_ok());
    }

    #[test]
    fn session_moves_only_to_a_gateway_that_remains() {
        let start = Instant::now();
        let at = |millisecond| start + Duration::from_millis(millisecond);
        let to = |address: &str| Some(Endpoint { remote: ip(address), interface: None, source: None });
        let mut tracker = EndpointTracker::default();
        tracker.set_dialed(to("192.0.2.1"));
        for (millisecond, wanted, expected) in [
            (0, to("192.0.2.1"), EndpointAction::Nothing),
            (100, to("192.0.2.2"), EndpointAction::Nothing),
            // The route is replaced by an equal one.
            (200, None, EndpointAction::Nothing),
            (300, to("192.0.2.1"), EndpointAction::Nothing),
            (1_100, to("192.0.2.2"), EndpointAction::Nothing),
            (2_050, to("192.0.2.2"), EndpointAction::Nothing),
            (2_100, to("192.0.2.2"), EndpointAction::Move),
        ] {
            assert_eq!(tracker.update(at(millisecond), wanted, true, true), expected, "{millisecond}");
        }
        tracker.set_dialed(to("192.0.2.2"));
        assert_eq!(tracker.update(at(3_000), to("192.0.2.2"), true, true), EndpointAction::Nothing);
    }

    #[test]
    fn established_session_stays_with_its_router_whatever_advertises() {
        let now = Instant::now();
        let to = |n: u16| {
            let remote = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n).into();
            Some(Endpoint { remote, interface: Some(3), source: None })
        };
        let mut tracker = EndpointTracker::default();
        tracker.set_dialed(to(1));
        for n in 2..100 {
            assert_eq!(tracker.update(now, to(n), true, false), EndpointAction::Nothing);
        }
    }

    #[test]
    fn changing_addresses_cause_early_attempts_at_a_bounded_rate() {
        let start = Instant::now();
        let mut tracker = EndpointTracker::default();
        let mut attempts = 0;
        for second in 0..60_u16 {
            let remote = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, second).into();
            let wanted = Some(Endpoint { remote, interface: Some(3), source: None });
            let now = start + Duration::from_secs(second.into());
            attempts += u32::from(tracker.update(now, wanted, false, false) == EndpointAction::Connect);
        }
        assert_eq!(attempts, 12);
    }
}
