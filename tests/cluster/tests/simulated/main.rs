//! Whole clusters in simulated time: who answers for the addresses while nodes and cables fail.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
#[allow(dead_code, reason = "the tests of the mesh use the rest")]
#[path = "../../../../speaker/mesh/tests/simulated/network.rs"]
mod network;

use std::time::Duration;

use cluster::Cluster;
use network::{Cut, ms, secs};
use proptest::prelude::*;

/// Long enough for all nodes to be members, and for the repeated announcements to end.
const SETTLED: Duration = secs(9);
/// Handover of the responder, and the time to learn of it.
const OVERLAP: Duration = ms(350);

fn settled(size: usize, seed: u64) -> Cluster {
    let mut cluster = Cluster::new(size, 12, seed);
    cluster.run_for(SETTLED + ms(17 * (seed % 10)));
    cluster.expect_settled(&format!("{size} nodes, seed {seed}, at the start"));
    cluster.clear();
    cluster
}

#[test]
fn dead_node_is_replaced_within_300_ms_by_one_owner() {
    for (size, seed) in (0..4).flat_map(|seed| [(3, seed), (5, seed)]) {
        let mut cluster = settled(size, seed);
        cluster.kill(0);
        cluster.run_for(secs(2));
        let (name, seen) = (format!("{size} nodes, seed {seed}"), cluster.observed);
        assert!(seen.no_owner <= ms(300) && seen.two_owners.is_zero(), "{name}: {seen:?}");
        cluster.expect_settled(&name);
    }
}

#[test]
fn stopped_speaker_hands_over_without_gap() {
    for (size, seed) in (0..4).flat_map(|seed| [(2, seed), (3, seed), (5, seed)]) {
        let mut cluster = settled(size, seed);
        cluster.leave(0);
        cluster.run_for(ms(400));
        cluster.kill(0);
        cluster.run_for(secs(2));
        let (name, seen) = (format!("{size} nodes, seed {seed}"), cluster.observed);
        assert!(seen.no_owner.is_zero() && seen.two_owners <= OVERLAP, "{name}: {seen:?}");
        cluster.expect_settled(&name);
    }
}

#[test]
fn settled_cluster_sends_no_announcements() {
    let mut cluster = settled(3, 1);
    cluster.run_for(secs(30));
    assert_eq!(cluster.observed.frames, 0, "{:?}", cluster.observed);
    assert!(cluster.observed.no_owner.is_zero() && cluster.observed.two_owners.is_zero());
}

#[test]
fn caches_point_at_owner_after_short_cut() {
    let mut cluster = settled(3, 465);
    cluster.network.partition(&[&[1], &[0, 2]]);
    cluster.run_for(ms(126));
    cluster.network.partition(&[]);
    cluster.run_for(secs(5));
    cluster.expect_settled("cable cut for 126 ms");
}

/// A fault of a random schedule.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Crash,
    Cable,
    Incoming,
    Outgoing,
    MeshPort,
    Echo,
    Stall,
}

fn schedules() -> impl Strategy<Value = (usize, u64, Vec<(Fault, usize, u64)>)> {
    use Fault::{Cable, Crash, Echo, Incoming, Kill, MeshPort, Outgoing, Stall};
    let fault = prop::sample::select(vec![Kill, Crash, Cable, Incoming, Outgoing, MeshPort, Echo, Stall]);
    let faults = prop::collection::vec((fault, 0..5_usize, 20..3_000_u64), 1..3);
    (2..5_usize, 0..1_000_u64, faults)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever failed, every address has one owner again within five seconds after the repair.
    #[test]
    fn repaired_cluster_has_one_owner_per_address((size, seed, faults) in schedules()) {
        let mut cluster = settled(size, seed);
        for (fault, node, time) in faults {
            let node = node % size;
            let rest: Vec<usize> = (0..size).filter(|other| *other != node).collect();
            match fault {
                Fault::Kill => cluster.kill(node),
                Fault::Crash => cluster.crash(node),
                Fault::Cable => cluster.network.partition(&[&[node], &rest]),
                Fault::Incoming => cluster.network.cut(Some((node, Cut::Incoming))),
                Fault::Outgoing => cluster.network.cut(Some((node, Cut::Outgoing))),
                Fault::MeshPort => cluster.network.cut(Some((node, Cut::MeshPort))),
                Fault::Echo => cluster.network.cut(Some((node, Cut::Echo))),
                Fault::Stall => cluster.network.stall(node, ms(time)),
            }
            cluster.run_for(ms(time));
            cluster.network.cut(None);
            cluster.network.partition(&[]);
            if matches!(fault, Fault::Kill | Fault::Crash) {
                cluster.start(node);
            }
            cluster.run_for(secs(5));
            cluster.expect_one_owner(&format!("{fault:?} of node {node} for {time} ms"));
        }
    }
}
