//! The routes that each node announces to each peer.

use std::time::{Duration, Instant};

use TrafficPolicy::{Cluster, Local};
use fairlead_crds::model::config::{Community, LinkBandwidth, PeerAsn};

use super::*;

const A: &str = "192.0.2.1";
const ROUTE: &str = "192.0.2.1/32";

fn world(nodes: usize) -> World {
    World::of(nodes).peer(peer("tor", "203.0.113.1"))
}

fn ibgp() -> Peer {
    Peer { peer_asn: PeerAsn::Internal, ..peer("ibgp", "203.0.113.2") }
}

fn attributes(world: &World, peer: &str, prefix: &str) -> Option<Attributes> {
    world.plan_of("n1").1.routes.remove(&(peer.to_owned(), prefix.parse().unwrap()))
}

/// Given 3 nodes, a policy and the nodes with endpoints: the nodes that announce.
#[test]
fn policy_and_endpoints_select_announcing_nodes() {
    let table = [
        (Cluster, "n1", vec!["n1", "n2", "n3"]),
        (Cluster, "n1 n2 n3", vec!["n1", "n2", "n3"]),
        (Cluster, "", vec![]),
        (Local, "n2", vec!["n2"]),
        (Local, "n1 n3", vec!["n1", "n3"]),
        (Local, "", vec![]),
    ];
    for (policy, endpoints, expected) in table {
        let world = world(3).service("web", policy, A, endpoints).bgp(bgp_advertisement("ad"));
        assert_eq!(world.bgp_nodes("tor", ROUTE), expected, "{policy:?}, endpoints on {endpoints:?}");
    }
}

#[test]
fn bgp_ignores_mesh_membership() {
    let mut world = world(3).service("web", Cluster, A, "n1").bgp(bgp_advertisement("ad"));
    world.live = None;
    assert_eq!(world.bgp_nodes("tor", ROUTE), ["n1", "n2", "n3"]);
}

#[test]
fn excluded_node_withdraws_but_keeps_its_session() {
    let mut world = world(3).service("web", Cluster, A, "n1").bgp(bgp_advertisement("ad"));
    world.nodes.get_mut("n2").unwrap().excluded = true;
    world.nodes.get_mut("n3").unwrap().network_unavailable = true;
    assert_eq!(world.bgp_nodes("tor", ROUTE), ["n1"]);
    assert!(world.plan_of("n2").1.peers.contains_key("tor"));
}

/// Given the node selectors of advertisements: the union of the selected nodes announces.
#[test]
fn node_selectors_of_advertisements_are_united() {
    let on = |name: &str, node: &str| BgpAdvertisement {
        node_selectors: vec![selector(&format!("name={node}"))],
        ..bgp_advertisement(name)
    };
    let base = || world(3).service("web", Cluster, A, "n1");
    assert_eq!(base().bgp(on("a", "n1")).bgp_nodes("tor", ROUTE), ["n1"]);
    assert_eq!(base().bgp(on("a", "n1")).bgp(on("b", "n3")).bgp_nodes("tor", ROUTE), ["n1", "n3"]);
    assert!(base().bgp(on("a", "n9")).bgp_nodes("tor", ROUTE).is_empty());
}

#[test]
fn peer_is_opened_by_the_nodes_it_selects() {
    let mut rack = peer("rack", "203.0.113.2");
    rack.node_selectors = vec![selector("name=n1"), selector("name=n2")];
    let world = world(3).peer(rack).service("web", Cluster, A, "n1").bgp(bgp_advertisement("ad"));
    assert_eq!(world.bgp_nodes("rack", ROUTE), ["n1", "n2"]);
    assert_eq!(world.bgp_nodes("tor", ROUTE), ["n1", "n2", "n3"]);
    assert!(!world.plan_of("n3").1.peers.contains_key("rack"));
}

#[test]
fn advertisement_is_sent_to_the_peers_it_lists() {
    let to = |name: &str, peers: &[&str], community| BgpAdvertisement {
        peers: peers.iter().map(|p| (*p).to_owned()).collect(),
        communities: [Community::Standard(64512, community)].into(),
        ..bgp_advertisement(name)
    };
    let world = world(1)
        .peer(peer("other", "203.0.113.2"))
        .service("web", Cluster, A, "n1")
        .bgp(to("a", &["tor"], 1))
        .bgp(to("b", &["other", "tor"], 2));
    let communities = |peer| attributes(&world, peer, ROUTE).unwrap().communities;
    let expected =
        |values: &[u16]| values.iter().map(|v| fairlead_bgp::Community(64512, *v)).collect::<BTreeSet<_>>();
    assert_eq!(communities("tor"), expected(&[1, 2]));
    assert_eq!(communities("other"), expected(&[2]));
}

