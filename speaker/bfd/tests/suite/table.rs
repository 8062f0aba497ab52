//! The table of sessions: demultiplexing (RFC 5880 §6.3), users, bounds.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use fairlead_bfd::{
    ControlPacket, Datagram, Discard, Event, HopMode, MAX_SESSIONS, MAX_USERS, Role, SessionConfig,
    SessionKey, Sessions, State, TableError, TableEvent, Transmit,
};

use crate::harness::{config, ms, packet};

const INTERFACE: u32 = 2;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn key(remote: &str) -> SessionKey {
    SessionKey { local: ip("192.0.2.1"), remote: ip(remote), hop_mode: HopMode::Single, interface: None }
}

struct Table {
    now: Instant,
    sessions: Sessions,
}

impl Table {
    fn new() -> Self {
        Self { now: Instant::now(), sessions: Sessions::new([7; 32]) }
    }

    fn add(&mut self, key: SessionKey, user: &str, config: SessionConfig) -> NonZeroU32 {
        self.sessions.set_user(self.now, key, user, config).unwrap()
    }

    fn receive(&mut self, datagram: Datagram<'_>) -> Result<NonZeroU32, Discard> {
        self.sessions.handle_datagram(self.now, &datagram)
    }

    /// Passes in a packet from the peer of a session.
    fn receive_from(&mut self, key: &SessionKey, packet: ControlPacket) -> Result<NonZeroU32, Discard> {
        let octets = packet.encode();
        self.receive(Datagram { payload: &octets, ..datagram(key) })
    }

    fn bring_up(&mut self, key: &SessionKey) {
        let local = self.sessions.find(key);
        self.receive_from(key, packet(State::Down)).unwrap();
        self.receive_from(key, ControlPacket { your_discriminator: local, ..packet(State::Up) }).unwrap();
        assert_eq!(self.state(key), Some(State::Up));
        self.run(Duration::ZERO);
        self.events();
    }

    fn state(&self, key: &SessionKey) -> Option<State> {
        self.sessions.view(key).map(|view| view.state)
    }

    /// Lets the time pass. Returns the packets that are sent.
    fn run(&mut self, duration: Duration) -> Vec<Transmit> {
        let end = self.now + duration;
        let mut sent = Vec::new();
        loop {
            sent.extend(std::iter::from_fn(|| self.sessions.poll_transmit(self.now)));
            match self.sessions.poll_timeout().filter(|next| *next <= end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
            self.sessions.handle_timeout(self.now);
        }
        self.now = end;
        sent
    }

    fn events(&mut self) -> Vec<TableEvent> {
        std::iter::from_fn(|| self.sessions.poll_event()).collect()
    }
}

/// An empty datagram from the peer of a session.
fn datagram(key: &SessionKey) -> Datagram<'static> {
    Datagram {
        local: key.local,
        remote: key.remote,
        hop_mode: key.hop_mode,
        interface: INTERFACE,
        ttl: 255,
        payload: &[],
    }
}

#[test]
fn packet_without_your_discriminator_is_assigned_by_addresses() {
    let mut table = Table::new();
    let keys = [
        key("192.0.2.2"),
        key("192.0.2.3"),
        SessionKey { local: ip("192.0.2.9"), ..key("192.0.2.2") },
        SessionKey { hop_mode: HopMode::Multi, ..key("192.0.2.2") },
        SessionKey { local: ip("fe80::1"), interface: Some(INTERFACE), ..key("fe80::2") },
    ];
    let discriminators = keys.map(|key| table.add(key, "r1", config()));
    for (key, discriminator) in keys.iter().zip(discriminators) {
        assert_eq!(table.receive_from(key, packet(State::Down)), Ok(discriminator));
    }
    let unknown = [
        key("192.0.2.4"),
        SessionKey { local: ip("192.0.2.8"), ..key("192.0.2.2") },
        SessionKey { hop_mode: HopMode::Multi, ..key("192.0.2.3") },
    ];
    for key in unknown {
        assert_eq!(table.receive_from(&key, packet(State::Down)), Err(Discard::UnknownSession));
    }
    let elsewhere = Datagram { interface: 3, payload: &packet(State::Down).encode(), ..datagram(&keys[4]) };
    assert_eq!(table.receive(elsewhere), Err(Discard::UnknownSession));
    assert_eq!(table.sessions.discarded().get(Discard::UnknownSession), 4);
}

