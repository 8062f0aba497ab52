//! Other programs that write the status of a Service, and annotations that leave no room for ours.

use jiff::SignedDuration;

use super::*;
use fairlead_test_support::pool;

const MAX_ANNOTATIONS: usize = 256 * 1024;

fn started() -> World {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", json!({})));
    assert_eq!(world.result("s"), "1.2.3.0");
    world.take_writes();
    world
}

fn ingress(world: &World) -> Value {
    world.services[&key("s")]["status"]["loadBalancer"]["ingress"].clone()
}

/// Writes a part of `s` as another program.
fn write(world: &mut World, change: &Value) {
    let mut service = world.services[&key("s")].clone();
    merge(&mut service, change);
    world.store(key("s"), service);
}

/// Returns the status that another load balancer writes, with the entry of its field manager.
fn replaced(address: &str) -> Value {
    let entry = |manager: &str, time: &str, subresource: Option<&str>| {
        let part = if subresource.is_some() { json!({ "f:loadBalancer": {} }) } else { json!({}) };
        json!({ "manager": manager, "time": time, "subresource": subresource, "fieldsV1": { "f:status": part } })
    };
    json!({
        "metadata": { "managedFields": [
            entry(names::CONTROLLER, "2026-01-02T00:00:09Z", Some("status")),
            entry("kubectl", "2026-01-02T00:00:08Z", None),
            entry("old", "2026-01-01T00:00:00Z", Some("status")),
            entry("k3s\n", "2026-01-02T00:00:00Z", Some("status")),
        ] },
        "status": { "loadBalancer": { "ingress": [{ "ip": address, "ipMode": "VIP" }] } },
    })
}

/// Advances the clock in steps of 100 ms. After each of our writes, `other` is written at once.
fn advance_with(world: &mut World, seconds: i64, other: Option<&Value>) -> usize {
    world.take_writes();
    let mut writes = 0;
    for _ in 0..seconds * 10 {
        world.now = world.now.checked_add(SignedDuration::from_millis(100)).unwrap();
        if world.index.poll_timeout().is_some_and(|due| due <= world.now) {
            world.index.handle_timeout(world.now);
        }
        world.sync();
        let written = world.take_writes();
        writes += written;
        if written > 0
            && let Some(other) = other
        {
            write(world, other);
        }
    }
    writes
}

