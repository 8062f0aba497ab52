//! Clusters in simulated time: how fast a silent node is known, and how rarely a live one is taken for dead.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod network;

use std::collections::BTreeSet;
use std::time::Duration;

use fairlead_mesh::MeshEvent;
use network::{Net, ms, secs};

/// Enough for everybody to know everybody.
const JOINED: Duration = secs(2);

#[test]
fn a_cluster_that_starts_together_settles_within_a_second() {
    for size in [1, 2, 3, 5, 50] {
        let mut net = Net::new(size, 1);
        net.run_for(secs(1));
        for node in 0..size {
            assert_eq!(net.alive(node).len(), size, "node {node} of {size}");
            assert!(net.settled(node), "node {node} of {size}");
        }
    }
}

#[test]
fn a_node_that_falls_silent_is_soon_down_everywhere() {
    println!("nodes  rounds   median    worst");
    for (size, rounds, worst_allowed) in [(2, 100, 900), (3, 100, 1_200), (5, 100, 1_400), (50, 6, 1_500)] {
        let mut times: Vec<u128> = (0..rounds)
            .map(|round| {
                let mut net = Net::new(size, 100 + round);
                // Somewhere within the probe period.
                net.run_for(JOINED + ms(37 * round));
                net.kill(0);
                net.forget_events();
                net.run_for(secs(2));
                let others: BTreeSet<usize> = (1..size).collect();
                let downs =
                    net.events().iter().filter(|(_, _, event)| *event == MeshEvent::Down("node-0".into()));
                let told: BTreeSet<usize> = downs.clone().map(|(_, node, _)| *node).collect();
                assert_eq!(told, others, "everybody is told");
                assert_eq!(net.events().len(), others.len(), "once, and of nobody else");
                downs.map(|(at, ..)| at.as_millis()).max().unwrap()
            })
            .collect();
        times.sort();
        let (median, worst) = (times[times.len() / 2], *times.last().unwrap());
        println!("{size:5}  {rounds:6}  {median:4} ms  {worst:4} ms");
        assert!(worst <= worst_allowed, "{size} nodes: {worst} ms");
    }
}

#[test]
fn loss_takes_nobody_for_dead() {
    for (size, time, seed) in [(3, secs(600), 7), (5, secs(600), 8), (50, secs(30), 7)] {
        let mut net = Net::new(size, seed);
        net.run_for(JOINED);
        net.loss = 0.05;
        net.forget_events();
        net.run_for(time);
        assert_eq!(net.events(), [], "{size} nodes, 5 % loss, {time:?}");
    }
}

#[test]
fn a_partition_is_seen_and_heals() {
    let mut net = Net::new(5, 3);
    net.run_for(JOINED);
    net.partition(&[&[0, 1], &[2, 3, 4]]);
    net.run_for(secs(3));
    assert_eq!(net.alive(0), ["node-0", "node-1"]);
    assert_eq!(net.alive(4), ["node-2", "node-3", "node-4"]);
    net.partition(&[]);
    net.run_for(ms(1_200));
    for node in 0..5 {
        assert_eq!(net.alive(node).len(), 5, "node {node}");
    }
    net.forget_events();
    net.run_for(secs(60));
    assert_eq!(net.events(), [], "and stays healed");
}

#[test]
fn a_node_that_was_cut_off_alone_comes_back() {
    for size in [3, 50] {
        let mut net = Net::new(size, 4);
        net.run_for(JOINED);
        let rest: Vec<usize> = (1..size).collect();
        net.partition(&[&[0], &rest]);
        net.run_for(secs(30));
        assert_eq!(net.alive(0), ["node-0"]);
        assert_eq!(net.alive(1).len(), size - 1);
        net.partition(&[]);
        net.run_for(ms(1_500));
        for node in 0..size {
            assert_eq!(net.alive(node).len(), size, "node {node} of {size}");
        }
    }
}

#[test]
fn what_a_node_says_that_was_cut_off_is_not_believed_of_those_who_are_there() {
    for (size, seed) in (0..20).flat_map(|seed| [(3, seed), (5, seed)]) {
        let mut net = Net::new(size, seed);
        net.run_for(JOINED);
        let rest: Vec<usize> = (1..size).collect();
        net.partition(&[&[0], &rest]);
        net.run_for(secs(6));
        net.partition(&[]);
        net.forget_events();
        net.run_for(secs(3));
        let misled =
            net.events().iter().find(|(_, at, event)| *at != 0 && matches!(event, MeshEvent::Down(_)));
        assert_eq!(misled, None, "{size} nodes, seed {seed}");
        assert_eq!(net.alive(1).len(), size);
    }
}

