//! Peers for a session: a scripted peer ([`Solo`]), and a second session across a simulated link ([`Pair`]).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_bgp::message::attribute::{MpNextHop, PathAttributes};
use fairlead_bgp::message::capability::{Capability, GracefulRestart};
use fairlead_bgp::message::framer::Framer;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::message::{DecodeContext, MAX_EXTENDED_LENGTH, Message, encode_keepalive};
use fairlead_bgp::{
    Attributes, CeaseSubcode, Community, DownReason, Family, NextHops, PeerAs, Session, SessionConfig,
    SessionEvent, SessionInput, SessionState,
};
use ipnet::IpNet;

pub(crate) const LOCAL_AS: u32 = 64512;
pub(crate) const PEER_AS: u32 = 64513;

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap_or_default().bytes())
        .filter(u8::is_ascii_hexdigit)
        .collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// States with a connection.
pub(crate) const CONNECTED: &[SessionState] =
    &[SessionState::OpenSent, SessionState::OpenConfirm, SessionState::Established];

/// Waits until a timer expires.
pub(crate) fn expire(solo: &mut Solo) {
    let timeout = solo.session.poll_timeout().unwrap();
    solo.wait(timeout - solo.now);
}

pub(crate) fn open_bytes(open: &Open) -> Vec<u8> {
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    bytes
}

/// Fails unless docs/bgp.md contains a table of these states with these rows: events, and what each does in
/// each state.
pub(crate) fn assert_documented<'a>(
    states: &[SessionState],
    rows: impl Iterator<Item = (&'a str, Vec<String>)>,
) {
    let header = ("event", states.iter().map(ToString::to_string).collect());
    let line = ("---", vec!["---".to_owned(); states.len()]);
    let table: String = [header, line]
        .into_iter()
        .chain(rows)
        .map(|(event, outcomes)| format!("| {event} | {} |\n", outcomes.join(" | ")))
        .collect();
    let documented = include_str!("../../../../docs/bgp.md");
    assert!(documented.contains(&table), "docs/bgp.md does not contain the table of this session:\n{table}");
}

/// Returns a message with the given type and body.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xFF; 16];
    bytes.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

/// Returns an UPDATE with encoded attributes and IPv4 prefixes.
pub(crate) fn update(attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(2, &body)
}

pub(crate) fn config() -> SessionConfig {
    SessionConfig {
        local_asn: LOCAL_AS,
        peer_asn: PeerAs::Exactly(PEER_AS),
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        hold_time: secs(90),
        keepalive_time: None,
        connect_retry: secs(120),
        families: Family::ALL.into(),
        graceful_restart: None,
        passive: false,
        restarting_until: None,
        forwarding_preserved: true,
    }
}

pub(crate) fn next_hops() -> NextHops {
    NextHops {
        v4: Some(Ipv4Addr::new(192, 0, 2, 1)),
        v6: Some("2001:db8::1".parse().unwrap()),
        link_local: None,
        over_link_local: false,
    }
}

pub(crate) fn attributes(community: u16) -> Arc<Attributes> {
    Arc::new(Attributes { communities: [Community(64512, community)].into(), ..Attributes::default() })
}

/// Returns the OPEN of a router that accepts [`config`].
pub(crate) fn peer_open() -> Open {
    Open {
        my_as: 64513,
        hold_time: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        capabilities: vec![
            Capability::multi_protocol(Family::Ipv4Unicast),
            Capability::multi_protocol(Family::Ipv6Unicast),
            Capability::RouteRefresh,
            Capability::FourOctetAs(PEER_AS),
        ],
    }
}

/// Decodes a stream of complete messages.
pub(crate) fn decode_all(bytes: &[u8], context: DecodeContext) -> Vec<Message> {
    let mut framer = Framer::default();
    let mut input = bytes;
    let mut messages = Vec::new();
    while let Some(frame) = framer.next(&mut input, MAX_EXTENDED_LENGTH).unwrap() {
        messages.push(Message::decode(frame, context).unwrap());
        if input.is_empty() {
            return messages;
        }
    }
    assert!(bytes.is_empty(), "the stream ends with an incomplete message");
    messages
}

