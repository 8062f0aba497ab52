//! The FSM in simulated time.

use std::net::Ipv4Addr;
use std::time::Duration;

use fairlead_bgp::message::Message;
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::{
    ConfigError, DownReason, Family, NextHops, Notification, PeerAs, Session, SessionConfig, SessionEvent,
    SessionInput, SessionState, Withheld,
};

use crate::harness::*;

const ESTABLISHED: [SessionState; 2] = [SessionState::Established; 2];

#[test]
fn two_sessions_stay_established_for_an_hour() {
    let mut pair = Pair::ebgp();
    pair.start();
    pair.run(secs(3600));
    assert_eq!(pair.states(), ESTABLISHED);
    for end in &pair.ends {
        assert_eq!(end.downs(), [] as [String; 0]);
        // Every 30 s with jitter 0.75 to 1.0: 120 to 160 in an hour.
        let keepalives = end.received.iter().filter(|message| **message == Message::Keepalive).count();
        assert!((120..=161).contains(&keepalives), "{keepalives} KEEPALIVEs");
    }
}

#[test]
fn hold_time_is_smaller_of_both_offers() {
    struct Case {
        ours: u64,
        theirs: u16,
        keepalive: Option<u64>,
        expect: (u64, u64),
    }
    for Case { ours, theirs, keepalive, expect } in [
        Case { ours: 90, theirs: 90, keepalive: None, expect: (90, 30) },
        Case { ours: 90, theirs: 9, keepalive: None, expect: (9, 3) },
        Case { ours: 9, theirs: 180, keepalive: None, expect: (9, 3) },
        Case { ours: 90, theirs: 90, keepalive: Some(10), expect: (90, 10) },
        Case { ours: 90, theirs: 9, keepalive: Some(30), expect: (9, 3) },
        Case { ours: 3, theirs: 3, keepalive: None, expect: (3, 1) },
        Case { ours: 0, theirs: 90, keepalive: None, expect: (0, 0) },
        Case { ours: 90, theirs: 0, keepalive: Some(30), expect: (0, 0) },
    ] {
        let config = SessionConfig { hold_time: secs(ours), keepalive_time: keepalive.map(secs), ..config() };
        let solo = Solo::new(config).established_with(&Open { hold_time: theirs, ..peer_open() });
        let negotiated = solo.session.negotiated().unwrap();
        assert_eq!((negotiated.hold_time, negotiated.keepalive_time), (secs(expect.0), secs(expect.1)));
    }
}

#[test]
fn hold_time_zero_runs_no_timers() {
    let open = Open { hold_time: 0, ..peer_open() };
    let mut solo = Solo::new(config()).established_with(&open);
    assert_eq!(solo.sent().len(), 2, "only the End-of-RIB markers are sent");
    assert_eq!(solo.session.poll_timeout(), None);
    solo.wait(secs(1_000_000));
    assert_eq!(solo.session.state(), SessionState::Established);
    assert_eq!(solo.sent(), []);
}

#[test]
fn cable_cut_ends_session_after_hold_time() {
    let mut pair = Pair::ebgp();
    pair.start();
    pair.run(secs(300));
    pair.cut = true;
    pair.run(secs(91));
    for end in &pair.ends {
        assert_eq!(end.downs()[0], "hold timer expired: received no KEEPALIVE or UPDATE from the peer");
        let at = end.times(|event| matches!(event, SessionEvent::Down { .. }))[0];
        // The last KEEPALIVE arrived up to 30 s before the cut.
        assert!(at >= secs(359) && at <= secs(391), "{at:?}");
    }
    pair.cut = false;
    pair.run(secs(60));
    assert_eq!(pair.states(), ESTABLISHED, "the session is established again");
}

#[test]
fn hold_timer_expiry_sends_notification() {
    let mut solo = Solo::new(config()).established();
    solo.wait(secs(89));
    assert_eq!(solo.session.state(), SessionState::Established);
    solo.wait(secs(1));
    assert_eq!(solo.session.state(), SessionState::Idle);
    assert_eq!(solo.session.poll_event(), Some(SessionEvent::Close));
    assert_eq!(solo.down_reason(), DownReason::HoldTimerExpired);
    let last = solo.sent().pop();
    assert_eq!(last, Some(Message::Notification(Notification { code: 4, subcode: 0, data: vec![] })));
}

