//! The changes that are written without the delay of a large status.

use super::{MeshEndpoint, SpeakerReport};
use crate::{DrainPhase, NotAnnouncedReason};

/// The part of the object on which other programs act, or for which operators wait. A change of it is written
/// after the shortest interval.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Urgent {
    node_uid: Option<String>,
    mesh: Option<MeshEndpoint>,
    ready: bool,
    node: Option<NotAnnouncedReason>,
    drain: Option<DrainPhase>,
    has_conflicts: bool,
}

impl Urgent {
    pub(super) fn of(report: &SpeakerReport) -> Self {
        Self {
            node_uid: report.node_uid.clone(),
            mesh: report.mesh.clone(),
            ready: report.summary.ready,
            node: report.summary.node,
            drain: report.summary.drain.map(|(_, phase)| phase),
            has_conflicts: report.summary.conflict_count > 0,
        }
    }

    /// Returns true if this must be written after the shortest interval. `written` is what was written last.
    pub(super) fn is_due(&self, written: Option<&Self>) -> bool {
        // During a drain, an operator waits for the condition `Drained`.
        self.drain.is_some() || written != Some(self)
    }
}
