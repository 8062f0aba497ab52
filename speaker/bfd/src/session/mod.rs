//! The session: its functions for the shell, and the state variables of RFC 5880 §6.8.1.

mod event;
mod view;

use std::num::NonZeroU32;
use std::time::Instant;

pub use event::Event;
pub use view::{Counters, View};

use crate::packet::PACKET_LENGTH;
use crate::{ConfigError, ControlPacket, Diagnostic, Discard, SessionConfig, State};

/// One BFD session. [`crate::Sessions`] is a table of them.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    local_discriminator: NonZeroU32,
}

impl Session {
    /// Creates a session in state Down. `seed` seeds the jitter of its timer.
    ///
    /// # Errors
    /// The configuration exceeds the limits of the protocol.
    pub fn new(
        config: SessionConfig,
        local_discriminator: NonZeroU32,
        now: Instant,
        seed: u64,
    ) -> Result<Self, ConfigError> {
        let _ = (now, seed);
        config.validate()?;
        Ok(Self { config, local_discriminator })
    }

    /// Processes a packet of this session (RFC 5880 §6.8.6). `arrived` is the time at which the kernel
    /// received it, and may precede times passed in before: the Detection Time starts at the arrival.
    ///
    /// # Errors
    /// The session is in AdminDown, and learned no more than the values of the packet.
    pub fn handle_packet(&mut self, arrived: Instant, packet: &ControlPacket) -> Result<(), Discard> {
        let _ = (arrived, packet);
        Ok(())
    }

    /// Processes all timers that expired by `now`, except the transmission of packets. First pass in the
    /// packets that arrived by `now`. If this call is late by more than half an interval, the session extends
    /// the Detection Time once by one interval ([`Event::OwnLateness`]).
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Returns when to call [`Session::handle_timeout`] and [`Session::poll_transmit`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Returns the next packet to send by `now`. Call it until it returns `None`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<[u8; PACKET_LENGTH]> {
        let _ = now;
        None
    }

    /// Returns the next event, in order of occurrence.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Replaces the parameters. The session stays in its state and announces changed intervals to the peer by
    /// a Poll Sequence (RFC 5880 §6.8.3).
    ///
    /// # Errors
    /// The configuration exceeds the limits of the protocol; the previous one stays in force.
    pub fn set_config(&mut self, now: Instant, config: SessionConfig) -> Result<(), ConfigError> {
        let _ = now;
        config.validate()?;
        self.config = config;
        Ok(())
    }

    /// Disables the session (RFC 5880 §6.8.16). It sends three packets in AdminDown at once, and then one a
    /// second. [`Session::admin_down_announced`] returns true after the three.
    pub fn admin_down(&mut self, now: Instant, diagnostic: Diagnostic) {
        let _ = (now, diagnostic);
    }

    /// Enables a session that is in AdminDown; it continues in Down.
    pub fn admin_up(&mut self, now: Instant) {
        let _ = now;
    }

    /// Returns whether the session is in AdminDown and has sent that state three times, or there is no peer
    /// to send it to. The shell may then close its socket.
    #[must_use]
    pub fn admin_down_announced(&self) -> bool {
        true
    }

    /// Takes the session Down with diagnostic 5, Path Down, because its link has no carrier.
    pub fn carrier_lost(&mut self, now: Instant) {
        let _ = now;
    }

    /// Returns bfd.SessionState.
    #[must_use]
    pub fn state(&self) -> State {
        State::Down
    }

    /// Returns bfd.LocalDiscr.
    #[must_use]
    pub const fn local_discriminator(&self) -> NonZeroU32 {
        self.local_discriminator
    }
}
