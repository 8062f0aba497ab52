//! Claims: what is reserved for a Service is its, whether or not it exists, and nobody else's.

use fairlead_crds::model::config::{Closed, Pool};

use super::*;
use fairlead_test_support::{pinned, pool};

const ASK: &str = "fairlead.dev/load-balancer-ips";
const FREE: &str = "Reserved True/Reserved Bound False/ServiceNotFound";
const BOUND: &str = "Reserved True/Reserved Bound True/Bound";

fn given(service: &str, address: &str) -> Value {
    json!({ "serviceName": service, "addresses": [address] })
}

fn of_pool(service: &str, pool: &str) -> Value {
    json!({ "serviceName": service, "pool": pool })
}

fn world() -> World {
    World::new([pool("p", &["1.2.3.0-1.2.3.3"])])
}

fn restart(world: &mut World) {
    let claims =
        |world: &World| world.claims.keys().map(|c| world.claimed(&c.to_string())).collect::<Vec<_>>();
    let before = (world.results(), claims(world));
    world.take_writes();
    let events = world.events.len();
    world.restart();
    assert_eq!((world.results(), claims(world)), before);
    assert_eq!((world.take_writes(), world.events.len()), (0, events), "a restart writes and tells nothing");
}

#[test]
fn a_claimed_address_is_for_its_service_whenever_that_comes_and_goes() {
    for (spec, ip) in [(given("web", "1.2.3.2"), "1.2.3.2"), (of_pool("web", "p"), "1.2.3.0")] {
        let mut world = world();
        world.claim("c", spec);
        assert_eq!(world.claimed("c"), format!("{ip} {FREE}"));
        assert_eq!(world.take_writes(), 1);
        restart(&mut world);
        for n in 0..4 {
            world.apply(service(&format!("other{n}"), json!({})));
        }
        assert!(world.results().values().all(|result| result != ip), "{:?}", world.results());
        assert_eq!(world.result("other3"), "PoolExhausted", "one of four is reserved");
        for _ in 0..2 {
            world.apply(service("web", json!({})));
            assert_eq!(world.result("web"), ip);
            assert_eq!(world.claimed("c"), format!("{ip} {BOUND}"));
            restart(&mut world);
            world.delete("web");
            assert_eq!(world.claimed("c"), format!("{ip} {FREE}"));
            assert_eq!(world.result("other3"), "PoolExhausted", "it is still reserved");
            restart(&mut world);
        }
        world.delete_claim("c");
        assert_eq!(world.result("other3"), ip, "who waits gets it");
    }
}

#[test]
fn nobody_else_gets_or_joins_a_claimed_address() {
    let share = |port: u16| {
        json!({
            "metadata": { "annotations": { "fairlead.dev/allow-shared-ip": "k", ASK: "1.2.3.0" } },
            "spec": { "ports": [{ "port": port, "protocol": "TCP" }] },
        })
    };
    let mut world = world();
    world.claim("c", given("web", "1.2.3.0"));
    world.apply(service("thief", annotated(ASK, "1.2.3.0")));
    let reserved = "False/AddressReserved: 1.2.3.0 is reserved for Service default/web by IPClaim default/c";
    assert_eq!(world.message("thief", names::ALLOCATED), reserved);
    world.apply(service("web", share(80)));
    assert_eq!(world.result("web"), "1.2.3.0");
    world.apply(service("sharer", share(81)));
    assert_eq!(world.message("sharer", names::ALLOCATED), reserved);
    // The same name in another namespace is another Service.
    world.namespace("team", &[]);
    world.apply(service("team/web", annotated(ASK, "1.2.3.0")));
    assert_eq!(world.message("team/web", names::ALLOCATED), reserved);
    restart(&mut world);
    world.delete("web");
    world.delete_claim("c");
    assert_eq!(world.result("sharer"), "1.2.3.0", "of the same age, the first by name");
    restart(&mut world);
}

