//! Tables after MetalLB's `internal/allocator/allocator_test.go`, named alike.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_crds::model::config::{Pool, ServiceAllocation};
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
    fn gets(&mut self, service: &LoadBalancer, families: Families) -> Option<Vec<IpAddr>> {
        self.allocate(&request(service), families).ok().map(|holding| holding.ips().collect())
    }

    /// Asks for exactly these addresses, of one pool.
    fn asks(&mut self, service: &LoadBalancer, addresses: &[IpAddr]) -> Result<Holding, AllocationRefusal> {
        self.assign(&request(service), addresses, false).cloned()
    }
}

/// Addresses of a holding.
fn of(holding: &Holding) -> Vec<IpAddr> {
    holding.ips().collect()
}

/// MetalLB: `TestAssignment`, for one family. Each step is one Service that asks for one address.
fn assignment(a: &str, b: &str, zero: &str, broadcast: &str, pool_ranges: [&str; 2]) {
    let mut second = pool("test2", &pool_ranges[1..]);
    second.avoid_buggy_ips = true;
    let mut ipam = ipam([pool("test1", &pool_ranges[..1]), second]);
    let (s1, s2) = (service("s1"), service("s2"));
    let shares = |name, key, port| sharing(name, key, &[port]);
    let local = |mut service: LoadBalancer, app| {
        service.traffic_policy = TrafficPolicy::Local;
        service.selector = labels(&[("app", app)]);
        service
    };
    let is_v4 = ip(a).is_ipv4();
    #[rustfmt::skip]
    let steps = [
        ("assign s1", s1.clone(), a, true),
        ("s1 idempotent reassign", s1.clone(), a, true),
        ("s2 can't grab s1's IP", s2.clone(), a, false),
        ("s2 can get another IP", s2.clone(), b, true),
        ("s1 can move and frees its IP", s1.clone(), "", true),
        ("s2 moves to what s1 freed", s2.clone(), a, true),
        ("s1 takes what s2 freed", s1.clone(), b, true),
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
            continue; // avoidBuggyIPs does not concern IPv6
        }
        if address == broadcast && allowed {
            continue;
        }
        let result = ipam.asks(&service, &[ip(address)]);
        assert_eq!(result.is_ok(), allowed, "{what}: {result:?}");
        ipam.check();
    }
}

#[test]
fn assignment_v4() {
    assignment("1.2.3.4", "1.2.3.5", "1.2.4.0", "1.2.4.255", ["1.2.3.4-1.2.3.7", "1.2.4.0-1.2.4.255"]);
}

#[test]
fn assignment_v6() {
    assignment("1000::4", "1000::5", "1000::100", "1000::1ff", ["1000::4-1000::7", "1000::100-1000::1ff"]);
}

#[test]
fn assignment_dual() {
    let mut ipam = ipam([
        pool("test1", &["1.2.3.4-1.2.3.7", "1000::4-1000::7"]),
        pool("test2", &["1.2.4.0-1.2.4.255", "1000::100-1000::1ff"]),
    ]);
    let s1 = service("s1");
    let dual = ipam.asks(&s1, &ips(&["1.2.3.4", "1000::4"])).unwrap();
    assert_eq!(dual.pools(), ["test1".into()]);
    let of_two_pools = ips(&["1.2.3.4", "1000::100"]);
    assert_eq!(ipam.asks(&s1, &of_two_pools), Err(AllocationRefusal::SeveralPools(of_two_pools.clone())));
    assert_eq!(ipam.holding(&s1.key), Some(&dual), "a refusal changes nothing");
    let taken_in_part = ipam.asks(&service("s2"), &ips(&["1.2.3.5", "1000::4"]));
    assert!(
        matches!(taken_in_part, Err(AllocationRefusal::InUse { address, .. }) if address == ip("1000::4"))
    );
    ipam.check();
}

