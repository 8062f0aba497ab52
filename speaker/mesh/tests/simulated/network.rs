//! A simulated network of speakers, with latency, loss and partitions.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fairlead_l2::{ServedFamilies, ServedInterfaces};
use fairlead_mesh::{Config, Counters, Evidence, Identity, IsolationCause, Mesh, MeshEvent};
use fairlead_probe::{Detection, Prober, Silence, watched_by};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub(crate) const KEY: &[u8] = b"the key of this mesh";

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(crate) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Time that it takes to find out who answers on the link.
const INQUIRY: Duration = ms(150);

struct Node {
    /// `None` while the process is not running.
    mesh: Option<Mesh>,
    /// False if the whole node is down, not only the process.
    powered: bool,
    address_changed: bool,
    /// When evidence that it asked for arrives.
    inquiry_ends: Option<Instant>,
    generation: u64,
    /// When its next timeout is due.
    due: Option<Instant>,
    stalled_until: Instant,
    /// Echo requests to the kernels of the other nodes; `None` if the mesh alone detects failures.
    prober: Option<Prober>,
    /// Echo replies in flight: their arrival, source and tick.
    replies: Vec<(Instant, IpAddr, u64)>,
    /// What the mesh was told last.
    silences: BTreeMap<String, Silence>,
    /// The interfaces that the speaker reports; `None` for a speaker of a version without reports.
    interfaces: Option<ServedInterfaces>,
}

/// A fault of the cable of one node, or of its firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Frames to the node are lost.
    Incoming,
    /// Frames of the node are lost.
    Outgoing,
    /// Datagrams of the mesh to and from the node are lost; nothing else is.
    MeshPort,
    /// The router answers nobody.
    Router,
    /// Echo requests to the node are dropped.
    Echo,
    /// Frames between the node and this one are lost.
    Path(usize),
}

/// A datagram in flight: its arrival, a number that orders equal arrivals, its source and its destination.
type Flight = (Instant, u64, usize, usize, Vec<u8>);

pub(crate) struct Network {
    pub loss: f64,
    pub record: bool,
    nodes: Vec<Node>,
    now: Instant,
    /// The time from which events are counted.
    since: Instant,
    flights: BinaryHeap<Reverse<Flight>>,
    count: u64,
    rng: StdRng,
    partition: Vec<Vec<usize>>,
    cuts: Vec<(usize, Cut)>,
    events: Vec<(Duration, usize, MeshEvent)>,
    recorded: Vec<(usize, usize, Vec<u8>)>,
}

/// Distance from the first address of a node to the one that it has after [`Network::change_address`].
const SECOND_ADDRESS: u32 = 0x1_0000;

fn address(node: usize, changed: bool) -> SocketAddr {
    let offset = if changed { SECOND_ADDRESS } else { 0 };
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + node as u32 + offset), 7947))
}

/// Returns the node with this address, and whether it is the second one of that node.
fn index(address: SocketAddr) -> (usize, bool) {
    match address {
        SocketAddr::V4(v4) => {
            let number = v4.ip().to_bits() - 0x0a00_0001;
            ((number % SECOND_ADDRESS) as usize, number >= SECOND_ADDRESS)
        }
        SocketAddr::V6(_) => panic!("{address} is not an address of this network"),
    }
}

impl Network {
    /// Creates speakers that are listed with each other and all start now.
    pub(crate) fn new(size: usize, seed: u64) -> Self {
        let mut network = Self::stopped(size, seed);
        (0..size).for_each(|node| network.start(node, 0));
        network
    }

    /// Creates speakers that are listed with each other, none of them running.
    pub(crate) fn stopped(size: usize, seed: u64) -> Self {
        let now = Instant::now() + secs(86_400);
        let mut network = Self {
            loss: 0.0,
            record: false,
            nodes: Vec::new(),
            now,
            since: now,
            flights: BinaryHeap::new(),
            count: 0,
            rng: StdRng::seed_from_u64(seed),
            partition: Vec::new(),
            cuts: Vec::new(),
            events: Vec::new(),
            recorded: Vec::new(),
        };
        network.nodes.extend((0..size).map(|_| Node {
            mesh: None,
            powered: true,
            address_changed: false,
            inquiry_ends: None,
            generation: 1_700_000_000_000,
            due: None,
            stalled_until: now,
            prober: Detection::Fast.timing().map(Prober::new),
            replies: Vec::new(),
            silences: BTreeMap::new(),
            interfaces: Some([("eth0".to_owned(), ServedFamilies::BOTH)].into()),
        }));
        network.list_addresses();
        network
    }