#[test]
fn routes_with_equal_attributes_share_one_value() {
    let ad = BgpAdvertisement {
        local_pref: Some(200),
        communities: [Community::Standard(64512, 1), Community::Large(1, 2, 3)].into(),
        ..bgp_advertisement("ad")
    };
    let world = world(1).service("web", Cluster, A, "n1").service("dns", Cluster, "192.0.2.2", "n1").bgp(ad);
    let mut plan = Plan::new("n1");
    world.list_to(&mut plan);
    let attributes: Vec<_> = plan
        .changes()
        .into_iter()
        .filter_map(|change| match change {
            AnnouncementChange::RouteAnnounce { attributes, .. } => Some(attributes),
            _ => None,
        })
        .collect();
    let [first, second] = &attributes[..] else { panic!("{attributes:?}") };
    assert!(std::sync::Arc::ptr_eq(first, second));
    assert_eq!(first.local_pref, None, "an eBGP peer does not receive it");
    assert_eq!(first.communities, [fairlead_bgp::Community(64512, 1)].into());
    assert_eq!(first.large_communities, [fairlead_bgp::LargeCommunity(1, 2, 3)].into());
}

/// Given the address of a peer and `dualStackAddressFamily`: the families that the session carries, IPv4 and
/// IPv6.
#[test]
fn session_carries_the_configured_families() {
    let table = [
        ("203.0.113.1", false, true, false),
        ("203.0.113.1", true, true, true),
        ("2001:db8:9::1", false, false, true),
        ("2001:db8:9::1", true, true, true),
    ];
    for (address, dual, v4, v6) in table {
        let peer = Peer { dual_stack_address_family: dual, ..peer("tor", address) };
        let world = World::of(1)
            .peer(peer)
            .service("web", Cluster, "192.0.2.1 2001:db8::1", "n1")
            .bgp(bgp_advertisement("ad"));
        let carried = |prefix| attributes(&world, "tor", prefix).is_some();
        assert_eq!((carried(ROUTE), carried("2001:db8::1/128")), (v4, v6), "{address}, dual {dual}");
    }
}

#[test]
fn aggregate_stays_while_any_member_needs_it() {
    let mut ad = bgp_advertisement("ad");
    ad.aggregation_length = 24;
    ad.aggregation_length_v6 = 64;
    let mut world =
        world(1).service("a", Cluster, "192.0.2.1", "n1").service("b", Cluster, "192.0.2.9", "n1").bgp(ad);
    let (mut plan, mut announced) = world.plan_of("n1");
    let prefixes =
        |announced: &Announced| announced.routes.keys().map(|(_, p)| p.to_string()).collect::<Vec<_>>();
    assert_eq!(prefixes(&announced), ["192.0.2.0/24"]);
    for (removed, expected) in [("a", vec!["192.0.2.0/24"]), ("b", vec![])] {
        world.endpoints.insert(removed.to_owned(), Vec::new());
        world.list_to(&mut plan);
        announced.carry_out(plan.changes());
        assert_eq!(prefixes(&announced), expected, "without {removed}");
    }
}

#[test]
fn plain_and_aggregated_advertisement_announce_both() {
    let mut aggregate = bgp_advertisement("aggregate");
    aggregate.aggregation_length = 24;
    aggregate.local_pref = Some(50);
    let mut plain = bgp_advertisement("plain");
    plain.local_pref = Some(100);
    let world = world(1).peer(ibgp()).service("web", Cluster, A, "n1").bgp(aggregate).bgp(plain);
    let local_pref = |prefix| attributes(&world, "ibgp", prefix).unwrap().local_pref;
    assert_eq!((local_pref("192.0.2.0/24"), local_pref(ROUTE)), (Some(50), Some(100)));
}

