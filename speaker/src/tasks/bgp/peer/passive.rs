//! A passive peer: the router connects to this node. Registers it at the listener, checks its connections,
//! and owns the second one of a collision.

use std::net::IpAddr;
use std::time::Instant;

use fairlead_bgp::{SessionInput, SessionState};
use fairlead_crds::model::config::{Peer, PeerAddress};
use fairlead_net::tcp::{AcceptOptions, Accepted};
use jiff::Timestamp;
use tokio::net::TcpStream;

use super::PeerTask;
use crate::tasks::bgp::connect::connect_options;
use crate::tasks::bgp::connection::{Connection, Read, Ready};
use crate::tasks::bgp::endpoint::Endpoint;
use crate::tasks::bgp::listen::{ExpectedRouter, Registration};
use crate::tasks::bgp::next_hops::next_hops;
use crate::tasks::bgp::passwords::Password;

/// The connections that the router opens; empty for a peer that is not passive.
#[derive(Default)]
pub(super) struct PassiveConnections {
    /// The right of the router to connect, where it exists.
    registered: Option<(ExpectedRouter, Endpoint, Registration)>,
    /// The last connection, until the session takes it.
    waiting: Option<Accepted>,
    /// The second connection of the session.
    second: Option<Connection>,
    /// Why the router cannot connect, as it was reported last.
    problem: Option<String>,
}

/// What happened to the connections of a passive peer.
pub(super) enum PassiveEvent {
    /// The router has connected.
    Accepted(Accepted),
    /// Whether the router can connect may have changed.
    ProblemChanged,
    /// The second connection is ready.
    Second(std::io::Result<Ready>),
}

impl PassiveConnections {
    /// Waits for an event. `reads_second` tells whether the session takes octets of the second connection.
    /// Cancel safe.
    pub(super) async fn event(&mut self, reads_second: bool) -> PassiveEvent {
        let Self { registered, second, .. } = self;
        let accepted = async {
            match registered {
                Some((_, _, registration)) => registration.accept().await,
                None => std::future::pending().await,
            }
        };
        let ready = async {
            match second {
                Some(second) => second.ready(reads_second).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            accepted = accepted => accepted.map_or(PassiveEvent::ProblemChanged, PassiveEvent::Accepted),
            ready = ready => PassiveEvent::Second(ready),
        }
    }

    /// Returns why the router cannot connect, or that it can, if that was not reported before.
    fn report(&mut self, problem: Option<String>) -> Option<Option<String>> {
        if self.problem == problem {
            return None;
        }
        self.problem.clone_from(&problem);
        Some(problem)
    }
}

impl PeerTask {
    /// Lets the router of a passive peer connect while the session waits for it, and ends that right
    /// otherwise. Then passes a connection that waits to the session, if it takes one. Called in every turn.
    /// Returns whether the session may have changed.
    pub(super) fn update_passive(&mut self) -> bool {
        if !self.session.is_listening() {
            let PassiveConnections { registered, waiting, problem, second: _ } = &mut self.passive;
            (*registered, *waiting, *problem) = (None, None, None);
            return false;
        }
        let problem = match self.expected_router() {
            Ok(Some((router, endpoint))) => self.register(router, endpoint),
            // The Secret is being read.
            Ok(None) => None,
            Err(problem) => {
                self.passive.registered = None;
                self.passive.waiting = None;
                Some(problem)
            }
        };
        // An established session does not need the listener.
        let reported = if self.connection.is_none() { self.passive.report(problem) } else { None };
        if let Some(problem) = reported {
            match problem {
                Some(problem) => self.show_not_accepted(problem),
                None => {
                    self.view.clear_not_accepted();
                    // Begins to wait anew.
                    self.session.handle_input(Instant::now(), SessionInput::ConnectNow);
                }
            }
        }
        self.take_waiting();
        true
    }

    /// Returns when [`PeerTask::update_passive`] passes the connection that waits to the session, unless a
    /// timer of the session comes first.
    pub(super) fn waiting_until(&self) -> Option<Instant> {
        self.passive.waiting.as_ref().and_then(|_| self.bfd.connect_at())
    }

    /// Returns the router that may connect and its endpoint; `None` while its key is not known.
    fn expected_router(&self) -> Result<Option<(ExpectedRouter, Endpoint)>, String> {
        let endpoint = self.endpoint()?;
        let key = match self.password.as_ref().map(Password::known_key) {
            None => None,
            Some(None) => return Ok(None),
            Some(Some(key)) => Some(key?),
        };
        let Endpoint { remote, interface, .. } = endpoint;
        let local = endpoint.listen_address(self.context.listeners.port());
        let router = ExpectedRouter { local, device: self.peer.vrf.clone(), remote, interface, key };
        Ok(Some((router, endpoint)))
    }

