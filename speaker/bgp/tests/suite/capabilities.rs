//! Peers that refuse capabilities with NOTIFICATION 2/4 (RFC 5492 §3), and capabilities with invalid lengths.

use std::net::Ipv4Addr;

use fairlead_bgp::message::Message;
use fairlead_bgp::message::as_path::AsPath;
use fairlead_bgp::message::capability::Capability;
use fairlead_bgp::message::open::Open;
use fairlead_bgp::{
    DownReason, Family, Notification, SessionConfig, SessionEvent, SessionInput, SessionState, Withheld,
};

use crate::harness::*;

/// OPEN Message Error, Unsupported Optional Parameter.
const REFUSAL: (u8, u8) = (2, 4);

/// An OPEN without capabilities.
fn old_open() -> Open {
    Open { capabilities: Vec::new(), ..peer_open() }
}

/// Lets the session connect again, and returns its OPEN.
fn reconnect(solo: &mut Solo) -> Open {
    let end = solo.now + secs(120);
    while solo.session.state() != SessionState::Connect {
        solo.wait(std::time::Duration::from_millis(100));
        assert!(solo.now < end, "{}", solo.session.state());
    }
    solo.connected()
}

impl Solo {
    /// Connects, and returns the OPEN of the session.
    fn connected(&mut self) -> Open {
        while self.session.poll_event().is_some() {}
        let (local, remote, next_hops) = ("192.0.2.1:1".parse().unwrap(), self.remote, self.next_hops);
        self.session.handle_input(self.now, SessionInput::Connected { local, remote, next_hops });
        match self.sent().pop() {
            Some(Message::Open(open)) => open,
            other => panic!("{other:?}"),
        }
    }

    /// Answers the OPEN with a NOTIFICATION.
    fn refuse(&mut self, (code, subcode): (u8, u8)) {
        let mut bytes = Vec::new();
        Notification { code, subcode, data: Vec::new() }.encode(&mut bytes);
        self.receive(&bytes);
        assert!(matches!(self.down_reason(), DownReason::Received(_)));
    }

    /// Answers the OPEN with this one and a KEEPALIVE.
    fn accept(&mut self, open: &Open) {
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        self.receive(&bytes);
        self.keepalive();
        assert_eq!(self.session.state(), SessionState::Established);
    }
}

#[test]
fn malformed_capability_counts_as_not_offered() {
    // Route refresh, extended next hop, extended message, graceful restart, enhanced route refresh.
    for (code, value) in
        [(2, "00"), (5, "0001 0001 00"), (6, "01"), (64, ""), (64, "00"), (64, "4078 0001 01"), (70, "0000")]
    {
        let mut open = peer_open();
        open.capabilities.retain(|capability| capability.code() != code);
        open.capabilities.push(Capability::Unknown { code, value: hex(value) });
        let config = SessionConfig { graceful_restart: Some(secs(120)), ..config() };
        let mut solo = Solo::over_ipv6(config).established_with(&open);
        let negotiated = solo.session.negotiated().unwrap().clone();
        assert_eq!(negotiated.malformed_capabilities, [code].into());
        assert_eq!(negotiated.route_refresh, code != 2, "the others are not affected");
        assert!(!negotiated.extended_next_hop && !negotiated.extended_messages);
        assert!(negotiated.graceful_restart.is_none() && !negotiated.enhanced_route_refresh);
        solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
        assert_eq!(solo.sent().len(), 3, "capability {code}: one route, two End-of-RIB markers");
    }
    // The families and the AS number decide what the session carries, so the OPEN is refused.
    for (code, value) in [(1, "0001 00"), (65, "0000 fc")] {
        let mut solo = Solo::new(config()).open_sent();
        let mut bytes = Vec::new();
        let capabilities = vec![Capability::Unknown { code, value: hex(value) }];
        Open { capabilities, ..peer_open() }.encode(&mut bytes);
        solo.receive(&bytes);
        let reason = solo.down_reason().to_string();
        assert!(reason.contains(&format!("capability {code} has an invalid length")), "{reason}");
    }
}