#[test]
fn attributes_of_advertisements_are_merged() {
    let first = BgpAdvertisement {
        med: Some(20),
        as_path_prepend: 1,
        communities: [Community::Standard(65535, 65281)].into(),
        ..bgp_advertisement("first")
    };
    let second = BgpAdvertisement {
        med: Some(10),
        as_path_prepend: 3,
        communities: [Community::Extended([0, 2, 0, 1, 0, 0, 0, 1])].into(),
        ..bgp_advertisement("second")
    };
    let third =
        BgpAdvertisement { communities: [Community::Large(1, 2, 3)].into(), ..bgp_advertisement("third") };
    let world = world(1).service("web", Cluster, A, "n1").bgp(first).bgp(second).bgp(third);
    let expected = Attributes {
        med: Some(10),
        as_path_prepend: 3,
        communities: [fairlead_bgp::Community::NO_EXPORT].into(),
        extended_communities: [fairlead_bgp::ExtendedCommunity([0, 2, 0, 1, 0, 0, 0, 1])].into(),
        large_communities: [fairlead_bgp::LargeCommunity(1, 2, 3)].into(),
        ..Attributes::default()
    };
    assert_eq!(attributes(&world, "tor", ROUTE), Some(expected));
}

/// Returns advertisements with 64 large communities each, more than one message takes.
pub(super) fn many_communities() -> impl Iterator<Item = BgpAdvertisement> {
    (0..6).map(|n| BgpAdvertisement {
        communities: (0..64).map(|value| Community::Large(n, 0, value)).collect(),
        ..bgp_advertisement(&format!("ad-{n}"))
    })
}

#[test]
fn attributes_that_fit_no_message_are_reported() {
    let state = |world: &World| world.plan_of("n1").0.state(&key("web"), ip(A), Protocol::Bgp).unwrap();
    let world = || world(1).service("web", Cluster, A, "n1");
    let too_large = many_communities().fold(world(), World::bgp);
    assert_eq!(state(&too_large), AnnouncementState::Not(NotAnnouncedReason::AttributesTooLarge));
    assert_eq!(attributes(&too_large, "tor", ROUTE), None);
    let fits = many_communities().take(5).fold(world(), World::bgp);
    assert_eq!(state(&fits), AnnouncementState::Announced);
    assert_eq!(attributes(&fits, "tor", ROUTE).unwrap().large_communities.len(), 5 * 64);
    // A peer with fewer communities gets the route.
    let split = many_communities()
        .enumerate()
        .map(|(n, ad)| BgpAdvertisement { peers: [["tor", "other"][n % 2].to_owned()].into(), ..ad });
    let split = split.fold(world().peer(peer("other", "203.0.113.2")), World::bgp);
    assert_eq!(state(&split), AnnouncementState::Announced);
}

#[test]
fn route_keeps_its_attributes_if_the_new_ones_are_too_large() {
    let first = many_communities().next().unwrap();
    let mut world = world(1).service("web", Cluster, A, "n1").bgp(first);
    let (mut plan, mut announced) = world.plan_of("n1");
    let before = announced.clone();
    for ad in many_communities() {
        world = world.bgp(ad);
    }
    world.list_to(&mut plan);
    announced.carry_out(plan.changes());
    assert_eq!(announced, before);
    world.services.clear();
    world.list_to(&mut plan);
    announced.carry_out(plan.changes());
    assert!(announced.routes.is_empty());
}

#[test]
fn service_adds_only_permitted_attributes() {
    use fairlead_crds::model::route_request::{RouteRequest, ServiceAttributes};
    let permits = |name: &str, communities: &[(&str, u16)], prepend, med| BgpAdvertisement {
        med: Some(50),
        service_attributes: Some(ServiceAttributes {
            communities: communities
                .iter()
                .map(|(n, c)| ((*n).to_owned(), Community::Standard(1, *c)))
                .collect(),
            max_as_path_prepend: prepend,
            med,
        }),
        ..bgp_advertisement(name)
    };
    let request = RouteRequest {
        communities: ["blue", "red"].map(str::to_owned).into(),
        as_path_prepend: Some(2),
        med: Some(70),
        ..RouteRequest::default()
    };
    let world = |ad: BgpAdvertisement| {
        let mut world =
            world(1).service("web", Cluster, A, "n1").service("other", Cluster, "192.0.2.2", "n1");
        world.services.get_mut("web").unwrap().route_request = Some(request.clone().into());
        world.bgp(ad)
    };
    let of = |attributes: Option<Attributes>| {
        let attributes = attributes.unwrap();
        let communities: Vec<_> = attributes.communities.iter().map(|community| community.1).collect();
        (communities, attributes.as_path_prepend, attributes.med)
    };
    for (ad, expected) in [
        (BgpAdvertisement { med: Some(50), ..bgp_advertisement("ad") }, (vec![], 0, Some(50))),
        (permits("ad", &[("red", 1), ("green", 2)], 3, true), (vec![1], 2, Some(70))),
        (permits("ad", &[("red", 1), ("blue", 3)], 1, false), (vec![1, 3], 0, Some(50))),
    ] {
        let what = format!("{:?}", ad.service_attributes);
        let world = world(ad);
        assert_eq!(of(attributes(&world, "tor", ROUTE)), expected, "{what}");
        assert_eq!(of(attributes(&world, "tor", "192.0.2.2/32")), (vec![], 0, Some(50)), "{what}");
    }
    // An edit of the annotation changes the route.
    let mut world = world(permits("ad", &[("red", 1)], 3, true));
    let (mut plan, mut announced) = world.plan_of("n1");
    world.services.get_mut("web").unwrap().route_request = None;
    world.list_to(&mut plan);
    announced.carry_out(plan.changes());
    assert_eq!(announced, world.plan_of("n1").1);
    assert_eq!(
        of(announced.routes.remove(&("tor".to_owned(), ROUTE.parse().unwrap()))),
        (vec![], 0, Some(50))
    );
}

