//! What this node answers for, where, and what it sends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::handover::Handovers;
use crate::schedule::Schedule;
use crate::{arp, ndp};

/// An Ethernet (EUI-48) address.
pub type Mac = [u8; 6];

/// An interface on which addresses can be announced: up, Ethernet, not enslaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Kernel's index.
    pub index: u32,
    /// Name, as advertisements list it.
    pub name: String,
    /// Address that answers carry.
    pub mac: Mac,
    /// ARP runs here (BROADCAST set, NOARP not set).
    pub arp: bool,
    /// IPv6 link-local address, without which there is no NDP here.
    pub link_local: Option<Ipv6Addr>,
}

/// On which interfaces an address is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfaceSet {
    /// On every interface there is, also on those that appear later.
    All,
    /// On the interfaces with these names.
    Named(Arc<BTreeSet<String>>),
}

/// A received ICMPv6 message with what is needed of its IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdpPacket<'a> {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address, where the socket tells it.
    pub destination: Option<Ipv6Addr>,
    /// Hop limit with which it arrived.
    pub hop_limit: u8,
    /// ICMPv6 message from its type on; its checksum was verified by the kernel.
    pub message: &'a [u8],
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A whole Ethernet frame.
    Arp {
        /// Interface to send it on.
        ifindex: u32,
        /// Frame from the destination address on, without FCS.
        frame: Vec<u8>,
    },
    /// An ICMPv6 message; hop limit 255, checksum by the kernel.
    Ndp {
        /// Interface to send it on.
        ifindex: u32,
        /// IPv6 destination.
        destination: Ipv6Addr,
        /// Message from its type on.
        message: Vec<u8>,
    },
}

/// Something the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Join a solicited-node group, so that solicitations arrive.
    JoinGroup {
        /// Interface to join it on.
        ifindex: u32,
        /// Group.
        group: Ipv6Addr,
    },
    /// Leave a solicited-node group. Not given for an interface that was removed.
    LeaveGroup {
        /// Interface to leave it on.
        ifindex: u32,
        /// Group.
        group: Ipv6Addr,
    },
}

/// What happened for one address since it is announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests and solicitations for it.
    pub requests: u64,
    /// Answers sent.
    pub responses: u64,
    /// Gratuitous frames sent.
    pub gratuitous: u64,
    /// Announcements of it by others.
    pub conflicts: u64,
}

/// What was received and not answered, since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Truncated, of other hardware or protocol, or against RFC 826 or RFC 4861 section 7.1.1.
    pub malformed: u64,
    /// Sound, but for an address that is not announced there.
    pub not_announced: u64,
    /// Sound, but not for us to answer: own frames, broadcast senders, unknown interfaces.
    pub ignored: u64,
}

/// Most announcements in one [`BURST_WINDOW`]: an interface that comes up with 10,000 addresses must not
/// overrun the queues of its own card or the switch's.
const BURST: u32 = 256;
const BURST_WINDOW: Duration = Duration::from_millis(10);

/// Least time between two defences of an address that another host announces (RFC 5227 section 1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Answers for addresses on the local link.
#[derive(Debug, Default)]
pub struct Responder {
    links: BTreeMap<u32, Link>,
    announced: BTreeMap<IpAddr, Announcement>,
    schedule: Schedule,
    handovers: Handovers,
    burst: Option<Burst>,
    counters: Counters,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

#[derive(Debug)]
struct Link {
    interface: Interface,
    /// Joined solicited-node groups, with how many addresses share each.
    groups: BTreeMap<Ipv6Addr, u32>,
}

#[derive(Debug)]
struct Announcement {
    interfaces: InterfaceSet,
    counts: Counts,
    /// When it was last defended.
    defended: Option<Instant>,
}

#[derive(Debug)]
struct Burst {
    begin: Instant,
    sent: u32,
}

impl InterfaceSet {
    /// Whether the interface of this name is in it.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }
}

impl Interface {
    /// Whether an address can be announced here at all.
    fn speaks(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.arp,
            IpAddr::V6(_) => self.link_local.is_some(),
        }
    }

    fn serves(&self, address: IpAddr, on: &InterfaceSet) -> bool {
        self.speaks(address) && on.contains(&self.name)
    }
}

impl Responder {
    /// A responder without interfaces and addresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells of an interface, or of what changed about it. Where it is new, or has another hardware address,
    /// every address announced there is announced to the neighbours again.
    pub fn set_interface(&mut self, now: Instant, interface: Interface) {
        let index = interface.index;
        let before = match self.links.get_mut(&index) {
            Some(link) if link.interface == interface => return,
            Some(link) => Some(std::mem::replace(&mut link.interface, interface.clone())),
            None => {
                self.links.insert(index, Link { interface: interface.clone(), groups: BTreeMap::new() });
                None
            }
        };
        let addresses: Vec<IpAddr> = self.announced.keys().copied().collect();
        for address in addresses {
            let Some(announcement) = self.announced.get(&address) else { continue };
            let serves = interface.serves(address, &announcement.interfaces);
            match before.as_ref().filter(|before| before.serves(address, &announcement.interfaces)) {
                Some(_) if !serves => self.stop(index, address),
                Some(before) if before.mac != interface.mac => self.schedule.start(now, (index, address)),
                None if serves => self.start(now, index, address),
                _ => {}
            }
        }
        self.handle_timeout(now);
    }

