//! Specs of IPAddressPools.

use fairlead_crds::resolve::RefusalReason;

use crate::Apply::{Accepts, Rejects};
use crate::check;

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
