//! The attributes and next hops of the routes that the peer learns.

use std::net::Ipv4Addr;
use std::sync::Arc;

use fairlead_bgp::message::as_path::AsPath;
use fairlead_bgp::message::attribute::MpNextHop;
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::{
    Attributes, Community, ExtendedCommunity, Family, LargeCommunity, NextHops, Origin, PeerAs, SessionConfig,
};

use crate::harness::*;
use crate::routes::{host, host_v6, read};

#[test]
fn attributes_differ_for_ebgp_and_ibgp_peers() {
    let route = Arc::new(Attributes {
        origin: Origin::Incomplete,
        med: Some(5),
        local_pref: Some(200),
        as_path_prepend: 2,
        aggregator: true,
        communities: [Community(2, 2), Community(1, 1)].into(),
        extended_communities: [
            ExtendedCommunity([0, 3, 0, 1, 0, 0, 0, 1]),
            ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 1]),
        ]
        .into(),
        large_communities: [LargeCommunity(3, 2, 1)].into(),
    });
    let learn = |config: SessionConfig, open: &Open| {
        let mut solo = Solo::new(config).established_with(open);
        solo.session.announce(net("203.0.113.1/32"), route.clone()).unwrap();
        solo.session.announce(net("203.0.113.2/32"), Arc::default()).unwrap();
        let mut learned = LearnedRoutes::default();
        read(&mut solo, &mut learned);
        let [first, second] =
            [net("203.0.113.1/32"), net("203.0.113.2/32")].map(|net| learned.routes[&net].1.clone());
        (first, second)
    };
    // eBGP: the path starts with our AS; LOCAL_PREF is not sent.
    let (full, plain) = learn(config(), &peer_open());
    assert_eq!(full.as_path, Some(AsPath::originated_with_prepend(LOCAL_AS, 2)));
    assert_eq!(plain.as_path, Some(AsPath::originated_by(LOCAL_AS)));
    assert_eq!((full.aggregator, plain.aggregator), (Some((LOCAL_AS, config().router_id)), None));
    assert!(!full.atomic_aggregate);
    let types: Vec<_> = full.extended_communities.iter().map(|community| community.0[1]).collect();
    assert_eq!(types, [2, 3], "in order");
    assert_eq!((full.local_pref, full.med, full.origin), (None, Some(5), Some(Origin::Incomplete)));
    assert_eq!(full.communities, [Community(1, 1), Community(2, 2)]);
    assert_eq!(full.large_communities, [LargeCommunity(3, 2, 1)]);
    assert_eq!((plain.local_pref, plain.med, plain.origin), (None, None, Some(Origin::Igp)));
    // iBGP: the path is empty; LOCAL_PREF is always sent.
    let internal = SessionConfig { peer_asn: PeerAs::Internal, ..config() };
    let mut open = Open { my_as: 64512, ..peer_open() };
    open.capabilities.pop();
    open.capabilities.push(Capability::FourOctetAs(LOCAL_AS));
    let (full, plain) = learn(internal, &open);
    assert_eq!(full.as_path, Some(AsPath::default()));
    assert_eq!((full.local_pref, plain.local_pref), (Some(200), Some(100)));
    // The peer has two-octet AS numbers, and the local AS needs four octets.
    let large = SessionConfig { local_asn: 4_200_000_001, ..config() };
    let old = Open { capabilities: vec![Capability::multi_protocol(Family::Ipv4Unicast)], ..peer_open() };
    let (full, _) = learn(large, &old);
    assert_eq!(full.as_path, Some(AsPath::originated_with_prepend(23456, 2)));
    assert_eq!(full.as4_path, Some(AsPath::originated_with_prepend(4_200_000_001, 2)));
    assert_eq!(full.aggregator, Some((23456, config().router_id)));
    let (full, _) = learn(config(), &old);
    assert_eq!((full.as_path, full.as4_path), (Some(AsPath::originated_with_prepend(LOCAL_AS, 2)), None));
}

