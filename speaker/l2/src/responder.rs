//! [`Responder`]: the addresses that this node announces, and the answers and announcements it sends for
//! them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::groups::Groups;
use crate::handover::Handovers;
use crate::ndp::NdpPacket;
use crate::probing::{Probing, ProbingStep};
use crate::schedule::{ArpKind, Schedule, SeriesKind};
use crate::{
    Claim, Conflict, GroupEvent, Interface, InterfaceSet, Mac, OnConflict, Transmit, Yielded, arp, ndp,
};

/// Minimum time between two defenses of an address that another host announces (RFC 5227 section 1.1).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// Time after which an owner announces its address once more when another speaker has announced it. That
/// speaker took this node for dead although it was back, learns of its mistake within half a second, and
/// answers for 300 ms more: the last announcement must be that of the owner.
const RETURN_TIME: Duration = Duration::from_secs(1);

/// Answers ARP and Neighbor Discovery requests for the announced addresses.
///
/// Each address is in one of five states:
///
/// ```text
///                claim with probe            another host has it
///  not announced ────────────────▶ probing ◀─────────────────────▶ in use by another host
///                                     │          30 s later                 ▲
///                                     │ 600 ms without a conflict           │ another host announces it,
///                                     ▼                                     │ and the claim yields
///                                 announced ────────────────────────────────┘
///
///                  announce                   hand_over
///  not announced ────────────▶ announced ────────────────▶ handing over
///        ▲                      │     ▲                      │     │
///        │       withdraw       │     │       announce       │     │
///        ├──────────────────────┘     └──────────────────────┘     │
///        │               withdraw, or 300 ms have passed           │
///        └─────────────────────────────────────────────────────────┘
/// ```
///
/// | state | answers requests | sends unsolicited announcements | defends the address |
/// |---|---|---|---|
/// | not announced | no | no | no |
/// | probing | no | no: three probes, 200 ms apart | no |
/// | in use by another host | no | no: it is probed every 30 s | no |
/// | announced | yes | on entry and for 5 s after it | yes |
/// | announced, while this node is quiet | yes | no | no: it withdraws the address |
/// | handing over | yes | no | no |
#[derive(Debug, Default)]
pub struct Responder {
    links: BTreeMap<u32, Link>,
    announced: BTreeMap<IpAddr, Announcement>,
    schedule: Schedule,
    handovers: Handovers,
    probing: Probing,
    /// See [`Responder::set_speaker_macs`].
    speaker_macs: BTreeSet<Mac>,
    /// See [`Responder::set_nonce`].
    nonce: u64,
    confirmed: VecDeque<IpAddr>,
    /// See [`Responder::set_quiet`].
    quiet: bool,
    /// See [`Responder::set_own_macs`].
    own_macs: BTreeSet<Mac>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<GroupEvent>,
    yielded: VecDeque<Yielded>,
    conflicts: VecDeque<Conflict>,
}

/// What a message of another host says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statement {
    /// The host announces the address, or answers for it.
    Possession,
    /// The host uses the address as a source.
    Use,
    /// The host probes the address, because it is about to use it.
    Probe,
}

#[derive(Debug)]
struct Link {
    interface: Interface,
    groups: Groups,
}

#[derive(Debug)]
struct Announcement {
    interfaces: InterfaceSet,
    on_conflict: OnConflict,
    counters: AddressCounters,
    last_defense: Option<Instant>,
}

/// Packets received and sent for one address since it was announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressCounters {
    /// ARP requests and neighbor solicitations received for the address.
    pub requests: u64,
    /// ARP replies and solicited neighbor advertisements sent.
    pub responses: u64,
    /// Gratuitous ARP frames and unsolicited neighbor advertisements sent.
    pub gratuitous: u64,
    /// Messages of other hosts that have the address.
    pub conflicts: u64,
}

impl Responder {
    #[allow(missing_docs)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an interface, or updates it. If it is new or its link-layer address changed, every address that
    /// it serves is announced on it again, except those that are being handed over.
    pub fn set_interface(&mut self, now: Instant, interface: Interface) {
        let index = interface.index;
        let before = match self.links.get_mut(&index) {
            Some(link) if link.interface == interface => return,
            Some(link) => Some(std::mem::replace(&mut link.interface, interface.clone())),
            None => {
                self.links.insert(index, Link { interface: interface.clone(), groups: Groups::default() });
                None
            }
        };
        let addresses: Vec<IpAddr> = self.announced.keys().copied().collect();
        for address in addresses {
            let Some(announcement) = self.announced.get(&address) else { continue };
            let serves = interface.serves(address, &announcement.interfaces);
            match before.as_ref().filter(|before| before.serves(address, &announcement.interfaces)) {
                Some(_) if !serves => self.stop_serving(index, address),
                Some(before) if before.mac != interface.mac => {
                    self.start_announcing(now, index, address, SeriesKind::Full);
                }
                None if serves => self.start_serving(now, index, address, SeriesKind::Full),
                _ => {}
            }
        }
        self.handle_timeout(now);
    }

