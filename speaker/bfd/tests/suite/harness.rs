//! Peers for a session: a scripted peer ([`Solo`]), and a second session across a simulated link ([`Pair`]).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::{Duration, Instant};

use fairlead_bfd::{ControlPacket, Diagnostic, Event, Role, Session, SessionConfig, State, View};

/// bfd.LocalDiscr of the session under test.
pub(crate) const LOCAL: NonZeroU32 = NonZeroU32::new(0x1111).unwrap();
/// Discriminator of the scripted peer.
pub(crate) const PEER: NonZeroU32 = NonZeroU32::new(0x2222).unwrap();

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// 3 × 100 ms in both directions.
pub(crate) fn config() -> SessionConfig {
    SessionConfig {
        role: Role::Active,
        desired_min_tx: ms(100),
        required_min_rx: ms(100),
        detect_multiplier: 3,
        required_min_echo_rx: Duration::ZERO,
        minimum_ttl: 254,
    }
}

/// A packet of the scripted peer in the given state. The peer knows the discriminator of the session unless
/// it is Down.
pub(crate) fn packet(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        authentication_present: false,
        demand: false,
        detect_multiplier: 3,
        my_discriminator: PEER,
        your_discriminator: Some(LOCAL).filter(|_| matches!(state, State::Init | State::Up)),
        desired_min_tx: ms(100),
        required_min_rx: ms(100),
        required_min_echo_rx: Duration::ZERO,
    }
}

pub(crate) fn poll(packet: ControlPacket) -> ControlPacket {
    ControlPacket { poll: true, ..packet }
}

pub(crate) fn fin(packet: ControlPacket) -> ControlPacket {
    ControlPacket { is_final: true, ..packet }
}

/// One session; the test is its peer.
pub(crate) struct Solo {
    pub now: Instant,
    pub session: Session,
    pub events: Vec<Event>,
}

impl Solo {
    pub(crate) fn new(config: SessionConfig) -> Self {
        Self::seeded(config, 7)
    }

    pub(crate) fn seeded(config: SessionConfig, seed: u64) -> Self {
        let now = Instant::now();
        let session = Session::new(config, LOCAL, now, seed).unwrap();
        Self { now, session, events: Vec::new() }
    }

    /// A session that is Up and has completed the Poll Sequence that announces its interval.
    pub(crate) fn up(config: SessionConfig) -> Self {
        let mut solo = Self::new(config);
        solo.receive(packet(State::Down));
        solo.receive(packet(State::Init));
        assert_eq!(solo.state(), State::Up);
        solo.receive(fin(packet(State::Up)));
        solo.receive(packet(State::Up));
        assert!(!solo.view().polling);
        solo.events.clear();
        solo
    }

    pub(crate) fn state(&self) -> State {
        self.session.state()
    }

    pub(crate) fn view(&self) -> View {
        self.session.view()
    }

    /// Passes a packet in. Returns the packets that the session sends at once.
    pub(crate) fn receive(&mut self, packet: ControlPacket) -> Vec<ControlPacket> {
        // A discarded packet is counted.
        let _ = self.session.handle_packet(self.now, &packet);
        self.transmit()
    }

    /// Returns the packets that the session sends now.
    pub(crate) fn transmit(&mut self) -> Vec<ControlPacket> {
        let packets = std::iter::from_fn(|| self.session.poll_transmit(self.now))
            .map(|p| ControlPacket::decode(&p).unwrap());
        let packets = packets.collect();
        self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
        packets
    }

    /// Lets the time pass without a packet from the peer. Returns the packets that the session sends, with
    /// the time since this call.
    pub(crate) fn run(&mut self, duration: Duration) -> Vec<(Duration, ControlPacket)> {
        let start = self.now;
        let mut sent = Vec::new();
        loop {
            let at = self.now - start;
            sent.extend(self.transmit().into_iter().map(|packet| (at, packet)));
            match self.session.poll_timeout().filter(|next| *next <= start + duration) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
            self.session.handle_timeout(self.now);
        }
        self.now = start + duration;
        sent
    }

    /// Lets the time pass while the peer sends this packet every 50 ms, so that the session stays as it is.
    pub(crate) fn run_with(
        &mut self,
        duration: Duration,
        packet: ControlPacket,
    ) -> Vec<(Duration, ControlPacket)> {
        let start = self.now;
        let mut sent = Vec::new();
        while self.now < start + duration {
            let at = self.now - start;
            sent.extend(self.receive(packet).into_iter().map(|packet| (at, packet)));
            sent.extend(self.run(ms(50)).into_iter().map(|(since, packet)| (at + since, packet)));
        }
        sent
    }

