//! The explanation of each pool, and its agreement with the decision.

use super::*;
use crate::explain::Explanation;
use fairlead_test_support::{pinned, pool, retaining, selector};

fn explanation(world: &World, name: &str) -> Vec<String> {
    Explanation::new(&world.index, &key(name)).unwrap().to_string().lines().map(str::to_owned).collect()
}

/// Returns a world with an unrestricted pool and one pool per obstacle.
fn world() -> World {
    let closed = |pool: Pool| Pool { closed: Some(fairlead_crds::model::config::Closed::Disabled), ..pool };
    let manual = |pool: Pool| Pool { auto_assign: false, ..pool };
    let mut of_labels = pinned(pool("labels", &["1.0.3.1"]), 0, &[]);
    of_labels.allocation.as_mut().unwrap().service_selectors = vec![selector("tier", "gold")];
    let mut world = World::new([
        retaining(pool("all", &["1.0.0.1-1.0.0.9"])),
        pinned(pool("team", &["1.0.1.1"]), 1, &["team"]),
        closed(pool("drained", &["1.0.2.1"])),
        of_labels,
        manual(pool("manual", &["1.0.4.1"])),
        pool("six", &["1000::1"]),
        pinned(pool("full", &["1.0.5.1"]), 2, &[]),
    ]);
    world.apply(service("first", json!({})));
    assert_eq!(world.pool_of("first").as_deref(), Some("full"));
    world
}

#[test]
fn explanation_lists_obstacles_and_remedies_of_each_pool() {
    let mut world = world();
    world.apply(service("s", json!({})));
    assert_eq!(
        explanation(&world, "s"),
        [
            "Service default/s: Allocated: 1.0.0.1 from IPAddressPool all",
            "needs an IPv4 address",
            "IPAddressPools, in the order in which they are tried:",
            "  team     no    is open only to namespaces team",
            "                 would fit if spec.serviceAllocation admitted namespace default",
            "  full     no    has no free IPv4 address",
            "                 would fit if one of its IPv4 addresses were free",
            "  labels   no    is open only to Services with labels tier=gold",
            "                 would fit if a selector in spec.serviceAllocation.serviceSelectors matched the \
             Service's labels",
            "  all      USED  1.0.0.1",
            "  drained  no    is disabled",
            "                 would fit if spec.disabled were false",
            "  six      no    has no IPv4 addresses",
            "                 would fit if it had IPv4 addresses",
            "  manual   no    is only for Services that name it (autoAssign is false)",
            "                 would fit if spec.autoAssign were true, or the Service named the pool \
             (fairlead.dev/address-pool)",
        ]
    );
}

/// If all conditions after "would fit if" are met, the pool allocates an address.
#[test]
fn listed_remedies_suffice() {
    type Change = fn(&mut World);
    let cases: [(&str, Change); 4] = [
        ("team", |world| {
            let allocation = world.config.pools.get_mut("team").unwrap().allocation.as_mut().unwrap();
            allocation.namespaces.insert("default".into());
        }),
        ("drained", |world| world.config.pools.get_mut("drained").unwrap().closed = None),
        ("manual", |world| world.config.pools.get_mut("manual").unwrap().auto_assign = true),
        ("labels", |world| {
            world
                .config
                .pools
                .get_mut("labels")
                .unwrap()
                .allocation
                .as_mut()
                .unwrap()
                .service_selectors
                .clear();
        }),
    ];
    for (name, change) in cases {
        let mut world = world();
        world.delete("first");
        change(&mut world);
        let pool = world.config.pools[name].clone();
        world.set_pools([pool]);
        world.apply(service("s", json!({})));
        assert_eq!(world.pool_of("s").as_deref(), Some(name), "{:?}", explanation(&world, "s"));
    }
}

#[test]
fn explanation_lists_all_obstacles() {
    let mut pool = pinned(pool("p", &["1000::1"]), 0, &["team"]);
    pool.auto_assign = false;
    let mut world = World::new([pool]);
    world.apply(service("s", json!({})));
    assert_eq!(
        explanation(&world, "s")[3..],
        [
            "  p  no    is only for Services that name it (autoAssign is false); is open only to namespaces \
             team; has no IPv4 addresses",
            "           would fit if spec.autoAssign were true, or the Service named the pool \
             (fairlead.dev/address-pool) and spec.serviceAllocation admitted namespace default and it had \
             IPv4 addresses",
        ]
    );
}

#[test]
fn explanation_names_requested_address_and_pool() {
    let mut world = world();
    world.apply(service("s", annotated(REQUEST_IPS, "1.0.5.1")));
    let lines = explanation(&world, "s");
    assert_eq!(lines[0], "Service default/s: AddressInUse: 1.0.5.1 is in use by Service default/first");
    assert_eq!(lines[1], "needs an IPv4 address; requests 1.0.5.1");
    assert!(
        lines.contains(&"  full     no    1.0.5.1 is in use by Service default/first".to_owned()),
        "{lines:#?}"
    );
    assert!(
        lines.contains(&"  all      no    does not contain 1.0.5.1, which the Service requests".to_owned()),
        "{lines:#?}"
    );
    world.apply(service("s", annotated(REQUEST_POOL, "manual")));
    let lines = explanation(&world, "s");
    assert!(lines.contains(&"  manual   USED  1.0.4.1".to_owned()), "{lines:#?}");
    assert!(
        lines.contains(
            &"  all      no    is not the IPAddressPool that the Service requests, manual".to_owned()
        ),
        "{lines:#?}"
    );
}

