//! Resolution of objects that depend on each other or conflict.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use common::given;
use fairlead_crds::model::config::{Community, Config, Labels};
use fairlead_crds::resolve::{InForce, Kind, ObjectRef, Objects, Resolution, resolve, resolve_after};
use serde_json::{Value, json};

/// Returns the refusals as `kind/name reason`, in order.
fn refusals(resolution: &Resolution) -> Vec<String> {
    let refused = resolution.verdicts.iter().filter_map(|(object, verdict)| {
        let reason = common::reason(verdict)?;
        Some(format!("{object} {reason}"))
    });
    refused.collect()
}

fn message(resolution: &Resolution, kind: Kind, name: &str) -> String {
    resolution.accepted(&ObjectRef { kind, name: name.into() }).unwrap().message
}

fn condition(resolution: &Resolution, kind: Kind, name: &str) -> (bool, String) {
    let accepted = resolution.accepted(&ObjectRef { kind, name: name.into() }).unwrap();
    (accepted.status, accepted.reason)
}

fn bgp_pools(config: &Config, ad: &str) -> Vec<String> {
    let none = Labels::new();
    config
        .pools
        .values()
        .filter(|pool| config.bgp_for(pool, &none).any(|found| found.name == ad))
        .map(|pool| pool.name.clone())
        .collect()
}

#[test]
fn older_of_overlapping_pools_takes_precedence() {
    let resolution = given(&[
        ("IPAddressPool", "a-young", 1, "addresses: [192.0.2.0/24]"),
        ("IPAddressPool", "b-old", 2, "addresses: [192.0.2.128/25]"),
        ("IPAddressPool", "c-young", 1, "addresses: [198.51.100.0/24, 192.0.2.100-192.0.2.128]"),
        ("IPAddressPool", "d-young", 1, "addresses: [192.0.2.0/26]"),
    ]);
    assert_eq!(refusals(&resolution), ["IPAddressPool/a-young Overlap", "IPAddressPool/c-young Overlap"]);
    assert!(message(&resolution, Kind::IPAddressPool, "a-young").contains("\"b-old\""));
    // A refused pool does not conflict with others.
    assert_eq!(resolution.config.pools.keys().collect::<Vec<_>>(), ["b-old", "d-young"]);
    assert!(resolution.config.pool_of("198.51.100.1".parse().unwrap()).is_none());
}

#[test]
fn name_decides_between_pools_of_the_same_age() {
    let resolution = given(&[
        ("IPAddressPool", "b", 1, "addresses: [192.0.2.0/24]"),
        ("IPAddressPool", "a", 1, "addresses: [192.0.2.0/24]"),
    ]);
    assert_eq!(refusals(&resolution), ["IPAddressPool/b Overlap"]);
}

#[test]
fn invalid_object_affects_no_other() {
    let resolution = given(&[
        ("IPAddressPool", "bad", 9, "addresses: [0.0.0.0/0]"),
        ("IPAddressPool", "good", 1, "addresses: [192.0.2.0/24]"),
        ("BGPPeer", "bad", 9, "{myASN: 64513, peerAddress: 192.0.2.1}"),
        ("BGPPeer", "good", 1, "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}"),
        ("Community", "bad", 9, "communities: [{name: a, value: '1:2'}, {name: b, value: c}]"),
        ("Community", "good", 1, "communities: [{name: a, value: '1:3'}]"),
        ("BGPAdvertisement", "good", 1, "communities: [a]"),
        ("BFDProfile", "bad", 9, "detectMultiplier: 0"),
        ("L2Advertisement", "bad", 9, "interfaces: ['']"),
        ("L2Advertisement", "good", 1, ""),
    ]);
    assert_eq!(
        refusals(&resolution),
        [
            "IPAddressPool/bad WholeAddressSpace",
            "L2Advertisement/bad InvalidInterface",
            "BGPPeer/bad MissingPeerASN",
            "BFDProfile/bad InvalidBFDProfile",
            "Community/bad InvalidCommunity",
        ]
    );
    let config = &resolution.config;
    assert_eq!((config.pools.len(), config.peers.len()), (1, 1));
    assert_eq!((config.l2_advertisements.len(), config.bgp_advertisements.len()), (1, 1));
    let communities = &config.bgp_advertisements["good"].communities;
    assert_eq!(communities, &BTreeSet::from([Community::Standard(1, 3)]));
}

