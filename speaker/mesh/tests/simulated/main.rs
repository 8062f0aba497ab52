//! Clusters in simulated time: how fast a silent node is detected, and how rarely a live one is considered
//! dead.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod interfaces;
mod network;

use std::collections::BTreeSet;
use std::time::Duration;

use fairlead_mesh::{IsolationCause, MeshEvent};
use network::{Cut, Network, ms, secs};

/// Long enough for every speaker to be a member on every other.
const JOINED: Duration = secs(2);

#[test]
fn cluster_started_together_is_complete_in_a_second() {
    for size in [1, 2, 3, 5, 50] {
        let mut network = Network::new(size, 1);
        network.run_for(secs(1));
        for node in 0..size {
            assert_eq!(network.alive(node).len(), size, "node {node} of {size}");
        }
    }
}

/// Returns how long it takes until every other node has noticed a fault of a node, in milliseconds, sorted.
fn times_to_detect(
    size: usize,
    rounds: u64,
    new: fn(usize, u64) -> Network,
    fault: fn(&mut Network, usize),
) -> Vec<u128> {
    let mut times: Vec<u128> = (0..rounds)
        .map(|round| {
            let mut network = new(size, 100 + round);
            // At different points of the probe period.
            network.run_for(JOINED + ms(37 * round));
            fault(&mut network, 0);
            network.clear_events();
            network.run_for(secs(2));
            let others: BTreeSet<usize> = (1..size).collect();
            let downs =
                network.events().iter().filter(|(_, _, event)| *event == MeshEvent::Down("node-0".into()));
            let informed: BTreeSet<usize> = downs.clone().map(|(_, node, _)| *node).collect();
            assert_eq!(informed, others, "every other node has the event");
            assert_eq!(network.events().len(), others.len(), "once each, and for no other node");
            downs.map(|(at, ..)| at.as_millis()).max().unwrap()
        })
        .collect();
    times.sort();
    times
}

fn expect_detection(size: usize, times: &[u128], worst_allowed: u128) {
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{size:5}  {:6}  {median:4} ms  {worst:4} ms", times.len());
    assert!(worst <= worst_allowed, "{size} nodes: {worst} ms");
}

#[test]
fn swim_takes_silent_node_down_within_limit() {
    println!("nodes  rounds   median    worst");
    for (size, rounds, worst) in [(2, 100, 900), (3, 100, 1_200), (5, 100, 1_400), (50, 6, 1_500)] {
        expect_detection(size, &times_to_detect(size, rounds, Network::without_probes, Network::kill), worst);
    }
}

#[test]
fn dead_node_is_down_everywhere_within_300_ms() {
    println!("nodes  rounds   median    worst");
    // Two nodes need evidence, more than sixteen tell each other.
    for (size, rounds, worst) in [(2, 100, 280), (3, 100, 200), (5, 100, 200), (16, 5, 300), (50, 2, 350)] {
        expect_detection(size, &times_to_detect(size, rounds, Network::new, Network::kill), worst);
    }
}

#[test]
fn dead_speaker_of_live_node_is_down_everywhere_within_limit() {
    println!("nodes  rounds   median    worst");
    for (size, rounds, worst) in [(2, 100, 500), (3, 100, 600), (5, 100, 800)] {
        expect_detection(size, &times_to_detect(size, rounds, Network::new, Network::crash), worst);
    }
}

#[test]
fn node_that_drops_echo_requests_stays_member() {
    for (size, seed) in (0..20).flat_map(|seed| [(2, seed), (3, seed), (5, seed)]) {
        let mut network = Network::new(size, seed);
        network.run_for(JOINED + ms(17 * seed));
        network.clear_events();
        network.cut(Some((0, Cut::Echo)));
        network.run_for(secs(3));
        assert_eq!(network.events(), [], "{size} nodes, seed {seed}");
    }
}

