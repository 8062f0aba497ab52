//! Specs of BGPAdvertisements.

use fairlead_crds::resolve::RefusalReason;

use crate::Apply::{Accepts, Rejects};
use crate::check;

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
