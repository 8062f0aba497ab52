//! The next hops of the routes that this node announces on a session.

use std::net::IpAddr;

use fairlead_bgp::NextHops;
use fairlead_net::links::Links;

/// Returns the next hops. For the family of the session, it is the local address of the connection. For the
/// other family, it is an address of the same interface, else the InternalIP of the Node object.
pub(super) fn next_hops(local: IpAddr, links: &Links, node: &[IpAddr]) -> NextHops {
    let link = links.holding(local);
    match local {
        IpAddr::V4(v4) => NextHops {
            v4: Some(v4),
            v6: link.and_then(|link| link.ipv6()).or_else(|| {
                node.iter().find_map(|address| match address {
                    IpAddr::V6(v6) => Some(*v6),
                    IpAddr::V4(_) => None,
                })
            }),
            link_local: None,
        },
        IpAddr::V6(v6) => {
            let v4 = link.and_then(|link| link.ipv4()).or_else(|| {
                node.iter().find_map(|address| match address {
                    IpAddr::V4(v4) => Some(*v4),
                    IpAddr::V6(_) => None,
                })
            });
            if v6.is_unicast_link_local() {
                return NextHops { v4, v6: link.and_then(|link| link.ipv6()), link_local: Some(v6) };
            }
            NextHops { v4, v6: Some(v6), link_local: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use fairlead_net::links::Link;

    use super::*;

    fn links(addresses: &[&str]) -> Links {
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
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        Links { by_index: [(2, link)].into() }
    }

    #[test]
    fn other_family_uses_address_of_interface_then_of_node() {
        let both: &[&str] = &["192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"];
        type Case<'a> =
            (&'a str, &'a [&'a str], &'a [&'a str], Option<&'a str>, Option<&'a str>, Option<&'a str>);
        let table: [Case<'_>; 6] = [
            (
                "192.0.2.1",
                both,
                &["203.0.113.1", "2001:db8:9::1"],
                Some("192.0.2.1"),
                Some("2001:db8::1"),
                None,
            ),
            ("2001:db8::1", both, &["203.0.113.1"], Some("192.0.2.1"), Some("2001:db8::1"), None),
            (
                "192.0.2.1",
                &["192.0.2.1/24"],
                &["2001:db8:9::1"],
                Some("192.0.2.1"),
                Some("2001:db8:9::1"),
                None,
            ),
            (
                "2001:db8::1",
                &["2001:db8::1/64"],
                &["203.0.113.1"],
                Some("203.0.113.1"),
                Some("2001:db8::1"),
                None,
            ),
            ("192.0.2.1", &["192.0.2.1/24", "fe80::1/64"], &[], Some("192.0.2.1"), None, None),
            ("fe80::1", both, &[], Some("192.0.2.1"), Some("2001:db8::1"), Some("fe80::1")),
        ];
        for (local, addresses, node, v4, v6, link_local) in table {
            let node: Vec<IpAddr> = node.iter().map(|a| a.parse().unwrap()).collect();
            let expected = NextHops {
                v4: v4.map(|a| a.parse().unwrap()),
                v6: v6.map(|a| a.parse().unwrap()),
                link_local: link_local.map(|a| a.parse().unwrap()),
            };
            assert_eq!(next_hops(local.parse().unwrap(), &links(addresses), &node), expected, "{local}");
        }
    }
}
