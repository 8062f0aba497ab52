//! Tables after MetalLB's `internal/allocator/allocator_test.go`. The comments name the tests of origin.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_crds::model::config::{Labels, Pool, ServiceAllocation};
use fairlead_crds::model::service::{LoadBalancer, TrafficPolicy};

use super::*;
use fairlead_test_support::*;

const V4: Families = Families::One(Family::V4);
const V6: Families = Families::One(Family::V6);
const DUAL: Families = Families::Both { first: Family::V4, required: true };

fn ipam(list: impl IntoIterator<Item = Pool>) -> Ipam {
    let mut ipam = Ipam::default();
    ipam.set_pools(&pools(list), &BTreeMap::new());
    ipam
}

fn request(service: &LoadBalancer) -> AllocationRequest<'_> {
    AllocationRequest {
        service: &service.key,
        labels: &service.labels,
        namespace_labels: None,
        sharing: Sharing::of(service),
    }
}

impl Ipam {
    fn allocate_any(&mut self, service: &LoadBalancer, families: Families) -> Option<Vec<IpAddr>> {
        self.allocate(&request(service), families).ok().map(|holding| holding.ips().collect())
    }

    /// Requests exactly these addresses, of one pool.
    fn assign_of_one_pool(
        &mut self,
        service: &LoadBalancer,
        addresses: &[IpAddr],
    ) -> Result<Holding, AllocationRefusal> {
        self.assign(&request(service), addresses, false).cloned()
    }
}

fn addresses(holding: &Holding) -> Vec<IpAddr> {
    holding.ips().collect()
}

/// MetalLB: `TestAssignment`, for one family. In each step one Service requests one address.
fn check_assignment(a: &str, b: &str, zero: &str, broadcast: &str, pool_ranges: [&str; 2]) {
    let mut second = pool("test2", &pool_ranges[1..]);
    second.avoid_buggy_ips = true;
    let mut ipam = ipam([pool("test1", &pool_ranges[..1]), second]);
    let (s1, s2) = (service("s1"), service("s2"));
    let shares = |name, key, port| sharing(name, key, &[port]);
    let local = |mut service: LoadBalancer, app: &str| {
        service.traffic_policy = TrafficPolicy::Local;
        service.selector = fairlead_crds::model::labels::PodSelector::from(&BTreeMap::from([(
            "app".to_owned(),
            app.to_owned(),
        )]));
        service
    };
    let is_v4 = ip(a).is_ipv4();
    #[rustfmt::skip]
    let steps = [
        ("assign s1", s1.clone(), a, true),
        ("s1 idempotent reassign", s1.clone(), a, true),
        ("s2 cannot get the address of s1", s2.clone(), a, false),
        ("s2 gets another address", s2.clone(), b, true),
        ("s1 releases its address", s1.clone(), "", true),
        ("s2 moves to the released address", s2.clone(), a, true),
        ("s1 gets the address that s2 left", s1.clone(), b, true),
        ("s1 cannot use .0", s1.clone(), zero, !is_v4),
        ("s1 cannot use .255", s1.clone(), broadcast, !is_v4),
        ("s1 changes its own sharing key as the only user", shares("s1", "sharing", 80), b, true),
        ("s2 with the same port cannot join", shares("s2", "sharing", 80), b, false),
        ("s2 with another key cannot join", shares("s2", "other", 443), b, false),
        ("s2 without a key cannot join", s2.clone(), b, false),
        ("s2 of policy Local cannot join Cluster", local(shares("s2", "sharing", 443), "web"), b, false),
        ("s2 with another port joins", shares("s2", "sharing", 443), b, true),
        ("s2 changes its port while it shares", shares("s2", "sharing", 444), b, true),
        ("s2 cannot take s1's port while it shares", shares("s2", "sharing", 80), b, false),
        ("s1 cannot change its key while it shares", shares("s1", "other", 80), b, false),
        ("s1 cannot change its policy while it shares", local(shares("s1", "sharing", 80), "web"), b, false),
        ("s2 moves away", shares("s2", "sharing", 444), a, true),
        ("s1 changes to Local as the only user", local(shares("s1", "sharing", 80), "web"), b, true),
        ("s2 Local with another selector cannot join", local(shares("s2", "sharing", 444), "db"), b, false),
        ("s2 Local with the same selector joins", local(shares("s2", "sharing", 444), "web"), b, true),
    ];
    for (what, service, address, allowed) in steps {
        if address.is_empty() {
            ipam.release(&service.key);
            continue;
        }
        if address == zero && allowed {
            // avoidBuggyIPs applies to IPv4 only.
            continue;
        }
        if address == broadcast && allowed {
            continue;
        }
        let result = ipam.assign_of_one_pool(&service, &[ip(address)]);
        assert_eq!(result.is_ok(), allowed, "{what}: {result:?}");
        ipam.assert_invariants();
    }
}

