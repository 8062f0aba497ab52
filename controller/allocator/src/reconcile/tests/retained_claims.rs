//! What a claim has reserved stays reserved while it asks for it: through edits of pools and of the claim, and a restart.

use fairlead_crds::model::config::{Closed, Pool};

use super::*;
use crate::ipam::Ipam;
use fairlead_test_support::{pool, refused, retaining};

const ASK: &str = "fairlead.dev/load-balancer-ips";
const FREE: &str = "Reserved True/Reserved Bound False/ServiceNotFound";

fn given(service: &str, addresses: &[&str]) -> Value {
    json!({ "serviceName": service, "addresses": addresses })
}

fn of_pool(service: &str, families: &[&str]) -> Value {
    json!({ "serviceName": service, "pool": "p", "ipFamilies": families })
}

fn claims(world: &World) -> Vec<String> {
    world.claims.keys().map(|claim| world.claimed(&claim.to_string())).collect()
}

/// A restart changes nothing and writes nothing.
fn restart(world: &mut World) {
    let before = (world.results(), claims(world));
    world.take_writes();
    world.restart();
    assert_eq!((world.results(), claims(world)), before);
    assert_eq!(world.take_writes(), 0);
}

fn says(world: &World, claim: &str) -> String {
    let conditions = world.claims[&key(claim)].status.clone().unwrap().conditions;
    let c = conditions.into_iter().find(|c| c.type_ == fairlead_crds::names::RESERVED).unwrap();
    format!("{}/{}: {}", c.status, c.reason, c.message)
}

fn claims_on_p(ipam: &Ipam) -> usize {
    ipam.claims_on("p").len()
}

/// In force while p is refused.
fn others() -> [(&'static str, Vec<Pool>); 3] {
    [
        ("none has the range", vec![]),
        ("a new pool has the range", vec![retaining(pool("q", &["1.2.3.0-1.2.3.3"]))]),
        ("an older pool grew over it", vec![pool("older", &["1.2.2.0-1.2.2.1", "1.2.3.0-1.2.3.3"])]),
    ]
}

#[test]
fn while_its_pool_is_refused_nobody_else_gets_what_a_claim_has_reserved() {
    for spec in [of_pool("web", &["IPv4"]), given("web", &["1.2.3.0"])] {
        for (what, in_force) in others() {
            let p = || retaining(pool("p", &["1.2.3.0-1.2.3.3"]));
            let mut world = World::new([p()]);
            world.claim("c", spec.clone());
            world.set_pools_and_refused(in_force.clone(), &["p"]);
            for n in 0..6 {
                world.apply(service(&format!("thief{n}"), json!({})));
            }
            let asks = annotated("fairlead.dev/load-balancer-ips", "1.2.3.0");
            world.apply(service("asks", asks));
            for _ in 0..2 {
                assert!(!world.results().values().any(|result| result == "1.2.3.0"), "{what}");
                assert_eq!(
                    says(&world, "c"),
                    "True/PoolRefused: 1.2.3.0 stays reserved: IPAddressPool p is refused: see its condition Accepted",
                    "{what}"
                );
                assert_eq!(claims_on_p(world.index.ipam()), 1, "{what}: p is in use");
                restart(&mut world);
            }
            world.set_pools_and_refused([p()], &[]);
            assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"), "{what}, then mended");
        }
    }
}

#[test]
fn a_pool_in_deletion_whose_range_a_new_pool_takes_waits_for_its_claims() {
    let p = || retaining(Pool { closed: Some(Closed::Deleting), ..pool("p", &["1.2.3.0-1.2.3.3"]) });
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.3"]))]);
    world.claim("c", of_pool("web", &["IPv4"]));
    world.set_pools([p()]);
    world.config.refused_pools = pools([p()]);
    world.set_pools([retaining(pool("q", &["1.2.3.0-1.2.3.3"]))]);
    world.apply(service("thief", json!({})));
    assert_eq!(world.result("thief"), "1.2.3.1");
    restart(&mut world);
    assert_eq!(claims_on_p(world.index.ipam()), 1);
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "1.2.3.0", "its Service has it of the pool that has it now");
    restart(&mut world);
    world.delete_claim("c");
    assert_eq!(claims_on_p(world.index.ipam()), 0);
}

#[test]
fn the_service_of_a_claim_waits_for_the_refused_pool_of_what_is_reserved_for_it() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.3"]), pool("q", &["5.5.5.5"])]);
    world.claim("c", of_pool("web", &["IPv4"]));
    world.set_pools_and_refused([pool("q", &["5.5.5.5"])], &["p"]);
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "ClaimPending");
    restart(&mut world);
    world.set_pools_and_refused([pool("p", &["1.2.3.0-1.2.3.3"]), pool("q", &["5.5.5.5"])], &[]);
    assert_eq!(world.result("web"), "1.2.3.0");
}

