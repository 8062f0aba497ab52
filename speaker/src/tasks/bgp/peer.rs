//! The task of one peer: drives a BGP session with a TCP connection, timers and commands.

mod edit;
mod endpoint;
mod endpoint_change;
mod failover;
mod passive;
mod stopping;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Instant;

use fairlead_bgp::{CeaseSubcode, NextHops, Session, SessionEvent, SessionInput, SessionState};
use fairlead_crds::model::config::{Peer, PeerAddress};
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, yield_now};

use super::PeerContext;
use super::bfd::PeerBfd;
use super::commands::{PeerCommand, PeerCommandReceiver};
use super::connect::{DialError, session_config};
use super::connection::{Connection, OUTPUT_SIZE, Read, Ready};
use super::endpoint::EndpointTracker;
use super::next_hops::next_hops;
use super::passwords::{NewKey, Password};
use super::router::RouterWatch;
use super::session_view::{FLOOD, OTHER_ROUTERS, SessionViewState, invalid_peer, messages};
use crate::metrics::PeerMetrics;
use crate::tasks::sleep_until_or_forever;
use edit::PendingEdit;
use endpoint_change::EndpointChange;
use failover::Failover;
use passive::PassiveConnections;

/// Commands that are handled per turn. All pending commands are handled before the session sends, up to this
/// number: the session packs routes with equal attributes into one UPDATE.
const MAX_COMMANDS_PER_TURN: usize = 4096;

type Connecting = Pin<Box<dyn Future<Output = Result<TcpStream, DialError>> + Send>>;

pub(super) struct PeerTask {
    peer: Peer,
    context: PeerContext,
    session: Session,
    /// True after [`PeerCommand::Start`]: the session has its first routes.
    started: bool,
    /// The next hops of the last connection.
    next_hops: NextHops,
    connection: Option<Connection>,
    /// The interface of the connection, and what is left of the previous one.
    failover: Failover,
    /// The connection attempt in progress.
    connecting: Option<Connecting>,
    /// The connections that the router of a passive peer opens.
    passive: PassiveConnections,
    /// The router of an unnumbered peer.
    router: Option<RouterWatch>,
    tracker: EndpointTracker,
    /// An edit that waits for the turn of this node.
    pending: Option<PendingEdit>,
    /// Why the last edit cannot be used. The session keeps its earlier parameters.
    unusable: Option<String>,
    /// The TCP-MD5 key.
    password: Option<Password>,
    bfd: PeerBfd,
    view: SessionViewState,
    metrics: PeerMetrics,
    endpoint_change: EndpointChange,
    /// True if the log names this peer as one that sends too fast.
    flood_logged: bool,
}

impl PeerTask {
    /// Keeps the session established until [`PeerCommand::Stop`]. Starts when the `previous` tasks, of
    /// sessions with the same router, have ended.
    pub(super) async fn run(
        peer: Peer,
        mut commands: PeerCommandReceiver,
        context: PeerContext,
        previous: Vec<JoinHandle<()>>,
    ) {
        for previous in previous {
            // After a panic of that task this one starts as well.
            let _ = previous.await;
        }
        if let Some(mut task) = Self::create(peer, &mut commands, context).await {
            task.serve(&mut commands).await;
            task.forget();
        }
    }

    /// Creates the session when its parameters can be used. Returns `None` after [`PeerCommand::Stop`].
    async fn create(
        mut peer: Peer,
        commands: &mut PeerCommandReceiver,
        context: PeerContext,
    ) -> Option<Self> {
        let (mut routes, mut started, mut graceful_shutdown) = (BTreeMap::new(), false, false);
        loop {
            let session = session_config(&peer, &context)
                .and_then(|config| Session::new(config, rand::random()).map_err(|e| e.to_string()));
            match session {
                Ok(session) => {
                    let mut task = Self::new(peer, context, session);
                    for (prefix, attributes) in routes {
                        task.handle_command(PeerCommand::Announce(prefix, attributes, None));
                    }
                    task.handle_command(PeerCommand::GracefulShutdown(graceful_shutdown));
                    if started {
                        task.handle_command(PeerCommand::Start);
                    }
                    return Some(task);
                }
                Err(error) => {
                    tracing::error!(peer = %peer.name, %error, "invalid peer configuration");
                    let view = invalid_peer(peer.address.to_string(), error, Timestamp::now());
                    context.sessions.send_modify(|sessions| drop(sessions.insert(peer.name.clone(), view)));
                }
            }
            let edited = loop {
                match commands.recv().await {
                    None | Some(PeerCommand::Stop(_)) => break None,
                    Some(PeerCommand::GracefulShutdown(wanted)) => graceful_shutdown = wanted,
                    Some(PeerCommand::Update { wanted, .. }) => break Some(*wanted),
                    Some(PeerCommand::Announce(prefix, attributes, _)) => {
                        routes.insert(prefix, attributes);
                    }
                    Some(PeerCommand::Withdraw(prefix, _)) => drop(routes.remove(&prefix)),
                    Some(PeerCommand::Start) => started = true,
                }
            };
            context.sessions.send_modify(|sessions| drop(sessions.remove(&peer.name)));
            peer = edited?;
        }
    }

