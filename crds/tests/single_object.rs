//! What one object alone can show to be wrong, twice: what the API server says at `kubectl apply` (schema and CEL),
//! and what `resolve` says of the same object, were it there nevertheless.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use fairlead_crds::resolve::{Objects, RefusalReason, resolve};

/// What the API server says.
#[derive(Clone, Copy)]
enum Apply {
    Takes,
    /// Refuses, with this in the message.
    Refuses(&'static str),
}
use Apply::{Refuses, Takes};

/// A spec, what the API server says of it, and the reason `resolve` refuses it for, if it does.
type Row = (&'static str, Apply, Option<RefusalReason>);

fn check(kind: &str, rows: &[Row]) {
    for (spec, at_apply, expected) in rows {
        let object = common::object(kind, "it", 1, spec);
        let said = common::apply(&object);
        match at_apply {
            Takes => assert_eq!(said, Ok(()), "apply of {kind} {spec}"),
            Refuses(text) => {
                let complaints = said.expect_err(&format!("apply of {kind} {spec} is refused")).join("\n");
                assert!(
                    complaints.contains(text),
                    "apply of {kind} {spec} says {complaints:?}, not {text:?}"
                );
            }
        }
        let mut objects = Objects::default();
        common::add(&mut objects, object);
        let resolution = resolve(&objects);
        let verdict = common::verdict(&resolution, common::kind(kind), "it");
        assert_eq!(common::reason(verdict), *expected, "resolve of {kind} {spec} says {verdict:?}");
    }
}

#[test]
fn pools() {
    let not_a_range = Refuses("each entry must be a CIDR");
    check(
        "IPAddressPool",
        &[
            ("addresses: [198.51.100.0/24]", Takes, None),
            ("addresses: [192.0.2.200-192.0.2.230, 2001:db8:1::200-2001:db8:1::2ff]", Takes, None),
            ("addresses: [' 192.0.2.1 - 192.0.2.9 ']", Takes, None),
            ("addresses: [192.0.2.7-192.0.2.7, 192.0.2.8/32, 2001:db8::1/128]", Takes, None),
            // Host bits do not matter, as in MetalLB.
            ("addresses: [192.0.2.77/24]", Takes, None),
            ("addresses: [192.0.2.0/25, 192.0.2.128/25]", Takes, None),
            ("addresses: [0.0.0.0/1]", Takes, None),
            ("addresses: []", Refuses("addresses"), Some(RefusalReason::NoAddresses)),
            ("", Refuses("addresses"), Some(RefusalReason::NoAddresses)),
            (
                "addresses: [192.0.2.9-192.0.2.1]",
                Refuses("must not be higher"),
                Some(RefusalReason::ReversedRange),
            ),
            (
                "addresses: [192.0.3.1-192.0.2.9]",
                Refuses("must not be higher"),
                Some(RefusalReason::ReversedRange),
            ),
            // CEL cannot compare IPv6 addresses: only the condition says it.
            ("addresses: ['2001:db8::9-2001:db8::1']", Takes, Some(RefusalReason::ReversedRange)),
            (
                "addresses: ['192.0.2.1-2001:db8::1']",
                Refuses("same address family"),
                Some(RefusalReason::MixedFamilies),
            ),
            (
                "addresses: ['::1-192.0.2.1']",
                Refuses("same address family"),
                Some(RefusalReason::MixedFamilies),
            ),
            ("addresses: [0.0.0.0/0]", not_a_range, Some(RefusalReason::WholeAddressSpace)),
            ("addresses: ['::/0']", not_a_range, Some(RefusalReason::WholeAddressSpace)),
            ("addresses: [0.0.0.0-255.255.255.255]", Takes, Some(RefusalReason::WholeAddressSpace)),
            ("addresses: [192.0.2.1]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.1-]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.1-192.0.2.256]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.1-192.0.2.5-192.0.2.9]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.0/33]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.0/24-192.0.3.0/24]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [lan]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: ['']", Refuses("addresses"), Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.0/24, 192.0.2.7-192.0.2.9]", Takes, Some(RefusalReason::Overlap)),
            (
                "{addresses: [192.0.2.0/24], reclaim: Reassign, disabled: true, sharing: SameNamespace}",
                Takes,
                None,
            ),
            (
                "{addresses: [192.0.2.0/24], reclaim: Keep}",
                Refuses("reclaim"),
                Some(RefusalReason::InvalidReclaim),
            ),
            (
                "{addresses: [192.0.2.0/24], sharing: Nobody}",
                Refuses("sharing"),
                Some(RefusalReason::InvalidSharing),
            ),
            ("{addresses: [192.0.2.0/24], reuseAfter: 10m}", Takes, None),
            ("{addresses: [192.0.2.0/24], reuseAfter: 0s}", Takes, None),
            (
                "{addresses: [192.0.2.0/24], reuseAfter: -1s}",
                Refuses("reuseAfter must be"),
                Some(RefusalReason::InvalidReuseAfter),
            ),
            (
                "{addresses: [192.0.2.0/24], reuseAfter: 9000h}",
                Refuses("reuseAfter must be"),
                Some(RefusalReason::InvalidReuseAfter),
            ),
            (
                "{addresses: [192.0.2.0/24], reuseAfter: soon}",
                Refuses("spec.reuseAfter"),
                Some(RefusalReason::InvalidReuseAfter),
            ),
            ("addresses: [192.0.2.0/24, 192.0.2.0/24]", Takes, Some(RefusalReason::Overlap)),
            ("{addresses: [192.0.2.0/24], autoAssign: false, avoidBuggyIPs: true}", Takes, None),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {priority: 7, namespaces: [a, b]}}",
                Takes,
                None,
            ),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {priority: -1}}",
                Refuses("priority"),
                Some(RefusalReason::InvalidPriority),
            ),
            // Lists of type `set`: the server refuses this too, though not by schema or rule.
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {namespaces: [a, a]}}",
                Takes,
                Some(RefusalReason::DuplicateEntry),
            ),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: [{matchExpressions: [{key: a, operator: Is}]}]}}",
                Refuses("operator"),
                Some(RefusalReason::InvalidSelector),
            ),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {namespaceSelectors: [{matchExpressions: [{key: a, operator: In}]}]}}",
                Refuses("In and NotIn need values"),
                Some(RefusalReason::InvalidSelector),
            ),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {namespaceSelectors: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]}}",
                Refuses("take none"),
                Some(RefusalReason::InvalidSelector),
            ),
        ],
    );
}

