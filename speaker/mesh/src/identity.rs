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
    /// Grows with every start of the speaker (milliseconds of the wall clock are fine), so that a speaker that comes
    /// back wins over what is remembered of it.
    pub bump: u64,
}

impl foca::Identity for Identity {
    type Addr = String;

    fn renew(&self) -> Option<Self> {
        Some(Self { bump: self.bump.checked_add(1)?, ..self.clone() })
    }

    fn addr(&self) -> String {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.bump > adversary.bump
    }
}
