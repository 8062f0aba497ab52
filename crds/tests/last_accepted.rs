//! An object that is refused after it was in force remains in force in the form that was accepted last.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use fairlead_crds::model::config::{Community, Config};
use fairlead_crds::resolve::{InForce, Kind, ObjectRef, Objects, Resolution, resolve, resolve_after};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

const PEER: &str = "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, bfdProfile: fast}";
const AD: &str = "{communities: [red], ipAddressPools: [p]}";
const BGP: &[Given] = &[
    ("IPAddressPool", "p", "addresses: [198.51.100.0/24]"),
    ("BGPPeer", "r", PEER),
    ("BFDProfile", "fast", "receiveInterval: 100"),
    ("BGPAdvertisement", "ad", AD),
    ("Community", "c", "communities: [{name: red, value: '1:1'}, {name: blue, value: '1:2'}]"),
    ("L2Advertisement", "l2", "interfaces: [eth0]"),
];

/// An object: kind, name and spec.
type Given<'a> = (&'a str, &'a str, &'a str);

fn object((kind, name, spec): Given<'_>, generation: i64) -> Value {
    let mut object = common::object(kind, name, 1, spec);
    object["metadata"]["uid"] = json!(format!("uid of {kind} {name}"));
    object["metadata"]["generation"] = json!(generation);
    object
}

fn objects<'a>(values: impl IntoIterator<Item = &'a Value>) -> Objects {
    let mut objects = Objects::default();
    values.into_iter().for_each(|value| common::add(&mut objects, value.clone()));
    objects
}

