//! Who a speaker is.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A speaker: the node it runs on, where it listens, and which life of it this is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Node name; two speakers never share one.
    pub node: String,
    /// Where its mesh socket listens.
    pub address: SocketAddr,
    /// Grows with every start of the speaker (milliseconds of the wall clock are fine), so that a speaker
    /// that comes back wins over what is remembered of it.
    pub bump: u64,
}

/// What a speaker adds to `bump` when others hold it for dead or know a newer life of it: an hour in
/// milliseconds, so that a clock that was set back is made up for in a few steps.
const RENEWAL: u64 = 3_600_000;

impl foca::Identity for Identity {
    type Addr = String;

    fn renew(&self) -> Option<Self> {
        Some(Self { bump: self.bump.checked_add(RENEWAL)?, ..self.clone() })
    }

    fn addr(&self) -> String {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.bump > adversary.bump
    }
}
