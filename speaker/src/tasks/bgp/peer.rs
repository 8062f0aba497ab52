//! The task of one peer: drives a BGP session with a TCP connection, timers and commands.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use fairlead_bgp::{CeaseSubcode, Session, SessionEvent, SessionInput, SessionState, Withheld};
use fairlead_crds::model::config::{Peer, PeerAddress};
use jiff::Timestamp;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::PeerContext;
use super::commands::{PeerCommand, PeerCommandReceiver};
use super::connect::{close_failed, close_write_side, connect_to_peer, session_config};
use super::next_hops::next_hops;
use super::session_view::{SessionViewState, invalid_peer};
use crate::metrics::PeerMetrics;
use crate::tasks::sleep_until_or_forever;

/// Octets that are encoded at once for the socket. Routes beyond that remain in the session, where a later
/// change of the same route replaces them.
const OUTPUT_SIZE: usize = 64 * 1024;

/// Memory that the output buffer keeps at rest, in octets.
const OUTPUT_SIZE_AT_REST: usize = 4096;

/// Size of the receive buffer in octets, and so the most that is read per turn.
const BUFFER_SIZE: usize = 16 * 1024;

type Connecting = Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send>>;

pub(super) struct PeerTask {
    peer: Peer,
    context: PeerContext,
    session: Session,
    stream: Option<TcpStream>,
    /// The connection attempt in progress.
    connecting: Option<Connecting>,
    /// Encoded messages, of which the first `written` octets were written to the socket.
    output: Vec<u8>,
    written: usize,
    view: SessionViewState,
    metrics: PeerMetrics,
}

impl PeerTask {
    /// Keeps the session established until [`PeerCommand::Stop`]. Starts when `previous`, the task of the
    /// session with the same name, has ended.
    pub(super) async fn run(
        peer: Peer,
        mut commands: PeerCommandReceiver,
        context: PeerContext,
        previous: Option<JoinHandle<()>>,
    ) {
        if let Some(previous) = previous {
            // After a panic of that task this one starts as well.
            let _ = previous.await;
        }
        let session = session_config(&peer, &context)
            .and_then(|config| Session::new(config, rand::random()).map_err(|e| e.to_string()));
        let name = peer.name.clone();
        let metrics = context.metrics.clone();
        let sessions = context.sessions.clone();
        match session {
            Ok(session) => Self::new(peer, context, session).serve(&mut commands).await,
            Err(error) => {
                tracing::error!(peer = %name, %error, "invalid peer configuration");
                let view = invalid_peer(address(&peer), error);
                sessions.send_modify(|sessions| drop(sessions.insert(name.clone(), view)));
                while !matches!(commands.recv().await, None | Some(PeerCommand::Stop { .. })) {}
            }
        }
        metrics.forget_peer(&name);
        sessions.send_modify(|sessions| drop(sessions.remove(&name)));
    }

    fn new(peer: Peer, context: PeerContext, session: Session) -> Self {
        if peer.bfd.is_some() {
            tracing::warn!(peer = %peer.name, "BFD is not supported yet; the session runs without it");
        }
        Self {
            view: SessionViewState::new(address(&peer)),
            metrics: context.metrics.peer(&peer.name),
            peer,
            context,
            session,
            stream: None,
            connecting: None,
            output: Vec::new(),
            written: 0,
        }
    }