    fn new(peer: Peer, context: PeerContext, session: Session) -> Self {
        Self {
            bfd: PeerBfd::new(&peer.name, context.bfd.clone()),
            view: SessionViewState::new(peer.address.to_string(), Timestamp::now()),
            router: Self::router_watch(&peer.address, &context.links),
            tracker: EndpointTracker::default(),
            metrics: context.metrics.peer(&peer.name),
            password: peer.password_secret.as_ref().map(|secret| context.passwords.follow(secret)),
            peer,
            context,
            session,
            started: false,
            next_hops: NextHops::default(),
            connection: None,
            failover: Failover::default(),
            connecting: None,
            passive: PassiveConnections::default(),
            pending: None,
            unusable: None,
            endpoint_change: EndpointChange::default(),
            flood_logged: false,
        }
    }

    /// Removes what the metrics and the Speaker object show of the session.
    fn forget(&self) {
        self.context.metrics.forget_peer(&self.peer.name);
        self.context.sessions.send_modify(|sessions| drop(sessions.remove(&self.peer.name)));
    }

    /// Runs turns until [`PeerCommand::Stop`]. One turn waits for something to do, reads, handles the timers
    /// that are due, writes, and lets other tasks run. Each step is bounded, and the timers wait for nothing
    /// that a peer can keep busy.
    async fn serve(&mut self, commands: &mut PeerCommandReceiver) {
        let mut links = self.context.links.clone();
        let mut node_addresses = self.context.node_addresses.clone();
        let mut gateways = self.context.gateways.clone();
        self.update_bfd();
        loop {
            // After reading, so that a KEEPALIVE that arrived in time restarts the hold timer.
            self.session.handle_timeout(Instant::now());
            self.replace_if_due();
            self.handle_output();
            if self.update_passive() {
                self.handle_output();
            }
            self.publish();
            // `ready` takes no part in the cooperative scheduling of Tokio.
            yield_now().await;
            let now = Instant::now();
            if self.bfd.retry_at().is_some_and(|at| at <= now) {
                self.update_bfd();
            }
            if self.tracker.poll_timeout().is_some_and(|at| at <= now) {
                self.update_endpoint();
            }
            let read_after = self.session.read_after().filter(|at| *at > now);
            let turn = self.replacement_due(now);
            let moves = self.tracker.poll_timeout();
            let waiting = self.waiting_until().filter(|at| *at > now);
            let bfd = self.bfd.retry_at();
            let timeouts = [self.session.poll_timeout(), read_after, turn, bfd, moves, waiting];
            let reads_second = read_after.is_none() && self.session.reads_second();
            let timeout = timeouts.into_iter().flatten().min();
            tokio::select! {
                // Commands first, so that what is sent next includes all changes.
                biased;
                command = commands.recv() => {
                    let Some(command) = command else { return };
                    let more = std::iter::from_fn(|| commands.try_recv()).take(MAX_COMMANDS_PER_TURN - 1);
                    for command in std::iter::once(command).chain(more) {
                        if let PeerCommand::Stop(stop) = command {
                            return self.stop(stop).await;
                        }
                        self.handle_command(command);
                    }
                }
                () = self.bfd.changed() => {
                    for input in self.bfd.handle_report(&self.peer) {
                        self.session.handle_input(Instant::now(), input);
                    }
                }
                () = sleep_until_or_forever(timeout) => {}
                // Before the attempt: one that waits for the key is replaced before it connects.
                key = async {
                    match &mut self.password {
                        Some(password) => password.changed().await,
                        None => std::future::pending().await,
                    }
                } => if let Some(key) = key {
                    self.handle_key(key);
                },
                connected = async {
                    match &mut self.connecting {
                        Some(connecting) => connecting.await,
                        None => std::future::pending().await,
                    }
                } => {
                    self.connecting = None;
                    self.handle_connected(connected);
                }
                ready = async {
                    match &self.connection {
                        Some(connection) => connection.ready(read_after.is_none()).await,
                        None => std::future::pending().await,
                    }
                } => match ready {
                    Ok(Ready { readable: true }) => self.read(),
                    Ok(Ready { readable: false }) => {}
                    Err(error) => self.handle_connection_closed(error.to_string()),
                },
                event = self.passive.event(reads_second) => self.handle_passive_event(event),
                Ok(()) = links.changed() => {
                    self.check_link();
                    self.update_next_hops();
                    self.update_endpoint();
                }
                Ok(()) = gateways.changed() => self.update_endpoint(),
                () = async {
                    match &mut self.router {
                        Some(router) => router.changed().await,
                        None => std::future::pending().await,
                    }
                } => self.update_endpoint(),
                Ok(()) = node_addresses.changed() => self.update_next_hops(),
            }
        }
    }

