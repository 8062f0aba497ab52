//! Where the session of a peer connects to, and when it moves. Contains no I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use fairlead_crds::model::config::{Peer, PeerAddress};
use fairlead_net::default_routes::{DefaultGateways, Gateway};
use fairlead_net::links::{Link, Links};

/// Time for which a new gateway must remain before an established session moves to it. A DHCP client that
/// renews its lease replaces the default route.
const SETTLE_TIME: Duration = Duration::from_secs(1);
/// Shortest time between two moves of an established session. It doubles with each move that follows soon, so
/// that a default route that comes and goes does not interrupt the session for ever.
const MOVE_INTERVAL: Duration = Duration::from_secs(30);
const LONGEST_MOVE_INTERVAL: Duration = Duration::from_secs(600);
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

    /// Returns the address that the router of a passive peer connects to, with the interface as its scope if
    /// it is link-local; the unspecified address if it may be any.
    pub(super) fn listen_address(&self, port: u16) -> SocketAddr {
        match (self.source, self.interface) {
            (Some(IpAddr::V6(v6)), Some(interface)) if v6.is_unicast_link_local() => {
                SocketAddrV6::new(v6, port, 0, interface).into()
            }
            (Some(source), _) => SocketAddr::new(source, port),
            (None, _) if self.remote.is_ipv4() => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            (None, _) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
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

/// Returns where to connect to. `current` is the endpoint of the connection: of several gateways that are
/// equally good, that of the connection remains. `node` contains the InternalIP addresses of the Node object.
///
/// # Errors
/// Returns why that is not known, as a text for the operator.
pub(super) fn endpoint(
    peer: &Peer,
    links: &Links,
    gateways: &DefaultGateways,
    found: Option<&FoundRouter>,
    current: Option<Endpoint>,
    node: &[IpAddr],
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
        PeerAddress::GatewayV4 if gateways.v4.is_empty() && gateways.v4_via_v6 => {
            return Err(
                "the gateway of the IPv4 default route is an IPv6 address (RTA_VIA): set peerAddress to \
                        default-gateway-ipv6 or to an address, or set interface in its place"
                    .to_owned(),
            );
        }
        PeerAddress::GatewayV4 => gateway(&gateways.v4, current, "IPv4")?,
        PeerAddress::GatewayV6 => gateway(&gateways.v6, current, "IPv6")?,
    };
    endpoint.source = match &peer.source_interface {
        Some(name) => Some(source(links, name, endpoint.remote, node)?),
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

fn gateway(gateways: &[Gateway], current: Option<Endpoint>, family: &str) -> Result<Endpoint, String> {
    let endpoint = |Gateway { address, ifindex }: &Gateway| {
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        Endpoint { remote: *address, interface: link_local.then_some(*ifindex), source: None }
    };
    let is_current = |endpoint: &Endpoint| {
        current.is_some_and(|now| (now.remote, now.interface) == (endpoint.remote, endpoint.interface))
    };
    let remains = gateways.iter().map(endpoint).find(is_current);
    remains.or_else(|| gateways.first().map(endpoint)).ok_or_else(|| {
        format!("the node has no default route with a usable gateway for {family} in its main table")
    })
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

/// Returns the InternalIP of the family that the interface has, else its first address.
fn source(links: &Links, interface: &str, remote: IpAddr, node: &[IpAddr]) -> Result<IpAddr, String> {
    let Some(link) = links.named(interface) else {
        return Err(format!("the node has no interface {interface} (sourceInterface)"));
    };
    let mut internal = node.iter().copied().filter(|address| address.is_ipv4() == remote.is_ipv4());
    let internal = internal.find(|address| link.holds(*address));
    let (address, family) = match remote {
        IpAddr::V4(_) => (internal.or_else(|| link.ipv4().map(IpAddr::from)), "IPv4"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => (link.link_local().map(IpAddr::from), "link-local"),
        IpAddr::V6(_) => (internal.or_else(|| link.ipv6().map(IpAddr::from)), "IPv6"),
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
    /// When the session moved last, and the time until it may move again.
    moved: Option<(Instant, Duration)>,
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
    /// only if it follows a route of this node: any host on the link can send advertisements. `turn` is then
    /// the turn of this node: a router without sessions of all nodes for a moment would lose all next hops.
    pub(super) fn update(
        &mut self,
        now: Instant,
        wanted: Option<Endpoint>,
        has_connection: bool,
        turn: Option<Duration>,
    ) -> EndpointAction {
        let changed = wanted.filter(|wanted| self.dialed != Some(*wanted));
        if changed.is_none() || has_connection && turn.is_none() {
            self.move_at = None;
            return EndpointAction::Nothing;
        }
        if has_connection {
            let earliest = self.moved.map_or(now, |(at, interval)| at + interval);
            let turn = now + SETTLE_TIME + turn.unwrap_or_default();
            let at = *self.move_at.get_or_insert(turn.max(earliest));
            if at > now {
                return EndpointAction::Nothing;
            }
            self.move_at = None;
            let soon = self.moved.filter(|(at, interval)| now < *at + *interval * 2);
            let interval = soon.map_or(MOVE_INTERVAL, |(_, interval)| interval * 2);
            self.moved = Some((now, interval.min(LONGEST_MOVE_INTERVAL)));
            return EndpointAction::Move;
        }
        if self.may_connect(now) { EndpointAction::Connect } else { EndpointAction::Nothing }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use fairlead_test_support::links::{self as support, link};

    use super::*;

    /// Interfaces of a node.
    pub(in super::super) fn links() -> Links {
        support::links([
            link(1, "lo", &["127.0.0.1/8", "192.0.2.99/32", "2001:db8::99/128"]),
            link(2, "eth0", &["192.0.2.11/24", "2001:db8::11/64", "fe80::11/64"]),
            link(3, "eth1", &["fe80::11/64"]),
            Link { up: false, ..link(4, "down", &["fe80::11/64"]) },
            link(5, "v4only", &["198.51.100.1/24"]),
            link(6, "eth2", &["198.51.100.11/24", "198.51.100.12/24"]),
        ])
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
            v4: vec![Gateway { address: ip("192.0.2.1"), ifindex: 2 }],
            v6: vec![Gateway { address: ip("fe80::9"), ifindex: 3 }],
            v4_via_v6: false,
        };
        let gateways = &gateways;
        let none = &DefaultGateways::default();
        let via_v6 = &DefaultGateways { v4_via_v6: true, ..DefaultGateways::default() };
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
            (PeerAddress::GatewayV4, none, None, Err("no default route with a usable gateway for IPv4")),
            (PeerAddress::GatewayV4, via_v6, None, Err("IPv6 address (RTA_VIA)")),
            (PeerAddress::GatewayV6, gateways, None, Ok(("fe80::9", Some(3)))),
            (PeerAddress::GatewayV6, none, None, Err("no default route with a usable gateway for IPv6")),
        ] {
            let seen = endpoint(&at(peer.clone()), &links(), gateways, found.as_ref(), None, &[]);
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
            // The InternalIP is not the lowest address.
            ("192.0.2.254", "eth2", Ok("198.51.100.12")),
            ("192.0.2.254", "eth1", Err("interface eth1 has no IPv4 address")),
            ("2001:db8::1", "v4only", Err("interface v4only has no IPv6 address")),
            ("192.0.2.254", "eth9", Err("no interface eth9 (sourceInterface)")),
        ] {
            let peer = Peer { source_interface: Some(source.to_owned()), ..at(PeerAddress::Ip(ip(peer))) };
            let node = [ip("2001:db8:9::1"), ip("198.51.100.12")];
            let seen = endpoint(&peer, &links(), &DefaultGateways::default(), None, None, &node);
            match expected {
                Ok(expected) => assert_eq!(seen.unwrap().source, Some(ip(expected)), "{source}"),
                Err(words) => assert!(seen.as_ref().is_err_and(|e| e.contains(words)), "{source}: {seen:?}"),
            }
        }
    }

    #[test]
    fn missing_vrf_is_reported() {
        let vrf = |name: &str| Peer { vrf: Some(name.to_owned()), ..at(PeerAddress::Ip(ip("192.0.2.1"))) };
        let seen = endpoint(&vrf("red"), &links(), &DefaultGateways::default(), None, None, &[]);
        assert!(seen.as_ref().is_err_and(|e| e.contains("no VRF device red")), "{seen:?}");
        assert!(endpoint(&vrf("eth1"), &links(), &DefaultGateways::default(), None, None, &[]).is_ok());
        assert!(
            endpoint(&vrf("red"), &Links::default(), &DefaultGateways::default(), None, None, &[]).is_ok()
        );
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
            assert_eq!(
                tracker.update(at(millisecond), wanted, true, Some(Duration::ZERO)),
                expected,
                "{millisecond}"
            );
        }
        tracker.set_dialed(to("192.0.2.2"));
        assert_eq!(
            tracker.update(at(3_000), to("192.0.2.2"), true, Some(Duration::ZERO)),
            EndpointAction::Nothing
        );
    }

    #[test]
    fn session_stays_with_a_gateway_that_is_as_good_as_others() {
        let gateways = |addresses: &[&str]| DefaultGateways {
            v4: addresses.iter().map(|address| Gateway { address: ip(address), ifindex: 2 }).collect(),
            ..DefaultGateways::default()
        };
        for (best, current, expected) in [
            (vec!["192.0.2.1", "192.0.2.2"], None, "192.0.2.1"),
            (vec!["192.0.2.1", "192.0.2.2"], Some("192.0.2.2"), "192.0.2.2"),
            (vec!["192.0.2.1"], Some("192.0.2.2"), "192.0.2.1"),
        ] {
            let source = Some(ip("192.0.2.11"));
            let current = current.map(|remote| Endpoint { remote: ip(remote), interface: None, source });
            let seen = endpoint(&at(PeerAddress::GatewayV4), &links(), &gateways(&best), None, current, &[]);
            assert_eq!(seen.unwrap().remote, ip(expected), "{best:?} {current:?}");
        }
    }

    /// Returns the seconds at which a session moves while the wanted gateway is 192.0.2.1 and 192.0.2.2 in
    /// turn for `period` seconds each.
    fn moves(period: u64, turn: Duration) -> Vec<u64> {
        let start = Instant::now();
        let to = |n: u64| Endpoint { remote: [192, 0, 2, n as u8].into(), interface: None, source: None };
        let mut tracker = EndpointTracker::default();
        tracker.set_dialed(Some(to(1)));
        let mut moved = Vec::new();
        for second in 0..3_600 {
            let wanted = to(1 + second / period % 2);
            let now = start + Duration::from_secs(second);
            if tracker.update(now, Some(wanted), true, Some(turn)) == EndpointAction::Move {
                tracker.set_dialed(Some(wanted));
                moved.push(second);
            }
        }
        moved
    }

    #[test]
    fn default_route_that_comes_and_goes_moves_the_session_ever_more_rarely() {
        let flapping = moves(5, Duration::ZERO);
        assert!((2..=12).contains(&flapping.len()), "{flapping:?}");
        assert!(flapping.windows(2).all(|pair| pair[1] - pair[0] >= 30), "{flapping:?}");
        // Moves that are far apart are not delayed.
        assert_eq!(moves(1_300, Duration::ZERO), [1_301, 2_601]);
    }

    #[test]
    fn session_moves_at_the_turn_of_its_node() {
        assert_eq!(moves(1_300, Duration::from_secs(4)), [1_305, 2_605]);
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
            assert_eq!(tracker.update(now, to(n), true, None), EndpointAction::Nothing);
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
            attempts += u32::from(tracker.update(now, wanted, false, None) == EndpointAction::Connect);
        }
        assert_eq!(attempts, 12);
    }
}
