//! The members of the mesh and the doors of the protocol.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Foca, NoCustomBroadcast, OwnedNotification, PostcardCodec};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::authentication::Seal;
use crate::foca_runtime::Outbox;
use crate::{Config, Identity};

/// A change of membership. Never about the own node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeshEvent {
    /// The speaker on this node is alive.
    Up(String),
    /// The speaker on this node left, or is silent.
    Down(String),
}

/// Datagrams since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Authentic and taken in.
    pub received: u64,
    /// Sent.
    pub sent: u64,
    /// Too short or with a wrong code: another key, or not ours.
    pub unauthentic: u64,
    /// Authentic, but refused by the protocol.
    pub refused: u64,
}

/// A timer that is handled this late shows that the own process stood still.
const STALL: Duration = Duration::from_millis(100);
/// After such a stall, how long the datagrams that wait in the socket have before timers go on.
const GRACE: Duration = Duration::from_millis(50);

/// How long a node's death is doubted that another one tells of: a node that was cut off holds everybody for
/// dead and says so when it comes back. Whoever is alive objects within milliseconds.
const DOUBT: Duration = Duration::from_millis(50);

/// The farewell is said three times, in case of loss.
const FAREWELLS: u8 = 3;
const FAREWELL_PERIOD: Duration = Duration::from_millis(30);

/// The mesh as one speaker sees it.
pub struct Mesh {
    config: Config,
    node: String,
    foca: Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>,
    outbox: Outbox,
    seal: Seal,
    start: Instant,
    /// How much the protocol's clock is behind: the time for which the own process stood still.
    lag: Duration,
    /// As listed, without the own node; `None` before they were.
    peers: Option<BTreeMap<String, SocketAddr>>,
    /// The listed peers by address.
    nodes_at: BTreeMap<SocketAddr, String>,
    alive: BTreeSet<String>,
    /// Where the datagram comes from that is being taken in.
    sender: Option<SocketAddr>,
    /// Nodes that another one holds for dead, with when to believe it.
    doubted: BTreeMap<String, Instant>,
    /// Listed peers that are not alive.
    missing: BTreeSet<String>,
    next_announce: Instant,
    settled: bool,
    leaving: Option<Leaving>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    events: VecDeque<MeshEvent>,
    counters: Counters,
}

struct Leaving {
    left: u8,
    next: Instant,
}

impl Mesh {
    /// A mesh of one. `key` authenticates datagrams, the same on every speaker; `seed` decides the random
    /// choices.
    pub fn new(now: Instant, config: Config, identity: Identity, key: &[u8], seed: u64) -> Self {
        let node = identity.node.clone();
        let foca = Foca::new(identity, config.to_foca(), StdRng::seed_from_u64(seed), PostcardCodec);
        Self {
            config,
            foca,
            outbox: Outbox::new(now),
            seal: Seal::new(key),
            start: now,
            lag: Duration::ZERO,
            peers: None,
            nodes_at: BTreeMap::new(),
            alive: BTreeSet::from([node.clone()]),
            sender: None,
            doubted: BTreeMap::new(),
            missing: BTreeSet::new(),
            next_announce: now,
            settled: false,
            leaving: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            node,
        }
    }

    /// Which speakers there should be, by node name, and where. Those that are no members are announced to,
    /// now and again. The own node is skipped. A speaker that is no longer listed stays a member while it is
    /// alive.
    pub fn set_peers(&mut self, now: Instant, mut peers: BTreeMap<String, SocketAddr>) {
        peers.remove(&self.node);
        self.missing = peers.keys().filter(|node| !self.alive.contains(*node)).cloned().collect();
        self.nodes_at = peers.iter().map(|(node, at)| (*at, node.clone())).collect();
        self.peers = Some(peers);
        self.step(now, |mesh| mesh.announce_to_missing(now));
    }