/// One session; the test is its peer.
pub(crate) struct Solo {
    pub now: Instant,
    pub session: Session,
    pub remote: SocketAddr,
    pub next_hops: NextHops,
    pub context: DecodeContext,
    local_asn: u32,
}

impl Solo {
    pub(crate) fn new(config: SessionConfig) -> Self {
        Self {
            local_asn: config.local_asn,
            now: Instant::now(),
            session: Session::new(config, 7).unwrap(),
            remote: "192.0.2.2:179".parse().unwrap(),
            next_hops: next_hops(),
            context: DecodeContext { four_octet_as: true, ebgp: true, enhanced_route_refresh: true },
        }
    }

    /// Connects over IPv6, so that the session offers RFC 8950.
    pub(crate) fn over_ipv6(config: SessionConfig) -> Self {
        Self { remote: "[2001:db8::2]:179".parse().unwrap(), ..Self::new(config) }
    }

    pub(crate) fn open_sent(mut self) -> Self {
        self.session.handle_input(self.now, SessionInput::ManualStart);
        assert_eq!(self.session.poll_event(), Some(SessionEvent::Connect));
        let local = "192.0.2.1:40000".parse().unwrap();
        let (remote, next_hops) = (self.remote, self.next_hops);
        self.session.handle_input(self.now, SessionInput::Connected { local, remote, next_hops });
        assert_eq!(self.session.state(), SessionState::OpenSent);
        let messages = self.sent();
        assert!(matches!(messages[..], [Message::Open(_)]), "{messages:?}");
        self
    }

    pub(crate) fn open_confirm(self) -> Self {
        self.open_confirm_with(&peer_open())
    }

    pub(crate) fn open_confirm_with(mut self, open: &Open) -> Self {
        self = self.open_sent();
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        self.receive(&bytes);
        assert_eq!(self.session.state(), SessionState::OpenConfirm, "{:?}", self.session.poll_event());
        assert_eq!(self.sent(), [Message::Keepalive]);
        self
    }

    pub(crate) fn established(self) -> Self {
        self.established_with(&peer_open())
    }

    pub(crate) fn established_with(mut self, open: &Open) -> Self {
        self = self.open_confirm_with(open);
        self.keepalive();
        assert_eq!(self.session.state(), SessionState::Established);
        self.context.four_octet_as = open.four_octet_asn().is_some();
        self.context.ebgp = open.asn() != self.local_asn;
        assert!(matches!(self.session.poll_event(), Some(SessionEvent::Established(_))));
        self
    }

    /// Moves from Connect to Established once more.
    pub(crate) fn reestablish(&mut self) {
        assert_eq!(self.session.state(), SessionState::Connect);
        let (local, remote, next_hops) = ("192.0.2.1:1".parse().unwrap(), self.remote, self.next_hops);
        self.session.handle_input(self.now, SessionInput::Connected { local, remote, next_hops });
        let mut bytes = Vec::new();
        peer_open().encode(&mut bytes);
        self.receive(&bytes);
        self.keepalive();
        assert_eq!(self.session.state(), SessionState::Established);
        while self.session.poll_event().is_some() {}
    }

    pub(crate) fn keepalive(&mut self) {
        let mut bytes = Vec::new();
        encode_keepalive(&mut bytes);
        self.receive(&bytes);
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.session.handle_input(self.now, SessionInput::Received(bytes));
    }