#[test]
fn assignment_obeys_namespaces_and_service_labels() {
    let of = |priority, namespaces: &[&str]| pinned(pool("p", &["1.2.3.4"]), priority, namespaces);
    let cases = [
        ("same namespace", of(0, &["team"]), "team/s", true),
        ("different namespace", of(0, &["team"]), "other/s", false),
        ("priority alone restricts nobody", of(7, &[]), "other/s", true),
    ];
    for (what, pool, name, allowed) in cases {
        let mut ipam = ipam([pool]);
        let service = service(name);
        assert_eq!(ipam.asks(&service, &ips(&["1.2.3.4"])).is_ok(), allowed, "{what}");
        ipam.release(&service.key);
        assert_eq!(ipam.allocate_from(&request(&service), "p", V4).is_ok(), allowed, "{what}, pool named");
        ipam.release(&service.key);
        assert_eq!(ipam.gets(&service, V4).is_some(), allowed, "{what}, automatic");
    }
}

/// MetalLB: `TestPoolAllocation`.
#[test]
fn pool_allocation() {
    for (ranges, families) in [
        (vec!["1.2.3.4-1.2.3.7"], V4),
        (vec!["1000::4-1000::7"], V6),
        (vec!["1.2.3.4-1.2.3.7", "1000::4-1000::7"], DUAL),
    ] {
        let mut ipam = ipam([pool("other", &["9.9.9.9", "9::9"]), pool("test", &ranges)]);
        let mut get =
            |service: &LoadBalancer| ipam.allocate_from(&request(service), "test", families).map(of);
        for n in 1..=4 {
            assert!(get(&sharing(&format!("s{n}"), "share", &[80])).is_ok(), "s{n}");
        }
        assert!(matches!(get(&service("s5")), Err(AllocationRefusal::Exhausted { .. })), "s5 can't");
        assert!(matches!(get(&service("s6")), Err(AllocationRefusal::Exhausted { .. })), "s6 can't");
        ipam.release(&key("s2"));
        let mut get =
            |service: &LoadBalancer| ipam.allocate_from(&request(service), "test", families).map(of);
        assert!(get(&service("s5")).is_ok(), "s5 gets what s2 freed");
        assert!(get(&service("s6")).is_err(), "s6 still can't");
        assert!(get(&sharing("s6", "other", &[443])).is_err(), "nor under another key");
        assert!(get(&sharing("s6", "share", &[443])).is_ok(), "sharing lets s6 in beside s1");
        assert!(
            get(&sharing("s7", "share", &[443, 80])).is_err(),
            "but not s7, whose ports are in use everywhere"
        );
        ipam.check();
    }
}

/// MetalLB: `TestAllocation`.
#[test]
fn allocation_over_several_pools_never_uses_those_without_auto_assign() {
    let mut manual = pool("a-manual", &["9.9.9.0-9.9.9.255", "9::-9::ff"]);
    manual.auto_assign = false;
    let mut ipam = ipam([
        manual,
        pool("test1", &["1.2.3.4-1.2.3.5", "1000::4-1000::5"]),
        pool("test2", &["1.2.3.10-1.2.3.11", "1000::10-1000::11"]),
    ]);
    let mut given = Vec::new();
    for n in 1..=5 {
        given.push(ipam.gets(&service(&format!("s{n}")), V4));
    }
    let expected = ["1.2.3.4", "1.2.3.5", "1.2.3.10", "1.2.3.11"].map(|a| Some(ips(&[a])));
    assert_eq!(given[..4], expected);
    assert_eq!(given[4], None);
    assert_eq!(ipam.gets(&service("d"), DUAL), None);
    ipam.release(&key("s4"));
    assert_eq!(ipam.gets(&service("d"), DUAL), Some(ips(&["1.2.3.11", "1000::10"])));
    ipam.check();
}

/// MetalLB: `TestBuggyIPs`.
#[test]
fn buggy_ips() {
    let mut careful = pool("test3", &["1.2.3.254-1.2.4.1"]);
    careful.avoid_buggy_ips = true;
    let mut ipam =
        ipam([pool("test1", &["1.2.2.0-1.2.2.1"]), pool("test2", &["1.2.2.254-1.2.2.255"]), careful]);
    let given: Vec<_> = (1..8).filter_map(|n| ipam.gets(&service(&format!("s{n}")), V4)).flatten().collect();
    assert_eq!(given, ips(&["1.2.2.0", "1.2.2.1", "1.2.2.254", "1.2.2.255", "1.2.3.254", "1.2.4.1"]));
}

