//! Random sequences of operations: the invariants hold after each step, and a new controller agrees with the
//! running one.

use std::net::IpAddr;
use std::time::Duration;

use fairlead_crds::model::config::{Closed, Pool, Reclaim, SharingScope};
use proptest::prelude::*;

use super::*;
use fairlead_test_support::{pinned, pool, pools, refused, retaining};

#[derive(Clone, Debug)]
enum Step {
    Apply { name: u8, variant: u8, port: u16 },
    Delete { name: u8 },
    Pools { variants: [u8; 3] },
    Claim { name: u8, service: u8, kind: u8 },
    Unclaim { name: u8 },
    Wait { seconds: i64 },
    Restart,
}

/// Returns a configuration that prints failures and does not store them in files.
pub(super) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12u8, 0..16u8, 80..83u16)
            .prop_map(|(name, variant, port)| Step::Apply { name, variant, port }),
        2 => (0..12u8).prop_map(|name| Step::Delete { name }),
        3 => [0..POOLS, 0..POOLS, 0..POOLS].prop_map(|variants| Step::Pools { variants }),
        2 => (0..4u8, 0..12u8, 0..6u8).prop_map(|(name, service, kind)| Step::Claim { name, service, kind }),
        1 => (0..4u8).prop_map(|name| Step::Unclaim { name }),
        1 => (1..9i64).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Restart),
    ]
}

/// Returns the name of a Service; some are in another Namespace.
fn name_of(service: u8) -> String {
    format!("{}/s{service}", if service % 4 == 3 { "team" } else { "default" })
}

fn claim_of(service: u8, kind: u8) -> Value {
    let mut spec = match kind {
        0 => json!({ "addresses": ["1.0.0.1"] }),
        1 => json!({ "addresses": ["1.0.0.2", "1::1"] }),
        2 => json!({ "pool": "a" }),
        3 => json!({ "pool": "b", "ipFamilies": ["IPv4", "IPv6"] }),
        4 => json!({ "pool": "c", "ipFamilies": ["IPv6"] }),
        _ => json!({ "addresses": ["nonsense"] }),
    };
    spec["serviceName"] = json!(format!("s{service}"));
    spec
}

pub(super) fn variant(variant: u8) -> Value {
    let dual = &["10.96.0.1", "fd00::1"];
    match variant {
        0..=2 => json!({}),
        3 => families(&["fd00::1"], "SingleStack"),
        4 => families(dual, "RequireDualStack"),
        5 => families(dual, "PreferDualStack"),
        6 => annotated(REQUEST_POOL, "b"),
        7 => annotated(REQUEST_IPS, "1.0.0.2"),
        8 => annotated(SHARING_KEY, "k"),
        9 => both(annotated(SHARING_KEY, "k"), json!({ "spec": { "externalTrafficPolicy": "Local" } })),
        10 => annotated(REQUEST_IPS, "nonsense"),
        11 => annotated(REQUEST_IPS, "2.0.0.0"),
        12 => both(families(dual, "RequireDualStack"), annotated(REQUEST_IPS, "2::1,1.0.0.1")),
        13 => both(families(dual, "RequireDualStack"), annotated(SHARING_KEY, "k")),
        14 => annotated(REQUEST_POOL, "a"),
        _ => json!({ "spec": { "type": "ClusterIP" } }),
    }
}