    /// Returns why the router cannot connect.
    fn register(&mut self, router: ExpectedRouter, endpoint: Endpoint) -> Option<String> {
        let same_place = |registered: &ExpectedRouter| {
            let without_key = |router: &ExpectedRouter| ExpectedRouter { key: None, ..router.clone() };
            without_key(registered) == without_key(&router)
        };
        match &mut self.passive.registered {
            Some((registered, current, registration)) if same_place(registered) => {
                if registered.key != router.key {
                    registration.set_key(router.key.clone());
                    *registered = router;
                }
                *current = endpoint;
            }
            registered => {
                // Before the earlier one ends, so that the port stays open if both are in the same place.
                let registration = self.context.listeners.register(router.clone());
                *registered = Some((router, endpoint, registration));
                self.passive.waiting = None;
                if self.connection.is_none() {
                    self.tracker.set_dialed(Some(endpoint));
                }
            }
        }
        self.passive.registered.as_ref().and_then(|(_, _, registration)| registration.problem())
    }

    pub(super) fn handle_passive_event(&mut self, event: PassiveEvent) {
        match event {
            // `update_passive` reports it.
            PassiveEvent::ProblemChanged => {}
            PassiveEvent::Accepted(accepted) => self.admit(accepted),
            PassiveEvent::Second(Ok(Ready { readable: true })) => self.read_second(),
            PassiveEvent::Second(Ok(Ready { readable: false })) => {}
            PassiveEvent::Second(Err(_)) => self.second_closed(),
        }
    }

    /// Lets a connection wait for the session, in place of an earlier one, or refuses it.
    fn admit(&mut self, accepted: Accepted) {
        let Some((_, endpoint, _)) = &self.passive.registered else { return accepted.reset() };
        let min_ttl = connect_options(&self.peer, *endpoint).min_ttl;
        match refusal(&accepted, endpoint.source, min_ttl) {
            None => self.passive.waiting = Some(accepted),
            Some(problem) => {
                accepted.reset();
                if self.session.state() == SessionState::Active {
                    self.show_not_accepted(problem);
                }
            }
        }
    }

    /// Passes the connection that waits to the session, if the session takes it.
    fn take_waiting(&mut self) {
        let now = Instant::now();
        if self.passive.waiting.is_none() || !self.session.accepts() || self.waiting_until() > Some(now) {
            return;
        }
        let Some((accepted, (router, endpoint, _))) =
            self.passive.waiting.take().zip(self.passive.registered.as_ref())
        else {
            return;
        };
        if accepted.is_closed() {
            // The router gave up meanwhile. It connects again.
            return;
        }
        let (key, endpoint) = (router.key.clone(), *endpoint);
        let options = connect_options(&self.peer, endpoint);
        let options = AcceptOptions {
            ttl: options.ttl,
            min_ttl: options.min_ttl,
            md5_key: key.map(|key| key.octets().to_vec()),
            user_timeout: options.user_timeout,
        };
        if let Err(error) = accepted.configure(&options) {
            accepted.reset();
            return self.show_not_accepted(format!("cannot accept the connection of the router: {error}"));
        }
        self.failover.reset_stale();
        let Accepted { stream, local, remote, .. } = accepted;
        if self.session.state() == SessionState::Active {
            let next_hops = self.begin_connection(stream, endpoint, local.ip(), remote.ip());
            self.session.handle_input(now, SessionInput::Accepted { local, remote, next_hops });
            self.update_bfd();
        } else {
            let next_hops = {
                let (links, node) = (self.context.links.borrow(), self.context.node_addresses.borrow());
                let (local, remote) = (local.ip().to_canonical(), remote.ip().to_canonical());
                next_hops(local, endpoint.interface, remote, &links, &node, self.next_hops)
            };
            self.passive.second = Some(Connection::new(stream));
            self.session.handle_input(now, SessionInput::Accepted { local, remote, next_hops });
        }
    }

    /// Makes a connection that the router opened that of the session. Returns the next hops.
    fn begin_connection(
        &mut self,
        stream: TcpStream,
        endpoint: Endpoint,
        local: IpAddr,
        remote: IpAddr,
    ) -> fairlead_bgp::NextHops {
        self.tracker.set_dialed(Some(endpoint));
        self.set_link(local);
        if !matches!(self.peer.address, PeerAddress::Interface(_)) {
            self.view.set_address(self.shown_address());
        }
        self.connection = Some(Connection::new(stream));
        self.next_hops(local, remote)
    }

    /// Exchanges the connection of the session and the second one.
    pub(super) fn switch_connections(&mut self) {
        std::mem::swap(&mut self.connection, &mut self.passive.second);
        if let Some(local) = self.connection.as_ref().and_then(Connection::local) {
            self.set_link(local);
        }
        self.update_next_hops();
        self.update_bfd();
    }

    /// Closes the second connection in the background.
    pub(super) fn close_second(&mut self) {
        // What is left of the output, then the NOTIFICATION.
        self.write_second();
        self.write_second();
        if let Some(second) = self.passive.second.take() {
            tokio::spawn(second.close_failed());
        }
    }

