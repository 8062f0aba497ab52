//! IPClaims: a reserved address goes only to its Service, which may be created later.

use fairlead_crds::model::config::{Closed, Pool};

use super::*;
use fairlead_test_support::{pinned, pool};

const FREE: &str = "Reserved True/Reserved Bound False/ServiceNotFound";
const BOUND: &str = "Reserved True/Reserved Bound True/Bound";

fn on_address(service: &str, address: &str) -> Value {
    json!({ "serviceName": service, "addresses": [address] })
}

fn of_pool(service: &str, pool: &str) -> Value {
    json!({ "serviceName": service, "pool": pool })
}

fn world() -> World {
    World::new([pool("p", &["1.2.3.0-1.2.3.3"])])
}

#[test]
fn claimed_address_stays_reserved_while_service_comes_and_goes() {
    for (spec, ip) in [(on_address("web", "1.2.3.2"), "1.2.3.2"), (of_pool("web", "p"), "1.2.3.0")] {
        let mut world = world();
        world.claim("c", spec);
        assert_eq!(world.claimed("c"), format!("{ip} {FREE}"));
        assert_eq!(world.take_writes(), 1);
        world.check_restart("restart");
        for n in 0..4 {
            world.apply(service(&format!("other{n}"), json!({})));
        }
        assert!(world.results().values().all(|result| result != ip), "{:?}", world.results());
        assert_eq!(world.result("other3"), "PoolExhausted", "one of four addresses is reserved");
        for _ in 0..2 {
            world.apply(service("web", json!({})));
            assert_eq!(world.result("web"), ip);
            assert_eq!(world.claimed("c"), format!("{ip} {BOUND}"));
            world.check_restart("restart");
            world.delete("web");
            assert_eq!(world.claimed("c"), format!("{ip} {FREE}"));
            assert_eq!(world.result("other3"), "PoolExhausted", "the address is still reserved");
            world.check_restart("restart");
        }
        world.delete_claim("c");
        assert_eq!(world.result("other3"), ip, "the waiting Service gets the address");
    }
}

#[test]
fn claimed_address_is_refused_to_other_services() {
    let share = |port: u16| both(shared(port), annotated(REQUEST_IPS, "1.2.3.0"));
    let mut world = world();
    world.claim("c", on_address("web", "1.2.3.0"));
    world.apply(service("thief", annotated(REQUEST_IPS, "1.2.3.0")));
    let reserved = "False/AddressReserved: 1.2.3.0 is reserved for Service default/web by IPClaim default/c";
    assert_eq!(world.message("thief", names::ALLOCATED), reserved);
    world.apply(service("web", share(80)));
    assert_eq!(world.result("web"), "1.2.3.0");
    world.apply(service("sharer", share(81)));
    assert_eq!(world.message("sharer", names::ALLOCATED), reserved);
    // A Service of the same name in another Namespace is a different Service.
    world.namespace("team", &[]);
    world.apply(service("team/web", annotated(REQUEST_IPS, "1.2.3.0")));
    assert_eq!(world.message("team/web", names::ALLOCATED), reserved);
    world.check_restart("restart");
    world.delete("web");
    world.delete_claim("c");
    assert_eq!(world.result("sharer"), "1.2.3.0", "at equal age, the first by name");
    world.check_restart("restart");
}

#[test]
fn claim_on_held_address_is_bound_or_waits_for_other_holder() {
    let mut world = world();
    world.apply(service("web", json!({})));
    world.apply(service("other", json!({})));
    assert_eq!([world.result("web"), world.result("other")], ["1.2.3.0", "1.2.3.1"]);
    world.take_writes();
    world.claim("chosen", of_pool("web", "p"));
    assert_eq!(world.claimed("chosen"), format!("1.2.3.0 {BOUND}"), "the claim prefers the held address");
    assert_eq!(world.take_writes(), 1);
    world.claim("given", on_address("late", "1.2.3.1"));
    assert_eq!(world.claimed("given"), "Reserved False/AddressInUse Bound False/NotReserved");
    world.apply(service("late", json!({})));
    assert_eq!(
        world.message("late", names::ALLOCATED),
        "False/ClaimPending: waiting for IPClaim default/given, which has not yet reserved every address \
         this Service needs: 1.2.3.1 is in use by Service default/other"
    );
    world.check_restart("restart");
    world.delete("other");
    assert_eq!(world.result("late"), "1.2.3.1", "the address is free");
    assert_eq!(world.claimed("given"), format!("1.2.3.1 {BOUND}"));
    world.check_restart("restart");
    // The Service keeps its address without the claim.
    world.delete_claim("given");
    assert_eq!(world.result("late"), "1.2.3.1");
}