#[test]
fn what_a_retaining_pool_no_longer_has_stays_reserved_also_from_the_pool_that_has_it_now() {
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.3"]))]);
    world.claim("c", of_pool("web", &["IPv4"]));
    let q = pool("q", &["1.2.3.0-1.2.3.1"]);
    world.set_pools([retaining(pool("p", &["1.2.3.2-1.2.3.3"])), q]);
    let expected = "True/Retained: 1.2.3.0 stays reserved: IPAddressPool p no longer has this address";
    assert_eq!(says(&world, "c"), expected);
    for n in 0..4 {
        world.apply(service(&format!("thief{n}"), json!({})));
    }
    assert!(!world.results().values().any(|result| result == "1.2.3.0"), "{:?}", world.results());
    restart(&mut world);
    world.delete_claim("c");
    assert!(world.results().values().any(|result| result == "1.2.3.0"), "{:?}", world.results());
}

#[test]
fn a_claim_in_a_disabled_pool_outlives_a_mistake_in_the_pool() {
    for spec in [of_pool("web", &["IPv4"]), given("web", &["1.2.3.0"])] {
        let p = |closed| Pool { closed, ..pool("p", &["1.2.3.0-1.2.3.1"]) };
        let mut world = World::new([p(None)]);
        world.claim("c", spec);
        world.set_pools([p(Some(Closed::Disabled))]);
        world.set_pools_and_refused([], &["p"]);
        restart(&mut world);
        world.set_pools_and_refused([p(Some(Closed::Disabled))], &[]);
        assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"));
        restart(&mut world);
    }
}

#[test]
fn a_claim_that_asks_for_more_than_there_is_keeps_what_it_had() {
    let v4_of_p = of_pool("web", &["IPv4"]);
    let full = "PoolExhausted: no free IPv6 address in IPAddressPool p";
    let cases = [
        (v4_of_p, of_pool("web", &["IPv4", "IPv6"]), full),
        (
            given("web", &["1.2.3.0"]),
            given("web", &["1.2.3.0", "1::1"]),
            "AddressInUse: 1::1 is in use by Service default/six",
        ),
    ];
    for (before, after, why) in cases {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1", "1::1"])]);
        world.apply(service("six", families(&["fd00::1"], "SingleStack")));
        world.claim("c", before);
        world.apply(service("other", json!({})));
        world.apply(service("waits", json!({})));
        world.take_writes();
        world.claim("c", after);
        assert_eq!(world.take_writes(), 1, "{why}");
        assert_eq!(world.result("waits"), "PoolExhausted", "{why}");
        assert_eq!(says(&world, "c"), format!("False/{why}; 1.2.3.0 stays reserved"));
        restart(&mut world);
        world.apply(service("web", json!({})));
        assert_eq!(world.result("web"), "1.2.3.0", "{why}: its Service has what there is");
        restart(&mut world);
        world.delete("six");
        assert_eq!(world.claimed("c"), "1.2.3.0 1::1 Reserved True/Reserved Bound True/Bound", "{why}");
        restart(&mut world);
    }
}

#[test]
fn a_claim_of_two_of_which_the_pool_loses_one_keeps_the_other() {
    let all = ["1.2.3.0-1.2.3.1", "1::1-1::2"];
    let less = ["1.2.3.0-1.2.3.1", "1::2"];
    for spec in [given("web", &["1.2.3.0", "1::1"]), of_pool("web", &["IPv4", "IPv6"])] {
        for retains in [false, true] {
            let p = |ranges: &[&str]| if retains { retaining(pool("p", ranges)) } else { pool("p", ranges) };
            let mut world = World::new([p(&all)]);
            world.claim("c", spec.clone());
            world.apply(service("other", json!({})));
            world.apply(service("waits", json!({})));
            world.set_pools([p(&less)]);
            assert_eq!(world.result("waits"), "PoolExhausted", "{spec} {retains}");
            let expected = if retains {
                "True/Retained: 1.2.3.0 and 1::1 stay reserved: IPAddressPool p no longer has this address"
            } else {
                "False/AddressNotInPool: 1::1 is in no IPAddressPool, or avoidBuggyIPs excludes it; 1.2.3.0 stays reserved"
            };
            assert_eq!(says(&world, "c"), expected, "{spec}");
            restart(&mut world);
            world.set_pools([p(&all)]);
            assert_eq!(world.claimed("c"), format!("1.2.3.0 1::1 {FREE}"), "{spec} {retains}");
            restart(&mut world);
        }
    }
}

