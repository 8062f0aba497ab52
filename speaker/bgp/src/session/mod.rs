//! The session: FSM, timers and what to send (RFC 4271 §8).

mod event;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

pub use event::{Event, Negotiated, SessionEvent, State, Statistics};

use crate::{
    Attributes, AttributesTooLarge, ConfigError, DownReason, Family, NextHops, SessionConfig, Withheld,
};

/// One peering. See the crate's page for how a shell drives it.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
}

impl Session {
    /// A session in Idle; [`Event::ManualStart`] starts it. `seed` feeds the jitter of its timers.
    pub fn new(config: SessionConfig, seed: u64) -> Result<Self, ConfigError> {
        let _ = seed;
        config.validate()?;
        Ok(Self { config })
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Instant, event: Event<'_>) {
        let _ = (now, event);
    }

    /// Takes in that time passed. Harmless when no timer is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`Session::handle_timeout`] wants to be called next. Ask after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// What the shell must do or know next.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        None
    }

    /// Appends whole messages to `out` until it holds about `max` octets (one message at least, so up to 65535 more), and
    /// tells whether anything was appended. What was pulled counts as sent, so call it only when the socket takes
    /// bytes and the last portion is written.
    pub fn poll_transmit(&mut self, now: Instant, max: usize, out: &mut Vec<u8>) -> bool {
        let _ = (now, max, out);
        false
    }

    /// From now on the peer should know this route, whenever the session is up. Replaces what was said of the
    /// prefix before (host bits are cleared); costs nothing when nothing changes.
    pub fn announce(&mut self, prefix: IpNet, attributes: Arc<Attributes>) -> Result<(), AttributesTooLarge> {
        let _ = (prefix, attributes);
        Ok(())
    }

    /// From now on the peer should not know this prefix.
    pub fn withdraw(&mut self, prefix: &IpNet) {
        let _ = prefix;
    }

    /// Announces these routes and withdraws all others. On an error nothing has changed.
    pub fn set_routes(
        &mut self,
        routes: impl IntoIterator<Item = (IpNet, Arc<Attributes>)>,
    ) -> Result<(), AttributesTooLarge> {
        routes.into_iter().try_for_each(|(prefix, attributes)| self.announce(prefix, attributes))
    }

    /// The addresses under which the peer reaches this node have changed; routes are sent again where that matters.
    pub fn set_next_hops(&mut self, next_hops: NextHops) {
        let _ = next_hops;
    }

    /// State of the FSM.
    #[must_use]
    pub fn state(&self) -> State {
        State::Idle
    }

    /// What was agreed, while the session is established.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        None
    }

    /// Since when the session is established.
    #[must_use]
    pub fn established_since(&self) -> Option<Instant> {
        None
    }

    /// Why the session went down last.
    #[must_use]
    pub fn last_down(&self) -> Option<&DownReason> {
        None
    }

    /// Families that have routes which the peer does not get, and why. Empty while the session is not established.
    #[must_use]
    pub fn withheld(&self) -> BTreeMap<Family, Withheld> {
        BTreeMap::new()
    }

    /// How many prefixes should be announced.
    #[must_use]
    pub fn routes(&self) -> usize {
        0
    }

    /// How many prefixes the peer has been told.
    #[must_use]
    pub fn announced(&self) -> usize {
        0
    }

    /// How many prefixes wait to be announced or withdrawn. Zero on an established session means: the peer
    /// has been told everything.
    #[must_use]
    pub fn pending(&self) -> usize {
        0
    }

    /// Counters.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        const ZERO: Statistics = Statistics {
            opens_sent: 0,
            opens_received: 0,
            updates_sent: 0,
            updates_received: 0,
            keepalives_sent: 0,
            keepalives_received: 0,
            notifications_sent: 0,
            notifications_received: 0,
            route_refreshes_received: 0,
            prefixes_announced: 0,
            prefixes_withdrawn: 0,
            prefixes_received: 0,
            withdrawals_received: 0,
            updates_malformed: 0,
            established: 0,
            dropped: 0,
        };
        &ZERO
    }

    /// What the session was made with.
    #[must_use]
    pub fn config(&self) -> &SessionConfig {
        &self.config
    }
}