#[test]
fn l2_advertisements() {
    check(
        "L2Advertisement",
        &[
            ("", Takes, None),
            ("{interfaces: [eth0, bond0.100], nodeSelectors: [{matchLabels: {rack: a}}]}", Takes, None),
            ("preferredNodeSelectors: [{weight: 100, preference: {matchLabels: {rack: a}}}]", Takes, None),
            (
                "preferredNodeSelectors: [{weight: 0, preference: {}}]",
                Refuses("weight"),
                Some(RefusalReason::InvalidWeight),
            ),
            (
                "preferredNodeSelectors: [{weight: 101, preference: {}}]",
                Refuses("weight"),
                Some(RefusalReason::InvalidWeight),
            ),
            (
                "preferredNodeSelectors: [{preference: {}}]",
                Refuses("weight"),
                Some(RefusalReason::InvalidWeight),
            ),
            (
                "interfaces: [an-interface-too-long]",
                Refuses("interfaces"),
                Some(RefusalReason::InvalidInterface),
            ),
            ("interfaces: [a/b]", Takes, Some(RefusalReason::InvalidInterface)),
            ("interfaces: [eth0, eth0]", Takes, Some(RefusalReason::DuplicateEntry)),
            (
                "nodeSelectors: [{matchExpressions: [{key: a, operator: in, values: [b]}]}]",
                Refuses("operator"),
                Some(RefusalReason::InvalidSelector),
            ),
            (
                "nodeSelectors: [{matchLabels: {a: b}}, {matchExpressions: [{key: a, operator: In, values: [b]}]}]",
                Takes,
                Some(RefusalReason::DuplicateEntry),
            ),
        ],
    );
}

