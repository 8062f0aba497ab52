//! Nodes that probe each other in simulated time: how fast a dead node is detected, and what never leads to a
//! verdict.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use fairlead_probe::{Detection, Prober, Silence};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

const RTT: Duration = Duration::from_micros(300);

struct Node {
    prober: Prober,
    /// Replies on their way or in the socket: arrival, source, tick.
    replies: Vec<(Instant, IpAddr, u64)>,
    /// The process does not run until this time.
    stalled_until: Instant,
    cut: bool,
    /// A firewall drops echo requests to it.
    filtered: bool,
}

struct Network {
    nodes: Vec<Node>,
    now: Instant,
    rng: StdRng,
    loss: f64,
    /// Longest time by which a process wakes up late.
    lateness: Duration,
    sent: u64,
}

fn ignore(_: Duration, _: usize, _: &str, _: Silence) {}

fn address(node: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, node as u8).into()
}

fn name(node: usize) -> String {
    format!("n{node}")
}

impl Network {
    fn new(size: usize, seed: u64) -> Self {
        let now = Instant::now();
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = (0..size).map(|own| {
            let mut prober = Prober::new(Detection::Fast.timing().unwrap());
            let peers: BTreeMap<_, _> =
                (0..size).filter(|peer| *peer != own).map(|peer| (name(peer), address(peer))).collect();
            prober.set_peers(now + ms(rng.random_range(0..50)), &peers);
            Node { prober, replies: Vec::new(), stalled_until: now, cut: false, filtered: false }
        });
        let nodes = nodes.collect();
        Self { nodes, now, rng, loss: 0.0, lateness: Duration::ZERO, sent: 0 }
    }

    /// Runs until `end`; calls `seen` after each turn of a node.
    fn run(&mut self, time: Duration, mut seen: impl FnMut(Duration, usize, &str, Silence)) {
        let (start, end) = (self.now, self.now + time);
        loop {
            let due = |node: &Node| Some(node.prober.poll_timeout()?.max(node.stalled_until));
            let next = self.nodes.iter().enumerate().filter_map(|(at, node)| Some((due(node)?, at))).min();
            let Some((at, own)) = next.filter(|(at, _)| *at < end) else { break };
            let late = self.lateness.mul_f64(self.rng.random_range(0.0..=1.0));
            self.now = self.now.max(at) + late;
            self.turn(own);
            let elapsed = self.now - start;
            self.nodes[own].prober.silences().for_each(|(peer, silence)| seen(elapsed, own, peer, silence));
        }
        self.now = end;
    }

    fn turn(&mut self, own: usize) {
        let now = self.now;
        let node = &mut self.nodes[own];
        for (arrived, from, tick) in node.replies.extract_if(.., |(arrived, ..)| *arrived <= now) {
            node.prober.handle_reply(arrived, from, tick);
        }
        node.prober.handle_timeout(now);
        while let Some(request) = self.nodes[own].prober.poll_transmit() {
            self.sent += 1;
            let peer = (0..self.nodes.len()).find(|peer| address(*peer) == request.to).unwrap();
            let lost = self.rng.random_bool(self.loss) || self.rng.random_bool(self.loss);
            let path = !self.nodes[own].cut && !self.nodes[peer].cut && !self.nodes[peer].filtered;
            if path && !lost {
                self.nodes[own].replies.push((now + RTT, request.to, request.tick));
            }
        }
        self.nodes[own].prober.handle_sent(now);
    }

    /// A new peer is asked once a second.
    fn settle(&mut self) {
        self.run(ms(1_600), ignore);
    }

    /// Runs and fails at a verdict.
    fn expect_no_verdict(&mut self, time: Duration, what: &str) {
        self.run(time, |at, own, peer, silence| {
            assert!(!silence.verdict, "{what}: n{own} takes {peer} for dead after {at:?}: {silence:?}");
        });
    }
}

#[test]
fn dead_node_is_silent_everywhere_within_its_time() {
    for (size, limit) in [(3, 185), (5, 185), (11, 185), (16, 275)] {
        for round in 0..50 {
            let mut network = Network::new(size, round);
            network.settle();
            network.run(ms(round), ignore);
            network.nodes[0].cut = true;
            let mut detected = BTreeMap::new();
            network.run(ms(1_000), |at, own, peer, silence| {
                if own != 0 && silence.verdict {
                    assert!(peer == "n0" && silence.witnessed, "{own}: {peer} {silence:?}");
                    detected.entry(own).or_insert(at);
                }
            });
            assert_eq!(detected.len(), size - 1);
            let worst = detected.into_values().max().unwrap();
            assert!(worst <= ms(limit), "{size} nodes, round {round}: {worst:?}");
        }
    }
}

#[test]
fn node_that_is_cut_off_has_no_witness() {
    for (size, seed) in (0..50).flat_map(|seed| [(3, seed), (5, seed)]) {
        for cut in [ms(20), ms(49), ms(75), ms(140), ms(151), ms(200), ms(5_000)] {
            let mut network = Network::new(size, seed);
            network.settle();
            network.run(ms(seed), ignore);
            network.nodes[0].cut = true;
            let mut unwitnessed = 0;
            let expect_unwitnessed = |at, own: usize, peer: &str, silence: Silence| {
                let wrong = own == 0 && silence.witnessed;
                assert!(!wrong, "{size} nodes, cut for {cut:?}, after {at:?}: {peer} {silence:?}");
            };
            network.run(cut, |at, own, peer, silence| {
                unwitnessed += usize::from(own == 0 && silence.verdict);
                expect_unwitnessed(at, own, peer, silence);
            });
            assert_eq!(unwitnessed > 0, cut >= ms(200) || unwitnessed > 0, "cut for {cut:?}");
            network.nodes[0].cut = false;
            network.run(ms(3_000), expect_unwitnessed);
            assert_eq!(network.nodes[0].prober.silences().count(), 0);
        }
    }
}

