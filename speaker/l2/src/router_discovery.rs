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

use std::collections::{BTreeSet, VecDeque};
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
/// Time for which another router is remembered: the longest interval of advertisements (MaxRtrAdvInterval,
/// RFC 4861 section 6.2.1).
const OTHER_MEMORY: Duration = Duration::from_secs(1800);
/// Time from [`RouterDiscovery::release`] in which only another router is accepted.
const RELEASE_WAIT: Duration = Duration::from_secs(1);
/// Messages that are read per [`RATE_INTERVAL`]. Routers send one every few seconds, and hosts solicit when
/// they start.
const MAX_MESSAGES: u32 = 32;
/// Period of [`MAX_MESSAGES`].
const RATE_INTERVAL: Duration = Duration::from_secs(1);

/// Finds the router on one link, and makes this node known to it.
#[derive(Debug)]
pub struct RouterDiscovery {
    mac: Mac,
    /// The addresses from which this node itself advertises, also on other interfaces.
    own: BTreeSet<(Ipv6Addr, Mac)>,
    /// The router and when it was heard last.
    router: Option<(Ipv6Addr, Instant)>,
    /// Another router and when it was heard last.
    other: Option<(Ipv6Addr, Instant)>,
    /// Set if the next advertisement of any router replaces the router: until this time, only that of another
    /// one.
    released: Option<Instant>,
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
            own: BTreeSet::new(),
            router: None,
            other: None,
            released: None,
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

    /// Sets the link-local addresses of this node with the link-layer addresses of their interfaces. Two
    /// interfaces may connect to one link: then this node hears its own advertisements. The address alone is
    /// not sufficient, because a router may have the address of an interface that connects to another link.
    pub fn set_own_addresses(&mut self, own: BTreeSet<(Ipv6Addr, Mac)>) {
        self.own = own;
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
        self.other.is_some_and(|(_, heard)| now.saturating_duration_since(heard) < OTHER_MEMORY)
    }

    /// Handles that the session with the router ended or was not established: the router may have another
    /// address now. It gives way to the next router that advertises itself, at most once per call. Its own
    /// advertisements do not count for one second, so that it does not win because it answers first.
    pub fn release(&mut self, now: Instant) {
        if self.router.is_some() && self.released.is_none() {
            self.released = Some(now + RELEASE_WAIT);
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
                let options = packet.message.get(ADVERTISEMENT_LENGTH..).unwrap_or_default();
                let is_own = source_mac(options).is_some_and(|mac| self.own.contains(&(packet.source, mac)));
                if !is_own {
                    self.heard(now, packet.source);
                }
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

    fn solicits(&self) -> bool {
        self.router.is_none() || self.released.is_some()
    }

    /// Returns the next message to send, and its destination. The shell sends it with hop limit 255 from the
    /// link-local address, and fills in the checksum.
    pub fn poll_transmit(&mut self) -> Option<(Ipv6Addr, Vec<u8>)> {
        self.output.pop_front()
    }

    fn heard(&mut self, now: Instant, source: Ipv6Addr) {
        match &mut self.router {
            Some((router, heard)) if *router == source => {
                *heard = now;
                if self.released.is_some_and(|until| now < until) {
                    return;
                }
            }
            Some((_, heard))
                if self.released.is_none() && now.saturating_duration_since(*heard) < SILENCE =>
            {
                self.other = Some((source, now));
                return;
            }
            Some(router) => {
                // Several routers with failing sessions take turns. But one router may have changed its
                // address: then the earlier one is not heard again.
                if self.other.is_some_and(|(other, _)| other == source) {
                    self.other =
                        Some(*router).filter(|(_, heard)| now.saturating_duration_since(*heard) < SILENCE);
                }
                *router = (source, now);
            }
            router @ None => *router = Some((source, now)),
        }
        self.released = None;
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

/// Returns the source link-layer address in well-formed options.
fn source_mac(mut options: &[u8]) -> Option<Mac> {
    while let [kind, length, rest @ ..] = options {
        if (*kind, *length) == (SOURCE_LINK_LAYER_ADDRESS, 1) {
            return rest.first_chunk().copied();
        }
        options = options.get(usize::from(*length).max(1) * 8..)?;
    }
    None
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
        discovery.handle_message(at(51), &packet("fe80::2", &message));
        assert_eq!(discovery.router(), Some("fe80::2".parse().unwrap()));
        assert!(!discovery.has_other_routers(at(51)), "the silent one");
    }

    #[test]
    fn other_router_is_remembered_between_its_advertisements() {
        let (mut discovery, start) = start();
        let at = |second| start + Duration::from_secs(second);
        let message = advertisement(&[]);
        discovery.handle_message(at(0), &packet("fe80::1", &message));
        discovery.handle_message(at(1), &packet("fe80::2", &message));
        assert!(discovery.has_other_routers(at(1_800)));
        assert!(!discovery.has_other_routers(at(1_801)));
    }

    #[test]
    fn router_with_a_new_address_is_not_another_one() {
        let (mut discovery, start) = start();
        let at = |second| start + Duration::from_secs(second);
        let message = advertisement(&[]);
        discovery.handle_message(at(0), &packet("fe80::1", &message));
        discovery.release(at(1));
        discovery.handle_message(at(2), &packet("fe80::2", &message));
        assert_eq!(discovery.router(), Some("fe80::2".parse().unwrap()));
        assert!(!discovery.has_other_routers(at(2)));
        // The earlier one is still there.
        discovery.handle_message(at(3), &packet("fe80::1", &message));
        assert!(discovery.has_other_routers(at(3)));
    }

    /// Given when the failed router and another one advertise after the release, in milliseconds: the router
    /// that is used.
    #[test]
    fn failed_router_waits_a_second_for_another_one() {
        for (failed, other, expected) in
            [(500, 900, 2), (500, 1_500, 2), (1_000, 1_500, 1), (500, 60_000, 2), (1_500, 900, 2)]
        {
            let (mut discovery, start) = start();
            let message = advertisement(&[]);
            discovery.handle_message(start, &packet("fe80::1", &message));
            discovery.release(start);
            let mut heard = [(failed, "fe80::1"), (other, "fe80::2")];
            heard.sort_unstable();
            for (millisecond, source) in heard {
                let now = start + Duration::from_millis(millisecond);
                discovery.handle_message(now, &packet(source, &message));
            }
            let router = discovery.router().unwrap().segments()[7];
            assert_eq!(router, expected, "{failed} ms, {other} ms");
        }
    }

    #[test]
    fn own_advertisements_are_ignored() {
        let own_mac = [2, 0, 0, 0, 0, 0xaa];
        let other_option = [1, 1, 2, 0, 0, 0, 0, 0xbb];
        for (name, source, options, is_router) in [
            ("own", "fe80::1", &[OPTION].concat(), false),
            ("own, another option first", "fe80::1", &[[5, 1, 0, 0, 0, 0, 5, 220], OPTION].concat(), false),
            ("router with the same address", "fe80::1", &[other_option].concat(), true),
            ("no link-layer address", "fe80::1", &Vec::new(), true),
            ("another address", "fe80::2", &[OPTION].concat(), true),
        ] {
            let (mut discovery, now) = start();
            discovery.set_own_addresses([("fe80::1".parse().unwrap(), own_mac)].into());
            discovery.handle_message(now, &packet(source, &advertisement(options)));
            assert_eq!(discovery.router().is_some(), is_router, "{name}");
        }
    }
}
