//! The task of one peer: it drives a session with a TCP connection, time and commands.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use fairlead_bgp::{CeaseSubcode, DownReason, Session, SessionEvent, SessionInput, SessionState, Withheld};
use fairlead_crds::model::config::{Peer, PeerAddress};
use jiff::Timestamp;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::connect::{abandon, dial, linger, session_config};
use super::next_hops::next_hops;
use super::{Command, Shared};
use crate::metrics::PeerLabel;
use crate::tasks::until;
use fairlead_plan::node_status::SessionView;

/// How much is made ready for the socket at once; what the peer has not read stays a difference in the session.
const CHUNK: usize = 64 * 1024;

type Dialling = Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send>>;

pub(super) struct PeerTask {
    peer: Peer,
    shared: Shared,
    session: Session,
    stream: Option<TcpStream>,
    dialling: Option<Dialling>,
    /// Bytes made ready, and how many of them are written.
    out: Vec<u8>,
    written: usize,
    label: PeerLabel,
    since: Option<Timestamp>,
    last_error: Option<String>,
    shown: Option<SessionView>,
}

impl PeerTask {
    /// Keeps the session up until told to stop; begins when `before` has ended.
    pub(super) async fn run(
        peer: Peer,
        mut commands: mpsc::UnboundedReceiver<Command>,
        shared: Shared,
        before: Option<JoinHandle<()>>,
    ) {
        if let Some(before) = before {
            // It may have failed; that is no reason not to begin.
            let _ = before.await;
        }
        let session = session_config(&peer, &shared)
            .and_then(|config| Session::new(config, rand::random()).map_err(|e| e.to_string()));
        let name = peer.name.clone();
        let metrics = shared.metrics.clone();
        let sessions = shared.sessions.clone();
        match session {
            Ok(session) => Self::new(peer, shared, session).serve(&mut commands).await,
            Err(why) => {
                tracing::error!(peer = %name, why, "there can be no session");
                let view = SessionView {
                    address: address(&peer),
                    state: "Idle",
                    last_error: Some(why),
                    ..SessionView::default()
                };
                sessions.send_modify(|sessions| drop(sessions.insert(name.clone(), view)));
                while !matches!(commands.recv().await, None | Some(Command::Stop { .. })) {}
            }
        }
        metrics.forget_peer(&name);
        sessions.send_modify(|sessions| drop(sessions.remove(&name)));
    }

    fn new(peer: Peer, shared: Shared, session: Session) -> Self {
        if peer.bfd.is_some() {
            tracing::warn!(peer = %peer.name, "BFD is not supported yet; the session runs without it");
        }
        Self {
            label: PeerLabel { peer: peer.name.clone() },
            peer,
            shared,
            session,
            stream: None,
            dialling: None,
            out: Vec::new(),
            written: 0,
            since: None,
            last_error: None,
            shown: None,
        }
    }

