//! Properties that hold for several candidates under any faults.

use proptest::prelude::*;

use super::simulation::{Network, Simulation, cases};
use super::*;

/// Largest deviation of the rate of a clock, in parts per million: 5 %, far more than that of real clocks.
const DRIFT: u128 = 50_000;
/// Longest delay of a request, or of a response.
const MAX_DELAY: Duration = s(8);
const MAX_SUSPENSION_MS: u64 = 30_000;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Start,
    Crash(usize),
    Pause(usize, u64),
    Release(usize),
    Touch,
    Network(Network),
}

fn network() -> impl Strategy<Value = Network> {
    let share = || prop_oneof![3 => Just(0.0), 2 => 0.0..0.5, 1 => Just(1.0)];
    let delay = prop_oneof![2 => 0..100u64, 1 => 0..MAX_DELAY.as_millis() as u64];
    (delay, share(), share(), share()).prop_map(|(delay, lost, refused, conflicts)| Network {
        delay: ms(delay),
        lost,
        refused,
        conflicts,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..8usize;
    prop_oneof![
        8 => (0..15_000u64).prop_map(Step::Wait),
        2 => Just(Step::Start),
        2 => index.clone().prop_map(Step::Crash),
        3 => (index.clone(), 0..MAX_SUSPENSION_MS).prop_map(|(index, pause)| Step::Pause(index, pause)),
        2 => index.prop_map(Step::Release),
        1 => Just(Step::Touch),
        3 => network().prop_map(Step::Network),
    ]
}

/// Checks that no candidate sends more than four requests per retry period, the most that back-off allows.
fn no_hot_loop(simulation: &Simulation) -> Result<(), TestCaseError> {
    for candidate in &simulation.candidates {
        let lived = candidate.ended.unwrap_or(simulation.now) - candidate.started;
        let periods = lived.div_duration_f64(simulation.timing.retry_period());
        prop_assert!(candidate.requests as f64 <= 4.0 * periods + 8.0, "{} in {lived:?}", candidate.requests);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(256))]
    #[test]
    fn at_most_one_leads_and_finally_one_does(
        seed in any::<u64>(),
        candidates in 1..5usize,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut simulation = Simulation::new(seed);
        simulation.drift = DRIFT;
        for _ in 0..candidates {
            simulation.start();
        }
        for step in steps {
            let index = |number: usize, simulation: &Simulation| {
                let alive = simulation.alive();
                (!alive.is_empty()).then(|| alive[number % alive.len()])
            };
            // The simulation asserts after each event that at most one leads.
            match step {
                Step::Wait(time) => simulation.pass(ms(time)),
                Step::Start => drop(simulation.start()),
                Step::Crash(number) => {
                    let index = index(number, &simulation);
                    index.into_iter().for_each(|index| simulation.crash(index));
                }
                Step::Pause(number, pause) => {
                    let index = index(number, &simulation);
                    index.into_iter().for_each(|index| simulation.pause(index, ms(pause)));
                }
                Step::Release(number) => {
                    let index = index(number, &simulation);
                    index.into_iter().for_each(|index| simulation.release(index));
                }
                Step::Touch => simulation.touch(),
                Step::Network(network) => simulation.network = network,
            }
        }
        no_hot_loop(&simulation)?;

        // No faults from here. Delayed requests arrive, and suspended processes resume.
        simulation.network = Network::GOOD;
        simulation.start();
        simulation.pass(MAX_DELAY.max(ms(MAX_SUSPENSION_MS)));
        simulation.until(s(10 + 1 + 2), |simulation| simulation.leader().is_some());
        let (leader, gains) = (simulation.leader(), simulation.gains.len());
        for _ in 0..60 {
            simulation.pass(s(1));
            prop_assert_eq!(simulation.leader(), leader);
        }
        prop_assert_eq!(simulation.gains.len(), gains, "the term does not end");
        no_hot_loop(&simulation)?;
    }

    #[test]
    fn crash_and_release_hand_over_in_time(
        seed in any::<u64>(),
        candidates in 2..5usize,
        delay in 0..250u64,
        calm in 15_000..30_000u64,
    ) {
        let delay = ms(delay);
        let mut simulation = Simulation::new(seed);
        simulation.network.delay = delay;
        for _ in 0..candidates {
            simulation.start();
        }
        // The delay of several round trips, and the polling step of this test.
        let slack = delay * 8 + ms(20);
        simulation.until(s(1) + slack, |simulation| simulation.leader().is_some());
        simulation.pass(ms(calm));
        let first = simulation.leader().unwrap();
        simulation.crash(first);
        simulation.until(s(10) + s(1) + slack, |simulation| simulation.leader().is_some());
        simulation.start();
        simulation.pass(ms(calm));
        let second = simulation.leader().unwrap();
        prop_assert_ne!(first, second);
        simulation.release(second);
        simulation.until(s(1) + slack, |simulation| simulation.leader().is_some());
        prop_assert_ne!(simulation.leader(), Some(second));
        prop_assert_eq!(simulation.gains.len(), 3);
        prop_assert_eq!(simulation.lease.as_ref().unwrap().record.transitions, 2);
    }
}

#[test]
fn suspended_leader_resumes_as_standby() {
    let mut simulation = Simulation::new(1);
    for _ in 0..3 {
        simulation.start();
    }
    simulation.pass(s(30));
    let first = simulation.leader().unwrap();
    simulation.pause(first, s(60));
    // `leads` is still evaluated for the suspended process, as for a write that it sends when it resumes.
    simulation.pass(s(7));
    assert_eq!(simulation.leader(), None);
    simulation.until(s(10), |simulation| simulation.leader().is_some());
    let second = simulation.leader().unwrap();
    assert_ne!(first, second);
    simulation.pass(s(120));
    assert_eq!(simulation.leader(), Some(second));
    assert_eq!(simulation.gains.len(), 2);
}

#[test]
fn outage_ends_leadership_only_after_the_deadline() {
    for (outage, terms) in [(s(3), 1), (s(12), 2)] {
        let mut simulation = Simulation::new(2);
        simulation.start();
        simulation.start();
        simulation.pass(s(30));
        simulation.network.lost = 1.0;
        simulation.pass(outage);
        assert_eq!(simulation.leader().is_some(), terms == 1, "{outage:?}");
        simulation.network.lost = 0.0;
        // A request times out, then the back-off ends.
        simulation.until(s(9), |simulation| simulation.leader().is_some());
        simulation.pass(s(30));
        assert_eq!(simulation.gains.len(), terms, "{outage:?}");
    }
}

#[test]
fn deleted_lease_never_gives_two_leaders() {
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed);
        for _ in 0..4 {
            simulation.start();
        }
        simulation.pass(s(30) + ms(100 * seed));
        simulation.lease = None;
        simulation.pass(s(30));
        assert!(simulation.leader().is_some());
    }
}

#[test]
fn at_rest_leader_renews_at_2s_and_standbys_read_at_1s() {
    let mut simulation = Simulation::new(3);
    for _ in 0..3 {
        simulation.start();
    }
    simulation.pass(s(30));
    let before: Vec<usize> = simulation.candidates.iter().map(|candidate| candidate.requests).collect();
    simulation.pass(s(100));
    for (index, candidate) in simulation.candidates.iter().enumerate() {
        let requests = candidate.requests - before[index];
        let expected = if simulation.leader() == Some(index) { 49..=63 } else { 95..=126 };
        assert!(expected.contains(&requests), "{index}: {requests}");
    }
}