    /// Creates speakers that send no echo requests, and start now.
    pub(crate) fn without_probes(size: usize, seed: u64) -> Self {
        let mut network = Self::stopped(size, seed);
        network.nodes.iter_mut().for_each(|node| node.prober = None);
        (0..size).for_each(|node| network.start(node, 0));
        network
    }

    /// Starts the speaker, with a generation that is `later` than that of its previous run.
    pub(crate) fn start(&mut self, node: usize, later: i64) {
        let generation = &mut self.nodes[node].generation;
        *generation = generation.checked_add_signed(later).unwrap();
        self.start_with_key(node, KEY);
    }

    pub(crate) fn start_with_key(&mut self, node: usize, key: &[u8]) {
        let identity = Identity {
            node: name(node),
            address: self.address(node),
            generation: self.nodes[node].generation,
        };
        let mut mesh = Mesh::new(self.now, Config::default(), identity, key, self.rng.random());
        if let Some(interfaces) = &self.nodes[node].interfaces {
            mesh.set_interfaces(self.now, interfaces.clone());
        }
        mesh.set_peers(self.now, self.listed());
        self.nodes[node].mesh = Some(mesh);
        self.nodes[node].powered = true;
        self.nodes[node].silences.clear();
        self.drain(node);
    }

    /// Changes the interfaces of the node, given by name. Without, it is of a version without reports.
    pub(crate) fn set_interfaces(&mut self, node: usize, names: Option<&[&str]>) {
        let interfaces = names.map(|names| {
            names.iter().map(|name| ((*name).to_owned(), ServedFamilies::BOTH)).collect::<ServedInterfaces>()
        });
        self.nodes[node].interfaces.clone_from(&interfaces);
        let now = self.now;
        if let (Some(mesh), Some(interfaces)) = (&mut self.nodes[node].mesh, interfaces) {
            mesh.set_interfaces(now, interfaces);
        }
        self.drain(node);
    }

    /// Returns the interfaces of another node as a node knows them; `None` if it knows none.
    pub(crate) fn interfaces(&self, node: usize, of: usize) -> Option<Vec<&str>> {
        let mut known = self.mesh(node).interfaces();
        let (_, interfaces) = known.find(|(other, _)| **other == name(of))?;
        Some(interfaces.keys().map(String::as_str).collect())
    }

    /// Returns whether every running speaker knows the interfaces of every other one.
    pub(crate) fn interfaces_agree(&self) -> bool {
        let running: Vec<usize> = (0..self.nodes.len()).filter(|n| self.nodes[*n].mesh.is_some()).collect();
        running.iter().all(|node| {
            running.iter().filter(|of| *of != node).all(|of| {
                let own = self.nodes[*of].interfaces.as_ref();
                let own = own.map(|interfaces| interfaces.keys().map(String::as_str).collect());
                self.interfaces(*node, *of) == own
            })
        })
    }

    /// The node loses power.
    pub(crate) fn kill(&mut self, node: usize) {
        self.crash(node);
        self.nodes[node].powered = false;
    }

    /// The process ends, and the kernel of the node goes on.
    pub(crate) fn crash(&mut self, node: usize) {
        self.nodes[node].mesh = None;
        self.nodes[node].due = None;
        self.nodes[node].inquiry_ends = None;
    }

    /// The node gets another address. The others still know the first one, until [`Self::list_addresses`].
    pub(crate) fn change_address(&mut self, node: usize) {
        self.nodes[node].address_changed = true;
        let address = self.address(node);
        self.nodes[node].mesh.as_mut().unwrap().set_address(self.now, address);
        self.drain(node);
    }

    /// Tells all speakers the present addresses.
    pub(crate) fn list_addresses(&mut self) {
        let (now, listed) = (self.now, self.listed());
        let nodes: Vec<&str> = listed.keys().map(String::as_str).collect();
        for node in 0..self.nodes.len() {
            let watched = watched_by(&name(node), &nodes).into_iter();
            let peers = watched.map(|peer| (peer.to_owned(), listed[peer].ip())).collect();
            // Threads of different nodes are not in step.
            let start = now + Duration::from_micros(self.rng.random_range(0..50_000));
            if let Some(prober) = &mut self.nodes[node].prober {
                prober.set_peers(start, &peers);
            }
            if let Some(mesh) = &mut self.nodes[node].mesh {
                mesh.set_peers(now, listed.clone());
            }
            self.drain(node);
        }
    }

    fn listed(&self) -> BTreeMap<String, SocketAddr> {
        (0..self.nodes.len()).map(|peer| (name(peer), self.address(peer))).collect()
    }

