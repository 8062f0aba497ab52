//! The Poll Sequence (RFC 5880 §6.5): announces a change until the peer confirms it.

/// At most one Poll Sequence is in progress. A change that is made meanwhile starts another one, as the Final
/// of the first may answer a packet from before that change. The second starts after a packet with the F bit
/// clear, so that a duplicate of the first Final does not terminate it (RFC 5880 §6.8.3, choice 3).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum PollSequence {
    /// None is in progress, and one may start.
    #[default]
    Idle,
    /// Packets have the P bit.
    Active {
        /// True if another must follow.
        again: bool,
    },
    /// The last one terminated; none may start before a packet with the F bit clear.
    Settling {
        /// True if another must follow.
        again: bool,
    },
}

impl PollSequence {
    /// Starts a Poll Sequence, or another one after the current one.
    pub(super) const fn request(&mut self) {
        *self = match self {
            Self::Idle => Self::Active { again: false },
            Self::Active { .. } => Self::Active { again: true },
            Self::Settling { .. } => Self::Settling { again: true },
        };
    }

    pub(super) const fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }

    /// Processes the F bit of a received packet.
    pub(super) const fn handle_packet(&mut self, is_final: bool) -> PollResult {
        match *self {
            Self::Active { again } if is_final => {
                *self = Self::Settling { again };
                if again { PollResult::Terminated } else { PollResult::AllConfirmed }
            }
            Self::Settling { again } if !is_final => {
                *self = if again { Self::Active { again: false } } else { Self::Idle };
                PollResult::None
            }
            _ => PollResult::None,
        }
    }
}

/// Effect of a received packet on the Poll Sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PollResult {
    /// It did not terminate one.
    None,
    /// It terminated one, and another follows.
    Terminated,
    /// It terminated one, and the peer knows all current values.
    AllConfirmed,
}