#[test]
fn broken_path_between_two_nodes_takes_neither_down_for_long() {
    for (size, limit) in [(3, 600), (5, 1_000)] {
        for seed in 0..10 {
            let mut network = Network::new(size, seed);
            network.run_for(JOINED + ms(17 * seed));
            network.clear_events();
            network.cut(Some((0, Cut::Path(1))));
            network.run_for(secs(10));
            let name = format!("{size} nodes, seed {seed}");
            for (node, other) in [(0, "node-1"), (1, "node-0")] {
                let of = |event: &MeshEvent| *event == MeshEvent::Down(other.into());
                let downs: Vec<_> =
                    network.events().iter().filter(|(_, by, event)| *by == node && of(event)).collect();
                assert!(downs.len() <= 1, "{name}: {:?}", network.events());
                for (down, ..) in downs {
                    let back = network.events().iter().find(|(at, by, event)| {
                        at > down && *by == node && *event == MeshEvent::Up(other.into())
                    });
                    let time = back.map(|(up, ..)| *up - *down);
                    assert!(time.is_some_and(|time| time <= ms(limit)), "{name}: node {node} after {time:?}");
                }
                assert_eq!(network.alive(node).len(), size, "{name}");
            }
        }
    }
}

#[test]
fn node_back_after_short_cut_is_member_again() {
    for (size, seed) in (0..20).flat_map(|seed| [(2, seed), (3, seed), (5, seed)]) {
        for cut in [30, 120, 170, 250, 400, 900] {
            let mut network = Network::new(size, seed);
            network.run_for(JOINED + ms(13 * seed));
            let rest: Vec<usize> = (1..size).collect();
            network.partition(&[&[0], &rest]);
            network.run_for(ms(cut));
            network.partition(&[]);
            network.run_for(ms(1_200));
            let name = format!("{size} nodes, seed {seed}, cut for {cut} ms");
            assert_eq!((network.alive(0).len(), network.isolation(0)), (size, None), "{name}");
            for node in 0..size {
                assert_eq!(network.alive(node).len(), size, "{name}, node {node}");
            }
            network.clear_events();
            network.run_for(secs(3));
            assert_eq!(network.events(), [], "{name}: no change afterwards");
        }
    }
}

#[test]
fn node_heard_again_after_short_silence_is_member_again() {
    for (size, seed) in (0..20).flat_map(|seed| [(2, seed), (3, seed)]) {
        for cut in (150..750).step_by(50) {
            let mut network = Network::new(size, seed);
            network.run_for(JOINED + ms(13 * seed));
            network.cut(Some((0, Cut::Outgoing)));
            network.run_for(ms(cut + 2 * seed));
            network.cut(None);
            network.run_for(secs(2));
            for node in 0..size {
                let name = format!("{size} nodes, seed {seed}, silent for {cut} ms, node {node}");
                assert_eq!(network.alive(node).len(), size, "{name}");
            }
        }
    }
}

#[test]
fn five_percent_loss_takes_no_member_down() {
    for (size, time, seed) in [(3, secs(600), 7), (5, secs(600), 8), (50, secs(10), 7)] {
        let mut network = Network::new(size, seed);
        network.run_for(JOINED);
        network.loss = 0.05;
        network.clear_events();
        network.run_for(time);
        assert_eq!(network.events(), [], "{size} nodes, 5 % loss, {time:?}");
    }
}

#[test]
fn loss_takes_no_node_of_two_down() {
    for (new, loss) in [(Network::new as fn(usize, u64) -> Network, 0.1), (Network::without_probes, 0.1)] {
        let mut network = new(2, 21);
        network.run_for(JOINED);
        network.loss = loss;
        network.clear_events();
        network.run_for(secs(600));
        let downs = network.events().iter().filter(|(.., event)| matches!(event, MeshEvent::Down(_)));
        assert_eq!(downs.count(), 0, "{loss}: {:?}", network.events());
    }
}

