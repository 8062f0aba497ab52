//! BFD Control packets (RFC 5880): single ones, and sequences that a session receives.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use fairlead_bfd::{
    ControlPacket, Datagram, HopMode, PACKET_LENGTH, Role, SessionConfig, SessionKey, Sessions,
};
use fairlead_fuzz::fuzz;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const KEY: SessionKey = SessionKey { local: LOCAL, remote: PEER, hop_mode: HopMode::Single, interface: None };

/// Octets of a step of `bfd_session`: one that chooses what happens, and a packet.
const STEP: usize = 1 + PACKET_LENGTH;

#[test]
fn bfd_packet() {
    fuzz("bfd_packet", |input| {
        let Ok(packet) = ControlPacket::decode(input) else { return };
        let unauthenticated = ControlPacket { authentication_present: false, ..packet };
        assert_eq!(ControlPacket::decode(&packet.encode()), Ok(unauthenticated));
    });
}

/// Sends all packets that are due. Returns their number.
fn transmit(sessions: &mut Sessions, now: Instant) -> usize {
    let transmits = std::iter::from_fn(|| sessions.poll_transmit(now));
    let check = |packet: ControlPacket| assert!(!(packet.poll && packet.is_final), "P and F in one packet");
    transmits.map(|transmit| check(ControlPacket::decode(&transmit.packet).unwrap())).count()
}

#[test]
fn bfd_session() {
    fuzz("bfd_session", |input| {
        let mut now = Instant::now();
        let mut sessions = Sessions::new([7; 32]);
        let config = SessionConfig {
            role: Role::Active,
            desired_min_tx: Duration::from_millis(50),
            required_min_rx: Duration::from_millis(50),
            detect_multiplier: 3,
            required_min_echo_rx: Duration::ZERO,
            minimum_ttl: 254,
        };
        let discriminator = sessions.set_user(now, KEY, "r1", config).unwrap();
        for step in input.chunks(STEP) {
            let [choice, payload @ ..] = step else { continue };
            let mut payload = payload.to_vec();
            // A mutation does not guess the discriminator.
            if choice & 1 == 1
                && let Some(field) = payload.get_mut(8..12)
            {
                field.copy_from_slice(&NonZeroU32::get(discriminator).to_be_bytes());
            }
            now += Duration::from_millis(u64::from(choice >> 4) * 20);
            match choice >> 1 & 7 {
                0 => sessions.carrier_lost(now, &KEY),
                1 => sessions.admin_down(now, &KEY),
                2 => sessions.admin_up(now, &KEY),
                3 => {
                    let desired_min_tx = Duration::from_millis(u64::from(*choice) + 1);
                    sessions.set_user(now, KEY, "r1", SessionConfig { desired_min_tx, ..config }).unwrap();
                }
                _ => {}
            }
            transmit(&mut sessions, now);
            let datagram = Datagram {
                local: LOCAL,
                remote: PEER,
                hop_mode: HopMode::Single,
                interface: 2,
                ttl: 255,
                payload: &payload,
            };
            let _ = sessions.handle_datagram(now, &datagram);
            assert!(transmit(&mut sessions, now) <= 2, "more packets than an answer and a change of state");
            sessions.handle_timeout(now);
            transmit(&mut sessions, now);
            assert!(sessions.poll_timeout().is_none_or(|next| next > now), "the shell would spin");
            assert!(std::iter::from_fn(|| sessions.poll_event()).count() <= 8);
        }
        sessions.shut_down(now);
        for _ in 0..4 {
            now += Duration::from_millis(100);
            sessions.handle_timeout(now);
            transmit(&mut sessions, now);
        }
        assert_eq!(sessions.keys().count(), 0, "a planned stop ends");
    });
}
