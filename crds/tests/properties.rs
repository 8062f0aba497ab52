//! Properties of the resolution of arbitrary objects.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use fairlead_crds::model::config::Config;
use fairlead_crds::resolve::{InForce, Kind, ObjectVerdict, Objects, RefusalReason, Resolution, resolve};
use fairlead_crds::store::ConfigurationStore;
use fairlead_crds::v1beta1::IPAddressPool;
use proptest::prelude::*;
use proptest::sample::Index;

/// Specs for each kind: valid, invalid and conflicting ones.
const SPECS: [(&str, &[&str]); 6] = [
    (
        "IPAddressPool",
        &[
            "addresses: [192.0.2.0/24]",
            "addresses: [192.0.2.0/26, 198.51.100.0/25]",
            "addresses: [192.0.2.64-192.0.2.80]",
            "addresses: [198.51.100.100-198.51.100.200, '2001:db8::/64']",
            "addresses: ['2001:db8::1-2001:db8::9']",
            "addresses: [192.0.2.9-192.0.2.1]",
            "addresses: []",
        ],
    ),
    (
        "L2Advertisement",
        &[
            "",
            "ipAddressPools: [o0, o3, o9]",
            "interfaces: [eth0, eth0]",
            "ipAddressPoolSelectors: [{matchLabels: {a: b}}]",
        ],
    ),
    (
        "BGPAdvertisement",
        &[
            "",
            "localPref: 200",
            "{localPref: 300, ipAddressPools: [o0, o1, o2]}",
            "{aggregationLength: 24, peers: [o1, o2]}",
            "{aggregationLength: 24, ipAddressPools: [o0, o1]}",
            "{aggregationLengthV6: 64, communities: [x]}",
            "communities: [y]",
        ],
    ),
    (
        "BGPPeer",
        &[
            "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1}",
            "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, nodeSelectors: [{matchLabels: {a: b}}]}",
            "{myASN: 1, peerASN: 2, peerAddress: '2001:db8::1', bfdProfile: o0}",
            "{myASN: 1, peerAddress: 192.0.2.1}",
        ],
    ),
    ("BFDProfile", &["", "detectMultiplier: 1"]),
    (
        "Community",
        &[
            "communities: [{name: x, value: '1:1'}]",
            "communities: [{name: x, value: '1:2'}, {name: y, value: '1:3'}]",
        ],
    ),
];

/// Generates up to 40 objects; some have the same name, the same age or both.
fn any_objects() -> impl Strategy<Value = Vec<serde_json::Value>> {
    let object = (0..SPECS.len(), any::<Index>(), 0..10usize, 0..4i64).prop_map(|(kind, spec, name, age)| {
        let (kind, specs) = SPECS[kind];
        common::object(kind, &format!("o{name}"), age, specs[spec.index(specs.len())])
    });
    proptest::collection::vec(object, 0..40)
}

