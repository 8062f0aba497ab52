//! The view of a BGP session in the `Speaker` object and in the log. Contains no I/O.

use fairlead_bgp::{DownReason, Session, Withheld};
use fairlead_crds::model::config::Peer;
use fairlead_plan::node_status::SessionView;
use jiff::Timestamp;

/// Message about a peer above [`fairlead_bgp::MAX_MESSAGES_PER_SECOND`] or
/// [`fairlead_bgp::MAX_OCTETS_PER_SECOND`].
pub(super) const FLOOD: &str = "the router sends more than 10000 messages or 1 MiB per second: this node reads no \
    faster than that; filter the routes that the router sends to this node, and look for a routing loop";

/// Message about a session without capabilities.
const NO_CAPABILITIES: &str = "the router refused capabilities (NOTIFICATION 2/4): the session carries IPv4 routes \
    only, without four-octet AS numbers, route refresh and graceful restart";

/// The view of one session, with what was published last.
#[derive(Debug, Default)]
pub(super) struct SessionViewState {
    /// The address or the interface of the peer.
    address: String,
    established_since: Option<Timestamp>,
    last_error: Option<String>,
    published: Option<SessionView>,
}

impl SessionViewState {
    pub(super) fn new(address: String) -> Self {
        Self { address, ..Self::default() }
    }

    /// Handles the transition to Established, which clears the last error.
    pub(super) fn handle_established(&mut self, time: Timestamp) {
        self.established_since = Some(time);
        self.last_error = None;
    }

    /// Handles that the session, or an attempt to establish it, failed. Returns the error if it should be
    /// logged: the same error of repeated attempts is logged once.
    pub(super) fn handle_down(&mut self, was_established: bool, reason: &DownReason) -> Option<&str> {
        self.established_since = None;
        if *reason == DownReason::Stopped {
            return None;
        }
        // A router that rejects a peering sends the reason once, and then closes each connection without a
        // NOTIFICATION. The first error is the useful one.
        let closed_silently = !was_established && matches!(reason, DownReason::ConnectionClosed(_));
        if closed_silently && self.last_error.is_some() {
            return None;
        }
        let error = reason.to_string();
        let repeated = !was_established && self.last_error.as_ref() == Some(&error);
        let error = self.last_error.insert(error);
        (!repeated).then_some(error.as_str())
    }

    /// Returns the view if it differs from the one that was returned last. `prefixes` is the number of
    /// announced prefixes; `messages` describes what does not work on the session.
    pub(super) fn poll_view(
        &mut self,
        established: bool,
        prefixes: usize,
        messages: Vec<String>,
    ) -> Option<SessionView> {
        let prefixes = if established { prefixes } else { 0 };
        let unchanged = self.published.as_ref().is_some_and(|published| {
            published.prefixes == prefixes
                && published.since == self.established_since
                && published.last_error == self.last_error
                && published.messages == messages
        });
        if unchanged {
            return None;
        }
        let view = SessionView {
            address: self.address.clone(),
            // One state for all attempts to connect: otherwise each attempt would change the Speaker object.
            state: if established { "Established" } else { "Active" },
            since: self.established_since,
            last_error: self.last_error.clone(),
            prefixes,
            messages,
        };
        self.published = Some(view.clone());
        Some(view)
    }
}

/// Returns messages about what does not work on the session: one for each feature and address family, and
/// `key_message`, the problem of the TCP-MD5 key.
pub(super) fn messages(peer: &Peer, session: &Session, key_message: Option<&str>) -> Vec<String> {
    let bfd = peer.bfd.as_ref().map(|profile| {
        format!("BFD (BFDProfile {}) is not supported yet: the session runs without it", profile.name)
    });
    let flood = session.exceeds_receive_rate().then(|| FLOOD.to_owned());
    let capabilities = session.omits_capabilities().then(|| NO_CAPABILITIES.to_owned());
    let families = session.withheld();
    let families = families.values().map(Withheld::to_string);
    [key_message.map(str::to_owned), flood, bfd, capabilities].into_iter().flatten().chain(families).collect()
}

/// Returns the view of a peer whose configuration is invalid.
pub(super) fn invalid_peer(address: String, error: String) -> SessionView {
    SessionView { address, state: "Idle", last_error: Some(error), ..SessionView::default() }
}

#[cfg(test)]
mod tests {
    use fairlead_bgp::{MAX_MESSAGES_PER_SECOND, MAX_OCTETS_PER_SECOND};

    use super::*;

    #[test]
    fn flood_message_names_the_limits() {
        assert!(FLOOD.contains(&format!("{MAX_MESSAGES_PER_SECOND} messages")), "{FLOOD}");
        assert!(FLOOD.contains(&format!("{} MiB", MAX_OCTETS_PER_SECOND / (1024 * 1024))), "{FLOOD}");
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn closed() -> DownReason {
        DownReason::ConnectionClosed(String::new())
    }

    #[test]
    fn repeated_error_is_logged_once() {
        let mut state = SessionViewState::new("192.0.2.1".to_owned());
        let failed = DownReason::ConnectFailed("refused".to_owned());
        assert_eq!(state.handle_down(false, &failed), Some("connection attempt failed: refused"));
        assert_eq!(state.handle_down(false, &failed), None);
        let expired = DownReason::HoldTimerExpired;
        assert!(state.handle_down(false, &expired).is_some());
        assert!(state.handle_down(false, &failed).is_some());
    }

    #[test]
    fn loss_of_established_session_is_always_logged() {
        let mut state = SessionViewState::new("192.0.2.1".to_owned());
        for second in 1..4 {
            state.handle_established(time(second));
            assert!(state.handle_down(true, &closed()).is_some());
        }
    }

    #[test]
    fn silent_close_keeps_earlier_error() {
        let mut state = SessionViewState::new("192.0.2.1".to_owned());
        assert!(state.handle_down(false, &closed()).is_some(), "no earlier error");
        let failed = DownReason::ConnectFailed("refused".to_owned());
        state.handle_down(false, &failed);
        assert_eq!(state.handle_down(false, &closed()), None);
        let view = state.poll_view(false, 0, Vec::new()).unwrap();
        assert_eq!(view.last_error.as_deref(), Some("connection attempt failed: refused"));
        state.handle_established(time(1));
        assert!(state.handle_down(true, &closed()).is_some(), "the session was established");
    }

    #[test]
    fn stop_is_no_error() {
        let mut state = SessionViewState::new("192.0.2.1".to_owned());
        state.handle_established(time(1));
        assert_eq!(state.handle_down(true, &DownReason::Stopped), None);
        let view = state.poll_view(false, 0, Vec::new()).unwrap();
        assert_eq!((view.since, view.last_error), (None, None));
    }

    #[test]
    fn view_is_returned_only_after_a_change() {
        let mut state = SessionViewState::new("192.0.2.1".to_owned());
        let view = state.poll_view(false, 5, Vec::new()).unwrap();
        assert_eq!((view.address.as_str(), view.state, view.prefixes), ("192.0.2.1", "Active", 0));
        assert_eq!(state.poll_view(false, 6, Vec::new()), None, "prefixes count only when established");
        state.handle_established(time(1));
        let view = state.poll_view(true, 6, Vec::new()).unwrap();
        assert_eq!((view.state, view.since, view.prefixes), ("Established", Some(time(1)), 6));
        assert_eq!(state.poll_view(true, 6, Vec::new()), None);
        assert!(state.poll_view(true, 7, Vec::new()).is_some());
        assert!(state.poll_view(true, 7, vec!["no next hop".to_owned()]).is_some());
    }
}
