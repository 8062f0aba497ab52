//! The reason for each address that is not announced.

use TrafficPolicy::{Cluster, Local};

use super::*;
use fairlead_l2::ServedFamilies;

use crate::LinkNetwork;

const A: &str = "192.0.2.1";

fn world() -> World {
    let world = World::of(2).peer(peer("tor", "203.0.113.1"));
    world.l2(l2_advertisement("l2")).bgp(bgp_advertisement("bgp")).service("web", Cluster, A, "n1 n2")
}

fn not(reason: NotAnnouncedReason) -> AnnouncementState {
    AnnouncementState::Not(reason)
}

type Edit = fn(&mut World);

/// Given a change of the cluster: the states of the address on n1, by L2 and by BGP. L2 prefers n1.
#[test]
fn each_cause_has_its_reason() {
    use NotAnnouncedReason::*;
    let table: Vec<(&str, Edit, AnnouncementState, AnnouncementState)> = vec![
        ("nothing", |_| {}, AnnouncementState::Announced, AnnouncementState::Announced),
        ("no pool", |w| w.config.pools.clear(), not(AddressInNoPool), not(AddressInNoPool)),
        (
            "no L2Advertisement",
            |w| w.config.l2_advertisements.clear(),
            not(NoMatchingAdvertisement),
            AnnouncementState::Announced,
        ),
        (
            "no BGPAdvertisement",
            |w| w.config.bgp_advertisements.clear(),
            AnnouncementState::Announced,
            not(NoMatchingAdvertisement),
        ),
        (
            "advertisements for other Services",
            |w| {
                w.config.l2_advertisements.get_mut("l2").unwrap().service_selectors = vec![selector("app=x")];
                w.config.bgp_advertisements.get_mut("bgp").unwrap().service_selectors =
                    vec![selector("app=x")];
            },
            not(NoMatchingAdvertisement),
            not(NoMatchingAdvertisement),
        ),
        (
            "advertisements for another node",
            |w| {
                w.config.l2_advertisements.get_mut("l2").unwrap().node_selectors = vec![selector("name=n2")];
                w.config.bgp_advertisements.get_mut("bgp").unwrap().node_selectors =
                    vec![selector("name=n2")];
            },
            not(NodeNotSelected),
            not(NodeNotSelected),
        ),
        (
            "L2Advertisement for an unknown node",
            |w| w.config.l2_advertisements.get_mut("l2").unwrap().node_selectors = vec![selector("name=n9")],
            not(NoEligibleNode),
            AnnouncementState::Announced,
        ),
        ("no Node object", |w| drop(w.nodes.remove("n1")), not(NodeUnknown), not(NodeUnknown)),
        (
            "network unavailable",
            |w| w.nodes.get_mut("n1").unwrap().network_unavailable = true,
            not(NodeNetworkUnavailable),
            not(NodeNetworkUnavailable),
        ),
        (
            "excluded",
            |w| w.nodes.get_mut("n1").unwrap().excluded = true,
            not(NodeExcluded),
            not(NodeExcluded),
        ),
        (
            "drained",
            |w| w.nodes.get_mut("n1").unwrap().drain = Some(DrainCause::Label),
            not(NodeDraining),
            not(NodeDraining),
        ),
        (
            "no endpoint",
            |w| drop(w.endpoints.insert("web".into(), vec![])),
            not(NoEndpoints),
            not(NoEndpoints),
        ),
        (
            "endpoints of the other family only",
            |w| drop(w.endpoints.insert("web".into(), vec!["n1/v6".into(), "n2/v6!".into()])),
            not(NoEndpointsOfFamily),
            not(NoEndpointsOfFamily),
        ),
        (
            "endpoints of the other family on this node",
            |w| {
                w.services.get_mut("web").unwrap().traffic_policy = Local;
                w.endpoints.insert("web".into(), vec!["n1/v6".into(), "n2".into()]);
            },
            not(NoLocalEndpoints),
            not(NoLocalEndpoints),
        ),
        (
            "endpoints on this node are terminating",
            |w| {
                w.services.get_mut("web").unwrap().traffic_policy = Local;
                w.endpoints.insert("web".into(), vec!["n1!".into(), "n2".into()]);
            },
            not(NotOwner),
            not(LocalEndpointsTerminating),
        ),
        (
            "no endpoint on this node",
            |w| {
                w.services.get_mut("web").unwrap().traffic_policy = Local;
                w.endpoints.insert("web".into(), vec!["n2".into()]);
            },
            not(NoLocalEndpoints),
            not(NoLocalEndpoints),
        ),
        (
            "no endpoint on a live node",
            |w| {
                w.services.get_mut("web").unwrap().traffic_policy = Local;
                w.endpoints.insert("web".into(), vec!["n2".into()]);
                w.live.as_mut().unwrap().remove("n2");
            },
            not(NoEligibleNode),
            not(NoLocalEndpoints),
        ),
        ("mesh membership unknown", |w| w.live = None, not(MeshNotSettled), AnnouncementState::Announced),
        (
            "another node is preferred",
            |w| {
                let ad = w.config.l2_advertisements.get_mut("l2").unwrap();
                ad.preferred_nodes = vec![(50, selector("name=n2"))];
            },
            not(NotOwner),
            AnnouncementState::Announced,
        ),
        ("no peer", |w| w.config.peers.clear(), AnnouncementState::Announced, not(NoPeer)),
        (
            "the peer selects another node",
            |w| w.config.peers.get_mut("tor").unwrap().node_selectors = vec![selector("name=n2")],
            AnnouncementState::Announced,
            not(NoPeer),
        ),
        (
            "the advertisement lists another peer",
            |w| w.config.bgp_advertisements.get_mut("bgp").unwrap().peers = ["other".to_owned()].into(),
            AnnouncementState::Announced,
            not(PeerNotSelected),
        ),
        (
            "the peer carries the other family",
            |w| w.config.peers.get_mut("tor").unwrap().address = PeerAddress::Ip(ip("2001:db8:9::1")),
            AnnouncementState::Announced,
            not(FamilyNotCarried),
        ),
        (
            "the BGPAdvertisements request more communities than a message has room for",
            |w| {
                for ad in super::routes::many_communities() {
                    w.config.bgp_advertisements.insert(ad.name.clone(), ad);
                }
            },
            AnnouncementState::Announced,
            not(AttributesTooLarge),
        ),
    ];
    // Other tests cover the reasons that depend on flags, on interfaces, on other hosts and on time.
    let mut seen: BTreeSet<NotAnnouncedReason> = [
        ProtocolDisabled,
        NoMatchingInterface,
        UnusableOnLink,
        ClaimedByAnotherHost,
        AddressInUse,
        AddressProbing,
        DataPathNotReady,
        DataPathPending,
        WithdrawnRecently,
    ]
    .into();
    for (what, edit, l2, bgp) in table {
        let mut world = world();
        let ad = world.config.l2_advertisements.get_mut("l2").unwrap();
        ad.preferred_nodes = vec![(1, selector("name=n1"))];
        edit(&mut world);
        let (plan, announced) = world.plan_of("n1");
        assert_eq!(plan.state(&key("web"), ip(A), Protocol::L2), Some(l2), "{what}: L2");
        assert_eq!(plan.state(&key("web"), ip(A), Protocol::Bgp), Some(bgp), "{what}: BGP");
        assert_eq!(announced.l2.contains_key(&ip(A)), l2 == AnnouncementState::Announced, "{what}: L2");
        assert_eq!(announced.routes.is_empty(), bgp != AnnouncementState::Announced, "{what}: BGP");
        for state in [l2, bgp] {
            if let AnnouncementState::Not(reason) = state {
                seen.insert(reason);
            }
        }
    }
    assert_eq!(seen, NotAnnouncedReason::ALL.into(), "every reason has a case");
}