/// Returns variants of the pools a, b and c, in force or refused.
pub(super) fn pools_of(variants: [u8; 3]) -> Config {
    let of = |name: &str, n: u8, variant: u8, next: u8| {
        let all = [format!("{n}.0.0.0-{n}.0.0.3"), format!("{n}::1-{n}::2")];
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        Some(match variant {
            0 => return None,
            1 => pool(name, &all),
            2 => pool(name, &all[..1]),
            3 => pinned(pool(name, &all), 1, &["default"]),
            4 => Pool { avoid_buggy_ips: true, ..pool(name, &all) },
            5 => Pool { auto_assign: false, ..pool(name, &all) },
            REFUSED => refused(name),
            7 => retaining(pool(name, &all)),
            8 => retaining(pool(name, &all[1..])),
            9 => Pool { closed: Some(Closed::Disabled), ..retaining(pool(name, &all)) },
            10 => Pool { sharing: SharingScope::SameNamespace, ..pool(name, &all) },
            11 => retaining(pinned(pool(name, &[&format!("{n}.0.0.2-{n}.0.0.5")]), 1, &["team"])),
            // Contains part of the range of the next pool.
            12 if next == 0 => retaining(pool(name, &[&format!("{n}.0.0.0-{}.0.0.1", n + 1)])),
            12 => Pool { closed: Some(Closed::Deleting), ..retaining(pool(name, &all)) },
            13 => Pool { reuse_after: Duration::from_secs(5), ..pool(name, &all) },
            _ => Pool { reuse_after: Duration::from_secs(2), ..retaining(pool(name, &all[..1])) },
        })
    };
    let [a, b, c] = variants;
    let all = [of("a", 1, a, b), of("b", 2, b, c), of("c", 3, c, c)].into_iter().flatten();
    let (refused, mut in_force): (Vec<Pool>, Vec<Pool>) = all.partition(|pool| pool.ranges.is_empty());
    // The reason for the refusal of c: it overlaps b.
    if c == REFUSED
        && let Some(b) = in_force.iter_mut().find(|pool| pool.name == "b")
    {
        b.ranges.extend(pool("c", &["3.0.0.1-3.0.0.9", "3::1"]).ranges);
    }
    Config { pools: pools(in_force), refused_pools: pools(refused), ..Config::default() }
}

/// Adds so `many` other pools that messages do not name them. If so, all pools `retain`.
fn with_others(mut config: Config, many: bool, retain: bool) -> Config {
    let others = (0..6 * u8::from(many)).map(|n| {
        let other = pool(&format!("other{n}"), &[&format!("7.0.0.{n}")]);
        Pool { auto_assign: false, ..other }
    });
    config.pools.extend(others.map(|pool| (pool.name.clone(), pool)));
    for pool in config.pools.values_mut().filter(|_| retain) {
        pool.reclaim = Reclaim::Retain;
    }
    config
}

const REFUSED: u8 = 6;
pub(super) const POOLS: u8 = 15;

/// Returns the Services, except `touched`, that lost an address. Must be empty.
fn moved(before: &BTreeMap<String, String>, world: &World, touched: &str) -> Vec<String> {
    let after = world.results();
    let lost = |(name, had): &(&String, &String)| {
        **name != touched
            && had.contains(['.', ':'])
            && after.get(*name).is_some_and(|has| !has.contains(had.as_str()))
    };
    before.iter().filter(lost).map(|(name, had)| format!("{name}: {had} became {}", after[name])).collect()
}

/// Returns the pool and the reserved addresses of each claim.
fn reserved(world: &World) -> BTreeMap<ObjectKey, (String, Vec<IpAddr>)> {
    let claimed = |key: &ObjectKey| world.index.ipam().claimed(key).cloned();
    let all = world.claims.keys().filter_map(|key| Some((key.clone(), claimed(key)?)));
    all.map(|(key, claimed)| (key, (claimed.pool.to_string(), claimed.addresses))).collect()
}

/// Returns the existing claims that lost a reserved address. Must be empty.
fn lost_claims(before: &BTreeMap<ObjectKey, (String, Vec<IpAddr>)>, world: &World) -> Vec<String> {
    let after = reserved(world);
    let lost = |(claim, (_, had)): &(&ObjectKey, &(String, Vec<IpAddr>))| {
        let has = after.get(*claim).map_or(&[][..], |(_, has)| has);
        world.claims.contains_key(*claim) && !had.iter().all(|ip| has.contains(ip))
    };
    before.iter().filter(lost).map(|(claim, had)| format!("{claim}: {had:?}")).collect()
}

