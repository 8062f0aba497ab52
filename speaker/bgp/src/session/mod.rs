//! The BGP session (RFC 4271 §8): its functions for the shell. The documentation of the crate lists them.
//!
//! A [`Session`] is composed of parts with fields of their own: [`Timers`] and [`Jitter`], the [`Framer`] of
//! the incoming stream, the [`ReceiveRate`], the [`AdjRibOut`], and the [`SessionOutbox`] of messages other
//! than UPDATE. The state transitions, which coordinate the parts, are in `fsm.rs`; changes of the parameters
//! in `parameters.rs`; the selection of the next message to send in `transmit.rs`.

mod advertise;
mod bfd;
mod event;
mod family_status;
mod fsm;
mod next_hop;
mod open;
mod outbox;
mod parameters;
mod receive_rate;
mod second;
mod timers;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

pub(crate) use advertise::largest_update;
pub use event::{Negotiated, SessionEvent, SessionInput, SessionState, Statistics};
pub use family_status::{EXPECTED_PREFIXES, FamilyStatus};
pub use receive_rate::{MAX_MESSAGES_PER_SECOND, MAX_OCTETS_PER_SECOND};

use crate::message::framer::Framer;
use crate::rib::{AdjRibOut, RibCounts};
use crate::{
    Attributes, AttributesTooLarge, ConfigError, Family, NextHops, Notification, SessionConfig, Withheld,
};
use bfd::BfdGate;
use family_status::ReceivedRoutes;
use next_hop::RouteNextHop;
use open::Capabilities;
use outbox::SessionOutbox;
use receive_rate::ReceiveRate;
use second::SecondConnection;
use timers::{Jitter, Timer, Timers};

/// One peering with one router. The documentation of the crate shows the loop of a shell that drives it.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    jitter: Jitter,

    state: SessionState,
    /// True between ManualStart and ManualStop.
    started: bool,
    bfd: BfdGate,
    timers: Timers,
    /// Failures since the session was last stable (ConnectRetryCounter). It selects the wait before the next
    /// attempt.
    failures: usize,
    events: VecDeque<SessionEvent>,

    /// Address of the peer on the open connection.
    remote: Option<IpAddr>,
    next_hops: NextHops,
    framer: Framer,
    receive_rate: ReceiveRate,
    /// Whether our OPEN on the current connection contains capabilities.
    capabilities: Capabilities,
    /// Whether our OPEN on the next connection will.
    next_capabilities: Capabilities,
    negotiated: Option<Negotiated>,
    established_since: Option<Instant>,
    /// Until when the peer retains the routes of the connection that [`Session::reconfigure`] has closed.
    retained_until: Option<Instant>,

    rib: AdjRibOut,
    outbox: SessionOutbox,
    /// Another connection that the peer has opened, if the session is passive.
    second: Option<SecondConnection>,
    /// Messages for that connection, or the last message for one that ends.
    second_outbox: SessionOutbox,
    /// Families for which a route refresh is pending. As a set, it merges a flood of requests into one
    /// response, which is sent at most once per [`transmit::REFRESH_INTERVAL`].
    refresh: BTreeSet<Family>,
    /// Number of messages about other routes since the beginning of a route refresh, or its last message.
    overtaking: u32,
    /// True while the SendHoldTimer runs.
    send_blocked: bool,
    /// True if the peer accepted the connection and has not sent its OPEN in time.
    open_overdue: bool,
    /// True if the peer should prefer other paths to the routes (RFC 8326).
    graceful_shutdown: bool,
    /// The Cease to send after the withdrawals; set only while an established session is being stopped.
    cease: Option<Notification>,

    received: ReceivedRoutes,
    first_malformed: Option<String>,
    statistics: Statistics,
}