#[test]
fn a_claim_on_what_its_service_holds_is_bound_at_once_and_on_what_another_holds_waits() {
    let mut world = world();
    world.apply(service("web", json!({})));
    world.apply(service("other", json!({})));
    assert_eq!([world.result("web"), world.result("other")], ["1.2.3.0", "1.2.3.1"]);
    world.take_writes();
    world.claim("chosen", of_pool("web", "p"));
    assert_eq!(world.claimed("chosen"), format!("1.2.3.0 {BOUND}"), "what it holds comes first");
    assert_eq!(world.take_writes(), 1);
    world.claim("given", given("late", "1.2.3.1"));
    assert_eq!(world.claimed("given"), "Reserved False/AddressInUse Bound False/NotReserved");
    world.apply(service("late", json!({})));
    assert_eq!(
        world.message("late", names::ALLOCATED),
        "False/ClaimPending: waiting for IPClaim default/given, which has not yet reserved every address this Service needs: 1.2.3.1 is in use by Service \
         default/other"
    );
    restart(&mut world);
    world.delete("other");
    assert_eq!(world.result("late"), "1.2.3.1", "as soon as it is free");
    assert_eq!(world.claimed("given"), format!("1.2.3.1 {BOUND}"));
    restart(&mut world);
    // Without its claim it keeps what it holds.
    world.delete_claim("given");
    assert_eq!(world.result("late"), "1.2.3.1");
}

#[test]
fn of_two_claims_on_one_address_the_older_has_it_and_then_the_younger() {
    let mut world = world();
    world.claim("a", given("web", "1.2.3.2"));
    world.claim("b", given("db", "1.2.3.2"));
    world.apply(service("db", json!({})));
    assert_eq!(world.claimed("a"), format!("1.2.3.2 {FREE}"));
    assert_eq!(world.claimed("b"), "Reserved False/AddressReserved Bound False/NotReserved");
    assert_eq!(world.result("db"), "ClaimPending");
    restart(&mut world);
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
    restart(&mut world);
}

#[test]
fn a_claim_for_another_service_lets_the_one_it_was_for_go_on() {
    let mut world = world();
    world.claim("c", json!({ "serviceName": "web", "pool": "none" }));
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "ClaimPending");
    world.claim("c", json!({ "serviceName": "db", "pool": "none" }));
    assert_eq!(world.result("web"), "1.2.3.0");
    restart(&mut world);
}

#[test]
fn why_a_claim_has_nothing_and_what_helps() {
    let closed = || Pool { closed: Some(Closed::Disabled), ..pool("p", &["1.2.3.0-1.2.3.3"]) };
    let tenant = || pinned(pool("p", &["1.2.3.0-1.2.3.3"]), 0, &["team"]);
    #[rustfmt::skip]
    let cases = [
        ("the pool does not exist", vec![], of_pool("web", "p"), "PoolNotFound"),
        ("the pool is disabled", vec![closed()], of_pool("web", "p"), "PoolDisabled"),
        ("the address is of a disabled pool", vec![closed()], given("web", "1.2.3.0"), "PoolDisabled"),
        ("the pool is not open to the namespace", vec![tenant()], of_pool("web", "p"), "NoPoolMatches"),
        ("nor is the address", vec![tenant()], given("web", "1.2.3.0"), "NoPoolMatches"),
        ("the address is in no pool", vec![pool("p", &["5.5.5.5"])], given("web", "1.2.3.0"), "AddressNotInPool"),
        ("the pool lacks the family", vec![pool("p", &["1::1"])], of_pool("web", "p"), "FamilyMismatch"),
    ];
    for (what, pools, spec, reason) in cases {
        let mut world = World::new(pools);
        world.claim("c", spec);
        world.apply(service("web", json!({})));
        assert_eq!(world.claimed("c"), format!("Reserved False/{reason} Bound False/NotReserved"), "{what}");
        assert_eq!(world.result("web"), "ClaimPending", "{what}");
        restart(&mut world);
        world.set_pools([pool("p", &["1.2.3.0-1.2.3.3"])]);
        assert_eq!(world.claimed("c"), format!("1.2.3.0 {BOUND}"), "{what}, then helped");
        assert_eq!(world.result("web"), "1.2.3.0", "{what}");
        restart(&mut world);
    }
    let mut world = world();
    world.claim("c", json!({ "serviceName": "web", "pool": "p", "addresses": ["1.2.3.0"] }));
    assert_eq!(world.claimed("c"), "Reserved False/InvalidClaim Bound False/NotReserved");
    world.claim("c", given("web", "1.2.3.0"));
    assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"));
}