#[test]
fn partition_is_detected_and_heals() {
    let mut network = Network::new(5, 3);
    network.run_for(JOINED);
    network.partition(&[&[0, 1], &[2, 3, 4]]);
    network.run_for(secs(3));
    assert_eq!(network.alive(0), ["node-0", "node-1"]);
    assert_eq!(network.alive(4), ["node-2", "node-3", "node-4"]);
    network.partition(&[]);
    network.run_for(ms(1_200));
    for node in 0..5 {
        assert_eq!(network.alive(node).len(), 5, "node {node}");
    }
    network.clear_events();
    network.run_for(secs(60));
    assert_eq!(network.events(), [], "no change after the partition healed");
}

#[test]
fn isolated_node_rejoins_after_partition() {
    for size in [3, 50] {
        let mut network = Network::new(size, 4);
        network.run_for(JOINED);
        let rest: Vec<usize> = (1..size).collect();
        network.partition(&[&[0], &rest]);
        network.run_for(secs(30));
        assert_eq!(network.alive(0).len(), size, "it takes nobody for dead");
        assert_eq!(network.isolation(0), Some(IsolationCause::NothingAnswers));
        assert_eq!(network.alive(1).len(), size - 1);
        network.partition(&[]);
        network.run_for(ms(1_500));
        for node in 0..size {
            assert_eq!(network.alive(node).len(), size, "node {node} of {size}");
        }
    }
}

#[test]
fn node_that_is_cut_off_takes_nobody_for_dead() {
    use IsolationCause::{NothingAnswers, OthersAlive};
    for (cut, cause) in
        [(Cut::Incoming, NothingAnswers), (Cut::Outgoing, OthersAlive), (Cut::MeshPort, OthersAlive)]
    {
        for (size, seed) in (0..20).flat_map(|seed| [(2, seed), (3, seed), (5, seed)]) {
            let mut network = Network::new(size, seed);
            network.run_for(JOINED + ms(37 * seed));
            network.clear_events();
            network.cut(Some((0, cut)));
            network.run_for(secs(5));
            let name = format!("{cut:?}, {size} nodes, seed {seed}");
            let downs = |network: &Network, by: usize| {
                network
                    .events()
                    .iter()
                    .filter(|(_, at, event)| *at == by && matches!(event, MeshEvent::Down(_)))
                    .count()
            };
            assert_eq!(downs(&network, 0), 0, "{name}: {:?}", network.events());
            assert_eq!((network.alive(0).len(), network.isolation(0)), (size, Some(cause)), "{name}");
            if size > 2 {
                assert_eq!(downs(&network, 1), 1, "{name}: the others replace it");
                assert_eq!(network.isolation(1), None, "{name}");
            }
            network.cut(None);
            network.run_for(ms(1_500));
            for node in 0..size {
                assert_eq!((network.alive(node).len(), network.isolation(node)), (size, None), "{name}");
            }
            network.clear_events();
            network.run_for(secs(5));
            assert_eq!(network.events(), [], "{name}: no change afterwards");
        }
    }
}

#[test]
fn death_of_all_others_is_detected_within_limit() {
    type Fault = fn(&mut Network, usize);
    let faults: [(&str, Fault); 3] = [
        ("power", Network::kill),
        ("process", Network::crash),
        ("leave", |network, node| {
            network.leave(node);
            network.run_for(ms(100));
            network.crash(node);
        }),
    ];
    for (name, fault) in faults {
        for (size, seed) in (0..20).flat_map(|seed| [(2, seed), (3, seed)]) {
            let mut network = Network::new(size, seed);
            network.run_for(JOINED + ms(37 * seed));
            (1..size).for_each(|node| fault(&mut network, node));
            network.run_for(ms(1_400));
            let name = format!("{name}, {size} nodes, seed {seed}");
            assert_eq!((network.alive(0), network.isolation(0)), (vec!["node-0"], None), "{name}");
        }
    }
}

