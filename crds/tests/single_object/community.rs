//! Specs of Communities.

use fairlead_crds::resolve::RefusalReason;

use crate::Apply::{Accepts, Rejects};
use crate::check;

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
