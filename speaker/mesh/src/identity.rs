//! [`Identity`]: one run of one speaker.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// One run of one speaker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Node name; unique among speakers.
    pub node: String,
    /// Address on which the mesh socket listens.
    pub address: SocketAddr,
    /// Grows with every start of the speaker, so that a restarted speaker replaces its previous run.
    /// Milliseconds of the wall clock meet this.
    pub generation: u64,
}

/// Added to `generation` when other members consider this speaker dead or have seen a higher generation of
/// it. One hour in milliseconds: a few renewals make up for a clock that was set back.
const RENEWAL: u64 = 3_600_000;

impl foca::Identity for Identity {
    type Addr = String;

    fn renew(&self) -> Option<Self> {
        Some(Self { generation: self.generation.checked_add(RENEWAL)?, ..self.clone() })
    }

    fn addr(&self) -> String {
        self.node.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}
