//! Interfaces that appear, change and disappear, and their multicast groups.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use fairlead_l2::{GroupEvent, Interface, InterfaceSet, Mac, Transmit, solicited_node};
use proptest::prelude::*;

use crate::fixture::{
    CLIENT, ETH0, Fixture, V4, V6, arp_request, interface, ipv6, mac, ms, named, solicitation,
};

#[test]
fn new_interface_joins_groups_and_announces() {
    let mut fixture = Fixture::new(&[]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.announce(V6, InterfaceSet::All);
    assert_eq!((fixture.run(), fixture.events()), (vec![], vec![]));

    fixture.set_interface(interface(ETH0, "eth0"));
    let group = solicited_node(ipv6("2001:db8::1"));
    assert_eq!(fixture.events(), [GroupEvent::Join { ifindex: ETH0, group }]);
    assert_eq!(fixture.run().len(), 7 * 3);

    fixture.set_interface(interface(ETH0, "eth0"));
    assert_eq!(fixture.run(), [], "the interface did not change");

    fixture.responder.remove_interface(ETH0);
    assert_eq!(fixture.events(), [], "the socket leaves its groups when it is closed");
    fixture.set_interface(interface(ETH0, "eth0"));
    assert_eq!(fixture.events().len(), 1);
    assert_eq!(fixture.run().len(), 7 * 3, "announced again");
}

#[test]
fn ndp_starts_once_link_local_address_exists() {
    let mut fixture = Fixture::new(&[]);
    fixture.announce(V6, InterfaceSet::All);
    fixture.set_interface(Interface { link_local: None, ..interface(ETH0, "eth0") });
    assert_eq!((fixture.run(), fixture.events()), (vec![], vec![]));
    fixture.set_interface(interface(ETH0, "eth0"));
    assert_eq!((fixture.run().len(), fixture.events().len()), (7, 1));
}

#[test]
fn changed_mac_is_announced_and_used_in_answers() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V4, InterfaceSet::All);
    fixture.announce(V6, InterfaceSet::All);
    fixture.run();
    fixture.events();
    let other: Mac = [0x02, 9, 9, 9, 9, 9];
    fixture.set_interface(Interface { mac: other, ..interface(ETH0, "eth0") });
    let log = fixture.run();
    assert_eq!(log.len(), 7 * 3);
    for (_, transmit) in log {
        match transmit {
            Transmit::Arp { frame, .. } => {
                assert_eq!((&frame[6..12], &frame[22..28]), (&other[..], &other[..]))
            }
            Transmit::Ndp { message, .. } => assert_eq!(message[26..32], other),
        }
    }
    assert_eq!(fixture.events(), [], "the groups stay joined");
    let old = arp_request(mac(ETH0), CLIENT, "192.0.2.9", "192.0.2.1");
    assert!(fixture.arp(ETH0, &old).is_empty(), "a request to the previous MAC address");
}

#[test]
fn renamed_interface_is_matched_by_its_new_name() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    fixture.announce(V6, named(&["eth0"]));
    fixture.run();
    fixture.events();
    fixture.set_interface(interface(ETH0, "wan"));
    let group = solicited_node(ipv6("2001:db8::1"));
    assert_eq!(fixture.events(), [GroupEvent::Leave { ifindex: ETH0, group }]);
    assert!(fixture.ndp(ETH0, "fe80::9", &solicitation("2001:db8::1")).is_empty());
}

#[test]
fn addresses_share_solicited_node_groups() {
    let mut fixture = Fixture::new(&[(ETH0, "eth0")]);
    let [one, two] = ["2001:db8:1::7", "2001:db8:2::7"].map(|text| IpAddr::V6(ipv6(text)));
    let group = ipv6("ff02::1:ff00:7");
    fixture.announce(one, InterfaceSet::All);
    assert_eq!(fixture.events(), [GroupEvent::Join { ifindex: ETH0, group }]);
    fixture.announce(two, InterfaceSet::All);
    assert_eq!(fixture.events(), []);
    fixture.responder.withdraw(one);
    assert_eq!(fixture.events(), []);
    fixture.responder.withdraw(two);
    assert_eq!(fixture.events(), [GroupEvent::Leave { ifindex: ETH0, group }]);
}

proptest! {
    /// For any sequence of changes, joins and leaves of a group alternate, and no group stays joined once no
    /// address is announced.
    #[test]
    fn group_joins_and_leaves_are_balanced(
        steps in prop::collection::vec((0u8..5, 0u16..6, 0u32..2), 0..60),
    ) {
        let mut fixture = Fixture::new(&[]);
        let mut joined = BTreeSet::new();
        let address = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, n, 0, 0, 0, 0, n % 3));
        let names = ["eth0", "eth1"];
        let drain = |fixture: &mut Fixture, joined: &mut BTreeSet<(u32, Ipv6Addr)>| {
            for event in fixture.events() {
                match event {
                    GroupEvent::Join { ifindex, group } => assert!(joined.insert((ifindex, group))),
                    GroupEvent::Leave { ifindex, group } => assert!(joined.remove(&(ifindex, group))),
                }
            }
        };
        for (step, n, link) in steps {
            let index = ETH0 + link;
            match step {
                0 => fixture.announce(address(n), InterfaceSet::All),
                1 => fixture.announce(address(n), named(&[names[link as usize]])),
                2 => fixture.responder.withdraw(address(n)),
                3 => fixture.responder.hand_over(fixture.now, address(n)),
                _ if joined.iter().any(|(ifindex, _)| *ifindex == index) => {
                    fixture.responder.remove_interface(index);
                    joined.retain(|(ifindex, _)| *ifindex != index);
                }
                _ => fixture.set_interface(interface(index, names[link as usize])),
            }
            drain(&mut fixture, &mut joined);
            fixture.now += ms(50);
        }
        for n in 0..6 {
            fixture.responder.withdraw(address(n));
        }
        drain(&mut fixture, &mut joined);
        prop_assert!(joined.is_empty());
        fixture.sent();
        prop_assert!(fixture.run().is_empty());
    }
}