fn name(object: &serde_json::Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn created(object: &serde_json::Value) -> &str {
    object["metadata"]["creationTimestamp"].as_str().unwrap()
}

fn resolve_values(values: &[serde_json::Value]) -> Resolution {
    let mut objects = Objects::default();
    for value in values {
        common::add(&mut objects, value.clone());
    }
    resolve(&objects)
}

/// Adds a last accepted form of an earlier generation, or of this one, and the condition `InForce` if an
/// observed generation is given.
fn record_form(ad: &mut serde_json::Value, (spec, generation, observed): (Index, i64, Option<i64>)) {
    let (_, specs) = SPECS.iter().find(|(kind, _)| *kind == "BGPAdvertisement").unwrap();
    let former = common::object("BGPAdvertisement", "former", 0, specs[spec.index(specs.len())]);
    let condition = observed.map(
        |observed| serde_json::json!({ "type": "InForce", "status": "True", "observedGeneration": observed }),
    );
    ad["metadata"]["generation"] = 2.into();
    ad["status"] = serde_json::json!({
        "inForce": { "generation": generation, "spec": former["spec"] },
        "conditions": condition.as_slice(),
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn order_of_objects_does_not_matter(values in any_objects(), seed in any::<u64>()) {
        let expected = resolve_values(&values);
        let mut reversed = values.clone();
        reversed.reverse();
        prop_assert_eq!(&resolve_values(&reversed), &expected);
        let mut shuffled = values;
        let count = shuffled.len() as u64;
        for i in (1..shuffled.len()).rev() {
            let other = seed.wrapping_mul(i as u64 + count).rotate_left(17) % (i as u64 + 1);
            shuffled.swap(i, usize::try_from(other).unwrap());
        }
        prop_assert_eq!(&resolve_values(&shuffled), &expected);
    }

    #[test]
    fn changes_of_pools_lead_to_the_same_as_resolving_all(
        values in any_objects(),
        steps in proptest::collection::vec(
            (0..10usize, any::<Index>(), 0..4i64, 0..3u8, any::<bool>()),
            1..20,
        ),
        forms in proptest::collection::vec(
            proptest::option::of((any::<Index>(), 1..3i64, proptest::option::of(1..3i64))),
            40,
        ),
        leads: bool,
    ) {
        let in_force = if leads { InForce::ByResolution } else { InForce::ByConditions };
        let (mut store, mut resolution) = (ConfigurationStore::default(), Resolution::default());
        let mut objects = Objects::default();
        let mut seen = BTreeSet::new();
        for (mut value, form) in values.into_iter().zip(forms) {
            if let Some(form) = form.filter(|_| value["kind"] == "BGPAdvertisement") {
                record_form(&mut value, form);
            }
            if seen.insert((value["kind"].clone().to_string(), name(&value).to_owned())) {
                common::add(&mut objects, value);
            }
        }
        store.reset(objects.pools);
        store.reset(objects.l2_advertisements);
        store.reset(objects.bgp_advertisements);
        store.reset(objects.peers);
        store.reset(objects.bfd_profiles);
        store.reset(objects.communities);
        store.update(&mut resolution, in_force).unwrap();
        let (_, specs) = SPECS.iter().find(|(kind, _)| *kind == "IPAddressPool").unwrap();
        for (pool, spec, age, action, accepted) in steps {
            let name = format!("o{pool}");
            if action == 0 {
                store.delete::<IPAddressPool>(&name);
            } else {
                let mut value = common::object("IPAddressPool", &name, age, specs[spec.index(specs.len())]);
                if action == 2 {
                    value["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
                }
                if accepted {
                    let condition = serde_json::json!({
                        "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    });
                    value["status"] = serde_json::json!({ "conditions": [condition] });
                }
                store.apply::<IPAddressPool>(serde_json::from_value(value).unwrap());
            }
            let earlier = resolution.clone();
            let mut config = earlier.config.clone();
            let change = store.update(&mut resolution, in_force).unwrap();
            let expected = store.resolve_after(&earlier, in_force).unwrap();
            if leads {
                // A complete resolution may name another pool that a refused pool overlaps as well.
                let without_messages = |resolution: &Resolution| {
                    let mut resolution = resolution.clone();
                    for verdict in resolution.verdicts.values_mut() {
                        if let ObjectVerdict::Refused { reason: RefusalReason::Overlap, message } = verdict {
                            message.clear();
                        }
                    }
                    resolution
                };
                prop_assert_eq!(without_messages(&resolution), without_messages(&expected));
            } else {
                prop_assert_eq!(&resolution, &expected);
            }
            config.apply(change.delta);
            prop_assert_eq!(&config, &resolution.config);
            for object in earlier.verdicts.keys().chain(resolution.verdicts.keys()) {
                let differs = earlier.accepted(object) != resolution.accepted(object);
                prop_assert!(!differs || change.objects.contains(object), "{}", object);
            }
        }
    }

    #[test]
    fn accepted_objects_are_in_force(values in any_objects()) {
        let resolution = resolve_values(&values);
        let named: BTreeSet<(&str, &str)> = values
            .iter()
            .map(|v| (v["kind"].as_str().unwrap(), name(v)))
            .collect();
        prop_assert_eq!(resolution.verdicts.len(), named.len());
        for (object, verdict) in &resolution.verdicts {
            let config = &resolution.config;
            let in_force = match object.kind {
                Kind::IPAddressPool => config.pools.contains_key(&object.name),
                Kind::L2Advertisement => config.l2_advertisements.contains_key(&object.name),
                Kind::BGPAdvertisement => config.bgp_advertisements.contains_key(&object.name),
                Kind::BGPPeer => config.peers.contains_key(&object.name),
                Kind::BFDProfile | Kind::Community => continue,
            };
            prop_assert_eq!(in_force, *verdict == ObjectVerdict::Accepted, "{}", object);
            if object.kind == Kind::IPAddressPool {
                let frozen = !in_force && common::reason(verdict) != Some(RefusalReason::DuplicateName);
                prop_assert_eq!(config.refused_pools.contains_key(&object.name), frozen, "{}", object);
            }
            prop_assert!(in_force || !resolution.warnings.contains_key(object), "{}", object);
        }
    }

    #[test]
    fn pools_in_force_are_disjoint(values in any_objects()) {
        let config = resolve_values(&values).config;
        let mut ranges: Vec<_> = config.pools.values().flat_map(|pool| pool.ranges.clone()).collect();
        ranges.sort();
        for pair in ranges.windows(2) {
            prop_assert!(!pair[0].overlaps(&pair[1]), "{} and {}", pair[0], pair[1]);
        }
    }

    #[test]
    fn index_and_search_find_the_same_pool(
        values in any_objects(), last in any::<u8>(), v6 in any::<bool>(),
    ) {
        let config = resolve_values(&values).config;
        let unindexed = Config { pools: config.pools.clone(), ..Config::default() };
        let ip = if v6 { format!("2001:db8::{last:x}") } else { format!("192.0.2.{last}") };
        let ip = ip.parse().unwrap();
        prop_assert_eq!(config.pool_of(ip).map(|p| &p.name), unindexed.pool_of(ip).map(|p| &p.name));
    }

    #[test]
    fn older_pool_is_never_refused_for_younger_one(values in any_objects()) {
        let with = resolve_values(&values);
        let oldest: BTreeMap<&str, _> = values
            .iter()
            .filter(|v| v["kind"] == "IPAddressPool" && created(v) < "2026-01-01T21")
            .map(|v| (name(v), v))
            .collect();
        let alone: Vec<_> = values
            .iter()
            .filter(|v| v["kind"] != "IPAddressPool" || oldest.contains_key(name(v)))
            .cloned()
            .collect();
        for (object, verdict) in &resolve_values(&alone).verdicts {
            let is_duplicate = common::reason(verdict) == Some(RefusalReason::DuplicateName);
            if object.kind == Kind::IPAddressPool && !is_duplicate {
                prop_assert_eq!(verdict, &with.verdicts[object], "{}", object);
            }
        }
    }

    #[test]
    fn resolve_of_any_field_does_not_panic(text in "[ \
        -~µ\\n]{0,24}", number in any::<i64>(), small in any::<i32>()) {
        let mut objects = Objects::default();
        let mut pool = common::object("IPAddressPool", "o", 1, "");
        let allocation = serde_json::json!({ "priority": number });
        pool["spec"] = serde_json::json!({ "addresses": [text], "serviceAllocation": allocation });
        let mut peer = common::object("BGPPeer", "o", 1, "");
        peer["spec"] = serde_json::json!({
            "myASN": number, "peerASN": number, "localASN": number, "peerAddress": text,
            "sourceAddress": text,
            "routerID": text, "holdTime": text, "keepaliveTime": text, "connectTime": text, "peerPort": small,
        });
        let mut ad = common::object("BGPAdvertisement", "o", 1, "");
        ad["spec"] = serde_json::json!({
            "communities": [text], "localPref": number, "aggregationLength": small,
        });
        for value in [pool, peer, ad] {
            common::add(&mut objects, value);
        }
        prop_assert_eq!(resolve(&objects).verdicts.len(), 3);
    }

    #[test]
    fn resolve_of_any_range_does_not_panic(entry in "[0-9a-f:./ -]{0,40}") {
        let mut objects = Objects::default();
        let mut pool = common::object("IPAddressPool", "o", 1, "");
        pool["spec"] = serde_json::json!({ "addresses": [entry] });
        common::add(&mut objects, pool);
        let resolution = resolve(&objects);
        for pool in resolution.config.pools.values() {
            prop_assert!(pool.ranges.iter().all(|range| range.first() <= range.last()));
        }
    }
}