#[test]
fn older_of_two_claims_on_one_address_wins() {
    let mut world = world();
    world.claim("a", on_address("web", "1.2.3.2"));
    world.claim("b", on_address("db", "1.2.3.2"));
    world.apply(service("db", json!({})));
    assert_eq!(world.claimed("a"), format!("1.2.3.2 {FREE}"));
    assert_eq!(world.claimed("b"), "Reserved False/AddressReserved Bound False/NotReserved");
    assert_eq!(world.result("db"), "ClaimPending");
    world.check_restart("restart");
    world.delete_claim("a");
    assert_eq!(world.claimed("b"), format!("1.2.3.2 {BOUND}"));
    assert_eq!(world.result("db"), "1.2.3.2");
}

#[test]
fn two_claims_for_one_service_reserve_two_addresses() {
    let mut world = world();
    world.claim("a", of_pool("web", "p"));
    world.claim("b", of_pool("web", "p"));
    assert_eq!(world.claimed("a"), format!("1.2.3.0 {FREE}"));
    assert_eq!(world.claimed("b"), format!("1.2.3.1 {FREE}"));
    world.check_restart("restart");
}

#[test]
fn claim_moved_to_other_service_unblocks_former_service() {
    let mut world = world();
    world.claim("c", json!({ "serviceName": "web", "pool": "none" }));
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "ClaimPending");
    world.claim("c", json!({ "serviceName": "db", "pool": "none" }));
    assert_eq!(world.result("web"), "1.2.3.0");
    world.check_restart("restart");
}

#[test]
fn refused_claim_has_reason_and_recovers() {
    let closed = || Pool { closed: Some(Closed::Disabled), ..pool("p", &["1.2.3.0-1.2.3.3"]) };
    let tenant = || pinned(pool("p", &["1.2.3.0-1.2.3.3"]), 0, &["team"]);
    #[rustfmt::skip]
    let cases = [
        ("the pool does not exist", vec![], of_pool("web", "p"), "PoolNotFound"),
        ("the pool is disabled", vec![closed()], of_pool("web", "p"), "PoolDisabled"),
        ("the pool of the address is disabled", vec![closed()], on_address("web", "1.2.3.0"), "PoolDisabled"),
        ("the pool does not admit the namespace", vec![tenant()], of_pool("web", "p"), "NoPoolMatches"),
        ("the pool of the address does not admit the namespace",
         vec![tenant()], on_address("web", "1.2.3.0"), "NoPoolMatches"),
        ("the address is in no pool",
         vec![pool("p", &["5.5.5.5"])], on_address("web", "1.2.3.0"), "AddressNotInPool"),
        ("the pool lacks the family", vec![pool("p", &["1::1"])], of_pool("web", "p"), "FamilyMismatch"),
    ];
    for (what, pools, spec, reason) in cases {
        let mut world = World::new(pools);
        world.claim("c", spec);
        world.apply(service("web", json!({})));
        assert_eq!(world.claimed("c"), format!("Reserved False/{reason} Bound False/NotReserved"), "{what}");
        assert_eq!(world.result("web"), "ClaimPending", "{what}");
        world.check_restart("restart");
        world.set_pools([pool("p", &["1.2.3.0-1.2.3.3"])]);
        assert_eq!(world.claimed("c"), format!("1.2.3.0 {BOUND}"), "{what}: recovered");
        assert_eq!(world.result("web"), "1.2.3.0", "{what}");
        world.check_restart("restart");
    }
    let mut world = world();
    world.claim("c", json!({ "serviceName": "web", "pool": "p", "addresses": ["1.2.3.0"] }));
    assert_eq!(world.claimed("c"), "Reserved False/InvalidClaim Bound False/NotReserved");
    world.claim("c", on_address("web", "1.2.3.0"));
    assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"));
}