    fn address(&self, node: usize) -> SocketAddr {
        address(node, self.nodes[node].address_changed)
    }

    /// Adds a fault; without one, repairs all.
    pub(crate) fn cut(&mut self, fault: Option<(usize, Cut)>) {
        match fault {
            Some(fault) => self.cuts.push(fault),
            None => self.cuts.clear(),
        }
    }

    pub(crate) fn leave(&mut self, node: usize) {
        self.nodes[node].mesh.as_mut().unwrap().leave(self.now);
        self.drain(node);
    }

    /// Stalls the process, as under load.
    pub(crate) fn stall(&mut self, node: usize, time: Duration) {
        self.nodes[node].stalled_until = self.now + time;
    }

    /// Partitions the network: only nodes of the same group reach each other. Without groups, all do.
    pub(crate) fn partition(&mut self, groups: &[&[usize]]) {
        self.partition = groups.iter().map(|group| group.to_vec()).collect();
    }

    pub(crate) fn alive(&self, node: usize) -> Vec<&str> {
        self.mesh(node).alive().iter().map(String::as_str).collect()
    }

    /// Returns the present time.
    #[allow(dead_code, reason = "for tests/cluster")]
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Returns the mesh of a node; `None` while its process does not run.
    #[allow(dead_code, reason = "for tests/cluster")]
    pub(crate) fn running(&self, node: usize) -> Option<&Mesh> {
        self.nodes[node].mesh.as_ref()
    }

    #[allow(dead_code, reason = "for tests/cluster")]
    pub(crate) fn is_stalled(&self, node: usize) -> bool {
        self.now < self.nodes[node].stalled_until
    }

    pub(crate) fn isolation(&self, node: usize) -> Option<IsolationCause> {
        self.mesh(node).isolation()
    }

    pub(crate) fn counters(&self, node: usize) -> Counters {
        self.mesh(node).counters()
    }

    /// Returns the events since the last [`Self::clear_events`]: time, node and event.
    pub(crate) fn events(&self) -> &[(Duration, usize, MeshEvent)] {
        &self.events
    }

    pub(crate) fn clear_events(&mut self) {
        self.events.clear();
        self.since = self.now;
    }

    /// Sends the recorded datagrams again.
    pub(crate) fn replay(&mut self) {
        for (from, to, datagram) in std::mem::take(&mut self.recorded) {
            self.send(from, to, datagram);
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let flight = self.flights.peek().map(|Reverse((at, ..))| (*at, None));
            let timers = self.nodes.iter().enumerate().filter_map(|(node, state)| {
                let due = state.due.into_iter().chain(state.inquiry_ends).min()?;
                Some((self.when_awake(node, due), Some(node)))
            });
            let probes = self.nodes.iter().enumerate().filter_map(|(node, state)| {
                let due = state.prober.as_ref().filter(|_| state.powered)?.poll_timeout()?;
                Some((self.when_awake(node, due), node))
            });
            let probe = probes.min();
            let next = timers.chain(flight).min_by_key(|(at, _)| *at);
            let at = next.map(|(at, _)| at).into_iter().chain(probe.map(|(at, _)| at)).min();
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            let Some((_, node)) = next.filter(|(next, _)| *next == at) else {
                probe.into_iter().for_each(|(_, node)| self.probe(node));
                continue;
            };
            match node {
                Some(node) => {
                    if self.nodes[node].inquiry_ends.take_if(|end| *end <= self.now).is_some() {
                        let evidence = self.evidence(node);
                        if let Some(mesh) = &mut self.nodes[node].mesh {
                            mesh.handle_evidence(self.now, &evidence);
                        }
                    } else if let Some(mesh) = &mut self.nodes[node].mesh {
                        mesh.handle_timeout(self.now);
                    }
                    self.drain(node);
                }
                None => self.deliver(),
            }
        }
    }

    /// Runs a turn of the thread that probes.
    fn probe(&mut self, own: usize) {
        let now = self.now;
        let node = &mut self.nodes[own];
        let Some(mut prober) = node.prober.take() else { return };
        for (arrived, from, tick) in node.replies.extract_if(.., |(arrived, ..)| *arrived <= now) {
            prober.handle_reply(arrived, from, tick);
        }
        prober.handle_timeout(now);
        while let Some(request) = prober.poll_transmit() {
            let (peer, _) = index(SocketAddr::new(request.to, 0));
            let lost = self.rng.random_bool(self.loss) || self.rng.random_bool(self.loss);
            let filtered = self.cuts.contains(&(peer, Cut::Echo));
            if self.answers(own, peer) && !filtered && !lost {
                let latency = Duration::from_micros(self.rng.random_range(200..2_000));
                self.nodes[own].replies.push((now + latency, request.to, request.tick));
            }
        }
        prober.handle_sent(now);
        let silences: BTreeMap<_, _> =
            prober.silences().map(|(node, silence)| (node.to_owned(), silence)).collect();
        let node = &mut self.nodes[own];
        node.prober = Some(prober);
        if node.silences != silences
            && let Some(mesh) = &mut node.mesh
        {
            node.silences.clone_from(&silences);
            mesh.handle_silences(now, silences);
            self.drain(own);
        }
    }

