//! Reservations of claims survive edits of pools, edits of the claim, and restarts.

use fairlead_crds::model::config::{Closed, Pool};

use super::*;
use crate::ipam::Ipam;
use fairlead_test_support::{pool, refused, retaining};

const FREE: &str = "Reserved True/Reserved Bound False/ServiceNotFound";

fn given(service: &str, addresses: &[&str]) -> Value {
    json!({ "serviceName": service, "addresses": addresses })
}

fn of_pool(service: &str, families: &[&str]) -> Value {
    json!({ "serviceName": service, "pool": "p", "ipFamilies": families })
}

fn reserved_message(world: &World, claim: &str) -> String {
    let conditions = world.claims[&key(claim)].status.clone().unwrap().conditions;
    let c = conditions.into_iter().find(|c| c.type_() == fairlead_crds::names::RESERVED).unwrap();
    format!("{}/{}: {}", c.status(), c.reason(), c.message())
}

fn claims_on_p(ipam: &Ipam) -> usize {
    ipam.claims_on("p").len()
}

/// Returns the pools in force while p is refused.
fn others() -> [(&'static str, Vec<Pool>); 3] {
    [
        ("no other pool contains the range", vec![]),
        ("a new pool contains the range", vec![retaining(pool("q", &["1.2.3.0-1.2.3.3"]))]),
        ("an older pool grew over the range", vec![pool("older", &["1.2.2.0-1.2.2.1", "1.2.3.0-1.2.3.3"])]),
    ]
}

#[test]
fn refused_pool_keeps_claimed_address_reserved() {
    for spec in [of_pool("web", &["IPv4"]), given("web", &["1.2.3.0"])] {
        for (what, in_force) in others() {
            let p = || retaining(pool("p", &["1.2.3.0-1.2.3.3"]));
            let mut world = World::new([p()]);
            world.claim("c", spec.clone());
            world.set_pools_and_refused(in_force.clone(), &["p"]);
            for n in 0..6 {
                world.apply(service(&format!("thief{n}"), json!({})));
            }
            let asks = annotated(REQUEST_IPS, "1.2.3.0");
            world.apply(service("asks", asks));
            for _ in 0..2 {
                assert!(!world.results().values().any(|result| result == "1.2.3.0"), "{what}");
                assert_eq!(
                    reserved_message(&world, "c"),
                    "True/PoolRefused: 1.2.3.0 stays reserved: IPAddressPool p is refused: see its condition \
                     Accepted",
                    "{what}"
                );
                assert_eq!(claims_on_p(world.index.ipam()), 1, "{what}: the claim uses p");
                world.check_restart("restart");
            }
            world.set_pools_and_refused([p()], &[]);
            assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"), "{what}: repaired");
        }
    }
}

#[test]
fn deleting_pool_waits_for_claims_despite_new_owner_of_range() {
    let p = || retaining(Pool { closed: Some(Closed::Deleting), ..pool("p", &["1.2.3.0-1.2.3.3"]) });
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.3"]))]);
    world.claim("c", of_pool("web", &["IPv4"]));
    world.set_pools([p()]);
    world.config.refused_pools = pools([p()]);
    world.set_pools([retaining(pool("q", &["1.2.3.0-1.2.3.3"]))]);
    world.apply(service("thief", json!({})));
    assert_eq!(world.result("thief"), "1.2.3.1");
    world.check_restart("restart");
    assert_eq!(claims_on_p(world.index.ipam()), 1);
    world.apply(service("web", json!({})));
    assert_eq!(
        world.result("web"),
        "1.2.3.0",
        "the Service holds the address of the pool that contains it now"
    );
    world.check_restart("restart");
    world.delete_claim("c");
    assert_eq!(claims_on_p(world.index.ipam()), 0);
}

#[test]
fn service_waits_for_refused_pool_of_its_claim() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.3"]), pool("q", &["5.5.5.5"])]);
    world.claim("c", of_pool("web", &["IPv4"]));
    world.set_pools_and_refused([pool("q", &["5.5.5.5"])], &["p"]);
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "ClaimPending");
    world.check_restart("restart");
    world.set_pools_and_refused([pool("p", &["1.2.3.0-1.2.3.3"]), pool("q", &["5.5.5.5"])], &[]);
    assert_eq!(world.result("web"), "1.2.3.0");
}

#[test]
fn retained_claim_blocks_new_owner_of_range() {
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.3"]))]);
    world.claim("c", of_pool("web", &["IPv4"]));
    let q = pool("q", &["1.2.3.0-1.2.3.1"]);
    world.set_pools([retaining(pool("p", &["1.2.3.2-1.2.3.3"])), q]);
    let expected = "True/Retained: 1.2.3.0 stays reserved: IPAddressPool p no longer has this address";
    assert_eq!(reserved_message(&world, "c"), expected);
    for n in 0..4 {
        world.apply(service(&format!("thief{n}"), json!({})));
    }
    assert!(!world.results().values().any(|result| result == "1.2.3.0"), "{:?}", world.results());
    world.check_restart("restart");
    world.delete_claim("c");
    assert!(world.results().values().any(|result| result == "1.2.3.0"), "{:?}", world.results());
}