/// Given the protocol that the speakers do not use: the states by L2 and by BGP on both nodes.
#[test]
fn disabled_protocol_is_reported_and_harms_no_other() {
    let disabled = not(NotAnnouncedReason::ProtocolDisabled);
    for (protocol, l2, bgp) in [
        (Protocol::L2, disabled, AnnouncementState::Announced),
        (Protocol::Bgp, AnnouncementState::Announced, disabled),
    ] {
        let mut world = world();
        match protocol {
            Protocol::L2 => world.live = None,
            Protocol::Bgp => world.config.peers.clear(),
        }
        world.nodes.remove("n2");
        let mut plan = Plan::new("n1");
        plan.disable(protocol);
        world.list_to(&mut plan);
        plan.changes();
        assert_eq!(plan.state(&key("web"), ip(A), Protocol::L2), Some(l2), "without {protocol}: L2");
        assert_eq!(plan.state(&key("web"), ip(A), Protocol::Bgp), Some(bgp), "without {protocol}: BGP");
    }
}

#[test]
fn owner_without_the_interface_reports_it() {
    let mut world = world();
    world.nodes.remove("n2");
    world.config.l2_advertisements.get_mut("l2").unwrap().interfaces = ["eth1".to_owned()].into();
    let (mut plan, mut announced) = world.plan_of("n1");
    for (links, state) in [
        (vec!["eth0"], not(NotAnnouncedReason::NoMatchingInterface)),
        (vec!["eth0", "eth1"], AnnouncementState::Announced),
        (vec![], not(NotAnnouncedReason::NoMatchingInterface)),
    ] {
        plan.set_links(links.iter().map(|l| ((*l).to_owned(), network(&[]))).collect());
        announced.carry_out(plan.changes());
        assert_eq!(announced.l2.contains_key(&ip(A)), links.contains(&"eth1"), "{links:?}");
        assert_eq!(plan.state(&key("web"), ip(A), Protocol::L2), Some(state), "{links:?}");
    }
}