#[test]
fn missing_pool_leaves_advertisement_in_force() {
    for kind in ["L2Advertisement", "BGPAdvertisement"] {
        let resolution = given(&[
            ("IPAddressPool", "there", 1, "addresses: [192.0.2.0/24]"),
            ("IPAddressPool", "refused", 1, "addresses: []"),
            (kind, "ad", 1, "ipAddressPools: [there, missing, refused]"),
            (kind, "other", 1, "ipAddressPools: [missing]"),
        ]);
        assert_eq!(refusals(&resolution), ["IPAddressPool/refused NoAddresses"]);
        let kind = common::kind(kind);
        assert_eq!(condition(&resolution, kind, "ad"), (true, "PoolNotFound".into()));
        let text = message(&resolution, kind, "ad");
        assert!(
            text.contains("\"missing\"") && text.contains("\"refused\"") && !text.contains("there"),
            "{text}"
        );
        assert_eq!(condition(&resolution, kind, "other"), (true, "PoolNotFound".into()));
        let (config, none) = (&resolution.config, Labels::new());
        let pool = &config.pools["there"];
        let l2 = config.l2_for(pool, &none).map(|ad| &ad.name);
        let names: Vec<_> = l2.chain(config.bgp_for(pool, &none).map(|ad| &ad.name)).collect();
        assert_eq!(names, ["ad"]);
    }
}

#[test]
fn missing_peer_is_a_warning() {
    let resolution = given(&[
        ("BGPPeer", "there", 1, "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}"),
        ("BGPAdvertisement", "ad", 1, "peers: [there, missing]"),
    ]);
    assert_eq!(condition(&resolution, Kind::BGPAdvertisement, "ad"), (true, "PeerNotFound".into()));
    assert!(resolution.config.bgp_advertisements.contains_key("ad"));
}

#[test]
fn advertisements_select_pools_and_services() {
    let mut objects = Objects::default();
    for (name, labels) in [("a", "{tier: gold}"), ("b", "{tier: silver}"), ("c", "{}")] {
        let addresses = match name {
            "a" => "addresses: [192.0.2.0/26]",
            "b" => "addresses: [192.0.2.64/26]",
            _ => "addresses: [192.0.2.128/26]",
        };
        let mut pool = common::object("IPAddressPool", name, 1, addresses);
        pool["metadata"]["labels"] = serde_yaml::from_str(labels).unwrap();
        common::add(&mut objects, pool);
    }
    for (name, spec) in [
        ("all", ""),
        ("gold", "ipAddressPoolSelectors: [{matchLabels: {tier: gold}}]"),
        ("gold-and-c", "{ipAddressPools: [c], ipAddressPoolSelectors: [{matchLabels: {tier: gold}}]}"),
        ("tiered", "ipAddressPoolSelectors: [{matchExpressions: [{key: tier, operator: Exists}]}]"),
        ("web", "serviceSelectors: [{matchLabels: {app: web}}]"),
    ] {
        common::add(&mut objects, common::object("L2Advertisement", name, 1, spec));
    }
    let config = resolve(&objects).config;
    let names = |pool: &str, labels: &Labels| -> Vec<String> {
        config.l2_for(&config.pools[pool], labels).map(|ad| ad.name.clone()).collect()
    };
    let (none, web) = (Labels::new(), Labels::from([("app".into(), "web".into())]));
    assert_eq!(names("a", &none), ["all", "gold", "gold-and-c", "tiered"]);
    assert_eq!(names("b", &none), ["all", "tiered"]);
    assert_eq!(names("c", &none), ["all", "gold-and-c"]);
    assert_eq!(names("c", &web), ["all", "gold-and-c", "web"]);
}