#[test]
fn requested_ipv4_address_is_assigned_if_available() {
    check_assignment("1.2.3.4", "1.2.3.5", "1.2.4.0", "1.2.4.255", ["1.2.3.4-1.2.3.7", "1.2.4.0-1.2.4.255"]);
}

#[test]
fn requested_ipv6_address_is_assigned_if_available() {
    check_assignment(
        "1000::4",
        "1000::5",
        "1000::100",
        "1000::1ff",
        ["1000::4-1000::7", "1000::100-1000::1ff"],
    );
}

#[test]
fn requested_addresses_of_two_pools_are_refused() {
    let mut ipam = ipam([
        pool("test1", &["1.2.3.4-1.2.3.7", "1000::4-1000::7"]),
        pool("test2", &["1.2.4.0-1.2.4.255", "1000::100-1000::1ff"]),
    ]);
    let s1 = service("s1");
    let dual = ipam.assign_of_one_pool(&s1, &ips(&["1.2.3.4", "1000::4"])).unwrap();
    assert_eq!(dual.pools(), ["test1".into()]);
    let of_two_pools = ips(&["1.2.3.4", "1000::100"]);
    assert_eq!(
        ipam.assign_of_one_pool(&s1, &of_two_pools),
        Err(AllocationRefusal::SeveralPools(of_two_pools.clone()))
    );
    assert_eq!(ipam.holding(&s1.key), Some(&dual), "a refusal does not change the holding");
    let taken_in_part = ipam.assign_of_one_pool(&service("s2"), &ips(&["1.2.3.5", "1000::4"]));
    assert!(
        matches!(taken_in_part, Err(AllocationRefusal::InUse { address, .. }) if address == ip("1000::4"))
    );
    ipam.assert_invariants();
}

#[test]
fn pool_of_other_namespace_is_refused() {
    let of = |priority, namespaces: &[&str]| pinned(pool("p", &["1.2.3.4"]), priority, namespaces);
    let cases = [
        ("same namespace", of(0, &["team"]), "team/s", true),
        ("different namespace", of(0, &["team"]), "other/s", false),
        ("priority alone does not restrict", of(7, &[]), "other/s", true),
    ];
    for (what, pool, name, allowed) in cases {
        let mut ipam = ipam([pool]);
        let service = service(name);
        assert_eq!(ipam.assign_of_one_pool(&service, &ips(&["1.2.3.4"])).is_ok(), allowed, "{what}");
        ipam.release(&service.key);
        assert_eq!(ipam.allocate_from(&request(&service), "p", V4).is_ok(), allowed, "{what}, pool named");
        ipam.release(&service.key);
        assert_eq!(ipam.allocate_any(&service, V4).is_some(), allowed, "{what}, automatic");
    }
}

/// MetalLB: `TestPoolAllocation`.
#[test]
fn named_pool_allocates_until_full() {
    for (ranges, families) in [
        (vec!["1.2.3.4-1.2.3.7"], V4),
        (vec!["1000::4-1000::7"], V6),
        (vec!["1.2.3.4-1.2.3.7", "1000::4-1000::7"], DUAL),
    ] {
        let mut ipam = ipam([pool("other", &["9.9.9.9", "9::9"]), pool("test", &ranges)]);
        let mut get =
            |service: &LoadBalancer| ipam.allocate_from(&request(service), "test", families).map(addresses);
        for n in 1..=4 {
            assert!(get(&sharing(&format!("s{n}"), "share", &[80])).is_ok(), "s{n}");
        }
        assert!(matches!(get(&service("s5")), Err(AllocationRefusal::Exhausted { .. })), "s5 is refused");
        assert!(matches!(get(&service("s6")), Err(AllocationRefusal::Exhausted { .. })), "s6 is refused");
        ipam.release(&key("s2"));
        let mut get =
            |service: &LoadBalancer| ipam.allocate_from(&request(service), "test", families).map(addresses);
        assert!(get(&service("s5")).is_ok(), "s5 gets the released address");
        assert!(get(&service("s6")).is_err(), "s6 is still refused");
        assert!(get(&sharing("s6", "other", &[443])).is_err(), "s6 with another key is refused");
        assert!(get(&sharing("s6", "share", &[443])).is_ok(), "s6 joins s1");
        assert!(
            get(&sharing("s7", "share", &[443, 80])).is_err(),
            "s7 is refused: its ports are in use on every address"
        );
        ipam.assert_invariants();
    }
}

