//! Planned moves: this node answers until the overlap ends, then withdraws the address.

use std::time::Duration;

use fairlead_l2::{GroupEvent, Interface, InterfaceSet, solicited_node};

use crate::fixture::{
    BROADCAST, CLIENT, ETH0, ETH1, Fixture, V4, V6, arp_request, interface, ipv6, ms, named, request_for_v4,
    solicitation,
};

/// Returns whether the responder answers for [`V4`] and for [`V6`].
fn answered(fixture: &mut Fixture) -> [bool; 2] {
    let arp = fixture.arp(ETH0, &request_for_v4());
    let ndp = fixture.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1"));
    [arp, ndp].map(|sent| !sent.is_empty())
}

#[test]
fn handover_answers_for_300_ms_then_withdraws() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.announce(V6, InterfaceSet::All);
    fixture.sent();
    fixture.events();
    fixture.responder.hand_over(fixture.now, V4);
    fixture.responder.hand_over(fixture.now, V6);
    let end = fixture.now + ms(300);
    assert_eq!(fixture.responder.poll_timeout(), Some(end), "no announcements are left");

    fixture.advance(ms(299));
    assert_eq!(fixture.sent(), []);
    assert_eq!(answered(&mut fixture), [true, true], "just before the end");
    assert_eq!(fixture.events(), []);

    fixture.advance(ms(1));
    assert_eq!(answered(&mut fixture), [false, false], "at the end");
    let group = solicited_node(ipv6("2001:db8::1"));
    assert_eq!(fixture.events(), [GroupEvent::Leave { ifindex: ETH0, group }]);
    assert_eq!(fixture.responder.announced().len(), 0);
    assert_eq!(fixture.responder.poll_timeout(), None);
}

#[test]
fn handover_interrupted_by_another_call() {
    type Call = fn(&mut Fixture);
    let table: [(&str, Call, bool, usize); 9] = [
        ("no call", |_| {}, false, 0),
        ("announce unchanged", |f| f.announce(V4, named(&["eth0"])), true, 14),
        ("announce on one more interface", |f| f.announce(V4, named(&["eth0", "eth1"])), true, 28),
        ("announce on another interface", |f| f.announce(V4, named(&["eth1"])), false, 14),
        ("announce another address", |f| f.announce(V6, named(&["eth0"])), false, 7),
        ("announce all again", |f| f.responder.announce_all_again(f.now), false, 0),
        (
            "change of the MAC",
            |f| f.set_interface(Interface { mac: CLIENT, ..interface(ETH0, "eth0") }),
            false,
            0,
        ),
        ("new interface", |f| f.set_interface(interface(4, "eth0")), false, 0),
        ("withdraw", |f| f.responder.withdraw(V4), false, 0),
    ];
    for (name, call, still_answered, announcements) in table {
        let mut fixture = Fixture::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
        fixture.announce(V4, named(&["eth0"]));
        fixture.run();
        fixture.responder.hand_over(fixture.now, V4);
        fixture.now += ms(100);
        call(&mut fixture);
        assert_eq!(fixture.run().len(), announcements, "{name}: frames sent");
        fixture.advance(Duration::from_secs(1));
        let [v4, _] = answered(&mut fixture);
        assert_eq!(v4, still_answered, "{name}: answered on eth0 after the overlap");
    }
}

#[test]
fn handover_of_unannounced_address_does_nothing() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.responder.hand_over(fixture.now, V4);
    assert_eq!(fixture.responder.poll_timeout(), None);
}

#[test]
fn second_handover_restarts_overlap() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.run();
    fixture.responder.hand_over(fixture.now, V4);
    fixture.advance(ms(200));
    fixture.responder.hand_over(fixture.now, V4);
    assert_eq!(fixture.responder.poll_timeout(), Some(fixture.now + ms(300)));
}

#[test]
fn node_that_stops_answers_and_claims_nothing() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.announce(V6, InterfaceSet::All);
    fixture.sent();
    fixture.responder.hand_over(fixture.now, V4);
    let end_v4 = fixture.now + ms(300);
    fixture.advance(ms(200));
    fixture.sent();
    fixture.responder.hand_over_all(fixture.now);
    let end_v6 = fixture.now + ms(300);
    assert_eq!(fixture.responder.poll_timeout(), Some(end_v4), "the earlier handover keeps its end");

    assert_eq!(answered(&mut fixture), [true, true]);
    let announcement_of_new_owner = arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1");
    assert_eq!(fixture.arp(ETH0, &announcement_of_new_owner), [], "it defends nothing");
    fixture.set_interface(Interface { mac: CLIENT, ..interface(ETH0, "eth0") });
    fixture.responder.announce_all_again(fixture.now);
    assert_eq!(fixture.sent(), [], "it announces nothing");

    fixture.advance(ms(100));
    assert_eq!(answered(&mut fixture), [false, true]);
    assert_eq!(fixture.responder.poll_timeout(), Some(end_v6));
    fixture.advance(ms(200));
    assert_eq!(answered(&mut fixture), [false, false]);
    assert_eq!(fixture.responder.poll_timeout(), None);
}

#[test]
fn quiet_node_answers_and_claims_nothing() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.run();
    fixture.responder.set_quiet(true);
    assert_eq!(answered(&mut fixture), [true, false]);
    fixture.responder.announce_all_again(fixture.now);
    assert_eq!(fixture.run(), [], "it announces nothing");
    fixture.responder.set_quiet(false);
    let announcement_of_another = arp_request(BROADCAST, CLIENT, "192.0.2.1", "192.0.2.1");
    assert!(!fixture.arp(ETH0, &announcement_of_another).is_empty(), "it defends again");
}