#[test]
fn packet_with_your_discriminator_is_assigned_by_it() {
    let mut table = Table::new();
    let [one, other] = ["192.0.2.2", "192.0.2.3"].map(key);
    let [first, second] = [one, other].map(|key| table.add(key, "r1", config()));
    let to = |discriminator| ControlPacket { your_discriminator: Some(discriminator), ..packet(State::Down) };
    assert_eq!(table.receive_from(&one, to(first)), Ok(first));
    // RFC 5880 §6.3: the source address may change.
    assert_eq!(table.receive_from(&one, to(second)), Ok(second));
    let unused = NonZeroU32::new(!first.get()).unwrap();
    assert_eq!(table.receive_from(&one, to(unused)), Err(Discard::UnknownSession));
    // The encapsulation and the local address may not.
    let multihop = SessionKey { hop_mode: HopMode::Multi, ..one };
    assert_eq!(table.receive_from(&multihop, to(first)), Err(Discard::UnknownSession));
    let elsewhere = SessionKey { local: ip("192.0.2.9"), ..one };
    assert_eq!(table.receive_from(&elsewhere, to(first)), Err(Discard::UnknownSession));
}

#[test]
fn session_of_an_interface_precedes_one_of_any_interface() {
    let mut table = Table::new();
    let any = key("192.0.2.2");
    let bound = SessionKey { interface: Some(INTERFACE), ..any };
    let (any_discriminator, bound_discriminator) =
        (table.add(any, "r1", config()), table.add(bound, "r1", config()));
    assert_eq!(table.receive_from(&bound, packet(State::Down)), Ok(bound_discriminator));
    let elsewhere = Datagram { interface: 3, payload: &packet(State::Down).encode(), ..datagram(&any) };
    assert_eq!(table.receive(elsewhere), Ok(any_discriminator));
}

#[test]
fn packets_below_the_minimum_ttl_are_discarded() {
    let mut table = Table::new();
    let single = key("192.0.2.2");
    let multi = SessionKey { hop_mode: HopMode::Multi, ..single };
    for key in [single, multi] {
        table.add(key, "r1", SessionConfig { minimum_ttl: 250, ..config() });
    }
    let octets = packet(State::Down).encode();
    for (key, ttl, accepted) in [
        (single, 255, true),
        (single, 254, false),
        (multi, 255, true),
        (multi, 250, true),
        (multi, 249, false),
    ] {
        let result = table.receive(Datagram { ttl, payload: &octets, ..datagram(&key) });
        assert_eq!(result.err(), (!accepted).then_some(Discard::TtlTooLow), "{:?} {ttl}", key.hop_mode);
    }
    let view = table.sessions.view(&single).unwrap();
    assert_eq!(view.counters.discarded.get(Discard::TtlTooLow), 1);
    assert_eq!(view.counters.received, 1);
}

#[test]
fn discarded_packets_do_not_restart_the_detection_time() {
    let unknown = NonZeroU32::new(7).unwrap();
    for (name, discriminator, detect_multiplier, ttl, expected) in [
        ("valid", None, 3, 255, State::Up),
        ("Detect Mult zero", None, 0, 255, State::Down),
        ("low TTL", None, 3, 254, State::Down),
        ("unknown discriminator", Some(unknown), 3, 255, State::Down),
    ] {
        let mut table = Table::new();
        let key = key("192.0.2.2");
        let local = table.add(key, "r1", config());
        table.bring_up(&key);
        let your_discriminator = discriminator.or(Some(local));
        let octets = ControlPacket { your_discriminator, detect_multiplier, ..packet(State::Up) }.encode();
        for _ in 0..4 {
            table.run(ms(99));
            let _ = table.receive(Datagram { payload: &octets, ttl, ..datagram(&key) });
        }
        assert_eq!(table.state(&key), Some(expected), "{name}");
    }
}

#[test]
fn changed_source_address_does_not_change_the_destination() {
    let mut table = Table::new();
    let key = key("192.0.2.2");
    let local = table.add(key, "r1", config());
    table.bring_up(&key);
    let up = ControlPacket { your_discriminator: Some(local), poll: true, ..packet(State::Up) }.encode();
    let elsewhere = Datagram { payload: &up, remote: ip("192.0.2.77"), ..datagram(&key) };
    assert_eq!(table.receive(elsewhere), Ok(local));
    let sent = table.run(ms(200));
    assert!(sent.len() >= 2 && sent.iter().all(|sent| sent.key == key), "{sent:?}");
}