#[test]
fn deaths_one_after_the_other_are_detected() {
    for seed in 0..20 {
        let mut network = Network::new(3, seed);
        network.run_for(JOINED);
        network.kill(2);
        network.run_for(ms(300) + ms(50 * seed));
        network.kill(1);
        network.run_for(ms(1_400));
        assert_eq!((network.alive(0), network.isolation(0)), (vec!["node-0"], None), "seed {seed}");
    }
}

#[test]
fn node_that_starts_alone_is_isolated_until_proven() {
    for (name, cut, others_run, expected) in [
        ("the others are down", None, false, None),
        ("nothing answers", Some(Cut::Router), false, Some(IsolationCause::NothingAnswers)),
        ("its port is blocked", Some(Cut::MeshPort), true, Some(IsolationCause::OthersAlive)),
    ] {
        let mut network = Network::stopped(3, 14);
        (1..3).for_each(|node| network.kill(node));
        network.cut(cut.map(|cut| (0, cut)));
        if others_run {
            (1..3).for_each(|node| network.start(node, 0));
        }
        network.start(0, 0);
        network.run_for(secs(2));
        assert_eq!((network.alive(0), network.isolation(0)), (vec!["node-0"], expected), "{name}");
    }
}

#[test]
fn reports_of_returning_node_take_no_live_member_down() {
    for (size, seed) in (0..20).flat_map(|seed| [(3, seed), (5, seed)]) {
        let mut network = Network::new(size, seed);
        network.run_for(JOINED);
        let rest: Vec<usize> = (1..size).collect();
        network.partition(&[&[0], &rest]);
        network.run_for(secs(6));
        network.partition(&[]);
        network.clear_events();
        network.run_for(secs(3));
        let wrong =
            network.events().iter().find(|(_, at, event)| *at != 0 && matches!(event, MeshEvent::Down(_)));
        assert_eq!(wrong, None, "{size} nodes, seed {seed}");
        assert_eq!(network.alive(1).len(), size);
    }
}

#[test]
fn restarted_speaker_is_member_within_a_second() {
    for (name, pause, later) in [
        ("at once", ms(50), 10_i64),
        ("after it was considered dead", secs(10), 10),
        ("with a clock set back by a day", secs(10), -86_400_000),
    ] {
        let mut network = Network::new(3, 5);
        network.run_for(JOINED);
        network.kill(0);
        network.run_for(pause);
        network.start(0, later);
        network.run_for(secs(1));
        for node in 0..3 {
            assert_eq!(network.alive(node).len(), 3, "{name}: node {node}");
        }
        network.clear_events();
        network.run_for(secs(60));
        assert_eq!(network.events(), [], "{name}: no change afterwards");
    }
}

#[test]
fn speaker_that_left_has_announced_nothing_when_it_returns() {
    for (leaves, expected) in [(true, 0), (false, 1)] {
        let mut network = Network::new(3, 5);
        network.run_for(JOINED);
        let arrivals = |network: &Network| network.running(1).unwrap().arrivals();
        let before = arrivals(&network);
        if leaves {
            network.leave(0);
            network.run_for(ms(300));
        }
        network.kill(0);
        network.run_for(secs(3));
        network.start(0, 10);
        network.run_for(secs(2));
        assert_eq!(network.alive(1).len(), 3);
        assert_eq!(arrivals(&network) - before, expected, "it leaves: {leaves}");
    }
}

#[test]
fn node_with_another_address_stays_member() {
    for (size, seed) in [(2, 1), (3, 2), (10, 3)] {
        let mut network = Network::new(size, seed);
        network.run_for(secs(3));
        network.clear_events();
        network.change_address(0);
        network.run_for(secs(5));
        network.list_addresses();
        network.run_for(secs(5));
        assert_eq!(network.events(), [], "no speaker takes another for dead");
        assert!((0..size).all(|node| network.alive(node).len() == size && network.isolation(node).is_none()));
        // The others probe the new address: its death is detected.
        network.kill(0);
        network.run_for(secs(3));
        assert!((1..size).all(|node| network.alive(node).len() == size - 1));
    }
}

