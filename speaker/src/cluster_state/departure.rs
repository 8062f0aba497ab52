//! Why a node remains without a speaker.

use std::fmt;

use fairlead_crds::store::ObjectChange;
use fairlead_plan::DrainCause;

/// What is known of the DaemonSet of the speakers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DaemonSetState {
    /// It was never seen: the speakers may run without it.
    #[default]
    Unknown,
    Present,
    Deleted,
}

impl DaemonSetState {
    /// Handles a change of the DaemonSet. The values are whether it is being deleted.
    pub(super) fn handle_change(&mut self, change: ObjectChange<bool>) {
        let deleted = match change {
            ObjectChange::Apply(deleted) => deleted,
            ObjectChange::Reset(all) => match all.first() {
                Some(deleted) => *deleted,
                None if *self == Self::Unknown => return,
                None => true,
            },
            ObjectChange::Delete(_) => true,
            ObjectChange::Missing => return,
        };
        *self = if deleted { Self::Deleted } else { Self::Present };
    }
}

/// Why a node remains without a speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Departure {
    /// The node is being drained.
    Node(DrainCause),
    /// The DaemonSet of the speakers was deleted.
    DaemonSetDeleted,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(cause) => cause.fmt(f),
            Self::DaemonSetDeleted => f.write_str("the DaemonSet of the speakers was deleted"),
        }
    }
}
