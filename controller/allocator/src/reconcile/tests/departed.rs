//! Services that are being deleted, that left, and that other controllers handle.

use fairlead_crds::model::config::Reclaim;

use super::*;
use crate::ipam::OtherService;
use fairlead_test_support::{ips, pool};

/// Fields of a Service that is being deleted.
fn deleting() -> Value {
    json!({ "metadata": { "deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["example.org/a"] } })
}

fn other(name: &str, class: Option<&str>, addresses: &[&str]) -> OtherService {
    OtherService { key: key(name), class: class.map(str::to_owned), addresses: ips(addresses) }
}

#[test]
fn deleted_service_keeps_what_it_holds_and_gets_nothing() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1"])]);
    world.apply(service("s", json!({})));
    world.apply(service("s", deleting()));
    assert_eq!(world.result("s"), "1.2.3.0");
    // A request does not move it any more.
    world.apply(service("s", both(deleting(), annotated(REQUEST_IPS, "1.2.3.1"))));
    assert_eq!(world.result("s"), "1.2.3.0");
    world.apply(service("late", deleting()));
    assert_eq!(world.result("late"), "ServiceDeleting");
    world.apply(service("t", json!({})));
    assert_eq!(world.result("t"), "1.2.3.1");
    world.apply(service("waits", json!({})));
    world.check_restart("a Service in deletion");
    world.delete("s");
    assert_eq!([world.result("waits"), world.result("late")], ["1.2.3.0", "ServiceDeleting"]);
}

#[test]
fn deleted_service_does_not_take_a_waiting_address() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.0"])]);
    world.apply(service("holder", json!({})));
    world.apply(service("older", json!({})));
    world.apply(service("younger", aged(1)));
    world.apply(service("older", deleting()));
    world.delete("holder");
    assert_eq!([world.result("older"), world.result("younger")], ["ServiceDeleting", "1.2.3.0"]);
}

#[test]
fn second_family_is_not_given_to_a_deleted_service() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1"])]);
    world.apply(service("s", families(DUAL, "PreferDualStack")));
    world.apply(service("s", both(deleting(), families(DUAL, "PreferDualStack"))));
    world.set_pools([pool("p", &["1.2.3.0-1.2.3.1", "2001:db8::-2001:db8::9"])]);
    assert_eq!(world.result("s"), "1.2.3.0");
}

#[test]
fn of_two_services_with_one_address_the_one_that_stays_keeps_it() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.9"])]);
    world.apply(service("old", json!({})));
    let mut twin = service("young", aged(5));
    twin["status"] = json!(world.service("old").status.unwrap());
    twin["metadata"]["annotations"][names::ALLOCATED_FROM_POOL] = json!("p");
    world.apply_silently(service("old", deleting()));
    world.apply_silently(twin);
    world.restart();
    assert_eq!(world.result("young"), "1.2.3.0");
    assert_ne!(world.result("old"), "1.2.3.0");
}

#[test]
fn address_of_another_class_is_taken_and_its_user_named() {
    for restarts in [false, true] {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1"])]);
        world.index.other_applied(other("x", Some("example.org/x"), &["1.2.3.0"]), world.now);
        if restarts {
            world.start();
            world.index.others_reset(vec![other("x", Some("example.org/x"), &["1.2.3.0"])], world.now);
        }
        world.apply(service("s", json!({})));
        assert_eq!(world.result("s"), "1.2.3.1", "restarts: {restarts}");
        world.apply(service("asks", annotated(REQUEST_IPS, "1.2.3.0")));
        assert_eq!(
            world.message("asks", names::ALLOCATED),
            "False/AddressInUse: 1.2.3.0 is in use by Service default/x, which another controller handles \
             (loadBalancerClass \"example.org/x\")"
        );
        world.index.other_applied(other("x", Some("example.org/x"), &[]), world.now);
        world.sync();
        assert_eq!(world.result("asks"), "1.2.3.0", "restarts: {restarts}");
    }
}