impl Session {
    /// Creates a session in Idle; [`SessionInput::ManualStart`] starts it. `seed` seeds the jitter of its
    /// timers.
    pub fn new(config: SessionConfig, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            jitter: Jitter::new(seed),
            state: SessionState::Idle,
            started: false,
            bfd: BfdGate::default(),
            timers: Timers::default(),
            failures: 0,
            events: VecDeque::new(),
            remote: None,
            next_hops: NextHops::default(),
            framer: Framer::default(),
            receive_rate: ReceiveRate::default(),
            capabilities: Capabilities::default(),
            next_capabilities: Capabilities::default(),
            negotiated: None,
            established_since: None,
            retained_until: None,
            rib: AdjRibOut::default(),
            outbox: SessionOutbox::default(),
            second: None,
            second_outbox: SessionOutbox::default(),
            refresh: BTreeSet::new(),
            overtaking: 0,
            send_blocked: false,
            open_overdue: false,
            graceful_shutdown: false,
            cease: None,
            received: ReceivedRoutes::default(),
            first_malformed: None,
            statistics: Statistics::default(),
        })
    }

    // ===== input and output =====

    /// Processes an input. After a pause of the process, pass in what the socket holds before calling
    /// [`Session::handle_timeout`], so that a KEEPALIVE received in time restarts the HoldTimer.
    pub fn handle_input(&mut self, now: Instant, input: SessionInput<'_>) {
        self.dispatch(now, input);
        self.start_send_hold_timer(now);
    }

    /// Processes all timers that expired by `now`. Does nothing if none expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_expired(now) {
            self.expired(now, timer);
        }
        self.receive_rate.handle_timeout(now);
        self.start_send_hold_timer(now);
    }

    /// Returns when to call [`Session::handle_timeout`] next. Every other call may change the result.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.receive_rate.poll_timeout()].into_iter().flatten().min()
    }

    /// Returns the next event for the shell.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Appends whole messages to `out` until `max` octets or more are appended. At least one message is
    /// appended if one is pending, so the total exceeds `max` by up to 65535 octets. Returns whether anything
    /// was appended.
    ///
    /// Pulled messages count as sent: call this only when the socket accepts bytes and all bytes pulled
    /// before are written.
    pub fn poll_transmit(&mut self, now: Instant, max: usize, out: &mut Vec<u8>) -> bool {
        let mut sent = self.transmit(now, max, out);
        if !sent && self.withdraws() {
            self.send_cease(now);
            sent = self.transmit(now, max, out);
        }
        self.start_send_hold_timer(now);
        sent
    }

    /// Returns the time before which the shell must not read from the connection: the peer sends more than
    /// [`MAX_MESSAGES_PER_SECOND`] or [`MAX_OCTETS_PER_SECOND`]. `None` if it may read at any time. TCP then
    /// slows the peer down. If the shell reads at most 64 KiB per turn, the pause is shorter than 0.4 s, so
    /// that a KEEPALIVE is still read within every hold time.
    #[must_use]
    pub fn read_after(&self) -> Option<Instant> {
        self.receive_rate.read_after()
    }

    // ===== routes =====

    /// Advertises a route whenever the session is established. It replaces an earlier route to the prefix;
    /// equal attributes send nothing. Host bits of the prefix are ignored.
    ///
    /// # Errors
    /// The attributes do not fit into an UPDATE. An earlier route to the prefix remains in place.
    pub fn announce(&mut self, prefix: IpNet, attributes: Arc<Attributes>) -> Result<(), AttributesTooLarge> {
        attributes.check_size()?;
        self.rib.table_mut(Family::of(&prefix)).announce(prefix.trunc(), attributes);
        Ok(())
    }

    /// Withdraws the route to a prefix. Does nothing if there is none.
    pub fn withdraw(&mut self, prefix: &IpNet) {
        self.rib.table_mut(Family::of(prefix)).withdraw(&prefix.trunc());
    }

    /// Sets whether the peer should prefer other paths to all routes of this session, because it or the node
    /// will soon be out of service (RFC 8326): the routes have the community GRACEFUL_SHUTDOWN, and towards
    /// iBGP peers LOCAL_PREF 0. Also applies to later connections.
    pub fn set_graceful_shutdown(&mut self, graceful_shutdown: bool) {
        if std::mem::replace(&mut self.graceful_shutdown, graceful_shutdown) != graceful_shutdown {
            self.resend_routes();
        }
    }

    /// Replaces the next hops of the current connection, and sends again the routes whose next hop changes.
    /// The next connection gets its next hops from [`SessionInput::Connected`].
    pub fn set_next_hops(&mut self, next_hops: NextHops) {
        let before = std::mem::replace(&mut self.next_hops, next_hops);
        let Some(negotiated) = self.negotiated().cloned() else { return };
        // A session that is being stopped only withdraws.
        if self.withdraws() {
            return;
        }
        for family in &negotiated.families {
            let table = self.rib.table_mut(*family);
            match (
                RouteNextHop::select(*family, before, &negotiated),
                RouteNextHop::select(*family, next_hops, &negotiated),
            ) {
                (before, after) if before == after => {}
                (Some(_), Some(_)) => table.mark_outdated(),
                (_, after) => table.set_blocked(after.is_none()),
            }
        }
    }

    // ===== status =====

    /// Returns the state of the FSM.
    #[must_use]
    pub const fn state(&self) -> SessionState {
        self.state
    }

    /// Returns whether the session was started and not stopped since. A session that is being stopped has not
    /// left [`SessionState::Established`] yet; it can be started again when it has.
    #[must_use]
    pub const fn is_started(&self) -> bool {
        self.started
    }

    /// Returns the negotiated parameters; `None` unless the session is established.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref().filter(|_| self.state == SessionState::Established)
    }

    /// Returns the error of the first malformed UPDATE on this connection whose routes were treated as
    /// withdrawn or ignored (RFC 7606 §6). It does not affect this speaker, but points to a defect of the
    /// peer.
    #[must_use]
    pub fn first_malformed(&self) -> Option<&str> {
        self.first_malformed.as_deref().filter(|_| self.state == SessionState::Established)
    }

    /// Returns whether the peer sends more than [`MAX_MESSAGES_PER_SECOND`] or [`MAX_OCTETS_PER_SECOND`], or
    /// did so in the last seconds.
    #[must_use]
    pub const fn exceeds_receive_rate(&self) -> bool {
        self.receive_rate.exceeded()
    }

    /// Returns whether the peer has announced more than [`EXPECTED_PREFIXES`] prefixes at a time on this
    /// connection.
    #[must_use]
    pub fn exceeds_expected_prefixes(&self) -> bool {
        self.state == SessionState::Established && self.received.exceeded()
    }

    /// Returns whether the peer accepted the connection, but has sent no OPEN for several seconds.
    #[must_use]
    pub const fn is_open_overdue(&self) -> bool {
        self.open_overdue
    }

    /// Returns whether the session is established without capabilities, because the peer refused them (RFC
    /// 5492 §3): it carries IPv4 unicast only.
    #[must_use]
    pub fn omits_capabilities(&self) -> bool {
        self.state == SessionState::Established && self.capabilities == Capabilities::Omitted
    }

    /// Returns the families with routes that are not advertised, and why. Empty unless the session is
    /// established.
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
            } else if RouteNextHop::select(family, self.next_hops, negotiated).is_none() {
                Some(Withheld::NoNextHop(family))
            } else {
                None
            }
        };
        Family::ALL.into_iter().filter_map(|family| Some((family, reason(family)?))).collect()
    }

    /// Returns the negotiated families, and what was sent and received of each. Empty unless the session is
    /// established.
    pub fn families(&self) -> impl Iterator<Item = (Family, FamilyStatus)> {
        let families = self.negotiated().into_iter().flat_map(|negotiated| &negotiated.families);
        families.map(|family| {
            let table = self.rib.table(*family);
            let received = self.received.family(*family);
            let status = FamilyStatus {
                sent: table.counts().sent,
                received: received.prefixes,
                end_of_rib_sent: table.is_end_of_rib_sent(),
                end_of_rib_received: received.end_of_rib,
            };
            (*family, status)
        })
    }

    /// Returns the number of prefixes to advertise.
    #[must_use]
    pub fn routes(&self) -> usize {
        self.counts().desired
    }

    /// Returns the number of prefixes that the peer has ("PfxSnt" in FRR).
    #[must_use]
    pub fn announced(&self) -> usize {
        self.counts().sent
    }

    /// Returns the number of prefixes that wait to be announced or withdrawn. At zero, an established session
    /// has sent everything.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.counts().queued
    }

    /// Returns whether the route to a prefix, or its withdrawal, waits to be sent. False for a route that the
    /// peer has already and is sent only as part of a route refresh.
    #[must_use]
    pub fn is_change_pending(&self, prefix: &IpNet) -> bool {
        self.rib.table(Family::of(prefix)).is_change_queued(&prefix.trunc())
    }

    #[allow(missing_docs)]
    #[must_use]
    pub const fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Returns whether the session is being stopped, and only withdraws.
    fn withdraws(&self) -> bool {
        self.cease.is_some() && !self.timers.is_running(Timer::Drain)
    }

    /// Queues all routes that the peer has, because an attribute that the session adds to them changed.
    fn resend_routes(&mut self) {
        let families = self.negotiated().map(|negotiated| negotiated.families.clone());
        families.iter().flatten().for_each(|family| self.rib.table_mut(*family).mark_outdated());
    }

    fn counts(&self) -> RibCounts {
        self.rib.table(Family::Ipv4Unicast).counts() + self.rib.table(Family::Ipv6Unicast).counts()
    }
}