    /// Takes in a received datagram.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(payload) = self.seal.open(datagram) else { return self.counters.unauthentic += 1 };
        // Whoever left would be called back by what others still send.
        if self.leaving.is_some() {
            return;
        }
        self.sender = Some(from);
        self.step(now, |mesh| match mesh.foca.handle_data(payload, &mut mesh.outbox) {
            Ok(()) => mesh.counters.received += 1,
            Err(_) => mesh.counters.refused += 1,
        });
        self.sender = None;
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.forgive_stall(now);
        self.step(now, |mesh| {
            while let Some(timer) = mesh.outbox.pop_due() {
                // The errors are about states that the timers of a former identity leave behind; foca goes
                // on.
                let _ = mesh.foca.handle_timer(timer, &mut mesh.outbox);
            }
            if now >= mesh.next_announce {
                mesh.announce_to_missing(now);
            }
            mesh.say_farewell(now);
            mesh.believe(now);
        });
    }

    /// When [`Self::handle_timeout`] must be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some(leaving) = &self.leaving {
            return (leaving.left > 0).then_some(leaving.next);
        }
        let timer = self.outbox.next().map(|due| due + self.lag);
        let announce = (!self.missing.is_empty()).then_some(self.next_announce);
        let settle = (!self.settled).then_some(self.start + self.config.settle_after);
        let doubt = self.doubted.values().min().copied();
        [timer, announce, settle, doubt].into_iter().flatten().min()
    }

    /// The next datagram to send; call until `None` after every other call.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmits.pop_front()
    }

    /// The next change of membership; call until `None` after every other call.
    pub fn poll_event(&mut self) -> Option<MeshEvent> {
        self.events.pop_front()
    }

    /// Tells the others that this speaker goes. What is received afterwards is ignored; go on sending, and
    /// calling [`Self::handle_timeout`], until [`Self::poll_timeout`] gives `None`: less than 100 ms.
    pub fn leave(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        self.step(now, |mesh| {
            let members = mesh.foca.num_members();
            // Neither can fail: the changed values may change, and the own identity was encoded before.
            let _ = mesh.foca.set_config(mesh.config.to_foca_leaving(members));
            let _ = mesh.foca.leave_cluster(&mut mesh.outbox);
            mesh.outbox.clear_timers();
            mesh.leaving = Some(Leaving { left: FAREWELLS - 1, next: now + FAREWELL_PERIOD });
        });
    }

    /// Nodes with a live speaker, the own one included.
    pub fn alive(&self) -> &BTreeSet<String> {
        &self.alive
    }

    /// Whether [`Self::alive`] can be acted on: every listed speaker was heard of, or
    /// [`Config::settle_after`] has passed since the start. Once true it stays true.
    pub fn settled(&self, now: Instant) -> bool {
        self.settled || now >= self.start + self.config.settle_after
    }

    /// Datagrams since start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// One call into foca, and everything that follows from it.
    fn step(&mut self, now: Instant, call: impl FnOnce(&mut Self)) {
        self.outbox.now = self.outbox.now.max(now.checked_sub(self.lag).unwrap_or(now));
        if self.missing.is_empty() {
            // Nothing was due; what goes missing in this step is announced to a period from now.
            self.next_announce = now + self.config.announce_period;
        }
        call(self);
        while let Some(notification) = self.outbox.notifications.pop_front() {
            self.take_in(now, notification);
        }
        while let Some((to, payload)) = self.outbox.sends.pop_front() {
            self.counters.sent += 1;
            self.transmits.push_back((to.address, self.seal.close(&payload)));
        }
        let heard_all = self.peers.is_some() && self.missing.is_empty();
        self.settled |= heard_all || now >= self.start + self.config.settle_after;
    }

    fn take_in(&mut self, now: Instant, notification: OwnedNotification<Identity>) {
        match notification {
            OwnedNotification::MemberUp(Identity { node, .. }) => {
                self.doubted.remove(&node);
                self.missing.remove(&node);
                if self.alive.insert(node.clone()) {
                    self.events.push_back(MeshEvent::Up(node));
                    self.spread();
                }
            }
            OwnedNotification::MemberDown(Identity { node, .. }) if node != self.node => {
                let hearsay = self.sender.is_some_and(|from| self.nodes_at.get(&from) != Some(&node));
                match hearsay {
                    true => drop(self.doubted.entry(node).or_insert(now + DOUBT)),
                    false => self.lose(node),
                }
            }
            // The others held us for dead. They hear at once that we are not.
            OwnedNotification::Rejoin(_) => {
                let everybody: Vec<String> =
                    self.peers.iter().flat_map(|peers| peers.keys().cloned()).collect();
                self.announce_to(everybody);
            }
            _ => {}
        }
    }

    fn lose(&mut self, node: String) {
        self.doubted.remove(&node);
        if self.peers.as_ref().is_some_and(|peers| peers.contains_key(&node)) {
            self.missing.insert(node.clone());
        }
        if self.alive.remove(&node) {
            self.events.push_back(MeshEvent::Down(node));
            self.spread();
        }
    }

    /// Believes the news that nobody has objected to.
    fn believe(&mut self, now: Instant) {
        let due = |(node, until): (&String, &Instant)| (*until <= now).then(|| node.clone());
        let dead: Vec<String> = self.doubted.iter().filter_map(due).collect();
        dead.into_iter().for_each(|node| self.lose(node));
    }

    /// Passes news on at once instead of with the next round of gossip.
    fn spread(&mut self) {
        if self.leaving.is_none() {
            let _ = self.foca.gossip(&mut self.outbox);
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
            if let Some(address) = self.peers.as_ref().and_then(|peers| peers.get(&node)) {
                // Whoever listens there under this name feels addressed, whichever life it is in.
                let peer = Identity { node, address: *address, bump: 0 };
                let _ = self.foca.announce(peer, &mut self.outbox);
            }
        }
    }

    fn say_farewell(&mut self, now: Instant) {
        let Some(leaving) = &mut self.leaving else { return };
        if leaving.left > 0 && now >= leaving.next {
            leaving.left -= 1;
            leaving.next = now + FAREWELL_PERIOD;
            let _ = self.foca.gossip(&mut self.outbox);
        }
    }

    /// Where the own process stood still, the answers of others are in the socket, unread, while the timers
    /// that wait for them have run out. The protocol's clock stops for that time: else a node under load
    /// would hold all others for dead.
    fn forgive_stall(&mut self, now: Instant) {
        let Some(due) = self.outbox.next() else { return };
        if now.saturating_duration_since(due + self.lag) > STALL {
            let resume = due.checked_sub(GRACE).unwrap_or(due).max(self.outbox.now);
            self.lag = now.saturating_duration_since(resume);
        }
    }
}