#[test]
fn authentication_is_checked_after_the_session_is_found() {
    let mut table = Table::new();
    table.add(key("192.0.2.2"), "r1", config());
    let mut octets = packet(State::Down).encode().to_vec();
    octets.extend([1, 4, 0, 0]);
    (octets[1], octets[3]) = (octets[1] | 4, 28);
    for (remote, reason) in
        [("192.0.2.2", Discard::AuthenticationPresent), ("192.0.2.3", Discard::UnknownSession)]
    {
        let result = table.receive(Datagram { payload: &octets, ..datagram(&key(remote)) });
        assert_eq!(result, Err(reason));
    }
    assert_eq!(table.sessions.discarded().total(), 1);
}

#[test]
fn malformed_packets_are_counted_by_reason() {
    let mut table = Table::new();
    table.add(key("192.0.2.2"), "r1", config());
    let mut octets = packet(State::Down).encode();
    octets[2] = 0;
    for _ in 0..3 {
        let result = table.receive(Datagram { payload: &octets, ..datagram(&key("192.0.2.2")) });
        assert_eq!(result, Err(Discard::DetectMultiplierZero));
    }
    let discarded = table.sessions.discarded();
    assert_eq!((discarded.get(Discard::DetectMultiplierZero), discarded.total()), (3, 3));
}

#[test]
fn discriminators_are_random_unique_and_not_reused() {
    let mut table = Table::new();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        for host in 0..200_u8 {
            let key = key(&format!("198.51.100.{host}"));
            assert!(seen.insert(table.add(key, "r1", config()).get()));
            table.sessions.remove_user(table.now, &key, "r1");
        }
    }
    let high = seen.iter().filter(|discriminator| **discriminator > u32::MAX / 2).count();
    assert!((200..400).contains(&high), "{high} of 600 in the upper half");
    let mut other = Table { sessions: Sessions::new([8; 32]), ..Table::new() };
    assert!(!seen.contains(&other.add(key("192.0.2.2"), "r1", config()).get()));
}

#[test]
fn packet_for_a_removed_session_is_discarded() {
    let mut table = Table::new();
    let key = key("192.0.2.2");
    let old = table.add(key, "r1", config());
    table.bring_up(&key);
    table.sessions.remove_user(table.now, &key, "r1");
    table.run(ms(300));
    let new = table.add(key, "r1", config());
    let late = ControlPacket { your_discriminator: Some(old), ..packet(State::Up) };
    assert_eq!(table.receive_from(&key, late), Err(Discard::UnknownSession));
    assert_eq!(table.receive_from(&key, packet(State::Down)), Ok(new));
}

#[test]
fn passive_session_tells_a_peer_that_missed_its_restart() {
    let mut table = Table::new();
    let [passive, active] = ["192.0.2.2", "192.0.2.3"].map(key);
    table.add(passive, "r1", SessionConfig { role: Role::Passive, ..config() });
    table.add(active, "r1", config());
    table.run(ms(100));
    let stale = ControlPacket { your_discriminator: NonZeroU32::new(7), ..packet(State::Down) }.encode();
    let mut receive = |key: &SessionKey, ttl| {
        let result = table.receive(Datagram { payload: &stale, ttl, ..datagram(key) });
        assert_eq!(result, Err(Discard::UnknownSession));
        table.run(ms(10)).iter().map(|sent| sent.key).collect::<Vec<_>>()
    };
    assert_eq!(receive(&active, 255), [], "it sends by itself");
    assert_eq!(receive(&passive, 254), [], "from beyond the link");
    assert_eq!(receive(&passive, 255), [passive]);
    let sent = (0..50).flat_map(|_| receive(&passive, 255)).filter(|key| *key == passive);
    assert_eq!(sent.count(), 0, "once a second");
    table.run(ms(500));
    let sent = table.receive(Datagram { payload: &stale, ..datagram(&passive) });
    assert_eq!(sent, Err(Discard::UnknownSession));
    let [Transmit { packet: octets, .. }] = table.run(ms(0))[..] else { panic!("one packet") };
    let sent = ControlPacket::decode(&octets).unwrap();
    assert_eq!((sent.state, sent.your_discriminator), (State::Down, None));
    table.bring_up(&passive);
}