#[test]
fn what_a_pool_took_from_a_claim_it_does_not_reserve_again_without_having_it() {
    let less = || pool("p", &["1.2.3.1-1.2.3.3"]);
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.3"])]);
    world.claim("c", of_pool("web", &["IPv4"]));
    world.set_pools([less()]);
    world.set_pools([retaining(less()), pool("q", &["1.2.3.0"])]);
    assert_eq!(world.claimed("c"), "1.2.3.0 Reserved False/AddressNotInPool Bound False/NotReserved");
    restart(&mut world);
    world.set_pools([pool("p", &["1.2.3.0-1.2.3.3"])]);
    assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"));
}

#[test]
fn a_mistake_in_a_claim_gives_nothing_away() {
    for spec in [of_pool("web", &["IPv6", "IPv4"]), given("web", &["1::1", "1.2.3.0"])] {
        let mut world = World::new([pool("p", &["1.2.3.0", "1::1"])]);
        world.claim("c", spec.clone());
        world.apply(service("waits", json!({})));
        world.take_writes();
        world.claim("c", json!({ "serviceName": "web", "pool": "p", "addresses": ["1.2.3.0"] }));
        assert_eq!(world.take_writes(), 1);
        assert_eq!(
            says(&world, "c"),
            "False/InvalidClaim: addresses and pool are both set: set exactly one of them; 1::1 and 1.2.3.0 stay reserved"
        );
        assert_eq!(world.result("waits"), "PoolExhausted");
        restart(&mut world);
        world.claim("c", spec);
        assert_eq!(world.claimed("c"), format!("1::1 1.2.3.0 {FREE}"));
        restart(&mut world);
    }
}

#[test]
fn what_a_claim_no_longer_asks_for_goes_to_who_waits_also_where_the_rest_is_missing() {
    let mut world = World::new([pool("p", &["1.2.3.0", "1::1"])]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.claim("c", of_pool("web", &["IPv4"]));
    world.apply(service("waits", json!({})));
    world.claim("c", of_pool("web", &["IPv6"]));
    assert_eq!(world.result("waits"), "1.2.3.0");
    assert_eq!(world.claimed("c"), "Reserved False/PoolExhausted Bound False/NotReserved");
    restart(&mut world);
}

#[test]
fn a_claim_edited_while_no_controller_runs_takes_nothing_that_another_has() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.namespace("team", &[]);
    world.claim("a", given("mine", &["1.2.3.1"]));
    world.claim("team/b", given("web", &["1.2.3.5"]));
    world.claims.get_mut(&key("a")).unwrap().spec.addresses = vec!["1.2.3.5".into()];
    world.restart();
    assert_eq!(world.claimed("team/b"), format!("1.2.3.5 {FREE}"));
    assert_eq!(world.claimed("a"), "Reserved False/AddressReserved Bound False/NotReserved");
    restart(&mut world);
}

#[test]
fn a_claim_that_changes_its_pool_is_told_once_what_it_has() {
    let mut world = World::new([pool("a", &["1.2.3.0"]), pool("b", &["5.5.5.5"])]);
    world.claim("c", json!({ "serviceName": "web", "pool": "a" }));
    world.take_writes();
    world.claim("c", json!({ "serviceName": "web", "pool": "b" }));
    assert_eq!((world.claimed("c"), world.take_writes()), (format!("5.5.5.5 {FREE}"), 1));
    restart(&mut world);
    world.claim("c", json!({ "serviceName": "web", "pool": "none" }));
    assert_eq!(world.claimed("c"), "Reserved False/PoolNotFound Bound False/NotReserved");
    assert_eq!(world.take_writes(), 1);
    restart(&mut world);
}

#[test]
fn a_refused_pool_that_only_a_claim_uses_keeps_its_finalizer() {
    use super::objects::{configuration, pool_object};
    let mut p = pool_object("p", &["1.2.3.0-1.2.3.9"]);
    p.spec.reclaim = "Retain".into();
    p.metadata.finalizers = Some(vec![names::POOL_PROTECTION.to_owned()]);
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.9"]))]);
    world.claim("c", of_pool("web", &["IPv4"]));
    p.spec.addresses = vec!["nonsense".into()];
    let mut configuration = configuration(vec![p]);
    configuration.resolve();
    world.config.refused_pools = pools([retaining(refused("p"))]);
    world.set_pools([]);
    assert_eq!(configuration.finalizer_patch("p", world.index.ipam()), None);
    world.delete_claim("c");
    assert!(configuration.finalizer_patch("p", world.index.ipam()).is_some());
}

const DUAL: &[&str] = &["10.96.0.1", "fd00::1"];