#[test]
fn unset_peer_times_have_defaults() {
    let resolution = given(&[
        ("BGPPeer", "plain", 1, "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}"),
        ("BGPPeer", "hold", 1, "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.2, holdTime: 9500ms}"),
        (
            "BGPPeer",
            "keepalive",
            1,
            "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.3, keepaliveTime: 7s}",
        ),
        ("BGPPeer", "silent", 1, "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.4, holdTime: 0s}"),
    ]);
    let times = |name: &str| {
        let peer = &resolution.config.peers[name];
        (peer.hold_time.as_secs_f64(), peer.keepalive_time.as_secs_f64(), peer.port)
    };
    assert_eq!(times("plain"), (90.0, 30.0, 179));
    assert_eq!(times("hold"), (9.0, 3.0, 179));
    assert_eq!(times("keepalive"), (21.0, 7.0, 179));
    assert_eq!(times("silent"), (0.0, 0.0, 179));
}

#[test]
fn peer_without_its_bfd_profile_is_refused() {
    let peer = "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, bfdProfile: fast}";
    assert_eq!(refusals(&given(&[("BGPPeer", "p", 1, peer)])), ["BGPPeer/p BFDProfileNotFound"]);
    let bad = given(&[("BGPPeer", "p", 1, peer), ("BFDProfile", "fast", 1, "receiveInterval: 1")]);
    assert_eq!(refusals(&bad), ["BGPPeer/p BFDProfileNotFound", "BFDProfile/fast InvalidBFDProfile"]);
    // The age of the objects does not matter.
    let good = given(&[("BGPPeer", "p", 9, peer), ("BFDProfile", "fast", 1, "receiveInterval: 100")]);
    assert!(refusals(&good).is_empty());
    let bfd = good.config.peers["p"].bfd.as_ref().unwrap();
    assert_eq!((bfd.receive_interval.as_millis(), bfd.transmit_interval.as_millis()), (100, 300));
    assert_eq!((bfd.detect_multiplier, bfd.minimum_ttl), (3, 254));
}

#[test]
fn strict_bfd_has_no_effect_without_a_profile_or_in_a_vrf() {
    for (fields, strict) in [("", false), ("bfdProfile: fast", true), ("bfdProfile: fast, vrf: red", false)] {
        let base = "myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, bfdStrict: true";
        let peer: &str = format!("{{{base}, {fields}}}").leak();
        let resolution =
            given(&[("BGPPeer", "p", 1, peer), ("BFDProfile", "fast", 1, "receiveInterval: 100")]);
        assert!(refusals(&resolution).is_empty());
        assert_eq!(resolution.config.peers["p"].bfd_strict, strict, "{fields}");
    }
}

#[test]
fn younger_peer_of_the_same_session_is_refused() {
    let base = "myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1";
    let table = [
        ("", "", true),
        ("nodeSelectors: [{matchLabels: {rack: a}}]", "", true),
        ("nodeSelectors: [{matchLabels: {rack: a}}]", "nodeSelectors: [{matchLabels: {rack: a}}]", true),
        ("nodeSelectors: [{matchLabels: {rack: a}}]", "nodeSelectors: [{matchLabels: {rack: b}}]", false),
        ("peerPort: 1179", "", false),
        ("vrf: red", "vrf: blue", false),
        ("vrf: red", "vrf: red", true),
        // The router cannot distinguish the speakers of two instances on one node.
        ("loadBalancerClass: example.org/x", "", true),
        ("loadBalancerClass: example.org/x", "sourceAddress: 192.0.2.9", false),
        // The connection of a router is recognized by its address only.
        ("passive: true", "sourceAddress: 192.0.2.9", true),
        ("sourceAddress: 192.0.2.9", "passive: true", true),
    ];
    for (old, young, refused) in table {
        let old: &str = format!("{{{base}, {old}}}").leak();
        let young: &str = format!("{{{base}, {young}}}").leak();
        let resolution = given(&[("BGPPeer", "z-old", 2, old), ("BGPPeer", "a-young", 1, young)]);
        let expected: &[&str] = if refused { &["BGPPeer/a-young DuplicatePeer"] } else { &[] };
        assert_eq!(refusals(&resolution), expected, "{old} and {young}");
    }
}

