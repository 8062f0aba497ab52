//! After any sequence of events, a plan that followed them by differences announces the same as a fresh plan,
//! and all nodes with the same inputs elect the same owner.

use fairlead_crds::model::config::{Community, LinkBandwidth, PeerAsn};
use fairlead_crds::model::route_request::{RouteRequest, ServiceAttributes};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// An event in the cluster.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "a value of a test")]
enum Step {
    Service(usize, Vec<&'static str>, bool, Option<&'static str>),
    DeleteService(usize),
    Endpoints(usize, Vec<&'static str>),
    NodeState(&'static str, bool, bool),
    NodeLabel(&'static str, &'static str),
    DeleteNode(&'static str),
    Live(Option<BTreeSet<&'static str>>),
    /// Interfaces of a node, in the form of [`served`].
    Interfaces(&'static str, &'static str),
    L2(&'static str, Option<L2Advertisement>),
    Bgp(&'static str, Option<BgpAdvertisement>),
    Peer(&'static str, Option<Peer>),
    Pool(&'static str, bool),
    /// The pool is refused; its ranges are valid or not.
    Refuse(&'static str, bool),
    /// The changes of the plans are carried out.
    CarryOut,
    /// Every kind is listed again.
    Relist,
}

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const ADDRESSES: [&str; 5] = ["192.0.2.1", "192.0.2.2", "192.0.2.130", "2001:db8::1", "198.51.100.1"];
const INTERFACES: [&str; 5] = ["", "eth-a", "eth-a/v4 eth-b/v6", "eth-b", "eth-a eth-b"];
const LABELS: [&str; 3] = ["zone=a", "zone=b", ""];

fn some_selectors() -> impl Strategy<Value = Vec<Selector>> {
    prop_oneof![
        3 => Just(vec![]),
        1 => Just(vec![selector("zone=a")]),
        1 => Just(vec![selector("zone=a"), selector("zone=b")]),
    ]
}

fn service_selectors() -> impl Strategy<Value = Vec<Selector>> {
    prop_oneof![3 => Just(vec![]), 1 => Just(vec![selector("app=s0")])]
}

fn pools() -> impl Strategy<Value = PoolSelection> {
    prop_oneof![
        2 => Just(PoolSelection::default()),
        1 => Just(PoolSelection { names: ["main".to_owned()].into(), selectors: vec![] }),
        1 => Just(PoolSelection { names: BTreeSet::new(), selectors: vec![selector("pool=second")] }),
    ]
}

fn l2_ads(name: &'static str) -> impl Strategy<Value = L2Advertisement> {
    (pools(), some_selectors(), service_selectors(), any::<bool>(), any::<bool>()).prop_map(
        move |(pools, node_selectors, service_selectors, prefer, restrict)| L2Advertisement {
            pools,
            node_selectors,
            service_selectors,
            preferred_nodes: if prefer { vec![(10, selector("zone=b"))] } else { vec![] },
            interfaces: if restrict { [format!("eth-{name}")].into() } else { BTreeSet::new() },
            ..l2_advertisement(name)
        },
    )
}

fn bgp_ads(name: &'static str) -> impl Strategy<Value = BgpAdvertisement> {
    let peers = prop_oneof![Just(BTreeSet::new()), Just(["p1".to_owned()].into())];
    let local_pref = prop_oneof![3 => Just(None), 1 => Just(Some(200))];
    (pools(), some_selectors(), service_selectors(), peers, any::<bool>(), local_pref, 0..3u16).prop_map(
        move |(pools, node_selectors, service_selectors, peers, aggregate, local_pref, community)| {
            BgpAdvertisement {
                pools,
                node_selectors,
                service_selectors,
                peers,
                aggregation_length: if aggregate { 25 } else { 32 },
                local_pref,
                communities: [Community::Standard(64512, community)].into(),
                service_attributes: (!aggregate)
                    .then(|| ServiceAttributes { med: community > 0, ..ServiceAttributes::default() }),
                ..bgp_advertisement(name)
            }
        },
    )
}

fn peers(name: &'static str, address: &'static str) -> impl Strategy<Value = Peer> {
    (some_selectors(), any::<bool>()).prop_map(move |(node_selectors, dual)| Peer {
        node_selectors,
        dual_stack_address_family: dual,
        link_bandwidth: dual.then_some(LinkBandwidth { megabits_per_endpoint: 10, transitive: true }),
        ..peer(name, address)
    })
}

fn step() -> impl Strategy<Value = Step> {
    let nodes = || proptest::collection::vec(select(NODES.to_vec()), 0..3);
    let endpoints = [&NODES[..], &["n1/v4", "n2/v6", "n1!", "n3!"]].concat();
    let endpoints = proptest::collection::vec(select(endpoints), 0..3);
    let addresses = proptest::collection::vec(select(ADDRESSES.to_vec()), 0..3);
    prop_oneof![
        6 => (0..4usize, addresses, any::<bool>(), proptest::option::of(select(vec!["main", "second"])))
            .prop_map(|(n, a, local, from)| Step::Service(n, a, local, from)),
        2 => (0..4usize).prop_map(Step::DeleteService),
        6 => (0..4usize, endpoints).prop_map(|(n, nodes)| Step::Endpoints(n, nodes)),
        2 => (select(NODES.to_vec()), any::<bool>(), any::<bool>())
            .prop_map(|(n, excluded, unavailable)| Step::NodeState(n, excluded, unavailable)),
        2 => (select(NODES.to_vec()), select(LABELS.to_vec())).prop_map(|(n, l)| Step::NodeLabel(n, l)),
        1 => select(NODES.to_vec()).prop_map(Step::DeleteNode),
        3 => proptest::option::weighted(0.9, nodes().prop_map(|n| n.into_iter().collect()))
            .prop_map(Step::Live),
        4 => (select(NODES.to_vec()), select(INTERFACES.to_vec()))
            .prop_map(|(n, interfaces)| Step::Interfaces(n, interfaces)),
        2 => proptest::option::weighted(0.8, l2_ads("a")).prop_map(|ad| Step::L2("a", ad)),
        1 => proptest::option::weighted(0.8, l2_ads("b")).prop_map(|ad| Step::L2("b", ad)),
        2 => proptest::option::weighted(0.8, bgp_ads("a")).prop_map(|ad| Step::Bgp("a", ad)),
        1 => proptest::option::weighted(0.8, bgp_ads("b")).prop_map(|ad| Step::Bgp("b", ad)),
        1 => proptest::option::weighted(0.8, peers("p1", "203.0.113.1")).prop_map(|p| Step::Peer("p1", p)),
        1 => proptest::option::weighted(0.8, peers("p2", "2001:db8:9::1")).prop_map(|p| Step::Peer("p2", p)),
        // Has the address of p1, as if that had been renamed.
        1 => proptest::option::weighted(0.5, peers("p3", "203.0.113.1")).prop_map(|p| Step::Peer("p3", p)),
        1 => (select(vec!["main", "second"]), any::<bool>()).prop_map(|(n, exists)| Step::Pool(n, exists)),
        1 => (select(vec!["main", "second"]), any::<bool>())
            .prop_map(|(n, valid_ranges)| Step::Refuse(n, valid_ranges)),
        5 => Just(Step::CarryOut),
        1 => Just(Step::Relist),
    ]
}

/// Changes the world and passes only the change to the plans.
fn apply(world: &mut World, plans: &mut [(Plan, Announced)], step: Step) {
    let each = |plans: &mut [(Plan, Announced)], event: &dyn Fn(&mut Plan)| {
        plans.iter_mut().for_each(|(plan, _)| event(plan));
    };
    match step {
        Step::Service(n, addresses, local, from) => {
            let name = format!("s{n}");
            let policy = if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            let service = Service {
                labels: labels(&format!("app={name}")),
                traffic_policy: policy,
                addresses: addresses.into_iter().map(ip).collect(),
                allocated_from: from.map(Box::from),
                route_request: local.then(|| RouteRequest { med: Some(7), ..RouteRequest::default() }.into()),
            };
            each(plans, &|plan| plan.apply_service(key(&name), service.clone()));
            world.services.insert(name, service);
        }
        Step::DeleteService(n) => {
            let name = format!("s{n}");
            each(plans, &|plan| plan.delete_service(&key(&name)));
            world.services.remove(&name);
        }
        Step::Endpoints(n, nodes) => {
            let name = format!("s{n}");
            if nodes.is_empty() {
                world.endpoints.remove(&name);
                let slices = world.slices(&name);
                each(plans, &|plan| slices.iter().for_each(|(key, _)| plan.delete_slice(key)));
            } else {
                world.endpoints.insert(name.clone(), nodes.into_iter().map(str::to_owned).collect());
                for (key, slice) in world.slices(&name) {
                    each(plans, &|plan| plan.apply_slice(key.clone(), slice.clone()));
                }
            }
        }
        Step::NodeState(name, excluded, network_unavailable) => {
            let node = world.nodes.entry(name.to_owned()).or_default();
            (node.excluded, node.network_unavailable) = (excluded, network_unavailable);
            let node = node.clone();
            each(plans, &|plan| plan.apply_node(name.into(), node.clone()));
        }
        Step::NodeLabel(name, text) => {
            let node = world.nodes.entry(name.to_owned()).or_default();
            node.labels = labels(text);
            let node = node.clone();
            each(plans, &|plan| plan.apply_node(name.into(), node.clone()));
        }
        Step::DeleteNode(name) => {
            world.nodes.remove(name);
            each(plans, &|plan| plan.delete_node(name));
        }
        Step::Live(live) => {
            world.live = live.map(|names| names.into_iter().map(str::to_owned).collect());
            each(plans, &|plan| plan.set_live(world.live_names().as_ref()));
        }
        Step::Interfaces(name, interfaces) => {
            world.interfaces.insert(name.to_owned(), interfaces);
            each(plans, &|plan| world.set_interfaces(plan));
        }
        Step::L2(name, ad) => set(&mut world.config.l2_advertisements, name, ad),
        Step::Bgp(name, ad) => set(&mut world.config.bgp_advertisements, name, ad),
        Step::Peer(name, peer) => set(&mut world.config.peers, name, peer),
        Step::Pool(name, exists) => {
            let all = World::of(0).pool("second", &["198.51.100.0-198.51.100.255"]).config.pools;
            world.config.refused_pools.remove(name);
            set(&mut world.config.pools, name, all.get(name).filter(|_| exists).cloned());
        }
        Step::Refuse(name, valid_ranges) => {
            if let Some(mut pool) = world.config.pools.remove(name) {
                pool.ranges.retain(|_| valid_ranges);
                world.config.refused_pools.insert(name.to_owned(), pool);
            }
        }
        Step::CarryOut => {
            for (plan, announced) in plans.iter_mut() {
                announced.carry_out(plan.changes());
            }
        }
        Step::Relist => each(plans, &|plan| world.list_to(plan)),
    }
    each(plans, &|plan| plan.set_config(&world.config));
}

fn set<V>(map: &mut BTreeMap<String, V>, name: &str, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(name.to_owned(), value)),
        None => drop(map.remove(name)),
    }
}

/// Returns a cluster with announcements that the steps can disturb.
fn start() -> World {
    let mut dual = peer("p1", "203.0.113.1");
    dual.dual_stack_address_family = true;
    World::of(3)
        .pool("second", &["198.51.100.0-198.51.100.255"])
        .peer(dual)
        .l2(l2_advertisement("a"))
        .bgp(bgp_advertisement("a"))
        .service("s0", TrafficPolicy::Cluster, "192.0.2.1 2001:db8::1", "n1")
        .service("s1", TrafficPolicy::Local, "192.0.2.2", "n1 n2")
}

fn states(
    world: &World,
    plan: &Plan,
) -> Vec<(String, IpAddr, Option<AnnouncementState>, Option<AnnouncementState>)> {
    let mut all = Vec::new();
    for (name, service) in &world.services {
        for address in &service.addresses {
            let state = |protocol| plan.state(&key(name), *address, protocol);
            all.push((name.clone(), *address, state(Protocol::L2), state(Protocol::Bgp)));
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn differences_lead_to_the_same_plan_as_a_fresh_start(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = start();
        let mut plans: Vec<_> = NODES.iter().map(|node| world.plan_of(node)).collect();
        for step in steps {
            apply(&mut world, &mut plans, step);
        }
        apply(&mut world, &mut plans, Step::CarryOut);
        for (node, (plan, announced)) in NODES.iter().zip(&plans) {
            let (fresh, expected) = world.plan_of(node);
            prop_assert_eq!(announced, &expected, "{}", node);
            prop_assert_eq!(states(&world, plan), states(&world, &fresh), "{}", node);
            prop_assert_eq!(plan.problems().collect::<Vec<_>>(), fresh.problems().collect::<Vec<_>>());
            prop_assert_eq!(plan.l2_announced(), announced.l2.len());
            let prefixes: BTreeSet<_> = announced.routes.keys().map(|(_, prefix)| prefix).collect();
            prop_assert_eq!(plan.bgp_announced(), prefixes.len());
        }
    }

    #[test]
    fn added_advertisement_removes_no_route(
        ads in proptest::collection::vec(bgp_ads("ad"), 1..4),
        added in bgp_ads("added"),
        internal in any::<bool>(),
    ) {
        let mut world = start();
        if internal {
            world.config.peers.get_mut("p1").unwrap().peer_asn = PeerAsn::Internal;
        }
        for (n, ad) in ads.into_iter().enumerate() {
            let name = format!("ad{n}");
            world.config.bgp_advertisements.insert(name.clone(), BgpAdvertisement { name, ..ad });
        }
        for node in NODES {
            let (plan, Announced { routes: before, .. }) = world.plan_of(node);
            let mut more = world.clone();
            more.config.bgp_advertisements.insert("added".to_owned(), added.clone());
            let after = more.plan_of(node).1.routes;
            // Host routes can take the place of an aggregate.
            let served = states(&world, &plan).into_iter().filter_map(|(_, address, _, state)| {
                (state == Some(AnnouncementState::Announced)).then_some(address)
            });
            let served: Vec<IpAddr> = served.collect();
            let is_covered = |peer: &str, address: &IpAddr| {
                after.keys().any(|(other, prefix)| other == peer && prefix.contains(address))
            };
            let removed: Vec<_> = before
                .keys()
                .filter(|route| !after.contains_key(*route))
                .filter(|(peer, prefix)| {
                    let mut members = served.iter().filter(|address| prefix.contains(*address)).peekable();
                    members.peek().is_none() || !members.all(|address| is_covered(peer, address))
                })
                .collect();
            prop_assert!(removed.is_empty(), "{}: {:?}", node, removed);
        }
    }

    /// A router chooses the longest prefix, and then any of the nodes that announce it.
    #[test]
    fn no_route_leads_to_a_node_that_does_not_serve(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = start();
        for step in steps {
            apply(&mut world, &mut [], step);
        }
        // Without an announcement to a peer, the aggregate of another Service may attract traffic from it.
        world.config.bgp_advertisements.values_mut().for_each(|ad| ad.peers.clear());
        let nodes: Vec<_> = NODES.iter().map(|node| (*node, world.plan_of(node))).collect();
        for (name, service) in &world.services {
            for address in &service.addresses {
                let announces = |(_, (plan, _)): &(&str, (Plan, Announced))| {
                    plan.state(&key(name), *address, Protocol::Bgp) == Some(AnnouncementState::Announced)
                };
                // A node that the advertisement of the Service does not select can serve, too.
                let family = if address.is_ipv4() { "/v4" } else { "/v6" };
                let endpoints = world.endpoints.get(name).into_iter().flatten();
                let with_endpoint: Vec<_> =
                    endpoints.map(|endpoint| endpoint.strip_suffix(family).unwrap_or(endpoint)).collect();
                let serves = |node: &(&str, (Plan, Announced))| {
                    announces(node)
                        || service.traffic_policy == TrafficPolicy::Cluster
                        || with_endpoint.contains(&node.0)
                };
                let is_shared = world.services.values().any(|other| {
                    !std::ptr::eq(other, service) && other.addresses.contains(address)
                });
                if is_shared || !nodes.iter().any(announces) {
                    continue;
                }
                for peer in world.config.peers.keys() {
                    let leads = |(to, prefix): &&(String, IpNet)| to == peer && prefix.contains(address);
                    let routes = nodes.iter().flat_map(|node| {
                        let prefixes = node.1.1.routes.keys().filter(leads);
                        prefixes.map(move |(_, prefix)| (prefix.prefix_len(), node))
                    });
                    let routes: Vec<_> = routes.collect();
                    // To a router without a session with such a node, the aggregate of another Service is all
                    // that is announced.
                    if !routes.iter().any(|(_, node)| announces(node)) {
                        continue;
                    }
                    let longest = routes.iter().map(|(length, _)| *length).max();
                    for (length, node) in &routes {
                        prop_assert!(
                            Some(*length) != longest || serves(node),
                            "{} of {}: {} to {}", address, name, node.0, peer
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn each_address_has_one_live_and_eligible_owner(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = start();
        let mut plans: Vec<_> = NODES.iter().map(|node| world.plan_of(node)).collect();
        for step in steps {
            apply(&mut world, &mut plans, step);
        }
        // Each speaker counts itself as live; with all of them live, every node of this test sees the same.
        let live = NODES.iter().map(|node| (*node).to_owned()).collect();
        world.live = Some(live);
        plans.iter_mut().for_each(|(plan, _)| plan.set_live(world.live_names().as_ref()));
        apply(&mut world, &mut plans, Step::CarryOut);
        for address in ADDRESSES.map(ip) {
            let owners: BTreeSet<_> = plans.iter().map(|(plan, _)| plan.owner(address)).collect();
            prop_assert!(owners.len() == 1, "{}: {:?}", address, owners);
            let announces = |(_, (_, announced)): &(&&str, &(Plan, Announced))| {
                announced.l2.contains_key(&address)
            };
            let announcing: Vec<_> =
                NODES.iter().zip(&plans).filter(announces).map(|(node, _)| *node).collect();
            let able = |node: &str, set: &InterfaceSet| {
                let interfaces = world.interfaces.get(node).map(|text| served(text));
                interfaces.is_none_or(|interfaces| {
                    interfaces.iter().any(|(name, families)| families.serves(address) && set.contains(name))
                })
            };
            for (node, (_, announced)) in NODES.iter().zip(&plans) {
                prop_assert!(announced.l2.get(&address).is_none_or(|set| able(node, set)), "{}", node);
            }
            prop_assert_eq!(announcing, owners.into_iter().flatten().collect::<Vec<_>>(), "{}", address);
        }
        for node in NODES {
            let usable = world.nodes.get(node).is_some_and(Node::usable);
            let (_, announced) = world.plan_of(node);
            prop_assert!(usable || (announced.l2.is_empty() && announced.routes.is_empty()));
        }
    }
}
