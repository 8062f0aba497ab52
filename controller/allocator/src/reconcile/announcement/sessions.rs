//! The sessions of all speakers with one BGPPeer.

use std::fmt;

use fairlead_crds::conditions::NewCondition;
use fairlead_crds::names::{SESSIONS_ESTABLISHED, reasons};

/// The number of sessions with a BGPPeer. Displayed as `5/6`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerSessions {
    /// Sessions of live speakers that are established.
    pub established: usize,
    /// Speakers that should have a session.
    pub wanted: usize,
}

impl PeerSessions {
    /// Returns the condition of the BGPPeer, without the observed generation.
    pub fn condition(&self) -> NewCondition {
        let (status, reason, message) = match self {
            Self { wanted: 0, .. } => (false, reasons::NO_SPEAKER, "no speaker has a session with the peer"),
            _ if self.established == self.wanted => {
                (true, reasons::ALL_ESTABLISHED, "every session with the peer is established")
            }
            _ => (
                false,
                reasons::NOT_ESTABLISHED,
                "some sessions with the peer are not established: status.sessions of the Speaker objects \
                 contains their states and errors",
            ),
        };
        NewCondition::new(SESSIONS_ESTABLISHED, status, reason, message)
    }
}

impl fmt::Display for PeerSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.established, self.wanted)
    }
}