#[test]
fn younger_definition_of_an_alias_is_refused() {
    let resolution = given(&[
        ("Community", "a-young", 1, "communities: [{name: x, value: '1:1'}, {name: y, value: '1:2'}]"),
        ("Community", "b-old", 2, "communities: [{name: x, value: 'large:1:2:3'}]"),
        ("BGPAdvertisement", "x", 1, "communities: [x, '1:1']"),
        ("BGPAdvertisement", "y", 1, "communities: [y]"),
    ]);
    assert_eq!(
        refusals(&resolution),
        ["BGPAdvertisement/y CommunityNotFound", "Community/a-young DuplicateCommunity"]
    );
    assert_eq!(
        resolution.config.bgp_advertisements["x"].communities,
        BTreeSet::from([Community::Standard(1, 1), Community::Large(1, 2, 3)])
    );
}

#[test]
fn aggregate_beyond_a_pool_is_withheld() {
    let resolution = given(&[
        ("IPAddressPool", "wide", 1, "addresses: [198.51.100.0/24]"),
        ("IPAddressPool", "narrow", 1, "addresses: [192.0.2.0/28]"),
        ("IPAddressPool", "v6", 1, "addresses: ['2001:db8::/64']"),
        ("BGPAdvertisement", "all", 1, "{aggregationLength: 24, aggregationLengthV6: 64}"),
        ("BGPAdvertisement", "only-narrow", 1, "{aggregationLength: 24, ipAddressPools: [narrow]}"),
        ("BGPAdvertisement", "each", 1, "ipAddressPools: [missing, narrow, v6, wide]"),
    ]);
    // In force for the pools that fit; the message names the others.
    assert_eq!(refusals(&resolution), ["BGPAdvertisement/only-narrow AggregationTooShort"]);
    assert_eq!(bgp_pools(&resolution.config, "all"), ["v6", "wide"]);
    assert_eq!(condition(&resolution, Kind::BGPAdvertisement, "all"), (true, "AggregationTooShort".into()));
    assert!(message(&resolution, Kind::BGPAdvertisement, "all").contains("\"narrow\""));
    assert_eq!(bgp_pools(&resolution.config, "only-narrow"), [""; 0]);
    assert_eq!(bgp_pools(&resolution.config, "each"), ["narrow", "v6", "wide"]);
}

