//! A simulated cluster: the network of the tests of the mesh, and on each node a gate, a plan and a responder
//! that are connected as in the coordinator of the speaker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use fairlead_crds::model::config::{Config, L2Advertisement, Pool, PoolSelection};
use fairlead_crds::model::family::Family;
use fairlead_crds::model::range::IpRange;
use fairlead_l2::{Interface, Mac, Responder, Transmit};
use fairlead_mesh::MeshEvent;
use fairlead_plan::membership_gate::{Members, MembershipGate};
use fairlead_plan::{AnnouncementChange, LinkNetwork, Node, NodeName, Plan, Service, Slice};
use fairlead_test_support::{ip, key};

use crate::network::{Network, ms};

/// The time between two looks at the cluster.
const STEP: Duration = ms(1);
const INDEX: u32 = 2;

struct Speaker {
    gate: MembershipGate,
    plan: Plan,
    responder: Responder,
    may_claim: bool,
}

/// What was observed since the last [`Cluster::clear`], as the longest times of any address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Observed {
    /// Two nodes that hear each other both answered.
    pub two_owners: Duration,
    /// No node answered.
    pub no_owner: Duration,
    /// ARP frames that were sent.
    pub frames: usize,
}

pub(crate) struct Cluster {
    pub network: Network,
    pub observed: Observed,
    /// The cache of a client that hears every node.
    pub client: BTreeMap<IpAddr, usize>,
    speakers: Vec<Option<Speaker>>,
    addresses: Vec<IpAddr>,
    two_since: BTreeMap<IpAddr, Instant>,
    none_since: BTreeMap<IpAddr, Instant>,
    seen: usize,
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

/// More than the nodes of any cluster.
const MAX_NODES: usize = 8;

fn mac(node: usize) -> Mac {
    [2, 0, 0, 0, 0, node as u8]
}

impl Cluster {
    pub(crate) fn new(size: usize, addresses: usize, seed: u64) -> Self {
        let network = Network::new(size, seed);
        let addresses: Vec<IpAddr> =
            (1..=addresses as u32).map(|n| Ipv4Addr::from_bits(0xc612_0000 + n).into()).collect();
        let now = network.now();
        let speakers = (0..size).map(|node| Some(Speaker::new(now, node, size, &addresses))).collect();
        Self {
            network,
            observed: Observed::default(),
            client: BTreeMap::new(),
            speakers,
            addresses,
            two_since: BTreeMap::new(),
            none_since: BTreeMap::new(),
            seen: 0,
        }
    }

    /// Forgets what was observed.
    pub(crate) fn clear(&mut self) {
        self.observed = Observed::default();
        self.two_since.clear();
        self.none_since.clear();
    }

    /// The process ends.
    pub(crate) fn crash(&mut self, node: usize) {
        self.network.crash(node);
        self.speakers[node] = None;
    }

    /// The node loses power.
    pub(crate) fn kill(&mut self, node: usize) {
        self.network.kill(node);
        self.speakers[node] = None;
    }

    /// The speaker receives SIGTERM: it leaves the mesh and hands all addresses over.
    pub(crate) fn leave(&mut self, node: usize) {
        let now = self.network.now();
        if let Some(speaker) = &mut self.speakers[node] {
            speaker.responder.hand_over_all(now);
        }
        self.network.leave(node);
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.network.start(node, 1);
        let size = self.speakers.len();
        self.speakers[node] = Some(Speaker::new(self.network.now(), node, size, &self.addresses));
    }

    /// Returns the nodes that answer for an address now.
    pub(crate) fn owners(&self, address: IpAddr) -> Vec<usize> {
        let answers = |node: &usize| {
            !self.network.is_stalled(*node)
                && self.speakers[*node].as_ref().is_some_and(|s| s.responder.answers_for(address))
        };
        (0..self.speakers.len()).filter(answers).collect()
    }

    /// Panics unless each address has one owner.
    pub(crate) fn expect_one_owner(&self, context: &str) {
        for address in &self.addresses {
            let owners = self.owners(*address);
            assert_eq!(owners.len(), 1, "{context}: owners of {address}: {owners:?}");
        }
    }

