//! The interfaces of each speaker are known to all others, whatever datagrams are lost.

use super::*;

#[test]
fn change_reaches_every_member_within_milliseconds() {
    for size in [2, 3, 16, 50] {
        let mut network = Network::new(size, 7);
        network.run_for(JOINED);
        assert!(network.interfaces_agree(), "{size} nodes");
        network.set_interfaces(0, Some(&[]));
        network.run_for(ms(3));
        for node in 1..size {
            assert_eq!(network.interfaces(node, 0), Some(vec![]), "node {node} of {size}");
        }
    }
}

#[test]
fn joining_speaker_knows_all_interfaces_with_the_members() {
    for seed in 0..20 {
        let mut network = Network::stopped(5, seed);
        (0..4).for_each(|node| network.start(node, 0));
        network.run_for(JOINED);
        network.start(4, 0);
        while network.alive(4).len() < 5 {
            network.run_for(ms(1));
        }
        // One way takes 2 ms at most.
        network.run_for(ms(5));
        assert!(network.interfaces_agree(), "seed {seed}");
    }
}

#[test]
fn restarted_speaker_and_others_learn_everything_again() {
    for (seed, later) in (0..20).flat_map(|seed| [(seed, 1), (seed, 60_000), (seed, -600_000)]) {
        let mut network = Network::new(3, seed);
        network.run_for(JOINED);
        network.crash(0);
        network.run_for(ms(50 * seed));
        network.set_interfaces(0, Some(&["eth1"]));
        network.start(0, later);
        network.run_for(secs(2));
        assert!(network.interfaces_agree(), "seed {seed}, generation later by {later}");
    }
}

#[test]
fn interfaces_are_known_everywhere_despite_loss() {
    for (loss, size, seed) in [0.1, 0.3]
        .into_iter()
        .flat_map(|loss| (0..10).flat_map(move |seed| [(loss, 2, seed), (loss, 5, seed)]))
    {
        let mut network = Network::without_probes(size, seed);
        network.loss = loss;
        network.run_for(JOINED);
        for round in 0..5 {
            network.set_interfaces(0, Some(&[["eth0", "eth1"][round % 2]]));
            network.set_interfaces(1, Some(&["eth0", "bond0"][..1 + round % 2]));
            network.run_for(ms(30));
        }
        network.loss = 0.0;
        // The longest time between two repetitions by then.
        network.run_for(secs(10));
        assert!(network.interfaces_agree(), "{size} nodes, loss {loss}, seed {seed}");
    }
}

#[test]
fn partition_delays_the_interfaces_until_its_end() {
    for seed in 0..10 {
        let mut network = Network::new(4, seed);
        network.run_for(JOINED);
        network.partition(&[&[0, 1], &[2, 3]]);
        network.run_for(ms(100 * seed));
        network.set_interfaces(0, Some(&["eth1"]));
        network.set_interfaces(3, Some(&["eth2"]));
        network.run_for(secs(3));
        network.partition(&[]);
        network.run_for(secs(2));
        assert!(network.interfaces_agree(), "seed {seed}");
    }
}

#[test]
fn speaker_without_reports_is_a_member_of_unknown_interfaces() {
    let mut network = Network::stopped(3, 1);
    network.set_interfaces(2, None);
    (0..3).for_each(|node| network.start(node, 0));
    network.run_for(JOINED);
    assert_eq!(network.alive(0).len(), 3);
    assert_eq!(network.interfaces(0, 2), None);
    assert_eq!(network.interfaces(0, 1), Some(vec!["eth0"]));
}

/// At rest, the mesh sends as many datagrams as without reports.
#[test]
fn interfaces_cost_no_datagrams_at_rest() {
    let sent = |reports: bool| {
        let mut network = Network::stopped(3, 1);
        if !reports {
            (0..3).for_each(|node| network.set_interfaces(node, None));
        }
        (0..3).for_each(|node| network.start(node, 0));
        network.run_for(secs(5));
        let before = network.counters(0).sent;
        network.run_for(secs(60));
        network.counters(0).sent - before
    };
    let (with, without) = (sent(true), sent(false));
    assert!(with <= without + without / 50, "{with} datagrams in a minute, {without} without reports");
}
