//! [`Mesh`]: which speakers are alive.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_l2::ServedInterfaces;
use fairlead_probe::{ALL_PAIRS, Silence};
use foca::{Codec, Foca, Header, Member, Message, NoCustomBroadcast, OwnedNotification, PostcardCodec};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::authentication::Key;
use crate::foca_runtime::FocaRuntime;
use crate::isolation::{Evidence, Isolation, IsolationCause};
use crate::reports::Reports;
use crate::suspects::{Decision, Suspects};
use crate::{Config, Identity};

/// A timer that is handled this much too late shows that the process was stalled.
const STALL: Duration = Duration::from_millis(100);
/// Time by which timers are delayed after a stall, for the datagrams that are queued in the socket.
const GRACE: Duration = Duration::from_millis(50);

/// Delay before a death that another node reports is confirmed. A node that was cut off considers all others
/// dead and reports so when it returns; those that are alive refute the report within milliseconds.
const REFUTE_TIME: Duration = Duration::from_millis(50);

/// Number of times that the leave message is sent, in case datagrams are lost.
const LEAVE_MESSAGES: u8 = 3;
const LEAVE_PERIOD: Duration = Duration::from_millis(30);

/// The members of the mesh as one speaker sees them.
///
/// Each other speaker is in one of these states:
///
/// ```text
///            it answers                another node reports its death
///  missing ─────────────▶ alive ──────────────────────────────────────▶ reported down
///     ▲                    │  ▲                                           │   │
///     │  it leaves, or a   │  │                it refutes                 │   │
///     │  probe of ours     │  └───────────────────────────────────────────┘   │
///     │  fails             │                                                  │
///     ├────────────────────┘                 50 ms pass                       │
///     └───────────────────────────────────────────────────────────────────────┘
/// ```
///
/// A speaker is in [`Self::alive`] while it is alive or reported down. A missing speaker that is listed
/// receives an announcement every [`Config::announce_period`]. A speaker that is no longer listed remains a
/// member while it is alive.
///
/// If a probe of ours fails while this node may be cut off, the speaker is doubted, and remains in
/// [`Self::alive`]; see the module `isolation`.
///
/// A speaker whose node answers no echo request, or refuses datagrams, goes from alive to missing before
/// SWIM notices ([`Self::handle_silences`], [`Self::handle_refusal`]; see the module `suspects`). It is alive
/// again when it answers a datagram.
pub struct Mesh {
    config: Config,
    node: String,
    foca: Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>,
    runtime: FocaRuntime,
    key: Key,
    /// Difference between the clock and that of foca: the time for which the process was stalled.
    lag: Duration,
    /// The listed speakers without this one.
    peers: BTreeMap<String, SocketAddr>,
    nodes_by_address: BTreeMap<SocketAddr, String>,
    alive: BTreeSet<String>,
    isolation: Isolation,
    suspects: Suspects,
    reports: Reports,
    /// Nodes whose kernels answer no echo request.
    silent: BTreeSet<String>,
    /// Source of the datagram that is being handled.
    sender: Option<SocketAddr>,
    /// Nodes whose death another node reported, with the time at which it counts as confirmed.
    reported_down: BTreeMap<String, Instant>,
    /// Listed peers that are not alive.
    missing: BTreeSet<String>,
    /// Those of them that have announced that they leave.
    departed: BTreeSet<String>,
    /// See [`Mesh::arrivals`].
    arrivals: u64,
    next_announce: Instant,
    leaving: Option<Leaving>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<MeshEvent>,
    counters: Counters,
}

struct Leaving {
    messages_left: u8,
    next: Instant,
}

/// A change of membership of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// The speaker on this node is alive.
    Up(String),
    /// The speaker on this node left or is silent.
    Down(String),
    /// This node hears no other speaker: find out who answers on its link, and call
    /// [`Mesh::handle_evidence`]. Repeated while it is isolated.
    EvidenceNeeded,
    /// The speaker on this node answers, here or another member, although its kernel answers no echo request
    /// of this node: their absence means nothing.
    SilenceRefuted(String),
}

/// Numbers of datagrams since the start, or since the last [`Mesh::take_counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Authentic datagrams that foca accepted.
    pub received: u64,
    #[allow(missing_docs)]
    pub sent: u64,
    /// Datagrams that are too short or have a wrong HMAC: of another key, or not of a speaker.
    pub unauthentic: u64,
    /// Deaths that were found by echo requests or a closed port.
    pub fast_deaths: u64,
}