/// Returns the link bandwidth of a route in units of 1 Mbit/s.
fn link_bandwidth(attributes: Option<&Attributes>) -> Option<u32> {
    let communities = &attributes?.extended_communities;
    let community = communities.iter().find(|community| community.is_link_bandwidth())?;
    let [.., a, b, c, d] = community.0;
    Some((f32::from_be_bytes([a, b, c, d]) / 125_000.0) as u32)
}

fn weighted(name: &str, address: &str) -> Peer {
    let link_bandwidth = Some(LinkBandwidth { megabits_per_endpoint: 10, transitive: false });
    Peer { link_bandwidth, ..peer(name, address) }
}

/// Given a policy and the endpoints: the link bandwidths of the routes of n1 and n2.
#[test]
fn link_bandwidth_counts_local_endpoints() {
    let table = [
        (Local, "n1 n2 n2 n2", [Some(10), Some(30)]),
        (Local, "n1 n2 n2!", [Some(10), Some(10)]),
        (Local, "n1! n1!", [Some(20), None]),
        (Cluster, "n1 n2 n2 n2", [None, None]),
    ];
    for (policy, endpoints, expected) in table {
        let world = World::of(2)
            .peer(weighted("tor", "203.0.113.1"))
            .peer(peer("plain", "203.0.113.2"))
            .service("web", policy, A, endpoints)
            .bgp(bgp_advertisement("ad"))
            .bgp(bgp_advertisement("same"));
        let bandwidths = |peer: &str| {
            ["n1", "n2"].map(|node| {
                let routes = world.plan_of(node).1.routes;
                link_bandwidth(routes.get(&(peer.to_owned(), ROUTE.parse().unwrap())))
            })
        };
        assert_eq!(bandwidths("tor"), expected, "{policy:?} {endpoints}");
        assert_eq!(bandwidths("plain"), [None, None], "{policy:?} {endpoints}");
    }
}

#[test]
fn link_bandwidth_of_an_aggregate_counts_all_services() {
    let ad = BgpAdvertisement {
        aggregation_length: 24,
        communities: [Community::Extended([0x40, 4, 0, 1, 0, 0, 0, 0])].into(),
        ..bgp_advertisement("ad")
    };
    let world = World::of(1)
        .peer(weighted("tor", "203.0.113.1"))
        .service("a", Local, A, "n1 n1")
        .service("b", Local, "192.0.2.2", "n1")
        .bgp(ad);
    let route = attributes(&world, "tor", "192.0.2.0/24").unwrap();
    assert_eq!(link_bandwidth(Some(&route)), Some(30));
    assert_eq!(route.extended_communities.len(), 1, "it replaces that of the advertisement");
}

#[test]
fn link_bandwidth_changes_once_per_second_and_routes_at_once() {
    let mut world = World::of(1)
        .peer(weighted("tor", "203.0.113.1"))
        .service("web", Local, A, "n1")
        .bgp(bgp_advertisement("ad"));
    let (mut plan, mut announced) = world.plan_of("n1");
    let start = Instant::now();
    let mut step = |milliseconds, endpoints: &str, plan: &mut Plan| {
        plan.set_time(start + Duration::from_millis(milliseconds));
        world.endpoints.insert("web".to_owned(), endpoints.split_whitespace().map(str::to_owned).collect());
        world.list_to(plan);
        announced.carry_out(plan.changes());
        let route = announced.routes.get(&("tor".to_owned(), ROUTE.parse().unwrap()));
        route.map(|route| link_bandwidth(Some(route)).unwrap_or_default())
    };
    assert_eq!(step(0, "n1 n1", &mut plan), Some(20));
    assert_eq!(step(300, "n1 n1 n1", &mut plan), Some(20));
    assert_eq!(plan.poll_timeout(), Some(start + Duration::from_secs(1)));
    assert_eq!(step(600, "n1 n1 n1 n1", &mut plan), Some(20));
    assert_eq!(step(1000, "n1 n1 n1 n1", &mut plan), Some(40));
    assert_eq!(plan.poll_timeout(), None);
    // The loss of all endpoints withdraws the route at once.
    assert_eq!(step(1100, "", &mut plan), None);
    assert_eq!(step(1200, "n1", &mut plan), Some(10));
}