#[test]
fn fastest_user_determines_the_parameters() {
    let mut table = Table::new();
    let key = key("192.0.2.2");
    let with = |tx, rx, detect_multiplier| SessionConfig {
        desired_min_tx: ms(tx),
        required_min_rx: ms(rx),
        detect_multiplier,
        ..config()
    };
    let (slow, fast, tie) = (with(300, 300, 3), with(50, 80, 10), with(100, 90, 5));
    let discriminator = table.add(key, "slow", SessionConfig { role: Role::Passive, ..slow });
    assert_eq!(table.sessions.view(&key).unwrap().config.role, Role::Passive);
    assert_eq!(table.add(key, "fast", SessionConfig { role: Role::Passive, ..fast }), discriminator);
    assert_eq!(table.add(key, "tie", tie), discriminator);
    let users = table.sessions.users(&key).unwrap();
    assert_eq!(
        (users.names, users.fastest.as_str()),
        (vec!["fast".into(), "slow".into(), "tie".into()], "fast")
    );
    assert_eq!(table.sessions.view(&key).unwrap().config, fast, "active, as one user is");

    table.sessions.remove_user(table.now, &key, "fast");
    assert_eq!(table.sessions.view(&key).unwrap().config, tie);
    table.sessions.remove_user(table.now, &key, "tie");
    assert_eq!(table.sessions.users(&key).unwrap().fastest, "slow");
    assert_eq!(table.events(), [], "the session stays");
}

#[test]
fn change_of_a_user_polls_and_keeps_the_session_up() {
    let mut table = Table::new();
    let key = key("192.0.2.2");
    table.add(key, "r1", config());
    table.bring_up(&key);
    table.add(key, "r2", SessionConfig { desired_min_tx: ms(30), ..config() });
    let view = table.sessions.view(&key).unwrap();
    assert_eq!((view.state, view.desired_min_tx, view.polling), (State::Up, ms(30), true));
}

#[test]
fn last_user_leaves_with_admin_down() {
    let mut table = Table::new();
    let [one, other] = ["192.0.2.2", "192.0.2.3"].map(key);
    let session = table.add(one, "r1", config());
    table.add(one, "r2", config());
    table.add(other, "r1", config());
    table.bring_up(&one);
    table.bring_up(&other);
    table.sessions.remove_user(table.now, &one, "unknown");
    table.sessions.remove_user(table.now, &one, "r2");
    assert_eq!(table.events(), []);
    table.sessions.remove_user(table.now, &one, "r1");
    assert_eq!(table.sessions.users(&one), None);
    let sent = table.run(ms(200));
    let to_one: Vec<_> = sent.iter().filter(|sent| sent.key == one).collect();
    assert_eq!(to_one.len(), 3);
    assert!(to_one.iter().all(|sent| ControlPacket::decode(&sent.packet).unwrap().state == State::AdminDown));
    assert_eq!(table.events().last(), Some(&TableEvent::Removed { session, key: one }));
    assert_eq!((table.state(&one), table.state(&other)), (None, Some(State::Up)));
    assert_eq!(table.sessions.keys().collect::<Vec<_>>(), [other]);
}

#[test]
fn session_without_peer_is_removed_at_once() {
    let mut table = Table::new();
    let key = key("192.0.2.2");
    let session = table.add(key, "r1", config());
    table.sessions.remove_user(table.now, &key, "r1");
    assert_eq!(table.events().last(), Some(&TableEvent::Removed { session, key }));
    assert_eq!((table.sessions.poll_timeout(), table.run(ms(5000))), (None, vec![]));
}

#[test]
fn user_that_returns_revives_the_session() {
    let mut table = Table::new();
    let key = key("192.0.2.2");
    let session = table.add(key, "r1", config());
    table.bring_up(&key);
    table.sessions.remove_user(table.now, &key, "r1");
    assert_eq!(table.add(key, "r1", config()), session);
    assert_eq!(table.state(&key), Some(State::Down));
    table.run(ms(100));
    table.bring_up(&key);
}

#[test]
fn shut_down_announces_admin_down_on_every_session() {
    let mut table = Table::new();
    let keys = ["192.0.2.2", "192.0.2.3"].map(key);
    for key in &keys {
        table.add(*key, "r1", config());
        table.bring_up(key);
    }
    table.sessions.shut_down(table.now);
    assert_eq!(table.run(ms(200)).len(), 6);
    assert_eq!(table.sessions.keys().count(), 0);
}

