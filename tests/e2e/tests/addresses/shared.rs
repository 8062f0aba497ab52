//! One address for several Services, and several pools for one Service.

use fairlead_e2e::{LbService, PORT, Scene, reach_on_lan};
use serde_json::json;

use crate::{LAB, lan, plain, restart};

const ONE: [&str; 1] = ["192.0.2.200"];

fn sharer(name: &str, port: u16) -> LbService {
    plain(name).port(port).annotation("fairlead.dev/allow-shared-ip", "key")
}

#[test]
fn same_namespace_pool_limits_sharing() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.namespace("sharing-other");
    scene.pools([&lan("lan", &["192.0.2.200/32"]).with("sharing", json!("SameNamespace"))]);
    scene.serve(&sharer("first", 80), &ONE, "lan");
    scene.serve(&sharer("neighbor", 81), &ONE, "lan");
    let other = sharer("other", 82).in_namespace("sharing-other");
    scene.refuse(&other, "PoolExhausted");
    let asks = sharer("asks", 83)
        .in_namespace("sharing-other")
        .annotation("fairlead.dev/load-balancer-ips", "192.0.2.200");
    scene.refuse(&asks, "SharingConflict");
    restart(&scene);
    scene.expect_refused(&other, "PoolExhausted");

    ["first", "neighbor"].map(|name| sharer(name, 80)).iter().for_each(|s| scene.delete(s.object()));
    scene.expect(&asks, &ONE, "lan");
    scene.expect(&other, &ONE, "lan");
}

#[test]
fn services_of_all_namespaces_share_by_default() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.namespace("sharing-any");
    scene.pools([&lan("lan", &["192.0.2.200/32"])]);
    scene.serve(&sharer("first", 80), &ONE, "lan");
    scene.serve(&sharer("other", 81).in_namespace("sharing-any"), &ONE, "lan");
}

#[test]
fn require_dual_stack_uses_two_pools() {
    let lab = LAB.turn();
    for (families, addresses, pools) in [
        (["IPv4", "IPv6"], ["192.0.2.200", "2001:db8:1::200"], "b-four,a-six"),
        (["IPv6", "IPv4"], ["2001:db8:1::200", "192.0.2.200"], "a-six,b-four"),
    ] {
        let scene = Scene::new(&lab);
        scene.pools([&lan("a-six", &["2001:db8:1::200/124"]), &lan("b-four", &["192.0.2.200-192.0.2.209"])]);
        let service = plain("both").families("RequireDualStack", families);
        for ip in scene.serve(&service, &addresses, pools) {
            reach_on_lan(&lab, ip, PORT).unwrap();
        }
        restart(&scene);
        scene.expect(&service, &addresses, pools);
    }
}

#[test]
fn require_dual_stack_prefers_one_dual_pool() {
    let lab = LAB.turn();
    let scene = Scene::new(&lab);
    scene.pools([
        &lan("a-four", &["192.0.2.200-192.0.2.209"]),
        &lan("b-six", &["2001:db8:1::200/124"]),
        &lan("c-both", &["192.0.2.210/32", "2001:db8:1::210/128"]),
    ]);
    let both = |name: &str| plain(name).families("RequireDualStack", ["IPv4", "IPv6"]);
    scene.serve(&both("one"), &["192.0.2.210", "2001:db8:1::210"], "c-both");
    scene.serve(&both("two"), &["192.0.2.200", "2001:db8:1::200"], "a-four,b-six");
}
