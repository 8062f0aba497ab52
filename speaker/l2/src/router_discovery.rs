//! Router discovery (RFC 4861 section 6) on the link of an unnumbered BGP session, without I/O.
//!
//! Both ends of such a link know each other only by router advertisements. [`RouterDiscovery`] solicits one
//! from the router and reads its link-local address from it. It also advertises this node, because routers
//! such as FRR accept a session from a neighbor only after its advertisement. The advertisements have
//! lifetime zero, so that no host takes this node for its default router.
//!
//! Every host on the link can advertise itself. So the first router remains until it is silent or its session
//! fails ([`RouterDiscovery::release`]), and a flood of messages is read at a bounded rate
//! ([`RouterDiscovery::read_after`]).

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use crate::{ALL_NODES, Mac, NdpPacket};

/// The multicast group of all routers on the link, `ff02::2`.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// ICMPv6 types (RFC 4861 sections 4.1 and 4.2).
const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// Octets of the messages before their options.
const SOLICITATION_LENGTH: usize = 8;
const ADVERTISEMENT_LENGTH: usize = 16;
/// Option type of the source link-layer address (RFC 4861 section 4.6.1).
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;

/// First time between two solicitations (RTR_SOLICITATION_INTERVAL); it doubles up to the longest (RFC 7559).
const SOLICIT_INTERVAL: Duration = Duration::from_secs(4);
const LONGEST_SOLICIT_INTERVAL: Duration = Duration::from_secs(60);
/// Time between two advertisements, as FRR sends them for unnumbered sessions.
const ADVERTISE_INTERVAL: Duration = Duration::from_secs(10);
/// Shortest time between two advertisements (MIN_DELAY_BETWEEN_RAS).
const SHORTEST_ADVERTISE_INTERVAL: Duration = Duration::from_secs(3);
/// A router that was not heard for this long gives way to another one.
const SILENCE: Duration = Duration::from_secs(30);
/// Messages that are read per [`RATE_INTERVAL`]. Routers send one every few seconds, and hosts solicit when
/// they start.
const MAX_MESSAGES: u32 = 32;
/// Period of [`MAX_MESSAGES`].
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// Finds the router on one link, and makes this node known to it.
#[derive(Debug)]
pub struct RouterDiscovery {
    mac: Mac,
    /// The router and when it was heard last.
    router: Option<(Ipv6Addr, Instant)>,
    /// When another router was heard last.
    other: Option<Instant>,
    /// True if the next advertisement of another router replaces the router.
    released: bool,
    solicited_at: Option<Instant>,
    /// Begin of the period in which messages are counted, and their number.
    received: (Instant, u32),
    /// When to solicit next, and the time between solicitations.
    solicit: (Instant, Duration),
    /// When to advertise next, and when that was done last.
    advertise_at: Instant,
    advertised_at: Option<Instant>,
    output: VecDeque<(Ipv6Addr, Vec<u8>)>,
}

impl RouterDiscovery {
    /// Starts on a link where this node has the link-layer address `mac`.
    #[must_use]
    pub fn new(now: Instant, mac: Mac) -> Self {
        let mut discovery = Self {
            mac,
            router: None,
            other: None,
            released: false,
            solicited_at: None,
            received: (now, 0),
            solicit: (now, SOLICIT_INTERVAL),
            advertise_at: now,
            advertised_at: None,
            output: VecDeque::new(),
        };
        discovery.handle_timeout(now);
        discovery
    }

    /// Returns the link-local address of the router; `None` if none was heard.
    #[must_use]
    pub fn router(&self) -> Option<Ipv6Addr> {
        self.router.map(|(address, _)| address)
    }

    /// Returns whether several routers advertise on the link, so that it is not the point-to-point link that
    /// an unnumbered session needs.
    #[must_use]
    pub fn has_other_routers(&self, now: Instant) -> bool {
        self.other.is_some_and(|heard| now.saturating_duration_since(heard) < SILENCE)
    }

