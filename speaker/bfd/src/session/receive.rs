//! Reception of a Control packet: the steps of RFC 5880 §6.8.6 that need the session, in their order.

use std::time::Instant;

use super::Session;
use super::poll::PollResult;
use crate::{ControlPacket, Diagnostic, Discard, State};

impl Session {
    pub(super) fn receive(&mut self, arrived: Instant, packet: &ControlPacket) -> Result<(), Discard> {
        // "If the A bit is set and no authentication is in use …, the packet MUST be discarded."
        if packet.authentication_present {
            return Err(Discard::AuthenticationPresent);
        }
        // "Set bfd.RemoteDiscr …, bfd.RemoteState …, bfd.RemoteDemandMode …, bfd.RemoteMinRxInterval …"
        self.remote.handle_packet(arrived, packet);
        self.detection.handle_packet();
        // "If a Poll Sequence is being transmitted … and the Final (F) bit … is set, the Poll Sequence MUST
        // be terminated."
        match self.poll.handle_packet(packet.is_final) {
            PollResult::None => {}
            PollResult::Terminated => self.counters.polls += 1,
            PollResult::AllConfirmed => {
                self.counters.polls += 1;
                self.intervals.take_effect();
            }
        }
        // "Update the transmit interval …" and "the Detection Time": both are functions of the values above.
        if self.state == State::AdminDown {
            return Err(Discard::AdminDown);
        }
        self.change_state(arrived, packet.state);
        // Demand mode of the peer: `transmit_interval` decides whether periodic packets are sent.
        if packet.poll {
            self.transmitter.send_final(arrived);
        }
        Ok(())
    }

    /// The state machine (RFC 5880 §6.2), by the state in the received packet:
    ///
    /// ```text
    ///            Down                   Init, Up
    ///  Down ──────────────▶ Init ─────────────────▶ Up
    ///   │ ▲                  │                      │ ▲
    ///   │ └───── AdminDown ──┘                      │ │
    ///   │ └───── AdminDown, Down ───────────────────┘ │
    ///   └──────────────────── Init ───────────────────┘
    /// ```
    fn change_state(&mut self, at: Instant, received: State) {
        let signaled = Diagnostic::NEIGHBOR_SIGNALED_SESSION_DOWN;
        let (to, diagnostic) = match (self.state, received) {
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => (State::Down, signaled),
            (State::Down, State::Down) => (State::Init, self.local_diagnostic),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                (State::Up, Diagnostic::NONE)
            }
            _ => return,
        };
        self.set_state(at, to, diagnostic);
    }
}
