//! ICMP echo messages (RFC 792, RFC 4443 §4).

use std::net::IpAddr;

/// Length of an echo message in octets: the header, the cookie and the tick.
pub const ECHO_LENGTH: usize = 24;

/// Length of the ICMP header in octets.
const HEADER: usize = 8;
/// Types of a request and of a reply.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

/// What distinguishes the echo messages of this process from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoIdentity {
    /// The identifier field. A socket filter can select replies by it.
    pub identifier: u16,
    /// A random number that is returned in replies, so that a host cannot send one without a request.
    pub cookie: u64,
}

impl EchoIdentity {
    /// Returns the request of a tick for the family of `to`, without an IP header. The kernel computes the
    /// checksum of ICMPv6.
    #[must_use]
    pub fn request(self, to: IpAddr, tick: u64) -> [u8; ECHO_LENGTH] {
        let kind = if to.is_ipv4() { V4.0 } else { V6.0 };
        let [i0, i1] = self.identifier.to_be_bytes();
        let [.., s0, s1] = tick.to_be_bytes();
        let header = [kind, 0, 0, 0, i0, i1, s0, s1];
        let mut message = [0; ECHO_LENGTH];
        let parts = header.into_iter().chain(self.cookie.to_be_bytes()).chain(tick.to_be_bytes());
        message.iter_mut().zip(parts).for_each(|(octet, value)| *octet = value);
        if to.is_ipv4() {
            let [c0, c1] = checksum(&message).to_be_bytes();
            [message[2], message[3]] = [c0, c1];
        }
        message
    }

    /// Returns the tick of the request that a received packet answers; `None` if it answers none of this
    /// process. A packet from an IPv4 socket begins with its IP header; one from an IPv6 socket does not.
    #[must_use]
    pub fn reply(self, from: IpAddr, packet: &[u8]) -> Option<u64> {
        let (message, kind) = match from {
            IpAddr::V4(_) => (packet.get(4 * usize::from(packet.first()? & 0xf)..)?, V4.1),
            IpAddr::V6(_) => (packet, V6.1),
        };
        let identifier = self.identifier.to_be_bytes();
        let matches = message.get(..2)? == [kind, 0]
            && message.get(4..6)? == identifier
            && message.get(HEADER..HEADER + 8)? == self.cookie.to_be_bytes();
        let tick = message.get(HEADER + 8..ECHO_LENGTH)?.try_into().ok()?;
        matches.then_some(u64::from_be_bytes(tick))
    }
}

/// Returns the Internet checksum (RFC 1071) of a message of even length whose checksum field is zero.
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    const IDENTITY: EchoIdentity = EchoIdentity { identifier: 0x1234, cookie: 0x0102_0304_0506_0708 };
    const FROM: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

    /// The reply of a host, as a socket delivers it.
    fn reply(from: IpAddr, identity: EchoIdentity, tick: u64) -> Vec<u8> {
        let mut message = identity.request(from, tick).to_vec();
        message[0] = if from.is_ipv4() { V4.1 } else { V6.1 };
        let header: &[u8] = if from.is_ipv4() { &[0x45; 20] } else { &[] };
        [header, &message].concat()
    }

    #[test]
    fn request_has_the_fields_of_its_family() {
        let v4 = IDENTITY.request(FROM[0], 0x1_0005);
        let octets = [8, 0, 0xd5, 0xac, 0x12, 0x34, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 1, 0, 5];
        assert_eq!(v4, octets, "{v4:x?}");
        // The sum with the checksum is zero.
        assert_eq!(checksum(&v4), 0);
        let v6 = IDENTITY.request(FROM[1], 7);
        assert_eq!(v6[..8], [128, 0, 0, 0, 0x12, 0x34, 0, 7]);
    }

    #[test]
    fn reply_is_recognized_only_whole_and_with_same_identity() {
        for from in FROM {
            let packet = reply(from, IDENTITY, 99);
            assert_eq!(IDENTITY.reply(from, &packet), Some(99));
            for length in 0..packet.len() {
                assert_eq!(IDENTITY.reply(from, &packet[..length]), None, "{length} octets");
            }
            for other in [EchoIdentity { identifier: 1, ..IDENTITY }, EchoIdentity { cookie: 1, ..IDENTITY }]
            {
                assert_eq!(IDENTITY.reply(from, &reply(from, other, 99)), None);
            }
            let request = IDENTITY.request(from, 99);
            let header: &[u8] = if from.is_ipv4() { &[0x45; 20] } else { &[] };
            assert_eq!(IDENTITY.reply(from, &[header, &request].concat()), None, "a request");
        }
    }

    proptest! {
        #[test]
        fn random_packets_answer_nothing(packet in prop::collection::vec(any::<u8>(), 0..100)) {
            for from in FROM {
                prop_assert_eq!(IDENTITY.reply(from, &packet), None);
            }
        }
    }
}
