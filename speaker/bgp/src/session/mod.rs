//! The session: FSM, timers and what to send (RFC 4271 §8).

mod advertise;
mod event;
mod fsm;
mod next_hop;
mod open;
mod outbox;
mod timers;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

pub use event::{Negotiated, SessionEvent, SessionInput, SessionState, Statistics};

use crate::message::framer::Framer;
use crate::rib::{AdjRibOut, RibCounts};
use crate::{
    Attributes, AttributesTooLarge, ConfigError, Family, NextHops, Notification, SessionConfig, Withheld,
};
use next_hop::RouteNextHop;
use outbox::SessionOutbox;
use timers::{Jitter, Timers};

/// One peering. See the crate's page for how a shell drives it.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    dice: Jitter,

    state: SessionState,
    /// Between ManualStart and ManualStop.
    started: bool,
    timers: Timers,
    /// Failures since the session was last stable (ConnectRetryCounter).
    connect_retry_counter: u32,
    events: VecDeque<SessionEvent>,

    /// The peer's end of the open connection.
    remote: Option<IpAddr>,
    next_hops: NextHops,
    framer: Framer,
    negotiated: Option<Negotiated>,
    established_since: Option<Instant>,

    rib: AdjRibOut,
    outbox: SessionOutbox,
    /// Families the peer wants again; a set, so that a flood of requests costs one answer.
    refresh: BTreeSet<Family>,
    /// The SendHoldTimer runs.
    send_blocked: bool,
    /// The Cease that follows the withdrawals of a session that is being stopped.
    cease: Option<Notification>,

    last_malformed: Option<String>,
    statistics: Statistics,
}

impl Session {
    /// A session in Idle; [`SessionInput::ManualStart`] starts it. `seed` feeds the jitter of its timers.
    pub fn new(config: SessionConfig, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            dice: Jitter::new(seed),
            state: SessionState::Idle,
            started: false,
            timers: Timers::default(),
            connect_retry_counter: 0,
            events: VecDeque::new(),
            remote: None,
            next_hops: NextHops::default(),
            framer: Framer::default(),
            negotiated: None,
            established_since: None,
            rib: AdjRibOut::default(),
            outbox: SessionOutbox::default(),
            refresh: BTreeSet::new(),
            send_blocked: false,
            cease: None,
            last_malformed: None,
            statistics: Statistics::default(),
        })
    }

    // ===== the doors =====

    /// Takes in what happened. After a pause, hand over what the socket holds before calling
    /// [`Session::handle_timeout`]: a keepalive that waits there counts.
    pub fn handle_input(&mut self, now: Instant, input: SessionInput<'_>) {
        self.dispatch(now, input);
        self.start_send_hold_timer(now);
    }

    /// Takes in that time passed. Harmless when no timer is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_expired(now) {
            self.expired(now, timer);
        }
        self.start_send_hold_timer(now);
    }

    /// When [`Session::handle_timeout`] wants to be called next. Ask after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// What the shell must do or know next.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Appends whole messages to `out` until `max` octets or more are appended (one message at least, so up to 65535
    /// more), and tells whether anything was. What was pulled counts as sent, so call it only when the socket
    /// takes bytes and the last portion is written.
    pub fn poll_transmit(&mut self, now: Instant, max: usize, out: &mut Vec<u8>) -> bool {
        let mut sent = self.transmit(now, max, out);
        if !sent && self.cease.is_some() {
            self.send_cease(now);
            sent = self.transmit(now, max, out);
        }
        self.start_send_hold_timer(now);
        sent
    }

    // ===== what the peer should know =====

    /// From now on the peer should know this route, whenever the session is up. Replaces what was said of the
    /// prefix before (host bits are cleared); costs nothing when nothing changes.
    pub fn announce(&mut self, prefix: IpNet, attributes: Arc<Attributes>) -> Result<(), AttributesTooLarge> {
        attributes.check_size()?;
        self.rib.table_mut(Family::of(&prefix)).announce(prefix.trunc(), attributes);
        Ok(())
    }

    /// From now on the peer should not know this prefix.
    pub fn withdraw(&mut self, prefix: &IpNet) {
        self.rib.table_mut(Family::of(prefix)).withdraw(&prefix.trunc());
    }

    /// The addresses under which the peer reaches this node have changed; routes are sent again where that matters.
    /// Without a connection there is nothing to change: [`SessionInput::Connected`] brings them.
    pub fn set_next_hops(&mut self, next_hops: NextHops) {
        let before = std::mem::replace(&mut self.next_hops, next_hops);
        let Some(negotiated) = self.negotiated().cloned() else { return };
        if self.cease.is_some() {
            return;
        }
        for family in &negotiated.families {
            let table = self.rib.table_mut(*family);
            match (
                RouteNextHop::of(*family, before, &negotiated),
                RouteNextHop::of(*family, next_hops, &negotiated),
            ) {
                (before, after) if before == after => {}
                (Some(_), Some(_)) => table.resend(),
                (_, after) => table.set_mode(after.is_none()),
            }
        }
    }

    // ===== what an operator asks =====

    /// State of the FSM.
    #[must_use]
    pub const fn state(&self) -> SessionState {
        self.state
    }

    /// What was agreed, while the session is established.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref().filter(|_| self.state == SessionState::Established)
    }

    /// What was wrong with the last inbound UPDATE whose routes could not be believed. Nothing for us is lost with
    /// it, but the peer's operator will want to know.
    #[must_use]
    pub fn last_malformed(&self) -> Option<&str> {
        self.last_malformed.as_deref()
    }

    /// Families that have routes which the peer does not get, and why. Empty while the session is not established.
    #[must_use]
    pub fn withheld(&self) -> BTreeMap<Family, Withheld> {
        let Some(negotiated) = self.negotiated() else { return BTreeMap::new() };
        let reason = |family: Family| {
            if self.rib.table(family).counts().desired == 0 {
                None
            } else if !self.config.families.contains(&family) {
                Some(Withheld::NotConfigured(family))
            } else if !negotiated.families.contains(&family) {
                Some(Withheld::NotNegotiated(family))
            } else if RouteNextHop::of(family, self.next_hops, negotiated).is_none() {
                Some(Withheld::NoNextHop(family))
            } else {
                None
            }
        };
        Family::ALL.into_iter().filter_map(|family| Some((family, reason(family)?))).collect()
    }

    /// How many prefixes should be announced.
    #[must_use]
    pub fn routes(&self) -> usize {
        self.counts().desired
    }

    /// How many prefixes the peer has been told.
    #[must_use]
    pub fn announced(&self) -> usize {
        self.counts().sent
    }

    /// How many prefixes wait to be announced or withdrawn. Zero means: the peer, if there is one, has been
    /// told all it can be told.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.counts().queued
    }

    /// Counters.
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    fn counts(&self) -> RibCounts {
        self.rib.table(Family::Ipv4Unicast).counts() + self.rib.table(Family::Ipv6Unicast).counts()
    }
}
