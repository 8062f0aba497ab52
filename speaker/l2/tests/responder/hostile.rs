//! For any received bytes, the responder answers only for announced addresses and only on their interface.

use std::net::Ipv6Addr;

use fairlead_l2::{NdpPacket, Transmit};
use proptest::prelude::*;

use crate::fixture::{ETH0, ETH1, Fixture, V4, V6, ipv6, named, request_for_v4, solicitation};

fn check_answers(sent: &[Transmit]) {
    for transmit in sent {
        match transmit {
            Transmit::Arp { ifindex, frame } => {
                assert_eq!((*ifindex, &frame[28..32]), (ETH0, &[192, 0, 2, 1][..]));
            }
            Transmit::Ndp { ifindex, message, .. } => {
                assert_eq!((*ifindex, &message[8..24]), (ETH0, &ipv6("2001:db8::1").octets()[..]));
            }
        }
    }
}

fn announced_on_eth0() -> Fixture {
    let mut fixture = Fixture::new(&[(ETH0, "eth0"), (ETH1, "eth1")]);
    fixture.announce(V4, named(&["eth0"]));
    fixture.announce(V6, named(&["eth0"]));
    fixture.run();
    fixture
}

proptest! {
    #[test]
    fn random_bytes_are_ignored(bytes in prop::collection::vec(any::<u8>(), 0..2_000), ifindex in 1u32..5) {
        let mut fixture = announced_on_eth0();
        check_answers(&fixture.arp(ifindex, &bytes));
        check_answers(&fixture.ndp(ifindex, "fe80::9", &bytes));
        prop_assert!(fixture.responder.poll_timeout().is_none());
    }

    #[test]
    fn damaged_requests_are_answered_correctly_or_ignored(
        damage in prop::collection::vec((0usize..64, any::<u8>()), 0..6),
        cut in 0usize..80,
        hop_limit in any::<u8>(),
        source in any::<u128>(),
        ifindex in 1u32..5,
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            bytes.resize(cut.max(20), 0);
            for (at, value) in &damage {
                if let Some(byte) = bytes.get_mut(*at) {
                    *byte = *value;
                }
            }
            bytes
        };
        let mut fixture = announced_on_eth0();
        let request = damaged(request_for_v4());
        check_answers(&fixture.arp(ifindex, &request));
        let message = damaged(solicitation("2001:db8::1"));
        let packet = NdpPacket {
            source: Ipv6Addr::from_bits(source),
            destination: None,
            hop_limit,
            message: &message,
        };
        fixture.responder.handle_ndp(fixture.now, ifindex, packet);
        let sent = fixture.sent();
        check_answers(&sent);
        prop_assert!(hop_limit == 255 || sent.is_empty());
    }
}
