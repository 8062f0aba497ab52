//! Which addresses the speakers announce: the condition `fairlead.dev/Advertised` of Services, and the
//! sessions with each BGPPeer.
//!
//! In: the `Speaker` objects, trimmed to [`ObservedSpeaker`]. `Speakers` counts for each range of addresses
//! how many live speakers announce it, so that the cost of a change of one `Speaker` is the difference of its
//! lists. A move of an address from one node to another changes a count, and no Service is evaluated.
//! Out: `SpeakerChange`, which names what must be evaluated again, and the `Verdict` on the addresses of
//! a Service.

mod hold;
mod obstacle;
mod range_counts;
mod session_reports;
mod sessions;
mod speaker;
mod speakers;
#[cfg(test)]
mod tests;
mod verdict;

pub(super) use hold::Hold;
pub use session_reports::SessionReports;
pub use sessions::PeerSessions;
pub use speaker::ObservedSpeaker;
pub(super) use speakers::{SpeakerChange, Speakers};
pub(super) use verdict::{Coverage, Verdict};
