//! The next hops of the routes that this node announces on a session.

use std::net::{IpAddr, Ipv6Addr};

use fairlead_bgp::NextHops;
use fairlead_net::links::{Link, Links};

/// Returns the next hops on a session between these addresses. `interface` is that of a session between
/// link-local addresses, `node` contains the InternalIP addresses of the Node object.
///
/// For the family of the session, the next hop is the local address of the connection. For the other family,
/// it is the InternalIP, else a permanent address of the interface. A router on the link of the interface
/// accepts only next hops on that link (RFC 4271 §5.1.3), so an InternalIP on another interface comes last
/// there.
///
/// The link-local address accompanies an IPv6 address of the interface if the router is on its link (RFC 2545
/// §3).
pub(super) fn next_hops(
    local: IpAddr,
    interface: Option<u32>,
    remote: IpAddr,
    links: &Links,
    node: &[IpAddr],
) -> NextHops {
    let link = match interface {
        Some(index) => links.by_index.get(&index),
        None => links.holding(local),
    };
    let link_local = |v6: Option<Ipv6Addr>| {
        let link = link.filter(|link| link.reaches(remote) && v6.is_some_and(|v6| link.holds(v6.into())))?;
        link.link_local()
    };
    match local {
        IpAddr::V4(v4) => {
            let internal = node.iter().find_map(|address| match address {
                IpAddr::V6(v6) => Some(*v6),
                IpAddr::V4(_) => None,
            });
            let v6 = of_other_family(internal, link.and_then(Link::ipv6), link, remote);
            NextHops { v4: Some(v4), v6, link_local: link_local(v6), over_link_local: false }
        }
        IpAddr::V6(v6) => {
            let internal = node.iter().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            });
            let v4 = of_other_family(internal, link.and_then(Link::ipv4), link, remote);
            if v6.is_unicast_link_local() {
                let global = link.and_then(Link::ipv6);
                return NextHops { v4, v6: global, link_local: Some(v6), over_link_local: true };
            }
            NextHops { v4, v6: Some(v6), link_local: link_local(Some(v6)), over_link_local: false }
        }
    }
}

/// Returns the InternalIP or a permanent address of the link, in the order of [`next_hops`].
fn of_other_family<A: Copy + Into<IpAddr>>(
    internal: Option<A>,
    permanent: Option<A>,
    link: Option<&Link>,
    remote: IpAddr,
) -> Option<A> {
    let is_elsewhere =
        |address: A| link.is_some_and(|link| link.reaches(remote) && !link.holds(address.into()));
    match internal {
        Some(address) if is_elsewhere(address) => permanent.or(internal),
        internal => internal.or(permanent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interface with these addresses; a `!` marks a temporary or deprecated one.
    fn links(addresses: &[&str]) -> Links {
        let parse = |text: &&str| text.trim_start_matches('!').parse::<ipnet::IpNet>().unwrap();
        let link = Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            up: true,
            broadcast: true,
            no_arp: false,
            loopback: false,
            controller: None,
            in_vrf: false,
            addresses: addresses.iter().map(parse).collect(),
            temporary: addresses.iter().filter(|a| a.starts_with('!')).map(|a| parse(a).addr()).collect(),
        };
        Links { by_index: [(2, link)].into() }
    }

    /// A session of an interface with these addresses, and the next hops IPv4, IPv6 and link-local.
    struct Case<'a> {
        session: (&'a str, &'a str),
        interface: &'a [&'a str],
        node: &'a [&'a str],
        expected: [Option<&'a str>; 3],
    }

    #[test]
    fn other_family_uses_internal_ip_then_permanent_address() {
        let near = ("192.0.2.1", "192.0.2.254");
        let far = ("192.0.2.1", "198.51.100.1");
        let near_v6 = ("2001:db8::1", "2001:db8::fe");
        let both: &[&str] = &["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"];
        let several: &[&str] = &["192.0.2.1/24", "!2001:db8::aaaa/64", "2001:db8::1/64", "2001:db8::2/64"];
        let v4 = Some("192.0.2.1");
        let table = [
            // The InternalIP is on the interface.
            Case {
                session: near,
                interface: several,
                node: &["2001:db8::2"],
                expected: [v4, Some("2001:db8::2"), None],
            },
            // Without an InternalIP: a permanent address, never a temporary or deprecated one.
            Case {
                session: near,
                interface: several,
                node: &["192.0.2.1"],
                expected: [v4, Some("2001:db8::1"), None],
            },
            Case {
                session: near,
                interface: &["192.0.2.1/24", "!2001:db8::aaaa/64"],
                node: &[],
                expected: [v4, None, None],
            },
            // The InternalIP is on another interface: it is used for routers that are not on the link, and as
            // the last choice.
            Case {
                session: near,
                interface: both,
                node: &["2001:db8:9::1"],
                expected: [v4, Some("2001:db8::1"), Some("fe80::1")],
            },
            Case {
                session: far,
                interface: both,
                node: &["2001:db8:9::1"],
                expected: [v4, Some("2001:db8:9::1"), None],
            },
            Case {
                session: near,
                interface: &["192.0.2.1/24"],
                node: &["2001:db8:9::1"],
                expected: [v4, Some("2001:db8:9::1"), None],
            },
            Case {
                session: near,
                interface: &["192.0.2.1/24", "fe80::1/64"],
                node: &[],
                expected: [v4, None, None],
            },
            // Sessions over IPv6.
            Case {
                session: near_v6,
                interface: both,
                node: &["203.0.113.1"],
                expected: [v4, Some("2001:db8::1"), Some("fe80::1")],
            },
            // The router is behind another one.
            Case {
                session: ("2001:db8::1", "2001:db8:7::1"),
                interface: both,
                node: &["192.0.2.1"],
                expected: [v4, Some("2001:db8::1"), None],
            },
            Case {
                session: near_v6,
                interface: &["192.0.2.9/24", "192.0.2.1/24", "2001:db8::1/64"],
                node: &["192.0.2.1"],
                expected: [v4, Some("2001:db8::1"), None],
            },
            Case {
                session: near_v6,
                interface: &["2001:db8::1/64"],
                node: &["203.0.113.1"],
                expected: [Some("203.0.113.1"), Some("2001:db8::1"), None],
            },
            Case {
                session: ("fe80::1", "fe80::fe"),
                interface: both,
                node: &[],
                expected: [v4, Some("2001:db8::1"), Some("fe80::1")],
            },
        ];
        for Case { session: (local, remote), interface, node, expected: [v4, v6, link_local] } in table {
            let node: Vec<IpAddr> = node.iter().map(|a| a.parse().unwrap()).collect();
            let over_link_local = local.starts_with("fe80");
            let expected = NextHops {
                v4: v4.map(|a| a.parse().unwrap()),
                v6: v6.map(|a| a.parse().unwrap()),
                link_local: link_local.map(|a| a.parse().unwrap()),
                over_link_local,
            };
            let (local, remote): (IpAddr, IpAddr) = (local.parse().unwrap(), remote.parse().unwrap());
            let index = over_link_local.then_some(2);
            let actual = next_hops(local, index, remote, &links(interface), &node);
            assert_eq!(actual, expected, "{local} {interface:?} {node:?}");
        }
    }
}