    async fn serve(&mut self, commands: &mut PeerCommandReceiver) {
        let mut buffer = vec![0; BUFFER_SIZE];
        let mut links = self.context.links.clone();
        let mut node_addresses = self.context.node_addresses.clone();
        loop {
            self.handle_output();
            self.publish();
            let interest = match self.written < self.output.len() {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            tokio::select! {
                // Commands first, so that what is sent next includes all changes.
                biased;
                command = commands.recv() => {
                    // All pending commands at once: the session packs routes with equal attributes into one
                    // UPDATE.
                    let mut next = command;
                    if next.is_none() {
                        return;
                    }
                    while let Some(command) = next {
                        if let PeerCommand::Stop { subcode, text } = command {
                            return self.stop(subcode, text).await;
                        }
                        self.handle_command(command);
                        next = commands.try_recv();
                    }
                }
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
                    match &self.stream {
                        Some(stream) => stream.ready(interest).await,
                        None => std::future::pending().await,
                    }
                } => match ready {
                    Ok(ready) => {
                        if ready.is_readable() || ready.is_read_closed() || ready.is_error() {
                            self.read(&mut buffer);
                        }
                    }
                    Err(error) => self.handle_connection_closed(error.to_string()),
                },
                () = sleep_until_or_forever(self.session.poll_timeout()) => {
                    self.session.handle_timeout(Instant::now());
                }
                Ok(()) = links.changed() => self.update_next_hops(),
                Ok(()) = node_addresses.changed() => self.update_next_hops(),
            }
        }
    }

    fn handle_command(&mut self, command: PeerCommand) {
        match command {
            PeerCommand::Announce(prefix, attributes) => {
                if let Err(error) = self.session.announce(prefix, attributes) {
                    tracing::error!(peer = %self.peer.name, %prefix, %error, "cannot announce route");
                    self.session.withdraw(&prefix);
                }
            }
            PeerCommand::Withdraw(prefix) => self.session.withdraw(&prefix),
            PeerCommand::Start => self.session.handle_input(Instant::now(), SessionInput::ManualStart),
            // Handled by the caller, which ends the task.
            PeerCommand::Stop { .. } => {}
        }
    }

    fn handle_connected(&mut self, result: Result<TcpStream, String>) {
        let now = Instant::now();
        let connected = result.and_then(|stream| {
            let local = stream.local_addr().map_err(|e| e.to_string())?;
            let remote = stream.peer_addr().map_err(|e| e.to_string())?;
            Ok((stream, local, remote))
        });
        match connected {
            Ok((stream, local, remote)) => {
                let next_hops = self.next_hops(local.ip());
                self.stream = Some(stream);
                self.session.handle_input(now, SessionInput::Connected { local, remote, next_hops });
            }
            Err(reason) => self.session.handle_input(now, SessionInput::ConnectFailed { reason }),
        }
    }

    fn handle_connection_closed(&mut self, reason: String) {
        self.drop_connection();
        self.session.handle_input(Instant::now(), SessionInput::ConnectionClosed { reason });
    }

    fn drop_connection(&mut self) {
        self.stream = None;
        self.connecting = None;
        self.output.clear();
        self.written = 0;
    }

    fn next_hops(&self, local: std::net::IpAddr) -> fairlead_bgp::NextHops {
        next_hops(local.to_canonical(), &self.context.links.borrow(), &self.context.node_addresses.borrow())
    }

    fn update_next_hops(&mut self) {
        if let Some(local) = self.stream.as_ref().and_then(|stream| stream.local_addr().ok()) {
            let next_hops = self.next_hops(local.ip());
            self.session.set_next_hops(next_hops);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        let Some(stream) = &self.stream else { return };
        match stream.try_read(buffer) {
            Ok(0) => self.handle_connection_closed(String::new()),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                self.session.handle_input(Instant::now(), SessionInput::Received(bytes));
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => self.handle_connection_closed(error.to_string()),
        }
    }

    /// Handles the events of the session, and writes as much as the socket takes.
    fn handle_output(&mut self) {
        loop {
            while let Some(event) = self.session.poll_event() {
                self.handle_session_event(event);
            }
            match self.write() {
                Ok(()) => return,
                // The session may have new events.
                Err(reason) => self.handle_connection_closed(reason),
            }
        }
    }

    fn handle_session_event(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Connect => {
                let attempt = connect_to_peer(self.peer.clone(), self.context.clone());
                self.connecting = Some(Box::pin(attempt));
            }
            SessionEvent::CloseForRestart => self.drop_connection(),
            SessionEvent::Close => {
                let _ = self.write();
                if let Some(stream) = self.stream.take() {
                    // Ends by itself after a fraction of a second; the session waits longer before it
                    // reconnects.
                    tokio::spawn(close_failed(stream));
                }
                self.drop_connection();
            }
            SessionEvent::Established(negotiated) => {
                tracing::info!(
                    peer = %self.peer.name,
                    asn = negotiated.peer_asn,
                    router_id = %negotiated.peer_router_id,
                    hold_time = ?negotiated.hold_time,
                    "BGP session established"
                );
                self.view.handle_established(Timestamp::now());
            }
            SessionEvent::Down { from, reason } => {
                if let Some(error) = self.view.handle_down(from == SessionState::Established, &reason) {
                    tracing::warn!(peer = %self.peer.name, state = %from, %error, "BGP session down");
                }
            }
        }
    }

