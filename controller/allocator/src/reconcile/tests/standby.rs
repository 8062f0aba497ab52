//! Standby and change of leadership: a standby only observes; a new leader adopts the state of its
//! predecessor.

use std::time::Duration;

use fairlead_crds::model::config::Pool;

use super::*;
use fairlead_test_support::pool;

/// Returns the index of a standby that observed the same objects.
fn standby(world: &World) -> Index {
    let mut index = Index::default();
    index.set_config(&world.config, world.now);
    index.namespaces_reset(world.namespaces.clone().into_iter().collect(), world.now);
    index.services_reset(world.observed(), world.now);
    index.claims_reset(world.claims.values().map(Claim::from_object).collect(), world.now);
    index
}

fn patches(index: &mut Index) -> Vec<StatusPatch> {
    let decisions = index.take_decisions().into_iter();
    let patch = |decision| match decision {
        Decision::Status { patch, .. } => patch.map(|patch| *patch),
        Decision::Claim { patch, .. } => {
            assert_eq!(patch, None);
            None
        }
        Decision::Departed(departed) => panic!("{departed:?}"),
        Decision::Event(event) => panic!("{event:?}"),
    };
    decisions.filter_map(patch).collect()
}

#[test]
fn standby_decides_nothing_and_adopts_state_when_it_begins() {
    let cooling = Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.0-1.2.3.2"]) };
    let mut world = World::new([cooling]);
    world.apply(service("held", json!({})));
    let mut other = standby(&world);
    // The standby observes changes of every kind.
    world.apply(service("late", aged(1)));
    world.apply(service("gone", aged(2)));
    other.services_reset(world.observed(), world.now);
    world.claim("c", json!({ "serviceName": "held", "addresses": ["1.2.3.0"] }));
    other.claim_applied(Claim::from_object(&world.claims[&key("c")]), world.now);
    world.delete("gone");
    other.service_deleted(&key("gone"), world.now);
    world.namespace("team", &[("a", "b")]);
    other.namespace_applied("team".into(), labels(&[("a", "b")]), world.now);
    other.set_config(&world.config, world.now);
    other.handle_timeout(world.now);
    assert_eq!(patches(&mut other), []);
    assert!(!other.is_deciding() && other.poll_timeout().is_none());
    assert_eq!(other.ipam().holdings().count(), 0, "a standby allocates nothing");

    world.record_released();
    other.claims_reset(world.claims.values().map(Claim::from_object).collect(), world.now);
    other.services_reset(world.observed(), world.now);
    other.begin(world.released.clone(), world.now);
    assert_eq!(patches(&mut other), [], "the new leader writes nothing");
    for (name, ip) in [("held", "1.2.3.0"), ("late", "1.2.3.1")] {
        let held: Vec<_> = other.ipam().holding(&key(name)).unwrap().ips().collect();
        assert_eq!(held, fairlead_test_support::ips(&[ip]), "{name}");
    }
    assert_eq!(other.ipam().released("p").count(), 1, "the cool-down is adopted");
    assert_eq!(other.poll_timeout(), world.index.poll_timeout());
}

#[test]
fn step_down_forgets_decisions_and_index_can_begin_again() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1"])]);
    world.claim("c", json!({ "serviceName": "held", "pool": "p" }));
    world.apply(service("held", json!({})));
    world.apply_silently(service("unpatches_of", json!({})));
    let (writes, results) = (world.take_writes(), world.result("held"));
    assert!(writes > 0);
    world.index.step_down();
    assert!(!world.index.is_deciding() && world.index.poll_timeout().is_none());
    assert_eq!(world.index.take_decisions(), [], "unwritten decisions are dropped");
    assert_eq!(world.index.ipam().holdings().count(), 0);
    assert_eq!(world.index.service_counts(), (2, 0));
    world.index.ipam().assert_invariants();
    // Meanwhile another controller leads and makes a different decision.
    world.apply_silently(service(
        "unpatches_of",
        json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.1", "ipMode": "VIP" }] } } }),
    ));
    assert_eq!(world.index.take_decisions(), []);
    world.index.begin(Vec::new(), world.now);
    world.sync();
    assert_eq!(world.result("held"), results, "the holder keeps its address");
    assert_eq!(world.result("unpatches_of"), "1.2.3.1");
    assert_eq!(world.writes.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["unpatches_of"]);
}

#[test]
fn new_term_reserves_addresses_of_in_doubt_writes() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    let mut index = standby(&world);
    index.begin(Vec::new(), world.now);
    let patches_of = |index: &mut Index| -> Vec<StatusPatch> {
        let decisions = index.take_decisions().into_iter();
        let patch = |decision| match decision {
            Decision::Status { patch, .. } => patch.map(|patch| *patch),
            _ => None,
        };
        decisions.filter_map(patch).collect()
    };
    let mut sent = Vec::new();
    for name in ["b", "a"] {
        world.apply_silently(service(name, json!({}))); // the same creation time
        index.service_applied(observe(&world.services[&key(name)]).unwrap(), world.now);
        sent.push(patches_of(&mut index).pop().unwrap());
    }
    index.step_down();
    index.begin(Vec::new(), world.now);
    let again = patches_of(&mut index);
    assert!(world.write(key("b"), &sent[0]), "the write in flight is applied");
    for patch in again {
        world.write(patch.service.clone(), &patch);
    }
    let displayed =
        |name: &str| world.services[&key(name)]["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
    assert_eq!([displayed("b"), displayed("a")], [json!("1.2.3.0"), json!("1.2.3.1")]);
}
