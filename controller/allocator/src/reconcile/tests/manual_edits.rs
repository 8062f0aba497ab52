//! A status edited by a user: only an address that the Service could be given is accepted.

use std::time::Duration;

use fairlead_crds::model::config::{Closed, Pool, SharingScope};

use super::*;
use fairlead_test_support::{pinned, pool, retaining};

fn p() -> Pool {
    pool("p", &["1.2.3.0-1.2.3.9", "1::1-1::9"])
}

fn q() -> Pool {
    retaining(pool("q", &["5.5.5.5"]))
}

/// Writes addresses into the status of `s`.
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
fn valid_address_written_by_user_is_accepted() {
    let manual = || Pool { auto_assign: false, ..q() };
    let cases: [(Vec<Pool>, Value, &[&str]); 5] = [
        (vec![p()], json!({}), &["1.2.3.7"]),
        (vec![p(), q()], json!({}), &["5.5.5.5"]),
        (vec![p()], families(DUAL, "RequireDualStack"), &["1.2.3.7", "1::7"]),
        (vec![p()], families(DUAL, "PreferDualStack"), &["1.2.3.7", "1::1"]),
        (vec![manual()], annotated(REQUEST_POOL, "q"), &["5.5.5.5"]),
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

/// Description, pools, Services, and the addresses that are written into the status of `s`.
type Case = (&'static str, Vec<Pool>, Vec<(&'static str, Value)>, &'static [&'static str]);

#[test]
fn invalid_address_written_by_user_is_overwritten() {
    let any = || json!({});
    let closed = Pool { closed: Some(Closed::Disabled), ..q() };
    let manual = Pool { auto_assign: false, ..q() };
    let one_namespace = Pool { sharing: SharingScope::SameNamespace, ..p() };
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        ("in no pool", vec![retaining(p())], vec![("s", any())], &["8.8.8.8"]),
        ("of a disabled pool", vec![p(), closed], vec![("s", any())], &["5.5.5.5"]),
        ("of a pool that does not admit the Service",
         vec![p(), pinned(q(), 0, &["team"])], vec![("s", any())], &["5.5.5.5"]),
        ("of a pool with autoAssign false", vec![p(), manual], vec![("s", any())], &["5.5.5.5"]),
        ("of another pool than requested",
         vec![p(), q()], vec![("s", annotated(REQUEST_POOL, "p"))], &["5.5.5.5"]),
        ("another address than requested",
         vec![p()], vec![("s", annotated(REQUEST_IPS, "1.2.3.0"))], &["1.2.3.7"]),
        ("of another family", vec![p()], vec![("s", any())], &["1::1"]),
        ("one too many", vec![p()], vec![("s", any())], &["1.2.3.0", "1.2.3.7"]),
        ("one of two required families",
         vec![p()], vec![("s", families(DUAL, "RequireDualStack"))], &["1.2.3.0"]),
        ("in another order",
         vec![p()], vec![("s", families(DUAL, "RequireDualStack"))], &["1::1", "1.2.3.0"]),
        ("held by a younger Service",
         vec![p()], vec![("s", aged(1)), ("younger", both(aged(9), annotated(REQUEST_IPS, "1.2.3.7")))],
         &["1.2.3.7"]),
        ("shared with a Service of another Namespace",
         vec![one_namespace], vec![("team/other", shared(80)), ("s", shared(81))], &["1.2.3.0"]),
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
fn reserved_address_written_by_user_is_overwritten() {
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
fn retained_requested_address_survives_user_edit() {
    let mut world = started([retaining(p())], &[("s", annotated(REQUEST_IPS, "1.2.3.0"))]);
    world.set_pools([retaining(pool("p", &["1.2.3.5-1.2.3.9"]))]);
    edit(&mut world, &["1.2.3.7"]);
    assert_eq!(world.result("s"), "1.2.3.0");
    assert!(world.message("s", names::ALLOCATED).starts_with("True/Retained"));
}