#[test]
fn bgp_advertisements() {
    let not_a_community = Refuses("a community is");
    check(
        "BGPAdvertisement",
        &[
            ("", Takes, None),
            ("{aggregationLength: 24, aggregationLengthV6: 64, localPref: 4294967295}", Takes, None),
            ("localPref: 0", Takes, None),
            ("communities: ['64512:100', 'large:4200000000:1:4294967295', '65535:65281']", Takes, None),
            (
                "aggregationLength: 0",
                Refuses("aggregationLength"),
                Some(RefusalReason::InvalidAggregationLength),
            ),
            (
                "aggregationLength: 33",
                Refuses("aggregationLength"),
                Some(RefusalReason::InvalidAggregationLength),
            ),
            (
                "aggregationLengthV6: 0",
                Refuses("aggregationLengthV6"),
                Some(RefusalReason::InvalidAggregationLength),
            ),
            (
                "aggregationLengthV6: 129",
                Refuses("aggregationLengthV6"),
                Some(RefusalReason::InvalidAggregationLength),
            ),
            ("localPref: -1", Refuses("localPref"), Some(RefusalReason::InvalidLocalPref)),
            ("localPref: 4294967296", Refuses("localPref"), Some(RefusalReason::InvalidLocalPref)),
            ("communities: ['65536:1']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['1:2:3']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['large:1:2']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['large:1:2:4294967296']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['+1:2']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: [':']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: [no-such-alias]", Takes, Some(RefusalReason::CommunityNotFound)),
            ("communities: ['1:1', '1:1']", Takes, Some(RefusalReason::DuplicateEntry)),
            ("serviceSelectors: [{matchLabels: {a: b}}]", Takes, None),
            (
                "{serviceSelectors: [{matchLabels: {a: b}}], aggregationLength: 32, aggregationLengthV6: 128}",
                Takes,
                None,
            ),
            (
                "{serviceSelectors: [{matchLabels: {a: b}}], aggregationLength: 24}",
                Refuses("mutually exclusive"),
                Some(RefusalReason::AggregationWithServiceSelectors),
            ),
            (
                "{serviceSelectors: [{matchLabels: {a: b}}], aggregationLengthV6: 64}",
                Refuses("mutually exclusive"),
                Some(RefusalReason::AggregationWithServiceSelectors),
            ),
        ],
    );
}

