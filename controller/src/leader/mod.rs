//! Leadership: of several controllers one writes, the one that holds a Lease.
//!
//! [`Elector`] decides, without I/O and without a clock: what to ask of the API server next, and until when we lead.
//! [`Election`] is its shell. Why two never lead at a time:
//!
//! - A leader leads until its renew deadline has passed since it *sent* the last renewal that was answered. That instant
//!   is known in advance: a leader that hears nothing, or that was stopped and goes on, finds that it is over.
//! - Another takes the Lease only after it has seen the same record for as long as the holder announced, by its own
//!   monotonic clock. It saw that record after it was sent, and what is announced is longer than the renew deadline.
//!   Only where the holder is known to be dead, an earlier process of the same pod, it waits for no more than the
//!   difference of the two.
//!   Clocks of different machines are never compared; they need only run about equally fast.
//! - Every write names the resourceVersion that was read, so of two that take the Lease one fails.
//!
//! What is left to who writes: the time between the look at [`Leadership`] and the arrival of the write. The lease is
//! longer than the renew deadline to leave time for that, and every write of ours names the resourceVersion that it was
//! decided on.

mod election;
mod elector;
mod timing;

#[cfg(test)]
mod tests;

use std::time::Instant;

pub use election::{Candidate, Election};
pub use elector::{Answer, Elector, Order, Record, Request, Seen, Spec};
pub use timing::{Timing, TimingError};

/// Name of the Lease, in Fairlead's namespace.
pub const LEASE: &str = "fairlead-controller";

/// Whether this process may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It may not.
    Standby {
        /// Who is named in the Lease as last seen, if anybody. It may be this process, when its lease ran out.
        holder: Option<String>,
    },
    /// It may, for a while.
    Leading {
        /// Here it ends unless it is extended. Nobody has to say so: ask [`Leadership::leads`] before each write.
        until: Instant,
        /// How often this process has gained leadership, this time included. With a new number, another may have led
        /// in between.
        term: u64,
    },
}

impl Leadership {
    /// Whether this process may write at this instant.
    pub fn leads(&self, now: Instant) -> bool {
        self.term(now).is_some()
    }

    /// The term in which this process leads at this instant.
    pub fn term(&self, now: Instant) -> Option<u64> {
        match self {
            Self::Leading { until, term } if now < *until => Some(*term),
            _ => None,
        }
    }
}