#[test]
fn claim_precedes_services_of_equal_age_in_full_pool() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("holder", json!({})));
    world.apply(service("a-waits", json!({})));
    world.claim("c", of_pool("web", "p"));
    assert_eq!(world.claimed("c"), "Reserved False/PoolExhausted Bound False/NotReserved");
    world.check_restart("restart");
    world.delete("holder");
    assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"));
    assert_eq!(world.result("a-waits"), "PoolExhausted");
}

#[test]
fn claim_families_complement_service_families() {
    let dual: &[&str] = &["10.96.0.1", "fd00::1"];
    let both_families = json!({ "serviceName": "web", "pool": "p", "ipFamilies": ["IPv4", "IPv6"] });
    let four = on_address("web", "1.2.3.5");
    let six = on_address("web", "1::5");
    #[rustfmt::skip]
    let cases = [
        ("both families for dual-stack",
         both_families.clone(), families(dual, "RequireDualStack"), "1.2.3.0 1::"),
        ("both families for single-stack", both_families, json!({}), "1.2.3.0"),
        ("first family for RequireDualStack",
         four.clone(), families(dual, "RequireDualStack"), "1.2.3.5 1::"),
        ("first family for PreferDualStack", four, families(dual, "PreferDualStack"), "1.2.3.5 1::"),
        ("second family for RequireDualStack",
         six.clone(), families(dual, "RequireDualStack"), "1.2.3.0 1::5"),
        ("second family for PreferDualStack", six.clone(), families(dual, "PreferDualStack"), "1.2.3.0 1::5"),
        ("other family for single-stack", six, json!({}), "1.2.3.0"),
    ];
    for (what, spec, with, expected) in cases {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"])]);
        world.claim("c", spec);
        world.apply(service("web", with));
        assert_eq!(world.result("web"), expected, "{what}");
        world.check_restart("restart");
    }
}

#[test]
fn service_with_partial_claim_waits_without_cooldown_entries() {
    let with = |name: &str| {
        let dual = families(&["10.96.0.1", "fd00::1"], "RequireDualStack");
        service(name, both(dual, annotated(SHARING_KEY, "k")))
    };
    let cooling =
        Pool { reuse_after: std::time::Duration::from_secs(60), ..pool("p", &["1.2.3.0-1.2.3.3", "1::1"]) };
    let mut world = World::new([cooling]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.claim("c", on_address("web", "1.2.3.1"));
    world.apply(with("web"));
    world.apply(with("also"));
    assert_eq!([world.result("web"), world.result("also")], ["PoolExhausted", "PoolExhausted"]);
    assert_eq!(
        world.index.ipam().released("p").count(),
        0,
        "an address that was never held has no cool-down"
    );
    world.check_restart("restart");
    world.delete("six");
    world.wait(61);
    assert_eq!(world.result("also"), "1.2.3.0 1::1", "at equal age, the first by name");
}

#[test]
fn service_with_other_address_keeps_it_despite_claim() {
    let mut world = world();
    world.apply(service("web", json!({})));
    world.claim("c", on_address("web", "1.2.3.2"));
    assert_eq!(world.result("web"), "1.2.3.0");
    assert_eq!(world.claimed("c"), "1.2.3.2 Reserved True/Reserved Bound False/ServiceHoldsAnother");
    world.check_restart("restart");
    world.delete("web");
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "1.2.3.2");
}

