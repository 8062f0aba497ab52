//! Events of a session.

use std::time::{Duration, Instant};

use crate::{Diagnostic, State};

/// Change of a session that its users may act on or report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// bfd.SessionState changed.
    StateChanged {
        #[allow(missing_docs)]
        at: Instant,
        #[allow(missing_docs)]
        from: State,
        #[allow(missing_docs)]
        to: State,
        /// Reason for the change (bfd.LocalDiag). On a change to Down: 1 if no packet arrived in time, 3 if
        /// the peer went Down or AdminDown, 5 if the link lost its carrier.
        local_diagnostic: Diagnostic,
        /// bfd.RemoteSessionState. In a change to Down with diagnostic 3, [`State::AdminDown`] means that the
        /// operator of the peer disabled BFD there, which says nothing about the path (RFC 5882 §4.2).
        remote_state: State,
        /// Diagnostic in the last packet of the peer.
        remote_diagnostic: Diagnostic,
    },
    /// The Detection Time expired without a packet, but this process ran late at that time, and may itself
    /// have lost the packets. The session stays as it is for one more interval.
    OwnLateness {
        #[allow(missing_docs)]
        at: Instant,
        /// Time between the expiry and its processing.
        late_by: Duration,
        /// Time that the session waits for a packet before it goes Down.
        extended_by: Duration,
    },
    /// This process sent periodic packets late. The session announces a longer interval to the peer, so that
    /// the peer does not declare it Down.
    TransmitIntervalRaised {
        #[allow(missing_docs)]
        at: Instant,
        /// New bfd.DesiredMinTxInterval.
        desired_min_tx: Duration,
    },
    /// Packets left on time for 60 s; the session returns to the configured interval.
    TransmitIntervalRestored {
        #[allow(missing_docs)]
        at: Instant,
        /// New bfd.DesiredMinTxInterval.
        desired_min_tx: Duration,
    },
}