    /// Advances the time, and lets the timers expire one by one.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.handle_timeout(self.now);
        }
        self.now = end;
    }

    pub(crate) fn sent_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.session.poll_transmit(self.now, 4096, &mut bytes) {}
        bytes
    }

    pub(crate) fn sent(&mut self) -> Vec<Message> {
        let bytes = self.sent_bytes();
        decode_all(&bytes, self.context)
    }

    pub(crate) fn events(&mut self) -> Vec<SessionEvent> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    pub(crate) fn down_reason(&mut self) -> DownReason {
        loop {
            match self.session.poll_event().expect("a Down event") {
                SessionEvent::Down { reason, .. } => return reason,
                _ => continue,
            }
        }
    }

    pub(crate) fn stop(&mut self) {
        self.stop_with(CeaseSubcode::AdministrativeShutdown);
    }

    pub(crate) fn stop_with(&mut self, subcode: CeaseSubcode) {
        let (text, drain) = (String::new(), Duration::ZERO);
        let stop = SessionInput::ManualStop { subcode, text, restart: false, drain };
        self.session.handle_input(self.now, stop);
    }

    /// Stops the session because the process restarts.
    pub(crate) fn stop_for_restart(&mut self) {
        let subcode = CeaseSubcode::AdministrativeShutdown;
        let (text, drain) = (String::new(), Duration::ZERO);
        let stop = SessionInput::ManualStop { subcode, text, restart: true, drain };
        self.session.handle_input(self.now, stop);
    }
}

/// Returns an established session with one route that the peer has, for each side with or without graceful
/// restart.
pub(crate) fn established_with_restart(ours: bool, theirs: bool) -> Solo {
    let mut solo = Solo::new(SessionConfig { graceful_restart: ours.then(|| secs(120)), ..config() });
    solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    let mut capabilities = peer_open().capabilities;
    if theirs {
        capabilities.push(Capability::GracefulRestart(GracefulRestart { time: 90, ..Default::default() }));
    }
    let mut solo = solo.established_with(&Open { capabilities, ..peer_open() });
    solo.sent();
    assert_eq!(solo.session.announced(), 1);
    solo
}

/// Next hop of a received route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextHop {
    Classic(Ipv4Addr),
    MultiProtocol(MpNextHop),
}

/// The routes that the peer has learned, as `show bgp` displays them on a router.
#[derive(Debug, Default)]
pub(crate) struct LearnedRoutes {
    pub routes: BTreeMap<IpNet, (NextHop, PathAttributes)>,
    pub updates: usize,
    /// Number of announced prefixes, including repetitions.
    pub announced: usize,
    pub end_of_rib: Vec<Family>,
}

impl LearnedRoutes {
    pub(crate) fn learn(&mut self, messages: Vec<Message>) {
        for message in messages {
            let Message::Update(decoded) = message else { continue };
            assert_eq!(decoded.errors, [], "the session sent a malformed UPDATE");
            let mut update = decoded.update;
            self.updates += 1;
            let reach = update.attributes.mp_reach.take();
            let unreach = update.attributes.mp_unreach.take();
            if update.withdrawn.is_empty() && update.nlri.is_empty() && reach.is_none() {
                match &unreach {
                    None => self.end_of_rib.push(Family::Ipv4Unicast),
                    Some(unreach) if unreach.withdrawn.is_empty() => self.end_of_rib.push(unreach.family),
                    Some(_) => {}
                }
            }
            for prefix in update.withdrawn.iter().chain(unreach.iter().flat_map(|u| &u.withdrawn)) {
                assert!(self.routes.remove(prefix).is_some(), "{prefix} was withdrawn but never announced");
            }
            self.announced += update.nlri.len() + reach.as_ref().map_or(0, |reach| reach.nlri.len());
            for prefix in update.nlri {
                let next_hop = NextHop::Classic(update.attributes.next_hop.unwrap());
                self.routes.insert(prefix, (next_hop, update.attributes.clone()));
            }
            for prefix in reach.iter().flat_map(|reach| &reach.nlri) {
                let next_hop = NextHop::MultiProtocol(reach.as_ref().unwrap().next_hop);
                self.routes.insert(*prefix, (next_hop, update.attributes.clone()));
            }
        }
    }

