//! A status edited by hand: only a free address that the Service might be given is taken for a decision.

use std::time::Duration;

use fairlead_crds::model::config::{Closed, Pool, SharingScope};

use super::*;
use fairlead_test_support::{pinned, pool, retaining};

const ASK: &str = "fairlead.dev/load-balancer-ips";
const POOL: &str = "fairlead.dev/address-pool";
const DUAL: &[&str] = &["10.96.0.1", "fd00::1"];

fn p() -> Pool {
    pool("p", &["1.2.3.0-1.2.3.9", "1::1-1::9"])
}

fn q() -> Pool {
    retaining(pool("q", &["5.5.5.5"]))
}

/// Writes these addresses into the status of `s`.
fn edit(world: &mut World, ips: &[&str]) {
    let mut edited = world.services[&key("s")].clone();
    let ingress: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip, "ipMode": "VIP" })).collect();
    merge(&mut edited, &json!({ "status": { "loadBalancer": { "ingress": ingress } } }));
    world.store(key("s"), edited);
    world.sync();
}

fn started(pools: impl IntoIterator<Item = Pool>, services: &[(&str, Value)]) -> World {
    let mut world = World::new(pools);
    world.namespace("team", &[]);
    for (name, with) in services {
        world.apply(service(name, with.clone()));
    }
    world
}

#[test]
fn a_free_address_of_a_pool_that_is_open_to_the_service_is_taken() {
    let manual = || Pool { auto_assign: false, ..q() };
    let cases: [(Vec<Pool>, Value, &[&str]); 5] = [
        (vec![p()], json!({}), &["1.2.3.7"]),
        (vec![p(), q()], json!({}), &["5.5.5.5"]),
        (vec![p()], families(DUAL, "RequireDualStack"), &["1.2.3.7", "1::7"]),
        (vec![p()], families(DUAL, "PreferDualStack"), &["1.2.3.7", "1::1"]),
        (vec![manual()], annotated(POOL, "q"), &["5.5.5.5"]),
    ];
    for (pools, with, ips) in cases {
        let mut world = started(pools, &[("s", with)]);
        edit(&mut world, ips);
        assert_eq!(world.result("s"), ips.join(" "));
        world.take_writes();
        world.restart();
        assert_eq!((world.result("s"), world.take_writes()), (ips.join(" "), 0));
    }
}

/// What is edited, the pools, the Services, and what is written into the status of `s`.
type Case = (&'static str, Vec<Pool>, Vec<(&'static str, Value)>, &'static [&'static str]);

#[test]
fn what_the_service_might_not_be_given_is_put_right_and_it_keeps_what_it_has() {
    let any = || json!({});
    let shares = |port: u16| {
        let port = json!({ "spec": { "ports": [{ "port": port, "protocol": "TCP" }] } });
        both(annotated("fairlead.dev/allow-shared-ip", "k"), port)
    };
    let closed = Pool { closed: Some(Closed::Disabled), ..q() };
    let manual = Pool { auto_assign: false, ..q() };
    let one_namespace = Pool { sharing: SharingScope::SameNamespace, ..p() };
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        ("in no pool", vec![retaining(p())], vec![("s", any())], &["8.8.8.8"]),
        ("of a disabled pool", vec![p(), closed], vec![("s", any())], &["5.5.5.5"]),
        ("of a pool that is not open to it", vec![p(), pinned(q(), 0, &["team"])], vec![("s", any())], &["5.5.5.5"]),
        ("of a pool that it does not name", vec![p(), manual], vec![("s", any())], &["5.5.5.5"]),
        ("of another pool than it names", vec![p(), q()], vec![("s", annotated(POOL, "p"))], &["5.5.5.5"]),
        ("another than it asks for", vec![p()], vec![("s", annotated(ASK, "1.2.3.0"))], &["1.2.3.7"]),
        ("of another family", vec![p()], vec![("s", any())], &["1::1"]),
        ("one too many", vec![p()], vec![("s", any())], &["1.2.3.0", "1.2.3.7"]),
        ("one of two", vec![p()], vec![("s", families(DUAL, "RequireDualStack"))], &["1.2.3.0"]),
        ("in another order", vec![p()], vec![("s", families(DUAL, "RequireDualStack"))], &["1::1", "1.2.3.0"]),
        ("a younger one's", vec![p()], vec![("s", aged(1)), ("younger", both(aged(9), annotated(ASK, "1.2.3.7")))], &["1.2.3.7"]),
        ("shared in another namespace", vec![one_namespace], vec![("team/other", shares(80)), ("s", shares(81))], &["1.2.3.0"]),
    ];
    for (what, pools, services, ips) in cases {
        let mut world = started(pools, &services);
        let before = (world.results(), world.pool_of("s"));
        edit(&mut world, ips);
        assert_eq!((world.results(), world.pool_of("s")), before, "{what}");
        world.take_writes();
        world.restart();
        assert_eq!(((world.results(), world.pool_of("s")), world.take_writes()), (before, 0), "{what}");
    }
}

#[test]
fn nor_is_what_is_kept_for_another_taken() {
    let mut world = started([Pool { reuse_after: Duration::from_secs(600), ..p() }], &[]);
    world.claim("c", json!({ "serviceName": "web", "addresses": ["1.2.3.5"] }));
    world.apply(service("gone", json!({})));
    world.apply(service("s", json!({})));
    world.delete("gone");
    for ip in ["1.2.3.5", "1.2.3.0"] {
        edit(&mut world, &[ip]);
        assert_eq!(world.result("s"), "1.2.3.1", "{ip}");
    }
    world.apply(service("web", json!({})));
    edit(&mut world, &["1.2.3.5"]);
    assert_eq!([world.result("s"), world.result("web")], ["1.2.3.1", "1.2.3.5"]);
    assert!(world.claimed("c").contains("Reserved True"));
}

#[test]
fn a_service_that_retains_what_it_asks_for_goes_on_retaining_it() {
    let mut world = started([retaining(p())], &[("s", annotated(ASK, "1.2.3.0"))]);
    world.set_pools([retaining(pool("p", &["1.2.3.5-1.2.3.9"]))]);
    edit(&mut world, &["1.2.3.7"]);
    assert_eq!(world.result("s"), "1.2.3.0");
    assert!(world.message("s", names::ALLOCATED).starts_with("True/Retained"));
}