    fn write(&mut self) -> Result<(), String> {
        loop {
            let Some(stream) = &self.stream else { return Ok(()) };
            if self.written == self.output.len() {
                self.output.clear();
                self.written = 0;
                if !self.session.poll_transmit(Instant::now(), OUTPUT_SIZE, &mut self.output) {
                    self.output.shrink_to(OUTPUT_SIZE_AT_REST);
                    return Ok(());
                }
            }
            match stream.try_write(self.output.get(self.written..).unwrap_or_default()) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Stops the session, and writes what it sends until it has ended.
    async fn stop(&mut self, subcode: CeaseSubcode, text: String) {
        self.session.handle_input(Instant::now(), SessionInput::ManualStop { subcode, text });
        while self.session.state() == SessionState::Established {
            let failure = match self.write() {
                Err(error) => Some(error),
                Ok(()) if self.session.state() != SessionState::Established => break,
                Ok(()) => self.wait_writable().await,
            };
            if let Some(reason) = failure {
                self.handle_connection_closed(reason);
            }
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::CloseForRestart => {
                    tracing::info!(peer = %self.peer.name, "leaving routes to graceful restart");
                    self.drop_connection();
                }
                SessionEvent::Close => {
                    let _ = self.write();
                    if let Some(stream) = self.stream.take() {
                        close_write_side(&stream).await;
                    }
                }
                SessionEvent::Connect | SessionEvent::Established(_) | SessionEvent::Down { .. } => {}
            }
        }
    }

    /// Waits until the socket accepts octets or a timer of the session expires. Returns the socket's error.
    async fn wait_writable(&mut self) -> Option<String> {
        let Some(stream) = &self.stream else { return Some(String::new()) };
        tokio::select! {
            writable = stream.writable() => writable.err().map(|error| error.to_string()),
            () = sleep_until_or_forever(self.session.poll_timeout()) => {
                self.session.handle_timeout(Instant::now());
                None
            }
        }
    }

    /// Updates the metrics, and the view of the session if it changed.
    fn publish(&mut self) {
        let established = self.session.state() == SessionState::Established;
        let announced = self.session.announced();
        self.metrics.update(established, announced, self.session.pending(), self.session.statistics());
        let messages = self.messages();
        if let Some(view) = self.view.poll_view(established, announced, messages) {
            self.context.sessions.send_modify(|sessions| drop(sessions.insert(self.peer.name.clone(), view)));
        }
    }

    /// Returns messages about features that do not work on the session: one for BFD and for each address
    /// family.
    fn messages(&self) -> Vec<String> {
        let bfd = self.peer.bfd.as_ref().map(|profile| {
            format!("BFD (BFDProfile {}) is not supported yet: the session runs without it", profile.name)
        });
        bfd.into_iter().chain(self.session.withheld().values().map(Withheld::to_string)).collect()
    }
}

fn address(peer: &Peer) -> String {
    match &peer.address {
        PeerAddress::Ip(address) => address.to_string(),
        PeerAddress::Interface(name) => name.clone(),
    }
}