#[test]
fn session_is_established_without_capabilities() {
    let config = SessionConfig { local_asn: 4_200_000_001, ..config() };
    let mut solo = Solo::new(config).open_sent();
    solo.refuse(REFUSAL);
    let open = reconnect(&mut solo);
    // RFC 6793 §4.2.1: AS_TRANS.
    assert_eq!((open.my_as, open.capabilities), (23456, vec![]));
    solo.accept(&old_open());
    assert!(solo.session.omits_capabilities());
    let negotiated = solo.session.negotiated().unwrap().clone();
    assert_eq!(negotiated.families, [Family::Ipv4Unicast].into());
    assert!(!negotiated.four_octet_as && !negotiated.extended_messages && !negotiated.route_refresh);

    solo.context.four_octet_as = false;
    solo.session.announce(net("192.0.2.0/24"), attributes(1)).unwrap();
    solo.session.announce(net("2001:db8::/64"), attributes(1)).unwrap();
    let mut learned = LearnedRoutes::default();
    learned.learn(solo.sent());
    let (next_hop, path) = &learned.routes[&net("192.0.2.0/24")];
    assert_eq!(*next_hop, NextHop::Classic(Ipv4Addr::new(192, 0, 2, 1)));
    // RFC 6793 §4.2.2.
    assert_eq!(path.as_path, Some(AsPath::originated_by(23456)));
    assert_eq!(path.as4_path, Some(AsPath::originated_by(4_200_000_001)));
    assert_eq!(learned.prefixes(), ["192.0.2.0/24"]);
    let withheld = solo.session.withheld();
    assert_eq!(withheld[&Family::Ipv6Unicast], Withheld::NotNegotiated(Family::Ipv6Unicast));
}

#[test]
fn peer_that_refuses_capabilities_is_remembered() {
    let mut solo = Solo::new(config()).open_sent();
    solo.refuse(REFUSAL);
    reconnect(&mut solo);
    solo.accept(&old_open());
    for _ in 0..2 {
        let reason = String::new();
        solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
        assert_eq!(reconnect(&mut solo).capabilities, []);
        solo.accept(&old_open());
    }
    // The connection is lost before the OPEN of the peer arrives.
    for _ in 0..2 {
        let reason = String::new();
        solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
        assert_eq!(reconnect(&mut solo).capabilities, []);
    }
}

#[test]
fn peer_that_offers_capabilities_gets_them_next_time() {
    let mut solo = Solo::new(config()).open_sent();
    solo.refuse(REFUSAL);
    assert_eq!(reconnect(&mut solo).capabilities, []);
    // This session carries IPv4 only, because our OPEN has no capabilities.
    solo.accept(&peer_open());
    assert_eq!(solo.session.negotiated().unwrap().families, [Family::Ipv4Unicast].into());
    let reason = String::new();
    solo.session.handle_input(solo.now, SessionInput::ConnectionClosed { reason });
    assert!(reconnect(&mut solo).capabilities.contains(&Capability::RouteRefresh));
    solo.accept(&peer_open());
    assert!(!solo.session.omits_capabilities());
    assert_eq!(solo.session.negotiated().unwrap().families, Family::ALL.into());
}

#[test]
fn capabilities_are_omitted_only_once_in_vain() {
    let mut solo = Solo::new(config()).open_sent();
    for _ in 0..3 {
        solo.refuse(REFUSAL);
        assert_eq!(reconnect(&mut solo).capabilities, []);
        solo.refuse(REFUSAL);
        assert_ne!(reconnect(&mut solo).capabilities, []);
    }
}

#[test]
fn other_errors_keep_capabilities() {
    for refusal in [(2, 2), (2, 7), (6, 5), (3, 4), (1, 4)] {
        let mut solo = Solo::new(config()).open_sent();
        solo.refuse(refusal);
        assert_ne!(reconnect(&mut solo).capabilities, [], "{refusal:?}");
    }
    // Once established, the peer has accepted the capabilities.
    let mut solo = Solo::new(config()).established();
    solo.refuse(REFUSAL);
    assert_ne!(reconnect(&mut solo).capabilities, []);
    // Without capabilities, an IPv6 session carries nothing.
    let families = [Family::Ipv6Unicast].into();
    let mut solo = Solo::new(SessionConfig { families, ..config() }).open_sent();
    solo.refuse(REFUSAL);
    assert_ne!(reconnect(&mut solo).capabilities, []);
    assert!(!matches!(solo.session.poll_event(), Some(SessionEvent::Established(_))));
}
