//! The next hops of the routes that this node announces on a session.

use std::net::{IpAddr, Ipv6Addr};

use fairlead_bgp::NextHops;
use fairlead_net::links::{Link, Links};

/// Returns the next hops on a session between these addresses. `interface` is that of a session between
/// link-local addresses, `node` contains the InternalIP addresses of the Node object, `in_use` the next hops
/// before a change.
///
/// For the family of the session, the next hop is the local address of the connection; between link-local
/// addresses, the IPv6 next hop is the InternalIP if the interface has it, else a permanent address of the
/// interface, one of host length only if there is no other. For the other family, it is the InternalIP, else
/// a permanent address of the interface. A router on the link of the interface accepts only next hops on that
/// link (RFC 4271 §5.1.3), so an InternalIP on another interface comes last there. A next hop remains in use
/// while the interface has its address, also when the address becomes deprecated (RFC 4862 §5.5.4).
/// Otherwise, a deprecated address is chosen only if there is no other one, and a temporary one only if it is
/// the InternalIP and there is no other one.
///
/// The link-local address accompanies an IPv6 address of the interface if the router is on its link (RFC 2545
/// §3).
pub(super) fn next_hops(
    local: IpAddr,
    interface: Option<u32>,
    remote: IpAddr,
    links: &Links,
    node: &[IpAddr],
    in_use: NextHops,
) -> NextHops {
    let link = match interface {
        Some(index) => links.by_index.get(&index),
        None => links.holding(local),
    };
    let link_local = |v6: Option<Ipv6Addr>| {
        let link = link.filter(|link| link.reaches(remote) && v6.is_some_and(|v6| link.holds(v6.into())))?;
        link.link_local()
    };
    let choice = Choice { links, link, remote };
    let v4 = |internal| choice.choose(internal, in_use.v4, link.and_then(Link::ipv4));
    let v6 = |internal| choice.choose(internal, in_use.v6, link.and_then(Link::ipv6));
    match local {
        IpAddr::V4(local) => {
            let internal = node.iter().find_map(|address| match address {
                IpAddr::V6(v6) => Some(*v6),
                IpAddr::V4(_) => None,
            });
            let v6 = v6(internal);
            NextHops { v4: Some(local), v6, link_local: link_local(v6), over_link_local: false }
        }
        IpAddr::V6(local) => {
            let internal = node.iter().find_map(|address| match address {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            });
            let v4 = v4(internal);
            if local.is_unicast_link_local() {
                let on_link = |address: &Ipv6Addr| link.is_some_and(|link| link.holds((*address).into()));
                let mut internal = node.iter().filter_map(|address| match address {
                    IpAddr::V6(v6) => Some(*v6),
                    IpAddr::V4(_) => None,
                });
                let v6 = v6(internal.find(on_link));
                return NextHops { v4, v6, link_local: Some(local), over_link_local: true };
            }
            NextHops { v4, v6: Some(local), link_local: link_local(Some(local)), over_link_local: false }
        }
    }
}

/// What the choice of a next hop of the other family depends on, besides the addresses of that family.
#[derive(Clone, Copy)]
struct Choice<'a> {
    links: &'a Links,
    /// The interface of the session.
    link: Option<&'a Link>,
    /// The router.
    remote: IpAddr,
}