    /// Forgets an interface that is gone, down or enslaved.
    pub fn remove_interface(&mut self, index: u32) {
        self.links.remove(&index);
        self.schedule.cancel_interface(index);
        self.transmits.retain(|transmit| transmit.ifindex() != index);
        self.events.retain(|event| event.ifindex() != index);
    }

    /// Starts to answer for an address and announces it to the neighbours, at once and a few times more. If
    /// the address is already announced, only its interfaces change, and it is announced on the new ones
    /// only. If the address is being handed over, this cancels the handover and announces the address on
    /// every interface again.
    pub fn announce(&mut self, now: Instant, address: IpAddr, interfaces: InterfaceSet) {
        let fresh =
            Announcement { interfaces: interfaces.clone(), counts: Counts::default(), defended: None };
        let returned = self.handovers.cancel(address);
        let before = match self.announced.get_mut(&address) {
            Some(announcement) if announcement.interfaces == interfaces && !returned => return,
            Some(announcement) => Some(std::mem::replace(&mut announcement.interfaces, interfaces.clone())),
            None => {
                self.announced.insert(address, fresh);
                None
            }
        };
        for index in self.links.keys().copied().collect::<Vec<_>>() {
            let Some(Link { interface, .. }) = self.links.get(&index) else { continue };
            let served = before.as_ref().is_some_and(|before| interface.serves(address, before));
            match (served, interface.serves(address, &interfaces)) {
                (false, true) => self.start(now, index, address),
                (true, true) if returned => self.schedule.start(now, (index, address)),
                (true, false) => self.stop(index, address),
                _ => {}
            }
        }
        self.handle_timeout(now);
    }

    /// Announces every address to the neighbours again, as after a take-over, because another node may have
    /// claimed some of them meanwhile, for example during a partition. Skips the addresses that are being
    /// handed over.
    pub fn announce_all_again(&mut self, now: Instant) {
        for (address, announcement) in &self.announced {
            if self.handovers.contains(*address) {
                continue;
            }
            for (index, link) in &self.links {
                if link.interface.serves(*address, &announcement.interfaces) {
                    self.schedule.start(now, (*index, *address));
                }
            }
        }
        self.handle_timeout(now);
    }

    /// Hands an address over to another node: keeps answering for it for 300 ms, then withdraws it. Announces
    /// it no more from now on, because an announcement that followed the one of the new owner would undo the
    /// move.
    pub fn hand_over(&mut self, now: Instant, address: IpAddr) {
        if !self.announced.contains_key(&address) {
            return;
        }
        self.handovers.start(now, address);
        for index in self.links.keys() {
            self.schedule.cancel((*index, address));
        }
    }

    /// Stops answering for an address at once.
    pub fn withdraw(&mut self, address: IpAddr) {
        self.handovers.cancel(address);
        let Some(Announcement { interfaces, .. }) = self.announced.remove(&address) else { return };
        for index in self.links.keys().copied().collect::<Vec<_>>() {
            if self.links.get(&index).is_some_and(|link| link.interface.serves(address, &interfaces)) {
                self.stop(index, address);
            }
        }
    }

    /// Takes in a received Ethernet frame with an ARP packet.
    pub fn handle_arp(&mut self, now: Instant, ifindex: u32, frame: &[u8]) {
        let request = match arp::parse(frame) {
            arp::Frame::Request(request) => request,
            arp::Frame::Other => return self.counters.ignored += 1,
            arp::Frame::Malformed => return self.counters.malformed += 1,
        };
        let Some(Link { interface, .. }) = self.links.get(&ifindex) else {
            return self.counters.ignored += 1;
        };
        if !request.is_for(interface.mac) || request.sender_mac == interface.mac {
            return self.counters.ignored += 1;
        }
        let target = request.target.into();
        let Some(announcement) = announced_on(&mut self.announced, interface, target) else {
            return self.counters.not_announced += 1;
        };
        let counts = &mut announcement.counts;
        // Somebody announces our address: nothing that a reply could answer.
        if request.sender == request.target {
            counts.conflicts += 1;
            let rested = announcement.defended.is_none_or(|then| now >= then + DEFEND_INTERVAL);
            if rested && !self.handovers.contains(target) {
                announcement.defended = Some(now);
                self.schedule.start(now, (ifindex, target));
                self.handle_timeout(now);
            }
            return;
        }
        counts.requests += 1;
        counts.responses += 1;
        self.transmits.push_back(Transmit::Arp { ifindex, frame: request.reply(interface.mac) });
    }