/// MetalLB: `TestAllocation`.
#[test]
fn pool_without_auto_assign_is_never_chosen() {
    let mut manual = pool("a-manual", &["9.9.9.0-9.9.9.255", "9::-9::ff"]);
    manual.auto_assign = false;
    let mut ipam = ipam([
        manual,
        pool("test1", &["1.2.3.4-1.2.3.5", "1000::4-1000::5"]),
        pool("test2", &["1.2.3.10-1.2.3.11", "1000::10-1000::11"]),
    ]);
    let mut given = Vec::new();
    for n in 1..=5 {
        given.push(ipam.allocate_any(&service(&format!("s{n}")), V4));
    }
    let expected = ["1.2.3.4", "1.2.3.5", "1.2.3.10", "1.2.3.11"].map(|a| Some(ips(&[a])));
    assert_eq!(given[..4], expected);
    assert_eq!(given[4], None);
    assert_eq!(ipam.allocate_any(&service("d"), DUAL), None);
    ipam.release(&key("s4"));
    assert_eq!(ipam.allocate_any(&service("d"), DUAL), Some(ips(&["1.2.3.11", "1000::10"])));
    ipam.assert_invariants();
}

/// MetalLB: `TestBuggyIPs`.
#[test]
fn buggy_addresses_are_not_allocated() {
    let mut careful = pool("test3", &["1.2.3.254-1.2.4.1"]);
    careful.avoid_buggy_ips = true;
    let mut ipam =
        ipam([pool("test1", &["1.2.2.0-1.2.2.1"]), pool("test2", &["1.2.2.254-1.2.2.255"]), careful]);
    let given: Vec<_> =
        (1..8).filter_map(|n| ipam.allocate_any(&service(&format!("s{n}")), V4)).flatten().collect();
    assert_eq!(given, ips(&["1.2.2.0", "1.2.2.1", "1.2.2.254", "1.2.2.255", "1.2.3.254", "1.2.4.1"]));
}

/// MetalLB: `TestConfigReload`.
#[test]
fn edited_pool_keeps_or_evicts_holder() {
    let held = ips(&["1.2.3.0", "1000::"]);
    let avoiding = |mut pool: Pool| {
        pool.avoid_buggy_ips = true;
        pool
    };
    let split = |one: &[&str], other: &[&str]| vec![pool("test", one), pool("test2", other)];
    let start = || pool("test", &["1.2.3.0-1.2.3.255", "1000::-1000::ff"]);
    #[rustfmt::skip]
    let cases = [
        ("same config is no-op", vec![start()], Some("test")),
        ("expand pool", vec![pool("test", &["1.2.2.0-1.2.3.255", "1000::-1000::ffff"])], Some("test")),
        ("shrink pool", vec![pool("test", &["1.2.3.0-1.2.3.3", "1000::-1000::3"])], Some("test")),
        ("remove IPv4 address", vec![pool("test", &["1.2.3.128-1.2.3.255", "1000::-1000::ff"])], None),
        ("remove IPv6 address", vec![pool("test", &["1.2.3.0-1.2.3.255", "1000::f0-1000::ff"])], None),
        ("rename the pool", vec![pool("test2", &["1.2.3.0-1.2.3.255", "1000::-1000::ff"])], Some("test2")),
        (
            "split pool",
            split(&["1.2.3.0-1.2.3.127", "1000::-1000::7f"], &["1.2.3.128-1.2.3.255", "1000::80-1000::ff"]),
            Some("test"),
        ),
        ("split by family", split(&["1.2.3.0-1.2.3.255"], &["1000::-1000::ff"]), Some("test,test2")),
        ("avoid buggy addresses", vec![avoiding(start())], None),
        ("delete the pool", vec![pool("other", &["5.6.7.8"])], None),
    ];
    for (what, new, keeps_in) in cases {
        let mut ipam = ipam([start()]);
        let s = sharing("s", "key", &[80]);
        ipam.assign_of_one_pool(&s, &held).unwrap();
        let changes = ipam.set_pools(&pools(new), &BTreeMap::new());
        ipam.assert_invariants();
        let now = ipam.holding(&s.key);
        assert_eq!(now.map(|h| h.pools().join(",")).as_deref(), keeps_in, "{what}");
        assert_eq!(changes.evicted.len(), usize::from(keeps_in.is_none()), "{what}");
        assert!(now.is_none_or(|h| addresses(h) == held), "{what}");
        assert_eq!(changes.any, what != "same config is no-op");
        if keeps_in.is_some() {
            let other = ipam.allocate_any(&service("other"), V4).unwrap();
            assert_ne!(other, held[..1], "{what}: a held address is not free");
        }
    }
}

