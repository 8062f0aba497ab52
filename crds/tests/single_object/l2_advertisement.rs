//! Specs of L2Advertisements.

use fairlead_crds::resolve::RefusalReason;

use crate::Apply::{Accepts, Rejects};
use crate::check;

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
            ("onConflict: Yield", Accepts, None),
            ("onConflict: Fight", Rejects("onConflict"), Some(RefusalReason::InvalidOnConflict)),
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