    fn read_second(&mut self) {
        let Some(mut second) = self.passive.second.take() else { return };
        let session = &mut self.session;
        // One read per turn, because the session may then take the connection as its first one.
        let read = second.read(|octets| {
            session.handle_input(Instant::now(), SessionInput::SecondReceived(octets));
            false
        });
        match read {
            Ok(Read::Pause) => self.passive.second = Some(second),
            Ok(Read::Closed) | Err(_) => self.second_closed(),
        }
    }

    fn second_closed(&mut self) {
        self.passive.second = None;
        self.session.handle_input(Instant::now(), SessionInput::SecondClosed);
    }

    /// Writes what waits to be written to the second connection, as far as the socket accepts it.
    pub(super) fn write_second(&mut self) {
        let (Some(second), session) = (&mut self.passive.second, &mut self.session) else { return };
        // An error shows when the connection is read.
        let _ = second.write(|output| session.poll_transmit_second(output));
    }

    /// Replaces the TCP-MD5 key of the second connection.
    pub(super) fn set_second_key(&self, key: &crate::tasks::bgp::passwords::Key) {
        if let Some(Err(error)) = self.passive.second.as_ref().map(|second| second.set_key(key)) {
            tracing::debug!(peer = %self.peer.name, %error, "cannot replace the TCP-MD5 key of a connection");
        }
    }

    /// Shows that the router has not connected for a while.
    pub(super) fn show_unconnected(&mut self) {
        let secret = self.password.as_ref().map(|password| password.name().to_owned());
        let router = match self.peer.address {
            // The routers of an unnumbered peer may take turns, and each would change the Speaker object.
            PeerAddress::Interface(_) => None,
            _ => self.endpoint().ok().map(|endpoint| endpoint.remote),
        };
        let text = unconnected(&self.peer, router, self.context.listeners.port(), secret.as_deref());
        if self.view.handle_unconnected(&text, Timestamp::now()) {
            tracing::warn!(peer = %self.peer.name, "{text}");
        }
    }

    fn show_not_accepted(&mut self, problem: String) {
        if let Some(problem) = self.view.handle_not_accepted(problem, Timestamp::now()) {
            tracing::warn!(peer = %self.peer.name, %problem, "the router of a passive peer cannot connect");
        }
    }
}

/// Returns why a connection of the router is refused; `None` if it is not. `min_ttl` is the lowest TTL that
/// this node accepts.
fn refusal(accepted: &Accepted, source: Option<IpAddr>, min_ttl: Option<u8>) -> Option<String> {
    let Accepted { remote, local, ttl, .. } = accepted;
    let local = local.ip().to_canonical();
    if let Some(source) = source.filter(|source| *source != local) {
        return Some(format!(
            "refused a connection of the router to {local}: it must connect to {source} (sourceAddress or \
             sourceInterface of the BGPPeer)"
        ));
    }
    match (ttl, min_ttl) {
        (Some(ttl), Some(minimum)) if *ttl < minimum => Some(format!(
            "refused a connection of {} with TTL {ttl}: ttlSecurity of the BGPPeer requires {minimum} or more, which \
             the router sends with ttl-security",
            remote.ip()
        )),
        _ => None,
    }
}

/// Returns why there may be no connection of the router. `secret` is the Secret of its key.
fn unconnected(peer: &Peer, router: Option<IpAddr>, port: u16, secret: Option<&str>) -> String {
    let key = match secret {
        Some(secret) => format!("that its TCP-MD5 key is that in Secret {secret}"),
        None => "that it uses no TCP-MD5 key (passwordSecret of the BGPPeer)".to_owned(),
    };
    let checks = [
        Some("that it has this node as a neighbor".to_owned()),
        Some("that it is not passive itself".to_owned()),
        router.map(|router| format!("that it connects from {router}")),
        Some(key),
        peer.ttl_security.map(|_| "that it sends packets with TTL 255 (ttlSecurity)".to_owned()),
    ];
    let checks: Vec<String> = checks.into_iter().flatten().collect();
    format!(
        "the router has not connected to port {port} of this node within 15s: check {}, and that no filter drops \
         its packets",
        checks.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_connection_names_possible_causes() {
        let peer = fairlead_test_support::peer("tor", "192.0.2.1");
        let text = unconnected(&peer, Some([192, 0, 2, 1].into()), 1179, None);
        assert_eq!(
            text,
            "the router has not connected to port 1179 of this node within 15s: check that it has this node as \
             a neighbor, that it is not passive itself, that it connects from 192.0.2.1, that it uses no \
             TCP-MD5 key (passwordSecret of the BGPPeer), and that no filter drops its packets"
        );
        let text =
            unconnected(&Peer { ttl_security: Some(1), ..peer }, None, 179, Some("fairlead-system/tor"));
        assert!(text.contains("Secret fairlead-system/tor, that it sends packets with TTL 255"), "{text}");
    }
}