#[test]
fn younger_advertisement_with_another_local_pref_has_a_warning() {
    // (older, younger, true if they conflict); pool `p` has only IPv4 addresses, peer `e` is an eBGP peer.
    let table = [
        ("localPref: 200", "localPref: 300", true),
        ("localPref: 200", "localPref: 200", false),
        ("localPref: 200", "", true),
        ("localPref: 100", "", false),
        ("{localPref: 200, aggregationLength: 24}", "localPref: 300", false),
        ("{localPref: 200, aggregationLengthV6: 64}", "localPref: 300", true),
        ("{localPref: 200, peers: [a]}", "{localPref: 300, peers: [b]}", false),
        ("localPref: 200", "{localPref: 300, peers: [e]}", false),
        ("{localPref: 200, peers: [a]}", "{localPref: 300, peers: [a, b]}", true),
        ("{localPref: 200, peers: [a]}", "localPref: 300", true),
        ("{localPref: 200, nodeSelectors: [{matchLabels: {r: a}}]}", "localPref: 300", true),
        (
            "{localPref: 200, nodeSelectors: [{matchLabels: {r: a}}]}",
            "{localPref: 300, nodeSelectors: [{matchLabels: {r: b}}]}",
            false,
        ),
        ("{localPref: 200, serviceSelectors: [{matchLabels: {r: a}}]}", "localPref: 300", false),
        ("{localPref: 200, ipAddressPools: [q]}", "{localPref: 300, ipAddressPools: [p]}", false),
    ];
    for (old, young, conflict) in table {
        let resolution = given(&[
            ("IPAddressPool", "p", 1, "addresses: [198.51.100.0/24]"),
            ("IPAddressPool", "q", 1, "addresses: [192.0.2.0/24]"),
            ("BGPPeer", "a", 1, "{myASN: 64512, peerASN: 64512, peerAddress: 192.0.2.1}"),
            ("BGPPeer", "b", 1, "{myASN: 64512, peerASN: 64512, peerAddress: 192.0.2.2}"),
            ("BGPPeer", "e", 1, "{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.3}"),
            ("BGPAdvertisement", "z-old", 2, old),
            ("BGPAdvertisement", "a-young", 1, young),
        ]);
        let what = format!("{old:?} and {young:?}");
        assert!(refusals(&resolution).is_empty(), "{what}");
        let (_, reason) = condition(&resolution, Kind::BGPAdvertisement, "a-young");
        assert_eq!(reason == "LocalPrefConflict", conflict, "{what}: {reason}");
        let (_, reason) = condition(&resolution, Kind::BGPAdvertisement, "z-old");
        assert_eq!(reason, "Accepted", "{what}");
        assert!(bgp_pools(&resolution.config, "a-young").iter().any(|pool| pool == "p"), "{what}");
    }
}

#[test]
fn objects_with_the_same_name_are_all_refused() {
    let resolution = given(&[
        ("IPAddressPool", "twin", 1, "addresses: [192.0.2.0/25]"),
        ("IPAddressPool", "twin", 2, "addresses: [192.0.2.128/25]"),
        ("IPAddressPool", "single", 1, "addresses: [192.0.2.0/24]"),
        ("L2Advertisement", "twin", 1, ""),
    ]);
    assert_eq!(refusals(&resolution), ["IPAddressPool/twin DuplicateName"]);
    assert_eq!(resolution.config.pools.keys().collect::<Vec<_>>(), ["single"]);
}

#[test]
fn condition_with_many_warnings_is_truncated() {
    let names: Vec<String> = (0..200).map(|i| format!("missing-{i}")).collect();
    let spec: &str = format!("ipAddressPools: [{}]", names.join(", ")).leak();
    let resolution = given(&[("L2Advertisement", "ad", 1, spec)]);
    let text = message(&resolution, Kind::L2Advertisement, "ad");
    assert!(text.len() < 1_000 && text.ends_with("and others"), "{text}");
}

#[test]
fn bfd_that_is_not_supported_is_accepted_with_warning() {
    let resolution = given(&[
        ("BFDProfile", "fast", 1, ""),
        ("BFDProfile", "echo", 1, "echoMode: true"),
        ("BGPPeer", "red", 1, "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, vrf: red, bfdProfile: fast}"),
        ("BGPPeer", "plain", 1, "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.2, vrf: '', bfdProfile: echo}"),
        ("BGPPeer", "blue", 1, "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.2, vrf: blue}"),
    ]);
    for (kind, name, expected) in [
        (Kind::BFDProfile, "fast", "Accepted"),
        (Kind::BFDProfile, "echo", "EchoModeNotSupported"),
        (Kind::BGPPeer, "red", "BFDInVRF"),
        (Kind::BGPPeer, "plain", "Accepted"),
        (Kind::BGPPeer, "blue", "Accepted"),
    ] {
        assert_eq!(condition(&resolution, kind, name), (true, expected.to_owned()), "{kind} {name}");
    }
    assert!(message(&resolution, Kind::BGPPeer, "red").contains("remove bfdProfile, or remove vrf"));
}