/// MetalLB: `TestAutoAssign`.
#[test]
fn pool_without_auto_assign_serves_services_that_name_it() {
    let mut manual = pool("test1", &["1.2.3.4-1.2.3.7"]);
    manual.auto_assign = false;
    let mut ipam = ipam([manual]);
    let s = service("s");
    let refusal = ipam.allocate(&request(&s), V4).unwrap_err();
    assert!(matches!(refusal, AllocationRefusal::NoPoolMatches(why) if why.len() == 1));
    assert_eq!(addresses(ipam.allocate_from(&request(&s), "test1", V4).unwrap()), ips(&["1.2.3.4"]));
}

#[test]
fn pools_are_tried_by_priority_then_name() {
    let one = |name, n: u8| pool(name, &[&format!("10.0.0.{n}")]);
    let mut ipam = ipam([
        one("a-unrestricted", 1),
        pinned(one("b", 2), 0, &[]),
        pinned(one("c", 3), 10, &[]),
        pinned(one("e", 5), 10, &["default"]),
        pinned(one("d", 4), 10, &[]),
        pinned(one("f", 6), 1, &[]),
        pinned(one("elsewhere", 7), 1, &["other"]),
    ]);
    let order: Vec<_> = (0..9)
        .filter_map(|n| Some(ipam.allocate(&request(&service(&format!("s{n}"))), V4).ok()?.pools().join(",")))
        .collect();
    assert_eq!(order, ["f", "c", "d", "e", "b", "a-unrestricted"]);
}

#[test]
fn pool_with_unmatched_restrictions_admits_no_service() {
    let mut tenant = pool("tenant", &["10.0.0.1"]);
    let selector = fairlead_test_support::selector("team", "blue");
    tenant.allocation =
        Some(ServiceAllocation { namespace_selectors: vec![selector], ..ServiceAllocation::default() });
    let mut ipam = ipam([tenant]);
    let s = service("s");
    let closed = Err(AllocationRefusal::NotAdmitted(
        "tenant".into(),
        "is open only to namespaces with labels team=blue".into(),
    ));
    assert_eq!(ipam.assign_of_one_pool(&s, &ips(&["10.0.0.1"])), closed);
    assert_eq!(ipam.allocate_from(&request(&s), "tenant", V4).cloned(), closed);
    assert_eq!(ipam.allocate_any(&s, V4), None);
    let blue = labels(&[("team", "blue")]);
    let open = AllocationRequest { namespace_labels: Some(&blue), ..request(&s) };
    assert!(ipam.allocate(&open, V4).is_ok());
}