#[test]
fn claim_recovers_address_when_shrunk_pool_grows_back() {
    let mut world = world();
    world.claim("given", on_address("web", "1.2.3.0"));
    world.claim("chosen", of_pool("db", "p"));
    assert_eq!(world.claimed("chosen"), format!("1.2.3.1 {FREE}"));
    world.set_pools([pool("p", &["1.2.3.2-1.2.3.3"])]);
    assert!(world.claimed("given").contains("Reserved False/AddressNotInPool"));
    assert!(
        world.claimed("chosen").starts_with("1.2.3.1 Reserved False/AddressNotInPool"),
        "the status still lists the address"
    );
    world.check_restart("restart");
    world.set_pools([pool("p", &["1.2.3.0-1.2.3.3"])]);
    assert_eq!(world.claimed("given"), format!("1.2.3.0 {FREE}"));
    assert_eq!(world.claimed("chosen"), format!("1.2.3.1 {FREE}"), "the same address as before");
}

#[test]
fn refused_claim_on_two_addresses_is_stable_across_restart() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.3"])]);
    world.claim("c", json!({ "serviceName": "web", "addresses": ["1.2.3.1", "1::1"] }));
    world.check_restart("restart");
    world.apply(service("s", annotated(REQUEST_IPS, "1.2.3.1")));
    world.check_restart("restart");
}

#[test]
fn single_family_holder_gets_other_family_from_new_claim() {
    let mut world = World::new([pool("p", &["1.2.3.0", "1::1"])]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.apply(service("s", families(&["10.96.0.1", "fd00::1"], "PreferDualStack")));
    assert_eq!(world.result("s"), "1.2.3.0");
    world.claim("c", json!({ "serviceName": "s", "pool": "p", "ipFamilies": ["IPv4", "IPv6"] }));
    world.delete("six");
    assert_eq!(world.result("s"), "1.2.3.0 1::1");
}

#[test]
fn irrelevant_claim_does_not_block_its_service() {
    let of =
        |pool: &str, families: &[&str]| json!({ "serviceName": "web", "pool": pool, "ipFamilies": families });
    let dual = |policy| families(&["10.96.0.1", "fd00::1"], policy);
    let named = annotated(REQUEST_POOL, "q");
    #[rustfmt::skip]
    let cases = [
        ("another family, from a pool", of("four", &["IPv6"]), json!({}), "1.2.3.1"),
        ("another family, a given address", on_address("web", "9::9"), json!({}), "1.2.3.1"),
        ("another pool", of("full", &["IPv4"]), named.clone(), "5.5.5.5"),
        ("an address of another pool", on_address("web", "1.2.3.0"), named.clone(), "5.5.5.5"),
        ("an address that is in no pool yet", on_address("web", "8.8.8.8"), named, "ClaimPending"),
        ("the only family", of("full", &["IPv4"]), json!({}), "ClaimPending"),
        ("one of two preferred families", of("four", &["IPv6"]), dual("PreferDualStack"), "ClaimPending"),
        ("one of two required families", of("four", &["IPv6"]), dual("RequireDualStack"), "ClaimPending"),
        ("an invalid claim", json!({ "serviceName": "web" }), json!({}), "ClaimPending"),
    ];
    for (what, spec, with, expected) in cases {
        let mut world = World::new([
            pool("four", &["1.2.3.0-1.2.3.3"]),
            pool("q", &["5.5.5.5", "5::5"]),
            Pool { auto_assign: false, ..pool("full", &["6.6.6.6"]) },
        ]);
        world.apply(service("holder", json!({})));
        world.apply(service("other", annotated(REQUEST_POOL, "full")));
        world.claim("c", spec);
        assert!(world.claimed("c").contains("Reserved False"), "{what}: {}", world.claimed("c"));
        world.apply(service("web", with));
        assert_eq!(world.result("web"), expected, "{what}");
        world.check_restart("restart");
    }
}

#[test]
fn claim_edited_to_be_irrelevant_unblocks_its_service() {
    let mut world = World::new([pool("p", &["1.2.3.0"]), pool("q", &["5.5.5.5"])]);
    world.apply(service("holder", json!({})));
    world.claim("c", of_pool("web", "p"));
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "ClaimPending");
    world.claim("c", json!({ "serviceName": "web", "pool": "p", "ipFamilies": ["IPv6"] }));
    assert_eq!(world.result("web"), "5.5.5.5");
    world.check_restart("restart");
}
