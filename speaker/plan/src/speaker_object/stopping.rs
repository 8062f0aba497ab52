//! The last writes of a speaker that stops.

use fairlead_crds::stopped_speaker;
use jiff::Timestamp;

use super::{SpeakerObject, SpeakerWrite};

/// How far a speaker is that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopPhase {
    /// It withdraws its announcements.
    Stopping,
    /// It announces nothing, and all sessions have ended.
    Stopped {
        /// True if it is expected to start again.
        is_expected: bool,
    },
}

impl SpeakerObject {
    /// Returns the write of a speaker that stops, which does not wait for the interval. Returns `None` if
    /// there is no object: this process has not written it, or it was deleted since.
    pub fn stop(&mut self, phase: StopPhase, time: Timestamp) -> Option<SpeakerWrite> {
        let before = self.written.status.as_ref()?;
        let status = match phase {
            StopPhase::Stopping => stopped_speaker::stopping(before, time),
            StopPhase::Stopped { is_expected } => stopped_speaker::stopped(before, is_expected, time),
        };
        let patch = self.status_patch(&status);
        self.written.status = Some(status);
        Some(SpeakerWrite { object: None, status: Some(patch) })
    }
}