#[test]
fn a_claim_waits_for_a_full_pool_and_comes_before_services_of_its_age() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("holder", json!({})));
    world.apply(service("a-waits", json!({})));
    world.claim("c", of_pool("web", "p"));
    assert_eq!(world.claimed("c"), "Reserved False/PoolExhausted Bound False/NotReserved");
    restart(&mut world);
    world.delete("holder");
    assert_eq!(world.claimed("c"), format!("1.2.3.0 {FREE}"));
    assert_eq!(world.result("a-waits"), "PoolExhausted");
}

#[test]
fn claims_and_families() {
    let dual: &[&str] = &["10.96.0.1", "fd00::1"];
    let both_families = json!({ "serviceName": "web", "pool": "p", "ipFamilies": ["IPv4", "IPv6"] });
    let four = given("web", "1.2.3.5");
    let six = given("web", "1::5");
    #[rustfmt::skip]
    let cases = [
        ("both for both", both_families.clone(), families(dual, "RequireDualStack"), "1.2.3.0 1::"),
        ("both for one", both_families, json!({}), "1.2.3.0"),
        ("one for both required", four.clone(), families(dual, "RequireDualStack"), "1.2.3.5 1::"),
        ("one for both preferred", four, families(dual, "PreferDualStack"), "1.2.3.5 1::"),
        ("the second for both required", six.clone(), families(dual, "RequireDualStack"), "1.2.3.0 1::5"),
        ("the second for both preferred", six.clone(), families(dual, "PreferDualStack"), "1.2.3.0 1::5"),
        ("one of the other family", six, json!({}), "1.2.3.0"),
    ];
    for (what, spec, with, expected) in cases {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9", "1::-1::9"])]);
        world.claim("c", spec);
        world.apply(service("web", with));
        assert_eq!(world.result("web"), expected, "{what}");
        restart(&mut world);
    }
}

#[test]
fn those_who_need_more_than_is_claimed_and_cannot_have_it_wait_quietly() {
    let with = |name: &str| {
        let dual = families(&["10.96.0.1", "fd00::1"], "RequireDualStack");
        service(name, both(dual, annotated("fairlead.dev/allow-shared-ip", "k")))
    };
    let cooling =
        Pool { reuse_after: std::time::Duration::from_secs(60), ..pool("p", &["1.2.3.0-1.2.3.3", "1::1"]) };
    let mut world = World::new([cooling]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.claim("c", given("web", "1.2.3.1"));
    world.apply(with("web"));
    world.apply(with("also"));
    assert_eq!([world.result("web"), world.result("also")], ["PoolExhausted", "PoolExhausted"]);
    assert_eq!(world.index.ipam().released("p").count(), 0, "what was never held is not released");
    restart(&mut world);
    world.delete("six");
    world.wait(61);
    assert_eq!(world.result("also"), "1.2.3.0 1::1", "of the same age, the first by name");
}

#[test]
fn a_service_that_holds_another_address_keeps_it() {
    let mut world = world();
    world.apply(service("web", json!({})));
    world.claim("c", given("web", "1.2.3.2"));
    assert_eq!(world.result("web"), "1.2.3.0");
    assert_eq!(world.claimed("c"), "1.2.3.2 Reserved True/Reserved Bound False/ServiceHoldsAnother");
    restart(&mut world);
    world.delete("web");
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "1.2.3.2");
}

#[test]
fn a_pool_that_shrinks_over_a_claimed_address_has_it_no_more_until_it_grows_back() {
    let mut world = world();
    world.claim("given", given("web", "1.2.3.0"));
    world.claim("chosen", of_pool("db", "p"));
    assert_eq!(world.claimed("chosen"), format!("1.2.3.1 {FREE}"));
    world.set_pools([pool("p", &["1.2.3.2-1.2.3.3"])]);
    assert!(world.claimed("given").contains("Reserved False/AddressNotInPool"));
    assert!(world.claimed("chosen").starts_with("1.2.3.1 Reserved False/AddressNotInPool"), "it stays noted");
    restart(&mut world);
    world.set_pools([pool("p", &["1.2.3.0-1.2.3.3"])]);
    assert_eq!(world.claimed("given"), format!("1.2.3.0 {FREE}"));
    assert_eq!(world.claimed("chosen"), format!("1.2.3.1 {FREE}"), "the same as before");
}

