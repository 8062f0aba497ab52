//! Requests that are long or contain unprintable characters.

use fairlead_crds::text::{MAX_MESSAGE, is_printable};

use super::*;
use fairlead_test_support::pool;

/// Characters of all lengths, that are escaped or not.
const PIECES: [&str; 7] = ["\u{7f}", "\n", "\u{202e}", "x", "ü", "\"", "1.2.3.4,"];

/// Checks the condition and the Events of `s`, and what the index stores of it.
#[track_caller]
fn check_texts(world: &World, what: &str) {
    let message = world.message("s", names::ALLOCATED);
    let events = world.events.iter().map(|event| event.message.as_str());
    for text in events.chain([message.as_str()]) {
        assert!(text.len() <= MAX_MESSAGE + 40, "{what}: {} octets", text.len());
        assert!(text.chars().all(is_printable), "{what}: {text:?}");
    }
    let stored = format!("{:?}", world.index.allocations().services().get(&key("s")));
    assert!(stored.len() < 8 * 1024, "{what}: {} octets are stored", stored.len());
}

#[test]
fn long_request_is_refused_without_echo() {
    for annotation in [REQUEST_IPS, REQUEST_POOL, SHARING_KEY, names::ALLOCATED_FROM_POOL] {
        for piece in PIECES {
            for octets in [257, 255 * 1024] {
                let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.255"])]);
                let value = format!("x{}x", piece.repeat(octets / piece.len()));
                world.apply(service("s", annotated(annotation, &value)));
                let what = format!("{annotation}: {octets} octets of {piece:?}");
                check_texts(&world, &what);
                if annotation == names::ALLOCATED_FROM_POOL {
                    assert_eq!(world.result("s"), "1.2.3.0", "{what}");
                    continue;
                }
                let expected = format!("False/InvalidRequest: {annotation} is too long: it has ");
                let message = world.message("s", names::ALLOCATED);
                assert!(message.starts_with(&expected), "{what}: {message}");
            }
        }
    }
}

#[test]
fn unprintable_request_is_echoed_escaped() {
    for (annotation, value, expected) in [
        (REQUEST_IPS, "a\nERROR b", r#"InvalidRequest: "a\nERROR b" is not an IP address"#),
        (REQUEST_POOL, "p\u{7f}", r#"requests the IPAddressPool "p\u{7f}", which is no valid name"#),
        (REQUEST_POOL, "No Name", r#"requests the IPAddressPool "No Name", which is no valid name"#),
    ] {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.255"])]);
        world.apply(service("s", annotated(annotation, value)));
        check_texts(&world, value);
        let message = world.message("s", names::ALLOCATED);
        assert!(message.contains(expected), "{message}");
    }
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.255"])]);
    let keys = json!({ SHARING_KEY: "a\u{202e}", "metallb.io/allow-shared-ip": "b" });
    world.apply(service("s", json!({ "metadata": { "annotations": keys } })));
    let message = world.message("s", names::ALLOCATED);
    assert!(message.contains(r#"two different sharing keys: "a\u{202e}" and "b""#), "{message}");
}

#[test]
fn service_keeps_address_when_a_request_is_too_long() {
    let long = "x".repeat(100 * 1024);
    for annotation in [REQUEST_IPS, REQUEST_POOL, SHARING_KEY] {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.255"])]);
        world.apply(service("s", json!({})));
        world.apply(service("s", annotated(annotation, &long)));
        let message = world.message("s", names::ALLOCATED);
        let expected = "True/InvalidRequest: keeps 1.2.3.0 from IPAddressPool p: ";
        assert!(message.starts_with(expected), "{message}");
        world.check_restart(annotation);
    }
}

#[test]
fn service_with_too_many_labels_or_ports_keeps_its_address() {
    let labels: Value =
        (0..10_000).map(|n| (format!("l{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    let ports: Vec<Value> = (1..=10_000).map(|port| json!({ "port": port })).collect();
    let ports = both(shared(80), json!({ "spec": { "ports": ports } }));
    for (change, expected) in [
        (
            json!({ "metadata": { "labels": labels } }),
            "the Service has 10000 labels with 58890 octets, and at most",
        ),
        (ports, "the Service has 10000 ports, and a Service that shares an address may have at most 4096"),
    ] {
        let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.255"])]);
        world.apply(service("s", json!({})));
        world.apply(service("s", change.clone()));
        let message = world.message("s", names::ALLOCATED);
        let keeps = "True/InvalidRequest: keeps 1.2.3.0 from IPAddressPool p: ";
        assert!(message.starts_with(&format!("{keeps}{expected}")), "{message}");
        world.check_restart(expected);
        check_texts_of_large(&world);
        world.apply(service("t", change));
        let message = world.message("t", names::ALLOCATED);
        assert!(message.starts_with(&format!("False/InvalidRequest: {expected}")), "{message}");
    }
}

/// Checks what the index stores of `s`, except ports.
#[track_caller]
fn check_texts_of_large(world: &World) {
    let mut balancer = world.index.allocations().services().get(&key("s")).unwrap().balancer().clone();
    assert!(balancer.ports.len() <= 4096);
    balancer.ports = Default::default();
    assert!(format!("{balancer:?}").len() < 4096);
}

#[test]
fn sharer_with_too_long_key_keeps_its_shared_address() {
    let mut world = World::new([pool("p", &["1.2.3.0-1.2.3.255"])]);
    world.apply(service("a", shared(80)));
    world.apply(service("s", shared(81)));
    let (_, address) = (world.apply(service("b", shared(82))), world.result("a"));
    assert_eq!(world.result("s"), address);
    let long = annotated(SHARING_KEY, &"k".repeat(300));
    world.apply(service("s", both(shared(81), long)));
    assert_eq!(world.result("s"), address);
    world.check_restart("a sharing key is too long");
    assert_eq!((world.result("s"), world.result("b")), (address.clone(), address));
}
