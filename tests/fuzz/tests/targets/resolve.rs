//! Configuration objects: whatever an API server stores, `resolve` returns a verdict on each object, and what
//! is in force is sound.
//!
//! The octets of an input choose values of the sample objects and replace them, so that most inputs stay
//! objects.

use std::collections::BTreeSet;

use fairlead_crds::resolve::{Objects, resolve};
use fairlead_fuzz::fuzz;
use serde_json::{Value, json};

/// Values that are valid somewhere and wrong elsewhere.
fn replacements() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(1),
        json!(33),
        json!(129),
        json!(65536),
        json!(4_294_967_295_u32),
        json!(-1),
        json!(i64::MAX),
        json!(""),
        json!("0.0.0.0/0"),
        json!("::/0"),
        json!("192.0.2.0/24"),
        json!("192.0.2.9-192.0.2.3"),
        json!("255.255.255.255-255.255.255.255"),
        json!("2001:db8::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        json!("lan"),
        json!("routed"),
        json!("65000:65536"),
        json!("large:1:2:3"),
        json!("large:4294967296:2:3"),
        json!("99999999999999999999h"),
        json!("-1s"),
        json!("1.5s"),
        json!("\u{0}\u{fffd}"),
        json!("a".repeat(300)),
        json!([]),
        json!({}),
        json!([""]),
        json!(["lan", "lan"]),
        json!([{"matchExpressions": [{"key": "", "operator": "In", "values": []}]}]),
        json!({"matchLabels": {"a": "b"}}),
    ]
}

/// Pointers to every value of an object, the object itself excepted.
fn pointers(value: &Value, at: &str, out: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, child)| (key.replace('/', "~1"), child)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(n, child)| (n.to_string(), child)).collect(),
        _ => return,
    };
    for (key, child) in children {
        let pointer = format!("{at}/{key}");
        pointers(child, &pointer, out);
        out.push(pointer);
    }
}

fn read<T: serde::de::DeserializeOwned>(samples: &[Value], kind: &str) -> Vec<T> {
    let of_kind = samples.iter().filter(|object| object["kind"] == kind);
    of_kind.filter_map(|object| serde_json::from_value(object.clone()).ok()).collect()
}

#[test]
fn resolve_objects() {
    let text = include_str!("../../samples.yaml");
    let samples: Vec<Value> = text.split("\n---\n").map(|text| serde_yaml::from_str(text).unwrap()).collect();
    let replacements = replacements();
    fuzz("resolve_objects", |input| {
        let mut samples = samples.clone();
        for chunk in input.as_chunks::<4>().0.iter().take(16) {
            let [object, high, low, value] = chunk.map(usize::from);
            let object = object % samples.len();
            let mut found = Vec::new();
            pointers(&samples[object], "", &mut found);
            let Some(pointer) = found.get((high << 8 | low) % found.len().max(1)) else { continue };
            // The kind stays, so that the object stays in its list.
            if pointer != "/kind"
                && let Some(target) = samples[object].pointer_mut(pointer)
            {
                *target = replacements[value % replacements.len()].clone();
            }
        }
        let objects = Objects {
            pools: read(&samples, "IPAddressPool"),
            l2_advertisements: read(&samples, "L2Advertisement"),
            bgp_advertisements: read(&samples, "BGPAdvertisement"),
            peers: read(&samples, "BGPPeer"),
            bfd_profiles: read(&samples, "BFDProfile"),
            communities: read(&samples, "Community"),
            ..Objects::default()
        };
        let resolution = resolve(&objects);
        let names: BTreeSet<(&str, &str)> = samples
            .iter()
            .filter_map(|object| Some((object["kind"].as_str()?, object["metadata"]["name"].as_str()?)))
            .collect();
        assert!(resolution.verdicts.len() <= names.len().max(samples.len()));
        let in_force = objects.pools.len() + objects.peers.len();
        assert!(resolution.config.pools.len() + resolution.config.peers.len() <= in_force);
        for object in resolution.verdicts.keys() {
            let accepted = resolution.accepted(object).unwrap();
            assert!(!accepted.reason.is_empty());
            assert!(accepted.status || !accepted.message.is_empty(), "{object} is refused without a message");
        }
        let ranges: Vec<_> = resolution.config.pools.values().flat_map(|pool| &pool.ranges).collect();
        for (n, range) in ranges.iter().enumerate() {
            for other in &ranges[n + 1..] {
                assert!(
                    !range.contains(other.first()) && !other.contains(range.first()),
                    "{range} and {other} overlap"
                );
            }
        }
        let mut reversed = objects.clone();
        reversed.pools.reverse();
        reversed.peers.reverse();
        reversed.bgp_advertisements.reverse();
        assert_eq!(resolve(&reversed), resolution, "the order of objects does not matter");
    });
}
