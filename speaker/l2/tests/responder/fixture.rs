//! A responder with a simulated clock, and the packets that the tests send to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_l2::{Conflict, GroupEvent, Interface, InterfaceSet, Mac, NdpPacket, Responder, Transmit};

pub(crate) const ETH0: u32 = 2;
pub(crate) const ETH1: u32 = 3;
pub(crate) const CLIENT: Mac = [0x02, 0, 0, 0, 0, 0xaa];
pub(crate) const BROADCAST: Mac = [0xff; 6];

pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// `2001:db8::1`
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

pub(crate) fn ipv6(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) fn mac(index: u32) -> Mac {
    [0x02, 0, 0, 0, 1, index as u8]
}

pub(crate) fn interface(index: u32, name: &str) -> Interface {
    let link_local = Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, index as u16));
    Interface { index, name: name.into(), mac: mac(index), arp: true, link_local }
}

pub(crate) fn named(names: &[&str]) -> InterfaceSet {
    InterfaceSet::Named(Arc::new(names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>()))
}

pub(crate) fn arp_request(to: Mac, from: Mac, sender: &str, target: &str) -> Vec<u8> {
    let mut frame = [&to[..], &from, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1], &from].concat();
    frame.extend(sender.parse::<Ipv4Addr>().unwrap().octets());
    frame.extend([0; 6]);
    frame.extend(target.parse::<Ipv4Addr>().unwrap().octets());
    frame
}

/// A broadcast request of the client for [`V4`].
pub(crate) fn request_for_v4() -> Vec<u8> {
    arp_request(BROADCAST, CLIENT, "192.0.2.9", "192.0.2.1")
}

pub(crate) fn solicitation(target: &str) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(ipv6(target).octets());
    message
}

pub(crate) struct Fixture {
    pub responder: Responder,
    pub now: Instant,
    start: Instant,
}

impl Fixture {
    pub(crate) fn new(interfaces: &[(u32, &str)]) -> Self {
        let now = Instant::now();
        let mut responder = Responder::new();
        for (index, name) in interfaces {
            responder.set_interface(now, interface(*index, name));
        }
        Self { responder, start: now, now }
    }

    pub(crate) fn announce(&mut self, address: IpAddr, interfaces: InterfaceSet) {
        self.responder.announce(self.now, address, interfaces);
    }

    pub(crate) fn set_interface(&mut self, interface: Interface) {
        self.responder.set_interface(self.now, interface);
    }

    pub(crate) fn sent(&mut self) -> Vec<Transmit> {
        std::iter::from_fn(|| self.responder.poll_transmit()).collect()
    }

    pub(crate) fn events(&mut self) -> Vec<GroupEvent> {
        std::iter::from_fn(|| self.responder.poll_event()).collect()
    }

    /// Advances the clock and calls `handle_timeout` once.
    pub(crate) fn advance(&mut self, time: Duration) {
        self.now += time;
        self.responder.handle_timeout(self.now);
    }

    /// Advances the clock from timeout to timeout until none is left. Returns what was sent, with
    /// milliseconds since the start.
    pub(crate) fn run(&mut self) -> Vec<(u128, Transmit)> {
        let mut log = Vec::new();
        loop {
            let at = (self.now - self.start).as_millis();
            log.extend(self.sent().into_iter().map(|transmit| (at, transmit)));
            let Some(next) = self.responder.poll_timeout() else { return log };
            self.now = self.now.max(next);
            self.responder.handle_timeout(self.now);
        }
    }

    /// Receives an Ethernet frame. Returns what was sent in response.
    pub(crate) fn arp(&mut self, ifindex: u32, frame: &[u8]) -> Vec<Transmit> {
        self.responder.handle_arp(self.now, ifindex, frame);
        self.sent()
    }

    /// Receives an ICMPv6 message. Returns what was sent in response.
    pub(crate) fn ndp(&mut self, ifindex: u32, source: &str, message: &[u8]) -> Vec<Transmit> {
        let packet = NdpPacket { source: ipv6(source), destination: None, hop_limit: 255, message };
        self.responder.handle_ndp(self.now, ifindex, packet);
        self.sent()
    }
}

/// The conflict with [`CLIENT`] about an address on `eth0`.
pub(crate) fn conflict(address: IpAddr, is_left: bool) -> Conflict {
    Conflict { address, claimant: Some(CLIENT), interface: "eth0".to_owned(), is_left }
}

/// An ARP reply.
pub(crate) fn arp_reply(from: Mac, sender: &str, target: &str) -> Vec<u8> {
    let mut frame = arp_request(BROADCAST, from, sender, target);
    frame[21] = 2;
    frame
}

/// A neighbor advertisement with these flags and options.
pub(crate) fn advertisement(target: &str, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
    message.extend(ipv6(target).octets());
    message.extend(options);
    message
}

pub(crate) fn target_link_layer(mac: Mac) -> Vec<u8> {
    [&[2, 1], &mac[..]].concat()
}