/// MetalLB: `TestConfigReload`.
#[test]
fn config_reload() {
    let held = ips(&["1.2.3.0", "1000::"]);
    let avoiding = |mut pool: Pool| {
        pool.avoid_buggy_ips = true;
        pool
    };
    let start = || pool("test", &["1.2.3.0-1.2.3.255", "1000::-1000::ff"]);
    #[rustfmt::skip]
    let cases = [
        ("same config is no-op", vec![start()], Some("test")),
        ("expand pool", vec![pool("test", &["1.2.2.0-1.2.3.255", "1000::-1000::ffff"])], Some("test")),
        ("shrink pool", vec![pool("test", &["1.2.3.0-1.2.3.3", "1000::-1000::3"])], Some("test")),
        ("shrink that removes the IPv4 address", vec![pool("test", &["1.2.3.128-1.2.3.255", "1000::-1000::ff"])], None),
        ("shrink that removes the IPv6 address", vec![pool("test", &["1.2.3.0-1.2.3.255", "1000::f0-1000::ff"])], None),
        ("rename the pool", vec![pool("test2", &["1.2.3.0-1.2.3.255", "1000::-1000::ff"])], Some("test2")),
        ("split pool", vec![pool("test", &["1.2.3.0-1.2.3.127", "1000::-1000::7f"]), pool("test2", &["1.2.3.128-1.2.3.255", "1000::80-1000::ff"])], Some("test")),
        ("split by family", vec![pool("test", &["1.2.3.0-1.2.3.255"]), pool("test2", &["1000::-1000::ff"])], Some("test,test2")),
        ("avoid buggy addresses", vec![avoiding(start())], None),
        ("delete the pool", vec![], None),
    ];
    for (what, new, keeps_in) in cases {
        let mut ipam = ipam([start()]);
        let s = sharing("s", "key", &[80]);
        ipam.asks(&s, &held).unwrap();
        let changes = ipam.set_pools(&pools(new), &BTreeMap::new());
        ipam.check();
        let now = ipam.holding(&s.key);
        assert_eq!(now.map(|h| h.pools().join(",")).as_deref(), keeps_in, "{what}");
        assert_eq!(changes.evicted.len(), usize::from(keeps_in.is_none()), "{what}");
        assert!(now.is_none_or(|h| of(h) == held), "{what}");
        assert_eq!(changes.any, what != "same config is no-op");
        if keeps_in.is_some() {
            let other = ipam.gets(&service("other"), V4).unwrap();
            assert_ne!(other, held[..1], "{what}: what is held is not free");
        }
    }
}

/// MetalLB: `TestAutoAssign`.
#[test]
fn auto_assign() {
    let mut manual = pool("test1", &["1.2.3.4-1.2.3.7"]);
    manual.auto_assign = false;
    let mut ipam = ipam([manual]);
    let s = service("s");
    assert!(
        matches!(ipam.allocate(&request(&s), V4), Err(AllocationRefusal::NoPoolMatches(why)) if why.len() == 1)
    );
    assert_eq!(of(ipam.allocate_from(&request(&s), "test1", V4).unwrap()), ips(&["1.2.3.4"]));
}