#[test]
fn reply_after_isolation_condemns_no_slow_peer() {
    // n1 answers at once when the cable is mended; n2 only half a second later.
    let mut network = Network::new(3, 1);
    network.settle();
    network.nodes[0].cut = true;
    network.run(ms(1_000), ignore);
    network.nodes[0].cut = false;
    network.nodes[2].filtered = true;
    network.run(ms(100), |_, own, peer, silence| {
        assert!(own != 0 || !silence.witnessed, "{peer} {silence:?}");
    });
}

#[test]
fn only_peer_is_silent_without_a_witness() {
    let mut network = Network::new(2, 1);
    network.settle();
    network.nodes[1].cut = true;
    let mut first = None;
    network.run(ms(1_000), |at, own, _, silence| {
        assert!(!silence.witnessed);
        if own == 0 && silence.verdict {
            first.get_or_insert(at);
        }
    });
    assert!(first.is_some_and(|first| first <= ms(185)), "{first:?}");
}

#[test]
fn two_deaths_at_once_are_witnessed_by_the_third() {
    let mut network = Network::new(4, 1);
    network.settle();
    network.nodes[1].cut = true;
    network.nodes[2].cut = true;
    let mut seen = BTreeMap::new();
    network.run(ms(300), |_, own, peer, silence| {
        if own == 0 && silence.witnessed {
            seen.insert(peer.to_owned(), ());
        }
    });
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), ["n1", "n2"]);
}

#[test]
fn late_process_takes_nobody_for_dead() {
    for lateness in [ms(10), ms(50), ms(200), ms(1_000)] {
        let mut network = Network::new(3, 5);
        network.lateness = lateness;
        network.expect_no_verdict(Duration::from_secs(600), &format!("up to {lateness:?} late"));
    }
}

#[test]
fn stalled_process_takes_nobody_for_dead() {
    for stall in [ms(30), ms(60), ms(120), ms(300), ms(5_000)] {
        let mut network = Network::new(3, 6);
        network.settle();
        for round in 0..40 {
            network.run(ms(200 + round), ignore);
            network.nodes[0].stalled_until = network.now + stall;
            // What would have arrived meanwhile is lost with the node's own time.
            network.nodes[0].replies.clear();
            network.expect_no_verdict(stall + ms(400), &format!("stalled for {stall:?}"));
        }
    }
}

#[test]
fn one_percent_loss_takes_nobody_for_dead() {
    let mut network = Network::new(3, 7);
    network.settle();
    network.loss = 0.005;
    network.expect_no_verdict(Duration::from_secs(600), "loss");
}

#[test]
fn wrong_verdict_doubles_the_required_misses() {
    let mut network = Network::new(3, 8);
    network.settle();
    for (cut, expected) in [(ms(220), true), (ms(220), false), (ms(420), true), (ms(420), false)] {
        network.nodes[2].cut = true;
        let mut verdict = false;
        network.run(cut, |_, own, peer, silence| verdict |= own == 0 && peer == "n2" && silence.verdict);
        assert_eq!(verdict, expected, "silent for {cut:?}");
        network.nodes[2].cut = false;
        network.settle();
    }
    // Ten minutes later, the first verdict is forgotten.
    network.run(Duration::from_secs(601), ignore);
    network.nodes[2].cut = true;
    let mut verdict = false;
    network.run(ms(220), |_, own, peer, silence| verdict |= own == 0 && peer == "n2" && silence.verdict);
    assert!(verdict);
}

#[test]
fn silence_of_peer_that_never_answered_has_no_meaning() {
    let mut network = Network::new(3, 9);
    network.nodes[1].filtered = true;
    network.run(ms(2_000), |_, own, peer, silence| panic!("n{own}: {peer} {silence:?}"));
    network.nodes[1].filtered = false;
    network.settle();
    assert_eq!(network.nodes[0].prober.known(), 2);
    // A firewall starts to drop requests, and the process answers.
    network.nodes[1].filtered = true;
    network.settle();
    network.nodes[0].prober.refute("n1");
    network.run(ms(500), |_, own, peer, _| assert!(own != 0, "{peer}"));
}

#[test]
fn rate_is_bounded() {
    for size in [2, 11, 16, 100] {
        let mut network = Network::new(size, 10);
        network.run(Duration::from_secs(10), ignore);
        let rate = network.sent as f64 / 10.0 / size as f64;
        assert!(rate <= 205.0, "{size} nodes: {rate} requests per second");
    }
}

#[test]
fn absent_peer_is_asked_once_a_second() {
    let mut network = Network::new(2, 12);
    network.settle();
    network.nodes[1].cut = true;
    network.run(Duration::from_secs(11), ignore);
    network.sent = 0;
    network.run(Duration::from_secs(10), ignore);
    assert!((18..=22).contains(&network.sent), "two nodes in ten seconds: {}", network.sent);
    network.nodes[1].cut = false;
    network.run(ms(1_100), ignore);
    assert_eq!(network.nodes[0].prober.silences().count(), 0);
}

#[test]
fn peer_that_is_removed_is_forgotten() {
    let mut network = Network::new(3, 11);
    network.settle();
    network.nodes[1].cut = true;
    network.settle();
    let prober = &mut network.nodes[0].prober;
    assert_eq!(prober.silences().count(), 1);
    prober.set_peers(network.now, &BTreeMap::from([(name(2), address(2))]));
    assert_eq!(prober.silences().count(), 0);
    prober.set_peers(network.now, &BTreeMap::new());
    assert_eq!(prober.poll_timeout(), None);
}