impl Choice<'_> {
    /// Returns the next hop in the order of [`next_hops`]: of the InternalIP, the next hop `in_use` and an
    /// address of the interface (`own`).
    fn choose<A>(self, internal: Option<A>, in_use: Option<A>, own: Option<A>) -> Option<A>
    where
        A: Copy + PartialEq + Into<IpAddr>,
    {
        let is_on_link = |address: &A| self.link.is_some_and(|link| link.holds((*address).into()));
        let is_router_on_link = self.link.is_some_and(|link| link.reaches(self.remote));
        let (first, last) = match internal {
            Some(address) if is_router_on_link && !is_on_link(&address) => (None, internal),
            internal => (internal, None),
        };
        let candidates = [first, in_use.filter(is_on_link), own, last].into_iter().flatten();
        // The first of the best ones.
        candidates.min_by_key(|address| self.rank((*address).into(), in_use == Some(*address)))
    }

    /// Returns how unsuitable an address of this node is. An address that no interface has is suitable.
    fn rank(self, address: IpAddr, is_in_use: bool) -> u8 {
        match self.links.holding(address) {
            Some(link) if link.temporary.contains(&address) => 2,
            Some(link) if link.deprecated.contains(&address) && !is_in_use => 1,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_test_support::links as support;

    use super::*;

    /// An interface with these addresses; a `!` marks a temporary one, a `-` a deprecated one.
    fn links(addresses: &[&str]) -> Links {
        let parse = |text: &&str| text.trim_start_matches(['!', '-']).parse::<ipnet::IpNet>().unwrap();
        let marked = |mark: char| {
            addresses.iter().filter(move |a| a.starts_with(mark)).map(|a| parse(a).addr()).collect()
        };
        let link = Link {
            addresses: addresses.iter().map(parse).collect(),
            temporary: marked('!'),
            deprecated: marked('-'),
            ..support::link(2, "eth0", &[])
        };
        support::links([link])
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
            // Without an InternalIP: a permanent address, never a temporary one.
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
            // Virtual addresses have host length.
            Case {
                session: ("fe80::1", "fe80::fe"),
                interface: &["2001:db8::a/128", "2001:db8::b/64", "fe80::1/64"],
                node: &["2001:db8:9::1"],
                expected: [None, Some("2001:db8::b"), Some("fe80::1")],
            },
            Case {
                session: ("fe80::1", "fe80::fe"),
                interface: &["2001:db8::a/128", "2001:db8::b/64", "2001:db8::c/64", "fe80::1/64"],
                node: &["2001:db8:9::1", "2001:db8::c"],
                expected: [None, Some("2001:db8::c"), Some("fe80::1")],
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
            let actual = next_hops(local, index, remote, &links(interface), &node, NextHops::default());
            assert_eq!(actual, expected, "{local} {interface:?} {node:?}");
        }
    }

    /// Addresses of the interface, the InternalIP, the next hop in use, and the expected one.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], Option<&'a str>, Option<&'a str>);

    #[test]
    fn next_hop_in_use_stays_while_its_address_exists() {
        let table: [Row<'_>; 14] = [
            (&["2001:db8::1/64"], &[], None, Some("2001:db8::1")),
            // Nothing else exists.
            (&["-2001:db8::1/64"], &[], None, Some("2001:db8::1")),
            (&["-2001:db8::1/64"], &["2001:db8::1"], None, Some("2001:db8::1")),
            (&["!2001:db8::a/64"], &["2001:db8::a"], None, Some("2001:db8::a")),
            (&["!2001:db8::a/64"], &[], None, None),
            (&["!2001:db8::a/64"], &[], Some("2001:db8::a"), Some("2001:db8::a")),
            // Something else exists.
            (&["-2001:db8::1/64", "2001:db8::2/64"], &[], None, Some("2001:db8::2")),
            (&["-2001:db8::1/64", "2001:db8::2/64"], &["2001:db8::1"], None, Some("2001:db8::2")),
            (&["!2001:db8::a/64", "2001:db8::2/64"], &["2001:db8::a"], None, Some("2001:db8::2")),
            (&["!2001:db8::a/64", "-2001:db8::2/64"], &["2001:db8::a"], None, Some("2001:db8::2")),
            // The next hop in use became deprecated, was deleted, or comes after another address.
            (&["-2001:db8::1/64", "2001:db8::2/64"], &[], Some("2001:db8::1"), Some("2001:db8::1")),
            (&["2001:db8::2/64"], &[], Some("2001:db8::1"), Some("2001:db8::2")),
            (&["2001:db8::1/64", "2001:db8::2/64"], &[], Some("2001:db8::2"), Some("2001:db8::2")),
            // An edit of the Node.
            (
                &["2001:db8::1/64", "2001:db8::2/64"],
                &["2001:db8::1"],
                Some("2001:db8::2"),
                Some("2001:db8::1"),
            ),
        ];
        for (interface, node, in_use, expected) in table {
            let addresses: Vec<&str> = [&["192.0.2.1/24"], interface].concat();
            let node: Vec<IpAddr> = node.iter().map(|a| a.parse().unwrap()).collect();
            let before = NextHops { v6: in_use.map(|a| a.parse().unwrap()), ..NextHops::default() };
            let (local, remote) = ("192.0.2.1".parse().unwrap(), "192.0.2.254".parse().unwrap());
            let actual = next_hops(local, None, remote, &links(&addresses), &node, before);
            assert_eq!(
                actual.v6,
                expected.map(|a| a.parse().unwrap()),
                "{interface:?} {node:?} in use: {in_use:?}"
            );
        }
    }
}
