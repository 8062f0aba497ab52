//! Valid and invalid objects of all kinds.

use serde_json::{Value, json};

/// A valid spec of each kind, in JSON.
pub(crate) const BASES: &[(&str, &str)] = &[
    ("IPAddressPool", r#"{"addresses": ["192.0.2.0/24"]}"#),
    ("IPClaim", r#"{"serviceName": "web", "pool": "lan"}"#),
    ("L2Advertisement", r#"{"ipAddressPools": ["lan"]}"#),
    ("BGPAdvertisement", r#"{"ipAddressPools": ["lan"]}"#),
    ("BGPPeer", r#"{"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1"}"#),
    ("BFDProfile", r#"{"detectMultiplier": 3}"#),
    ("Community", r#"{"communities": [{"name": "a", "value": "64512:1"}]}"#),
    ("Speaker", r#"{"mesh": {"address": "192.0.2.11", "port": 7947}}"#),
    ("PoolCooldown", r#"{"released": ["192.0.2.1 default/web 2026-01-01T00:00:00Z"]}"#),
];

/// A field, by its path below the object in the notation of JSON Pointer, and its values in JSON.
type Row = (&'static str, &'static str, &'static [&'static str]);

const ROWS: &[Row] = &[
    (
        "IPAddressPool",
        "/metadata/name",
        &[
            r#""a""#,
            r#""a.b-c.9""#,
            r#""A""#,
            r#""a_b""#,
            r#""""#,
            r#""-a""#,
            r#""a-""#,
            r#""a..b""#,
            r#""a/b""#,
            r#""é""#,
            "1",
            "null",
            r#"["a"]"#,
        ],
    ),
    (
        "IPAddressPool",
        "/metadata/labels",
        &[
            r#"{"a": "b"}"#,
            r#"{"example.com/a": ""}"#,
            r#"{"a": "b c"}"#,
            r#"{"-a": "b"}"#,
            r#"{"a/b/c": "d"}"#,
            r#"{"a": 1}"#,
            r#"{"a": null}"#,
            "[]",
            "null",
        ],
    ),
    (
        "IPAddressPool",
        "/metadata/annotations",
        &[r#"{"a": "b\nc"}"#, r#"{"a b": "c"}"#, r#"{"example.com/": "c"}"#, r#"{"a": true}"#],
    ),
    (
        "IPAddressPool",
        "/metadata",
        &[
            "null",
            "[]",
            r#""a""#,
            r#"{"name": "a", "other": "b"}"#,
            r#"{"name": "a", "namespace": "default"}"#,
        ],
    ),
    ("IPAddressPool", "/apiVersion", &[r#""fairlead.dev/v1""#, r#""fairlead.dev/v1alpha1""#]),
    ("IPAddressPool", "/spec", &["null", "[]", "{}", r#""a""#, "1"]),
    (
        "IPAddressPool",
        "/status",
        &["{}", r#"{"conditions": []}"#, r#"{"conditions": [{"type": "A"}]}"#, "[]"],
    ),
    ("IPAddressPool", "/oops", &["1", "null"]),
    (
        "IPAddressPool",
        "/spec/addresses",
        &[
            r#"["192.0.2.1-192.0.2.9"]"#,
            r#"["192.0.2.1 - 192.0.2.9"]"#,
            r#"["fd00::/64"]"#,
            r#"["192.0.2.9-192.0.2.1"]"#,
            r#"["192.0.2.1-fd00::1"]"#,
            r#"["192.0.2.0/33"]"#,
            r#"["0.0.0.0/0"]"#,
            r#"["192.0.2.1"]"#,
            r#"["192.0.2.300/32"]"#,
            r#"["lan"]"#,
            r#"[""]"#,
            "[]",
            "null",
            r#""192.0.2.0/24""#,
            r#"[1]"#,
            r#"[null]"#,
            r#"[["192.0.2.0/24"]]"#,
            r#"["192.0.2.0/24", "198.51.100.0/24"]"#,
            r#"["192.0.2.0/024"]"#,
            r#"["192.0.02.0/24"]"#,
            r#"["fe80::1%eth0/128"]"#,
            r#"["192.0.2.0/24\n"]"#,
            r#"["192.0.2.128/24"]"#,
            r#"["127.0.0.0/8"]"#,
            r#"["224.0.0.0/24"]"#,
            r#"["::/128"]"#,
            r#"["0.0.0.0/8"]"#,
            r#"["255.255.255.255/32"]"#,
            r#"["::ffff:192.0.2.0/120"]"#,
            r#"["::1/128"]"#,
            r#"["ff02::/64"]"#,
            r#"["169.254.0.0/24"]"#,
            r#"["fe80::/64"]"#,
        ],
    ),
    ("IPAddressPool", "/spec/autoAssign", &["false", r#""false""#, "0", "null"]),
    ("IPAddressPool", "/spec/reclaim", &[r#""Reassign""#, r#""reassign""#, r#""""#, "null"]),
    (
        "IPAddressPool",
        "/spec/reuseAfter",
        &[r#""10m""#, r#""1h30m""#, r#""-1s""#, r#""8761h""#, r#""10""#, r#""never""#, "10", r#""""#],
    ),
    ("IPAddressPool", "/spec/sharing", &[r#""SameNamespace""#, r#""Nobody""#]),
    (
        "IPAddressPool",
        "/spec/serviceAllocation",
        &[
            r#"{"priority": 1}"#,
            r#"{"priority": -1}"#,
            r#"{"priority": 2147483648}"#,
            r#"{"priority": 1.5}"#,
            r#"{"priority": 1.0}"#,
            r#"{"namespaces": ["a"]}"#,
            r#"{"namespaces": [""]}"#,
            r#"{"serviceSelectors": [{"matchLabels": {"a": "b"}}]}"#,
            r#"{"serviceSelectors": [{"matchlabels": {"a": "b"}}]}"#,
            r#"{"serviceSelectors": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}"#,
            r#"{"serviceSelectors": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]}"#,
            r#"{"serviceSelectors": [{"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}]}"#,
            r#"{"serviceSelectors": [{"matchExpressions": [{"key": "a", "operator": "Like"}]}]}"#,
            r#"{"serviceSelectors": [{"matchExpressions": [{"operator": "Exists"}]}]}"#,
        ],
    ),
    ("IPClaim", "/metadata/namespace", &[r#""default""#, r#""""#]),
    (
        "IPClaim",
        "/spec",
        &[
            r#"{"serviceName": "web", "addresses": ["192.0.2.1"]}"#,
            r#"{"serviceName": "web", "addresses": ["192.0.2.1", "fd00::1"]}"#,
            r#"{"serviceName": "web", "addresses": ["192.0.2.1", "192.0.2.2"]}"#,
            r#"{"serviceName": "web", "addresses": ["web"]}"#,
            r#"{"serviceName": "web", "addresses": []}"#,
            r#"{"serviceName": "web"}"#,
            r#"{"serviceName": "", "pool": "lan"}"#,
            r#"{"pool": "lan"}"#,
            r#"{"serviceName": "web", "pool": "lan", "addresses": ["192.0.2.1"]}"#,
            r#"{"serviceName": "web", "pool": "lan", "ipFamilies": ["IPv4"]}"#,
            r#"{"serviceName": "web", "pool": "lan", "ipFamilies": ["IPv5"]}"#,
            r#"{"serviceName": "web", "pool": "lan", "ipFamilies": []}"#,
            r#"{"serviceName": "web", "addresses": ["192.0.2.1"], "ipFamilies": ["IPv4"]}"#,
            r#"{"service": "web", "pool": "lan"}"#,
        ],
    ),
    (
        "L2Advertisement",
        "/spec/interfaces",
        &[r#"["eth0"]"#, r#"["a-name-that-is-too-long"]"#, r#"[""]"#, r#""eth0""#],
    ),
    (
        "L2Advertisement",
        "/spec/preferredNodeSelectors",
        &[
            r#"[{"weight": 1, "preference": {"matchLabels": {"a": "b"}}}]"#,
            r#"[{"weight": 0, "preference": {}}]"#,
            r#"[{"weight": 101, "preference": {}}]"#,
            r#"[{"preference": {}}]"#,
            r#"[{"weight": 1}]"#,
        ],
    ),
    ("L2Advertisement", "/spec", &["{}", "null"]),
    ("BGPAdvertisement", "/spec/aggregationLength", &["32", "1", "24", "0", "33", r#""24""#, "24.5", "null"]),
    ("BGPAdvertisement", "/spec/aggregationLengthV6", &["128", "64", "0", "129"]),
    ("BGPAdvertisement", "/spec/localPref", &["0", "4294967295", "4294967296", "-1"]),
    ("BGPAdvertisement", "/spec/med", &["0", "4294967295", "4294967296", "-1"]),
    ("BGPAdvertisement", "/spec/asPathPrepend", &["1", "10", "0", "11", r#""1""#]),
    (
        "BGPAdvertisement",
        "/spec/announceWhen",
        &[r#""EndpointReady""#, r#""DataPathReady""#, r#""Ready""#, "true"],
    ),
    (
        "BGPAdvertisement",
        "/spec/reannounceAfter",
        &[r#""0s""#, r#""1h""#, r#""61m""#, r#""-1s""#, r#""x""#, "1"],
    ),
    (
        "BGPAdvertisement",
        "/spec/serviceAttributes",
        &[
            r#"{"communities": ["a", "1:2"], "maxASPathPrepend": 1, "med": true}"#,
            r#"{"communities": ["1:65536"]}"#,
            r#"{"maxASPathPrepend": 0}"#,
            "{}",
        ],
    ),
    ("BGPAdvertisement", "/spec/aggregator", &["true", "false", r#""yes""#]),
    (
        "BGPAdvertisement",
        "/spec/communities",
        &[
            r#"["64512:1"]"#,
            r#"["large:1:2:3"]"#,
            r#"["alias"]"#,
            r#"["65536:1"]"#,
            r#"["large:1:2"]"#,
            r#"["large:4294967296:1:1"]"#,
            r#"["rt:64512:1", "soo:192.0.2.1:65535", "rt:4200000000:1"]"#,
            r#"["rt:4200000000:65536"]"#,
            r#"["soo:192.0.2.256:1"]"#,
            r#"["link-bandwidth:64512:1000"]"#,
            r#"["link-bandwidth:65536:1"]"#,
            r#"["ext:43:00:000000000001"]"#,
            r#"["ext:43:00:1"]"#,
            r#"["1:2:3"]"#,
            r#"[""]"#,
        ],
    ),
    (
        "BGPAdvertisement",
        "/spec",
        &[
            r#"{"serviceSelectors": [{"matchLabels": {"a": "b"}}], "aggregationLength": 24}"#,
            r#"{"serviceSelectors": [{"matchLabels": {"a": "b"}}], "aggregationLength": 32}"#,
        ],
    ),
    ("BGPPeer", "/spec/myASN", &["1", "4294967295", "0", "4294967296", r#""64512""#, "null"]),
    ("BGPPeer", "/spec/peerASN", &["0", "64512", "-1", "null"]),
    (
        "BGPPeer",
        "/spec/linkBandwidth",
        &[r#"{"megabitsPerEndpoint": 100}"#, r#"{"megabitsPerEndpoint": 0}"#, r#"{"transitive": true}"#],
    ),
    ("BGPPeer", "/spec/dynamicASN", &[r#""external""#, r#""other""#]),
    (
        "BGPPeer",
        "/spec/peerAddress",
        &[
            r#""fd00::1""#,
            r#""router.example.com""#,
            r#""""#,
            r#""192.0.2.1/32""#,
            r#""fe80::1""#,
            r#""0.0.0.0""#,
            r#""224.0.0.1""#,
            r#""127.0.0.1""#,
            r#"" 192.0.2.1""#,
        ],
    ),
    ("BGPPeer", "/spec/interface", &[r#""eth0""#]),
    ("BGPPeer", "/spec/loadBalancerClass", &[r#""example.org/x""#, r#""""#, "7", "null"]),
    ("BGPPeer", "/spec/peerPort", &["1", "65535", "0", "65536"]),
    (
        "BGPPeer",
        "/spec/holdTime",
        &[
            r#""90s""#,
            r#""0s""#,
            r#""0""#,
            r#""2s""#,
            r#""3s""#,
            r#""65536s""#,
            r#""1m30s""#,
            r#""90""#,
            "90",
            r#""""#,
        ],
    ),
    ("BGPPeer", "/spec/connectTime", &[r#""1s""#, r#""500ms""#, r#""1500ms""#, r#""0s""#]),
    ("BGPPeer", "/spec/gracefulRestartTime", &[r#""1s""#, r#""4095s""#, r#""0s""#, r#""4096s""#, "120"]),
    ("BGPPeer", "/spec/routerID", &[r#""192.0.2.9""#, r#""0.0.0.0""#, r#""fd00::1""#]),
    ("BGPPeer", "/spec/sourceAddress", &[r#""192.0.2.2""#, r#""fd00::2""#, r#""eth0""#]),
    ("BGPPeer", "/spec/passwordSecret", &[r#"{"name": "s"}"#, r#"{"name": ""}"#, "{}", r#""s""#]),
    ("BGPPeer", "/spec/ebgpMultiHop", &["true", r#""yes""#]),
    ("BGPPeer", "/spec/ttlSecurity", &["1", "254", "0", "255", r#""1""#]),
    ("BGPPeer", "/spec/localASN", &["64514", "64513", "0"]),
    (
        "BGPPeer",
        "/spec",
        &[
            r#"{"myASN": 64512, "peerASN": 64512, "peerAddress": "192.0.2.1", "ebgpMultiHop": true}"#,
            r#"{"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "holdTime": "9s", "keepaliveTime": "10s"}"#,
            r#"{"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "ttlSecurity": 2, "ebgpMultiHop": true}"#,
            r#"{"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "holdTime": "0s", "keepaliveTime": "1s"}"#,
            r#"{"myASN": 64512, "peerAddress": "192.0.2.1"}"#,
            r#"{"myASN": 64512, "peerASN": 64513}"#,
            r#"{"myASN": 64512, "peerASN": 64513, "peerAddress": "192.0.2.1", "interface": "eth0"}"#,
        ],
    ),
    ("BFDProfile", "/spec/receiveInterval", &["10", "9", "60000", "60001", r#""300ms""#]),
    ("BFDProfile", "/spec/detectMultiplier", &["2", "1", "255", "256"]),
    ("BFDProfile", "/spec/minimumTtl", &["254", "255"]),
    (
        "Community",
        "/spec/communities",
        &[
            r#"[{"name": "a", "value": "large:1:2:3"}]"#,
            r#"[{"name": "a:b", "value": "64512:1"}]"#,
            r#"[{"name": "a", "value": "64512"}]"#,
            r#"[{"name": "a"}]"#,
            r#"[{"name": "", "value": "1:1"}]"#,
            "[]",
        ],
    ),
    (
        "Speaker",
        "/spec/mesh",
        &[
            r#"{"address": "2001:db8::1", "port": 1, "keyFingerprint": "1a30ee5d22fa3af2"}"#,
            r#"{"address": "n1", "port": 7947}"#,
            r#"{"address": "192.0.2.11/32", "port": 7947}"#,
            r#"{"address": "192.0.2.11", "port": 0}"#,
            r#"{"address": "192.0.2.11", "port": 65536}"#,
            r#"{"address": "192.0.2.11"}"#,
            r#"{"port": 7947}"#,
            r#"{"address": "192.0.2.11", "port": "7947"}"#,
            r#"{"address": "192.0.2.11", "port": 7947, "key": "a"}"#,
            "null",
            "[]",
        ],
    ),
    ("Speaker", "/spec/loadBalancerClass", &[r#""example.org/x""#, r#""""#, "7"]),
    ("Speaker", "/spec", &["{}", "null", r#"{"node": "n1"}"#]),
    ("Speaker", "/metadata/namespace", &[r#""default""#]),
    (
        "Speaker",
        "/status",
        &[
            "{}",
            r#"{"ready": true}"#,
            r#"{"ready": "yes"}"#,
            r#"{"sessions": [{}]}"#,
            r#"{"sessions": null}"#,
        ],
    ),
    (
        "PoolCooldown",
        "/spec/released",
        &["[]", r#"["anything"]"#, r#"[""]"#, "null", "[7]", "[null]", r#""192.0.2.1""#, "{}"],
    ),
    ("PoolCooldown", "/spec", &["{}", "null", r#"{"pool": "lan"}"#]),
    ("PoolCooldown", "/status", &["{}"]),
    ("PoolCooldown", "/metadata/name", &[r#""A""#]),
];

/// Returns an object of a kind with a spec in JSON.
pub(crate) fn object(kind: &str, spec: &str) -> Value {
    json!({
        "apiVersion": "fairlead.dev/v1beta1",
        "kind": kind,
        "metadata": { "name": "a" },
        "spec": serde_json::from_str::<Value>(spec).unwrap(),
    })
}

/// Returns the objects of the table, each with its kind and as one line of JSON.
pub(crate) fn rows() -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    for (kind, path, values) in ROWS {
        let (_, spec) = BASES.iter().find(|(base, _)| base == kind).unwrap();
        for value in *values {
            let mut object = object(kind, spec);
            // Two objects of one name would be refused for that.
            object["metadata"]["name"] = json!(format!("a{}", rows.len()));
            let (parent, field) = path.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[field] = serde_json::from_str(value).unwrap();
            rows.push((*kind, object.to_string()));
        }
    }
    rows
}
