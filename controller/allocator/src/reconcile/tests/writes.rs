//! Patches and events: content, time and number.

use super::*;
use fairlead_test_support::{pinned, pool};

fn decided(world: &mut World) -> (Vec<StatusPatch>, Vec<ServiceEvent>) {
    let (mut patches, mut events) = (Vec::new(), Vec::new());
    for decision in world.index.take_decisions() {
        match decision {
            Decision::Status { patch, .. } => patches.extend(patch.map(|patch| *patch)),
            Decision::Claim { .. } => {}
            Decision::Departed(_) => {}
            Decision::Event(event) => events.push(*event),
        }
    }
    (patches, events)
}

#[test]
fn one_patch_contains_annotation_ingress_and_conditions() {
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
                        "message": "1.2.3.0 from IPAddressPool p",
                        "lastTransitionTime": "2023-11-14T22:13:20Z",
                    },
                    {
                        "type": "fairlead.dev/Covered", "status": "True", "reason": "Covered",
                        "message": "an advertisement covers these addresses",
                        "lastTransitionTime": "2023-11-14T22:13:20Z",
                    },
                    {
                        "type": "fairlead.dev/Advertised", "status": "False", "reason": "NoSpeaker",
                        "message": "there is no Speaker object: run the speaker on the Nodes",
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
fn refusal_clears_status_and_emits_one_event() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("s", json!({})));
    world.events.clear();
    world.config.pools = pools([pinned(pool("other", &["9.9.9.9"]), 0, &["team"])]);
    world.index.set_config(&world.config, world.now);
    let (patches, events) = decided(&mut world);
    let body = patches[0].body();
    assert_eq!(body["metadata"]["annotations"], json!({ "fairlead.dev/ip-allocated-from-pool": null }));
    assert_eq!(body["status"]["loadBalancer"], json!({ "ingress": null }));
    assert_eq!(
        body["status"]["conditions"].as_array().unwrap().len(),
        1,
        "no address, no condition about advertisements"
    );
    assert_eq!(
        events.iter().map(|e| (e.warning, e.reason)).collect::<Vec<_>>(),
        [(true, AllocationReason::NoPoolMatches)]
    );
    world.reconfigure();
    assert!(world.events.is_empty(), "the event is not repeated");
}

#[test]
fn foreign_conditions_are_preserved() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    let foreign = json!({
        "type": "example.org/Checked", "status": "True", "reason": "Fine", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    world.apply(service("s", json!({ "status": { "conditions": [foreign] } })));
    let conditions = world.service("s").status.unwrap().conditions.unwrap();
    let types: Vec<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
    let ours = ["fairlead.dev/Allocated", "fairlead.dev/Covered", "fairlead.dev/Advertised"];
    assert_eq!(types, [&["example.org/Checked"][..], &ours].concat());
}

#[test]
fn foreign_condition_too_large_does_not_remove_smaller_ones() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    let condition = |type_: &str, octets: usize| {
        json!({
            "type": type_, "status": "True", "reason": "Fine", "message": "x".repeat(octets),
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let conditions = [condition("a", 20_000), condition("b", 20_000), condition("c", 1000)];
    world.apply(service("s", json!({ "status": { "conditions": conditions } })));
    let conditions = world.service("s").status.unwrap().conditions.unwrap();
    let types: Vec<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
    let ours = ["fairlead.dev/Allocated", "fairlead.dev/Covered", "fairlead.dev/Advertised"];
    assert_eq!(types, [&["a", "c"][..], &ours].concat());
}

#[test]
fn transition_time_changes_only_with_status() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", json!({})));
    let time = |world: &World| {
        let conditions = world.service("s").status.unwrap().conditions.unwrap();
        conditions.iter().find(|c| c.type_ == names::ALLOCATED).unwrap().last_transition_time.0
    };
    let start = world.now;
    world.now = Timestamp::from_second(start.as_second() + 100).unwrap();
    world.apply(service("s", annotated(REQUEST_IPS, "1.2.3.5")));
    assert_eq!((world.result("s").as_str(), time(&world)), ("1.2.3.5", start), "the status did not change");
    world.apply(service("s", annotated(REQUEST_IPS, "9.9.9.9")));
    assert_eq!((world.result("s").as_str(), time(&world)), ("AddressNotInPool", world.now));
}

#[test]
fn no_writes_and_no_events_at_rest() {
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
fn unwritten_decision_is_not_repeated() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply_silently(service("s", json!({})));
    let (first, events) = decided(&mut world);
    assert_eq!((first.len(), events.len()), (1, 1));
    // A user edits the Service before the patch is applied: the watch reports it without an address.
    world.now = Timestamp::from_second(world.now.as_second() + 5).unwrap();
    world.apply_silently(service("s", json!({ "metadata": { "labels": { "a": "b" } } })));
    let (second, events) = decided(&mut world);
    assert_eq!(events, [], "the event is not repeated");
    assert_eq!(second[0].ingress, first[0].ingress, "the same address");
    assert_eq!(second[0].conditions, first[0].conditions, "the same transition time");
    assert_ne!(second[0].resource_version, first[0].resource_version);
    assert!(!world.write(key("s"), &first[0]), "the first patch has an old version");
    assert!(world.write(key("s"), &second[0]));
    world.sync();
    assert_eq!(world.take_writes(), 1);
}

#[test]
fn stale_ingress_is_overwritten() {
    let mut world = World::new([pool("p", &["1.2.3.0"])]);
    world.apply(service("s", json!({})));
    world.set_pools([pool("p", &["1.2.3.1"])]);
    assert_eq!(world.result("s"), "1.2.3.1");
    let stale =
        json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.0", "ipMode": "VIP" }] } } });
    world.apply(service("s", stale));
    assert_eq!(world.result("s"), "1.2.3.1", "the edited status is overwritten");
}

#[test]
fn recreated_service_does_not_inherit_address() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", annotated(REQUEST_IPS, "1.2.3.7")));
    world.services.remove(&key("s"));
    world.apply(service("s", json!({ "metadata": { "uid": "another" } })));
    assert_eq!(world.result("s"), "1.2.3.0");
}

#[test]
fn older_of_two_services_with_one_address_keeps_it() {
    let mut world = World::stopped();
    let held = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.5", "ipMode": "VIP" }] } } });
    world.apply_silently(service("a-young", both(aged(9), held.clone())));
    world.apply_silently(service("b-old", both(aged(1), held)));
    world.config.pools = pools([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.restart();
    assert_eq!([world.result("b-old"), world.result("a-young")], ["1.2.3.5", "1.2.3.0"]);
}
