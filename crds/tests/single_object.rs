//! Validation of a single object, twice: by the API server at `kubectl apply` (schema and CEL), and by
//! `resolve`, for an object that passed a less strict schema.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use fairlead_crds::resolve::{Objects, RefusalReason, resolve};

/// The result of the API server.
#[derive(Clone, Copy)]
enum Apply {
    Accepts,
    /// Rejected with an error that contains this text.
    Rejects(&'static str),
}
use Apply::{Accepts, Rejects};

/// A spec, the result of the API server, and the reason for which `resolve` refuses the object, if any.
type Row = (&'static str, Apply, Option<RefusalReason>);

fn check(kind: &str, rows: &[Row]) {
    for (spec, at_apply, expected) in rows {
        let object = common::object(kind, "it", 1, spec);
        let result = common::apply(&object);
        match at_apply {
            Accepts => assert_eq!(result, Ok(()), "apply of {kind} {spec}"),
            Rejects(text) => {
                let errors = result.expect_err(&format!("apply of {kind} {spec} must fail")).join("\n");
                assert!(errors.contains(text), "apply of {kind} {spec} returns {errors:?}, not {text:?}");
            }
        }
        let mut objects = Objects::default();
        common::add(&mut objects, object);
        let resolution = resolve(&objects);
        let verdict = common::verdict(&resolution, common::kind(kind), "it");
        assert_eq!(common::reason(verdict), *expected, "resolve of {kind} {spec} returns {verdict:?}");
    }
}

#[test]
fn pool_specs_are_validated() {
    let not_a_range = Rejects("each entry must be a CIDR");
    let unusable = Rejects("only addresses that a Service can use");
    check(
        "IPAddressPool",
        &[
            ("addresses: [198.51.100.0/24]", Accepts, None),
            ("addresses: [192.0.2.200-192.0.2.230, 2001:db8:1::200-2001:db8:1::2ff]", Accepts, None),
            ("addresses: [' 192.0.2.1 - 192.0.2.9 ']", Accepts, None),
            ("addresses: [192.0.2.7-192.0.2.7, 192.0.2.8/32, 2001:db8::1/128]", Accepts, None),
            // Host bits are ignored, as in MetalLB.
            ("addresses: [192.0.2.77/24]", Accepts, None),
            ("addresses: [192.0.2.0/25, 192.0.2.128/25]", Accepts, None),
            ("addresses: [64.0.0.0/3, 128.0.0.0/2, 240.0.0.0/5, '2000::/3']", Accepts, None),
            ("addresses: [169.254.7.0/24, 'fe80::7:0/112']", Accepts, None),
            ("addresses: []", Rejects("addresses"), Some(RefusalReason::NoAddresses)),
            ("", Rejects("addresses"), Some(RefusalReason::NoAddresses)),
            (
                "addresses: [192.0.2.9-192.0.2.1]",
                Rejects("must not be higher"),
                Some(RefusalReason::ReversedRange),
            ),
            (
                "addresses: [192.0.3.1-192.0.2.9]",
                Rejects("must not be higher"),
                Some(RefusalReason::ReversedRange),
            ),
            // CEL cannot compare IPv6 addresses: only `resolve` refuses the range.
            ("addresses: ['2001:db8::9-2001:db8::1']", Accepts, Some(RefusalReason::ReversedRange)),
            (
                "addresses: ['192.0.2.1-2001:db8::1']",
                Rejects("same address family"),
                Some(RefusalReason::MixedFamilies),
            ),
            (
                "addresses: ['::1-192.0.2.1']",
                Rejects("same address family"),
                Some(RefusalReason::MixedFamilies),
            ),
            ("addresses: [0.0.0.0/0]", not_a_range, Some(RefusalReason::WholeAddressSpace)),
            ("addresses: ['::/0']", not_a_range, Some(RefusalReason::WholeAddressSpace)),
            ("addresses: [0.0.0.0-255.255.255.255]", unusable, Some(RefusalReason::WholeAddressSpace)),
            ("addresses: [192.0.2.1]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.1-]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.1-192.0.2.256]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.1-192.0.2.5-192.0.2.9]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.0/33]", not_a_range, Some(RefusalReason::InvalidRange)),
            // kube-apiserver rejects leading zeros too; kube-cel does not.
            ("addresses: [192.0.02.0/24]", Accepts, Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.0/24-192.0.3.0/24]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: [lan]", not_a_range, Some(RefusalReason::InvalidRange)),
            ("addresses: ['']", Rejects("addresses"), Some(RefusalReason::InvalidRange)),
            ("addresses: [192.0.2.0/24, 192.0.2.7-192.0.2.9]", Accepts, Some(RefusalReason::Overlap)),
            (
                "{addresses: [192.0.2.0/24], reclaim: Reassign, disabled: true, sharing: SameNamespace}",
                Accepts,
                None,
            ),
            (
                "{addresses: [192.0.2.0/24], reclaim: Keep}",
                Rejects("reclaim"),
                Some(RefusalReason::InvalidReclaim),
            ),
            (
                "{addresses: [192.0.2.0/24], sharing: Nobody}",
                Rejects("sharing"),
                Some(RefusalReason::InvalidSharing),
            ),
            ("{addresses: [192.0.2.0/24], reuseAfter: 10m}", Accepts, None),
            ("{addresses: [192.0.2.0/24], reuseAfter: 0s}", Accepts, None),
            (
                "{addresses: [192.0.2.0/24], reuseAfter: -1s}",
                Rejects("reuseAfter must be"),
                Some(RefusalReason::InvalidReuseAfter),
            ),
            (
                "{addresses: [192.0.2.0/24], reuseAfter: 9000h}",
                Rejects("reuseAfter must be"),
                Some(RefusalReason::InvalidReuseAfter),
            ),
            (
                "{addresses: [192.0.2.0/24], reuseAfter: soon}",
                Rejects("spec.reuseAfter"),
                Some(RefusalReason::InvalidReuseAfter),
            ),
            ("{addresses: [192.0.2.0/24], loadBalancerClass: example.org/x}", Accepts, None),
            ("{addresses: [192.0.2.0/24], loadBalancerClass: ''}", Rejects("loadBalancerClass"), None),
            ("addresses: [192.0.2.0/24, 192.0.2.0/24]", Accepts, Some(RefusalReason::Overlap)),
            ("addresses: [0.0.0.0/1]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [0.1.2.0/24]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [0.0.0.0-0.0.0.0]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [0.255.0.0-1.0.0.1]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [127.0.0.1/32]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [96.0.0.0/3]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [126.0.0.1-128.0.0.1]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [224.0.0.0/24]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [223.255.255.1-240.0.0.1]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [255.255.255.255/32]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [255.255.255.254/31]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: [255.255.0.1-255.255.255.255]", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: ['::/128']", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: ['::1/128']", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: ['::/64']", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: ['::-::9']", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: ['ff02::1/128']", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: ['fe00::/7']", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: ['fd00::-ff02::1']", unusable, Some(RefusalReason::UnusableAddress)),
            ("addresses: ['::ffff:192.0.2.0/120']", not_a_range, Some(RefusalReason::InvalidRange)),
            (
                "addresses: ['::ffff:192.0.2.1-::ffff:192.0.2.9']",
                not_a_range,
                Some(RefusalReason::InvalidRange),
            ),
            // CEL cannot compare IPv6 addresses.
            ("addresses: ['::9-::1:0:0:0']", Accepts, Some(RefusalReason::InvalidRange)),
            ("{addresses: [192.0.2.0/24], autoAssign: false, avoidBuggyIPs: true}", Accepts, None),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {priority: 7, namespaces: [a, b]}}",
                Accepts,
                None,
            ),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {priority: -1}}",
                Rejects("priority"),
                Some(RefusalReason::InvalidPriority),
            ),
            // Lists of type `set`: the server rejects this too, but not by schema or rule.
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {namespaces: [a, a]}}",
                Accepts,
                Some(RefusalReason::DuplicateEntry),
            ),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: [{matchExpressions: \
                 [{key: a, operator: Is}]}]}}",
                Rejects("operator"),
                Some(RefusalReason::InvalidSelector),
            ),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {namespaceSelectors: [{matchExpressions: \
                 [{key: a, operator: In}]}]}}",
                Rejects("In and NotIn require values"),
                Some(RefusalReason::InvalidSelector),
            ),
            (
                "{addresses: [192.0.2.0/24], serviceAllocation: {namespaceSelectors: [{matchExpressions: \
                 [{key: a, operator: Exists, values: [b]}]}]}}",
                Rejects("must not have values"),
                Some(RefusalReason::InvalidSelector),
            ),
        ],
    );
}

