//! What is true of several candidates, whatever happens to them.

use proptest::prelude::*;

use super::simulation::{Network, World, cases};
use super::*;

/// Clocks may differ by so many millionths: a twentieth, far more than real ones do.
const DRIFT: u128 = 50_000;
/// The longest delay of a request, or of an answer.
const LATEST: Duration = s(8);
const LONGEST_PAUSE_OF_A_PROCESS: u64 = 30_000;

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
    let delay = prop_oneof![2 => 0..100u64, 1 => 0..LATEST.as_millis() as u64];
    (delay, share(), share(), share()).prop_map(|(delay, lost, refused, conflicts)| Network {
        delay: ms(delay),
        lost,
        refused,
        conflicts,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..8usize;
    prop_oneof![
        8 => (0..15_000u64).prop_map(Step::Wait),
        2 => Just(Step::Start),
        2 => who.clone().prop_map(Step::Crash),
        3 => (who.clone(), 0..LONGEST_PAUSE_OF_A_PROCESS).prop_map(|(who, pause)| Step::Pause(who, pause)),
        2 => who.prop_map(Step::Release),
        1 => Just(Step::Touch),
        3 => network().prop_map(Step::Network),
    ]
}

/// Nobody asks without a pause: four requests in a retry period are the most that failures and new hope make together.
fn no_hot_loop(world: &World) -> Result<(), TestCaseError> {
    for candidate in &world.candidates {
        let lived = candidate.ended.unwrap_or(world.now) - candidate.started;
        let periods = lived.div_duration_f64(world.timing.retry_period());
        prop_assert!(candidate.requests as f64 <= 4.0 * periods + 8.0, "{} in {lived:?}", candidate.requests);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(256))]
    #[test]
    fn two_never_lead_and_in_the_end_one_does(
        seed in any::<u64>(),
        candidates in 1..5usize,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(seed);
        world.drift = DRIFT;
        for _ in 0..candidates {
            world.start();
        }
        for step in steps {
            let who = |number: usize, world: &World| {
                let alive = world.alive();
                (!alive.is_empty()).then(|| alive[number % alive.len()])
            };
            // That at most one leads is asserted whenever something happens.
            match step {
                Step::Wait(time) => world.pass(ms(time)),
                Step::Start => drop(world.start()),
                Step::Crash(number) => who(number, &world).into_iter().for_each(|who| world.crash(who)),
                Step::Pause(number, pause) => {
                    who(number, &world).into_iter().for_each(|who| world.pause(who, ms(pause)));
                }
                Step::Release(number) => who(number, &world).into_iter().for_each(|who| world.release(who)),
                Step::Touch => world.touch(),
                Step::Network(network) => world.network = network,
            }
        }
        no_hot_loop(&world)?;

        // All goes well from here, when what is late has arrived and who was stopped goes on.
        world.network = Network::GOOD;
        world.start();
        world.pass(LATEST.max(ms(LONGEST_PAUSE_OF_A_PROCESS)));
        world.until(s(10 + 1 + 2), |world| world.leader().is_some());
        let (leader, gains) = (world.leader(), world.gains.len());
        for _ in 0..60 {
            world.pass(s(1));
            prop_assert_eq!(world.leader(), leader);
        }
        prop_assert_eq!(world.gains.len(), gains, "without a gap");
        no_hot_loop(&world)?;
    }

    #[test]
    fn after_a_crash_and_after_a_release_another_leads_in_time(
        seed in any::<u64>(),
        candidates in 2..5usize,
        delay in 0..250u64,
        calm in 15_000..30_000u64,
    ) {
        let delay = ms(delay);
        let mut world = World::new(seed);
        world.network.delay = delay;
        for _ in 0..candidates {
            world.start();
        }
        // What is late by one and the other side, and the step in which this test looks.
        let slack = delay * 8 + ms(20);
        world.until(s(1) + slack, |world| world.leader().is_some());
        world.pass(ms(calm));
        let first = world.leader().unwrap();
        world.crash(first);
        world.until(s(10) + s(1) + slack, |world| world.leader().is_some());
        world.start();
        world.pass(ms(calm));
        let second = world.leader().unwrap();
        prop_assert_ne!(first, second);
        world.release(second);
        world.until(s(1) + slack, |world| world.leader().is_some());
        prop_assert_ne!(world.leader(), Some(second));
        prop_assert_eq!(world.gains.len(), 3);
        prop_assert_eq!(world.lease.as_ref().unwrap().record.transitions, 2);
    }
}

#[test]
fn a_leader_that_is_stopped_and_goes_on_finds_another_leading() {
    let mut world = World::new(1);
    for _ in 0..3 {
        world.start();
    }
    world.pass(s(30));
    let first = world.leader().unwrap();
    world.pause(first, s(60));
    // Paused, it is still asked whether it leads: by a write that it does when it goes on.
    world.pass(s(7));
    assert_eq!(world.leader(), None);
    world.until(s(10), |world| world.leader().is_some());
    let second = world.leader().unwrap();
    assert_ne!(first, second);
    world.pass(s(120));
    assert_eq!(world.leader(), Some(second));
    assert_eq!(world.gains.len(), 2);
}

#[test]
fn an_outage_longer_than_the_deadline_ends_leadership_and_a_shorter_one_does_not() {
    for (outage, terms) in [(s(3), 1), (s(12), 2)] {
        let mut world = World::new(2);
        world.start();
        world.start();
        world.pass(s(30));
        world.network.lost = 1.0;
        world.pass(outage);
        assert_eq!(world.leader().is_some(), terms == 1, "{outage:?}");
        world.network.lost = 0.0;
        // Who waits for an answer, and then for the end of its pause.
        world.until(s(9), |world| world.leader().is_some());
        world.pass(s(30));
        assert_eq!(world.gains.len(), terms, "{outage:?}");
    }
}

#[test]
fn a_lease_that_somebody_deletes_never_makes_two_leaders_of_those_who_saw_it() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        for _ in 0..4 {
            world.start();
        }
        world.pass(s(30) + ms(100 * seed));
        world.lease = None;
        world.pass(s(30));
        assert!(world.leader().is_some());
    }
}

#[test]
fn at_rest_a_leader_renews_every_two_seconds_and_others_look_every_second() {
    let mut world = World::new(3);
    for _ in 0..3 {
        world.start();
    }
    world.pass(s(30));
    let before: Vec<usize> = world.candidates.iter().map(|candidate| candidate.requests).collect();
    world.pass(s(100));
    for (who, candidate) in world.candidates.iter().enumerate() {
        let requests = candidate.requests - before[who];
        let expected = if world.leader() == Some(who) { 49..=63 } else { 95..=126 };
        assert!(expected.contains(&requests), "{who}: {requests}");
    }
}