    /// Returns true if the kernel of another node answers this one.
    fn answers(&self, node: usize, other: usize) -> bool {
        self.nodes[other].powered && self.reaches(node, other) && self.reaches(other, node)
    }

    /// Returns true if frames get from one node to another.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        let connected = self.partition.is_empty()
            || self.partition.iter().any(|group| group.contains(&from) && group.contains(&to));
        let lost = [(from, Cut::Outgoing), (to, Cut::Incoming), (from, Cut::Path(to)), (to, Cut::Path(from))]
            .iter()
            .any(|cut| self.cuts.contains(cut));
        connected && !lost
    }

    /// Returns what the node finds out by asking the hosts on its link: the other nodes, and a router, which
    /// is on the larger side of a partition.
    fn evidence(&self, node: usize) -> Evidence {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        let (present, absent): (Vec<usize>, Vec<usize>) =
            others.partition(|other| self.answers(node, *other));

        let cut = |cut| self.cuts.contains(&(node, cut));
        let alone = self.partition.iter().any(|group| group == &[node]);
        Evidence {
            link: !alone && !cut(Cut::Incoming) && !cut(Cut::Outgoing) && !cut(Cut::Router),

            present: present.iter().map(|other| name(*other)).collect(),
            absent: absent.iter().map(|other| name(*other)).collect(),
        }
    }

    fn mesh(&self, node: usize) -> &Mesh {
        self.nodes[node].mesh.as_ref().unwrap()
    }

    fn when_awake(&self, node: usize, at: Instant) -> Instant {
        at.max(self.nodes[node].stalled_until)
    }

    fn deliver(&mut self) {
        let Some(Reverse((_, count, from, to, datagram))) = self.flights.pop() else { return };
        if self.now < self.nodes[to].stalled_until {
            // The datagram waits in the socket.
            self.flights.push(Reverse((self.nodes[to].stalled_until, count, from, to, datagram)));
            return;
        }
        let (source, destination) = (self.address(from), self.address(to));
        if let Some(mesh) = &mut self.nodes[to].mesh {
            mesh.handle_datagram(self.now, source, &datagram);
        } else if self.nodes[to].powered && self.reaches(to, from) {
            // The kernel answers that no process listens.
            if let Some(mesh) = &mut self.nodes[from].mesh {
                mesh.handle_refusal(self.now, destination);
            }
        }
        self.drain(to);
    }

    fn drain(&mut self, node: usize) {
        loop {
            let Node { mesh: Some(mesh), prober, .. } = &mut self.nodes[node] else { return };
            let mut evidence_needed = false;
            while let Some(event) = mesh.poll_event() {
                match event {
                    MeshEvent::EvidenceNeeded => evidence_needed = true,
                    MeshEvent::SilenceRefuted(peer) => {
                        if let Some(prober) = prober {
                            prober.refute(&peer);
                        }
                    }
                    event => self.events.push((self.now - self.since, node, event)),
                }
            }
            if evidence_needed {
                self.nodes[node].inquiry_ends = Some(self.now + INQUIRY);
                continue;
            }
            let Some((to, datagram)) = mesh.poll_transmit() else {
                self.nodes[node].due = mesh.poll_timeout();
                return;
            };
            assert!(datagram.len() <= 1_232, "the datagram fits every IPv6 link");
            let (to, changed) = index(to);
            // Nobody has the first address any more, or the second one yet.
            if changed == self.nodes[to].address_changed {
                self.send(node, to, datagram);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, datagram: Vec<u8>) {
        if self.record {
            self.recorded.push((from, to, datagram.clone()));
        }
        let blocked = |node| self.cuts.contains(&(node, Cut::MeshPort));
        if blocked(from) || blocked(to) || !self.reaches(from, to) || self.rng.random_bool(self.loss) {
            return;
        }
        let latency = Duration::from_micros(self.rng.random_range(100..2_000));
        self.count += 1;
        self.flights.push(Reverse((self.now + latency, self.count, from, to, datagram)));
    }
}

fn name(node: usize) -> String {
    format!("node-{node}")
}