#[test]
fn missing_open_ends_session_after_20_s() {
    let mut solo = Solo::new(config()).open_sent();
    solo.wait(secs(19));
    assert_eq!(solo.session.state(), SessionState::OpenSent);
    solo.wait(secs(1));
    assert_eq!(solo.down_reason(), DownReason::HoldTimerExpired);
}

#[test]
fn blocked_peer_ends_session_after_send_hold_time() {
    let mut solo = Solo::new(config()).established();
    solo.sent();
    // RFC 9687: for eight minutes the peer sends KEEPALIVEs and reads nothing.
    for _ in 0..50 {
        solo.wait(secs(10));
        solo.keepalive();
    }
    assert_eq!(solo.session.state(), SessionState::Established);
    for _ in 0..2 {
        solo.wait(secs(10));
        solo.keepalive();
    }
    assert_eq!(solo.down_reason(), DownReason::SendHoldTimerExpired);
}

#[test]
fn slowly_reading_peer_stays_established() {
    let mut solo = Solo::new(config()).established();
    let mut out = Vec::new();
    for round in 0..2000_u32 {
        solo.session
            .announce(net(&format!("10.{}.{}.0/24", round >> 8, round & 255)), attributes(1))
            .unwrap();
    }
    for _ in 0..200 {
        solo.wait(secs(60));
        solo.keepalive();
        solo.session.poll_transmit(solo.now, 1, &mut out);
    }
    assert_eq!(solo.session.state(), SessionState::Established);
}

#[test]
fn connection_attempts_back_off_with_jitter() {
    let mut solo = Solo::new(SessionConfig { connect_retry: secs(20), ..config() });
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    let waits = [100, 200, 400, 800, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000];
    for (attempt, longest) in waits.map(Duration::from_millis).into_iter().enumerate() {
        assert_eq!(solo.session.poll_event(), Some(SessionEvent::Connect), "attempt {attempt}");
        let reason = "connection refused".to_owned();
        solo.session.handle_input(solo.now, SessionInput::ConnectFailed { reason });
        assert_eq!(solo.session.state(), SessionState::Active);
        assert_eq!(solo.down_reason().to_string(), "connection attempt failed: connection refused");
        let wait = solo.session.poll_timeout().unwrap() - solo.now;
        assert!(wait >= longest * 3 / 4 && wait <= longest, "wait after attempt {attempt} is {wait:?}");
        solo.wait(wait);
        assert_eq!(solo.session.state(), SessionState::Connect);
    }
}

#[test]
fn unanswered_connection_attempt_times_out() {
    let mut solo = Solo::new(config());
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert_eq!(solo.session.poll_event(), Some(SessionEvent::Connect));
    solo.wait(secs(10));
    assert_eq!(solo.session.poll_event(), Some(SessionEvent::Close));
    assert_eq!(solo.down_reason(), DownReason::ConnectTimedOut);
    assert_eq!(solo.session.state(), SessionState::Active);
    solo.wait(secs(1));
    assert_eq!(solo.session.poll_event(), Some(SessionEvent::Connect));
}

#[test]
fn missing_open_is_reported_after_some_seconds() {
    let mut solo = Solo::new(config()).open_sent();
    solo.wait(secs(4));
    assert!(!solo.session.is_open_overdue());
    solo.wait(secs(2));
    assert!(solo.session.is_open_overdue());
    assert_eq!(solo.session.state(), SessionState::OpenSent, "the session waits longer");
    let mut bytes = Vec::new();
    peer_open().encode(&mut bytes);
    solo.receive(&bytes);
    assert!(!solo.session.is_open_overdue());
    let mut solo = Solo::new(config()).open_confirm();
    solo.wait(secs(10));
    assert!(!solo.session.is_open_overdue());
}