    /// Removes an interface that no longer exists or can no longer carry announcements.
    pub fn remove_interface(&mut self, index: u32) {
        self.links.remove(&index);
        self.schedule.cancel_interface(index);
        self.transmits.retain(|transmit| transmit.ifindex() != index);
        self.events.retain(|event| event.ifindex() != index);
    }

    /// Starts to answer for an address and announces it to the neighbors, at once and for the next 5 s. If
    /// the address is already announced, only its interfaces change, and it is announced on the new ones
    /// only. If the address is being handed over, this cancels the handover and announces the address on
    /// every interface again.
    pub fn announce(&mut self, now: Instant, address: IpAddr, interfaces: InterfaceSet) {
        self.claim(now, address, interfaces, Claim::default());
    }

    /// Announces an address as [`Self::announce`] does, but probes a new one first if the claim says so: the
    /// address is announced when no other host is found to have it ([`Self::poll_confirmed`]).
    pub fn claim(&mut self, now: Instant, address: IpAddr, interfaces: InterfaceSet, claim: Claim) {
        if let Some(announcement) = self.announced.get_mut(&address) {
            announcement.on_conflict = claim.on_conflict;
        }
        let handover_canceled = self.handovers.cancel(address);
        let before = match self.announced.get_mut(&address) {
            Some(announcement) if announcement.interfaces == interfaces && !handover_canceled => return,
            Some(announcement) => Some(std::mem::replace(&mut announcement.interfaces, interfaces.clone())),
            None => {
                let announcement = Announcement {
                    interfaces: interfaces.clone(),
                    on_conflict: claim.on_conflict,
                    counters: AddressCounters::default(),
                    last_defense: None,
                };
                self.announced.insert(address, announcement);
                if claim.probe {
                    self.probing.start(now, address);
                }
                None
            }
        };
        let is_move = claim.is_planned && before.is_none();
        let series = if is_move { SeriesKind::Planned } else { SeriesKind::Full };
        for index in self.links.keys().copied().collect::<Vec<_>>() {
            let Some(Link { interface, .. }) = self.links.get(&index) else { continue };
            let served = before.as_ref().is_some_and(|before| interface.serves(address, before));
            match (served, interface.serves(address, &interfaces)) {
                (false, true) => self.start_serving(now, index, address, series),
                (true, true) if handover_canceled => {
                    self.schedule.start(now, (index, address), SeriesKind::Full);
                }
                (true, false) => self.stop_serving(index, address),
                _ => {}
            }
        }
        self.handle_timeout(now);
    }

    /// Announces every address to the neighbors once more, because another node may have claimed some of them
    /// meanwhile, for example during a partition. Skips the addresses that are being handed over, and those
    /// whose announcements continue.
    pub fn announce_all_again(&mut self, now: Instant) {
        for (address, announcement) in &self.announced {
            if self.handovers.contains(*address) || self.probing.contains(*address) {
                continue;
            }
            for (index, link) in &self.links {
                if link.interface.serves(*address, &announcement.interfaces) {
                    self.schedule.once(now, (*index, *address), ArpKind::Request);
                }
            }
        }
        self.handle_timeout(now);
    }

    /// Hands an address over to another node: keeps answering for it for 300 ms, then withdraws it. Sends no
    /// more announcements of it, because one that followed the announcement of the new owner would undo the
    /// move.
    pub fn hand_over(&mut self, now: Instant, address: IpAddr) {
        if !self.announced.contains_key(&address) {
            return;
        }
        if self.probing.contains(address) {
            return self.withdraw(address);
        }
        self.handovers.start(now, address);
        for index in self.links.keys() {
            self.schedule.cancel((*index, address));
        }
    }

