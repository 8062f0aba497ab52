//! Two controllers that both believe they lead: they converge, and no address is held twice.

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
        6 => (0..8u8, 0..16u8, 80..83u16)
            .prop_map(|(name, variant, port)| Step::Apply { name, variant, port }),
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
    fn two_leaders_converge_without_duplicate_addresses(
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
                // Edits by a user: the annotation, and the address.
                Step::Annotate { name, pool } => {
                    let with = annotated(names::ALLOCATED_FROM_POOL, ["a", "b", "c"][pool]);
                    cluster.edit(&key(&format!("s{name}")), &with);
                }
                Step::Edit { name, ip } => {
                    let ip = format!("{}.0.0.{}", ip / 5, ip % 5);
                    let ingress = json!([{ "ip": ip, "ipMode": "VIP" }]);
                    let with = json!({ "status": { "loadBalancer": { "ingress": ingress } } });
                    cluster.edit(&key(&format!("s{name}")), &with);
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
        // Each leader stores only the releases that it observed. They agree once all cool-downs have ended.
        let _ = cluster.run_until_idle();
        cluster.wait(10);
        cluster.check();
    }
}

/// Returns a cluster in which each leader gave the only address to another Service, and both writes were
/// applied.
fn both_displayed() -> Cluster {
    let mut cluster = Cluster::new(pools_of([0, 0, 0]));
    cluster.configure(Config { pools: pools([pool("p", &["1.2.3.0"])]), ..Config::default() });
    cluster.apply(service("old", aged(1)));
    cluster.apply(service("young", aged(2)));
    for leader in 0..2 {
        cluster.deliver(leader, 2);
    }
    cluster.deliver(0, 0); // the first leader observes old, the second only young
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
fn address_given_by_two_leaders_stays_with_older_service() {
    let mut cluster = both_displayed();
    let displayed: Vec<_> = cluster.api.displayed().into_values().collect();
    assert_eq!(displayed, [["1.2.3.0"], ["1.2.3.0"]], "both Services display the address");
    cluster.check();
    let displayed: Vec<_> = cluster.api.displayed().into_values().collect();
    assert_eq!(displayed, [vec!["1.2.3.0".to_owned()], vec![]]);
}

#[test]
fn displaced_service_gets_another_address() {
    let mut cluster = both_displayed();
    cluster.configure(Config { pools: pools([pool("p", &["1.2.3.0-1.2.3.9"])]), ..Config::default() });
    cluster.check();
    let displayed: Vec<_> = cluster.api.displayed().into_values().collect();
    assert_eq!(displayed, [["1.2.3.0"], ["1.2.3.1"]]);
}

#[test]
fn unwritten_address_does_not_enter_cooldown() {
    let mut cluster = Cluster::new(pools_of([1, 2, 5]));
    cluster.configure(pools_of([13, 0, 0])); // reuseAfter
    cluster.apply(service("s1", aged(1)));
    cluster.claim("c0", &claim_of(3));
    cluster.deliver(0, 1); // the first leader decides on the claim, the second on the Service
    assert!(
        cluster.run_until_idle().is_some(),
        "the leaders overwrite each other: {:?}",
        cluster.api.displayed()
    );
}

#[test]
fn two_leaders_agree_on_incomplete_claim() {
    let mut cluster = Cluster::new(pools_of([1, 2, 5]));
    cluster.claim("c0", &claim_of(3));
    cluster.apply(service("s6", aged(6)));
    cluster.deliver(0, 1); // the first leader reserves 1.0.0.0, the second allocates it
    cluster.deliver(1, 0);
    cluster.deliver(1, 1);
    cluster.configure(pools_of([2, 0, 0]));
    cluster.delete(&key("s6"));
    assert!(cluster.run_until_idle().is_some(), "the leaders overwrite each other: {:?}", cluster.api.claims);
    let status = cluster.api.claims[&key("c0")].status.clone().unwrap();
    for leader in &cluster.leaders {
        let claimed = leader.index.ipam().claimed(&key("c0")).unwrap();
        assert_eq!(claimed.addresses[0].to_string(), status.addresses[0]);
    }
}

#[test]
fn sharers_converge_to_one_pool() {
    let share = |age: u32, port: u16| both(aged(age), shared(port));
    let ask = annotated(REQUEST_IPS, "3.0.0.1");
    let mut cluster = Cluster::new(pools_of([0, 0, 0]));
    // The first leader observes only that c contains the address; the second allocates it from b, which is
    // refused later.
    cluster.configure(pools_of([0, 1, 6]));
    cluster.configure(pools_of([0, 6, 1]));
    cluster.restart(0);
    cluster.deliver(1, 2);
    for (name, age, port) in [("s3", 3, 80), ("s4", 4, 81)] {
        cluster.apply(service(name, both(ask.clone(), share(age, port))));
    }
    cluster.check();
}
