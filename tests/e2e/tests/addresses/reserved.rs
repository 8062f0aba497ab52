//! Addresses without a holder that only one Service may take: claimed, or in cool-down.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use fairlead_e2e::{LbService, PORT, Scene, reach_on_lan};
use serde_json::{Value, json};

use crate::{LAB, asking, claim, expect_at_work, lan, plain, restart};

/// Returns the addresses in the status of a claim once it is reserved.
fn reserved(scene: &Scene<'_>, claim: &Value) -> Vec<String> {
    scene.expect_condition(claim, "Reserved", true);
    let status = scene.read(claim)["status"].take();
    let addresses = status["addresses"].as_array().cloned().unwrap_or_default();
    addresses.iter().filter_map(|ip| Some(ip.as_str()?.to_owned())).collect()
}

#[test]
fn claimed_address_outlives_its_service() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.pools([&lan("lan", &["192.0.2.200-192.0.2.201"])]);
    let of_web = claim("web", json!({ "serviceName": "web", "addresses": ["192.0.2.200"] }));
    scene.apply(&of_web);
    assert_eq!(reserved(&scene, &of_web), ["192.0.2.200"]);
    scene.expect_condition(&of_web, "Bound", false);

    // Other Services get other addresses, although the claimed one is first in order and free.
    scene.serve(&plain("stranger"), &["192.0.2.201"], "lan");
    let covetous = asking("covetous", "192.0.2.200");
    scene.refuse(&covetous, "AddressReserved");

    let web = plain("web");
    let ips = scene.serve(&web, &["192.0.2.200"], "lan");
    scene.expect_condition(&of_web, "Bound", true);
    reach_on_lan(&lab, ips[0], PORT).unwrap();
    scene.delete(web.object());
    scene.expect_condition(&of_web, "Bound", false);
    restart(&scene);
    scene.expect_refused(&covetous, "AddressReserved");
    assert_eq!(reserved(&scene, &of_web), ["192.0.2.200"]);
    scene.serve(&web, &["192.0.2.200"], "lan");

    scene.delete(web.object());
    scene.delete(&of_web);
    scene.expect(&covetous, &["192.0.2.200"], "lan");
}

#[test]
fn pool_claim_keeps_chosen_address() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.namespace("claims-other");
    scene.pools([&lan("lan", &["192.0.2.200-192.0.2.203", "2001:db8:1::200/126"])]);
    let of_web = claim("any", json!({ "serviceName": "web", "pool": "lan", "ipFamilies": ["IPv4"] }));
    scene.apply(&of_web);
    let picked = reserved(&scene, &of_web);
    let [ip] = picked.as_slice() else { panic!("{picked:?}") };
    assert!(ip.parse::<IpAddr>().unwrap().is_ipv4());
    assert_eq!(scene.read(&of_web)["status"]["pool"], "lan");
    restart(&scene);
    assert_eq!(reserved(&scene, &of_web), picked);

    // A Service with the same name in another namespace is another Service.
    scene.refuse(&asking("web", ip).in_namespace("claims-other"), "AddressReserved");
    let web = plain("web");
    scene.serve(&web, &[ip], "lan");
    scene.delete(web.object());
    restart(&scene);
    scene.serve(&web, &[ip], "lan");
}

#[test]
fn claim_on_held_address_waits_for_release() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.pools([&lan("lan", &["192.0.2.200-192.0.2.203"])]);
    let holder = plain("holder");
    scene.serve(&holder, &["192.0.2.200"], "lan");
    let of_web = claim("late", json!({ "serviceName": "web", "addresses": ["192.0.2.200"] }));
    scene.apply(&of_web);
    scene.expect_condition(&of_web, "Reserved", false);
    expect_at_work(&scene);
    scene.expect(&holder, &["192.0.2.200"], "lan");
    scene.delete(holder.object());
    assert_eq!(reserved(&scene, &of_web), ["192.0.2.200"]);
}

#[test]
fn address_in_cooldown_returns_to_last_holder() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    let pool = lan("slow", &["192.0.2.200-192.0.2.201"]).with("reuseAfter", json!("10m"));
    scene.pools([&pool]);
    let first = LbService::new("first", "slow").single("IPv4");
    scene.serve(&first, &["192.0.2.200"], "slow");
    scene.delete(first.object());
    scene.expect_counts(&pool, &[("assignedIPv4", 0)]);
    let [second, third] = ["second", "third"].map(|name| LbService::new(name, "slow").single("IPv4"));
    scene.serve(&second, &["192.0.2.201"], "slow");
    scene.service(&third);
    scene.expect_nothing(&third);
    restart(&scene);
    scene.expect_nothing(&third);
    scene.serve(&first, &["192.0.2.200"], "slow");
}

#[test]
fn address_after_cooldown_goes_to_waiting_service() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.pools([&lan("quick", &["192.0.2.200/32"]).with("reuseAfter", json!("3s"))]);
    let [first, second] = ["first", "second"].map(plain);
    scene.serve(&first, &["192.0.2.200"], "quick");
    scene.service(&second);
    scene.expect_nothing(&second);
    let deleted = Instant::now();
    scene.delete(first.object());
    scene.expect(&second, &["192.0.2.200"], "quick");
    // Times in the API have whole seconds.
    assert!(deleted.elapsed() >= Duration::from_secs(2), "{:?}", deleted.elapsed());
}