    /// Handles that the session with the router ended or was not established: the router may have another
    /// address now. It gives way to the next router that advertises itself, at most once per call.
    pub fn release(&mut self, now: Instant) {
        if self.router.is_some() && !std::mem::replace(&mut self.released, true) {
            let earliest = self.solicited_at.map_or(now, |at| at + SOLICIT_INTERVAL);
            self.solicit = (earliest.max(now), SOLICIT_INTERVAL);
        }
    }

    /// Returns the time before which the shell must not read messages; `None` if it may read.
    #[must_use]
    pub fn read_after(&self, now: Instant) -> Option<Instant> {
        let (since, count) = self.received;
        Some(since + RATE_INTERVAL).filter(|until| count >= MAX_MESSAGES && now < *until)
    }

    /// Handles a message from the link. Ignores all but valid solicitations and advertisements of routers
    /// (RFC 4861 sections 6.1.1 and 6.1.2).
    pub fn handle_message(&mut self, now: Instant, packet: &NdpPacket<'_>) {
        if now.saturating_duration_since(self.received.0) >= RATE_INTERVAL {
            self.received = (now, 0);
        }
        self.received.1 = self.received.1.saturating_add(1);
        let Some([kind, code, ..]) = packet.message.first_chunk::<4>() else { return };
        // A hop limit of 255 proves that no router forwarded the packet.
        if packet.hop_limit != 255 || *code != 0 {
            return;
        }
        let has_options = |length| packet.message.get(length..).is_some_and(are_well_formed);
        match *kind {
            SOLICITATION if has_options(SOLICITATION_LENGTH) => {
                let earliest = self.advertised_at.map_or(now, |at| at + SHORTEST_ADVERTISE_INTERVAL);
                self.advertise_at = self.advertise_at.min(earliest.max(now));
                self.handle_timeout(now);
            }
            ADVERTISEMENT if has_options(ADVERTISEMENT_LENGTH) && packet.source.is_unicast_link_local() => {
                self.heard(now, packet.source);
            }
            _ => {}
        }
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let (at, interval) = self.solicit;
        if self.solicits() && at <= now {
            self.solicited_at = Some(now);
            self.output.push_back((ALL_ROUTERS, self.solicitation()));
            self.solicit = (now + interval, (interval * 2).min(LONGEST_SOLICIT_INTERVAL));
        }
        if self.advertise_at <= now {
            self.output.push_back((ALL_NODES, self.advertisement()));
            self.advertised_at = Some(now);
            self.advertise_at = now + ADVERTISE_INTERVAL;
        }
    }

    /// Returns when to call [`RouterDiscovery::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        if self.solicits() { self.advertise_at.min(self.solicit.0) } else { self.advertise_at }
    }

    const fn solicits(&self) -> bool {
        self.router.is_none() || self.released
    }

    /// Returns the next message to send, and its destination. The shell sends it with hop limit 255 from the
    /// link-local address, and fills in the checksum.
    pub fn poll_transmit(&mut self) -> Option<(Ipv6Addr, Vec<u8>)> {
        self.output.pop_front()
    }

    fn heard(&mut self, now: Instant, source: Ipv6Addr) {
        match &mut self.router {
            Some((router, heard)) if *router == source => *heard = now,
            Some((_, heard)) if !self.released && now.saturating_duration_since(*heard) < SILENCE => {
                self.other = Some(now);
                return;
            }
            Some(router) => {
                // Several routers with failing sessions take turns.
                self.other = Some(now).filter(|_| now.saturating_duration_since(router.1) < SILENCE);
                *router = (source, now);
            }
            router @ None => *router = Some((source, now)),
        }
        self.released = false;
    }

    fn solicitation(&self) -> Vec<u8> {
        let mut message = vec![0; SOLICITATION_LENGTH];
        message[0] = SOLICITATION;
        self.append_mac(&mut message);
        message
    }

    /// Router lifetime, hop limit and timers are zero: the router is no default router and recommends no
    /// values.
    fn advertisement(&self) -> Vec<u8> {
        let mut message = vec![0; ADVERTISEMENT_LENGTH];
        message[0] = ADVERTISEMENT;
        self.append_mac(&mut message);
        message
    }

    fn append_mac(&self, message: &mut Vec<u8>) {
        message.extend([SOURCE_LINK_LAYER_ADDRESS, 1]);
        message.extend(self.mac);
    }
}