/// Returns a network: texts with a prefix length are addresses of the interface, others gateways.
fn network(texts: &[&str]) -> LinkNetwork {
    LinkNetwork {
        addresses: texts.iter().filter_map(|text| text.parse().ok()).collect(),
        gateways: texts.iter().filter_map(|text| text.parse().ok()).collect(),
        families: ServedFamilies::BOTH,
    }
}

/// Given the networks of the interfaces of n1, the owner: whether 192.0.2.1 is unusable there.
#[test]
fn owner_does_not_announce_an_address_unusable_on_its_link() {
    type Row = (&'static [&'static str], &'static [(&'static str, &'static [&'static str])], bool);
    let table: &[Row] = &[
        (&[], &[("eth0", &["192.0.2.9/24"])], false),
        (&[], &[("eth0", &["192.0.2.2/31", "2001:db8::1/64"])], false),
        (&[], &[("eth0", &["192.0.2.1/24"])], true),
        (&[], &[("eth0", &["192.0.2.1/32"])], true),
        (&[], &[("eth0", &["198.51.100.1/24"]), ("eth1", &["192.0.2.2/30", "192.0.2.1/30"])], true),
        (&[], &[("eth0", &["192.0.2.9/24", "192.0.2.8", "fe80::1"])], false),
        (&[], &[("eth0", &["192.0.2.9/24", "192.0.2.1", "fe80::1"])], true),
        (&["eth0"], &[("eth0", &["192.0.2.9/24"]), ("eth1", &["192.0.2.1"])], false),
        (&["eth0"], &[("eth0", &["198.51.100.1/24"]), ("eth1", &["192.0.2.1/30"])], false),
        (&["eth0", "eth1"], &[("eth0", &["198.51.100.1/24"]), ("eth1", &["192.0.2.1/30"])], true),
    ];
    for (interfaces, links, unusable) in table {
        let mut world = world();
        world.nodes.remove("n2");
        world.config.l2_advertisements.get_mut("l2").unwrap().interfaces =
            interfaces.iter().map(|name| (*name).to_owned()).collect();
        let (mut plan, mut announced) = world.plan_of("n1");
        plan.set_links(links.iter().map(|(name, list)| ((*name).to_owned(), network(list))).collect());
        let changes = plan.changes();
        assert!(!changes.iter().any(|c| matches!(c, AnnouncementChange::L2Withdraw { handover: true, .. })));
        announced.carry_out(changes);
        let expected =
            if *unusable { not(NotAnnouncedReason::UnusableOnLink) } else { AnnouncementState::Announced };
        assert_eq!(plan.state(&key("web"), ip(A), Protocol::L2), Some(expected), "{links:?}");
        assert_eq!(announced.l2.contains_key(&ip(A)), !unusable, "{links:?}");
        assert_eq!(plan.problems().len(), usize::from(*unusable), "{links:?}");
        // BGP does not depend on the link.
        assert_eq!(plan.state(&key("web"), ip(A), Protocol::Bgp), Some(AnnouncementState::Announced));
        // Only the addresses that are concerned are elected again.
        plan.set_links([("eth0".to_owned(), network(&["203.0.113.9/24"]))].into());
        let before = plan.recomputed().elections;
        announced.carry_out(plan.changes());
        let restricted = !interfaces.is_empty();
        assert_eq!(plan.recomputed().elections - before, u64::from(*unusable || restricted), "{links:?}");
        let lacks = restricted && !interfaces.contains(&"eth0");
        assert!(announced.l2.contains_key(&ip(A)) || lacks, "{links:?}");
    }
}