    async fn serve(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) {
        let mut batch = Vec::new();
        let mut buffer = vec![0; 16 * 1024];
        let mut links = self.shared.links.clone();
        let mut node_addresses = self.shared.node_addresses.clone();
        loop {
            self.drain();
            self.show();
            let interest = match self.written < self.out.len() {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            tokio::select! {
                // Routes first, so that what is sent next is complete.
                biased;
                received = commands.recv_many(&mut batch, 1024) => {
                    if received == 0 {
                        return;
                    }
                    for command in batch.drain(..) {
                        if let Command::Stop { subcode, text } = command {
                            return self.stop(subcode, text).await;
                        }
                        self.obey(command);
                    }
                    // One packed UPDATE is better than many: take all there is before anything is sent.
                    while let Ok(command) = commands.try_recv() {
                        if let Command::Stop { subcode, text } = command {
                            return self.stop(subcode, text).await;
                        }
                        self.obey(command);
                    }
                }
                dialled = async {
                    match &mut self.dialling {
                        Some(dialling) => dialling.await,
                        None => std::future::pending().await,
                    }
                } => {
                    self.dialling = None;
                    self.dialled(dialled);
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
                    Err(error) => self.lost(error.to_string()),
                },
                () = until(self.session.poll_timeout()) => self.session.handle_timeout(Instant::now()),
                Ok(()) = links.changed() => self.find_next_hops(),
                Ok(()) = node_addresses.changed() => self.find_next_hops(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Announce(prefix, attributes) => {
                if let Err(error) = self.session.announce(prefix, attributes) {
                    tracing::error!(peer = %self.peer.name, %prefix, %error, "cannot announce");
                    self.session.withdraw(&prefix);
                }
            }
            Command::Withdraw(prefix) => self.session.withdraw(&prefix),
            Command::Start => self.session.handle_input(Instant::now(), SessionInput::ManualStart),
            // Stopping ends the task: the caller does it.
            Command::Stop { .. } => {}
        }
    }

    fn dialled(&mut self, outcome: Result<TcpStream, String>) {
        let now = Instant::now();
        let connected = outcome.and_then(|stream| {
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

    fn next_hops(&self, local: std::net::IpAddr) -> fairlead_bgp::NextHops {
        next_hops(local.to_canonical(), &self.shared.links.borrow(), &self.shared.node_addresses.borrow())
    }

    fn find_next_hops(&mut self) {
        if let Some(local) = self.stream.as_ref().and_then(|stream| stream.local_addr().ok()) {
            let next_hops = self.next_hops(local.ip());
            self.session.set_next_hops(next_hops);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        let Some(stream) = &self.stream else { return };
        match stream.try_read(buffer) {
            Ok(0) => self.lost(String::new()),
            Ok(length) => {
                let bytes = buffer.get(..length).unwrap_or_default();
                self.session.handle_input(Instant::now(), SessionInput::Received(bytes));
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => self.lost(error.to_string()),
        }
    }

    fn lost(&mut self, reason: String) {
        self.hang_up();
        self.session.handle_input(Instant::now(), SessionInput::ConnectionClosed { reason });
    }

    fn hang_up(&mut self) {
        self.stream = None;
        self.dialling = None;
        self.out.clear();
        self.written = 0;
    }

    /// Does what the session asks for, and writes what the socket takes.
    fn drain(&mut self) {
        loop {
            while let Some(event) = self.session.poll_event() {
                match event {
                    SessionEvent::Connect => {
                        self.dialling = Some(Box::pin(dial(self.peer.clone(), self.shared.clone())));
                    }
                    SessionEvent::CloseForRestart => self.hang_up(),
                    SessionEvent::Close => {
                        let _ = self.write();
                        if let Some(stream) = self.stream.take() {
                            tokio::spawn(abandon(stream));
                        }
                        self.hang_up();
                    }
                    SessionEvent::Established(negotiated) => {
                        tracing::info!(peer = %self.peer.name, asn = negotiated.peer_asn,
                            router_id = %negotiated.peer_router_id, hold_time = ?negotiated.hold_time,
                            "session is established");
                        self.since = Some(Timestamp::now());
                        self.last_error = None;
                    }
                    SessionEvent::Down { from, reason } => self.went_down(from, &reason),
                }
            }
            match self.write() {
                Ok(()) => return,
                // The session may have more to say about it.
                Err(reason) => self.lost(reason),
            }
        }
    }

    fn went_down(&mut self, from: SessionState, reason: &DownReason) {
        self.since = None;
        if *reason == DownReason::Stopped {
            return;
        }
        // A connection that ends without a word says less than what was said before: a router that refuses this
        // peering says why once, and then closes each attempt at once.
        if from != SessionState::Established
            && matches!(reason, DownReason::ConnectionClosed(_))
            && self.last_error.is_some()
        {
            return;
        }
        let why = reason.to_string();
        if from == SessionState::Established || self.last_error.as_ref() != Some(&why) {
            tracing::warn!(peer = %self.peer.name, %from, why, "session is down");
        }
        self.last_error = Some(why);
    }

    fn write(&mut self) -> Result<(), String> {
        loop {
            let Some(stream) = &self.stream else { return Ok(()) };
            if self.written == self.out.len() {
                self.out.clear();
                self.written = 0;
                if !self.session.poll_transmit(Instant::now(), CHUNK, &mut self.out) {
                    // At rest no more memory than needed.
                    self.out.shrink_to(4096);
                    return Ok(());
                }
            }
            match stream.try_write(self.out.get(self.written..).unwrap_or_default()) {
                Ok(length) => self.written += length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Ends the session, and writes what it sends while it ends.
    async fn stop(&mut self, subcode: CeaseSubcode, text: String) {
        self.session.handle_input(Instant::now(), SessionInput::ManualStop { subcode, text });
        while self.session.state() == SessionState::Established {
            let failure = match self.write() {
                Err(error) => Some(error),
                Ok(()) if self.session.state() != SessionState::Established => break,
                Ok(()) => self.writable().await,
            };
            if let Some(reason) = failure {
                self.lost(reason);
            }
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::CloseForRestart => {
                    tracing::info!(peer = %self.peer.name, "leaving the routes to graceful restart");
                    self.hang_up();
                }
                SessionEvent::Close => {
                    let _ = self.write();
                    if let Some(stream) = self.stream.take() {
                        linger(&stream).await;
                    }
                }
                SessionEvent::Connect | SessionEvent::Established(_) | SessionEvent::Down { .. } => {}
            }
        }
    }

    /// Waits until the socket takes bytes or a timer of the session fires. Returns the error of the socket.
    async fn writable(&mut self) -> Option<String> {
        let Some(stream) = &self.stream else { return Some(String::new()) };
        tokio::select! {
            writable = stream.writable() => writable.err().map(|error| error.to_string()),
            () = until(self.session.poll_timeout()) => {
                self.session.handle_timeout(Instant::now());
                None
            }
        }
    }

    /// Passes on what has changed about the session.
    fn show(&mut self) {
        let established = self.session.state() == SessionState::Established;
        let statistics = self.session.statistics();
        let metrics = &self.shared.metrics;
        metrics.session_up.get_or_create(&self.label).set(i64::from(established));
        metrics.routes.get_or_create(&self.label).set(self.session.announced() as i64);
        raise(&metrics.updates_sent.get_or_create(&self.label), statistics.updates_sent);
        raise(&metrics.session_drops.get_or_create(&self.label), statistics.dropped);
        let prefixes = if established { self.session.announced() } else { 0 };
        let messages = self.messages();
        let same = self.shown.as_ref().is_some_and(|shown| {
            shown.prefixes == prefixes
                && shown.since == self.since
                && shown.last_error == self.last_error
                && shown.messages == messages
        });
        if same {
            return;
        }
        let view = SessionView {
            address: address(&self.peer),
            state: if established { "Established" } else { "Active" },
            since: self.since,
            last_error: self.last_error.clone(),
            prefixes,
            messages,
        };
        self.shown = Some(view.clone());
        self.shared.sessions.send_modify(|sessions| drop(sessions.insert(self.peer.name.clone(), view)));
    }

    /// What does not work on this session, for the operator.
    fn messages(&self) -> Vec<String> {
        let bfd = self.peer.bfd.as_ref().map(|profile| {
            format!("BFD (BFDProfile {}) is not supported yet: the session runs without it", profile.name)
        });
        bfd.into_iter().chain(self.session.withheld().values().map(Withheld::to_string)).collect()
    }
}

fn raise(counter: &prometheus_client::metrics::counter::Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

fn address(peer: &Peer) -> String {
    match &peer.address {
        PeerAddress::Ip(address) => address.to_string(),
        PeerAddress::Interface(name) => name.clone(),
    }
}
