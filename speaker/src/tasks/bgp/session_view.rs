//! The view of a BGP session in the `Speaker` object and in the log. Contains no I/O.

use std::collections::BTreeSet;

use fairlead_bgp::{DownReason, Family, FamilyStatus, Negotiated, Session, Withheld};
use fairlead_crds::model::config::Peer;
use fairlead_crds::v1beta1::{BFDSession, NegotiatedSession, SessionFamily};
use fairlead_plan::node_status::{Series, SessionPhase, SessionView, rounded};
use jiff::Timestamp;

/// Message about a peer above [`fairlead_bgp::MAX_MESSAGES_PER_SECOND`] or
/// [`fairlead_bgp::MAX_OCTETS_PER_SECOND`].
pub(super) const FLOOD: &str = "the router sends more than 10000 messages or 1 MiB per second: this node reads no \
    faster than that; filter the routes that the router sends to this node, and look for a routing loop";

/// Message about a peer above [`fairlead_bgp::EXPECTED_PREFIXES`].
const PREFIXES: &str = "the router announces more than 1000 prefixes, and this node discards all routes that it \
    receives: filter the routes that the router sends to this node";

/// Message about a session without capabilities.
const NO_CAPABILITIES: &str = "the router refused capabilities (NOTIFICATION 2/4): the session carries IPv4 routes \
    only, without four-octet AS numbers, route refresh and graceful restart";

/// Message about a link with several routers.
pub(super) const OTHER_ROUTERS: &str = "several routers advertise on the link of this unnumbered session, which uses \
    one of them: use a link with one router, or set peerAddress to the link-local address of the router";

/// Message about a session that `shutdown` of the BGPPeer ends.
const SHUTDOWN: &str = "Shutdown by configuration: shutdown of the BGPPeer is true; set it to false to open the \
    session";

/// Returns a message about capabilities of the router that cannot be parsed.
fn malformed_capabilities(codes: &BTreeSet<u8>) -> Option<String> {
    let name = |code: &u8| match code {
        2 => "2 (route refresh)".to_owned(),
        5 => "5 (extended next hop)".to_owned(),
        6 => "6 (extended messages)".to_owned(),
        64 => "64 (graceful restart)".to_owned(),
        70 => "70 (enhanced route refresh)".to_owned(),
        code => code.to_string(),
    };
    let names: Vec<_> = codes.iter().map(name).collect();
    (!names.is_empty()).then(|| {
        format!(
            "the router offers capabilities with an invalid length: {}; the session works as if they were not \
             offered",
            names.join(", ")
        )
    })
}

/// Returns a message about a malformed UPDATE of the router.
fn malformed_update(error: &str) -> String {
    format!(
        "the router sent a malformed UPDATE: {error}; the session remains, because this node discards all routes \
         that it receives: check the software of the router"
    )
}

/// Message about a router that is silent after the TCP handshake.
fn no_open(peer: &Peer) -> String {
    if peer.passive {
        return "the router has connected, but sends no OPEN: check that packets of this size and TTL arrive from it"
            .to_owned();
    }
    let ttl = if peer.ttl_security.is_some() { " and sends packets with TTL 255 (ttlSecurity)" } else { "" };
    format!(
        "the router accepted the TCP connection, but sends no OPEN: check that it has this node as a \
         neighbor{ttl}"
    )
}

/// The view of one session, with what was published last.
#[derive(Debug, Default)]
pub(super) struct SessionViewState {
    view: SessionView,
    published: Option<SessionView>,
    /// True if the router connects to this node.
    is_passive: bool,
    /// The last text of [`SessionViewState::handle_not_accepted`].
    not_accepted: Option<String>,
    /// True if the last error ended an established session.
    is_lost: bool,
}

impl SessionViewState {
    /// Starts the view of a session with this address or interface.
    pub(super) fn new(address: String, time: Timestamp) -> Self {
        let view =
            SessionView { address, state: NOT_ESTABLISHED, since: Some(time), ..SessionView::default() };
        Self { view, ..Self::default() }
    }