#[test]
fn peers_have_one_address_and_one_asn() {
    check(
        "BGPPeer",
        &[
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}", Takes, None),
            ("{myASN: 64513, peerASN: 64513, peerAddress: '2001:db8::1'}", Takes, None),
            ("{myASN: 4294967295, dynamicASN: external, interface: eth0}", Takes, None),
            ("{myASN: 64513, dynamicASN: internal, peerAddress: 192.0.2.1, vrf: red}", Takes, None),
            // The way MetalLB's own manifests write "not set".
            (
                "{myASN: 64513, peerASN: 0, dynamicASN: external, peerAddress: 192.0.2.1, interface: ''}",
                Takes,
                None,
            ),
            ("{peerASN: 64512, peerAddress: 192.0.2.1}", Refuses("myASN"), Some(RefusalReason::MissingMyASN)),
            (
                "{myASN: 0, peerASN: 64512, peerAddress: 192.0.2.1}",
                Refuses("myASN"),
                Some(RefusalReason::MissingMyASN),
            ),
            (
                "{myASN: 4294967296, peerASN: 64512, peerAddress: 192.0.2.1}",
                Refuses("myASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerAddress: 192.0.2.1}",
                Refuses("exactly one of peerASN and dynamicASN"),
                Some(RefusalReason::MissingPeerASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512, dynamicASN: external, peerAddress: 192.0.2.1}",
                Refuses("exactly one of peerASN and dynamicASN"),
                Some(RefusalReason::ConflictingPeerASN),
            ),
            (
                "{myASN: 64513, dynamicASN: any, peerAddress: 192.0.2.1}",
                Refuses("dynamicASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512}",
                Refuses("exactly one of peerAddress and interface"),
                Some(RefusalReason::MissingPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, interface: eth0}",
                Refuses("exactly one of peerAddress and interface"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: router.example}",
                Refuses("must be an IP address"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 0.0.0.0}",
                Takes,
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 'ff02::1'}",
                Takes,
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::1'}",
                Takes,
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64513, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
                Refuses("iBGP"),
                Some(RefusalReason::MultiHopWithIBGP),
            ),
            (
                "{myASN: 64513, dynamicASN: internal, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
                Refuses("iBGP"),
                Some(RefusalReason::MultiHopWithIBGP),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, ebgpMultiHop: true}", Takes, None),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, localASN: 65000}", Takes, None),
            (
                "{myASN: 64513, peerASN: 64513, peerAddress: 192.0.2.1, localASN: 65000}",
                Refuses("localASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, localASN: 64512}",
                Refuses("localASN"),
                Some(RefusalReason::InvalidASN),
            ),
        ],
    );
}

/// Rows with the further fields of a peer that is sound without them.
fn check_peer(rows: &[Row]) {
    for (fields, at_apply, expected) in rows {
        let spec = format!("{{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, {fields}}}");
        check("BGPPeer", &[(spec.leak(), *at_apply, *expected)]);
    }
}

