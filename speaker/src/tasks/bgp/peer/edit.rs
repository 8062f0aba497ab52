//! Edits of the BGPPeer while its session is open.

use std::time::{Duration, Instant};

use fairlead_bgp::SessionState;
use fairlead_crds::model::config::Peer;
use fairlead_plan::{LAST_TURN, PeerEdit};

use super::PeerTask;
use crate::tasks::bgp::connect::{keepalive_time, session_config};

/// An edit that needs a new session and waits for the turn of this node.
#[derive(Debug)]
pub(super) struct PendingEdit {
    wanted: Box<Peer>,
    at: Instant,
    /// When the session is replaced at the latest, however often the peer is edited meanwhile.
    latest: Instant,
}

impl PendingEdit {
    /// Returns the edit that takes the place of an earlier one, if there is one. `delay` is the turn of this
    /// node; it is zero if the last edit by itself needs no new session.
    fn new(earlier: Option<Self>, wanted: Box<Peer>, now: Instant, delay: Duration) -> Self {
        let at = now + delay;
        let (at, latest) = earlier.map_or((at, now + LAST_TURN), |earlier| {
            (at.max(earlier.at).min(earlier.latest), earlier.latest)
        });
        Self { wanted, at, latest }
    }

    /// Returns when the session is replaced. `None` while it is being stopped: until its end, it withdraws
    /// its routes with the parameters that the peer knows.
    fn due(&self, state: SessionState, is_started: bool, now: Instant) -> Option<Instant> {
        match (state, is_started) {
            (SessionState::Established, true) => Some(self.at),
            (SessionState::Established, false) => None,
            // No routes are lost.
            _ => Some(now),
        }
    }
}

impl PeerTask {
    /// Handles an edit: adopts it at once if it needs no new session, or if none is established.
    pub(super) fn update(&mut self, wanted: Box<Peer>, delay: Duration) {
        self.rename(&wanted.name);
        let earlier = self.pending.take();
        self.unusable = None;
        // The description and the shutdown do not wait for the turn of this node.
        self.peer.description.clone_from(&wanted.description);
        if self.peer.shutdown.is_some() != wanted.shutdown.is_some() {
            tracing::info!(
                peer = %self.peer.name,
                shutdown = wanted.shutdown.is_some(),
                "shutdown of the BGPPeer was changed"
            );
        }
        self.peer.shutdown.clone_from(&wanted.shutdown);
        self.update_bfd();
        self.start_or_stop();
        let is_rekeyed = self.peer.password_secret != wanted.password_secret;
        // A connection attempt in progress uses the earlier key.
        let needs_attempt = is_rekeyed && self.session.state() != SessionState::Established;
        if needs_attempt || PeerEdit::between(&self.peer, &wanted) == PeerEdit::NewSession {
            self.pending = Some(PendingEdit::new(earlier, wanted, Instant::now(), delay));
            return;
        }
        let now = Instant::now();
        self.session.set_keepalive_time(now, keepalive_time(&wanted));
        self.session.set_connect_retry(now, wanted.connect_time);
        if is_rekeyed && let Some(secret) = &wanted.password_secret {
            let earlier = self.password.take();
            self.password = Some(self.context.passwords.follow(secret).replacing(earlier));
        }
        self.peer = *wanted;
        self.update_bfd();
        if let Some(negotiated) = self.session.negotiated() {
            self.view.set_negotiated(negotiated, &self.peer);
        }
    }

    /// Adopts a new name of the BGPPeer.
    fn rename(&mut self, name: &str) {
        if self.peer.name != name {
            tracing::info!(peer = %self.peer.name, new = %name, "BGPPeer renamed; the session remains");
            self.forget();
            self.peer.name = name.to_owned();
            self.bfd.rename(name);
            self.metrics = self.context.metrics.peer(name);
            self.view.republish();
        }
    }

    /// Returns when [`PeerTask::replace_if_due`] replaces the session.
    pub(super) fn replacement_due(&self, now: Instant) -> Option<Instant> {
        self.pending.as_ref()?.due(self.session.state(), self.session.is_started(), now)
    }

    /// Replaces the session after an edit, when it is the turn of this node or no session is established.
    pub(super) fn replace_if_due(&mut self) {
        let now = Instant::now();
        if self.replacement_due(now).is_none_or(|due| due > now) {
            return;
        }
        let Some(PendingEdit { wanted, .. }) = self.pending.take() else { return };
        let source = |peer: &Peer| (peer.source_address, peer.source_interface.clone());
        let endpoint = |peer: &Peer| (peer.address.clone(), peer.port, source(peer), peer.vrf.clone());
        let same_peer = endpoint(&self.peer) == endpoint(&wanted);
        let result = session_config(&wanted, &self.context).and_then(|config| {
            self.session.reconfigure(Instant::now(), config, same_peer).map_err(|error| error.to_string())
        });
        if let Err(error) = result {
            tracing::error!(peer = %self.peer.name, %error, "an edit cannot be used; the session remains");
            self.unusable = Some(error);
            return;
        }
        tracing::info!(peer = %self.peer.name, "replacing the BGP session after an edit");
        if self.peer.password_secret != wanted.password_secret {
            // The key of one router is not tried with another.
            let earlier = self.password.take().filter(|_| same_peer);
            let follow = |secret| self.context.passwords.follow(secret).replacing(earlier);
            self.password = wanted.password_secret.as_ref().map(follow);
        }
        if self.peer.address != wanted.address {
            self.view.set_address(wanted.address.to_string());
            self.router = Self::router_watch(&wanted.address, &self.context.links);
        }
        self.peer = *wanted;
        self.update_bfd();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_that_is_being_stopped_is_replaced_after_its_end() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let peer = Box::new(fairlead_test_support::peer("tor", "192.0.2.1"));
        let pending = PendingEdit::new(None, peer, now, second);
        for (state, is_started, due) in [
            (SessionState::Established, true, Some(now + second)),
            (SessionState::Established, false, None),
            (SessionState::Idle, false, Some(now)),
            (SessionState::Idle, true, Some(now)),
            (SessionState::Connect, true, Some(now)),
            (SessionState::OpenConfirm, true, Some(now)),
        ] {
            assert_eq!(pending.due(state, is_started, now), due, "{state}, {is_started}");
        }
    }

    #[test]
    fn repeated_edits_postpone_the_replacement_to_the_last_turn() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let peer = || Box::new(fairlead_test_support::peer("tor", "192.0.2.1"));
        let mut pending = PendingEdit::new(None, peer(), start, 4 * second);
        let established = |pending: &PendingEdit| pending.due(SessionState::Established, true, start);
        assert_eq!(established(&pending), Some(start + 4 * second));
        for elapsed in 1..40 {
            let now = start + elapsed * second;
            pending = PendingEdit::new(Some(pending), peer(), now, 4 * second);
            let expected = (now + 4 * second).min(start + LAST_TURN);
            assert_eq!(established(&pending), Some(expected), "{elapsed}");
        }
    }

    #[test]
    fn live_edit_does_not_advance_the_turn_of_an_earlier_edit() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let peer = || Box::new(fairlead_test_support::peer("tor", "192.0.2.1"));
        let pending = PendingEdit::new(None, peer(), start, 4 * second);
        let pending = PendingEdit::new(Some(pending), peer(), start + second, Duration::ZERO);
        let due = pending.due(SessionState::Established, true, start);
        assert_eq!(due, Some(start + 4 * second));
    }
}
