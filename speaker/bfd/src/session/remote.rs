//! What the peer reported in its last packet.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::{ControlPacket, Diagnostic, State};

/// Values of the peer. They are kept until a Detection Time passes without a packet, whatever the state of
/// the session (RFC 5880 §6.8.1).
#[derive(Debug)]
pub(super) struct Remote {
    /// bfd.RemoteDiscr.
    pub(super) discriminator: Option<NonZeroU32>,
    /// bfd.RemoteSessionState.
    pub(super) state: State,
    /// Of the last packet; kept for the operator also after the peer is lost.
    pub(super) diagnostic: Diagnostic,
    /// bfd.RemoteDemandMode.
    pub(super) demand: bool,
    /// bfd.RemoteMinRxInterval.
    pub(super) required_min_rx: Duration,
    pub(super) desired_min_tx: Duration,
    pub(super) detect_multiplier: u8,
    /// Arrival of the last packet.
    last_received: Option<Instant>,
}

impl Default for Remote {
    fn default() -> Self {
        Self {
            discriminator: None,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            demand: false,
            required_min_rx: Duration::from_micros(1),
            desired_min_tx: Duration::ZERO,
            detect_multiplier: 0,
            last_received: None,
        }
    }
}

impl Remote {
    pub(super) fn handle_packet(&mut self, arrived: Instant, packet: &ControlPacket) {
        *self = Self {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            demand: packet.demand,
            required_min_rx: packet.required_min_rx,
            desired_min_tx: packet.desired_min_tx,
            detect_multiplier: packet.detect_multiplier,
            // Packets of several sockets may be out of order.
            last_received: self.last_received.max(Some(arrived)),
        };
    }

    /// Resets the values: a Detection Time passed without a packet.
    pub(super) fn forget(&mut self) {
        *self = Self { diagnostic: self.diagnostic, last_received: self.last_received, ..Self::default() };
    }

    pub(super) const fn last_received(&self) -> Option<Instant> {
        self.last_received
    }
}