#[test]
fn unadvertised_address_is_reported_once() {
    let mut world = world();
    world.config.l2_advertisements.clear();
    assert_eq!(world.plan_of("n1").0.problems().len(), 0);
    world.config.bgp_advertisements.clear();
    let (plan, _) = world.plan_of("n1");
    let problems: Vec<_> = plan.problems().collect();
    let expected = Problem {
        reason: NotAnnouncedReason::NoMatchingAdvertisement,
        service: std::sync::Arc::new(key("web")),
        address: ip(A),
        protocol: None,
    };
    assert_eq!(problems, [&expected]);
}

#[test]
fn problem_ends_with_the_service_or_its_address() {
    let mut world = world();
    world.config.pools.clear();
    let (mut plan, _) = world.plan_of("n1");
    assert_eq!(plan.problems().len(), 1);
    let service = world.services["web"].clone();
    plan.apply_service(key("web"), Service { addresses: Vec::new(), ..service.clone() });
    plan.changes();
    assert_eq!(plan.problems().len(), 0);
    plan.apply_service(key("web"), service);
    plan.changes();
    assert_eq!(plan.problems().len(), 1);
    plan.delete_service(&key("web"));
    plan.changes();
    assert_eq!(plan.problems().len(), 0);
}

#[test]
fn reasons_are_camel_case_words_with_a_message() {
    for reason in NotAnnouncedReason::ALL {
        let name = reason.to_string();
        assert!(name.chars().all(char::is_alphanumeric) && name.starts_with(char::is_uppercase), "{name}");
        assert!(reason.message().len() > 20, "{name}");
    }
}

#[test]
fn address_stays_announced_when_its_pool_is_refused() {
    let mut world = world();
    world.services.get_mut("web").unwrap().allocated_from = Some("main".into());
    let (mut plan, _) = world.plan_of("n1");
    let mut pool = world.config.pools.remove("main").unwrap();
    pool.ranges.clear();
    world.config.refused_pools.insert("main".to_owned(), pool);
    world.list_to(&mut plan);
    assert_eq!(plan.changes(), []);
    // Until the object is deleted.
    world.config.refused_pools.clear();
    world.list_to(&mut plan);
    plan.changes();
    assert_eq!(plan.state(&key("web"), ip(A), Protocol::Bgp), Some(not(NotAnnouncedReason::AddressInNoPool)));
}