#[test]
fn l2_advertisement_specs_are_validated() {
    check(
        "L2Advertisement",
        &[
            ("", Accepts, None),
            ("{interfaces: [eth0, bond0.100], nodeSelectors: [{matchLabels: {rack: a}}]}", Accepts, None),
            ("preferredNodeSelectors: [{weight: 100, preference: {matchLabels: {rack: a}}}]", Accepts, None),
            (
                "preferredNodeSelectors: [{weight: 0, preference: {}}]",
                Rejects("weight"),
                Some(RefusalReason::InvalidWeight),
            ),
            (
                "preferredNodeSelectors: [{weight: 101, preference: {}}]",
                Rejects("weight"),
                Some(RefusalReason::InvalidWeight),
            ),
            (
                "preferredNodeSelectors: [{preference: {}}]",
                Rejects("weight"),
                Some(RefusalReason::InvalidWeight),
            ),
            (
                "interfaces: [an-interface-too-long]",
                Rejects("interfaces"),
                Some(RefusalReason::InvalidInterface),
            ),
            ("interfaces: [a/b]", Accepts, Some(RefusalReason::InvalidInterface)),
            ("interfaces: [eth0, eth0]", Accepts, Some(RefusalReason::DuplicateEntry)),
            (
                "nodeSelectors: [{matchExpressions: [{key: a, operator: in, values: [b]}]}]",
                Rejects("operator"),
                Some(RefusalReason::InvalidSelector),
            ),
            (
                "nodeSelectors: [{matchLabels: {a: b}}, {matchExpressions: [{key: a, operator: In, values: \
                 [b]}]}]",
                Accepts,
                Some(RefusalReason::DuplicateEntry),
            ),
        ],
    );
}