#[test]
fn priorities_ascend_with_zero_last_and_names_break_ties_then_come_pools_for_everybody() {
    let one = |name, n: u8| pool(name, &[&format!("10.0.0.{n}")]);
    let mut ipam = ipam([
        one("a-everybody", 1),
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
    assert_eq!(order, ["f", "c", "d", "e", "b", "a-everybody"]);
}

#[test]
fn a_pool_whose_restrictions_match_nothing_is_open_to_nobody() {
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
    assert_eq!(ipam.asks(&s, &ips(&["10.0.0.1"])), closed);
    assert_eq!(ipam.allocate_from(&request(&s), "tenant", V4).cloned(), closed);
    assert_eq!(ipam.gets(&s, V4), None);
    let blue = labels(&[("team", "blue")]);
    let open = AllocationRequest { namespace_labels: Some(&blue), ..request(&s) };
    assert!(ipam.allocate(&open, V4).is_ok());
}

/// MetalLB: `TestPoolMetrics`.
#[test]
fn counts_follow_and_count_a_shared_address_once() {
    let mut ipam = ipam([pool("p", &["1.2.3.4-1.2.3.7", "1000::4-1000::7"])]);
    let assigned = |ipam: &Ipam| [Family::V4, Family::V6].map(|f| ipam.counts("p", f).assigned);
    ipam.asks(&sharing("s1", "k", &[80]), &ips(&["1.2.3.4"])).unwrap();
    assert_eq!(assigned(&ipam), [1, 0]);
    ipam.asks(&sharing("s2", "k", &[81]), &ips(&["1.2.3.4"])).unwrap();
    assert_eq!(assigned(&ipam), [1, 0]);
    ipam.asks(&service("s3"), &ips(&["1.2.3.5", "1000::4"])).unwrap();
    assert_eq!(assigned(&ipam), [2, 1]);
    assert_eq!(ipam.counts("p", Family::V4).available, 2);
    ipam.release(&key("s1"));
    ipam.release(&key("s3"));
    assert_eq!(assigned(&ipam), [1, 0]);
    ipam.release(&key("s2"));
    assert_eq!(assigned(&ipam), [0, 0]);
}

#[test]
fn changes_say_what_became_free_and_what_can_be_joined() {
    let mut ipam = ipam([pool("p", &["1.2.3.4-1.2.3.7"])]);
    let (s1, s2) = (sharing("s1", "k", &[80]), sharing("s2", "k", &[81]));
    ipam.gets(&s1, V4);
    ipam.gets(&s2, V4);
    ipam.take_changes();
    ipam.asks(&s2, &ips(&["1.2.3.4"])).unwrap();
    assert_eq!(ipam.take_changes(), [], "holding the same is no change");
    ipam.release(&s1.key);
    let change = ipam.take_changes().pop().unwrap();
    assert!(!change.free && change.shared.is_some());
    ipam.release(&s2.key);
    let change = ipam.take_changes().pop().unwrap();
    assert!(change.free && change.shared.is_none());
}

#[test]
fn a_reserved_address_is_given_to_nobody_else() {
    let mut ipam = ipam([pool("p", &["1.2.3.4-1.2.3.5"])]);
    let (s1, s2, s3) = (sharing("s1", "k", &[80]), sharing("s2", "k", &[81]), sharing("s3", "k", &[82]));
    ipam.gets(&s1, V4);
    ipam.release(&s1.key);
    ipam.reserve(ip("1.2.3.4"), &s1.key);
    ipam.take_changes();
    assert_eq!(ipam.gets(&s2, V4), Some(ips(&["1.2.3.5"])), "the first is not free");
    assert!(matches!(ipam.asks(&s3, &ips(&["1.2.3.4"])), Err(AllocationRefusal::InUse { .. })));
    assert!(ipam.asks(&s1, &ips(&["1.2.3.4"])).is_ok(), "it gets it back");
    assert_eq!(ipam.gets(&s3, V4), Some(ips(&["1.2.3.5"])), "nobody joins a reserved address");
    assert!(ipam.asks(&s1, &ips(&["1.2.3.4"])).is_ok(), "who holds it is not disturbed");
    ipam.check();
    ipam.release(&s1.key);
    ipam.set_pools(&pools([pool("q", &["1.2.3.0-1.2.3.9"])]), &BTreeMap::new());
    assert_eq!(ipam.counts("q", Family::V4).available, 8, "reservations outlive changes of pools");
    ipam.take_changes();
    ipam.unreserve(ip("1.2.3.4"), &s1.key);
    assert!(ipam.take_changes().pop().unwrap().free);
    assert_eq!(ipam.counts("q", Family::V4).available, 9);
    ipam.check();
}

#[test]
fn messages_name_what_is_in_the_way() {
    let mut ipam = ipam([pool("small", &["1.2.3.4"]), pool("six", &["1000::1"])]);
    ipam.gets(&service("shop/web"), V4);
    let late = service("late");
    let cases = [
        (ipam.clone().asks(&late, &ips(&["1.2.3.4"])), "1.2.3.4 is in use by Service shop/web"),
        (ipam.clone().asks(&late, &ips(&["5.5.5.5"])), "5.5.5.5 is in no IPAddressPool, or not usable there"),
        (ipam.clone().allocate(&request(&late), V4).cloned(), "no free IPv4 address in IPAddressPool small"),
        (
            ipam.clone().allocate(&request(&late), DUAL).cloned(),
            "no free IPv4 and IPv6 address in IPAddressPools six, small",
        ),
        (
            ipam.clone().allocate_from(&request(&late), "six", DUAL).cloned(),
            "an IPv4 and an IPv6 address are needed, but not in IPAddressPool six",
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