#[test]
fn pool_with_a_probable_mistake_is_accepted_with_warning() {
    let table = [
        ("[192.0.2.0/24, 192.0.2.200-192.0.3.7]", "Overlap", ""),
        ("[192.0.2.192/28, '2001:db8::/64']", "Accepted", ""),
        (
            "[192.0.2.200/28]",
            "HostBitsSet",
            "begins at 192.0.2.192, not at 192.0.2.200: write 192.0.2.192/28",
        ),
        ("['2001:db8::8/64']", "HostBitsSet", "begins at 2001:db8::, not at 2001:db8::8"),
        ("[169.254.0.1-169.254.0.9]", "LinkLocalAddress", "only hosts on the same link"),
        ("['fe80::/64', 192.0.2.0/24]", "LinkLocalAddress", "only hosts on the same link"),
    ];
    for (addresses, reason, text) in table {
        let spec: &str = format!("addresses: {addresses}").leak();
        let resolution = given(&[("IPAddressPool", "p", 1, spec)]);
        let pool = ObjectRef { kind: Kind::IPAddressPool, name: "p".to_owned() };
        let accepted = resolution.accepted(&pool).unwrap();
        assert_eq!((accepted.status, accepted.reason.as_str()), (reason != "Overlap", reason), "{addresses}");
        assert!(accepted.message.contains(text), "{addresses}: {}", accepted.message);
    }
}