#[test]
fn next_hop_encoding_follows_negotiation() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let v4 = Some(address);
    let v6 = "2001:db8::1".parse().ok();
    let link_local = "fe80::1".parse().ok();
    let (global, local) = (v6.unwrap(), link_local.unwrap());
    let classic = Some(NextHop::Classic(address));
    let single = Some(NextHop::MultiProtocol(MpNextHop::V6(global)));
    let both = Some(NextHop::MultiProtocol(MpNextHop::V6WithLinkLocal(global, local)));
    let only_local = Some(NextHop::MultiProtocol(MpNextHop::V6WithLinkLocal(local, local)));
    let hops = |v4, v6, link_local| NextHops { v4, v6, link_local, over_link_local: false };
    let on_link = |v4, v6| NextHops { over_link_local: true, ..hops(v4, v6, link_local) };
    // (next hops, peer offers RFC 8950, session over IPv6) → next hops of IPv4 and IPv6 routes
    for (next_hops, offered, over_ipv6, expect) in [
        (hops(v4, v6, None), false, false, (classic, single)),
        (hops(v4, v6, link_local), false, true, (classic, both)),
        (hops(v4, None, None), false, false, (classic, None)),
        (hops(None, v6, None), false, true, (None, single)),
        (hops(None, v6, None), true, true, (single, single)),
        (hops(None, v6, link_local), true, true, (both, both)),
        (hops(None, None, link_local), true, true, (only_local, only_local)),
        // The session does not offer RFC 8950 over IPv4.
        (hops(None, v6, None), true, false, (None, single)),
        (NextHops::default(), true, true, (None, None)),
        // Sessions between link-local addresses.
        (on_link(v4, v6), true, true, (both, both)),
        (on_link(v4, None), true, true, (only_local, only_local)),
        (on_link(v4, None), false, true, (classic, only_local)),
    ] {
        let mut open = peer_open();
        if offered {
            open.capabilities.push(Capability::ExtendedNextHop(vec![(1, 128, 2), (1, 1, 2)]));
        }
        let mut solo = if over_ipv6 { Solo::over_ipv6(config()) } else { Solo::new(config()) };
        solo.next_hops = next_hops;
        let mut solo = solo.established_with(&open);
        solo.session.announce(host(1), attributes(1)).unwrap();
        solo.session.announce(host_v6(1), attributes(1)).unwrap();
        let mut learned = LearnedRoutes::default();
        learned.learn(solo.sent());
        let next_hop = |prefix| learned.routes.get(&prefix).map(|route| route.0);
        assert_eq!((next_hop(host(1)), next_hop(host_v6(1))), expect, "{next_hops:?}");
        assert_eq!(
            solo.session.withheld().len(),
            [expect.0, expect.1].iter().filter(|n| n.is_none()).count()
        );
        // RFC 7606 §5.1: MP_REACH_NLRI is the first attribute.
        solo.session.announce(host_v6(2), attributes(1)).unwrap();
        let bytes = solo.sent_bytes();
        assert!(bytes.is_empty() || bytes[23..25] == [0x90, 14] || bytes[23..25] == [0x80, 14], "{bytes:?}");
        learned.learn(decode_all(&bytes, solo.context));
        solo.session.withdraw(&host_v6(2));
        // Withdrawals use the same encoding.
        solo.session.withdraw(&host(1));
        solo.session.withdraw(&host_v6(1));
        learned.learn(solo.sent());
        assert!(learned.routes.is_empty());
    }
}

#[test]
fn changed_next_hop_resends_routes() {
    let mut solo = Solo::new(config()).established();
    let mut learned = LearnedRoutes::default();
    for number in 0..100 {
        solo.session.announce(host(number), attributes(1)).unwrap();
        solo.session.announce(host_v6(number), attributes(1)).unwrap();
    }
    read(&mut solo, &mut learned);
    let other = NextHops { v4: Some(Ipv4Addr::new(192, 0, 2, 99)), ..next_hops() };
    solo.session.set_next_hops(other);
    assert_eq!(read(&mut solo, &mut learned), 1, "only the IPv4 next hop changed");
    assert!(learned.routes.iter().all(|(prefix, route)| {
        Family::of(prefix) == Family::Ipv6Unicast || route.0 == NextHop::Classic(Ipv4Addr::new(192, 0, 2, 99))
    }));
    solo.session.set_next_hops(other);
    assert_eq!(read(&mut solo, &mut learned), 0);
}

/// Attributes with these numbers of standard, extended and large communities.
fn with_communities(standard: u16, extended: u8, large: u32, prepend: u8) -> Arc<Attributes> {
    Arc::new(Attributes {
        med: Some(1),
        local_pref: Some(1),
        as_path_prepend: prepend,
        aggregator: true,
        communities: (0..standard).map(|value| Community(1, value)).collect(),
        extended_communities: (0..extended)
            .map(|value| ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, value]))
            .collect(),
        large_communities: (0..large).map(|value| LargeCommunity(1, 1, value)).collect(),
        ..Attributes::default()
    })
}

#[test]
fn route_that_fits_no_message_is_rejected() {
    // (standard, extended and large communities, prepend) that just fit.
    for (standard, extended, large, prepend) in
        [(990, 0, 0, 0), (975, 0, 0, 10), (0, 250, 162, 0), (0, 0, 329, 0), (499, 100, 94, 4)]
    {
        let largest = with_communities(standard, extended, large, prepend);
        assert_eq!(largest.check_size(), Ok(()), "{standard} {extended} {large} {prepend}");
        // What needs the most octets: AS4_PATH, a next hop with a link-local address, GRACEFUL_SHUTDOWN.
        let config = SessionConfig { local_asn: 4_200_000_001, ..config() };
        let mut open = peer_open();
        open.capabilities.pop();
        let mut solo = Solo::over_ipv6(config);
        solo.next_hops.link_local = "fe80::1".parse().ok();
        let mut solo = solo.established_with(&Open { my_as: 64513, ..open });
        solo.session.set_graceful_shutdown(true);
        solo.session.announce(host_v6(1), largest).unwrap();
        // After the End-of-RIB marker of IPv4.
        let bytes = &solo.sent_bytes()[23..];
        let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
        assert!((4096 - 12..=4096).contains(&length), "{standard} {extended} {large} {prepend}: {length}");
    }
}

#[test]
fn rejected_route_leaves_the_earlier_one_in_place() {
    let mut solo = Solo::new(config()).established();
    solo.session.announce(host(1), with_communities(1, 0, 0, 0)).unwrap();
    let error = solo.session.announce(host(1), with_communities(1000, 0, 0, 0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the route needs an UPDATE of 4136 octets, but a message has at most 4096: use fewer communities"
    );
    let mut learned = LearnedRoutes::default();
    read(&mut solo, &mut learned);
    assert_eq!(learned.routes[&host(1)].1.communities.len(), 1);
}

#[test]
fn equal_routes_in_any_order_encode_equally() {
    let bytes = |order: &mut dyn Iterator<Item = u32>| {
        let mut solo = Solo::new(config());
        for number in order {
            solo.session.announce(host(number), attributes(u16::try_from(number % 7).unwrap())).unwrap();
        }
        solo.established().sent_bytes()
    };
    assert_eq!(bytes(&mut (0..500)), bytes(&mut (0..500).rev()));
}
