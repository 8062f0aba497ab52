//! Objects that an API server stores although the types of this version cannot hold them: written by other
//! programs, or under the schema of another version.

use fairlead_crds::manifests;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// A custom resource of which a part is odd.
#[derive(Clone, Debug)]
pub struct Odd {
    pub kind: &'static str,
    pub name: String,
    pub spec: Value,
    /// The status; null if the object has none.
    pub status: Value,
    /// False if the spec cannot be read.
    pub has_readable_spec: bool,
}

/// For each kind: a spec that is valid and affects nothing, with `#` for a number, and specs that cannot be
/// read.
const SPECS: &[(&str, &str, &[&str])] = &[
    (
        "IPAddressPool",
        r#"{ "addresses": ["203.0.113.#/32"], "autoAssign": false }"#,
        &[
            r#"{ "addresses": [7] }"#,
            r#"{ "addresses": "all" }"#,
            r#"{ "addresses": ["203.0.113.255/32"], "autoAssign": "yes" }"#,
        ],
    ),
    (
        "L2Advertisement",
        r#"{ "ipAddressPools": ["none"] }"#,
        &[r#"{ "interfaces": "eth0" }"#, r#"{ "ipAddressPools": [null] }"#, r#"{ "nodeSelectors": 1e300 }"#],
    ),
    (
        "BGPAdvertisement",
        r#"{ "ipAddressPools": ["none"] }"#,
        &[r#"{ "aggregationLength": "long" }"#, r#"{ "communities": { "a": 1 } }"#, r#"{ "med": "low" }"#],
    ),
    (
        "BGPPeer",
        r#"{ "myASN": 64513, "peerASN": 64600, "peerAddress": "203.0.113.#",
             "nodeSelectors": [{ "matchLabels": { "none": "none" } }] }"#,
        &[
            r#"{ "myASN": -1e30, "peerPort": {} }"#,
            r#"{ "myASN": 64513, "peerAddress": ["203.0.113.1"] }"#,
            r#"{ "myASN": 64513, "peerAddress": "203.0.113.1", "passwordSecret": 7 }"#,
        ],
    ),
    (
        "BFDProfile",
        r##"{ "receiveInterval": 300 }"##,
        &[r#"{ "receiveInterval": 1e12 }"#, r#"{ "detectMultiplier": [3] }"#, r#"{ "passiveMode": "yes" }"#],
    ),
    (
        "Community",
        r#"{ "communities": [{ "name": "odd-#", "value": "64513:#" }] }"#,
        &[
            r#"{ "communities": [{ "name": null }] }"#,
            r#"{ "communities": [7] }"#,
            r#"{ "communities": "a" }"#,
        ],
    ),
    (
        "IPClaim",
        r#"{ "serviceName": "none", "pool": "none" }"#,
        &[
            r#"{ "serviceName": ["a"], "addresses": ["203.0.113.255"] }"#,
            r#"{ "serviceName": "none", "addresses": [null] }"#,
            r#"{ "serviceName": "none", "ipFamilies": 4 }"#,
        ],
    ),
    (
        "Speaker",
        "{}",
        &[
            r#"{ "mesh": { "address": 7, "port": -1 } }"#,
            r#"{ "mesh": 7 }"#,
            r#"{ "loadBalancerClass": {} }"#,
        ],
    ),
    (
        "PoolCooldown",
        r#"{ "released": ["203.0.113.# default/none 2026-01-01T00:00:00Z"] }"#,
        &[
            r#"{ "released": [7, null, "203.0.113.1", "x y z"] }"#,
            r#"{ "released": "all" }"#,
            r#"{ "released": { "a": 1e300 } }"#,
        ],
    ),
];

/// Returns conditions of other controllers as an API server stores them.
pub fn conditions() -> Value {
    let condition = |type_: &str, status: &str, time: Value| json!({ "type": type_, "status": status, "reason": "", "message": "", "lastTransitionTime": time });
    json!([
        condition("example.com/NoTime", "True", Value::Null),
        condition("example.com/Late", "Unsure", json!("9999-12-31T23:59:59-12:00")),
        condition("example.com/Early", "False", json!("0000-01-01T00:00:00+12:00")),
        condition("example.com/Long", "True", json!("2026-01-01T00:00:00.1234567890123Z")),
    ])
}

/// Statuses that a permissive schema admits.
fn statuses() -> Vec<Value> {
    vec![
        json!({ "conditions": conditions() }),
        json!({ "conditions": null, "recentlyReleased": null, "addresses": null, "sessions": null }),
        json!({ "conditions": "text" }),
        json!({ "conditions": [7, null, { "type": 7, "status": [] }] }),
        json!({
            "recentlyReleased": [7, { "address": "x" }], "assignedIPv4": "many", "sessions": 7, "inForce": 7,
            "addresses": {}, "unknown": [[{}]],
        }),
    ]
}

/// Returns odd objects of the kinds that `includes` selects. Their names end in `suffix`, and their addresses
/// are `203.0.113.N` from the number `first`.
pub fn objects(suffix: &str, first: u8, includes: impl Fn(&str) -> bool) -> Vec<Odd> {
    let mut all = Vec::new();
    for (kind, valid, unreadable) in SPECS.iter().filter(|(kind, ..)| includes(kind)) {
        for (index, spec) in unreadable.iter().enumerate() {
            all.push(Odd {
                kind,
                name: format!("odd-spec-{index}-{suffix}"),
                spec: serde_json::from_str(spec).unwrap(),
                status: statuses().swap_remove(0),
                has_readable_spec: false,
            });
        }
        // Values of enumerations and fields of another version.
        let mut spec: Value = serde_json::from_str(&valid.replace('#', &(first + 10).to_string())).unwrap();
        for field in ["reclaim", "sharing", "dynamicASN"] {
            spec[field] = json!("Sometimes");
        }
        (spec["ipFamilies"], spec["unknown"]) = (json!(["IPv7"]), json!([[null], { "a": 1e300 }]));
        all.push(Odd {
            kind,
            name: format!("odd-value-{suffix}"),
            spec,
            status: Value::Null,
            has_readable_spec: true,
        });
        for (number, (index, status)) in (first..).zip(statuses().into_iter().enumerate()) {
            all.push(Odd {
                kind,
                name: format!("odd-status-{index}-{suffix}"),
                spec: serde_json::from_str(&valid.replace('#', &number.to_string())).unwrap(),
                status,
                has_readable_spec: true,
            });
        }
    }
    all
}

/// Returns the kinds of [`objects`].
pub fn kinds() -> impl Iterator<Item = &'static str> {
    SPECS.iter().map(|(kind, ..)| *kind)
}

/// Returns the definitions of all kinds with a schema that accepts everything.
pub fn permissive_definitions() -> Vec<CustomResourceDefinition> {
    let anything = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let permissive = manifests::definitions().into_iter().map(|definition| {
        let mut definition = serde_json::to_value(definition).unwrap();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
            json!({ "type": "object", "properties": { "spec": anything, "status": anything } });
        serde_json::from_value(definition).unwrap()
    });
    permissive.collect()
}