impl Mesh {
    /// Creates a mesh whose only member is this speaker. `key` authenticates datagrams and is the same on
    /// every speaker; `seed` determines the random choices.
    pub fn new(now: Instant, config: Config, identity: Identity, key: &[u8], seed: u64) -> Self {
        let node = identity.node.clone();
        let foca = Foca::new(identity, config.to_foca(), StdRng::seed_from_u64(seed), PostcardCodec);
        Self {
            config,
            foca,
            runtime: FocaRuntime::new(now),
            key: Key::new(key),
            lag: Duration::ZERO,
            peers: BTreeMap::new(),
            nodes_by_address: BTreeMap::new(),
            alive: BTreeSet::from([node.clone()]),
            isolation: Isolation::new(now),
            suspects: Suspects::default(),
            reports: Reports::default(),
            silent: BTreeSet::new(),
            sender: None,
            reported_down: BTreeMap::new(),
            missing: BTreeSet::new(),
            departed: BTreeSet::new(),
            arrivals: 0,
            next_announce: now,
            leaving: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            node,
        }
    }

    /// Sets the listed speakers: node names and addresses. An entry for this node is ignored.
    pub fn set_peers(&mut self, now: Instant, mut peers: BTreeMap<String, SocketAddr>) {
        peers.remove(&self.node);
        let answers = |node: &String| self.alive.contains(node) && !self.isolation.doubted().contains(node);
        self.missing = peers.keys().filter(|node| !answers(node)).cloned().collect();
        self.nodes_by_address = peers.iter().map(|(node, address)| (*address, node.clone())).collect();
        self.isolation.retain_listed(&peers);
        self.suspects.retain(|node| peers.contains_key(node) || self.alive.contains(node));
        self.reports.retain(|node| peers.contains_key(node) || self.alive.contains(node));
        self.departed.retain(|node| peers.contains_key(node));
        self.peers = peers;
        self.step(now, |mesh| mesh.announce_to_missing(now));
    }

    /// Replaces the interfaces on which this node can announce addresses. The others learn of a change at
    /// once. Of too many interfaces, the first by name count: [`fairlead_l2::MAX_SERVED_INTERFACES`].
    pub fn set_interfaces(&mut self, now: Instant, interfaces: ServedInterfaces) {
        let members = self.alive.iter().filter(|node| **node != self.node);
        self.reports.set_own(now, interfaces, members);
        self.step(now, |_| {});
    }

    /// Changes the address of this node. It remains a member of the mesh, and the others learn of the change.
    pub fn set_address(&mut self, now: Instant, address: SocketAddr) {
        let current = self.foca.identity();
        if current.address == address || self.leaving.is_some() {
            return;
        }
        // The higher generation replaces the previous identity at the others. A leave message would move the
        // addresses that this node announces to them, and back.
        let identity =
            Identity { address, generation: current.generation.saturating_add(1), ..current.clone() };
        self.step(now, |mesh| {
            // Fails only for an equal identity, or one that is too long for a datagram.
            let _ = mesh.foca.change_identity(identity, &mut mesh.runtime);
            mesh.announce_to(mesh.peers.keys().cloned().collect());
        });
    }