    /// Handles the transition to Established, which clears the last error.
    pub(super) fn handle_established(&mut self, time: Timestamp, negotiated: &Negotiated, peer: &Peer) {
        self.view.state = "Established";
        self.view.phase = SessionPhase::Established;
        self.view.since = Some(time);
        self.view.last_error = None;
        self.view.attempts = 0;
        self.view.negotiated = Some(negotiated_session(negotiated, peer));
    }

    /// Handles that the session, or an attempt to establish it, failed. Returns the error if it should be
    /// logged: the same error of repeated attempts is logged once.
    pub(super) fn handle_down(
        &mut self,
        was_established: bool,
        reason: &DownReason,
        time: Timestamp,
    ) -> Option<&str> {
        let planned = matches!(reason, DownReason::Stopped | DownReason::Reconfigured);
        let view = &mut self.view;
        view.state = NOT_ESTABLISHED;
        view.negotiated = None;
        if was_established {
            view.since = Some(time);
            view.flaps += u64::from(!planned);
        }
        match reason {
            DownReason::Received(notification) => {
                Series::add(&mut view.notification_received, notification.to_string(), time);
            }
            reason => {
                if let Some(sent) = reason.notification_sent() {
                    Series::add(&mut view.notification_sent, sent, time);
                }
            }
        }
        view.phase = match reason {
            DownReason::ConnectFailed(_) | DownReason::ConnectTimedOut => SessionPhase::Connecting,
            _ if planned && self.is_passive => SessionPhase::Listening,
            _ => SessionPhase::Negotiating,
        };
        if planned {
            return None;
        }
        view.attempts += u64::from(!was_established);
        // A router that rejects a peering sends the reason once, and then closes each connection without a
        // NOTIFICATION. The first error is the useful one.
        let closed_silently = !was_established && matches!(reason, DownReason::ConnectionClosed(_));
        if closed_silently && view.last_error.is_some() {
            return None;
        }
        self.is_lost = was_established;
        let error = reason.to_string();
        let repeated = view.last_error.as_ref().is_some_and(|last| !was_established && last.text == error);
        Series::add(&mut view.last_error, error, time);
        let error = view.last_error.as_ref().filter(|_| !repeated)?;
        Some(&error.text)
    }

    /// Handles that the router cannot connect, or that its connection was refused. Returns the problem if it
    /// should be logged.
    pub(super) fn handle_not_accepted(&mut self, problem: String, time: Timestamp) -> Option<&str> {
        let repeated = self.view.last_error.as_ref().is_some_and(|last| last.text == problem);
        Series::add(&mut self.view.last_error, problem.clone(), time);
        self.view.phase = SessionPhase::Listening;
        self.not_accepted = Some(problem);
        self.not_accepted.as_deref().filter(|_| !repeated)
    }

    /// Handles that the router can connect again.
    pub(super) fn clear_not_accepted(&mut self) {
        let problem = self.not_accepted.take();
        self.view.last_error.take_if(|last| problem.as_ref() == Some(&last.text));
    }

    /// Handles that the router has not connected for a while. Returns whether to log it. The error of a
    /// connection that failed says more.
    pub(super) fn handle_unconnected(&mut self, text: &str, time: Timestamp) -> bool {
        self.view.phase = SessionPhase::Listening;
        let is_first = self.view.last_error.is_none() || std::mem::take(&mut self.is_lost);
        if is_first {
            Series::add(&mut self.view.last_error, text.to_owned(), time);
        }
        is_first
    }

    /// Sets whether the router connects to this node.
    pub(super) fn set_passive(&mut self, is_passive: bool) {
        self.is_passive = is_passive;
        match self.view.phase {
            SessionPhase::Connecting if is_passive => self.view.phase = SessionPhase::Listening,
            SessionPhase::Listening if !is_passive => self.view.phase = SessionPhase::Connecting,
            _ => {}
        }
    }

    /// Returns the phase of a session without an error.
    fn first_phase(&self) -> SessionPhase {
        if self.is_passive { SessionPhase::Listening } else { SessionPhase::Connecting }
    }

    /// Lets [`SessionViewState::poll_view`] return the view although it has not changed.
    pub(super) fn republish(&mut self) {
        self.published = None;
    }

    /// Sets the address or the interface of the peer.
    pub(super) fn set_address(&mut self, address: String) {
        self.view.address = address;
    }

