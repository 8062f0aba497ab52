//! A controller that does not lead takes note only; one that comes to lead goes on where the other was.

use std::time::Duration;

use fairlead_crds::model::config::Pool;

use super::*;
use fairlead_test_support::pool;

/// A controller that lives through the same, and does not lead.
fn standby(world: &World) -> Index {
    let mut index = Index::default();
    index.set_config(world.config.clone(), world.now);
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
        Decision::Event(event) => panic!("{event:?}"),
    };
    decisions.filter_map(patch).collect()
}

#[test]
fn a_standby_takes_note_only_and_continues_what_it_saw_when_it_begins() {
    let cooling = Pool { reuse_after: Duration::from_secs(60), ..pool("p", &["1.2.3.0-1.2.3.2"]) };
    let mut world = World::new([cooling]);
    world.apply(service("held", json!({})));
    let mut other = standby(&world);
    // It lives through what comes, in every verb.
    world.apply(service("late", aged(1)));
    world.apply(service("gone", aged(2)));
    other.services_reset(world.observed(), world.now);
    world.claim("c", json!({ "serviceName": "held", "addresses": ["1.2.3.0"] }));
    other.claim_applied(Claim::from_object(&world.claims[&key("c")]), world.now);
    world.delete("gone");
    other.service_deleted(&key("gone"), world.now);
    world.namespace("team", &[("a", "b")]);
    other.namespace_applied("team".into(), labels(&[("a", "b")]), world.now);
    other.set_config(world.config.clone(), world.now);
    other.handle_timeout(world.now);
    assert_eq!(patches(&mut other), []);
    assert!(!other.is_deciding() && other.poll_timeout().is_none());
    assert_eq!(other.ipam().holdings().count(), 0, "what another decides, it does not guess");

    world.note_released();
    other.claims_reset(world.claims.values().map(Claim::from_object).collect(), world.now);
    other.services_reset(world.observed(), world.now);
    other.begin(world.released.clone(), world.now);
    assert_eq!(patches(&mut other), [], "it goes on where the other was");
    for (name, ip) in [("held", "1.2.3.0"), ("late", "1.2.3.1")] {
        let held: Vec<_> = other.ipam().holding(&key(name)).unwrap().ips().collect();
        assert_eq!(held, fairlead_test_support::ips(&[ip]), "{name}");
    }
    assert_eq!(other.ipam().released("p").count(), 1, "and keeps what was released");
    assert_eq!(other.poll_timeout(), world.index.poll_timeout());
}

#[test]
fn who_steps_down_forgets_what_it_decided_and_may_begin_again() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1"])]);
    world.claim("c", json!({ "serviceName": "held", "pool": "p" }));
    world.apply(service("held", json!({})));
    world.apply_silently(service("undecided", json!({})));
    let (writes, results) = (world.take_writes(), world.result("held"));
    assert!(writes > 0);
    world.index.step_down();
    assert!(!world.index.is_deciding() && world.index.poll_timeout().is_none());
    assert_eq!(world.index.take_decisions(), [], "what was not written yet never is");
    assert_eq!(world.index.ipam().holdings().count(), 0);
    assert_eq!(world.index.service_counts(), (2, 0));
    world.index.ipam().assert_invariants();
    // Meanwhile another leads, and gives what this one had in mind to somebody else.
    world.apply_silently(service(
        "undecided",
        json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.1", "ipMode": "VIP" }] } } }),
    ));
    assert_eq!(world.index.take_decisions(), []);
    world.index.begin(Vec::new(), world.now);
    world.sync();
    assert_eq!(world.result("held"), results, "what is held is where it was");
    assert_eq!(world.result("undecided"), "1.2.3.1");
    assert_eq!(world.writes.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["undecided"]);
}

#[test]
fn who_leads_again_at_once_keeps_for_each_what_may_still_arrive_for_it() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    let mut index = standby(&world);
    index.begin(Vec::new(), world.now);
    let decided = |index: &mut Index| -> Vec<StatusPatch> {
        let decisions = index.take_decisions().into_iter();
        let patch = |decision| match decision {
            Decision::Status { patch, .. } => patch.map(|patch| *patch),
            _ => None,
        };
        decisions.filter_map(patch).collect()
    };
    let mut sent = Vec::new();
    for name in ["b", "a"] {
        world.apply_silently(service(name, json!({}))); // of the same age, to the second
        index.service_applied(observe(&world.services[&key(name)]).unwrap(), world.now);
        sent.push(decided(&mut index).pop().unwrap());
    }
    index.step_down();
    index.begin(Vec::new(), world.now);
    let again = decided(&mut index);
    assert!(world.write(key("b"), &sent[0]), "what was on the way arrives");
    for patch in again {
        world.write(patch.service.clone(), &patch);
    }
    let shown = |name: &str| world.services[&key(name)]["status"]["loadBalancer"]["ingress"][0]["ip"].clone();
    assert_eq!([shown("b"), shown("a")], [json!("1.2.3.0"), json!("1.2.3.1")]);
}