    /// Lets the time pass without calling the session.
    pub(crate) fn stall(&mut self, duration: Duration) {
        self.now += duration;
    }

    /// States that the session changed to, with the diagnostic, since the last call.
    pub(crate) fn changes(&mut self) -> Vec<(State, u8)> {
        let events = std::mem::take(&mut self.events);
        let change = |event| match event {
            Event::StateChanged { to, local_diagnostic, .. } => Some((to, local_diagnostic.code())),
            _ => None,
        };
        events.into_iter().filter_map(change).collect()
    }
}

/// Returns the intervals between packets.
pub(crate) fn gaps(sent: &[(Duration, ControlPacket)]) -> Vec<Duration> {
    sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

/// What happens to packets on a simulated link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Per cent of packets that are lost.
    pub loss: u64,
    /// Per cent of packets that arrive twice.
    pub duplication: u64,
    /// Latency in microseconds; each packet has a random one, so that packets overtake each other.
    pub latency: Range<u64>,
    /// Longest run of lost packets in one direction.
    pub max_burst: u32,
    pub cut: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { loss: 0, duplication: 0, latency: 500..501, max_burst: u32::MAX, cut: false }
    }
}

/// Two sessions across a simulated link.
pub(crate) struct Pair {
    pub now: Instant,
    pub ends: [Session; 2],
    pub link: Link,
    /// Events of each end.
    pub events: [Vec<Event>; 2],
    /// Packets on the link by arrival and order of transmission: the receiving end and the octets.
    in_flight: BTreeMap<(Instant, u64), (usize, [u8; 24])>,
    lost_in_a_row: [u32; 2],
    random: u64,
    transmitted: u64,
}

impl Pair {
    pub(crate) fn new(configs: [SessionConfig; 2], link: Link, seed: u64) -> Self {
        let now = Instant::now();
        let [one, other] = configs;
        Self {
            now,
            ends: [
                Session::new(one, LOCAL, now, seed).unwrap(),
                Session::new(other, PEER, now, seed ^ 1).unwrap(),
            ],
            link,
            events: [Vec::new(), Vec::new()],
            in_flight: BTreeMap::new(),
            lost_in_a_row: [0; 2],
            random: seed,
            transmitted: 0,
        }
    }

    pub(crate) fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }

    pub(crate) fn both(&self, state: State) -> bool {
        self.states() == [state; 2]
    }

    /// Runs both ends for a time.
    pub(crate) fn run(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Runs both ends until the condition holds or the time is over. Returns whether it holds.
    pub(crate) fn run_until(&mut self, duration: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + duration;
        loop {
            self.transmit();
            if condition(self) {
                return true;
            }
            let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
            let timers = self.ends.iter().filter_map(Session::poll_timeout);
            match timers.chain(arrival).min().filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
            while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let ((arrived, _), (to, octets)) = entry.remove_entry();
                let _ = self.ends[to].handle_packet(arrived, &ControlPacket::decode(&octets).unwrap());
            }
            for end in &mut self.ends {
                end.handle_timeout(self.now);
            }
        }
        self.now = end;
        condition(self)
    }

    fn transmit(&mut self) {
        for from in 0..2 {
            while let Some(octets) = self.ends[from].poll_transmit(self.now) {
                self.send(1 - from, octets);
            }
            self.events[from].extend(std::iter::from_fn(|| self.ends[from].poll_event()));
        }
    }

    fn send(&mut self, to: usize, octets: [u8; 24]) {
        let lost = self.random(100) < self.link.loss && self.lost_in_a_row[to] < self.link.max_burst;
        if lost || self.link.cut {
            self.lost_in_a_row[to] += 1;
            return;
        }
        self.lost_in_a_row[to] = 0;
        let copies = if self.random(100) < self.link.duplication { 2 } else { 1 };
        for _ in 0..copies {
            let Range { start, end } = self.link.latency;
            let latency = Duration::from_micros(start + self.random(end - start));
            self.transmitted += 1;
            self.in_flight.insert((self.now + latency, self.transmitted), (to, octets));
        }
    }

    /// Returns a random number below the bound (xorshift).
    fn random(&mut self, bound: u64) -> u64 {
        self.random = self.random.max(1);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }
}