#[test]
fn connect_now_replaces_attempt_or_wait() {
    let failed = || SessionInput::ConnectFailed { reason: "refused".to_owned() };
    let events = |solo: &mut Solo| -> Vec<_> { std::iter::from_fn(|| solo.session.poll_event()).collect() };
    let mut solo = Solo::new(config());
    solo.session.handle_input(solo.now, SessionInput::ConnectNow);
    assert_eq!((events(&mut solo), solo.session.state()), (vec![], SessionState::Idle), "not started");
    solo.session.handle_input(solo.now, SessionInput::ManualStart);
    assert_eq!(events(&mut solo), [SessionEvent::Connect]);
    solo.session.handle_input(solo.now, SessionInput::ConnectNow);
    assert_eq!(events(&mut solo), [SessionEvent::Close, SessionEvent::Connect], "during an attempt");

    for _ in 0..10 {
        solo.session.handle_input(solo.now, failed());
        solo.wait(secs(120));
        events(&mut solo);
    }
    solo.session.handle_input(solo.now, failed());
    assert_eq!(solo.session.state(), SessionState::Active);
    events(&mut solo);
    solo.session.handle_input(solo.now, SessionInput::ConnectNow);
    assert_eq!(
        (events(&mut solo), solo.session.state()),
        (vec![SessionEvent::Connect], SessionState::Connect)
    );
    solo.session.handle_input(solo.now, failed());
    events(&mut solo);
    solo.wait(secs(1));
    assert_eq!(events(&mut solo), [SessionEvent::Connect], "the back-off begins again");

    let mut solo = Solo::new(config()).established();
    solo.session.handle_input(solo.now, SessionInput::ConnectNow);
    assert_eq!((events(&mut solo), solo.session.state()), (vec![], SessionState::Established));
    solo.receive(&message(3, &[6, 4]));
    events(&mut solo);
    assert_eq!(solo.session.state(), SessionState::Idle);
    solo.session.handle_input(solo.now, SessionInput::ConnectNow);
    assert_eq!(events(&mut solo), [SessionEvent::Connect], "in place of the IdleHoldTimer");
}

#[test]
fn flapping_session_backs_off_stable_one_reconnects() {
    let mut solo = Solo::new(config()).established();
    solo.keepalive();
    solo.wait(secs(61));
    for longest in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
        solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
        assert_eq!(solo.session.state(), SessionState::Idle);
        let wait = solo.session.poll_timeout().unwrap() - solo.now;
        assert!(wait >= longest * 3 / 4 && wait <= longest, "waits {wait:?}, expected about {longest:?}");
        solo.wait(wait);
        solo.reestablish();
    }
}

#[test]
fn broken_connection_reconnects_within_seconds() {
    let mut pair = Pair::ebgp();
    pair.start();
    pair.run(secs(100));
    pair.reset_connection();
    pair.run(secs(3));
    assert_eq!(pair.states(), ESTABLISHED);
    assert_eq!(pair.ends[0].downs()[0], "connection lost: connection reset by peer");
}

#[test]
fn stop_sends_shutdown_communication() {
    let mut pair = Pair::ebgp();
    pair.start();
    pair.run(secs(1));
    pair.stop(0, "node n1 is drained", false);
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.ends[0].downs(), ["stopped"]);
    let expected = "peer sent NOTIFICATION 6/2 (Cease: Administrative Shutdown) \"node n1 is drained\"";
    assert_eq!(pair.ends[1].downs()[0], expected);
    pair.run(secs(600));
    assert_eq!(pair.states()[0], SessionState::Idle, "a stopped session stays down");
    pair.ends[0].session.handle_input(pair.now, SessionInput::ManualStart);
    pair.run(secs(130));
    assert_eq!(pair.states(), ESTABLISHED);
}