    pub(crate) fn prefixes(&self) -> Vec<String> {
        self.routes.keys().map(ToString::to_string).collect()
    }
}

/// Two sessions, a simulated link between them, and a clock.
pub(crate) struct Pair {
    pub now: Instant,
    pub start: Instant,
    pub ends: [End; 2],
    pub latency: Duration,
    /// True while the link silently drops everything.
    pub cut: bool,
    wire: Vec<(Instant, usize, Packet)>,
}

pub(crate) struct End {
    pub session: Session,
    /// All events, with the time since the start.
    pub log: Vec<(Duration, SessionEvent)>,
    /// All received messages.
    pub received: Vec<Message>,
    /// True while the socket accepts bytes.
    pub writable: bool,
    connected: bool,
}

#[derive(Debug)]
enum Packet {
    Connected,
    Refused,
    Bytes(Vec<u8>),
    Closed,
}

impl Pair {
    pub(crate) fn new(a: SessionConfig, b: SessionConfig) -> Self {
        let end = |config, seed| End {
            session: Session::new(config, seed).unwrap(),
            log: Vec::new(),
            received: Vec::new(),
            writable: true,
            connected: false,
        };
        let now = Instant::now();
        let latency = Duration::from_millis(5);
        Self { now, start: now, ends: [end(a, 1), end(b, 2)], latency, cut: false, wire: Vec::new() }
    }

    /// Returns a pair with [`config`] and its counterpart.
    pub(crate) fn ebgp() -> Self {
        Self::new(config(), counterpart(config()))
    }

    pub(crate) fn start(&mut self) {
        for end in &mut self.ends {
            end.session.handle_input(self.now, SessionInput::ManualStart);
        }
        self.run_to_rest();
    }

    pub(crate) fn stop(&mut self, end: usize, text: &str, restart: bool) {
        let subcode = CeaseSubcode::AdministrativeShutdown;
        let (text, drain) = (text.to_owned(), Duration::ZERO);
        let stop = SessionInput::ManualStop { subcode, text, restart, drain };
        self.ends[end].session.handle_input(self.now, stop);
        self.run_to_rest();
    }

    pub(crate) fn states(&self) -> [SessionState; 2] {
        [self.ends[0].session.state(), self.ends[1].session.state()]
    }

    /// Resets the connection at both ends.
    pub(crate) fn reset_connection(&mut self) {
        self.wire.clear();
        for end in &mut self.ends {
            end.connected = false;
            let reason = "connection reset by peer".to_owned();
            end.session.handle_input(self.now, SessionInput::ConnectionClosed { reason });
        }
        self.run_to_rest();
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.run_to_rest();
        let mut steps = 0;
        loop {
            let timers = self.ends.iter().filter_map(|end| end.session.poll_timeout());
            let Some(at) =
                timers.chain(self.wire.iter().map(|packet| packet.0)).min().filter(|at| *at <= end)
            else {
                break;
            };
            steps += 1;
            assert!(steps < 1_000_000, "the sessions never become idle");
            self.now = self.now.max(at);
            // Deliver packets before timers expire.
            let (due, later) =
                std::mem::take(&mut self.wire).into_iter().partition(|packet| packet.0 <= self.now);
            self.wire = later;
            for (_, to, packet) in due {
                self.deliver(to, packet);
            }
            for end in &mut self.ends {
                end.session.handle_timeout(self.now);
            }
            self.run_to_rest();
        }
        self.now = end;
    }