proptest! {
    #![proptest_config(cases(96))]
    #[test]
    fn invariants_hold_and_restart_changes_nothing(
        steps in prop::collection::vec(step(), 1..40),
        many: bool,
        retain: bool,
    ) {
        let pools_of = |variants: [u8; 3]| with_others(pools_of(variants), many, retain);
        let mut world = World::new(pools_of([1, 2, 5]).pools.into_values());
        for step in steps {
            world.wait(1);
            let before = world.results();
            let mut claimed_before = reserved(&world);
            // Each step calls `sync`, which checks that only compatible Services share an address.
            match &step {
                Step::Apply { name, variant: v, port } => {
                    let port = json!({ "spec": { "ports": [{ "port": port, "protocol": "TCP" }] } });
                    let name = name_of(*name);
                    world.apply(service(&name, both(variant(*v), port)));
                    prop_assert_eq!(moved(&before, &world, &name), Vec::<String>::new());
                }
                Step::Delete { name } => {
                    let name = name_of(*name);
                    world.delete(&name);
                    prop_assert_eq!(moved(&before, &world, &name), Vec::<String>::new());
                }
                Step::Pools { variants } => {
                    let Config { pools, refused_pools, .. } = pools_of(*variants);
                    // The pool is refused, unchanged, or retains.
                    let keeps = |pool: &str| {
                        let as_it_was = |new: &Pool| world.config.pools.get(pool) == Some(new);
                        let retains = |new: &Pool| new.reclaim == Reclaim::Retain;
                        refused_pools.contains_key(pool)
                            || pools.get(pool).is_some_and(|new| as_it_was(new) || retains(new))
                    };
                    claimed_before.retain(|_, (pool, _)| keeps(pool));
                    let keeps = |pools: String| pools.split(',').all(keeps);
                    let safe: BTreeMap<String, String> = before
                        .into_iter()
                        .filter(|(name, _)| world.pool_of(name).is_some_and(keeps))
                        .collect();
                    (world.config.pools, world.config.refused_pools) = (pools, refused_pools);
                    world.reconfigure();
                    prop_assert_eq!(moved(&safe, &world, ""), Vec::<String>::new());
                }
                Step::Claim { name, service, kind } => {
                    let of = name_of(*service);
                    let namespace = of.split('/').next().unwrap_or_default();
                    let claim = format!("{namespace}/c{name}");
                    claimed_before.remove(&key(&claim));
                    world.claim(&claim, claim_of(*service, *kind));
                    prop_assert_eq!(moved(&before, &world, ""), Vec::<String>::new());
                }
                Step::Unclaim { name } => {
                    for namespace in ["default", "team"] {
                        world.delete_claim(&format!("{namespace}/c{name}"));
                    }
                    prop_assert_eq!(moved(&before, &world, ""), Vec::<String>::new());
                }
                Step::Wait { seconds } => {
                    world.wait(*seconds);
                    prop_assert_eq!(moved(&before, &world, ""), Vec::<String>::new());
                }
                Step::Restart => {}
            }
            prop_assert_eq!(lost_claims(&claimed_before, &world), Vec::<String>::new());
            world.take_writes();
            let (results, events) = (world.results(), world.events.len());
            let released = |world: &mut World| {
                world.record_released();
                world.released.clone()
            };
            let kept = released(&mut world);
            let claims = |world: &World| -> BTreeMap<String, String> {
                world.claims.keys().map(|key| (key.to_string(), world.claimed(&key.to_string()))).collect()
            };
            let claimed = claims(&world);
            world.restart();
            prop_assert_eq!(world.results(), results);
            prop_assert_eq!(claims(&world), claimed);
            prop_assert_eq!(released(&mut world), kept);
            prop_assert_eq!(world.take_writes(), 0, "writes after a restart");
            prop_assert_eq!(world.events.len(), events, "events after a restart");
        }
    }
}

#[derive(Clone, Debug)]
enum LateStep {
    Apply {
        name: u8,
        variant: u8,
    },
    Delete {
        name: u8,
    },
    Pools {
        variants: [u8; 3],
    },
    /// Sends one of the queued writes.
    Send {
        which: usize,
    },
    /// Applies one of the writes in flight; a write on an old version fails.
    Arrive {
        which: usize,
    },
    /// Restarts the controller. Writes that were not applied are lost.
    Crash,
}