#[test]
fn who_becomes_dual_stack_keeps_its_address_and_gets_the_other_from_its_claim() {
    let p = |closed| Pool { closed, ..pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"]) };
    #[rustfmt::skip]
    let cases = [
        ("its pool has the other too", "5::5", None, &["RequireDualStack", "PreferDualStack"][..]),
        ("the claim has it of its pool", "1::5", None, &["RequireDualStack", "PreferDualStack"]),
        ("its pool gives nothing more", "1::5", Some(Closed::Disabled), &["RequireDualStack", "PreferDualStack"]),
    ];
    for (what, address, closed, policies) in cases {
        for policy in policies {
            for of_two in [false, true] {
                let mut world = World::new([p(None), pool("q", &["5::-5::9"])]);
                world.apply(service("s", json!({})));
                world.claim("c", given("s", &[address]));
                world.set_pools([p(closed), pool("q", &["5::-5::9"])]);
                let mut with = families(DUAL, policy);
                if of_two {
                    with = families(&[DUAL[1], DUAL[0]], policy);
                }
                world.apply(service("s", with));
                let expected =
                    if of_two { format!("{address} 1.2.3.0") } else { format!("1.2.3.0 {address}") };
                assert_eq!(world.result("s"), expected, "{what}, {policy}");
                assert_eq!(world.claimed("c"), format!("{address} Reserved True/Reserved Bound True/Bound"));
                restart(&mut world);
            }
        }
    }
}

#[test]
fn who_becomes_dual_stack_gets_no_other_address_before_a_claim_has_the_one_for_it() {
    let dual = |policy| families(DUAL, policy);
    for (policy, meanwhile) in [("PreferDualStack", "1.2.3.0"), ("RequireDualStack", "ClaimPending")] {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"])]);
        world.apply(service("s", json!({})));
        world.apply(service("six", both(families(&["fd00::1"], "SingleStack"), annotated(ASK, "1::5"))));
        world.claim("c", given("s", &["1::5"]));
        world.apply(service("s", dual(policy)));
        assert_eq!(world.result("s"), meanwhile);
        restart(&mut world);
        world.delete("six");
        assert_eq!(world.result("s"), "1.2.3.0 1::5");
        restart(&mut world);
    }
    // What it has already a claim does not hold back.
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"])]);
    world.apply(service("s", json!({})));
    world.apply(service("four", annotated(ASK, "1.2.3.5")));
    world.claim("c", given("s", &["1.2.3.5"]));
    world.apply(service("s", dual("RequireDualStack")));
    assert_eq!(world.result("s"), "1.2.3.0 1::");
    restart(&mut world);
}

#[test]
fn of_two_addresses_the_one_that_is_lost_comes_from_a_claim_and_the_other_stays() {
    let a4 = |ip| retaining(pool("a4", &[ip]));
    for retained in [false, true] {
        for of_claim in [false, true] {
            let mut world =
                World::new([a4("1.0.0.1"), pool("b6", &["1::1"]), pool("c", &["2.0.0.2", "2::1-2::5"])]);
            world.apply(service("other", annotated("fairlead.dev/address-pool", "c")));
            world.apply(service("s", families(DUAL, "RequireDualStack")));
            assert_eq!(world.result("s"), "1.0.0.1 1::1");
            if of_claim {
                world.claim("own", given("s", &["1.0.0.1"]));
            }
            world.claim("c", given("s", &["2::5"]));
            world.delete("other");
            let a4 = if retained { a4("1.0.0.9") } else { a4("1.0.0.1") };
            world.set_pools([a4.clone(), pool("b6", &["1::1"]), pool("c", &["2.0.0.2", "2::1-2::5"])]);
            assert_eq!(world.result("s"), "1.0.0.1 1::1");
            world.set_pools([a4, pool("c", &["2.0.0.2", "2::1-2::5"])]);
            assert_eq!(world.result("s"), "1.0.0.1 2::5", "retained: {retained}, of a claim: {of_claim}");
            restart(&mut world);
        }
    }
}

#[test]
fn what_is_retained_and_claimed_is_kept_where_the_other_family_is_cut_off() {
    let mut world = World::new([retaining(pool("a4", &["1.0.0.1"])), pool("b6", &["1::1"])]);
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    world.claim("c", given("s", &["1.0.0.1"]));
    let edited = || retaining(pool("a4", &["1.0.0.9"]));
    world.set_pools([edited(), pool("b6", &["1::1"])]);
    assert_eq!(world.result("s"), "1.0.0.1 1::1");
    world.set_pools([edited(), pool("c6", &["2::1"])]);
    assert_eq!(world.result("s"), "1.0.0.1 2::1");
    restart(&mut world);
}
