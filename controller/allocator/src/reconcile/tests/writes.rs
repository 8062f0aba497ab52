//! What is written, when, and how often.

use super::*;
use fairlead_test_support::pool;

fn decided(world: &mut World) -> (Vec<StatusPatch>, Vec<ServiceEvent>) {
    let (mut patches, mut events) = (Vec::new(), Vec::new());
    for decision in world.index.take_decisions() {
        match decision {
            Decision::Status { patch, .. } => patches.extend(patch.map(|patch| *patch)),
            Decision::Claim { .. } => {}
            Decision::Event(event) => events.push(*event),
        }
    }
    (patches, events)
}

#[test]
fn one_patch_carries_annotation_ingress_and_conditions_on_the_version_decided_on() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply_silently(service("s", json!({})));
    let (patches, events) = decided(&mut world);
    assert_eq!(patches.len(), 1);
    assert_eq!(
        patches[0].body(),
        json!({
            "metadata": {
                "resourceVersion": "2",
                "annotations": { "fairlead.dev/ip-allocated-from-pool": "p" },
            },
            "status": {
                "loadBalancer": { "ingress": [{ "ip": "1.2.3.0", "ipMode": "VIP" }] },
                "conditions": [
                    {
                        "type": "fairlead.dev/Allocated", "status": "True", "reason": "Allocated",
                        "message": "1.2.3.0 from IPAddressPool p", "lastTransitionTime": "2023-11-14T22:13:20Z",
                    },
                    {
                        "type": "fairlead.dev/Advertised", "status": "True", "reason": "Covered",
                        "message": "an advertisement covers these addresses",
                        "lastTransitionTime": "2023-11-14T22:13:20Z",
                    },
                ],
            },
        })
    );
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].warning, events[0].reason), (false, AllocationReason::Allocated));
}

#[test]
fn a_refusal_removes_what_was_there_and_tells_why_once() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("s", json!({})));
    world.events.clear();
    world.config.pools.clear();
    world.index.set_config(world.config.clone(), world.now);
    let (patches, events) = decided(&mut world);
    let body = patches[0].body();
    assert_eq!(body["metadata"]["annotations"], json!({ "fairlead.dev/ip-allocated-from-pool": null }));
    assert_eq!(body["status"]["loadBalancer"], json!({ "ingress": null }));
    assert_eq!(body["status"]["conditions"].as_array().unwrap().len(), 1, "there is nothing to advertise");
    assert_eq!(
        events.iter().map(|e| (e.warning, e.reason)).collect::<Vec<_>>(),
        [(true, AllocationReason::NoPoolMatches)]
    );
    world.reconfigure();
    assert!(world.events.is_empty(), "said once");
}

#[test]
fn conditions_of_others_are_preserved() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    let foreign = json!({
        "type": "example.org/Checked", "status": "True", "reason": "Fine", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    world.apply(service("s", json!({ "status": { "conditions": [foreign] } })));
    let conditions = world.service("s").status.unwrap().conditions.unwrap();
    let types: Vec<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(types, ["example.org/Checked", "fairlead.dev/Allocated", "fairlead.dev/Advertised"]);
}

#[test]
fn the_time_of_a_condition_is_that_of_its_last_change_of_status() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", json!({})));
    let time = |world: &World| {
        let conditions = world.service("s").status.unwrap().conditions.unwrap();
        conditions.iter().find(|c| c.type_ == names::ALLOCATED).unwrap().last_transition_time.0
    };
    let start = world.now;
    world.now = Timestamp::from_second(start.as_second() + 100).unwrap();
    world.apply(service("s", annotated("fairlead.dev/load-balancer-ips", "1.2.3.5")));
    assert_eq!(
        (world.result("s").as_str(), time(&world)),
        ("1.2.3.5", start),
        "it had an address all the time"
    );
    world.apply(service("s", annotated("fairlead.dev/load-balancer-ips", "9.9.9.9")));
    assert_eq!((world.result("s").as_str(), time(&world)), ("AddressNotInPool", world.now));
}

#[test]
fn at_rest_nothing_is_written_and_nothing_told() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.2"])]);
    for n in 0..5 {
        world.apply(service(&format!("s{n}"), json!({})));
    }
    world.take_writes();
    let events = world.events.len();
    world.reconfigure();
    world.index.services_reset(world.observed(), world.now);
    world.index.namespaces_reset(world.namespaces.clone().into_iter().collect(), world.now);
    world.sync();
    world.now = Timestamp::from_second(world.now.as_second() + 3600).unwrap();
    world.restart();
    assert_eq!((world.take_writes(), world.events.len()), (0, events));
}

#[test]
fn a_decision_that_is_not_written_yet_is_not_made_again() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply_silently(service("s", json!({})));
    let (first, events) = decided(&mut world);
    assert_eq!((first.len(), events.len()), (1, 1));
    // Somebody edits the Service before our write arrives: the watch shows it, still without an address.
    world.now = Timestamp::from_second(world.now.as_second() + 5).unwrap();
    world.apply_silently(service("s", json!({ "metadata": { "labels": { "a": "b" } } })));
    let (second, events) = decided(&mut world);
    assert_eq!(events, [], "not told again");
    assert_eq!(second[0].ingress, first[0].ingress, "the same address");
    assert_eq!(second[0].conditions, first[0].conditions, "with the same time");
    assert_ne!(second[0].resource_version, first[0].resource_version);
    assert!(!world.write(key("s"), &first[0]), "the first is out of date");
    assert!(world.write(key("s"), &second[0]));
    world.sync();
    assert_eq!(world.take_writes(), 1);
}

#[test]
fn a_late_echo_of_an_old_state_does_not_bring_an_address_back() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("s", json!({})));
    world.set_pools([pool("p", &["1.2.3.1"])]);
    assert_eq!(world.result("s"), "1.2.3.1");
    let stale =
        json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.0", "ipMode": "VIP" }] } } });
    world.apply(service("s", stale));
    assert_eq!(world.result("s"), "1.2.3.1", "a status edited by hand is put right");
}

#[test]
fn a_service_made_again_under_the_same_name_is_another() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", annotated("fairlead.dev/load-balancer-ips", "1.2.3.7")));
    world.services.remove(&key("s"));
    world.apply(service("s", json!({ "metadata": { "uid": "another" } })));
    assert_eq!(world.result("s"), "1.2.3.0");
}

#[test]
fn of_two_services_that_hold_one_address_the_older_keeps_it() {
    let mut world = World::stopped();
    let held = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.5", "ipMode": "VIP" }] } } });
    world.apply_silently(service("a-young", both(aged(9), held.clone())));
    world.apply_silently(service("b-old", both(aged(1), held)));
    world.config.pools = pools([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.restart();
    assert_eq!([world.result("b-old"), world.result("a-young")], ["1.2.3.5", "1.2.3.0"]);
}