#[test]
fn replaced_status_is_written_less_and_less_often() {
    let cases = [
        (replaced("10.0.0.5"), "writes 10.0.0.5 to status.loadBalancer.ingress"),
        (json!({ "status": { "loadBalancer": { "ingress": null } } }), "removes the addresses"),
        (json!({ "status": { "conditions": [] } }), "replaces the conditions"),
        (json!({ "metadata": { "annotations": { names::ALLOCATED_FROM_POOL: "q" } } }), "replaces the cond"),
    ];
    for (other, what) in cases {
        let mut world = started();
        let events = world.events.len();
        write(&mut world, &other);
        let writes = advance_with(&mut world, 10, Some(&other));
        assert!((4..=8).contains(&writes), "{what}: {writes} writes in 10 s");
        let writes = advance_with(&mut world, 3600, Some(&other));
        assert!((10..=20).contains(&writes), "{what}: {writes} writes in an hour");
        let reasons: Vec<_> = world.events[events..].iter().map(|event| event.reason).collect();
        assert_eq!(reasons, [AllocationReason::StatusConflict], "{what}");
        assert!(world.events[events].message.contains(what), "{}", world.events[events].message);

        let last = advance_with(&mut world, 300, None);
        assert_eq!((last, world.result("s")), (1, "1.2.3.0".to_owned()), "{what}: ours stays");
        let message = world.message("s", names::STATUS_CONFLICT);
        assert!(message.starts_with("True/StatusConflict: ") && message.contains(what), "{message}");
        assert_eq!(message.contains(r#"field manager "k3s\n""#), what.contains("10.0.0.5"), "{message}");
        assert_eq!(advance_with(&mut world, 1200, None), 1, "{what}: the condition is removed");
        assert!(!world.services[&key("s")]["status"].to_string().contains("StatusConflict"));
        assert_eq!(advance_with(&mut world, 3600, None), 0);
        assert_eq!(world.index.poll_timeout(), None);
    }
}

#[test]
fn replaced_advertised_condition_is_written_less_and_less_often() {
    // Neither the status of the other program nor that of Fairlead is true, or theirs is.
    for (status, reason) in [("False", "NoEndpoints"), ("Unknown", "ListIncomplete"), ("True", "Announced")] {
        let mut world = started();
        assert!(world.message("s", names::ADVERTISED).starts_with("False/NoSpeaker"));
        let mut conditions = world.services[&key("s")]["status"]["conditions"].clone();
        let advertised = conditions.as_array_mut().unwrap().iter_mut();
        let advertised = advertised.into_iter().find(|condition| condition["type"] == names::ADVERTISED);
        let advertised = advertised.unwrap();
        (advertised["status"], advertised["reason"]) = (json!(status), json!(reason));
        let other = json!({ "status": { "conditions": conditions } });
        write(&mut world, &other);
        let writes = advance_with(&mut world, 10, Some(&other));
        assert!((4..=8).contains(&writes), "{reason}: {writes} writes in 10 s");
        let writes = advance_with(&mut world, 3600, Some(&other));
        assert!((10..=20).contains(&writes), "{reason}: {writes} writes in an hour");
        let last = world.events.last().map(|event| event.reason);
        assert_eq!(last, Some(AllocationReason::StatusConflict), "{reason}");
    }
}

#[test]
fn single_edits_are_overwritten_at_once() {
    let mut world = started();
    for _ in 0..20 {
        write(&mut world, &replaced("10.0.0.5"));
        assert_eq!(advance_with(&mut world, 1, None), 1);
        // Longer than a conflict lasts without another edit.
        advance_with(&mut world, 700, None);
    }
    assert!(world.events.iter().all(|event| event.reason != AllocationReason::StatusConflict));
}

#[test]
fn new_decision_is_written_during_a_conflict() {
    let mut world = started();
    let other = replaced("10.0.0.5");
    write(&mut world, &other);
    advance_with(&mut world, 600, Some(&other));
    world.apply(service("s", annotated(REQUEST_IPS, "1.2.3.7")));
    assert_eq!(world.result("s"), "1.2.3.7");
    world.delete("s");
    assert_eq!(world.index.poll_timeout(), None);
}

#[test]
fn entry_with_hostname_of_another_program_stays() {
    let ours = json!({ "ip": "1.2.3.0", "ipMode": "VIP" });
    let hostname = json!({ "hostname": "lb.example.com" });
    let mut world = started();
    write(&mut world, &json!({ "status": { "loadBalancer": { "ingress": [hostname, ours] } } }));
    assert_eq!(advance_with(&mut world, 1, None), 0, "it is no difference");
    world.check_restart("hostname");
    world.apply(service("s", annotated(REQUEST_IPS, "1.2.3.7")));
    assert_eq!(ingress(&world), json!([{ "ip": "1.2.3.7", "ipMode": "VIP" }, hostname]));
    world.apply(service("s", annotated(REQUEST_IPS, "9.9.9.9")));
    assert_eq!(ingress(&world), json!([hostname]), "it stays when the address is released");
    world.take_writes();
    world.restart();
    assert_eq!(world.take_writes(), 0);
}

#[test]
fn fields_that_only_others_write_are_no_difference() {
    for entry in [
        json!({ "ip": "1.2.3.0", "ipMode": "Proxy" }),
        json!({ "ip": "1.2.3.0", "ipMode": "VIP", "ports": [{ "port": 80, "protocol": "TCP" }] }),
        json!({ "ip": "1.2.3.0", "ipMode": "VIP", "hostname": "lb.example.com" }),
    ] {
        let mut world = started();
        write(&mut world, &json!({ "status": { "loadBalancer": { "ingress": [entry] } } }));
        assert_eq!(advance_with(&mut world, 1, None), 0, "{entry}");
        world.config.l2_advertisements.clear();
        world.reconfigure();
        assert_eq!(world.take_writes(), 1, "the condition Covered changes");
        assert_eq!(ingress(&world), json!([entry]));
    }
}

#[test]
fn full_annotations_do_not_prevent_an_address() {
    let ours = names::ALLOCATED_FROM_POOL.len() + "p".len();
    let filled = |octets: usize| annotated("a", &"x".repeat(octets - "a".len()));
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("s", filled(MAX_ANNOTATIONS - ours + 1)));
    assert_eq!(ingress(&world), json!([{ "ip": "1.2.3.0", "ipMode": "VIP" }]));
    assert_eq!(world.pool_of("s"), None);
    let message = world.message("s", names::ALLOCATED);
    let expected = "True/Allocated: 1.2.3.0 from IPAddressPool p; without the annotation \
                    fairlead.dev/ip-allocated-from-pool, because all annotations";
    assert!(message.starts_with(expected), "{message}");
    world.take_writes();
    world.restart();
    assert_eq!(world.take_writes(), 0);

    world.apply(service("s", filled(MAX_ANNOTATIONS - ours)));
    assert_eq!((world.result("s"), world.pool_of("s")), ("1.2.3.0".to_owned(), Some("p".to_owned())));
    assert_eq!(world.message("s", names::ALLOCATED), "True/Allocated: 1.2.3.0 from IPAddressPool p");
}