    /// Sets the parameters that an established session uses.
    pub(super) fn set_negotiated(&mut self, negotiated: &Negotiated, peer: &Peer) {
        self.view.negotiated = Some(negotiated_session(negotiated, peer));
    }

    /// Sets the BFD session, and whether the session waits for it. While it does, there are no attempts.
    pub(super) fn set_bfd(&mut self, bfd: Option<&BFDSession>, waits: bool) {
        if self.view.bfd.as_ref() != bfd {
            self.view.bfd = bfd.cloned();
        }
        if waits {
            self.view.state = "Idle";
            self.view.phase = SessionPhase::WaitingForBfd;
        } else if self.view.phase == SessionPhase::WaitingForBfd {
            self.view.state = NOT_ESTABLISHED;
            self.view.phase = self.first_phase();
        }
    }

    /// Sets whether the session has ended because the BGPPeer is shut down.
    pub(super) fn set_shutdown(&mut self, is_shut_down: bool) {
        if is_shut_down {
            self.view.state = "Idle";
            self.view.phase = SessionPhase::Shutdown;
            self.view.last_error = None;
            self.view.attempts = 0;
        } else if self.view.phase == SessionPhase::Shutdown {
            self.view.state = NOT_ESTABLISHED;
            self.view.phase = self.first_phase();
        }
    }

    /// Sets the description of the peer.
    pub(super) fn set_description(&mut self, description: &str) {
        if self.view.description != description {
            self.view.description = description.to_owned();
        }
    }

    /// Returns the view if it differs from the one that was returned last. `messages` describes what does not
    /// work on the session.
    pub(super) fn poll_view(
        &mut self,
        families: impl Iterator<Item = (Family, FamilyStatus)>,
        messages: Vec<String>,
    ) -> Option<SessionView> {
        self.view.families.clear();
        self.view.families.extend(families.map(session_family));
        self.view.messages = messages;
        if self.published.as_ref() == Some(&self.view) {
            return None;
        }
        self.published = Some(self.view.clone());
        self.published.clone()
    }
}

/// One state for all attempts to connect: otherwise each attempt would change the Speaker object.
const NOT_ESTABLISHED: &str = "Active";

fn session_family((family, status): (Family, FamilyStatus)) -> SessionFamily {
    SessionFamily {
        family: family.to_string(),
        sent: i64::try_from(status.sent).unwrap_or(i64::MAX),
        // Rounded here, so that a router that floods the session does not change the view with each message.
        received: rounded(status.received),
        end_of_rib_sent: status.end_of_rib_sent,
        end_of_rib_received: status.end_of_rib_received,
    }
}

fn negotiated_session(negotiated: &Negotiated, peer: &Peer) -> NegotiatedSession {
    let families = negotiated.families.iter().map(Family::to_string);
    // Routers offer it also to a speaker that does not.
    let restart = negotiated
        .graceful_restart
        .filter(|_| peer.graceful_restart)
        .map(|_| format!("graceful restart, {:?}", peer.graceful_restart_time));
    let capabilities = [
        (negotiated.four_octet_as, "four-octet AS numbers"),
        (negotiated.route_refresh, "route refresh"),
        (negotiated.enhanced_route_refresh, "enhanced route refresh"),
        (negotiated.extended_messages, "extended messages"),
        (negotiated.extended_next_hop, "extended next hop"),
        (negotiated.graceful_notification, "graceful restart after a NOTIFICATION"),
    ];
    let capabilities = capabilities.into_iter().filter(|(offered, _)| *offered);
    NegotiatedSession {
        peer_asn: negotiated.peer_asn.into(),
        peer_router_id: negotiated.peer_router_id.to_string(),
        hold_time: format!("{:?}", negotiated.hold_time),
        keepalive_time: format!("{:?}", negotiated.keepalive_time),
        capabilities: families.chain(capabilities.map(|(_, name)| name.to_owned())).chain(restart).collect(),
    }
}