    /// Sets whether this node only answers: it announces and defends nothing, and withdraws an address that
    /// another host announces ([`Self::poll_yielded`]). A node that may be cut off does not know whether
    /// others have taken its addresses over.
    ///
    /// What others announced before does not count: of two owners that become quiet one after the other, both
    /// would withdraw the address.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Replaces the link-layer addresses of this node, also those of interfaces on which it announces
    /// nothing: a frame of its own that arrives on another interface is no claim of another host.
    pub fn set_own_macs(&mut self, own_macs: BTreeSet<Mac>) {
        self.own_macs = own_macs;
    }

    /// Replaces the link-layer addresses of the other speakers: what they say about an address is no
    /// conflict. An address that was left to one of them is probed again at once.
    pub fn set_speaker_macs(&mut self, now: Instant, speaker_macs: BTreeSet<Mac>) {
        for address in self.probing.blocked_by(&speaker_macs) {
            self.probing.start(now, address);
        }
        self.speaker_macs = speaker_macs;
        self.handle_timeout(now);
    }

    /// Sets a random number that the nonces of this speaker's probes begin with.
    pub fn set_nonce(&mut self, nonce: u64) {
        self.nonce = nonce;
    }

    /// Hands every address over, because this node stops: see [`Self::hand_over`]. A handover that has begun
    /// continues unchanged.
    pub fn hand_over_all(&mut self, now: Instant) {
        let addresses: Vec<IpAddr> =
            self.announced.keys().filter(|address| !self.handovers.contains(**address)).copied().collect();
        for address in addresses {
            self.hand_over(now, address);
        }
    }

    /// Stops answering for an address at once.
    pub fn withdraw(&mut self, address: IpAddr) {
        self.handovers.cancel(address);
        self.probing.cancel(address);
        let Some(Announcement { interfaces, .. }) = self.announced.remove(&address) else { return };
        for index in self.links.keys().copied().collect::<Vec<_>>() {
            if self.links.get(&index).is_some_and(|link| link.interface.serves(address, &interfaces)) {
                self.stop_serving(index, address);
            }
        }
    }

    /// Handles a received Ethernet frame that contains an ARP packet.
    pub fn handle_arp(&mut self, now: Instant, ifindex: u32, frame: &[u8]) {
        let Some(message) = arp::parse(frame) else { return };
        let Some(Link { interface, .. }) = self.links.get(&ifindex) else { return };
        let mac = interface.mac;
        if !message.is_for(mac) || message.sender_mac == mac {
            return;
        }
        // RFC 5227 section 2.4: any message with the address as its sender is a conflict. In some clusters
        // the kernel of another node uses the address as a source, so an ordinary request yields nothing.
        let is_request = message.operation == arp::Operation::Request;
        let claim =
            if is_request && !message.is_gratuitous() { Statement::Use } else { Statement::Possession };
        self.handle_claim(now, ifindex, message.sender.into(), Some(message.sender_mac), claim);
        if claim == Statement::Possession {
            return;
        }
        if message.is_probe() {
            let target = message.target.into();
            self.handle_claim(now, ifindex, target, Some(message.sender_mac), Statement::Probe);
        }
        let Some(Link { interface, .. }) = self.links.get(&ifindex) else { return };
        let target = message.target.into();
        if self.probing.contains(target) {
            return;
        }
        let Some(announcement) = announced_on(&mut self.announced, interface, target) else { return };
        announcement.counters.requests += 1;
        announcement.counters.responses += 1;
        self.transmits.push_back(Transmit::Arp { ifindex, frame: message.reply(mac) });
    }

    /// Handles a received ICMPv6 message.
    pub fn handle_ndp(&mut self, now: Instant, ifindex: u32, packet: NdpPacket<'_>) {
        if let Some((target, mac)) = ndp::parse_advertisement(&packet) {
            self.handle_claim(now, ifindex, target.into(), Some(mac), Statement::Possession);
            return;
        }
        let Some(solicitation) = ndp::parse(&packet) else { return };
        if solicitation.source.is_none() {
            self.handle_claim(
                now,
                ifindex,
                solicitation.target.into(),
                solicitation.prober,
                Statement::Probe,
            );
        }
        if let (Some(source), Some(mac)) = (solicitation.source, solicitation.source_mac) {
            self.handle_claim(now, ifindex, source.into(), Some(mac), Statement::Use);
        }
        let Some(Link { interface, .. }) = self.links.get(&ifindex) else { return };
        if solicitation.source_mac == Some(interface.mac) {
            return;
        }
        let target = solicitation.target.into();
        if self.probing.contains(target) {
            return;
        }
        let Some(announcement) = announced_on(&mut self.announced, interface, target) else { return };
        announcement.counters.requests += 1;
        announcement.counters.responses += 1;
        let (destination, message) = solicitation.reply(interface.mac);
        self.transmits.push_back(Transmit::Ndp { ifindex, destination, message });
    }

