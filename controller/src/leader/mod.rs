//! Leader election: of several controllers, only the holder of the Lease
//! [`CONTROLLER_LEASE`](fairlead_crds::names::CONTROLLER_LEASE) writes.
//!
//! `Elector` is the protocol without I/O and without a clock: it returns the next request for the API server
//! and the instant until which this process leads. [`Election`] runs it: it owns the connection, the timers
//! and the channel on which leadership is published.
//!
//! # States
//!
//! ```text
//!               write succeeds in time (Lease was free, expired or already held by this process)
//!               +---------------------------------------------------------------+
//!               |                                                               v
//!        +-----------+                                                     +---------+ --+ renewal succeeds:
//! start->| Following |<----------------------------------------------------| Leading |   | `until` moves on
//!        +-----------+   `until` passes, or the Lease names another holder +---------+ <-+
//!          |  ^     |    or no longer exists                                    |
//!          +--+     |                                                           |
//!      Get: another | release()                                                 | release()
//!      holder       v                                                           v
//!        +-----------------------------------------------------------------------------+
//!        | Releasing: a Lease that may name this process is read, then written without |
//!        |            a holder                                                         |
//!        +-----------------------------------------------------------------------------+
//!                   | the Lease does not name this process, or half the renew deadline has passed
//!                   v
//!               finished
//! ```
//!
//! # Why two processes never lead at the same time
//!
//! - A leader leads until one renew deadline after it *sent* the last renewal that succeeded. That instant is
//!   fixed in advance, so a leader that is cut off or was suspended finds that its term is over without
//!   receiving anything.
//! - Another process acquires the Lease only after it has observed the same record for the lease duration
//!   that the holder announced, measured by its own monotonic clock. It observes a record after the holder
//!   sent it, and the lease duration is longer than the renew deadline. If the holder was an earlier process
//!   of the same pod, which has certainly exited, the wait is only the difference of the two. Clocks of
//!   different machines are never compared; they only have to run at about the same rate.
//! - Every write names the resourceVersion that was read, so if two processes try to acquire the Lease, one
//!   of them gets a conflict.
//!
//! The remaining window is the time between a check of [`Leadership`] and the arrival of a status write. The
//! lease duration exceeds the renew deadline to leave time for that, and every status write names the
//! resourceVersion on which it was decided.

mod election;
mod elector;
mod lease;
mod timing;

#[cfg(test)]
mod tests;

use std::time::Instant;

pub use election::{Candidate, Election};
pub(crate) use elector::{
    Elector, LeaseRecord, LeaseRequest, LeaseResponse, LeaseSnapshot, LeaseUpdate, TimedRequest,
};
pub use timing::{Timing, TimingError};

/// The permission of this process to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It may not write.
    Standby {
        /// Holder in the last observed Lease, if it has one. It is this process if its own lease has expired.
        holder: Option<String>,
    },
    /// It may not write, and no controller can lead: the namespace of the Lease does not exist.
    NoNamespace,
    /// It may write until `until`.
    Leading {
        /// End of the term unless a renewal extends it. Nothing is published when it passes: call
        /// [`Leadership::leads`] before each write.
        until: Instant,
        /// Number of terms of this process so far, this one included. Between two terms, another process may
        /// have led.
        term: u64,
    },
}

impl Leadership {
    /// Returns whether this process may write at `now`.
    pub fn leads(&self, now: Instant) -> bool {
        self.term(now).is_some()
    }

    /// Returns the number of the current term, or `None` if this process does not lead at `now`.
    pub fn term(&self, now: Instant) -> Option<u64> {
        match self {
            Self::Leading { until, term } if now < *until => Some(*term),
            _ => None,
        }
    }
}