#[test]
fn bgp_advertisement_specs_are_validated() {
    let not_a_community = Rejects("a community must be");
    check(
        "BGPAdvertisement",
        &[
            ("", Accepts, None),
            ("{aggregationLength: 24, aggregationLengthV6: 64, localPref: 4294967295}", Accepts, None),
            ("localPref: 0", Accepts, None),
            ("communities: ['64512:100', 'large:4200000000:1:4294967295', '65535:65281']", Accepts, None),
            (
                "aggregationLength: 0",
                Rejects("aggregationLength"),
                Some(RefusalReason::InvalidAggregationLength),
            ),
            (
                "aggregationLength: 33",
                Rejects("aggregationLength"),
                Some(RefusalReason::InvalidAggregationLength),
            ),
            (
                "aggregationLengthV6: 0",
                Rejects("aggregationLengthV6"),
                Some(RefusalReason::InvalidAggregationLength),
            ),
            (
                "aggregationLengthV6: 129",
                Rejects("aggregationLengthV6"),
                Some(RefusalReason::InvalidAggregationLength),
            ),
            ("localPref: -1", Rejects("localPref"), Some(RefusalReason::InvalidLocalPref)),
            ("localPref: 4294967296", Rejects("localPref"), Some(RefusalReason::InvalidLocalPref)),
            ("communities: ['65536:1']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['1:2:3']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['large:1:2']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['large:1:2:4294967296']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['+1:2']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: [':']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            (
                "communities: [no-export, 'rt:64512:4294967295', 'rt:65536:65535', 'soo:192.0.2.1:7', \
                 'link-bandwidth:64512:1000', 'ext:43:00:00000000abCD']",
                Accepts,
                None,
            ),
            ("communities: ['rt:65536:65536']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['rt:4294967296:1']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['soo:192.0.2.256:1']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: ['soo:192.0.2.1:65536']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            (
                "communities: ['link-bandwidth:65536:1']",
                not_a_community,
                Some(RefusalReason::InvalidCommunity),
            ),
            ("communities: ['ext:43:00:abcd']", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("{med: 4294967295, asPathPrepend: 10, aggregator: true}", Accepts, None),
            ("med: -1", Rejects("med"), Some(RefusalReason::InvalidMED)),
            ("med: 4294967296", Rejects("med"), Some(RefusalReason::InvalidMED)),
            ("asPathPrepend: 0", Rejects("asPathPrepend"), Some(RefusalReason::InvalidASPathPrepend)),
            ("asPathPrepend: 11", Rejects("asPathPrepend"), Some(RefusalReason::InvalidASPathPrepend)),
            ("{announceWhen: DataPathReady, reannounceAfter: 10s}", Accepts, None),
            ("{announceWhen: EndpointReady, reannounceAfter: 1h}", Accepts, None),
            ("announceWhen: Ready", Rejects("announceWhen"), Some(RefusalReason::InvalidAnnounceWhen)),
            ("reannounceAfter: 61m", Rejects("reannounceAfter"), Some(RefusalReason::InvalidReannounceAfter)),
            ("reannounceAfter: -1s", Rejects("reannounceAfter"), Some(RefusalReason::InvalidReannounceAfter)),
            (
                "reannounceAfter: soon",
                Rejects("reannounceAfter"),
                Some(RefusalReason::InvalidReannounceAfter),
            ),
            (
                "serviceAttributes: {communities: [no-export, '64512:1'], maxASPathPrepend: 10, med: true}",
                Accepts,
                None,
            ),
            (
                "serviceAttributes: {communities: ['1:65536']}",
                not_a_community,
                Some(RefusalReason::InvalidCommunity),
            ),
            (
                "serviceAttributes: {maxASPathPrepend: 11}",
                Rejects("maxASPathPrepend"),
                Some(RefusalReason::InvalidASPathPrepend),
            ),
            (
                "{serviceAttributes: {med: true}, aggregationLength: 24}",
                Rejects("mutually exclusive"),
                Some(RefusalReason::AggregationWithServiceAttributes),
            ),
            (
                "serviceAttributes: {communities: [no-such-alias]}",
                Accepts,
                Some(RefusalReason::CommunityNotFound),
            ),
            ("communities: [no-such-alias]", Accepts, Some(RefusalReason::CommunityNotFound)),
            ("communities: ['1:1', '1:1']", Accepts, Some(RefusalReason::DuplicateEntry)),
            ("serviceSelectors: [{matchLabels: {a: b}}]", Accepts, None),
            (
                "{serviceSelectors: [{matchLabels: {a: b}}], aggregationLength: 32, aggregationLengthV6: \
                 128}",
                Accepts,
                None,
            ),
            (
                "{serviceSelectors: [{matchLabels: {a: b}}], aggregationLength: 24}",
                Rejects("mutually exclusive"),
                Some(RefusalReason::AggregationWithServiceSelectors),
            ),
            (
                "{serviceSelectors: [{matchLabels: {a: b}}], aggregationLengthV6: 64}",
                Rejects("mutually exclusive"),
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
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}", Accepts, None),
            ("{myASN: 64513, peerASN: 64513, peerAddress: '2001:db8::1'}", Accepts, None),
            ("{myASN: 4294967295, dynamicASN: external, interface: eth0}", Accepts, None),
            ("{myASN: 64513, dynamicASN: internal, peerAddress: 192.0.2.1, vrf: red}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, loadBalancerClass: example.org/x}",
                Accepts,
                None,
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, loadBalancerClass: ''}",
                Rejects("loadBalancerClass"),
                None,
            ),
            // Manifests for MetalLB write unset fields in this way.
            (
                "{myASN: 64513, peerASN: 0, dynamicASN: external, peerAddress: 192.0.2.1, interface: ''}",
                Accepts,
                None,
            ),
            ("{peerASN: 64512, peerAddress: 192.0.2.1}", Rejects("myASN"), Some(RefusalReason::MissingMyASN)),
            (
                "{myASN: 0, peerASN: 64512, peerAddress: 192.0.2.1}",
                Rejects("myASN"),
                Some(RefusalReason::MissingMyASN),
            ),
            (
                "{myASN: 4294967296, peerASN: 64512, peerAddress: 192.0.2.1}",
                Rejects("myASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerAddress: 192.0.2.1}",
                Rejects("exactly one of peerASN and dynamicASN"),
                Some(RefusalReason::MissingPeerASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512, dynamicASN: external, peerAddress: 192.0.2.1}",
                Rejects("exactly one of peerASN and dynamicASN"),
                Some(RefusalReason::ConflictingPeerASN),
            ),
            (
                "{myASN: 64513, dynamicASN: any, peerAddress: 192.0.2.1}",
                Rejects("dynamicASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512}",
                Rejects("exactly one of peerAddress and interface"),
                Some(RefusalReason::MissingPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, interface: eth0}",
                Rejects("exactly one of peerAddress and interface"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: router.example}",
                Rejects("must be an IP address"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 0.0.0.0}",
                Rejects("unicast address of a host"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 'ff02::1'}",
                Rejects("unicast address of a host"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 127.0.0.1}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 0.1.2.3}",
                Rejects("unicast address of a host"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 255.255.255.255}",
                Rejects("unicast address of a host"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: '::ffff:192.0.2.1'}",
                Rejects("must be an IP address"),
                Some(RefusalReason::InvalidPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::1'}",
                Rejects("interface must be set"),
                Some(RefusalReason::MissingInterface),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::1', interface: eth0}", Accepts, None),
            ("{myASN: 64513, peerASN: 64512, peerAddress: default-gateway}", Accepts, None),
            ("{myASN: 64513, peerASN: 64512, peerAddress: default-gateway-ipv6}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: default-gateway, sourceAddress: '2001:db8::1'}",
                Accepts,
                Some(RefusalReason::InvalidSourceAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: default-gateway, vrf: red}",
                Rejects("vrf must not be set"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: default-gateway-ipv6, vrf: red}",
                Rejects("vrf must not be set"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: default-gateway, vrf: ''}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: '2001:db8::1', sourceAddress: 'fe80::1'}",
                Rejects("must not be a link-local address"),
                Some(RefusalReason::InvalidSourceAddress),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 'fe80::2', interface: eth0, sourceAddress: 'fe80::1'}",
                Accepts,
                None,
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: default-gateway, interface: eth0}",
                Rejects("exactly one of peerAddress and interface"),
                Some(RefusalReason::ConflictingPeerAddress),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 169.254.0.1}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, interface: eth0, sourceInterface: lo}",
                Rejects("sourceInterface must not be set"),
                Some(RefusalReason::ConflictingSource),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, sourceInterface: lo}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, sourceInterface: lo, sourceAddress: 192.0.2.2}",
                Rejects("sourceInterface must not be set"),
                Some(RefusalReason::ConflictingSource),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, sourceInterface: a/b}",
                Accepts,
                Some(RefusalReason::InvalidInterface),
            ),
            (
                "{myASN: 64513, peerASN: 64513, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
                Rejects("iBGP"),
                Some(RefusalReason::MultiHopWithIBGP),
            ),
            (
                "{myASN: 64513, dynamicASN: internal, peerAddress: 192.0.2.1, ebgpMultiHop: true}",
                Rejects("iBGP"),
                Some(RefusalReason::MultiHopWithIBGP),
            ),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, ebgpMultiHop: true}", Accepts, None),
            ("{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, localASN: 65000}", Accepts, None),
            (
                "{myASN: 64513, peerASN: 64513, peerAddress: 192.0.2.1, localASN: 65000}",
                Rejects("localASN"),
                Some(RefusalReason::InvalidASN),
            ),
            (
                "{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, localASN: 64512}",
                Rejects("localASN"),
                Some(RefusalReason::InvalidASN),
            ),
        ],
    );
}

