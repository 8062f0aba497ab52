//! Specs of BFDProfiles.

use fairlead_crds::resolve::RefusalReason;

use crate::Apply::{Accepts, Rejects};
use crate::check;

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