#[test]
fn service_that_changes_its_controller_keeps_its_address() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.0"])]);
    world.index.other_applied(other("s", None, &["1.2.3.0"]), world.now);
    world.apply(service("waits", json!({})));
    assert_eq!(world.result("waits"), "PoolExhausted");
    let shown = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "1.2.3.0" }] } } });
    world.apply(service("s", shown));
    assert_eq!([world.result("s"), world.result("waits")], ["1.2.3.0", "PoolExhausted"]);
    // While the other controller shows the address, no other Service gets it.
    world.index.other_applied(other("s", None, &["1.2.3.0"]), world.now);
    world.sync();
    assert_eq!(world.result("waits"), "PoolExhausted");
    world.delete("s");
    assert_eq!(world.result("waits"), "1.2.3.0");
}

#[test]
fn held_address_stays_if_another_class_shows_it_too() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.1"])]);
    world.apply(service("s", json!({})));
    world.index.other_applied(other("x", Some("x"), &["1.2.3.0"]), world.now);
    world.sync();
    assert_eq!(world.result("s"), "1.2.3.0");
    world.start();
    world.index.others_reset(vec![other("x", Some("x"), &["1.2.3.0"])], world.now);
    world.sync();
    assert_eq!(world.result("s"), "1.2.3.0");
}

#[test]
fn pool_of_another_class_is_not_used_and_named() {
    let mut world = World::new([]);
    world.config.pools = pools([Pool { class: Some("x".into()), ..pool("theirs", &["1.2.3.0-1.2.3.9"]) }]);
    world.config.keep_class(None);
    world.reconfigure();
    world.apply(service("s", json!({})));
    world.apply(service("by-pool", annotated(REQUEST_POOL, "theirs")));
    world.apply(service("by-ip", annotated(REQUEST_IPS, "1.2.3.4")));
    let message = |name: &str| world.message(name, names::ALLOCATED);
    assert_eq!(
        message("s"),
        "False/NoPoolMatches: there is no IPAddressPool for this load balancer class: see \
         spec.loadBalancerClass of the pools"
    );
    assert_eq!(
        message("by-pool"),
        "False/PoolNotFound: IPAddressPool theirs does not exist for this load balancer class: it is for \
         loadBalancerClass \"x\""
    );
    assert!(
        message("by-ip").ends_with("IPAddressPool theirs, which contains it, is for loadBalancerClass \"x\"")
    );
}

/// Returns the patch that a departed Service needs, given the change of it that another made.
fn patch_after(change: Value, class: Option<&str>) -> Option<Value> {
    let mut world = World::new([Pool { reclaim: Reclaim::Retain, ..pool("p", &["1.2.3.0-1.2.3.9"]) }]);
    world.apply(service("s", json!({})));
    let mut now = serde_json::to_value(world.service("s")).unwrap();
    let foreign = json!({ "type": "example.org/X", "status": "True" });
    now["status"]["conditions"].as_array_mut().unwrap().insert(0, foreign);
    merge(&mut now, &change);
    world.delete("s");
    let departed = world.departed.pop().unwrap();
    departed.patch(&now, class)
}

#[test]
fn last_patch_removes_what_this_controller_wrote() {
    let cleared = json!({ "spec": { "type": "ClusterIP" }, "status": { "loadBalancer": null } });
    let patch = patch_after(cleared, None).unwrap();
    assert_eq!(patch["metadata"]["annotations"], json!({ names::ALLOCATED_FROM_POOL: null }));
    assert_eq!(patch["metadata"]["uid"], "uid-s");
    assert!(patch["metadata"]["resourceVersion"].is_string());
    // A condition without a time stays as it is.
    assert_eq!(patch["status"]["conditions"], json!([{ "type": "example.org/X", "status": "True" }]));
    assert_eq!(patch["status"]["loadBalancer"]["ingress"], Value::Null);

    // The Service of another class keeps the addresses that its controller added.
    let entries = json!([{ "ip": "1.2.3.0", "ipMode": "VIP" }, { "hostname": "example.org" }]);
    let moved =
        json!({ "spec": { "loadBalancerClass": "x" }, "status": { "loadBalancer": { "ingress": entries } } });
    let patch = patch_after(moved.clone(), None).unwrap();
    assert_eq!(patch["status"]["loadBalancer"]["ingress"], json!([{ "hostname": "example.org" }]));
    assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 1);
    assert_eq!(patch_after(moved, Some("x")), None, "it is of this class again");
}