/// Returns messages about what does not work on the session, the most important first: one for each feature
/// and address family, and `key_message`, the problem of the TCP-MD5 key.
pub(super) fn messages(peer: &Peer, session: &Session, key_message: Option<&str>) -> Vec<String> {
    let echo = peer.bfd.as_ref().filter(|profile| profile.echo_mode).map(|profile| {
        format!("BFDProfile {}: echoMode is not supported; BFD runs without echo packets", profile.name)
    });
    let flood = session.exceeds_receive_rate().then(|| FLOOD.to_owned());
    let prefixes = session.exceeds_expected_prefixes().then(|| PREFIXES.to_owned());
    let no_open = session.is_open_overdue().then(|| no_open(peer));
    let capabilities = session.omits_capabilities().then(|| NO_CAPABILITIES.to_owned());
    let malformed = session.negotiated().and_then(|n| malformed_capabilities(&n.malformed_capabilities));
    let malformed_update = session.first_malformed().map(malformed_update);
    let families = session.withheld();
    let families = families.values().map(Withheld::to_string);
    let shutdown = peer.shutdown.is_some().then(|| SHUTDOWN.to_owned());
    let first = [shutdown, key_message.map(str::to_owned), no_open, flood];
    let last = [capabilities, prefixes, malformed, malformed_update, echo];
    first.into_iter().flatten().chain(families).chain(last.into_iter().flatten()).collect()
}