#[test]
fn changed_link_bandwidth_keeps_the_session() {
    let mut world = world(1).service("web", Local, A, "n1").bgp(bgp_advertisement("ad"));
    let (mut plan, mut announced) = world.plan_of("n1");
    for peer in [weighted("tor", "203.0.113.1"), peer("tor", "203.0.113.1")] {
        world = world.peer(peer);
        world.list_to(&mut plan);
        let changes = plan.changes();
        assert!(matches!(changes[..], [AnnouncementChange::RouteAnnounce { .. }]), "{changes:?}");
        announced.carry_out(changes);
        assert_eq!(announced.routes, world.plan_of("n1").1.routes);
    }
}

#[test]
fn aggregator_is_sent_with_aggregates_only() {
    let ad = BgpAdvertisement { aggregator: true, aggregation_length: 24, ..bgp_advertisement("ad") };
    let world = world(1)
        .peer(Peer { dual_stack_address_family: true, ..peer("both", "203.0.113.2") })
        .service("web", Cluster, "192.0.2.1 2001:db8::1", "n1")
        .bgp(ad);
    assert!(attributes(&world, "both", "192.0.2.0/24").unwrap().aggregator);
    assert!(!attributes(&world, "both", "2001:db8::1/128").unwrap().aggregator);
}

/// Given the LOCAL_PREF of an older and of a younger advertisement, and their prefix length: the LOCAL_PREF
/// of the route towards an iBGP peer.
#[test]
fn older_advertisement_decides_on_local_pref_of_a_host_route() {
    let ad = |name: &str, year: i64, local_pref, length| BgpAdvertisement {
        local_pref,
        created: Some(jiff::Timestamp::from_second(year).unwrap()),
        aggregation_length: length,
        ..bgp_advertisement(name)
    };
    for (old, young, length, expected) in [
        (Some(1), Some(2), 32, 1),
        (Some(2), Some(1), 32, 2),
        (None, Some(50), 32, 100),
        (None, Some(200), 32, 100),
        (Some(50), None, 32, 50),
        (Some(1), Some(2), 24, 2),
        (Some(2), Some(1), 24, 2),
        (None, Some(50), 24, 100),
    ] {
        let world = world(1).peer(ibgp()).service("web", Cluster, A, "n1");
        let world = world.bgp(ad("z-old", 1, old, length)).bgp(ad("a-young", 2, young, length));
        let prefix = format!("192.0.2.{}/{length}", if length == 32 { 1 } else { 0 });
        let what = format!("{old:?}, {young:?}, /{length}");
        assert_eq!(attributes(&world, "ibgp", &prefix).unwrap().local_pref, Some(expected), "{what}");
        assert_eq!(attributes(&world, "tor", &prefix).unwrap().local_pref, None, "{what}");
    }
}

#[test]
fn services_sharing_an_address_share_the_route() {
    let mut world =
        world(1).service("a", Cluster, A, "n1").service("b", Cluster, A, "n1").bgp(bgp_advertisement("ad"));
    let (mut plan, mut announced) = world.plan_of("n1");
    world.services.remove("a");
    world.list_to(&mut plan);
    assert_eq!(plan.changes(), []);
    world.services.remove("b");
    world.list_to(&mut plan);
    announced.carry_out(plan.changes());
    assert!(announced.routes.is_empty());
}

#[test]
fn changed_node_selector_keeps_the_session() {
    let mut world = world(1).service("web", Cluster, A, "n1").bgp(bgp_advertisement("ad"));
    let (mut plan, _) = world.plan_of("n1");
    world.config.peers.get_mut("tor").unwrap().node_selectors = vec![selector("name=n1")];
    world.list_to(&mut plan);
    assert_eq!(plan.changes(), []);
}
