//! The cost of an event is the cost of what it changes: counted, not timed.

use super::*;
use crate::fixtures::pool;

/// Evaluations that each step takes with `n` Services about.
fn evaluations(n: u32) -> Vec<(&'static str, u64)> {
    let held = n / 2;
    let last = format!("1.0.{}.{}", (held - 1) / 256, (held - 1) % 256);
    let mut world = World::new([pool("p", &[&format!("1.0.0.0-{last}")]), pool("q", &["9.9.9.0-9.9.9.255"])]);
    world.checked = false;
    world.config.pools.get_mut("q").unwrap().auto_assign = false;
    world.reconfigure();
    for i in 0..n {
        world.apply(service(&format!("s{i:05}"), aged(i)));
    }
    assert_eq!(world.index.service_counts(), (n as usize, (n - held) as usize), "half of them wait");
    let mut steps = Vec::new();
    let mut step = |what, act: &dyn Fn(&mut World)| {
        let before = world.index.counters().evaluations;
        act(&mut world);
        steps.push((what, world.index.counters().evaluations - before));
    };
    step("a label changes", &|w| {
        w.apply(service("s00001", both(aged(1), json!({ "metadata": { "labels": { "a": "b" } } }))))
    });
    step("one more that waits", &|w| w.apply(service("z", aged(3000))));
    step("one that waits goes", &|w| w.delete("z"));
    step("one that holds goes, one that waits gets it", &|w| w.delete("s00002"));
    step("one is given an address of another pool", &|w| {
        w.apply(service("x", annotated("fairlead.dev/address-pool", "q")))
    });
    step("a namespace comes", &|w| w.namespace("new", &[("a", "b")]));
    step("the configuration is listed again", &|w| w.reconfigure());
    step("an advertisement of another pool comes", &|w| {
        w.config.l2_advertisements.insert("q".into(), advertisement("q", &["q"]));
        w.reconfigure();
    });
    steps
}

#[test]
fn an_event_touches_as_many_services_with_2000_about_as_with_100() {
    let few = evaluations(100);
    assert_eq!(few, evaluations(2000));
    assert!(few.iter().all(|(_, evaluations)| *evaluations <= 4), "{few:?}");
}