/// Checks rows with further fields of a peer that is otherwise valid.
fn check_peer(rows: &[Row]) {
    for (fields, at_apply, expected) in rows {
        let spec = format!("{{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, {fields}}}");
        check("BGPPeer", &[(spec.leak(), *at_apply, *expected)]);
    }
}

#[test]
fn peer_ttl_security_is_validated() {
    let refused = Some(RefusalReason::InvalidTTLSecurity);
    check_peer(&[
        ("ttlSecurity: 1", Accepts, None),
        ("ttlSecurity: 254, ebgpMultiHop: false", Accepts, None),
        ("ttlSecurity: 0", Rejects("ttlSecurity"), refused),
        ("ttlSecurity: 255", Rejects("ttlSecurity"), refused),
        ("ttlSecurity: 2, ebgpMultiHop: true", Rejects("must not both be set"), refused),
    ]);
}

#[test]
fn peer_tcp_ao_is_validated() {
    let refused = Some(RefusalReason::InvalidTCPAO);
    let secret = "passwordSecret: {name: key}";
    let with = |fields: &str| -> &'static str { format!("{secret}, tcpAO: {{{fields}}}").leak() };
    check_peer(&[
        (with("sendID: 0, receiveID: 255"), Accepts, None),
        (with("sendID: 1, receiveID: 2, algorithm: AES-128-CMAC-96"), Accepts, None),
        (with("sendID: 256, receiveID: 1"), Rejects("sendID"), refused),
        (with("sendID: 1, receiveID: -1"), Rejects("receiveID"), refused),
        (with("sendID: 1, receiveID: 1, algorithm: MD5"), Rejects("algorithm"), refused),
        ("tcpAO: {sendID: 1, receiveID: 1}", Rejects("passwordSecret must be set"), refused),
    ]);
}

