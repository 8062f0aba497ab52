//! Two controllers that both believe they lead, over one API server: in the end they agree, and no address is held twice.

use proptest::prelude::*;

use super::cluster::Cluster;
use super::replay::{POOLS, cases, pools_of, variant};
use super::*;
use fairlead_test_support::pool;

#[derive(Clone, Debug)]
enum Step {
    Apply { name: u8, variant: u8, port: u16 },
    Delete { name: u8 },
    Annotate { name: u8, pool: usize },
    Edit { name: u8, ip: u8 },
    Pools { variants: [u8; 3] },
    Claim { name: u8, kind: u8 },
    Unclaim { name: u8 },
    Deliver { leader: usize, watch: usize },
    Send { leader: usize, which: usize },
    Arrive { leader: usize, which: usize },
    Restart { leader: usize },
    Wait { seconds: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    let leader = || 0..2usize;
    prop_oneof![
        6 => (0..8u8, 0..16u8, 80..83u16).prop_map(|(name, variant, port)| Step::Apply { name, variant, port }),
        2 => (0..8u8).prop_map(|name| Step::Delete { name }),
        1 => (0..8u8, 0..3usize).prop_map(|(name, pool)| Step::Annotate { name, pool }),
        1 => (0..8u8, 0..20u8).prop_map(|(name, ip)| Step::Edit { name, ip }),
        1 => [0..POOLS, 0..POOLS, 0..POOLS].prop_map(|variants| Step::Pools { variants }),
        1 => (0..3u8, 0..4u8).prop_map(|(name, kind)| Step::Claim { name, kind }),
        1 => (0..3u8).prop_map(|name| Step::Unclaim { name }),
        8 => (leader(), 0..3usize).prop_map(|(leader, watch)| Step::Deliver { leader, watch }),
        6 => (leader(), any::<usize>()).prop_map(|(leader, which)| Step::Send { leader, which }),
        6 => (leader(), any::<usize>()).prop_map(|(leader, which)| Step::Arrive { leader, which }),
        1 => leader().prop_map(|leader| Step::Restart { leader }),
        1 => (1..4i64).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn claim_of(kind: u8) -> Value {
    match kind {
        0 => json!({ "serviceName": "s0", "addresses": ["1.0.0.1"] }),
        1 => json!({ "serviceName": "s1", "addresses": ["1.0.0.1"] }),
        2 => json!({ "serviceName": "s2", "pool": "b" }),
        _ => json!({ "serviceName": "s0", "pool": "a", "ipFamilies": ["IPv4", "IPv6"] }),
    }
}

proptest! {
    #![proptest_config(cases(192))]
    #[test]
    fn two_who_both_believe_they_lead_come_to_rest_with_no_address_held_twice(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut cluster = Cluster::new(pools_of([1, 2, 5]));
        for step in steps {
            match step {
                Step::Apply { name, variant: v, port } => {
                    let port = json!({ "spec": { "ports": [{ "port": port, "protocol": "TCP" }] } });
                    let with = both(both(variant(v), port), aged(u32::from(name)));
                    cluster.apply(service(&format!("s{name}"), with));
                }
                Step::Delete { name } => cluster.delete(&key(&format!("s{name}"))),
                // By hand, and no more than that: the annotation, and the address.
                Step::Annotate { name, pool } => {
                    let with = annotated(names::ALLOCATED_FROM_POOL, ["a", "b", "c"][pool]);
                    cluster.edit(&key(&format!("s{name}")), &with);
                }
                Step::Edit { name, ip } => {
                    let ip = format!("{}.0.0.{}", ip / 5, ip % 5);
                    let ingress = json!([{ "ip": ip, "ipMode": "VIP" }]);
                    cluster.edit(&key(&format!("s{name}")), &json!({ "status": { "loadBalancer": { "ingress": ingress } } }));
                }
                Step::Pools { variants } => cluster.configure(pools_of(variants)),
                Step::Claim { name, kind } => cluster.claim(&format!("c{name}"), &claim_of(kind)),
                Step::Unclaim { name } => cluster.delete_claim(&key(&format!("c{name}"))),
                Step::Deliver { leader, watch } => cluster.deliver(leader, watch),
                Step::Send { leader, which } => cluster.send(leader, which),
                Step::Arrive { leader, which } => cluster.arrive(leader, which),
                Step::Restart { leader } => cluster.restart(leader),
                Step::Wait { seconds } => cluster.wait(seconds),
            }
        }
        // Each knows only the releases that it saw, and gives its own reason: they agree once nothing is kept back.
        let _ = cluster.come_to_rest();
        cluster.wait(10);
        cluster.check();
    }
}

/// Two Services, each of which got the only address from another leader; both writes arrived.
fn both_shown() -> Cluster {
    let mut cluster = Cluster::new(pools_of([0, 0, 0]));
    cluster.configure(Config { pools: pools([pool("p", &["1.2.3.0"])]), ..Config::default() });
    cluster.apply(service("old", aged(1)));
    cluster.apply(service("young", aged(2)));
    for leader in 0..2 {
        cluster.deliver(leader, 2);
    }
    cluster.deliver(0, 0); // the first sees old, the second only young
    let young = cluster.leaders[1].watches[0].remove(1).unwrap();
    cluster.leaders[1].watches[0].push_front(young);
    cluster.deliver(1, 0);
    for leader in 0..2 {
        cluster.send(leader, 0);
        cluster.arrive(leader, 0);
    }
    cluster
}

#[test]
fn an_address_that_two_leaders_gave_to_two_services_stays_with_the_older() {
    let mut cluster = both_shown();
    let shown: Vec<_> = cluster.api.shown().into_values().collect();
    assert_eq!(shown, [["1.2.3.0"], ["1.2.3.0"]], "it happens");
    cluster.check();
    let shown: Vec<_> = cluster.api.shown().into_values().collect();
    assert_eq!(shown, [vec!["1.2.3.0".to_owned()], vec![]]);
}

#[test]
fn the_loser_gets_another_address_where_there_is_one() {
    let mut cluster = both_shown();
    cluster.configure(Config { pools: pools([pool("p", &["1.2.3.0-1.2.3.9"])]), ..Config::default() });
    cluster.check();
    let shown: Vec<_> = cluster.api.shown().into_values().collect();
    assert_eq!(shown, [["1.2.3.0"], ["1.2.3.1"]]);
}

#[test]
fn what_a_service_was_only_meant_to_get_is_not_kept_for_it_from_a_claim() {
    let mut cluster = Cluster::new(pools_of([1, 2, 5]));
    cluster.configure(pools_of([13, 0, 0])); // reuseAfter
    cluster.apply(service("s1", aged(1)));
    cluster.claim("c0", &claim_of(3));
    cluster.deliver(0, 1); // the first decides on the claim, the second on the Service
    assert!(cluster.come_to_rest().is_some(), "they fight: {:?}", cluster.api.shown());
}

#[test]
fn a_claim_that_each_gave_another_address_and_that_lacks_a_family_then_has_one_of_them() {
    let mut cluster = Cluster::new(pools_of([1, 2, 5]));
    cluster.claim("c0", &claim_of(3));
    cluster.apply(service("s6", aged(6)));
    cluster.deliver(0, 1); // the first gives the claim 1.0.0.0, the second gives that to the Service
    cluster.deliver(1, 0);
    cluster.deliver(1, 1);
    cluster.configure(pools_of([2, 0, 0]));
    cluster.delete(&key("s6"));
    assert!(cluster.come_to_rest().is_some(), "they fight: {:?}", cluster.api.claims);
    let status = cluster.api.claims[&key("c0")].status.clone().unwrap();
    for leader in &cluster.leaders {
        let claimed = leader.index.ipam().claimed(&key("c0")).unwrap();
        assert_eq!(claimed.addresses[0].to_string(), status.addresses[0]);
    }
}

#[test]
fn those_who_share_an_address_come_to_hold_it_of_one_pool() {
    let share = |age: u32, port: u16| {
        let key = both(aged(age), annotated("fairlead.dev/allow-shared-ip", "k"));
        both(key, json!({ "spec": { "ports": [{ "port": port, "protocol": "TCP" }] } }))
    };
    let ask = annotated("fairlead.dev/load-balancer-ips", "3.0.0.1");
    let mut cluster = Cluster::new(pools_of([0, 0, 0]));
    // The first knows only that c has the address; the second gives it of b, which then is refused.
    cluster.configure(pools_of([0, 1, 6]));
    cluster.configure(pools_of([0, 6, 1]));
    cluster.restart(0);
    cluster.deliver(1, 2);
    for (name, age, port) in [("s3", 3, 80), ("s4", 4, 81)] {
        cluster.apply(service(name, both(ask.clone(), share(age, port))));
    }
    cluster.check();
}