fn late_step() -> impl Strategy<Value = LateStep> {
    prop_oneof![
        // Without sharing, no address may ever be displayed twice.
        6 => (0..10u8, 0..8u8).prop_map(|(name, variant)| LateStep::Apply { name, variant }),
        2 => (0..10u8).prop_map(|name| LateStep::Delete { name }),
        1 => [0..POOLS, 0..POOLS, 0..POOLS].prop_map(|variants| LateStep::Pools { variants }),
        6 => any::<usize>().prop_map(|which| LateStep::Send { which }),
        6 => any::<usize>().prop_map(|which| LateStep::Arrive { which }),
        1 => Just(LateStep::Crash),
    ]
}

/// Returns the addresses that the API displays on several Services.
fn displayed_twice(world: &World) -> Vec<String> {
    let mut displayed: BTreeMap<String, usize> = BTreeMap::new();
    for service in world.services.values() {
        for ingress in service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten() {
            *displayed.entry(ingress["ip"].to_string()).or_default() += 1;
        }
    }
    displayed.into_iter().filter(|(_, times)| *times > 1).map(|(ip, _)| ip).collect()
}

proptest! {
    #![proptest_config(cases(128))]
    #[test]
    fn late_writes_and_crashes_never_display_an_address_twice(
        steps in prop::collection::vec(late_step(), 1..60),
    ) {
        let mut world = World::new(pools_of([1, 2, 5]).pools.into_values());
        let mut waiting: BTreeMap<ObjectKey, StatusPatch> = BTreeMap::new();
        let mut in_flight: BTreeMap<ObjectKey, StatusPatch> = BTreeMap::new();
        for step in steps {
            match step {
                LateStep::Apply { name, variant: v } => {
                    let with = both(variant(v), aged(u32::from(name)));
                    world.apply_silently(service(&format!("s{name}"), with));
                }
                LateStep::Delete { name } => {
                    let key = key(&format!("s{name}"));
                    world.services.remove(&key);
                    world.index.service_deleted(&key, world.now);
                }
                LateStep::Pools { variants } => {
                    let Config { pools, refused_pools, .. } = pools_of(variants);
                    (world.config.pools, world.config.refused_pools) = (pools, refused_pools);
                    world.index.set_config(&world.config, world.now);
                }
                LateStep::Send { which } => {
                    let free = waiting.keys().filter(|key| !in_flight.contains_key(key));
                    let free: Vec<_> = free.cloned().collect();
                    if !free.is_empty() {
                        let key = free[which % free.len()].clone();
                        let patch = waiting.remove(&key).unwrap();
                        in_flight.insert(key, patch);
                    }
                }
                LateStep::Arrive { which } if !in_flight.is_empty() => {
                    let key = in_flight.keys().nth(which % in_flight.len()).unwrap().clone();
                    let patch = in_flight.remove(&key).unwrap();
                    if !world.write(key.clone(), &patch) && !waiting.contains_key(&key) {
                        world.index.write_resolved(&key, world.now);
                    }
                }
                LateStep::Arrive { .. } => {}
                LateStep::Crash => {
                    waiting.clear();
                    in_flight.clear();
                    world.start();
                }
            }
            loop {
                let decisions = world.index.take_decisions();
                if decisions.is_empty() {
                    break;
                }
                for decision in decisions {
                    let Decision::Status { service, patch } = decision else { continue };
                    match patch {
                        Some(patch) => drop(waiting.insert(service, *patch)),
                        None => {
                            waiting.remove(&service);
                            if !in_flight.contains_key(&service) {
                                world.index.write_resolved(&service, world.now);
                            }
                        }
                    }
                }
            }
            world.index.ipam().assert_invariants();
            prop_assert_eq!(displayed_twice(&world), Vec::<String>::new());
        }
        // All writes in flight are applied or fail; then a new controller agrees.
        for (key, patch) in in_flight.into_iter().chain(waiting) {
            if !world.write(key.clone(), &patch) {
                world.index.write_resolved(&key, world.now);
            }
        }
        world.sync();
        let results = world.results();
        world.take_writes();
        world.restart();
        prop_assert_eq!(world.results(), results);
        prop_assert_eq!(world.take_writes(), 0);
    }
}