#[test]
fn stop_ends_session_in_every_state() {
    let solos: [(Solo, SessionState, bool); 4] = [
        (Solo::new(config()), SessionState::Connect, false),
        (Solo::new(config()).open_sent(), SessionState::OpenSent, true),
        (Solo::new(config()).open_confirm(), SessionState::OpenConfirm, true),
        (Solo::new(config()).established(), SessionState::Established, true),
    ];
    for (mut solo, state, connected) in solos {
        solo.sent();
        solo.session.handle_input(solo.now, SessionInput::ManualStart);
        assert_eq!(solo.session.state(), state);
        solo.stop();
        let sent = solo.sent();
        assert_eq!(solo.session.state(), SessionState::Idle);
        let events: Vec<_> = std::iter::from_fn(|| solo.session.poll_event()).collect();
        assert!(events.contains(&SessionEvent::Close), "{state}: {events:?}");
        assert!(events.contains(&SessionEvent::Down { from: state, reason: DownReason::Stopped }));
        assert_eq!(sent.len(), usize::from(connected), "{state}: {sent:?}");
        assert_eq!(solo.session.poll_timeout(), None);
    }
}

#[test]
fn unstarted_session_ignores_inputs() {
    let mut solo = Solo::new(config());
    solo.receive(&message(4, &[]));
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason: String::new() });
    solo.stop();
    assert_eq!((solo.session.state(), solo.session.poll_event()), (SessionState::Idle, None));
    let (local, remote) = ("192.0.2.1:1".parse().unwrap(), solo.remote);
    solo.session
        .handle_input(solo.now, SessionInput::Connected { local, remote, next_hops: NextHops::default() });
    assert_eq!(
        solo.session.poll_event(),
        Some(SessionEvent::Close),
        "a connection that was not requested is closed"
    );
}

#[test]
fn local_open_offers_configured_capabilities() {
    let open = |config: SessionConfig, v6: bool| {
        let mut solo = if v6 { Solo::over_ipv6(config) } else { Solo::new(config) };
        solo.session.handle_input(solo.now, SessionInput::ManualStart);
        let (local, remote) = ("192.0.2.1:1".parse().unwrap(), solo.remote);
        solo.session
            .handle_input(solo.now, SessionInput::Connected { local, remote, next_hops: next_hops() });
        match solo.sent().pop() {
            Some(Message::Open(open)) => open,
            other => panic!("{other:?}"),
        }
    };
    let mp = Capability::multi_protocol;
    assert_eq!(
        open(config(), false),
        Open {
            my_as: 64512,
            hold_time: 90,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            capabilities: vec![
                mp(Family::Ipv4Unicast),
                mp(Family::Ipv6Unicast),
                Capability::RouteRefresh,
                Capability::EnhancedRouteRefresh,
                Capability::ExtendedMessage,
                Capability::FourOctetAs(64512),
            ],
        }
    );
    // RFC 8950 is offered only over IPv6, and only with IPv4 routes.
    assert!(open(config(), true).capabilities.contains(&Capability::ExtendedNextHop(vec![(1, 1, 2)])));
    let only_v6 = SessionConfig { families: [Family::Ipv6Unicast].into(), ..config() };
    assert_eq!(open(only_v6, true).capabilities[0], mp(Family::Ipv6Unicast));
    // RFC 6793: AS_TRANS replaces an AS number that needs four octets.
    let large = open(SessionConfig { local_asn: 4_200_000_001, ..config() }, false);
    assert_eq!((large.my_as, large.asn()), (23456, 4_200_000_001));
}

#[test]
fn peer_with_unexpected_as_is_rejected() {
    let four = |asn: u32| Open {
        my_as: u16::try_from(asn).unwrap_or(23456),
        capabilities: vec![Capability::multi_protocol(Family::Ipv4Unicast), Capability::FourOctetAs(asn)],
        ..peer_open()
    };
    let two = |my_as| Open { my_as, capabilities: vec![], ..peer_open() };
    for (peer_asn, open, expect) in [
        (PeerAs::Exactly(64513), four(64513), Ok(true)),
        (PeerAs::Exactly(64513), two(64513), Ok(true)),
        (PeerAs::Exactly(64513), four(64514), Err("the peer has AS 64514; expected AS 64513")),
        (PeerAs::Exactly(4_200_000_001), four(4_200_000_001), Ok(true)),
        (PeerAs::Exactly(4_200_000_001), two(23456), Err("the peer has AS 23456; expected AS 4200000001")),
        (PeerAs::Exactly(64512), four(64512), Ok(false)),
        (PeerAs::Internal, four(64512), Ok(false)),
        (PeerAs::Internal, four(64513), Err("the peer has AS 64513; expected the local AS 64512")),
        (PeerAs::External, four(64513), Ok(true)),
        (PeerAs::External, four(64512), Err("the peer has AS 64512; expected an AS other than the local AS")),
        (PeerAs::External, four(0), Err("the peer has AS 0; expected a nonzero AS number")),
    ] {
        let mut solo = Solo::new(SessionConfig { peer_asn, ..config() }).open_sent();
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        solo.receive(&bytes);
        match expect {
            Ok(ebgp) => {
                solo.keepalive();
                assert_eq!(solo.session.negotiated().map(|n| n.ebgp), Some(ebgp), "{:?}", solo.down_reason());
            }
            Err(text) => {
                let DownReason::Sent { notification, detail } = solo.down_reason() else { panic!() };
                assert_eq!((notification.code, notification.subcode, detail.as_str()), (2, 2, text));
            }
        }
    }
}