    /// Panics unless each address has one owner, to which the cache of the client points.
    pub(crate) fn expect_settled(&self, context: &str) {
        self.expect_one_owner(context);
        for address in &self.addresses {
            let owners = self.owners(*address);
            assert_eq!(self.client.get(address), owners.first(), "{context}: cache of {address}");
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.network.now() + time;
        while self.network.now() < end {
            self.network.run_for(STEP);
            self.update();
            self.observe();
        }
    }

    fn update(&mut self) {
        let now = self.network.now();
        let events = self.network.events();
        let ups: BTreeSet<usize> = events[self.seen.min(events.len())..]
            .iter()
            .filter(|(.., event)| matches!(event, MeshEvent::Up(_)))
            .map(|(_, node, _)| *node)
            .collect();
        self.seen = events.len();
        let mut frames = Vec::new();
        for (node, speaker) in self.speakers.iter_mut().enumerate() {
            let (Some(speaker), Some(mesh)) = (speaker, self.network.running(node)) else { continue };
            if self.network.is_stalled(node) {
                continue;
            }
            let names = |names: &BTreeSet<String>| -> BTreeSet<NodeName> {
                names.iter().map(|name| name.as_str().into()).collect()
            };
            let members = Members {
                alive: names(mesh.alive()),
                doubted: names(mesh.doubted()),
                isolated: mesh.isolation().is_some(),
            };
            let interfaces = mesh.interfaces().map(|(node, i)| (node.as_str().into(), i.clone())).collect();
            speaker.plan.set_interfaces(&interfaces);
            speaker.update(now, members);
            if ups.contains(&node) {
                speaker.responder.announce_all_again(now);
            }
            speaker.responder.handle_timeout(now);
            while let Some(transmit) = speaker.responder.poll_transmit() {
                if let Transmit::Arp { frame, .. } = transmit {
                    frames.push((node, frame));
                }
            }
            while speaker.responder.poll_event().is_some() {}
        }
        self.observed.frames += frames.len();
        for (from, frame) in frames {
            // The sender's protocol address (RFC 826).
            if let Some(sender) = frame.get(28..32) {
                let sender = Ipv4Addr::from([sender[0], sender[1], sender[2], sender[3]]);
                self.client.insert(sender.into(), from);
            }
            for (to, speaker) in self.speakers.iter_mut().enumerate() {
                let hears = to != from && self.network.reaches(from, to) && !self.network.is_stalled(to);
                if let Some(speaker) = speaker.as_mut().filter(|_| hears) {
                    speaker.responder.handle_arp(now, INDEX, &frame);
                }
            }
        }
        for speaker in self.speakers.iter_mut().flatten() {
            while let Some(yielded) = speaker.responder.poll_yielded() {
                speaker.plan.yield_address(yielded.address);
                speaker.responder.withdraw(yielded.address);
            }
            while speaker.responder.poll_conflict().is_some() {}
        }
    }

    fn observe(&mut self) {
        let now = self.network.now();
        for address in &self.addresses {
            let owners = self.owners(*address);
            let connected = |a: usize, b: usize| self.network.reaches(a, b) && self.network.reaches(b, a);
            let two = owners.iter().any(|a| owners.iter().any(|b| a < b && connected(*a, *b)));
            for (holds, since, longest) in [
                (two, &mut self.two_since, &mut self.observed.two_owners),
                (owners.is_empty(), &mut self.none_since, &mut self.observed.no_owner),
            ] {
                if holds {
                    // It began within the step that ends now.
                    let since = since.entry(*address).or_insert(now - STEP);
                    *longest = (*longest).max(now - *since);
                } else {
                    since.remove(address);
                }
            }
        }
    }
}

impl Speaker {
    fn new(now: Instant, own: usize, size: usize, addresses: &[IpAddr]) -> Self {
        let mut plan = Plan::new(name(own).as_str());
        let range = IpRange::new(ip("198.18.0.0"), ip("198.19.255.255")).unwrap();
        let mut config = Config::default();
        config.pools.insert("main".to_owned(), Pool::new("main", vec![range]));
        let advertisement = L2Advertisement {
            name: "all".to_owned(),
            pools: PoolSelection::default(),
            node_selectors: Vec::new(),
            preferred_nodes: Vec::new(),
            service_selectors: Vec::new(),
            interfaces: BTreeSet::new(),
            on_conflict: Default::default(),
        };
        config.l2_advertisements.insert("all".to_owned(), advertisement);
        plan.set_links(
            [(
                "eth0".to_owned(),
                LinkNetwork { families: fairlead_l2::ServedFamilies::BOTH, ..LinkNetwork::default() },
            )]
            .into(),
        );
        plan.reset_nodes((0..size).map(|node| (name(node).as_str().into(), Node::default())).collect());
        plan.set_config(&config);
        for (number, address) in addresses.iter().enumerate() {
            let service = format!("s{number}");
            let ready = (0..size).map(|node| Some(NodeName::from(name(node).as_str()))).collect();
            let terminating = Vec::<Option<NodeName>>::new().into_iter().collect();
            let slice = Slice { service: service.clone(), family: Family::V4, ready, terminating };
            plan.apply_slice(key(&service), slice);
            plan.apply_service(key(&service), Service { addresses: vec![*address], ..Service::default() });
        }
        let mut gate = MembershipGate::default();
        gate.handle_link(now, true);
        let others = (0..size).filter(|node| *node != own);
        gate.handle_expected(Some(others.map(name).collect()));
        let mut responder = Responder::new();
        let interface =
            Interface { index: INDEX, name: "eth0".to_owned(), mac: mac(own), arp: true, link_local: None };
        responder.set_interface(now, interface);
        responder.set_speaker_macs(now, (0..MAX_NODES).map(mac).collect());
        Self { gate, plan, responder, may_claim: true }
    }

    /// Acts on the members of the mesh, in the order of the coordinator.
    fn update(&mut self, now: Instant, members: Members) {
        self.gate.handle_members(now, Some(members));
        self.gate.handle_timeout(now);
        self.plan.set_live(self.gate.members());
        if self.may_claim != self.gate.may_claim() {
            self.may_claim = self.gate.may_claim();
            self.plan.set_may_claim(self.may_claim);
            self.responder.set_quiet(!self.may_claim);
        }
        for change in self.plan.changes() {
            match change {
                AnnouncementChange::L2Announce { address, interfaces, claim } => {
                    self.responder.claim(now, address, interfaces, claim);
                }
                AnnouncementChange::L2Withdraw { address, handover: true } => {
                    self.responder.hand_over(now, address);
                }
                AnnouncementChange::L2Withdraw { address, .. } => self.responder.withdraw(address),
                _ => {}
            }
        }
    }
}