/// MetalLB: `TestPoolMetrics`.
#[test]
fn counts_include_shared_address_once() {
    let mut ipam = ipam([pool("p", &["1.2.3.4-1.2.3.7", "1000::4-1000::7"])]);
    let assigned = |ipam: &Ipam| [Family::V4, Family::V6].map(|f| ipam.counts("p", f).assigned);
    ipam.assign_of_one_pool(&sharing("s1", "k", &[80]), &ips(&["1.2.3.4"])).unwrap();
    assert_eq!(assigned(&ipam), [1, 0]);
    ipam.assign_of_one_pool(&sharing("s2", "k", &[81]), &ips(&["1.2.3.4"])).unwrap();
    assert_eq!(assigned(&ipam), [1, 0]);
    ipam.assign_of_one_pool(&service("s3"), &ips(&["1.2.3.5", "1000::4"])).unwrap();
    assert_eq!(assigned(&ipam), [2, 1]);
    assert_eq!(ipam.counts("p", Family::V4).available, 2);
    ipam.release(&key("s1"));
    ipam.release(&key("s3"));
    assert_eq!(assigned(&ipam), [1, 0]);
    ipam.release(&key("s2"));
    assert_eq!(assigned(&ipam), [0, 0]);
}

#[test]
fn changes_report_free_and_joinable_addresses() {
    let mut ipam = ipam([pool("p", &["1.2.3.4-1.2.3.7"])]);
    let (s1, s2) = (sharing("s1", "k", &[80]), sharing("s2", "k", &[81]));
    ipam.allocate_any(&s1, V4);
    ipam.allocate_any(&s2, V4);
    ipam.take_changes();
    ipam.assign_of_one_pool(&s2, &ips(&["1.2.3.4"])).unwrap();
    assert_eq!(ipam.take_changes(), [], "an equal holding is no change");
    ipam.release(&s1.key);
    let change = ipam.take_changes().pop().unwrap();
    assert!(!change.free && change.shared.is_some());
    ipam.release(&s2.key);
    let change = ipam.take_changes().pop().unwrap();
    assert!(change.free && change.shared.is_none());
}

#[test]
fn reserved_address_is_refused_to_other_services() {
    let mut ipam = ipam([pool("p", &["1.2.3.4-1.2.3.5"])]);
    let (s1, s2, s3) = (sharing("s1", "k", &[80]), sharing("s2", "k", &[81]), sharing("s3", "k", &[82]));
    ipam.allocate_any(&s1, V4);
    ipam.release(&s1.key);
    ipam.reserve(ip("1.2.3.4"), &s1.key);
    ipam.take_changes();
    assert_eq!(ipam.allocate_any(&s2, V4), Some(ips(&["1.2.3.5"])), "the first is not free");
    assert!(matches!(ipam.assign_of_one_pool(&s3, &ips(&["1.2.3.4"])), Err(AllocationRefusal::InUse { .. })));
    assert!(ipam.assign_of_one_pool(&s1, &ips(&["1.2.3.4"])).is_ok(), "s1 gets its reserved address");
    assert_eq!(ipam.allocate_any(&s3, V4), Some(ips(&["1.2.3.5"])), "no Service joins a reserved address");
    assert!(ipam.assign_of_one_pool(&s1, &ips(&["1.2.3.4"])).is_ok(), "the holder keeps it");
    ipam.assert_invariants();
    ipam.release(&s1.key);
    ipam.set_pools(&pools([pool("q", &["1.2.3.0-1.2.3.9"])]), &BTreeMap::new());
    assert_eq!(ipam.counts("q", Family::V4).available, 8, "reservations survive changes of pools");
    ipam.take_changes();
    ipam.unreserve(ip("1.2.3.4"), &s1.key);
    assert!(ipam.take_changes().pop().unwrap().free);
    assert_eq!(ipam.counts("q", Family::V4).available, 9);
    ipam.assert_invariants();
}

#[test]
fn refusal_messages_name_obstacle() {
    let mut ipam = ipam([pool("small", &["1.2.3.4"]), pool("six", &["1000::1"])]);
    ipam.allocate_any(&service("shop/web"), V4);
    let late = service("late");
    let cases = [
        (ipam.clone().assign_of_one_pool(&late, &ips(&["1.2.3.4"])), "1.2.3.4 is in use by Service shop/web"),
        (
            ipam.clone().assign_of_one_pool(&late, &ips(&["5.5.5.5"])),
            "5.5.5.5 is in no IPAddressPool, or avoidBuggyIPs excludes it",
        ),
        (ipam.clone().allocate(&request(&late), V4).cloned(), "no free IPv4 address in IPAddressPool small"),
        (
            ipam.clone().allocate(&request(&late), DUAL).cloned(),
            "no free IPv4 and IPv6 address in IPAddressPools six, small",
        ),
        (
            ipam.clone().allocate_from(&request(&late), "six", DUAL).cloned(),
            "an IPv4 and an IPv6 address are required, but not available in IPAddressPool six",
        ),
        (
            ipam.clone().allocate_from(&request(&late), "none", V4).cloned(),
            "IPAddressPool none does not exist",
        ),
        (Ipam::default().allocate(&request(&late), V4).cloned(), "there is no IPAddressPool"),
    ];
    for (result, message) in cases {
        assert_eq!(result.unwrap_err().to_string(), message);
    }
}