#[test]
fn huge_pool_resolves_fast() {
    let started = std::time::Instant::now();
    let resolution = given(&[("IPAddressPool", "huge", 1, "addresses: ['2000::/3', 128.0.0.0/2]")]);
    assert!(refusals(&resolution).is_empty());
    assert!(resolution.config.pool_of("3fff::1".parse().unwrap()).is_some());
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn unindexed_configuration_finds_pools() {
    let resolved = given(&[("IPAddressPool", "p", 1, "addresses: [192.0.2.0/24]")]).config;
    let unindexed = Config { pools: resolved.pools, ..Config::default() };
    assert_eq!(unindexed.pool_of("192.0.2.7".parse().unwrap()).unwrap().name, "p");
    assert!(unindexed.pool_of("192.0.3.7".parse().unwrap()).is_none());
}

/// Returns a pool object that an earlier resolution has accepted in generation `accepted`, if any.
fn pool(name: &str, age: i64, addresses: &str, accepted: Option<i64>) -> Value {
    let mut pool = common::object("IPAddressPool", name, age, &format!("addresses: [{addresses}]"));
    pool["metadata"]["generation"] = json!(2);
    if let Some(generation) = accepted {
        pool["status"]["conditions"] = json!([{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]);
    }
    pool
}

fn store(values: impl IntoIterator<Item = Value>) -> Objects {
    let mut objects = Objects::default();
    values.into_iter().for_each(|value| common::add(&mut objects, value));
    objects
}

fn pools_in_force(resolution: &Resolution) -> Vec<&str> {
    resolution.config.pools.keys().map(String::as_str).collect()
}

#[test]
fn pool_in_force_beats_any_other_pool() {
    // (age of a, accepted generation of a, the same of b, the pool in force)
    let table = [
        (1, None, 1, None, "a"),
        (1, None, 1, Some(2), "b"),
        (2, None, 1, Some(2), "b"),
        (1, Some(2), 1, Some(2), "a"),
        // The range of `a` is from an edit that no controller has accepted.
        (2, Some(1), 1, Some(2), "b"),
        (2, Some(1), 1, None, "a"),
        (1, Some(1), 2, None, "a"),
    ];
    for (age_a, a, age_b, b, expected) in table {
        let range = "192.0.2.0/24";
        let objects = store([pool("a", age_a, range, a), pool("b", age_b, range, b)]);
        let resolution = resolve(&objects);
        assert_eq!(pools_in_force(&resolution), [expected], "{age_a} {a:?} {age_b} {b:?}");
    }
    let mut deleted = pool("b", 1, "192.0.2.0/24", Some(2));
    deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    let resolution = resolve(&store([pool("a", 1, "192.0.2.0/24", None), deleted]));
    assert_eq!(pools_in_force(&resolution), ["a"]);
}

#[test]
fn earlier_resolution_beats_conditions_and_age() {
    let first = resolve(&store([pool("b", 1, "192.0.2.0/24", None)]));
    // (range of a, range of b now, the pools in force)
    let table: [(&str, &str, &[&str]); 5] = [
        ("192.0.2.0/24", "192.0.2.0/24", &["b"]),
        ("192.0.2.0/24", "192.0.2.7/32", &["b"]),
        ("198.51.100.0/24", "198.51.100.0/24", &["b"]),
        ("198.51.100.0/24", "192.0.2.0/24, 203.0.113.0/24", &["a", "b"]),
        ("192.0.2.0/24", "192.0.2.0/24, 203.0.113.0/24", &["b"]),
    ];
    for (a, b, expected) in table {
        // Only the condition of `a` was written, before the pool was edited.
        let objects = store([pool("a", 5, a, None), pool("b", 1, b, None)]);
        let resolution = resolve_after(&objects, &first, InForce::ByResolution);
        assert_eq!(pools_in_force(&resolution), expected, "{a} {b}");
    }
}

#[test]
fn pool_edited_into_another_pool_loses_to_it() {
    let before = resolve(&store([pool("a", 5, "198.51.100.0/24", None), pool("b", 1, "192.0.2.0/24", None)]));
    let edited =
        store([pool("a", 5, "198.51.100.0/24, 192.0.2.0/25", None), pool("b", 1, "192.0.2.0/24", None)]);
    let resolution = resolve_after(&edited, &before, InForce::ByResolution);
    assert_eq!(pools_in_force(&resolution), ["b"]);
    let message = message(&resolution, Kind::IPAddressPool, "a");
    assert!(message.contains("already in force or older"), "{message}");
}

#[test]
fn peer_in_force_beats_peer_of_the_same_second() {
    let peer =
        |name| common::object("BGPPeer", name, 1, "{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1}");
    let first = resolve(&store([peer("b")]));
    let both = || store([peer("a"), peer("b")]);
    assert_eq!(refusals(&resolve(&both())), ["BGPPeer/b DuplicatePeer"]);
    let resolution = resolve_after(&both(), &first, InForce::ByResolution);
    assert_eq!(refusals(&resolution), ["BGPPeer/a DuplicatePeer"]);
}

#[test]
fn link_local_peer_needs_its_interface() {
    let peer = "{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::1'}";
    let resolution = given(&[("BGPPeer", "r", 1, peer)]);
    let message = message(&resolution, Kind::BGPPeer, "r");
    assert!(message.contains("set interface to "), "{message}");
    let on = |name, interface| {
        let spec =
            format!("{{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::1', interface: {interface}}}");
        ("BGPPeer", name, 1, &*spec.leak())
    };
    assert_eq!(refusals(&given(&[on("a", "eth0"), on("b", "eth1")])), [""; 0]);
    assert_eq!(refusals(&given(&[on("a", "eth0"), on("b", "eth0")])), ["BGPPeer/b DuplicatePeer"]);
}

#[test]
fn unnumbered_peer_duplicates_link_local_peer_of_its_interface() {
    let link_local = "peerAddress: 'fe80::1', interface: eth1";
    for (one, other, refused) in [
        ("interface: eth1", link_local, true),
        (link_local, "interface: eth1", true),
        (link_local, "interface: eth1, sourceAddress: 'fe80::9'", true),
        ("interface: eth2", link_local, false),
        ("interface: eth1, peerPort: 1179", link_local, false),
        ("interface: eth1, vrf: red", link_local, false),
        ("peerAddress: 'fe80::2', interface: eth1", link_local, false),
    ] {
        let peer = |name, spec: &str| {
            ("BGPPeer", name, 1, &*format!("{{myASN: 64513, peerASN: 64512, {spec}}}").leak())
        };
        let expected: &[&str] = if refused { &["BGPPeer/b DuplicatePeer"] } else { &[] };
        assert_eq!(refusals(&given(&[peer("a", one), peer("b", other)])), expected, "{one} | {other}");
    }
}