#[test]
fn explanation_contains_refused_pool_and_claim() {
    let mut world = World::new([pool("p", &["1.0.0.1"])]);
    world.set_pools_and_refused([pool("p", &["1.0.0.1"])], &["bad"]);
    world.apply(service("holder", json!({})));
    world.claim("mine", json!({ "serviceName": "s", "addresses": ["1.0.0.1"] }));
    world.apply(service("s", json!({})));
    let lines = explanation(&world, "s");
    assert!(
        lines[0].starts_with("Service default/s: ClaimPending: waiting for IPClaim default/mine,"),
        "{lines:#?}"
    );
    assert_eq!(
        lines[2],
        "IPClaim default/mine has reserved no address: 1.0.0.1 is in use by Service default/holder"
    );
    let bad = "  bad  no    is refused: see its condition Accepted; allocates nothing until IPClaim \
        default/mine has reserved its addresses";
    assert!(lines.contains(&bad.to_owned()), "{lines:#?}");
}

#[test]
fn explanation_changes_no_state() {
    let mut world = world();
    world.apply(service("s", json!({})));
    world.take_writes();
    let before = world.results();
    explanation(&world, "s");
    world.reconfigure();
    assert_eq!((world.results(), world.take_writes()), (before, 0));
    assert_eq!(Explanation::new(&world.index, &key("unknown")), None);
}

#[test]
fn explanation_covers_only_family_without_claim() {
    let manual = Pool { auto_assign: false, ..pool("a", &["1.2.3.0-1.2.3.9"]) };
    let mut world = World::new([manual, pool("b", &["1::1"])]);
    world.claim("c", json!({ "serviceName": "web", "addresses": ["1.2.3.5"] }));
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.apply(service("web", families(&["10.96.0.1", "fd00::1"], "RequireDualStack")));
    assert_eq!(
        explanation(&world, "web"),
        [
            "Service default/web: PoolExhausted: no free IPv6 address in IPAddressPool b",
            "needs an IPv4 and an IPv6 address",
            "IPClaim default/c has reserved 1.2.3.5 from IPAddressPool a",
            "IPAddressPools, in the order in which they are tried:",
            "  b  no    has no free IPv6 address",
            "           would fit if one of its IPv6 addresses were free",
            "  a  no    has no IPv6 addresses",
            "           would fit if it had IPv6 addresses",
        ]
    );
}

#[test]
fn no_pool_fits_an_impossible_request() {
    let cases = [
        (
            annotated(REQUEST_IPS, "1::9"),
            "FamilyMismatch",
            "the requested addresses are IPv6, but the cluster IPs of the Service are IPv4",
            "the Service requested an IPv4 address",
        ),
        (
            annotated(REQUEST_IPS, "nonsense"),
            "InvalidRequest",
            "\"nonsense\" is not an IP address",
            "the request of the Service were valid",
        ),
        (
            annotated("metallb.io/address-pool", "q"),
            "InvalidRequest",
            "the Service requests two different IPAddressPools: p and q",
            "the request of the Service were valid",
        ),
    ];
    for (with, reason, because, unless) in cases {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"])]);
        let named = if reason == "InvalidRequest" { annotated(REQUEST_POOL, "p") } else { json!({}) };
        world.apply(service("s", both(with, named)));
        assert_eq!(world.result("s"), reason);
        let lines = explanation(&world, "s");
        let expected = [format!("  p  no    {because}"), format!("           would fit if {unless}")];
        assert_eq!(lines[lines.len() - 2..], expected, "{lines:#?}");
    }
}

#[test]
fn explanation_of_pending_claim_blocks_every_pool() {
    let mut world = World::new([pool("p", &["1.2.3.0"]), pool("q", &["1.2.4.0"])]);
    world.apply(service("holder", json!({})));
    world.claim("c", json!({ "serviceName": "web", "pool": "p" }));
    world.apply(service("web", json!({})));
    assert_eq!(
        explanation(&world, "web")[3..],
        [
            "IPAddressPools, in the order in which they are tried:",
            "  p  no    has no free IPv4 address; allocates nothing until IPClaim default/c has reserved its \
             addresses",
            "           would fit if one of its IPv4 addresses were free and IPClaim default/c were deleted",
            "  q  no    allocates nothing until IPClaim default/c has reserved its addresses",
            "           would fit if IPClaim default/c were deleted",
        ]
    );
}