    /// Takes in a received ICMPv6 message.
    pub fn handle_ndp(&mut self, _now: Instant, ifindex: u32, packet: NdpPacket<'_>) {
        let solicitation = match ndp::parse(&packet) {
            ndp::Message::Solicitation(solicitation) => solicitation,
            ndp::Message::Other => return self.counters.ignored += 1,
            ndp::Message::Malformed => return self.counters.malformed += 1,
        };
        let Some(Link { interface, .. }) = self.links.get(&ifindex) else {
            return self.counters.ignored += 1;
        };
        if solicitation.source_mac == Some(interface.mac) {
            return self.counters.ignored += 1;
        }
        let Some(announcement) = announced_on(&mut self.announced, interface, solicitation.target.into())
        else {
            return self.counters.not_announced += 1;
        };
        let counts = &mut announcement.counts;
        counts.requests += 1;
        counts.responses += 1;
        let (destination, message) = solicitation.reply(interface.mac);
        self.transmits.push_back(Transmit::Ndp { ifindex, destination, message });
    }

    /// Withdraws addresses whose handover has ended and sends the announcements that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(address) = self.handovers.pop(now) {
            self.withdraw(address);
        }
        if self.burst.as_ref().is_none_or(|burst| now >= burst.begin + BURST_WINDOW) {
            self.burst = None;
        }
        while self.burst.as_ref().is_none_or(|burst| burst.sent < BURST) {
            let Some((ifindex, address)) = self.schedule.pop(now) else { return };
            self.burst.get_or_insert(Burst { begin: now, sent: 0 }).sent += 1;
            self.tell_neighbours(ifindex, address);
        }
    }

    /// When [`Self::handle_timeout`] must be called next; `None` at rest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let announcement = self.schedule.next().map(|next| match &self.burst {
            Some(burst) if burst.sent >= BURST => next.max(burst.begin + BURST_WINDOW),
            _ => next,
        });
        [announcement, self.handovers.next()].into_iter().flatten().min()
    }

    /// The next thing to send; call until `None` after every other call.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing to do; call until `None` after every other call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The addresses announced, in order, with their counts.
    pub fn announced(&self) -> impl ExactSizeIterator<Item = (IpAddr, Counts)> + '_ {
        self.announced.iter().map(|(address, announcement)| (*address, announcement.counts))
    }

    /// Names of the interfaces on which an address is announced now; empty means nobody hears of it.
    pub fn interfaces_of(&self, address: IpAddr) -> Vec<&str> {
        let Some(announcement) = self.announced.get(&address) else { return Vec::new() };
        let interfaces = self.links.values().map(|link| &link.interface);
        let serving = interfaces.filter(|interface| interface.serves(address, &announcement.interfaces));
        serving.map(|interface| interface.name.as_str()).collect()
    }

    /// What was received and not answered.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Begins to serve an address on an interface.
    fn start(&mut self, now: Instant, ifindex: u32, address: IpAddr) {
        if let (IpAddr::V6(v6), Some(link)) = (address, self.links.get_mut(&ifindex)) {
            let group = ndp::solicited_node(v6);
            let sharers = link.groups.entry(group).or_default();
            *sharers += 1;
            if *sharers == 1 {
                self.events.push_back(Event::JoinGroup { ifindex, group });
            }
        }
        self.schedule.start(now, (ifindex, address));
    }

    /// Ends to serve an address on an interface.
    fn stop(&mut self, ifindex: u32, address: IpAddr) {
        if let (IpAddr::V6(v6), Some(link)) = (address, self.links.get_mut(&ifindex)) {
            let group = ndp::solicited_node(v6);
            let sharers = link.groups.entry(group).or_default();
            *sharers = sharers.saturating_sub(1);
            if *sharers == 0 {
                link.groups.remove(&group);
                self.events.push_back(Event::LeaveGroup { ifindex, group });
            }
        }
        self.schedule.cancel((ifindex, address));
    }

    fn tell_neighbours(&mut self, ifindex: u32, address: IpAddr) {
        let (Some(link), Some(announcement)) = (self.links.get(&ifindex), self.announced.get_mut(&address))
        else {
            return;
        };
        let mac = link.interface.mac;
        match address {
            IpAddr::V4(v4) => {
                let frames = arp::gratuitous(mac, v4);
                announcement.counts.gratuitous += frames.len() as u64;
                self.transmits.extend(frames.map(|frame| Transmit::Arp { ifindex, frame }));
            }
            IpAddr::V6(v6) => {
                announcement.counts.gratuitous += 1;
                let message = ndp::unsolicited(v6, mac);
                self.transmits.push_back(Transmit::Ndp { ifindex, destination: ndp::ALL_NODES, message });
            }
        }
    }
}

/// The address, if it is announced on this interface.
fn announced_on<'a>(
    announced: &'a mut BTreeMap<IpAddr, Announcement>,
    interface: &Interface,
    address: IpAddr,
) -> Option<&'a mut Announcement> {
    announced.get_mut(&address).filter(|announcement| interface.serves(address, &announcement.interfaces))
}

impl Transmit {
    /// Interface to send it on.
    pub fn ifindex(&self) -> u32 {
        match self {
            Self::Arp { ifindex, .. } | Self::Ndp { ifindex, .. } => *ifindex,
        }
    }
}

impl Event {
    /// Interface it is about.
    pub fn ifindex(&self) -> u32 {
        match self {
            Self::JoinGroup { ifindex, .. } | Self::LeaveGroup { ifindex, .. } => *ifindex,
        }
    }
}