/// Returns whether no option has length zero or exceeds the message.
fn are_well_formed(mut options: &[u8]) -> bool {
    while let [_, length, ..] = *options {
        match options.get(usize::from(length) * 8..) {
            Some(rest) if length > 0 => options = rest,
            _ => return false,
        }
    }
    options.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 1];
    const OPTION: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 0xaa];

    fn start() -> (RouterDiscovery, Instant) {
        let now = Instant::now();
        (RouterDiscovery::new(now, MAC), now)
    }

    /// Returns the messages to send, as `RS` and `RA`.
    fn sent(discovery: &mut RouterDiscovery) -> Vec<&'static str> {
        std::iter::from_fn(|| discovery.poll_transmit())
            .map(|(destination, message)| match (destination, message[0]) {
                (ALL_ROUTERS, SOLICITATION) => "RS",
                (ALL_NODES, ADVERTISEMENT) => "RA",
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn advertisement(options: &[u8]) -> Vec<u8> {
        let mut message = vec![134, 0, 0xab, 0xcd, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        message.extend(options);
        message
    }

    fn solicitation(options: &[u8]) -> Vec<u8> {
        let mut message = vec![133, 0, 0xab, 0xcd, 0, 0, 0, 0];
        message.extend(options);
        message
    }

    fn packet<'a>(source: &str, message: &'a [u8]) -> NdpPacket<'a> {
        NdpPacket { source: source.parse().unwrap(), destination: None, hop_limit: 255, message }
    }

    #[test]
    fn messages_have_exact_octets() {
        let (mut discovery, _) = start();
        let messages: Vec<_> = std::iter::from_fn(|| discovery.poll_transmit()).collect();
        let mac = [1, 1, 2, 0, 0, 0, 0, 1];
        let solicitation = [&[133, 0, 0, 0, 0, 0, 0, 0], &mac[..]].concat();
        let advertisement = [&[134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mac[..]].concat();
        assert_eq!(messages, [(ALL_ROUTERS, solicitation), (ALL_NODES, advertisement)]);
    }

    #[test]
    fn solicitations_end_with_the_first_advertisement() {
        let (mut discovery, start) = start();
        sent(&mut discovery);
        let mut solicited = Vec::new();
        for second in 1..=200 {
            let now = start + Duration::from_secs(second);
            discovery.handle_timeout(now);
            if sent(&mut discovery).contains(&"RS") {
                solicited.push(second);
            }
        }
        assert_eq!(solicited, [4, 12, 28, 60, 120, 180]);
        let now = start + Duration::from_secs(230);
        discovery.handle_message(now, &packet("fe80::1", &advertisement(&OPTION)));
        assert_eq!(discovery.router(), Some("fe80::1".parse().unwrap()));
        discovery.handle_timeout(now + Duration::from_secs(100));
        assert_eq!(sent(&mut discovery), ["RA"]);
    }

    #[test]
    fn solicitation_is_answered_at_most_every_three_seconds() {
        let (mut discovery, start) = start();
        sent(&mut discovery);
        let mut advertised = Vec::new();
        for tenth in 1..=150 {
            let now = start + Duration::from_millis(tenth * 100);
            if tenth <= 70 {
                discovery.handle_message(now, &packet("fe80::1", &solicitation(&OPTION)));
            }
            discovery.handle_timeout(now);
            if sent(&mut discovery).contains(&"RA") {
                advertised.push(tenth);
            }
        }
        // Without solicitations, the interval is 10 s.
        assert_eq!(advertised, [30, 60, 90]);
    }

    #[test]
    fn timeout_names_the_next_message() {
        let (mut discovery, start) = start();
        assert_eq!(discovery.poll_timeout(), start + SOLICIT_INTERVAL);
        discovery.handle_message(start, &packet("fe80::1", &advertisement(&[])));
        assert_eq!(discovery.poll_timeout(), start + ADVERTISE_INTERVAL);
    }

    #[test]
    fn invalid_messages_are_ignored() {
        let valid = advertisement(&OPTION);
        let other_code = [&[134, 1], &valid[2..]].concat();
        let mut cases = vec![
            ("global source", packet("2001:db8::1", &valid)),
            ("hop limit 254", NdpPacket { hop_limit: 254, ..packet("fe80::1", &valid) }),
            ("code 1", packet("fe80::1", &other_code)),
        ];
        let zero_length = advertisement(&[1, 0, 0, 0, 0, 0, 0, 0]);
        let too_long = advertisement(&[1, 2, 0, 0, 0, 0, 0, 0]);
        let half_option = advertisement(&[1]);
        let options =
            [("option of length 0", &zero_length), ("long option", &too_long), ("half", &half_option)];
        cases.extend(options.map(|(name, message)| (name, packet("fe80::1", message))));
        for length in 0..16 {
            cases.push(("truncated", packet("fe80::1", &valid[..length])));
        }
        for (name, packet) in cases {
            let (mut discovery, now) = start();
            discovery.handle_message(now, &packet);
            assert_eq!(discovery.router(), None, "{name}");
        }
        let (mut discovery, now) = start();
        discovery.handle_message(now, &packet("fe80::1", &valid));
        assert!(discovery.router().is_some());
    }

    #[test]
    fn released_router_gives_way_to_the_next_advertisement_once() {
        let (mut discovery, start) = start();
        let at = |second| start + Duration::from_secs(second);
        let router = |discovery: &RouterDiscovery| discovery.router().unwrap().segments()[7];
        let message = advertisement(&[]);
        let hear = |discovery: &mut RouterDiscovery, second, source| {
            discovery.handle_message(at(second), &packet(source, &message));
        };
        hear(&mut discovery, 0, "fe80::1");
        sent(&mut discovery);
        discovery.release(at(1));
        discovery.release(at(1));
        assert_eq!(router(&discovery), 1, "until another router is heard");
        hear(&mut discovery, 2, "fe80::2");
        hear(&mut discovery, 2, "fe80::3");
        assert_eq!(router(&discovery), 2);
        assert!(discovery.has_other_routers(at(2)));
        // The router that is still there remains.
        discovery.release(at(3));
        hear(&mut discovery, 4, "fe80::2");
        hear(&mut discovery, 4, "fe80::1");
        assert_eq!(router(&discovery), 2);
    }

    #[test]
    fn release_solicits_the_router_at_a_bounded_rate() {
        let (mut discovery, start) = start();
        discovery.handle_message(start, &packet("fe80::1", &advertisement(&[])));
        sent(&mut discovery);
        let mut solicited = 0;
        for tenth in 0..600 {
            let now = start + Duration::from_millis(tenth * 100);
            // A session whose attempts fail all the time.
            discovery.release(now);
            discovery.handle_timeout(now);
            solicited += sent(&mut discovery).iter().filter(|kind| **kind == "RS").count();
        }
        assert!((1..=8).contains(&solicited), "{solicited} in a minute");
    }

    #[test]
    fn flood_is_read_at_a_bounded_rate() {
        let (mut discovery, start) = start();
        let message = advertisement(&[]);
        let mut handled = 0;
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            if discovery.read_after(now).is_none() {
                let source = format!("fe80::{}", millisecond + 1);
                discovery.handle_message(now, &packet(&source, &message));
                handled += 1;
            }
        }
        assert_eq!(handled, 10 * MAX_MESSAGES);
        assert_eq!(discovery.router(), Some("fe80::1".parse().unwrap()), "one of many remains");
        assert!(discovery.output.len() <= 2);
    }

    #[test]
    fn silent_router_gives_way_to_another() {
        let (mut discovery, start) = start();
        let at = |second| start + Duration::from_secs(second);
        let message = advertisement(&[]);
        discovery.handle_message(at(0), &packet("fe80::1", &message));
        assert!(!discovery.has_other_routers(at(0)));
        discovery.handle_message(at(20), &packet("fe80::2", &message));
        assert_eq!(discovery.router(), Some("fe80::1".parse().unwrap()));
        assert!(discovery.has_other_routers(at(20)));
        assert!(!discovery.has_other_routers(at(50)));
        discovery.handle_message(at(51), &packet("fe80::2", &message));
        assert_eq!(discovery.router(), Some("fe80::2".parse().unwrap()));
    }
}