fn all(rows: &[Given<'_>], generation: i64) -> Vec<Value> {
    rows.iter().map(|row| object(*row, generation)).collect()
}

/// Returns the objects after an edit of one, or its deletion.
fn edited(values: &[Value], (kind, name): (&str, &str), spec: Option<&str>) -> Vec<Value> {
    let is_other = |value: &&Value| value["kind"] != kind || value["metadata"]["name"] != name;
    let mut edited: Vec<Value> = values.iter().filter(is_other).cloned().collect();
    edited.extend(spec.map(|spec| object((kind, name, spec), 2)));
    edited
}

/// Returns the objects with the statuses that the controller writes.
fn with_statuses(values: &[Value], resolution: &Resolution) -> Vec<Value> {
    let with_status = |value: &Value| {
        let mut value = value.clone();
        let object = reference(&value);
        let accepted = resolution.accepted(&object).unwrap().status;
        let condition = |type_: &str, status: bool| {
            let status = if status { "True" } else { "False" };
            json!({ "type": type_, "status": status, "observedGeneration": value["metadata"]["generation"] })
        };
        let mut conditions = vec![condition("Accepted", accepted)];
        conditions.extend(resolution.is_kept(&object).then(|| condition("InForce", true)));
        value["status"] = json!({ "conditions": conditions });
        if let Some(form) = resolution.last_accepted(&object) {
            value["status"]["inForce"] = serde_json::to_value(form).unwrap();
        }
        value
    };
    values.iter().map(with_status).collect()
}

fn reference(value: &Value) -> ObjectRef {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    ObjectRef { kind: common::kind(&text(&value["kind"])), name: text(&value["metadata"]["name"]) }
}

/// Returns the resolutions of edited objects by all processes: the leading controller, a running speaker, and
/// a speaker that starts later, before and after the controller has written the statuses.
fn by_all(before: &[Value], after: &[Value]) -> [Resolution; 4] {
    let first = resolve(&objects(before));
    let before = with_statuses(before, &first);
    let status_of = |value: &Value| {
        let old = before.iter().find(|old| old["metadata"]["uid"] == value["metadata"]["uid"])?;
        old.get("status").cloned()
    };
    let after: Vec<Value> = after
        .iter()
        .map(|value| {
            let mut value = value.clone();
            if let Some(status) = status_of(&value) {
                value["status"] = status;
            }
            value
        })
        .collect();
    let leader = resolve_after(&objects(&after), &first, InForce::ByResolution);
    let speaker = resolve_after(&objects(&after), &first, InForce::ByConditions);
    let started = resolve(&objects(&after));
    let later = resolve(&objects(&with_statuses(&after, &leader)));
    [leader, speaker, started, later]
}

/// Returns the configuration without the refused pools.
fn in_force(resolution: &Resolution) -> Config {
    Config { refused_pools: Default::default(), ..resolution.config.clone() }
}

fn reason(resolution: &Resolution, kind: &str, name: &str) -> String {
    let object = ObjectRef { kind: common::kind(kind), name: name.to_owned() };
    resolution.accepted(&object).unwrap().reason
}

/// The edited or deleted object, its spec now, the object that is refused, and the reason.
type Cause<'a> = ((&'a str, &'a str), Option<&'a str>, (&'a str, &'a str), &'a str);

#[test]
fn refused_object_remains_in_force_as_before() {
    let table: [Cause<'_>; 14] = [
        (
            ("BGPPeer", "r"),
            Some("{myASN: 64513, peerAddress: 192.0.2.1}"),
            ("BGPPeer", "r"),
            "MissingPeerASN",
        ),
        (
            ("BGPPeer", "r"),
            Some("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, bfdProfile: fsat}"),
            ("BGPPeer", "r"),
            "BFDProfileNotFound",
        ),
        (
            ("BGPPeer", "r"),
            Some(
                "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.9, nodeSelectors: [{matchExpressions: [{key: a, operator: Is}]}]}",
            ),
            ("BGPPeer", "r"),
            "InvalidSelector",
        ),
        (("BFDProfile", "fast"), Some("detectMultiplier: 1"), ("BFDProfile", "fast"), "InvalidBFDProfile"),
        (("BFDProfile", "fast"), None, ("BGPPeer", "r"), "BFDProfileNotFound"),
        (
            ("BGPAdvertisement", "ad"),
            Some("communities: [rde]"),
            ("BGPAdvertisement", "ad"),
            "CommunityNotFound",
        ),
        (
            ("BGPAdvertisement", "ad"),
            Some("{communities: [red], aggregationLength: 16}"),
            ("BGPAdvertisement", "ad"),
            "AggregationTooShort",
        ),
        (("BGPAdvertisement", "ad"), Some("peers: [a, a]"), ("BGPAdvertisement", "ad"), "DuplicateEntry"),
        (
            ("Community", "c"),
            Some("communities: [{name: red, value: '1:x'}]"),
            ("Community", "c"),
            "InvalidCommunity",
        ),
        (
            ("Community", "c"),
            Some("communities: [{name: 'a:b', value: '1:1'}]"),
            ("Community", "c"),
            "InvalidCommunity",
        ),
        (
            ("Community", "c"),
            Some("communities: [{name: blue, value: '1:2'}]"),
            ("BGPAdvertisement", "ad"),
            "CommunityNotFound",
        ),
        (("Community", "c"), None, ("BGPAdvertisement", "ad"), "CommunityNotFound"),
        (("L2Advertisement", "l2"), Some("interfaces: ['']"), ("L2Advertisement", "l2"), "InvalidInterface"),
        (
            ("L2Advertisement", "l2"),
            Some("nodeSelectors: [{matchExpressions: [{key: a, operator: Is}]}]"),
            ("L2Advertisement", "l2"),
            "InvalidSelector",
        ),
    ];
    let before = all(BGP, 1);
    let expected = in_force(&resolve(&objects(&before)));
    assert_eq!((expected.peers.len(), expected.bgp_advertisements.len()), (1, 1));
    for (target, spec, (kind, name), refusal) in table {
        for (n, resolution) in by_all(&before, &edited(&before, target, spec)).into_iter().enumerate() {
            let what = format!("{target:?} {spec:?} in process {n}");
            assert_eq!(reason(&resolution, kind, name), refusal, "{what}");
            assert_eq!(in_force(&resolution), expected, "{what}");
            let message = resolution.kept_message(&ObjectRef { kind: common::kind(kind), name: name.into() });
            assert!(
                message.as_ref().is_some_and(|text| text.contains("generation 1,")),
                "{what}: {message:?}"
            );
        }
    }
}

#[test]
fn new_object_is_refused_without_a_form_in_force() {
    let before = all(&BGP[..1], 1);
    let mut after = before.clone();
    after.push(object(("BGPPeer", "r", PEER), 1));
    // Created again: the object of this name that was in force is gone.
    let mut again = object(("BGPPeer", "r", "{myASN: 64513, peerAddress: 192.0.2.1}"), 1);
    again["metadata"]["uid"] = json!("another");
    for (before, after) in [(before, after), (all(BGP, 1), edited(&all(BGP, 1), ("BGPPeer", "r"), None))] {
        let mut after = after;
        if !after.iter().any(|value| value["kind"] == "BGPPeer") {
            after.push(again.clone());
        }
        for resolution in by_all(&before, &after) {
            assert!(resolution.config.peers.is_empty());
            let peer = ObjectRef { kind: Kind::BGPPeer, name: "r".to_owned() };
            assert!(!resolution.accepted(&peer).unwrap().status && resolution.kept_message(&peer).is_none());
        }
    }
}

#[test]
fn objects_that_exist_take_precedence_over_copies() {
    let before = all(BGP, 1);
    let first = resolve(&objects(&before));
    // The peer and the advertisement are refused from here on.
    let refused = edited(&before, ("BGPPeer", "r"), Some("{peerAddress: 192.0.2.1}"));
    let refused = edited(&refused, ("BGPAdvertisement", "ad"), Some("communities: [rde]"));
    let second = resolve_after(&objects(&refused), &first, InForce::ByResolution);
    let changed = edited(&refused, ("BFDProfile", "fast"), Some("receiveInterval: 200"));
    let changed = edited(&changed, ("Community", "c"), Some("communities: [{name: red, value: '1:9'}]"));
    let third = resolve_after(&objects(&changed), &second, InForce::ByResolution);
    let gone = edited(&edited(&changed, ("BFDProfile", "fast"), None), ("Community", "c"), None);
    let fourth = resolve_after(&objects(&gone), &third, InForce::ByResolution);
    let started = resolve(&objects(&with_statuses(&gone, &fourth)));
    for resolution in [third, fourth, started] {
        let bfd = resolution.config.peers["r"].bfd.clone().unwrap();
        assert_eq!(bfd.receive_interval.as_millis(), 200);
        let communities = &resolution.config.bgp_advertisements["ad"].communities;
        assert_eq!(*communities, BTreeSet::from([Community::Standard(1, 9)]));
    }
}

#[test]
fn edit_into_another_object_loses_to_it() {
    let rows: [Given<'_>; 4] = [
        ("BGPPeer", "a", "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1}"),
        ("BGPPeer", "b", "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.2}"),
        ("Community", "a", "communities: [{name: x, value: '1:1'}]"),
        ("Community", "b", "communities: [{name: y, value: '1:2'}]"),
    ];
    let before = all(&rows, 1);
    let expected = in_force(&resolve(&objects(&before)));
    let into = "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.2}";
    let after = edited(&before, ("BGPPeer", "a"), Some(into));
    let names = "communities: [{name: x, value: '1:1'}, {name: y, value: '1:3'}]";
    let after = edited(&after, ("Community", "a"), Some(names));
    for resolution in by_all(&before, &after) {
        assert_eq!(reason(&resolution, "BGPPeer", "a"), "DuplicatePeer");
        assert_eq!(reason(&resolution, "Community", "a"), "DuplicateCommunity");
        assert_eq!(in_force(&resolution), expected);
    }
}

#[test]
fn corrected_object_is_in_force_as_it_is() {
    let before = all(BGP, 1);
    let first = resolve(&objects(&before));
    let bad = edited(&before, ("L2Advertisement", "l2"), Some("interfaces: ['']"));
    let second = resolve_after(&objects(&bad), &first, InForce::ByResolution);
    let good = edited(&before, ("L2Advertisement", "l2"), Some("interfaces: [eth1]"));
    let third = resolve_after(&objects(&good), &second, InForce::ByResolution);
    assert_eq!(third, resolve(&objects(&good)));
}

#[test]
fn running_processes_use_the_form_that_the_controller_has_decided_on() {
    let l2 = |interface: &str, generation| {
        object(("L2Advertisement", "l2", &format!("interfaces: ['{interface}']")), generation)
    };
    let kept = |resolution: &Resolution| {
        let object = ObjectRef { kind: Kind::L2Advertisement, name: "l2".to_owned() };
        resolution.kept_message(&object).unwrap().split(',').nth(1).unwrap().trim().to_owned()
    };
    let fifth = l2("eth5", 5);
    let first = resolve(&objects([&fifth]));
    let status = with_statuses(&[fifth], &first)[0]["status"].clone();
    // No controller leads while the object is edited twice.
    let [sixth, seventh] = [l2("eth6", 6), l2("", 7)].map(|mut value| {
        value["status"] = status.clone();
        value
    });
    let speaker = resolve_after(&objects([&sixth]), &first, InForce::ByConditions);
    let speaker = resolve_after(&objects([&seventh]), &speaker, InForce::ByConditions);
    assert_eq!(kept(&speaker), "generation 6");
    // The next controller knows only the form in the status.
    let leader = resolve(&objects([&seventh]));
    let decided = objects(&with_statuses(&[seventh], &leader));
    let speaker = resolve_after(&decided, &speaker, InForce::ByConditions);
    let started = resolve(&decided);
    assert_eq!([kept(&speaker), kept(&started)], ["generation 5", "generation 5"]);
    assert_eq!(in_force(&speaker), in_force(&started));
}

#[test]
fn leading_controller_does_not_use_a_form_of_another_writer() {
    let before = all(BGP, 1);
    let first = resolve(&objects(&before));
    let expected = in_force(&first);
    let bad = edited(&before, ("BGPPeer", "r"), Some("{myASN: 64513, peerAddress: 192.0.2.1}"));
    let leader = resolve_after(&objects(&bad), &first, InForce::ByResolution);
    for generation in 1..4 {
        let mut values = with_statuses(&bad, &leader);
        let peer = values.iter_mut().find(|value| value["kind"] == "BGPPeer").unwrap();
        peer["status"]["inForce"]["generation"] = json!(generation);
        peer["status"]["inForce"]["spec"]["peerAddress"] = json!("192.0.2.66");
        let again = resolve_after(&objects(&values), &leader, InForce::ByResolution);
        assert_eq!(in_force(&again), expected, "generation {generation}");
        // The status is corrected.
        let object = ObjectRef { kind: Kind::BGPPeer, name: "r".to_owned() };
        assert_eq!(again.last_accepted(&object), leader.last_accepted(&object), "generation {generation}");
    }
}

#[test]
fn form_that_is_too_large_is_not_recorded() {
    let names = |n: usize| (0..n).map(|i| format!("{i:0>200}")).collect::<Vec<_>>().join(", ");
    for (n, is_recorded) in [(200, true), (400, false)] {
        let spec = format!("ipAddressPools: [{}]", names(n));
        let resolution = resolve(&objects(&[object(("L2Advertisement", "l2", &spec), 1)]));
        let object = ObjectRef { kind: Kind::L2Advertisement, name: "l2".to_owned() };
        assert_eq!(resolution.last_accepted(&object).is_some(), is_recorded, "{n}");
    }
}

#[test]
fn users_are_the_objects_in_force_that_need_another() {
    let users = |values: &[Value], (kind, name): (&str, &str)| {
        let object = ObjectRef { kind: common::kind(kind), name: name.to_owned() };
        let users = resolve(&objects(values)).users_of(&object);
        users.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let values = all(BGP, 1);
    let (profile, community) = (("BFDProfile", "fast"), ("Community", "c"));
    assert_eq!(users(&values, profile), "BGPPeer/r");
    assert_eq!(users(&values, community), "BGPAdvertisement/ad");
    assert_eq!(users(&values, ("IPAddressPool", "p")), "");
    let table = [
        (edited(&values, ("BGPPeer", "r"), None), profile),
        (edited(&values, ("BGPPeer", "r"), Some("{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1}")), profile),
        (edited(&values, profile, None), profile),
        (edited(&values, community, Some("communities: [{name: blue, value: '1:2'}]")), community),
        (edited(&values, ("BGPAdvertisement", "ad"), Some("communities: ['1:1']")), community),
    ];
    for (values, object) in table {
        assert_eq!(users(&values, object), "", "{object:?}");
    }
    // A refused object needs what its last accepted form needs.
    let first = resolve(&objects(&values));
    let refused = edited(&values, ("BGPPeer", "r"), Some("{peerAddress: 192.0.2.1}"));
    let second = resolve_after(&objects(&refused), &first, InForce::ByConditions);
    assert_eq!(second.users_of(&ObjectRef { kind: Kind::BFDProfile, name: "fast".to_owned() }).len(), 1);
    let permitted = edited(
        &values,
        ("BGPAdvertisement", "ad"),
        Some("{ipAddressPools: [p], serviceAttributes: {communities: [blue]}}"),
    );
    assert_eq!(users(&permitted, community), "BGPAdvertisement/ad");
}

/// Specs that an edit may lead to, valid and invalid ones.
const EDITS: [(&str, &[&str]); 5] = [
    ("L2Advertisement", &["", "interfaces: ['']"]),
    (
        "BGPAdvertisement",
        &["communities: [x]", "communities: [y]", "communities: [z]", "aggregationLength: 24"],
    ),
    (
        "BGPPeer",
        &[
            "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1}",
            "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.2, bfdProfile: o0}",
            "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.3, bfdProfile: o1}",
            "{myASN: 1, peerAddress: 192.0.2.1}",
        ],
    ),
    ("BFDProfile", &["", "detectMultiplier: 1"]),
    (
        "Community",
        &[
            "communities: [{name: x, value: '1:1'}]",
            "communities: [{name: y, value: '1:3'}]",
            "communities: [{name: y}]",
        ],
    ),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn edits_take_no_other_object_out_of_force(
        created in proptest::collection::vec((0..EDITS.len(), 0..3usize, any::<Index>()), 1..16),
        edits in proptest::collection::vec((any::<Index>(), any::<Index>(), any::<bool>()), 1..8),
    ) {
        let spec = |kind: usize, index: Index| EDITS[kind].1[index.index(EDITS[kind].1.len())];
        let mut seen = BTreeSet::new();
        let mut values = all(&[("IPAddressPool", "p", "addresses: [192.0.2.0/26]")], 1);
        for (kind, name, index) in created {
            let name = format!("o{name}");
            if seen.insert((kind, name.clone())) {
                values.push(object((EDITS[kind].0, &name, spec(kind, index)), 1));
            }
        }
        let mut resolution = resolve(&objects(&values));
        for (n, (target, index, deletes)) in edits.into_iter().enumerate() {
            let before = resolution.config.clone();
            let target = 1 + target.index(values.len());
            let Some(value) = values.get_mut(target) else { continue };
            let of_kind = EDITS.iter().position(|(kind, _)| value["kind"] == *kind).unwrap();
            let object = reference(value);
            if deletes {
                values.remove(target);
            } else {
                value["spec"] = serde_yaml::from_str::<Option<Value>>(spec(of_kind, index)).unwrap().unwrap_or(json!({}));
                value["metadata"]["generation"] = json!(n + 2);
            }
            resolution = resolve_after(&objects(&values), &resolution, InForce::ByResolution);
            let config = &resolution.config;
            let deleted = |kind: Kind, name: &String| {
                deletes && object == ObjectRef { kind, name: name.clone() }
            };
            for name in before.peers.keys().filter(|name| !deleted(Kind::BGPPeer, name)) {
                prop_assert!(config.peers.contains_key(name), "BGPPeer {} after {}", name, object);
            }
            let ads = before.bgp_advertisements.keys();
            for name in ads.filter(|name| !deleted(Kind::BGPAdvertisement, name)) {
                prop_assert!(config.bgp_advertisements.contains_key(name), "{} after {}", name, object);
            }
            for name in before.l2_advertisements.keys().filter(|name| !deleted(Kind::L2Advertisement, name)) {
                prop_assert!(config.l2_advertisements.contains_key(name), "{} after {}", name, object);
            }
        }
    }
}