#[test]
fn a_restarted_speaker_is_a_member_within_a_second() {
    for (name, pause, bump) in [
        ("at once", ms(50), 10_i64),
        ("after it was held for dead", secs(10), 10),
        ("with a clock set back by a day", secs(10), -86_400_000),
    ] {
        let mut net = Net::new(3, 5);
        net.run_for(JOINED);
        net.kill(0);
        net.run_for(pause);
        net.start(0, bump);
        net.run_for(secs(1));
        for node in 0..3 {
            assert_eq!(net.alive(node).len(), 3, "{name}: node {node}");
        }
        net.forget_events();
        net.run_for(secs(60));
        assert_eq!(net.events(), [], "{name}: and stays");
    }
}

#[test]
fn a_speaker_that_leaves_is_known_to_have_left_at_once() {
    for size in [3, 50] {
        let mut net = Net::new(size, 6);
        net.run_for(JOINED);
        net.loss = 0.05;
        net.forget_events();
        net.leave(0);
        net.run_for(ms(250));
        let told =
            net.events().iter().filter(|(_, _, event)| *event == MeshEvent::Down("node-0".into())).count();
        assert_eq!(told, size - 1);
        net.run_for(secs(5));
        assert_eq!(net.events().len(), size - 1, "it stays away, and nobody else goes");
    }
}

#[test]
fn a_stalled_process_neither_condemns_others_nor_is_lost() {
    let mut net = Net::new(3, 9);
    net.run_for(JOINED);
    net.forget_events();
    net.stall(0, ms(400));
    net.run_for(secs(10));
    assert_eq!(net.events(), [], "a short stall goes unnoticed");
    net.stall(0, secs(5));
    net.run_for(secs(20));
    let by_stalled =
        net.events().iter().filter(|(_, node, event)| *node == 0 && matches!(event, MeshEvent::Down(_)));
    assert_eq!(by_stalled.count(), 0, "who stood still himself says nobody is dead: {:?}", net.events());
    for node in 0..3 {
        assert_eq!(net.alive(node).len(), 3, "node {node}");
    }
}

#[test]
fn a_speaker_waits_for_silent_peers_two_seconds_only() {
    let mut net = Net::stopped(3, 10);
    net.start(0, 0);
    net.start(1, 0);
    net.run_for(ms(1_900));
    assert!(!net.settled(0), "node-2 is listed and was not heard of");
    net.run_for(ms(200));
    assert!(net.settled(0));
    assert_eq!(net.alive(0), ["node-0", "node-1"]);
}

#[test]
fn another_key_is_another_mesh() {
    let mut net = Net::stopped(3, 11);
    net.start(0, 0);
    net.start(1, 0);
    net.start_with_key(2, b"another key");
    net.run_for(secs(5));
    assert_eq!(net.alive(0), ["node-0", "node-1"]);
    assert_eq!(net.alive(2), ["node-2"]);
    assert!(net.counters(0).unauthentic > 0);
    assert!(net.counters(2).unauthentic > 0);
    assert_eq!(net.counters(2).received, 0);
}

#[test]
fn at_rest_there_are_only_probes() {
    let mut net = Net::new(5, 12);
    net.run_for(secs(30));
    let before = net.counters(0).sent;
    net.run_for(secs(100));
    let per_second = (net.counters(0).sent - before) as f64 / 100.0;
    // A ping in each period of 150 ms, and as many answers to those of others.
    assert!((12.0..15.0).contains(&per_second), "{per_second} datagrams a second");
}

#[test]
fn replayed_datagrams_change_nothing() {
    let mut net = Net::new(3, 13);
    net.record = true;
    net.run_for(secs(2));
    net.leave(2);
    net.run_for(secs(2));
    net.record = false;
    net.forget_events();
    net.replay();
    net.run_for(secs(5));
    for node in [0, 1] {
        assert_eq!(net.alive(node), ["node-0", "node-1"], "who left stays away, whatever is replayed");
    }
}