    /// Withdraws addresses whose handover has ended and sends the announcements that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(address) = self.handovers.pop(now) {
            self.withdraw(address);
        }
        while let Some(step) = self.probing.pop(now) {
            match step {
                ProbingStep::Send(address) => self.send_probes(address),
                ProbingStep::Free(address) => self.confirm(now, address),
            }
        }
        while let Some(((ifindex, address), kind)) = self.schedule.pop(now) {
            self.send_gratuitous(ifindex, address, kind);
        }
    }

    /// Returns when to call [`Self::handle_timeout`] next; `None` at rest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.schedule.next(), self.handovers.next(), self.probing.next()].into_iter().flatten().min()
    }

    /// Returns the next frame or packet to send. Call until `None` after every other call.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next change of multicast groups. Call until `None` after every other call.
    pub fn poll_event(&mut self) -> Option<GroupEvent> {
        self.events.pop_front()
    }

    /// Returns the next address that was withdrawn because another host announces it while this node is
    /// quiet. Call until `None` after every other call.
    pub fn poll_yielded(&mut self) -> Option<Yielded> {
        self.yielded.pop_front()
    }

    /// Returns the next address that was probed, and is announced now because no other host has it. Call
    /// until
    /// `None` after every other call.
    pub fn poll_confirmed(&mut self) -> Option<IpAddr> {
        self.confirmed.pop_front()
    }

    /// Returns the next conflict about an address, at most one for each address in ten seconds. Call until
    /// `None` after every other call.
    pub fn poll_conflict(&mut self) -> Option<Conflict> {
        self.conflicts.pop_front()
    }

    /// Returns true if this node answers for the address.
    pub fn answers_for(&self, address: IpAddr) -> bool {
        self.announced.contains_key(&address) && !self.probing.contains(address)
    }

    /// Returns the addresses that this node answers for or is to answer for, in order, with their counters.
    pub fn announced(&self) -> impl ExactSizeIterator<Item = (IpAddr, AddressCounters)> + '_ {
        self.announced.iter().map(|(address, announcement)| (*address, announcement.counters))
    }

    /// Handles a message in which the host with this link-layer address has the address, or is about to use
    /// it. The link-layer address is `None` in a probe for an IPv6 address.
    fn handle_claim(
        &mut self,
        now: Instant,
        ifindex: u32,
        address: IpAddr,
        mac: Option<Mac>,
        claim: Statement,
    ) {
        let is_own = |mac: &Mac| {
            self.own_macs.contains(mac) || self.links.values().any(|link| link.interface.mac == *mac)
        };
        if mac.as_ref().is_some_and(is_own) {
            return;
        }
        let is_speaker = mac.is_some_and(|mac| self.speaker_macs.contains(&mac));
        let Some(Link { interface, .. }) = self.links.get(&ifindex) else { return };
        let Some(announcement) = announced_on(&mut self.announced, interface, address) else { return };
        // The new owner announces an address that this node hands over.
        if self.handovers.contains(address) {
            return;
        }
        let conflict =
            |is_left| Conflict { address, claimant: mac, interface: interface.name.clone(), is_left };
        if self.probing.contains(address) {
            // RFC 5227 section 2.1.1.
            if self.probing.listens_for(address) && !is_speaker {
                announcement.counters.conflicts += 1;
                self.conflicts.push_back(conflict(true));
                self.probing.block(now, address, mac);
            }
            return;
        }
        // Who probes an address that is announced is answered.
        let Some(claimant) = mac.filter(|_| claim != Statement::Probe) else { return };
        announcement.counters.conflicts += 1;
        if self.quiet {
            if claim == Statement::Possession {
                self.withdraw(address);
                self.yielded.push_back(Yielded { address, claimant });
            }
            return;
        }
        // In some clusters the kernel of another node uses the address as a source: this alone is no reason
        // to yield.
        if announcement.on_conflict == OnConflict::Yield && claim == Statement::Possession && !is_speaker {
            self.conflicts.push_back(conflict(true));
            self.probing.block(now, address, mac);
            for index in self.links.keys() {
                self.schedule.cancel((*index, address));
            }
            return;
        }
        if announcement.last_defense.is_some_and(|then| now < then + DEFEND_INTERVAL) {
            return;
        }
        announcement.last_defense = Some(now);
        if is_speaker {
            self.schedule.once(now + RETURN_TIME, (ifindex, address), ArpKind::Both);
        } else {
            self.conflicts.push_back(conflict(false));
        }
        // RFC 5227 section 2.4 (b): one announcement. The Override flag of an advertisement cannot settle
        // who has an IPv6 address, and the announcement of a new owner may come before the command to
        // hand the address over.
        if address.is_ipv4() {
            self.send_gratuitous(ifindex, address, ArpKind::Both);
        }
    }

    /// Announces an address that no other host has.
    fn confirm(&mut self, now: Instant, address: IpAddr) {
        let Some(announcement) = self.announced.get(&address) else { return };
        for (index, link) in &self.links {
            if link.interface.serves(address, &announcement.interfaces) {
                self.schedule.start(now, (*index, address), SeriesKind::Full);
            }
        }
        self.confirmed.push_back(address);
    }

    /// Sends one probe for an address on each interface that serves it. An interface without ARP has no
    /// duplicates to detect.
    fn send_probes(&mut self, address: IpAddr) {
        let Some(announcement) = self.announced.get(&address) else { return };
        for (ifindex, Link { interface, .. }) in &self.links {
            if !interface.arp || !interface.serves(address, &announcement.interfaces) {
                continue;
            }
            let frame = match address {
                IpAddr::V4(address) => arp::probe(interface.mac, address),
                IpAddr::V6(address) => {
                    self.nonce = self.nonce.wrapping_add(1);
                    ndp::probe(interface.mac, address, self.nonce)
                }
            };
            self.transmits.push_back(Transmit::Arp { ifindex: *ifindex, frame });
        }
    }

    fn start_serving(&mut self, now: Instant, ifindex: u32, address: IpAddr, series: SeriesKind) {
        let group = self.links.get_mut(&ifindex).and_then(|link| link.groups.add(address));
        self.events.extend(group.map(|group| GroupEvent::Join { ifindex, group }));
        self.start_announcing(now, ifindex, address, series);
    }

    /// Starts the announcements of an address on an interface, unless the address is being handed over: an
    /// announcement that followed that of the new owner would undo the move. An address that is being probed
    /// is probed on the interface too.
    fn start_announcing(&mut self, now: Instant, ifindex: u32, address: IpAddr, series: SeriesKind) {
        if self.probing.contains(address) {
            self.probing.restart(now, address);
        } else if !self.handovers.contains(address) {
            self.schedule.start(now, (ifindex, address), series);
        }
    }

    fn stop_serving(&mut self, ifindex: u32, address: IpAddr) {
        let group = self.links.get_mut(&ifindex).and_then(|link| link.groups.remove(address));
        self.events.extend(group.map(|group| GroupEvent::Leave { ifindex, group }));
        self.schedule.cancel((ifindex, address));
    }

    fn send_gratuitous(&mut self, ifindex: u32, address: IpAddr, kind: ArpKind) {
        if self.quiet {
            return;
        }
        let (Some(link), Some(announcement)) = (self.links.get(&ifindex), self.announced.get_mut(&address))
        else {
            return;
        };
        let mac = link.interface.mac;
        match address {
            IpAddr::V4(v4) => {
                let [request, reply] = arp::gratuitous(mac, v4);
                let frames = match kind {
                    ArpKind::Request => vec![request],
                    ArpKind::Reply => vec![reply],
                    ArpKind::Both => vec![request, reply],
                };
                announcement.counters.gratuitous += frames.len() as u64;
                self.transmits.extend(frames.into_iter().map(|frame| Transmit::Arp { ifindex, frame }));
            }
            IpAddr::V6(v6) => {
                announcement.counters.gratuitous += 1;
                let message = ndp::unsolicited(v6, mac);
                self.transmits.push_back(Transmit::Ndp { ifindex, destination: ndp::ALL_NODES, message });
            }
        }
    }
}

/// Returns the announcement of the address if the interface serves it.
fn announced_on<'a>(
    announced: &'a mut BTreeMap<IpAddr, Announcement>,
    interface: &Interface,
    address: IpAddr,
) -> Option<&'a mut Announcement> {
    announced.get_mut(&address).filter(|announcement| interface.serves(address, &announcement.interfaces))
}