#[test]
fn peer_texts_are_bounded() {
    let text = |field: &str, length| -> &'static str { format!("{field}: {}", "ü".repeat(length)).leak() };
    let message = Some(RefusalReason::InvalidShutdownMessage);
    check_peer(&[
        ("shutdown: true", Accepts, None),
        (text("shutdown: false, shutdownMessage", 255), Accepts, None),
        (text("shutdownMessage", 256), Rejects("shutdownMessage"), message),
        (text("description", 255), Accepts, None),
        (text("description", 256), Rejects("description"), Some(RefusalReason::InvalidDescription)),
    ]);
}

#[test]
fn peer_times_are_validated() {
    let hold = Rejects("holdTime must be 0s, or between 3s and 65535s");
    let keepalive = Rejects("keepaliveTime must be 0s, or between 1s and 65535s");
    check_peer(&[
        ("holdTime: 90s", Accepts, None),
        ("holdTime: 1m30s, keepaliveTime: 30s", Accepts, None),
        ("holdTime: 3s, keepaliveTime: 3s", Accepts, None),
        ("holdTime: 0s", Accepts, None),
        ("holdTime: '0', keepaliveTime: 0s", Accepts, None),
        ("keepaliveTime: 1s", Accepts, None),
        ("holdTime: 18h12m15s", Accepts, None),
        ("holdTime: 2s", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 2999ms", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 500ms", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: 18h12m16s", hold, Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: -90s", Rejects("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: '90'", Rejects("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("holdTime: soon", Rejects("holdTime"), Some(RefusalReason::InvalidHoldTime)),
        ("keepaliveTime: 900ms", keepalive, Some(RefusalReason::InvalidKeepaliveTime)),
        ("keepaliveTime: 6h", Accepts, None),
        ("keepaliveTime: 7h", Accepts, Some(RefusalReason::InvalidHoldTime)),
        (
            "holdTime: 9s, keepaliveTime: 10s",
            Rejects("not be longer"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        (
            "holdTime: 0s, keepaliveTime: 1s",
            Rejects("both be zero"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        (
            "holdTime: 9s, keepaliveTime: 0s",
            Rejects("both be zero"),
            Some(RefusalReason::InvalidKeepaliveTime),
        ),
        ("connectTime: 1s", Accepts, None),
        ("connectTime: 0s", Rejects("connectTime must be between"), Some(RefusalReason::InvalidConnectTime)),
        (
            "connectTime: 65536s",
            Rejects("connectTime must be between"),
            Some(RefusalReason::InvalidConnectTime),
        ),
        ("connectTime: 1500ms", Rejects("whole number"), Some(RefusalReason::InvalidConnectTime)),
        ("gracefulRestartTime: 1s", Accepts, None),
        ("gracefulRestartTime: 1h8m15s", Accepts, None),
        (
            "gracefulRestartTime: 0s",
            Rejects("gracefulRestartTime must be between"),
            Some(RefusalReason::InvalidGracefulRestartTime),
        ),
        (
            "gracefulRestartTime: 4096s",
            Rejects("gracefulRestartTime must be between"),
            Some(RefusalReason::InvalidGracefulRestartTime),
        ),
        (
            "gracefulRestartTime: 1500ms",
            Rejects("whole number"),
            Some(RefusalReason::InvalidGracefulRestartTime),
        ),
    ]);
}

#[test]
fn further_peer_fields_are_validated() {
    check_peer(&[
        ("peerPort: 1179", Accepts, None),
        ("peerPort: 65535", Accepts, None),
        ("peerPort: 0", Rejects("peerPort"), Some(RefusalReason::InvalidPort)),
        ("peerPort: 65536", Rejects("peerPort"), Some(RefusalReason::InvalidPort)),
        ("routerID: 10.0.0.1", Accepts, None),
        ("routerID: 0.0.0.0", Rejects("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("routerID: '::1'", Rejects("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("routerID: '1'", Rejects("routerID"), Some(RefusalReason::InvalidRouterID)),
        ("sourceAddress: 192.0.2.11", Accepts, None),
        ("sourceAddress: node1", Rejects("must be an IP address"), Some(RefusalReason::InvalidSourceAddress)),
        (
            "sourceAddress: '2001:db8::11'",
            Rejects("same address family"),
            Some(RefusalReason::InvalidSourceAddress),
        ),
        ("vrf: red", Accepts, None),
        ("linkBandwidth: {megabitsPerEndpoint: 100000, transitive: true}", Accepts, None),
        (
            "linkBandwidth: {megabitsPerEndpoint: 100001}",
            Rejects("megabitsPerEndpoint"),
            Some(RefusalReason::InvalidLinkBandwidth),
        ),
        ("linkBandwidth: {}", Rejects("megabitsPerEndpoint"), Some(RefusalReason::InvalidLinkBandwidth)),
        ("vrf: a-vrf-name-that-is-long", Rejects("vrf"), Some(RefusalReason::InvalidInterface)),
        ("passwordSecret: {name: key, namespace: routing}", Accepts, None),
        ("passwordSecret: {name: key}", Accepts, None),
        ("passwordSecret: {namespace: routing}", Rejects("name"), Some(RefusalReason::InvalidPasswordSecret)),
        ("bfdProfile: no-such-profile", Accepts, Some(RefusalReason::BFDProfileNotFound)),
        ("bfdStrict: true", Accepts, None),
        ("disableMP: true, dualStackAddressFamily: true, enableGracefulRestart: true", Accepts, None),
        ("nodeSelectors: [{matchLabels: {rack: a}}]", Accepts, None),
        (
            "nodeSelectors: [{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}]",
            Rejects("operator"),
            Some(RefusalReason::InvalidSelector),
        ),
    ]);
}

#[test]
fn bfd_profile_specs_are_validated() {
    check(
        "BFDProfile",
        &[
            ("", Accepts, None),
            ("{receiveInterval: 10, transmitInterval: 60000, echoInterval: 10}", Accepts, None),
            ("{detectMultiplier: 255, minimumTtl: 1, echoMode: true, passiveMode: true}", Accepts, None),
            ("receiveInterval: 9", Rejects("receiveInterval"), Some(RefusalReason::InvalidBFDProfile)),
            ("transmitInterval: 60001", Rejects("transmitInterval"), Some(RefusalReason::InvalidBFDProfile)),
            ("echoInterval: -1", Rejects("echoInterval"), Some(RefusalReason::InvalidBFDProfile)),
            ("detectMultiplier: 1", Rejects("detectMultiplier"), Some(RefusalReason::InvalidBFDProfile)),
            ("detectMultiplier: 256", Rejects("detectMultiplier"), Some(RefusalReason::InvalidBFDProfile)),
            ("minimumTtl: 0", Rejects("minimumTtl"), Some(RefusalReason::InvalidBFDProfile)),
            ("minimumTtl: 255", Rejects("minimumTtl"), Some(RefusalReason::InvalidBFDProfile)),
        ],
    );
}

#[test]
fn community_specs_are_validated() {
    let not_a_community = Rejects("a community must be");
    check(
        "Community",
        &[
            ("", Accepts, None),
            ("communities: [{name: a, value: '1:2'}, {name: b, value: 'large:1:2:3'}]", Accepts, None),
            (
                "communities: [{name: a, value: '1:65536'}]",
                not_a_community,
                Some(RefusalReason::InvalidCommunity),
            ),
            ("communities: [{name: a, value: no-export}, {name: b, value: 'rt:1:2'}]", Accepts, None),
            (
                "communities: [{name: a, value: 'soo:1:4294967296'}]",
                not_a_community,
                Some(RefusalReason::InvalidCommunity),
            ),
            ("communities: [{name: a, value: b}]", not_a_community, Some(RefusalReason::InvalidCommunity)),
            ("communities: [{name: a}]", Rejects("value"), Some(RefusalReason::InvalidCommunity)),
            ("communities: [{value: '1:2'}]", Rejects("name"), Some(RefusalReason::InvalidCommunity)),
            (
                "communities: [{name: 'a:b', value: '1:2'}]",
                Rejects("name"),
                Some(RefusalReason::InvalidCommunity),
            ),
            (
                "communities: [{name: a, value: '1:2'}, {name: a, value: '1:3'}]",
                Accepts,
                Some(RefusalReason::DuplicateCommunity),
            ),
        ],
    );
}