#[test]
fn last_patch_spares_other_services_and_other_instances() {
    let table = [
        (
            "another Service of that name",
            json!({ "metadata": { "uid": "u" }, "spec": { "type": "ClusterIP" } }),
        ),
        ("still ours", json!({})),
        (
            "written by the instance of its class",
            json!({
                "metadata": { "annotations": { names::ALLOCATED_FROM_POOL: "theirs" } },
                "spec": { "loadBalancerClass": "x" },
                "status": {
                    "loadBalancer": { "ingress": [{ "ip": "5.6.7.8" }] },
                    "conditions": [{
                        "type": names::ALLOCATED, "status": "True", "reason": "Allocated",
                        "message": "5.6.7.8 from IPAddressPool theirs",
                    }],
                },
            }),
        ),
    ];
    for (what, change) in table {
        assert_eq!(patch_after(change, None), None, "{what}");
    }
}

#[test]
fn listed_service_departed_if_it_carries_a_status() {
    let plain =
        json!({ "metadata": { "namespace": "a", "name": "s", "uid": "u" }, "spec": { "type": "NodePort" } });
    assert_eq!(DepartedService::listed(&plain), None);
    for status in [
        json!({ "metadata": { "annotations": { names::ALLOCATED_FROM_POOL: "p" } } }),
        json!({ "status": { "conditions": [{ "type": names::ALLOCATED, "lastTransitionTime": null }] } }),
        json!({ "status": { "conditions": [{ "type": names::ADVERTISED }] } }),
    ] {
        let departed = DepartedService::listed(&both(plain.clone(), status.clone()));
        assert_eq!(departed.map(|departed| departed.key.to_string()).as_deref(), Some("a/s"), "{status}");
        let balancer = json!({ "spec": { "type": "LoadBalancer" } });
        assert_eq!(DepartedService::listed(&both(both(plain.clone(), status), balancer)), None);
    }
}

#[test]
fn balancer_of_a_class_without_instance_loses_what_fairlead_wrote() {
    let service = |class: Value, status: Value| {
        let base = json!({
            "metadata": { "namespace": "a", "name": "s", "uid": "u", "resourceVersion": "1" },
            "spec": { "type": "LoadBalancer", "loadBalancerClass": class },
        });
        both(base, status)
    };
    let marked = json!({
        "metadata": { "annotations": { names::ALLOCATED_FROM_POOL: "p" } },
        "status": {
            "conditions": [{ "type": names::ALLOCATED, "status": "True" }, { "type": "example.org/X" }],
            "loadBalancer": { "ingress": [{ "ip": "5.6.7.8" }] },
        },
    });
    let read = |value: &Value, class: Option<&str>| {
        MarkedService::of(&serde_json::from_value(value.clone()).unwrap(), class)
    };
    let foreign = service(json!("x"), marked.clone());
    let known = read(&foreign, None).unwrap();
    let departed = known.departed(&[Some("y")].into()).unwrap();
    let patch = departed.patch(&foreign, None).unwrap();
    assert_eq!(patch["metadata"]["annotations"], json!({ names::ALLOCATED_FROM_POOL: null }));
    assert_eq!(patch["status"]["conditions"], json!([{ "type": "example.org/X" }]));
    assert_eq!(
        patch["status"].get("loadBalancer").and_then(|status| status["ingress"].as_array()).map(Vec::len),
        Some(1),
        "the address is of the class"
    );
    assert_eq!(known.departed(&[Some("x")].into()), None, "an instance handles the class");
    // It changed its class again meanwhile, to one that may have an instance, or to this one.
    assert_eq!(departed.patch(&service(json!("y"), marked.clone()), None), None);
    assert_eq!(departed.patch(&service(Value::Null, marked.clone()), None), None);
    // The Service of this class, and one that carries nothing.
    assert_eq!(read(&foreign, Some("x")), None);
    assert_eq!(
        read(
            &service(json!("x"), json!({ "status": { "conditions": [{ "type": "example.org/X" }] } })),
            None
        ),
        None
    );
    assert!(read(&service(Value::Null, marked), Some("x")).is_some(), "the instance without a class");
}