#[test]
fn explanation_of_two_pools_names_the_blocking_pool() {
    let dual = || families(&["10.96.0.1", "fd00::1"], "RequireDualStack");
    let mut world =
        World::new([pool("p", &["1.2.3.0-1.2.3.9"]), pool("q", &["1::-1::9"]), pool("r", &["5.5.5.5"])]);
    world.apply(service("six", both(families(&["fd00::1"], "SingleStack"), annotated(REQUEST_IPS, "1::5"))));
    world.apply(service("s", both(dual(), annotated(REQUEST_IPS, "1.2.3.5,1::5"))));
    assert_eq!(
        explanation(&world, "s")[3..],
        [
            "  p  no    1::5 is in use by Service default/six",
            "           would fit if 1::5 were free",
            "  q  no    1::5 is in use by Service default/six",
            "           would fit if 1::5 were free",
            "  r  no    contains neither 1.2.3.5 nor 1::5, which the Service requests; 1::5 is in use by \
             Service default/six",
            "           would fit if it contained one of them and 1::5 were free",
        ]
    );
    let disabled =
        Pool { closed: Some(fairlead_crds::model::config::Closed::Disabled), ..pool("q", &["1::-1::9"]) };
    world.set_pools([pool("p", &["1.2.3.0-1.2.3.9"]), disabled]);
    world.delete("six");
    assert_eq!(
        explanation(&world, "s")[3..],
        [
            "  p  no    IPAddressPool q, which contains 1::5, is disabled",
            "           would fit if IPAddressPool q could allocate 1::5",
            "  q  no    is disabled",
            "           would fit if spec.disabled were false",
        ]
    );
    world.set_pools([pool("p", &["1.2.3.0-1.2.3.9"])]);
    assert_eq!(
        explanation(&world, "s")[3..],
        [
            "  p  no    1::5 is in no IPAddressPool, or avoidBuggyIPs excludes it",
            "           would fit if 1::5 were in an IPAddressPool",
        ]
    );
}

/// Another pool contains the claimed address and does not admit the Service.
#[test]
fn no_pool_fits_if_the_service_was_refused() {
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.3"])), pool("q", &["5.5.5.5"])]);
    world.claim("c", json!({ "serviceName": "web", "addresses": ["1.2.3.0"] }));
    let others = pinned(pool("others", &["1.2.3.0"]), 0, &["elsewhere"]);
    world.set_pools([retaining(pool("p", &["1.2.3.1-1.2.3.3"])), pool("q", &["5.5.5.5"]), others]);
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "NoPoolMatches");
    let lines = explanation(&world, "web");
    assert!(!lines.iter().any(|line| line.contains("fits")), "{lines:#?}");
    let unless = "would fit if spec.serviceAllocation admitted namespace default";
    assert!(lines.iter().any(|line| line.ends_with(unless)), "{lines:#?}");
}

#[test]
fn offer_is_the_requested_address() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", annotated(REQUEST_IPS, "1.2.3.5")));
    assert_eq!(explanation(&world, "s")[3..], ["  p  USED  1.2.3.5"]);
    // The Service keeps its address of the refused pool, although another pool could allocate the same.
    world.set_pools_and_refused([pool("q", &["1.2.3.0-1.2.3.9"])], &["p"]);
    let lines = explanation(&world, "s");
    assert!(lines.contains(&"  q  fits  would allocate 1.2.3.5".to_owned()), "{lines:#?}");
}

#[test]
fn explanation_names_pool_preferred_to_dual_pool() {
    let dual = pool("dual", &["192.0.2.0-192.0.2.15", "2001:db8:1::-2001:db8:1::ff"]);
    let t6 = pinned(pool("t6", &["2001:db8::-2001:db8::ff"]), 1, &[]);
    let mut world = World::new([t6, dual]);
    world.apply(service("s", families(&["10.96.0.1", "fd00::1"], "PreferDualStack")));
    assert_eq!(
        explanation(&world, "s")[3..],
        [
            "  t6    USED  2001:db8::",
            "  dual  fits  would allocate 192.0.2.0 and 2001:db8:1::, but t6 has a serviceAllocation and is \
             tried first",
        ]
    );
}

#[test]
fn explanation_names_only_missing_family_of_two_pools() {
    let mut world =
        World::new([pool("p", &["1.2.3.0-1.2.3.9"]), pool("q", &["1::1"]), pool("r", &["5.5.5.5"])]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.apply(service("s", families(&["10.96.0.1", "fd00::1"], "RequireDualStack")));
    let (has_none, fits_if) = ("has no IPv6 addresses", "would fit if it had IPv6 addresses");
    assert_eq!(
        explanation(&world, "s")[3..],
        [
            &format!("  p  no    {has_none}"),
            &format!("           {fits_if}"),
            "  q  no    has no free IPv6 address",
            "           would fit if one of its IPv6 addresses were free",
            &format!("  r  no    {has_none}"),
            &format!("           {fits_if}"),
        ]
    );
    world.delete("six");
    assert_eq!(world.result("s"), "1.2.3.0 1::1");
    assert_eq!(
        explanation(&world, "s")[3..],
        ["  p  USED  1.2.3.0", "  q  USED  1::1", "  r  fits  would allocate 5.5.5.5"]
    );
}