/// Returns the number of pools that are tried for each of these requests, with `n` pools of each sort that do
/// not match.
fn visited(n: u32) -> Vec<(&'static str, u64)> {
    let number = |i: u32| format!("{}.{}", i / 256, i % 256);
    let selector = |label: &str, value: &str| {
        let labels =
            BTreeMap::from([("team".to_owned(), "x".to_owned()), (label.to_owned(), value.to_owned())]);
        let selector = k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
            match_labels: Some(labels),
            ..Default::default()
        };
        fairlead_crds::model::selector::Selector::try_from(&selector).unwrap()
    };
    let mut list = vec![pool("z-last", &["1.0.0.0-1.0.255.255", "1::-1::ffff"])];
    for i in 0..n {
        list.push(pool(&format!("full-{i}"), &[&format!("2.0.{}", number(i))]));
        list.push(pool(&format!("v6-{i}"), &[&format!("2::{i:x}")]));
        list.push(pinned(
            pool(&format!("team-{i}"), &[&format!("3.0.{}", number(i))]),
            1,
            &[&format!("t{i}")],
        ));
        let mut labeled = pool(&format!("label-{i}"), &[&format!("4.0.{}", number(i))]);
        labeled.allocation = Some(ServiceAllocation {
            service_selectors: vec![selector("app", &format!("a{i}"))],
            ..ServiceAllocation::default()
        });
        list.push(labeled);
        let mut of_namespace = pool(&format!("namespace-{i}"), &[&format!("5.0.{}", number(i))]);
        of_namespace.allocation = Some(ServiceAllocation {
            namespace_selectors: vec![selector("ns", &format!("n{i}"))],
            ..ServiceAllocation::default()
        });
        list.push(of_namespace);
        let mut closed = pool(&format!("closed-{i}"), &[&format!("6.0.{}", number(i))]);
        closed.closed = Some(fairlead_crds::model::config::Closed::Disabled);
        list.push(closed);
    }
    let mut ipam = ipam(list);
    for i in 0..n {
        // All use one port, so none of their addresses can be shared by another one.
        let mut service = sharing(&format!("holder-{i}"), "key", &[80]);
        service.labels = Labels::new();
        ipam.assign(&request(&service), &[ip(&format!("2.0.{}", number(i)))], false).unwrap();
    }
    let mut steps = Vec::new();
    let mut step = |what, service: &LoadBalancer, families, expected: &str| {
        let before = selection::VISITED.get();
        let given = ipam.allocate_any(service, families).map(|ips| ips[0].to_string());
        steps.push((what, selection::VISITED.get() - before));
        assert_eq!(given.unwrap_or_default(), expected, "{what}");
    };
    step("any", &service("s1"), V4, "1.0.0.0");
    step("both families", &service("s2"), DUAL, "1.0.0.1");
    step("shares", &sharing("s3", "key", &[80]), V4, "1.0.0.2");
    let mut team = service("s4");
    team.key.namespace = "t1".to_owned();
    step("namespace", &team, V4, "3.0.0.1");
    team.key.name = "s5".to_owned();
    step("full", &team, V4, "1.0.0.3");
    let labeled = LoadBalancer { labels: labels(&[("team", "x"), ("app", "a1")]), ..service("s6") };
    step("labels", &labeled, V4, "4.0.0.1");
    steps
}

#[test]
fn allocation_tries_only_pools_that_match() {
    let few = visited(4);
    assert!(few.iter().all(|(_, count)| *count <= 3), "{few:?}");
    assert_eq!(visited(1_000), few);
}