#[test]
fn claim_in_disabled_pool_survives_refusal_of_pool() {
    for spec in [of_pool("web", &["IPv4"]), given("web", &["1.2.3.0"])] {
        let p = |closed| Pool { closed, ..pool("p", &["1.2.3.0-1.2.3.1"]) };
        let mut world = World::new([p(None)]);
        world.claim("c", spec);
        world.set_pools([p(Some(Closed::Disabled))]);
        world.set_pools_and_refused([], &["p"]);
        world.check_restart("restart");
        world.set_pools_and_refused([p(Some(Closed::Disabled))], &[]);
        assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"));
        world.check_restart("restart");
    }
}

#[test]
fn claim_that_asks_for_more_keeps_reserved_address() {
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
        assert_eq!(reserved_message(&world, "c"), format!("False/{why}; 1.2.3.0 stays reserved"));
        world.check_restart("restart");
        world.apply(service("web", json!({})));
        assert_eq!(world.result("web"), "1.2.3.0", "{why}: the Service gets the reserved address");
        world.check_restart("restart");
        world.delete("six");
        assert_eq!(world.claimed("c"), "1.2.3.0 1::1 Reserved True/Reserved Bound True/Bound", "{why}");
        world.check_restart("restart");
    }
}

#[test]
fn claim_on_two_addresses_keeps_the_remaining_one() {
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
                "False/AddressNotInPool: 1::1 is in no IPAddressPool, or avoidBuggyIPs excludes it; \
                 1.2.3.0 stays reserved"
            };
            assert_eq!(reserved_message(&world, "c"), expected, "{spec}");
            world.check_restart("restart");
            world.set_pools([p(&all)]);
            assert_eq!(world.claimed("c"), format!("1.2.3.0 1::1 {FREE}"), "{spec} {retains}");
            world.check_restart("restart");
        }
    }
}

#[test]
fn lost_claim_is_not_restored_until_pool_contains_address() {
    let less = || pool("p", &["1.2.3.1-1.2.3.3"]);
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.3"])]);
    world.claim("c", of_pool("web", &["IPv4"]));
    world.set_pools([less()]);
    world.set_pools([retaining(less()), pool("q", &["1.2.3.0"])]);
    assert_eq!(world.claimed("c"), "1.2.3.0 Reserved False/AddressNotInPool Bound False/NotReserved");
    world.check_restart("restart");
    world.set_pools([pool("p", &["1.2.3.0-1.2.3.3"])]);
    assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"));
}

#[test]
fn invalid_claim_edit_keeps_reservation() {
    for spec in [of_pool("web", &["IPv6", "IPv4"]), given("web", &["1::1", "1.2.3.0"])] {
        let mut world = World::new([pool("p", &["1.2.3.0", "1::1"])]);
        world.claim("c", spec.clone());
        world.apply(service("waits", json!({})));
        world.take_writes();
        world.claim("c", json!({ "serviceName": "web", "pool": "p", "addresses": ["1.2.3.0"] }));
        assert_eq!(world.take_writes(), 1);
        assert_eq!(
            reserved_message(&world, "c"),
            "False/InvalidClaim: addresses and pool are both set: set exactly one of them; 1::1 and 1.2.3.0 \
             stay reserved"
        );
        assert_eq!(world.result("waits"), "PoolExhausted");
        world.check_restart("restart");
        world.claim("c", spec);
        assert_eq!(world.claimed("c"), format!("1::1 1.2.3.0 {FREE}"));
        world.check_restart("restart");
    }
}

#[test]
fn address_dropped_from_claim_goes_to_waiter() {
    let mut world = World::new([pool("p", &["1.2.3.0", "1::1"])]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.claim("c", of_pool("web", &["IPv4"]));
    world.apply(service("waits", json!({})));
    world.claim("c", of_pool("web", &["IPv6"]));
    assert_eq!(world.result("waits"), "1.2.3.0");
    assert_eq!(world.claimed("c"), "Reserved False/PoolExhausted Bound False/NotReserved");
    world.check_restart("restart");
}

#[test]
fn claim_edited_offline_does_not_displace_other_claim() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.namespace("team", &[]);
    world.claim("a", given("mine", &["1.2.3.1"]));
    world.claim("team/b", given("web", &["1.2.3.5"]));
    world.claims.get_mut(&key("a")).unwrap().spec.addresses = vec!["1.2.3.5".into()];
    world.restart();
    assert_eq!(world.claimed("team/b"), format!("1.2.3.5 {FREE}"));
    assert_eq!(world.claimed("a"), "Reserved False/AddressReserved Bound False/NotReserved");
    world.check_restart("restart");
}