#[test]
fn leaving_speaker_is_down_everywhere_within_250_ms() {
    for size in [3, 50] {
        let mut network = Network::new(size, 6);
        network.run_for(JOINED);
        network.loss = 0.05;
        network.clear_events();
        network.leave(0);
        network.run_for(ms(250));
        let downs = network
            .events()
            .iter()
            .filter(|(_, _, event)| *event == MeshEvent::Down("node-0".into()))
            .count();
        assert_eq!(downs, size - 1);
        network.run_for(secs(5));
        assert_eq!(network.events().len(), size - 1, "it stays down, and no other node changes");
    }
}

#[test]
fn lost_first_leave_message_costs_less_than_100_ms() {
    for seed in 0..20 {
        let mut network = Network::new(3, seed);
        network.run_for(JOINED);
        network.clear_events();
        network.partition(&[&[0], &[1, 2]]);
        network.leave(0);
        network.run_for(ms(20));
        network.partition(&[]);
        // The second message comes after 30 ms. A member that another one tells first waits 50 ms.
        network.run_for(ms(70));
        let downs = network.events().iter().filter(|(.., event)| *event == MeshEvent::Down("node-0".into()));
        assert_eq!(downs.count(), 2, "seed {seed}: {:?}", network.events());
    }
}

#[test]
fn stalled_process_takes_no_member_down_and_rejoins() {
    let mut network = Network::new(3, 9);
    network.run_for(JOINED);
    network.clear_events();
    network.stall(0, ms(400));
    network.run_for(secs(10));
    assert_eq!(network.events(), [], "a short stall has no effect");
    network.stall(0, secs(5));
    network.run_for(secs(20));
    let by_stalled =
        network.events().iter().filter(|(_, node, event)| *node == 0 && matches!(event, MeshEvent::Down(_)));
    assert_eq!(by_stalled.count(), 0, "the stalled process reports no death: {:?}", network.events());
    for node in 0..3 {
        assert_eq!(network.alive(node).len(), 3, "node {node}");
    }
}

#[test]
fn speaker_with_another_key_does_not_join() {
    let mut network = Network::stopped(3, 11);
    network.start(0, 0);
    network.start(1, 0);
    network.start_with_key(2, b"another key");
    network.run_for(secs(5));
    assert_eq!(network.alive(0), ["node-0", "node-1"]);
    assert_eq!(network.alive(2), ["node-2"]);
    assert_eq!(network.isolation(2), Some(IsolationCause::OthersAlive));
    assert_eq!(network.isolation(0), None);
    assert!(network.counters(0).unauthentic > 0);
    assert!(network.counters(2).unauthentic > 0);
    assert_eq!(network.counters(2).received, 0);
}

#[test]
fn idle_mesh_sends_only_probes() {
    let mut network = Network::new(5, 12);
    network.run_for(secs(30));
    let before = network.counters(0).sent;
    network.run_for(secs(100));
    let per_second = (network.counters(0).sent - before) as f64 / 100.0;
    // One ping in each period of 150 ms, and as many answers to the pings of others.
    assert!((12.0..15.0).contains(&per_second), "{per_second} datagrams a second");
}

#[test]
fn replayed_datagrams_do_not_revive_left_speaker() {
    let mut network = Network::new(3, 13);
    network.record = true;
    network.run_for(secs(2));
    network.leave(2);
    network.run_for(secs(2));
    network.record = false;
    network.clear_events();
    network.replay();
    network.run_for(secs(5));
    for node in [0, 1] {
        assert_eq!(network.alive(node), ["node-0", "node-1"], "node-2 stays down");
    }
}