#[test]
fn a_claim_on_two_addresses_says_the_same_after_a_restart_whichever_is_taken() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.3"])]);
    world.claim("c", json!({ "serviceName": "web", "addresses": ["1.2.3.1", "1::1"] }));
    restart(&mut world);
    world.apply(service("s", annotated(ASK, "1.2.3.1")));
    restart(&mut world);
}

#[test]
fn a_service_that_has_one_family_gets_the_other_from_a_claim_that_gets_it() {
    let mut world = World::new([pool("p", &["1.2.3.0", "1::1"])]);
    world.apply(service("six", families(&["fd00::1"], "SingleStack")));
    world.apply(service("s", families(&["10.96.0.1", "fd00::1"], "PreferDualStack")));
    assert_eq!(world.result("s"), "1.2.3.0");
    world.claim("c", json!({ "serviceName": "s", "pool": "p", "ipFamilies": ["IPv4", "IPv6"] }));
    world.delete("six");
    assert_eq!(world.result("s"), "1.2.3.0 1::1");
}

#[test]
fn a_claim_that_has_nothing_for_its_service_does_not_hold_it_up() {
    let of =
        |pool: &str, families: &[&str]| json!({ "serviceName": "web", "pool": pool, "ipFamilies": families });
    let dual = |policy| families(&["10.96.0.1", "fd00::1"], policy);
    let named = annotated("fairlead.dev/address-pool", "q");
    #[rustfmt::skip]
    let cases = [
        ("another family, of a pool", of("four", &["IPv6"]), json!({}), "1.2.3.1"),
        ("another family, an address", given("web", "9::9"), json!({}), "1.2.3.1"),
        ("another pool", of("full", &["IPv4"]), named.clone(), "5.5.5.5"),
        ("an address of another pool", given("web", "1.2.3.0"), named.clone(), "5.5.5.5"),
        ("an address that no pool has yet", given("web", "8.8.8.8"), named, "ClaimPending"),
        ("the only family", of("full", &["IPv4"]), json!({}), "ClaimPending"),
        ("one of two families", of("four", &["IPv6"]), dual("PreferDualStack"), "ClaimPending"),
        ("one of two required", of("four", &["IPv6"]), dual("RequireDualStack"), "ClaimPending"),
        ("what cannot be understood", json!({ "serviceName": "web" }), json!({}), "ClaimPending"),
    ];
    for (what, spec, with, expected) in cases {
        let mut world = World::new([
            pool("four", &["1.2.3.0-1.2.3.3"]),
            pool("q", &["5.5.5.5", "5::5"]),
            Pool { auto_assign: false, ..pool("full", &["6.6.6.6"]) },
        ]);
        world.apply(service("holder", json!({})));
        world.apply(service("other", annotated("fairlead.dev/address-pool", "full")));
        world.claim("c", spec);
        assert!(world.claimed("c").contains("Reserved False"), "{what}: {}", world.claimed("c"));
        world.apply(service("web", with));
        assert_eq!(world.result("web"), expected, "{what}");
        restart(&mut world);
    }
}

#[test]
fn a_claim_that_is_edited_to_have_nothing_for_its_service_lets_it_go_on() {
    let mut world = World::new([pool("p", &["1.2.3.0"]), pool("q", &["5.5.5.5"])]);
    world.apply(service("holder", json!({})));
    world.claim("c", of_pool("web", "p"));
    world.apply(service("web", json!({})));
    assert_eq!(world.result("web"), "ClaimPending");
    world.claim("c", json!({ "serviceName": "web", "pool": "p", "ipFamilies": ["IPv6"] }));
    assert_eq!(world.result("web"), "5.5.5.5");
    restart(&mut world);
}