#[test]
fn claim_that_changes_pool_is_written_once() {
    let mut world = World::new([pool("a", &["1.2.3.0"]), pool("b", &["5.5.5.5"])]);
    world.claim("c", json!({ "serviceName": "web", "pool": "a" }));
    world.take_writes();
    world.claim("c", json!({ "serviceName": "web", "pool": "b" }));
    assert_eq!((world.claimed("c"), world.take_writes()), (format!("5.5.5.5 {FREE}"), 1));
    world.check_restart("restart");
    world.claim("c", json!({ "serviceName": "web", "pool": "none" }));
    assert_eq!(world.claimed("c"), "Reserved False/PoolNotFound Bound False/NotReserved");
    assert_eq!(world.take_writes(), 1);
    world.check_restart("restart");
}

#[test]
fn refused_pool_used_by_claim_keeps_finalizer() {
    use super::objects::{configuration, pool_object, resolve};
    let mut p = pool_object("p", &["1.2.3.0-1.2.3.9"]);
    p.spec.reclaim = "Retain".into();
    p.metadata.finalizers = Some(vec![names::POOL_PROTECTION.to_owned()]);
    let mut world = World::new([retaining(pool("p", &["1.2.3.0-1.2.3.9"]))]);
    world.claim("c", of_pool("web", &["IPv4"]));
    p.spec.addresses = vec!["nonsense".into()];
    let mut configuration = configuration(vec![p]);
    resolve(&mut configuration);
    world.config.refused_pools = pools([retaining(refused("p"))]);
    world.set_pools([]);
    assert_eq!(configuration.finalizer_patch("p", world.index.ipam()), None);
    world.delete_claim("c");
    assert!(configuration.finalizer_patch("p", world.index.ipam()).is_some());
}

#[test]
fn new_dual_stack_service_keeps_address_and_adds_claimed_one() {
    let p = |closed| Pool { closed, ..pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"]) };
    #[rustfmt::skip]
    let cases = [
        ("its pool contains the other family, too",
         "5::5", None, &["RequireDualStack", "PreferDualStack"][..]),
        ("the claim uses the same pool", "1::5", None, &["RequireDualStack", "PreferDualStack"]),
        ("its pool is disabled", "1::5", Some(Closed::Disabled), &["RequireDualStack", "PreferDualStack"]),
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
                world.check_restart("restart");
            }
        }
    }
}

#[test]
fn new_dual_stack_service_waits_for_pending_claim() {
    let dual = |policy| families(DUAL, policy);
    for (policy, meanwhile) in [("PreferDualStack", "1.2.3.0"), ("RequireDualStack", "ClaimPending")] {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"])]);
        world.apply(service("s", json!({})));
        world.apply(service(
            "six",
            both(families(&["fd00::1"], "SingleStack"), annotated(REQUEST_IPS, "1::5")),
        ));
        world.claim("c", given("s", &["1::5"]));
        world.apply(service("s", dual(policy)));
        assert_eq!(world.result("s"), meanwhile);
        world.check_restart("restart");
        world.delete("six");
        assert_eq!(world.result("s"), "1.2.3.0 1::5");
        world.check_restart("restart");
    }
    // A claim does not block an address that the Service already holds.
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"])]);
    world.apply(service("s", json!({})));
    world.apply(service("four", annotated(REQUEST_IPS, "1.2.3.5")));
    world.claim("c", given("s", &["1.2.3.5"]));
    world.apply(service("s", dual("RequireDualStack")));
    assert_eq!(world.result("s"), "1.2.3.0 1::");
    world.check_restart("restart");
}

#[test]
fn lost_address_is_replaced_from_claim_and_other_stays() {
    let a4 = |ip| retaining(pool("a4", &[ip]));
    for retained in [false, true] {
        for of_claim in [false, true] {
            let mut world =
                World::new([a4("1.0.0.1"), pool("b6", &["1::1"]), pool("c", &["2.0.0.2", "2::1-2::5"])]);
            world.apply(service("other", annotated(REQUEST_POOL, "c")));
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
            world.check_restart("restart");
        }
    }
}

#[test]
fn retained_claimed_address_stays_when_other_family_is_lost() {
    let mut world = World::new([retaining(pool("a4", &["1.0.0.1"])), pool("b6", &["1::1"])]);
    world.apply(service("s", families(DUAL, "RequireDualStack")));
    world.claim("c", given("s", &["1.0.0.1"]));
    let edited = || retaining(pool("a4", &["1.0.0.9"]));
    world.set_pools([edited(), pool("b6", &["1::1"])]);
    assert_eq!(world.result("s"), "1.0.0.1 1::1");
    world.set_pools([edited(), pool("c6", &["2::1"])]);
    assert_eq!(world.result("s"), "1.0.0.1 2::1");
    world.check_restart("restart");
}