    fn handle_command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Announce(prefix, attributes, cause) => {
                if let Err(error) = self.session.announce(prefix, attributes) {
                    tracing::error!(peer = %self.peer.name, %prefix, %error, "cannot announce route");
                    self.session.withdraw(&prefix);
                }
                self.endpoint_change.handle_change(prefix, cause, &self.session);
            }
            PeerCommand::Withdraw(prefix, cause) => {
                self.session.withdraw(&prefix);
                self.endpoint_change.handle_change(prefix, cause, &self.session);
            }
            PeerCommand::GracefulShutdown(wanted) => self.session.set_graceful_shutdown(wanted),
            PeerCommand::Update { wanted, delay } => self.update(wanted, delay),
            PeerCommand::Start => {
                self.started = true;
                self.start_or_stop();
            }
            // Handled by the caller, which ends the task.
            PeerCommand::Stop(_) => {}
        }
    }

    /// Starts or stops the session according to `shutdown` of the BGPPeer. A session that is being stopped
    /// cannot start. Call this again when it has ended.
    fn start_or_stop(&mut self) {
        let wanted = self.started && self.peer.shutdown.is_none();
        if wanted == self.session.is_started() {
            return;
        }
        let input = match &self.peer.shutdown {
            None => SessionInput::ManualStart,
            Some(text) => SessionInput::ManualStop {
                subcode: CeaseSubcode::AdministrativeShutdown,
                text: text.clone(),
                restart: false,
                drain: self.context.drain_wait,
            },
        };
        self.session.handle_input(Instant::now(), input);
    }

    /// Adapts the BFD session to the peer, the interfaces and the local address of the connection.
    fn update_bfd(&mut self) {
        let now = Instant::now();
        self.session.set_bfd_strict(now, self.peer.bfd_strict);
        let local = self.connection.as_ref().and_then(Connection::local);
        let state = self.session.state();
        self.bfd.set_shut_down(self.peer.shutdown.is_some() && state == SessionState::Idle);
        // The session has ended and its connection has not, or it ends before BFD does.
        let is_running =
            matches!(state, SessionState::OpenSent | SessionState::OpenConfirm | SessionState::Established);
        if self.connection.is_some() && (!is_running || self.peer.bfd.is_none()) {
            self.bfd.keep(now);
        }
        let endpoint = self.endpoint();
        let input = self.bfd.update(&self.peer, endpoint, local, &self.context.links.borrow());
        if let Some(input) = input {
            self.session.handle_input(now, input);
        }
    }

    fn handle_connected(&mut self, result: Result<TcpStream, DialError>) {
        let now = Instant::now();
        let connected = result.and_then(|stream| {
            let local = stream.local_addr().map_err(|e| e.to_string())?;
            let remote = stream.peer_addr().map_err(|e| e.to_string())?;
            Ok((stream, local, remote))
        });
        match connected {
            Ok((stream, local, remote)) => {
                if self.failover.must_clear() {
                    drop(stream);
                    self.connecting = Some(self.dial());
                    return;
                }
                self.set_link(local.ip());
                if !matches!(self.peer.address, PeerAddress::Interface(_)) {
                    self.view.set_address(self.shown_address());
                }
                let next_hops = self.next_hops(local.ip(), remote.ip());
                self.connection = Some(Connection::new(stream));
                self.session.handle_input(now, SessionInput::Connected { local, remote, next_hops });
                self.update_bfd();
            }
            Err(DialError { reason, is_reset }) => {
                if is_reset {
                    self.failover.reset_stale();
                }
                self.session.handle_input(now, SessionInput::ConnectFailed { reason });
            }
        }
    }

    /// Handles a new TCP-MD5 key: replaces that of the connection, or connects with it.
    fn handle_key(&mut self, NewKey { key, is_first }: NewKey) {
        // The attempt that waited for the first key connects with it.
        if is_first && (self.connection.is_some() || self.session.state() == SessionState::Connect) {
            return;
        }
        let Some(connection) = &self.connection else {
            return self.session.handle_input(Instant::now(), SessionInput::ConnectNow);
        };
        if self.peer.tcp_ao.is_some() {
            // RFC 5925 §7.3: the keys of a connection change with their KeyIDs.
            return tracing::info!(
                peer = %self.peer.name,
                "the key of TCP-AO changed; the next connection uses the new key"
            );
        }
        self.set_second_key(&key);
        match connection.set_key(&key) {
            Ok(()) => tracing::info!(peer = %self.peer.name, "TCP-MD5 key of the connection replaced"),
            Err(error) => tracing::warn!(
                peer = %self.peer.name,
                %error,
                "cannot replace the TCP-MD5 key of the connection; the next connection uses the new key"
            ),
        }
    }

    fn handle_connection_closed(&mut self, reason: String) {
        self.drop_connection();
        self.session.handle_input(Instant::now(), SessionInput::ConnectionClosed { reason });
    }

    /// Closes the connection in the background, which takes a fraction of a second.
    fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.bfd.keep(Instant::now());
            self.failover.close(connection);
        }
        self.drop_connection();
    }

    fn drop_connection(&mut self) {
        self.connection = None;
        self.failover.forget_link();
        self.connecting = None;
    }

    fn next_hops(&mut self, local: IpAddr, remote: IpAddr) -> NextHops {
        let interface = self.tracker.dialed().and_then(|endpoint| endpoint.interface);
        let (links, node) = (self.context.links.borrow(), self.context.node_addresses.borrow());
        let (local, remote) = (local.to_canonical(), remote.to_canonical());
        self.next_hops = next_hops(local, interface, remote, &links, &node, self.next_hops);
        self.next_hops
    }

    /// Returns the address of the router as the Speaker object shows it.
    fn shown_address(&self) -> String {
        let resolved = self.tracker.dialed().map(|endpoint| endpoint.remote);
        match (&self.peer.address, resolved) {
            (PeerAddress::Interface(interface), Some(remote)) => format!("{remote}%{interface}"),
            (PeerAddress::GatewayV4 | PeerAddress::GatewayV6, Some(remote)) => remote.to_string(),
            (address, _) => address.to_string(),
        }
    }

    fn update_next_hops(&mut self) {
        let connection = self.connection.as_ref();
        if let Some((local, remote)) =
            connection.and_then(|connection| connection.local().zip(connection.remote()))
        {
            let next_hops = self.next_hops(local, remote);
            self.session.set_next_hops(next_hops);
        }
    }

    fn read(&mut self) {
        let Self { connection: Some(connection), session, .. } = self else { return };
        let read = connection.read(|octets| {
            session.handle_input(Instant::now(), SessionInput::Received(octets));
            session.read_after().is_none()
        });
        match read {
            Ok(Read::Pause) => {}
            Ok(Read::Closed) => self.handle_connection_closed(String::new()),
            Err(error) => self.handle_connection_closed(error.to_string()),
        }
    }

    /// Handles the events of the session, and writes as much as the socket takes.
    fn handle_output(&mut self) {
        self.handle_session_events();
        loop {
            if let Err(reason) = self.write() {
                self.handle_connection_closed(reason);
            }
            self.write_second();
            // The last withdrawal of a session that is being stopped ends it.
            if !self.handle_session_events() {
                return;
            }
        }
    }

    /// Handles the events of the session. Returns whether there were any.
    fn handle_session_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.session.poll_event() {
            self.handle_session_event(event);
            any = true;
        }
        any
    }

    fn handle_session_event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Connect => {
                // The kernel may have another route since the last attempt.
                self.update_bfd();
                self.connecting = Some(self.dial());
            }
            SessionEvent::SwitchConnections => self.switch_connections(),
            SessionEvent::CloseSecond => self.close_second(),
            SessionEvent::Unconnected => self.show_unconnected(),
            SessionEvent::CloseForRestart => self.close(),
            SessionEvent::Close => {
                self.write_last();
                self.close();
            }
            SessionEvent::Established(negotiated) => {
                tracing::info!(
                    peer = %self.peer.name,
                    asn = negotiated.peer_asn,
                    router_id = %negotiated.peer_router_id,
                    hold_time = ?negotiated.hold_time,
                    "BGP session established"
                );
                // The routers of an unnumbered peer may take turns until a session is established.
                self.view.set_address(self.shown_address());
                self.view.handle_established(Timestamp::now(), &negotiated, &self.peer);
            }
            SessionEvent::Down { from, reason } => {
                let was_established = from == SessionState::Established;
                if was_established {
                    self.metrics.count_drop(&reason);
                }
                if let Some(error) = self.view.handle_down(was_established, &reason, Timestamp::now()) {
                    tracing::warn!(peer = %self.peer.name, state = %from, %error, "BGP session down");
                }
                if let Some(router) = &self.router {
                    router.release();
                }
                self.start_or_stop();
                if self.peer.shutdown.is_some() {
                    self.update_bfd();
                }
            }
        }
    }

    /// Writes what waits to be written, at most once.
    fn write(&mut self) -> Result<(), String> {
        let Self { connection: Some(connection), session, .. } = self else { return Ok(()) };
        let encode = |output: &mut Vec<u8>| session.poll_transmit(Instant::now(), OUTPUT_SIZE, output);
        connection.write(encode).map_err(|error| error.to_string())
    }

    /// Writes what is left before the connection is closed, as far as the socket accepts it: the rest of the
    /// output, then the NOTIFICATION.
    fn write_last(&mut self) {
        // The connection is closed whether or not the peer can be told why.
        let _ = self.write().and_then(|()| self.write());
    }

    /// Updates the metrics, and the view of the session if it changed.
    fn publish(&mut self) {
        self.metrics.update(&self.session);
        let is_written = self.connection.as_ref().is_none_or(|connection| !connection.has_output());
        if is_written && let Some(arrived) = self.endpoint_change.take_written(&self.session) {
            self.metrics.observe_endpoint_change(arrived.elapsed());
        }
        let key_message = self.password.as_ref().and_then(Password::message);
        let unusable = self.unusable.as_ref().map(|error| {
            format!(
                "the last edit of the BGPPeer cannot be used: {error}; the session keeps its earlier parameters: \
                 correct the BGPPeer"
            )
        });
        let others = self.router.as_ref().is_some_and(|router| router.found().others);
        // The Speaker object holds a limited number of messages: this one must be among them.
        let mut messages: Vec<String> =
            unusable.into_iter().chain(messages(&self.peer, &self.session, key_message)).collect();
        messages.extend(others.then(|| OTHER_ROUTERS.to_owned()));
        if self.session.exceeds_receive_rate() && !std::mem::replace(&mut self.flood_logged, true) {
            tracing::warn!(peer = %self.peer.name, "{FLOOD}");
        }
        self.view.set_bfd(self.bfd.view(), self.session.waits_for_bfd());
        let is_shut_down = self.peer.shutdown.is_some() && self.session.state() == SessionState::Idle;
        self.view.set_shutdown(is_shut_down);
        self.view.set_passive(self.peer.passive);
        self.view.set_description(&self.peer.description);
        if let Some(view) = self.view.poll_view(self.session.families(), messages) {
            self.context.sessions.send_modify(|sessions| drop(sessions.insert(self.peer.name.clone(), view)));
        }
    }
}