    fn deliver(&mut self, to: usize, packet: Packet) {
        let [local, remote] = ["192.0.2.1:179".parse().unwrap(), "192.0.2.2:179".parse().unwrap()];
        let end = &mut self.ends[to];
        match packet {
            Packet::Connected => {
                end.connected = true;
                end.session.handle_input(
                    self.now,
                    SessionInput::Connected { local, remote, next_hops: next_hops() },
                );
            }
            Packet::Refused => {
                let reason = "connection refused".to_owned();
                end.session.handle_input(self.now, SessionInput::ConnectFailed { reason });
            }
            Packet::Bytes(bytes) if end.connected => {
                end.received.extend(decode_all(
                    &bytes,
                    DecodeContext { four_octet_as: true, ebgp: true, enhanced_route_refresh: true },
                ));
                end.session.handle_input(self.now, SessionInput::Received(&bytes));
            }

            Packet::Closed if end.connected => {
                end.connected = false;
                end.session.handle_input(self.now, SessionInput::ConnectionClosed { reason: String::new() });
            }
            Packet::Bytes(_) | Packet::Closed => {}
        }
    }

    /// Carries out the events of both sessions until none is left.
    fn run_to_rest(&mut self) {
        for index in [0, 1, 0, 1] {
            while let Some(event) = self.ends[index].session.poll_event() {
                self.carry_out(index, &event);
                self.ends[index].log.push((self.now - self.start, event));
            }
            self.pull(index);
        }
    }

    fn carry_out(&mut self, index: usize, event: &SessionEvent) {
        let at = self.now + self.latency;
        let listens =
            matches!(self.ends[1 - index].session.state(), SessionState::Connect | SessionState::Active);
        match event {
            SessionEvent::Connect if self.cut => {}
            SessionEvent::Connect if listens => {
                let in_flight = self.wire.iter().any(|packet| matches!(packet.2, Packet::Connected));
                if !in_flight {
                    self.wire.extend([(at, 0, Packet::Connected), (at, 1, Packet::Connected)]);
                }
            }
            SessionEvent::Connect => self.wire.push((at, index, Packet::Refused)),
            SessionEvent::Close => {
                self.pull(index);
                if std::mem::take(&mut self.ends[index].connected) && !self.cut {
                    self.wire.push((at, 1 - index, Packet::Closed));
                }
            }
            SessionEvent::CloseForRestart => {
                if std::mem::take(&mut self.ends[index].connected) && !self.cut {
                    self.wire.push((at, 1 - index, Packet::Closed));
                }
            }
            SessionEvent::SwitchConnections
            | SessionEvent::CloseSecond
            | SessionEvent::Unconnected
            | SessionEvent::Established(_)
            | SessionEvent::Down { .. } => {}
        }
    }

    fn pull(&mut self, index: usize) {
        let end = &mut self.ends[index];
        let mut bytes = Vec::new();
        while end.writable && end.connected && end.session.poll_transmit(self.now, 1024, &mut bytes) {}
        if !bytes.is_empty() && !self.cut {
            self.wire.push((self.now + self.latency, 1 - index, Packet::Bytes(bytes)));
        }
    }
}

impl End {
    /// Returns the number of prefixes that the peer withdrew.
    pub(crate) fn withdrawals(&self) -> usize {
        let withdrawn = |message: &Message| match message {
            Message::Update(decoded) => {
                let unreach = decoded.update.attributes.mp_unreach.as_ref();
                decoded.update.withdrawn.len() + unreach.map_or(0, |unreach| unreach.withdrawn.len())
            }
            _ => 0,
        };
        self.received.iter().map(withdrawn).sum()
    }

    /// Returns the reasons of all Down events.
    pub(crate) fn downs(&self) -> Vec<String> {
        let reason = |(_, event): &(Duration, SessionEvent)| match event {
            SessionEvent::Down { reason, .. } => Some(reason.to_string()),
            _ => None,
        };
        self.log.iter().filter_map(reason).collect()
    }

    pub(crate) fn times(&self, wanted: impl Fn(&SessionEvent) -> bool) -> Vec<Duration> {
        self.log.iter().filter(|(_, event)| wanted(event)).map(|(at, _)| *at).collect()
    }
}

/// Returns the configuration of the other end.
pub(crate) fn counterpart(config: SessionConfig) -> SessionConfig {
    SessionConfig {
        local_asn: PEER_AS,
        peer_asn: PeerAs::Exactly(config.local_asn),
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        ..config
    }
}