#[test]
fn times_of_peers() {
    let hold = Refuses("holdTime must be 0s, or between 3s and 65535s");
    let keepalive = Refuses("keepaliveTime must be 0s, or between 1s and 65535s");
    check_peer(&[
        ("holdTime: 90s", Takes, None),
        ("holdTime: 1m30s, keepaliveTime: 30s", Takes, None),
        ("holdTime: 3s, keepaliveTime: 3s", Takes, None),
        ("holdTime: 0s", Takes, None),
        ("holdTime: '0', keepaliveTime: 0s", Takes, None),
        ("keepaliveTime: 1s", Takes, None),
        ("holdTime: 18h12m15s", Takes, None),
        ("holdTime: 2s", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 2999ms", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 500ms", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 18h12m16s", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: -90s", Refuses("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: '90'", Refuses("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: soon", Refuses("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("keepaliveTime: 900ms", keepalive, Some(RefusalReason::InvalidKeepaliveTime)),
        ("keepaliveTime: 6h", Takes, None),
        ("keepaliveTime: 7h", Takes, Some(RefusalReason::InvalidHoldTime)),
        (
            "holdTime: 9s, keepaliveTime: 10s",
            Refuses("not be longer"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        (
            "holdTime: 0s, keepaliveTime: 1s",
            Refuses("both be zero"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        (
            "holdTime: 9s, keepaliveTime: 0s",
            Refuses("both be zero"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        ("connectTime: 1s", Takes, None),
        ("connectTime: 0s", Refuses("connectTime must be between"), Some(RefusalReason::InvalidConnectTime)),
        (
            "connectTime: 65536s",
            Refuses("connectTime must be between"),
            Some(RefusalReason::InvalidConnectTime),
        ),
        ("connectTime: 1500ms", Refuses("whole number"), Some(RefusalReason::InvalidConnectTime)),
    ]);
}

#[test]
fn further_fields_of_peers() {
    check_peer(&[
        ("peerPort: 1179", Takes, None),
        ("peerPort: 65535", Takes, None),
        ("peerPort: 0", Refuses("peerPort"), Some(RefusalReason::InvalidPort)),
        ("peerPort: 65536", Refuses("peerPort"), Some(RefusalReason::InvalidPort)),
        ("routerID: 10.0.0.1", Takes, None),
        ("routerID: 0.0.0.0", Refuses("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("routerID: '::1'", Refuses("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("routerID: '1'", Refuses("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("sourceAddress: 192.0.2.11", Takes, None),
        ("sourceAddress: node1", Refuses("must be an IP address"), Some(RefusalReason::InvalidSourceAddress)),
        (
            "sourceAddress: '2001:db8::11'",
            Refuses("same address family"),
            Some(RefusalReason::InvalidSourceAddress),
        ),
        ("vrf: red", Takes, None),
        ("vrf: a-vrf-name-that-is-long", Refuses("vrf"), Some(RefusalReason::InvalidInterface)),
        ("passwordSecret: {name: key, namespace: routing}", Takes, None),
        ("passwordSecret: {name: key}", Takes, None),
        ("passwordSecret: {namespace: routing}", Refuses("name"), Some(RefusalReason::InvalidPasswordSecret)),
        ("bfdProfile: no-such-profile", Takes, Some(RefusalReason::BFDProfileNotFound)),
        ("disableMP: true, dualStackAddressFamily: true, enableGracefulRestart: true", Takes, None),
        ("nodeSelectors: [{matchLabels: {rack: a}}]", Takes, None),
        (
            "nodeSelectors: [{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}]",
            Refuses("operator"),
            Some(RefusalReason::InvalidSelector),
        ),
    ]);
}

#[test]
fn bfd_profiles() {
    check(
        "BFDProfile",
        &[
            ("", Takes, None),
            ("{receiveInterval: 10, transmitInterval: 60000, echoInterval: 10}", Takes, None),
            ("{detectMultiplier: 255, minimumTtl: 1, echoMode: true, passiveMode: true}", Takes, None),
            ("receiveInterval: 9", Refuses("receiveInterval"), Some(RefusalReason::InvalidBFDProfile)),
            ("transmitInterval: 60001", Refuses("transmitInterval"), Some(RefusalReason::InvalidBFDProfile)),
            ("echoInterval: -1", Refuses("echoInterval"), Some(RefusalReason::InvalidBFDProfile)),
            ("detectMultiplier: 1", Refuses("detectMultiplier"), Some(RefusalReason::InvalidBFDProfile)),
            ("detectMultiplier: 256", Refuses("detectMultiplier"), Some(RefusalReason::InvalidBFDProfile)),
            ("minimumTtl: 0", Refuses("minimumTtl"), Some(RefusalReason::InvalidBFDProfile)),
            ("minimumTtl: 255", Refuses("minimumTtl"), Some(RefusalReason::InvalidBFDProfile)),
        ],
    );
}

#[test]
fn communities() {
    let not_a_community = Refuses("a community is");
    check(
        "Community",
        &[
            ("", Takes, None),
            ("communities: [{name: a, value: '1:2'}, {name: b, value: 'large:1:2:3'}]", Takes, None),
            (
                "communities: [{name: a, value: '1:65536'}]",
                not_a_community,
                Some(RefusalReason::InvalidCommunity),
            ),
            ("communities: [{name: a, value: b}]", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: [{name: a}]", Refuses("value"), Some(RefusalReason::InvalidCommunity)),
            ("communities: [{value: '1:2'}]", Refuses("name"), Some(RefusalReason::InvalidCommunity)),
            (
                "communities: [{name: 'a:b', value: '1:2'}]",
                Refuses("name"),
                Some(RefusalReason::InvalidCommunity),
            ),
            (
                "communities: [{name: a, value: '1:2'}, {name: a, value: '1:3'}]",
                Takes,
                Some(RefusalReason::DuplicateCommunity),
            ),
        ],
    );
}