#[test]
fn disabled_session_stays_down_until_it_is_enabled() {
    let mut table = Table::new();
    let key = key("192.0.2.2");
    table.add(key, "r1", config());
    table.sessions.admin_down(table.now, &key);
    assert_eq!(table.state(&key), Some(State::AdminDown));
    table.add(key, "r2", config());
    assert_eq!(table.receive_from(&key, packet(State::Down)), Err(Discard::AdminDown));
    table.sessions.admin_up(table.now, &key);
    table.bring_up(&key);
}

#[test]
fn carrier_loss_affects_one_session() {
    let mut table = Table::new();
    let [one, other] = ["192.0.2.2", "192.0.2.3"].map(key);
    for key in [one, other] {
        table.add(key, "r1", config());
        table.bring_up(&key);
    }
    table.sessions.carrier_lost(table.now, &one);
    let [TableEvent::Session { key, event: Event::StateChanged { local_diagnostic, .. }, .. }] =
        table.events()[..]
    else {
        panic!("one session changes its state")
    };
    assert_eq!((key, local_diagnostic.code()), (one, 5));
}

#[test]
fn detection_is_reported_with_the_session() {
    let mut table = Table::new();
    let key = key("192.0.2.2");
    let session = table.add(key, "r1", config());
    table.bring_up(&key);
    table.run(ms(300));
    let events = table.events();
    let [TableEvent::Session { session: of, event: Event::StateChanged { to, .. }, .. }] = events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((of, to), (session, State::Down));
}

#[test]
fn table_is_bounded() {
    let mut table = Table::new();
    for number in 0..MAX_SESSIONS {
        let remote = format!("2001:db8::{number:x}");
        table.add(SessionKey { local: ip("2001:db8:1::1"), ..key(&remote) }, "r1", config());
    }
    let one_more = table.sessions.set_user(table.now, key("192.0.2.2"), "r1", config());
    assert_eq!(one_more, Err(TableError::TooManySessions));

    let mut table = Table::new();
    for number in 0..MAX_USERS {
        table.add(key("192.0.2.2"), &number.to_string(), config());
    }
    let one_more = table.sessions.set_user(table.now, key("192.0.2.2"), "r", config());
    assert_eq!(one_more, Err(TableError::TooManyUsers));
    table.add(key("192.0.2.2"), "0", SessionConfig { desired_min_tx: ms(10), ..config() });
    assert_eq!(table.sessions.users(&key("192.0.2.2")).unwrap().fastest, "0");
}

#[test]
fn invalid_parameters_do_not_join() {
    let mut table = Table::new();
    let invalid = SessionConfig { detect_multiplier: 0, ..config() };
    assert!(matches!(
        table.sessions.set_user(table.now, key("192.0.2.2"), "r1", invalid),
        Err(TableError::Config(_))
    ));
    assert_eq!(table.sessions.keys().count(), 0);
}

#[test]
fn echo_packets_are_never_accepted_on_multihop_sessions() {
    let mut table = Table::new();
    let single = key("192.0.2.2");
    let multi = SessionKey { hop_mode: HopMode::Multi, ..single };
    for (key, expected) in [(single, ms(50)), (multi, ms(0))] {
        table.add(key, "r1", SessionConfig { required_min_echo_rx: ms(50), ..config() });
        let sent = table.run(ms(1));
        let packet = ControlPacket::decode(&sent[0].packet).unwrap();
        assert_eq!((sent[0].key, packet.required_min_echo_rx), (key, expected));
    }
}

#[test]
fn many_sessions_keep_their_intervals() {
    let mut table = Table::new();
    let keys: Vec<_> = (0..200).map(|host| key(&format!("198.51.100.{host}"))).collect();
    for key in &keys {
        table.add(*key, "r1", config());
        table.bring_up(key);
    }
    for _ in 0..10 {
        for key in &keys {
            let local = table.sessions.find(key);
            let up = ControlPacket { your_discriminator: local, is_final: true, ..packet(State::Up) };
            table.receive_from(key, up).unwrap();
        }
        let sent = table.run(ms(100));
        assert!((200..=400).contains(&sent.len()), "{} packets", sent.len());
        let of: BTreeSet<_> = sent.iter().map(|sent| sent.key).collect();
        assert_eq!(of.len(), keys.len(), "every session sends within its interval");
    }
    assert_eq!(table.events(), []);
}
