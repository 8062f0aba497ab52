//! ARP (RFC 826) and NDP (RFC 4861) packets, as an announcing responder receives them.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use fairlead_fuzz::fuzz;
use fairlead_l2::{Interface, InterfaceSet, NdpPacket, Responder};

const INDEX: u32 = 2;

fn responder(now: Instant) -> Responder {
    let mut responder = Responder::new();
    responder.set_interface(
        now,
        Interface {
            index: INDEX,
            name: "eth0".to_owned(),
            mac: [2, 0, 0, 0, 0, 1],
            arp: true,
            link_local: Some("fe80::1".parse().unwrap()),
        },
    );
    for address in ["192.0.2.200", "2001:db8::200"] {
        responder.announce(now, address.parse::<IpAddr>().unwrap(), InterfaceSet::All);
    }
    drain(&mut responder);
    responder
}

/// Counts what the responder sends.
fn drain(responder: &mut Responder) -> usize {
    while responder.poll_event().is_some() {}
    std::iter::from_fn(|| responder.poll_transmit()).count()
}

#[test]
fn l2_arp() {
    fuzz("l2_arp", |input| {
        let now = Instant::now();
        let mut responder = responder(now);
        responder.handle_arp(now, INDEX, input);
        // A conflict is answered with one gratuitous announcement: a request and a reply (RFC 5227 §2.4).
        assert!(drain(&mut responder) <= 2, "one packet causes at most one answer or announcement");
        responder.handle_timeout(now + Duration::from_secs(1));
    });
}

#[test]
fn l2_ndp() {
    fuzz("l2_ndp", |input| {
        let now = Instant::now();
        // The first octets choose the addresses and the hop limit; the rest is the ICMPv6 message.
        let (&[choice, hop_limit], message) = input.split_first_chunk::<2>().unwrap_or((&[0, 255], input));
        let address = |bit: u8, one: &str, other: &str| -> Ipv6Addr {
            if choice & bit == 0 { one.parse().unwrap() } else { other.parse().unwrap() }
        };
        let source = if choice & 4 == 0 {
            address(1, "fe80::2", "::")
        } else {
            address(1, "ff02::1", "2001:db8::200")
        };
        let destination = address(2, "ff02::1:ff00:200", "2001:db8::200");
        let hop_limit = if hop_limit & 1 == 1 { 255 } else { hop_limit };
        let mut responder = responder(now);
        responder.handle_ndp(
            now,
            INDEX,
            NdpPacket { source, destination: Some(destination), hop_limit, message },
        );
        assert!(drain(&mut responder) <= 1, "one packet causes at most one answer");
        responder.handle_timeout(now + Duration::from_secs(1));
    });
}