    /// Handles a received datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if let Some(node) = self.nodes_by_address.get(&from) {
            self.isolation.handle_sign(now, node);
        }
        let Some(payload) = self.key.verify(datagram) else { return self.counters.unauthentic += 1 };
        // Datagrams that others still send would make foca join again.
        if self.leaving.is_some() {
            return;
        }
        if Reports::owns(payload) {
            return self.handle_report(from, payload);
        }
        self.sender = Some(from);
        self.step(now, |mesh| {
            // Foca rejects datagrams that it cannot decode or that are addressed to another node.
            if mesh.foca.handle_data(payload, &mut mesh.runtime).is_ok() {
                mesh.counters.received += 1;
                mesh.note_sender(now, payload);
            }
        });
        self.sender = None;
    }

    /// Runs the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.compensate_stall(now);
        self.step(now, |mesh| {
            while let Some(timer) = mesh.runtime.pop_timer() {
                // Foca rejects timers of an identity that was renewed meanwhile; that is harmless.
                let _ = mesh.foca.handle_timer(timer, &mut mesh.runtime);
            }
            if now >= mesh.next_announce {
                mesh.announce_to_missing(now);
            }
            mesh.repeat_leave_message(now);
            mesh.confirm_reported_deaths(now);
            mesh.decide_on_suspects(now);
            let dead = mesh.isolation.handle_timeout(now, mesh.is_connected());
            dead.into_iter().for_each(|node| mesh.remove_member(node));
        });
    }

    /// Returns when to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some(leaving) = &self.leaving {
            return (leaving.messages_left > 0).then_some(leaving.next);
        }
        let timer = self.runtime.next_timer().map(|due| due + self.lag);
        let announce = (!self.missing.is_empty()).then_some(self.next_announce);
        let confirmation = self.reported_down.values().min().copied();
        let isolation = self.isolation.next_timeout(self.is_connected());
        let suspects = self.suspects.poll_timeout();
        let reports = self.reports.poll_timeout();
        [timer, announce, confirmation, isolation, suspects, reports].into_iter().flatten().min()
    }

    /// Returns the next datagram to send and its destination. Call until `None` after every other call.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// Returns the next change of membership. Call until `None` after every other call.
    pub fn poll_event(&mut self) -> Option<MeshEvent> {
        self.events.pop_front()
    }

    /// Leaves the mesh: sends the leave message to every member, several times. Continue to send datagrams
    /// and to call [`Self::handle_timeout`] until [`Self::poll_timeout`] returns `None`, after less than 100
    /// ms. Datagrams that are received meanwhile are ignored.
    pub fn leave(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        self.step(now, |mesh| {
            let members = mesh.foca.num_members();
            // Neither call can fail: foca lets these two values change, and this identity was encoded before.
            let _ = mesh.foca.set_config(mesh.config.to_foca_leaving(members));
            let _ = mesh.foca.leave_cluster(&mut mesh.runtime);
            mesh.runtime.clear_timers();
            mesh.leaving = Some(Leaving { messages_left: LEAVE_MESSAGES - 1, next: now + LEAVE_PERIOD });
        });
    }

    /// Notes that the host with this address refused a datagram, because no process listens on the port. The
    /// speaker is dead unless it proves otherwise within 100 ms.
    pub fn handle_refusal(&mut self, now: Instant, address: SocketAddr) {
        if self.leaving.is_some() {
            return;
        }
        let Some(node) = self.nodes_by_address.get(&address).cloned() else { return };
        self.isolation.handle_refusal(now, &node);
        if self.answers(&node) {
            self.step(now, |mesh| {
                mesh.suspects.handle_refusal(now, &node);
                mesh.decide_on_suspects(now);
            });
        }
    }

    /// Replaces the nodes whose kernels answer no echo request although they did before.
    pub fn handle_silences(&mut self, now: Instant, mut silences: BTreeMap<String, Silence>) {
        if self.leaving.is_some() {
            return;
        }
        // A node that is back: its speaker need not wait for the next announcement.
        let back =
            self.missing.iter().filter(|node| self.silent.contains(*node) && !silences.contains_key(*node));
        let back: Vec<String> = back.cloned().collect();
        self.silent = silences.keys().cloned().collect();
        silences.retain(|node, _| self.answers(node));
        self.step(now, |mesh| {
            mesh.announce_to(back);
            mesh.suspects.set_silences(silences);
            let others = mesh.answering().filter(|node| !mesh.suspects.is_silent(node)).count();
            if others == 0 && !mesh.suspects.is_empty() && mesh.isolation.inquires_early(now) {
                mesh.events.push_back(MeshEvent::EvidenceNeeded);
            }
            mesh.decide_on_suspects(now);
        });
    }

    /// Handles what an isolated node learned beside the mesh. If the others are dead, they are removed.
    pub fn handle_evidence(&mut self, now: Instant, evidence: &Evidence) {
        self.step(now, |mesh| match mesh.isolation() {
            Some(_) => mesh.judge(now, evidence),
            None => mesh.isolation.keep_evidence(now, evidence.clone()),
        });
    }

    /// Returns the nodes with a live speaker, including this one and those whose death is doubted.
    pub fn alive(&self) -> &BTreeSet<String> {
        &self.alive
    }

    /// Returns the nodes in [`Self::alive`] whose death is doubted, because this node may be cut off.
    pub fn doubted(&self) -> &BTreeSet<String> {
        self.isolation.doubted()
    }

    /// Returns the listed speakers that announced that they leave and have not joined again. A speaker whose
    /// leave message is lost is not among them.
    pub fn departed(&self) -> &BTreeSet<String> {
        &self.departed
    }

    /// Returns the number of times that a speaker joined that may have announced addresses of others
    /// meanwhile: it was cut off, or started without this node. One that left has announced nothing since.
    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Returns the interfaces of the other nodes that reported them. A speaker of an older version is not
    /// among them, nor one that has just joined.
    pub fn interfaces(&self) -> impl Iterator<Item = (&String, &Arc<ServedInterfaces>)> {
        self.reports.known()
    }

    /// Returns a number that grows with each change of [`Self::interfaces`].
    pub fn interfaces_version(&self) -> u64 {
        self.reports.known_version()
    }

    /// Returns why this node must not conclude anything from the silence of the others; `None` if it hears
    /// another speaker, if there is none, or if the others are dead.
    pub fn isolation(&self) -> Option<IsolationCause> {
        let others_known = !self.peers.is_empty() || !self.isolation.doubted().is_empty();
        self.isolation.cause(self.is_connected(), others_known)
    }

    /// Returns the listed speakers and their addresses, without this one.
    pub fn peers(&self) -> &BTreeMap<String, SocketAddr> {
        &self.peers
    }

    /// Decides on evidence. If the others are dead, they are removed.
    fn judge(&mut self, now: Instant, evidence: &Evidence) {
        let known: BTreeSet<&String> = self.peers.keys().chain(self.isolation.doubted()).collect();
        let known: Vec<String> = known.into_iter().cloned().collect();
        if self.isolation.handle_evidence(now, &known, evidence) {
            let dead = self.isolation.doubted().clone();
            dead.into_iter().for_each(|node| self.remove_member(node));
        }
    }

    /// Returns the other members that are not doubted.
    fn answering(&self) -> impl Iterator<Item = &String> {
        self.alive.iter().filter(|node| **node != self.node && !self.isolation.doubted().contains(*node))
    }

    fn is_known(&self, node: &str) -> bool {
        self.peers.contains_key(node) || self.alive.contains(node)
    }

    fn answers(&self, node: &str) -> bool {
        self.alive.contains(node) && !self.isolation.doubted().contains(node)
    }

    /// Returns true if another speaker is a member and answers.
    fn is_connected(&self) -> bool {
        self.alive.len() > 1 + self.isolation.doubted().len()
    }

    #[allow(missing_docs)]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Returns the counters, which start again at zero.
    pub fn take_counters(&mut self) -> Counters {
        std::mem::take(&mut self.counters)
    }

    /// Runs one call into foca and handles its side effects.
    fn step(&mut self, now: Instant, call: impl FnOnce(&mut Self)) {
        self.runtime.now = self.runtime.now.max(now.checked_sub(self.lag).unwrap_or(now));
        if self.missing.is_empty() {
            // A peer that this step finds missing is announced to one period from now.
            self.next_announce = now + self.config.announce_period;
        }
        call(self);
        while let Some(notification) = self.runtime.notifications.pop_front() {
            self.handle_notification(now, notification);
        }
        let mut isolated = self.leaving.is_none() && self.isolation().is_some();
        if isolated && let Some(evidence) = self.isolation.take_evidence(now) {
            self.judge(now, &evidence);
            isolated = self.isolation().is_some();
        }
        if self.isolation.inquires(now, isolated) {
            self.events.push_back(MeshEvent::EvidenceNeeded);
        }
        while let Some((to, payload)) = self.runtime.sends.pop_front() {
            self.transmit(to.address, &payload);
        }
        // After the messages of foca: a member that joins must know this node to accept its report.
        self.send_reports(now);
    }

    fn transmit(&mut self, to: SocketAddr, payload: &[u8]) {
        self.counters.sent += 1;
        self.transmits.push_back((to, self.key.sign(payload)));
    }

    fn handle_report(&mut self, from: SocketAddr, payload: &[u8]) {
        let (peers, alive) = (&self.peers, &self.alive);
        let is_known = |node: &str| peers.contains_key(node) || alive.contains(node);
        let Ok(acknowledgment) = self.reports.handle(payload, &self.node, is_known) else { return };
        self.counters.received += 1;
        if let Some(payload) = acknowledgment {
            self.transmit(from, &payload);
        }
    }

    /// Sends the report of this node to the members for which it is due.
    fn send_reports(&mut self, now: Instant) {
        if self.leaving.is_some() || self.reports.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        let generation = self.foca.identity().generation;
        let Some((payload, mut due)) = self.reports.take_due(now, &self.node, generation) else { return };
        let members = self.foca.iter_members().map(foca::Member::id);
        let mut addresses: Vec<SocketAddr> =
            members.filter(|id| due.remove(&id.node)).map(|id| id.address).collect();
        // Those that are doubted are no members for foca.
        addresses.extend(due.iter().filter_map(|node| self.peers.get(node)));
        addresses.into_iter().for_each(|address| self.transmit(address, &payload));
    }

    fn handle_notification(&mut self, now: Instant, notification: OwnedNotification<Identity>) {
        match notification {
            OwnedNotification::MemberUp(Identity { node, .. }) => self.add_member(now, node),
            // Another run of the speaker, which SWIM has not missed.
            OwnedNotification::Rename(_, Identity { node, .. }) => {
                if self.is_lost(&node) {
                    self.revive(now, node);
                } else if self.alive.contains(&node) {
                    self.reports.send_to(now, &node);
                }
            }
            OwnedNotification::MemberDown(Identity { node, .. }) if node != self.node => {
                let reporter = self.sender.map(|from| self.nodes_by_address.get(&from) == Some(&node));
                match reporter {
                    Some(true) => {
                        if self.peers.contains_key(&node) {
                            self.departed.insert(node.clone());
                        }
                        self.remove_member(node);
                        if !self.is_connected() {
                            self.isolation.handle_last_leave();
                        }
                    }
                    Some(false) => drop(self.reported_down.entry(node).or_insert(now + REFUTE_TIME)),
                    // The death of the last member is always doubted: no other member was asked to probe it.
                    None if self.alive.contains(&node)
                        && (self.isolation.is_quiet(now)
                            || !self.answering().any(|other| *other != node)) =>
                    {
                        self.isolation.doubt(now, &node);
                        // It receives announcements, because it answers no probe.
                        if self.peers.contains_key(&node) {
                            self.missing.insert(node);
                        }
                    }
                    // Already doubted, because its kernel is silent.
                    None if self.isolation.doubted().contains(&node) => {}
                    None => self.remove_member(node),
                }
            }
            // The other members considered this speaker dead: announce at once that it is alive.
            OwnedNotification::Rejoin(_) => {
                self.announce_to(self.peers.keys().cloned().collect());
                let members = self.alive.iter().filter(|node| **node != self.node);
                members.for_each(|node| self.reports.send_to(now, node));
            }
            _ => {}
        }
    }

    fn add_member(&mut self, now: Instant, node: String) {
        self.reported_down.remove(&node);
        self.missing.remove(&node);
        let has_left = self.departed.remove(&node);
        // A member that was doubted may have acted without this node: it counts as joined again.
        let doubted = self.isolation.handle_up(now, &node);
        if self.alive.insert(node.clone()) || doubted {
            self.reports.send_to(now, &node);
            self.arrivals += u64::from(!has_left);
            self.events.push_back(MeshEvent::Up(node));
            self.gossip();
        }
    }

    /// Notes who sent an authentic datagram.
    fn note_sender(&mut self, now: Instant, mut payload: &[u8]) {
        let header: Result<Header<Identity>, _> = PostcardCodec.decode_header(&mut payload);
        let Ok(Header { src: Identity { node, .. }, message, .. }) = header else { return };
        // The message shows that a datagram of this node has arrived.
        let is_answer = matches!(message, Message::Ack(_) | Message::ForwardedAck { .. } | Message::Feed);
        if self.is_known(&node) {
            self.suspects.handle_datagram(now, &node, is_answer);
        }
        // The node answered another member: only the path between it and this node is broken, and both would
        // announce its addresses.
        if let Message::ForwardedAck { origin: Identity { node: origin, .. }, .. } = message {
            if self.is_known(&origin) {
                self.suspects.handle_datagram(now, &origin, true);
            }
            if self.is_lost(&origin) {
                self.events.push_back(MeshEvent::SilenceRefuted(origin.clone()));
                self.revive(now, origin);
            }
        }
        if is_answer {
            self.isolation.handle_answer(now);
            self.revive(now, node);
        }
    }

    /// Adds a node that answers although this node took it for dead, or doubted it, before SWIM did.
    fn revive(&mut self, now: Instant, node: String) {
        if self.is_lost(&node) || self.isolation.doubted().contains(&node) && self.is_member(&node) {
            self.add_member(now, node);
        }
    }

    /// Returns true if a node is dead although SWIM has not noticed yet. SWIM does not tell when it is back.
    fn is_lost(&self, node: &str) -> bool {
        !self.alive.contains(node) && self.is_member(node)
    }

    /// Returns true if SWIM takes the node for a member.
    fn is_member(&self, node: &str) -> bool {
        self.foca.iter_members().any(|member| member.id().node == node)
    }

    fn decide_on_suspects(&mut self, now: Instant) {
        for decision in self.suspects.decide(now) {
            match decision {
                Decision::Ask(node) => self.announce_to(vec![node]),
                Decision::Refuted(node) => self.events.push_back(MeshEvent::SilenceRefuted(node)),
                Decision::Dead { node, witnessed } => self.lose(now, node, witnessed),
            }
        }
    }

    /// Handles the death of a member that was found before SWIM found it. The last member that answers is
    /// doubted instead: this node may be cut off.
    fn lose(&mut self, now: Instant, node: String, witnessed: bool) {
        let others = self.answering().any(|other| *other != node && !self.suspects.is_silent(other));
        if !self.answers(&node) {
            return;
        }
        if !witnessed || !others {
            self.isolation.doubt(now, &node);
            if self.peers.contains_key(&node) {
                self.missing.insert(node);
            }
            return;
        }
        self.counters.fast_deaths += 1;
        // Not every node probes every other: tell the rest. The node refutes a mistake.
        if self.peers.len() >= ALL_PAIRS {
            let member = self.foca.iter_members().find(|member| member.id().node == node);
            let down = member.map(|member| Member::down(member.id().clone()));
            let _ = self.foca.apply_many(down.into_iter(), true, &mut self.runtime);
        }
        self.remove_member(node);
    }

    fn remove_member(&mut self, node: String) {
        self.reported_down.remove(&node);
        self.suspects.remove(&node);
        self.isolation.handle_down(&node);
        self.reports.stop_sending_to(&node);
        if self.peers.contains_key(&node) {
            self.missing.insert(node.clone());
        } else {
            self.reports.retain(|known| *known != *node);
        }
        if self.alive.remove(&node) {
            self.events.push_back(MeshEvent::Down(node));
            self.gossip();
        }
    }

    fn confirm_reported_deaths(&mut self, now: Instant) {
        let due = self.reported_down.iter().filter(|(_, confirmed)| **confirmed <= now);
        let dead: Vec<String> = due.map(|(node, _)| node.clone()).collect();
        dead.into_iter().for_each(|node| self.remove_member(node));
    }

    /// Sends updates at once instead of with the next periodic gossip.
    fn gossip(&mut self) {
        if self.leaving.is_none() {
            let _ = self.foca.gossip(&mut self.runtime);
        }
    }

    fn announce_to_missing(&mut self, now: Instant) {
        self.next_announce = now + self.config.announce_period;
        if self.leaving.is_none() {
            self.announce_to(self.missing.iter().cloned().collect());
        }
    }

    fn announce_to(&mut self, nodes: Vec<String>) {
        for node in nodes {
            if let Some(address) = self.peers.get(&node) {
                // Foca accepts announcements addressed to any generation of a node.
                let peer = Identity { node, address: *address, generation: 0 };
                let _ = self.foca.announce(peer, &mut self.runtime);
            }
        }
    }

    fn repeat_leave_message(&mut self, now: Instant) {
        let Some(leaving) = &mut self.leaving else { return };
        if leaving.messages_left > 0 && now >= leaving.next {
            leaving.messages_left -= 1;
            leaving.next = now + LEAVE_PERIOD;
            let _ = self.foca.gossip(&mut self.runtime);
        }
    }

    /// Stops the clock of foca for the time for which the process was stalled. The answers of others wait
    /// unread in the socket while the timers that wait for them expire; without this, a node under load would
    /// consider all others dead.
    fn compensate_stall(&mut self, now: Instant) {
        let Some(due) = self.runtime.next_timer() else { return };
        if now.saturating_duration_since(due + self.lag) > STALL {
            let resume = due.checked_sub(GRACE).unwrap_or(due).max(self.runtime.now);
            let lag = now.saturating_duration_since(resume);
            self.isolation.handle_stall(now, lag.saturating_sub(self.lag));
            self.lag = lag;
        }
    }
}