/// Returns the view of a peer whose configuration is invalid.
pub(super) fn invalid_peer(address: String, error: String, time: Timestamp) -> SessionView {
    let last_error = Some(Series { text: error, since: time, count: 1 });
    let phase = SessionPhase::Stopped;
    SessionView { address, state: "Idle", phase, since: Some(time), last_error, ..SessionView::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fairlead_bgp::{EXPECTED_PREFIXES, MAX_MESSAGES_PER_SECOND, MAX_OCTETS_PER_SECOND, Notification};

    use super::*;

    #[test]
    fn flood_message_names_the_limits() {
        assert!(PREFIXES.contains(&format!("more than {EXPECTED_PREFIXES} prefixes")), "{PREFIXES}");
        assert!(FLOOD.contains(&format!("{MAX_MESSAGES_PER_SECOND} messages")), "{FLOOD}");
        assert!(FLOOD.contains(&format!("{} MiB", MAX_OCTETS_PER_SECOND / (1024 * 1024))), "{FLOOD}");
    }

    #[test]
    fn malformed_update_is_named() {
        let message = malformed_update("ORIGIN is missing (treat-as-withdraw)");
        assert!(
            message
                .starts_with("the router sent a malformed UPDATE: ORIGIN is missing (treat-as-withdraw); ")
        );
    }

    #[test]
    fn malformed_capabilities_are_named() {
        assert_eq!(malformed_capabilities(&[].into()), None);
        assert_eq!(
            malformed_capabilities(&[64, 2].into()).unwrap(),
            "the router offers capabilities with an invalid length: 2 (route refresh), 64 (graceful restart); \
             the session works as if they were not offered"
        );
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn closed() -> DownReason {
        DownReason::ConnectionClosed(String::new())
    }

    fn refused() -> DownReason {
        DownReason::ConnectFailed("refused".to_owned())
    }

    fn negotiated() -> Negotiated {
        Negotiated {
            peer_asn: 64513,
            peer_router_id: [192, 0, 2, 1].into(),
            ebgp: true,
            hold_time: Duration::from_secs(9),
            keepalive_time: Duration::from_secs(3),
            families: [Family::Ipv4Unicast].into(),
            four_octet_as: true,
            extended_messages: false,
            extended_next_hop: false,
            route_refresh: true,
            enhanced_route_refresh: true,
            graceful_restart: Some(Duration::from_secs(90)),
            graceful_notification: false,
            malformed_capabilities: [].into(),
        }
    }

    fn peer() -> Peer {
        let peer = fairlead_test_support::peer("router", "192.0.2.1");
        Peer { graceful_restart: true, ..peer }
    }

    fn sent(sent: usize) -> std::array::IntoIter<(Family, FamilyStatus), 1> {
        [(Family::Ipv4Unicast, FamilyStatus { sent, ..FamilyStatus::default() })].into_iter()
    }

    /// A view at the start, and what it returns without routes and messages.
    fn state() -> SessionViewState {
        SessionViewState::new("192.0.2.1".to_owned(), time(0))
    }

    fn polled(state: &mut SessionViewState) -> SessionView {
        state.poll_view(std::iter::empty(), Vec::new()).unwrap()
    }

    #[test]
    fn repeated_error_is_logged_once() {
        let mut state = state();
        let logged = state.handle_down(false, &refused(), time(1));
        assert_eq!(logged, Some("connection attempt failed: refused"));
        assert_eq!(state.handle_down(false, &refused(), time(2)), None);
        assert!(state.handle_down(false, &DownReason::HoldTimerExpired, time(3)).is_some());
        assert!(state.handle_down(false, &refused(), time(4)).is_some());
        let view = polled(&mut state);
        let error = view.last_error.unwrap();
        assert_eq!((view.attempts, error.count, error.since), (4, 1, time(4)));
    }

    #[test]
    fn loss_of_established_session_is_always_logged() {
        let mut state = state();
        for second in 1..4 {
            state.handle_established(time(second), &negotiated(), &peer());
            assert!(state.handle_down(true, &closed(), time(second)).is_some());
        }
        let view = polled(&mut state);
        assert_eq!((view.flaps, view.attempts, view.since), (3, 0, Some(time(3))));
    }

    #[test]
    fn silent_close_keeps_earlier_error() {
        let mut state = state();
        assert!(state.handle_down(false, &closed(), time(1)).is_some(), "no earlier error");
        state.handle_down(false, &refused(), time(1));
        assert_eq!(state.handle_down(false, &closed(), time(1)), None);
        let error = polled(&mut state).last_error.unwrap();
        assert_eq!(error.text, "connection attempt failed: refused");
        state.handle_established(time(1), &negotiated(), &peer());
        assert!(state.handle_down(true, &closed(), time(1)).is_some(), "the session was established");
    }

    #[test]
    fn stop_is_no_error() {
        let mut state = state();
        state.handle_established(time(1), &negotiated(), &peer());
        assert_eq!(state.handle_down(true, &DownReason::Stopped, time(2)), None);
        assert_eq!(polled(&mut state).last_error, None);
    }

    #[test]
    fn phase_tells_which_step_fails() {
        let mut state = state();
        assert_eq!(polled(&mut state).phase, SessionPhase::Connecting);
        state.handle_down(false, &closed(), time(1));
        assert_eq!(polled(&mut state).phase, SessionPhase::Negotiating);
        state.handle_down(false, &refused(), time(2));
        assert_eq!(polled(&mut state).phase, SessionPhase::Connecting);
        state.handle_established(time(3), &negotiated(), &peer());
        assert_eq!(polled(&mut state).phase, SessionPhase::Established);
        state.handle_down(true, &DownReason::BfdDown("Path Down".to_owned()), time(3));
        state.set_bfd(None, true);
        let waiting = polled(&mut state);
        assert_eq!((waiting.state, waiting.phase), ("Idle", SessionPhase::WaitingForBfd));
        state.set_bfd(None, false);
        let connecting = polled(&mut state);
        assert_eq!((connecting.state, connecting.phase), ("Active", SessionPhase::Connecting));
        let stopped = invalid_peer(String::new(), "AS number 0 is reserved".to_owned(), time(4));
        assert_eq!((stopped.state, stopped.phase), ("Idle", SessionPhase::Stopped));
    }

    #[test]
    fn passive_session_listens_until_the_router_connects() {
        let mut state = state();
        state.set_passive(true);
        assert_eq!(polled(&mut state).phase, SessionPhase::Listening);
        assert!(state.handle_unconnected("not connected", time(1)));
        assert_eq!(polled(&mut state).last_error.unwrap().text, "not connected");
        assert!(!state.handle_unconnected("not connected", time(2)), "logged once");
        let in_use = || "port in use".to_owned();
        assert!(state.handle_not_accepted(in_use(), time(3)).is_some());
        assert!(state.handle_not_accepted(in_use(), time(4)).is_none(), "logged once");
        assert_eq!(polled(&mut state).last_error.unwrap().count, 2);
        state.clear_not_accepted();
        assert_eq!(polled(&mut state).last_error, None);
        // The error of the OPEN says more than the missing connection.
        state.handle_down(false, &DownReason::HoldTimerExpired, time(5));
        assert_eq!(polled(&mut state).phase, SessionPhase::Negotiating);
        assert!(!state.handle_unconnected("not connected", time(6)));
        let view = polled(&mut state);
        assert_eq!(view.phase, SessionPhase::Listening);
        assert!(view.last_error.unwrap().text.starts_with("hold timer expired"));
        state.handle_established(time(7), &negotiated(), &peer());
        state.handle_down(true, &closed(), time(8));
        assert!(state.handle_unconnected("not connected", time(9)), "the router does not return");
        assert_eq!(polled(&mut state).last_error.unwrap().text, "not connected");
        state.set_passive(false);
        assert_eq!(polled(&mut state).phase, SessionPhase::Connecting);
    }

    #[test]
    fn shutdown_is_a_phase_and_no_error() {
        let mut state = state();
        state.handle_down(false, &refused(), time(1));
        state.handle_established(time(2), &negotiated(), &peer());
        state.set_shutdown(false);
        assert_eq!(polled(&mut state).phase, SessionPhase::Established);
        state.handle_down(true, &DownReason::Stopped, time(3));
        state.set_shutdown(true);
        let view = polled(&mut state);
        assert_eq!((view.state, view.phase, view.since), ("Idle", SessionPhase::Shutdown, Some(time(3))));
        assert_eq!((view.last_error, view.flaps), (None, 0));
        state.set_shutdown(true);
        assert_eq!(state.poll_view(std::iter::empty(), Vec::new()), None);
        state.set_shutdown(false);
        let view = polled(&mut state);
        assert_eq!((view.state, view.phase), ("Active", SessionPhase::Connecting));
    }

    #[test]
    fn notifications_of_both_sides_are_kept() {
        let mut state = state();
        let notification = |subcode| Notification { code: 6, subcode, data: Vec::new() };
        state.handle_down(false, &DownReason::Received(notification(5)), time(1));
        state.handle_down(false, &DownReason::Received(notification(5)), time(2));
        state.handle_down(true, &DownReason::HoldTimerExpired, time(3));
        state.handle_established(time(4), &negotiated(), &peer());
        state.handle_down(true, &DownReason::BfdDown("no packets".to_owned()), time(5));
        let sent = polled(&mut state).notification_sent.unwrap();
        assert_eq!(sent.text, "6/10 (Cease: BFD Down)");
        state.handle_down(true, &DownReason::HoldTimerExpired, time(6));
        let view = polled(&mut state);
        let received = view.notification_received.unwrap();
        assert_eq!(received.text, "6/5 (Cease: Connection Rejected)");
        assert_eq!((received.since, received.count), (time(1), 2));
        assert_eq!(view.notification_sent.unwrap().text, "4/0 (Hold Timer Expired)");
    }

    #[test]
    fn negotiated_parameters_are_shown_while_established() {
        let mut state = state();
        state.handle_established(time(1), &negotiated(), &peer());
        let shown = polled(&mut state).negotiated.unwrap();
        assert_eq!((shown.peer_asn, shown.peer_router_id.as_str()), (64513, "192.0.2.1"));
        assert_eq!((shown.hold_time.as_str(), shown.keepalive_time.as_str()), ("9s", "3s"));
        let capabilities = [
            "IPv4 unicast",
            "four-octet AS numbers",
            "route refresh",
            "enhanced route refresh",
            "graceful restart, 120s",
        ];
        assert_eq!(shown.capabilities, capabilities);
        state.handle_down(true, &closed(), time(2));
        assert_eq!(polled(&mut state).negotiated, None);
    }

    #[test]
    fn view_is_returned_only_after_a_change() {
        let mut state = state();
        let view = polled(&mut state);
        assert_eq!((view.address.as_str(), view.state), ("192.0.2.1", "Active"));
        assert_eq!(state.poll_view(std::iter::empty(), Vec::new()), None);
        state.handle_established(time(1), &negotiated(), &peer());
        let view = state.poll_view(sent(6), Vec::new()).unwrap();
        assert_eq!((view.state, view.since, view.families[0].sent), ("Established", Some(time(1)), 6));
        assert_eq!(state.poll_view(sent(6), Vec::new()), None);
        assert!(state.poll_view(sent(7), Vec::new()).is_some());
        assert!(state.poll_view(sent(7), vec!["no next hop".to_owned()]).is_some());
    }
}