#[test]
fn withheld_family_has_a_reason() {
    let v4_only = Open {
        capabilities: vec![Capability::multi_protocol(Family::Ipv4Unicast), Capability::FourOctetAs(PEER_AS)],
        ..peer_open()
    };
    let mut solo = Solo::new(config()).established_with(&v4_only);
    assert!(solo.session.withheld().is_empty(), "no routes are withheld without routes");
    solo.session.announce(net("2001:db8:1::/48"), attributes(1)).unwrap();
    let withheld = |solo: &Solo| solo.session.withheld().into_values().collect::<Vec<_>>();
    assert_eq!(withheld(&solo), [Withheld::NotNegotiated(Family::Ipv6Unicast)]);

    let v4_configured = SessionConfig { families: [Family::Ipv4Unicast].into(), ..config() };
    let mut solo = Solo::new(v4_configured).established();
    solo.session.announce(net("2001:db8:1::/48"), attributes(1)).unwrap();
    assert_eq!(withheld(&solo), [Withheld::NotConfigured(Family::Ipv6Unicast)]);

    let mut solo = Solo::new(config());
    solo.next_hops.v6 = None;
    let mut solo = solo.established();
    solo.session.announce(net("2001:db8:1::/48"), attributes(1)).unwrap();
    assert_eq!(withheld(&solo), [Withheld::NoNextHop(Family::Ipv6Unicast)]);
    let mut learned = LearnedRoutes::default();
    learned.learn(solo.sent());
    assert!(learned.routes.is_empty());
    assert_eq!(learned.end_of_rib, Family::ALL, "the End-of-RIB marker is sent for a withheld family too");
    // The node gains an address, and loses it again.
    solo.session.set_next_hops(next_hops());
    learned.learn(solo.sent());
    assert_eq!(learned.prefixes(), ["2001:db8:1::/48"]);
    assert!(solo.session.withheld().is_empty());
    solo.session.set_next_hops(NextHops { v6: None, ..next_hops() });
    learned.learn(solo.sent());
    assert!(learned.routes.is_empty());
}

#[test]
fn invalid_configuration_is_rejected() {
    let error = |change: fn(&mut SessionConfig)| {
        let mut config = config();
        change(&mut config);
        Session::new(config, 0).err()
    };
    assert_eq!(error(|_| ()), None);
    assert_eq!(error(|c| c.local_asn = 0), Some(ConfigError::AsZero));
    assert_eq!(error(|c| c.peer_asn = PeerAs::Exactly(0)), Some(ConfigError::AsZero));
    assert_eq!(error(|c| c.router_id = Ipv4Addr::UNSPECIFIED), Some(ConfigError::RouterIdZero));
    assert_eq!(error(|c| c.hold_time = secs(2)), Some(ConfigError::HoldTime));
    assert_eq!(error(|c| c.hold_time = secs(65536)), Some(ConfigError::HoldTime));
    assert_eq!(error(|c| c.hold_time = secs(0)), None);
    assert_eq!(error(|c| c.families.clear()), Some(ConfigError::NoFamily));
    assert_eq!(error(|c| c.graceful_restart = Some(secs(4096))), Some(ConfigError::RestartTime));
}
