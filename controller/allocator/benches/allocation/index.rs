//! The whole decision: from what the watch tells of a Service to the patch.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use fairlead_allocator::reconcile::{ConditionDigests, Decision, Index, ObservedService, StatusPatch};
use fairlead_crds::model::config::{Config, L2Advertisement, Labels, Pool, PoolSelection, ServiceAllocation};
use fairlead_crds::model::selector::Selector;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};

use crate::fixtures::*;
use crate::ipam::claim;
use crate::scenario::{Case, Ops, Subject, subject};

const PLENTY: usize = 1 << 18;
/// At most this many released addresses are kept in one pool.
const COOLING_PER_POOL: usize = 1_000;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "a Service comes and gets its address, N of them one after the other",
        sizes: &[100, 1_000, 10_000, 100_000],
        ops: Ops::EachOfN,
        make: |n| {
            let restore = move |world: &mut World| {
                *world = World::new(vec![pool("p", BASE, PLENTY)], Vec::new());
                world.inbox = newcomers(n);
            };
            subject(World::default(), restore, World::receive)
        },
    },
    Case {
        name: "a Service comes and gets its address, N hold one",
        sizes: &[1, 10, 100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| come(World::holding(PLENTY, n), newcomers(BATCH)),
    },
    Case {
        name: "its status is seen as written, N hold one",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| {
            let restore = |world: &mut World| {
                world.forget_newcomers();
                world.inbox = newcomers(BATCH);
                world.inbox = world.receive_and_write();
            };
            subject(World::holding(PLENTY, n), restore, World::receive)
        },
    },
    Case {
        name: "its labels change, N hold one",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| {
            let mut world = World::holding(PLENTY, n);
            world.inbox = newcomers(BATCH);
            let mut seen = world.receive_and_write();
            let restore = move |world: &mut World| {
                for observed in &mut seen {
                    let times = observed.balancer.labels.entry("times".into()).or_default();
                    times.push('x');
                    times.truncate(times.len() % 8);
                }
                world.inbox.clone_from(&seen);
            };
            subject(world, restore, World::receive)
        },
    },
    Case {
        name: "it goes, N hold one",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| {
            let restore = |world: &mut World| {
                world.inbox = newcomers(BATCH);
                world.inbox = world.receive_and_write();
                world.receive();
                world.going = newcomers(BATCH).into_iter().map(|new| new.balancer.key).collect();
            };
            subject(World::holding(PLENTY, n), restore, World::lose)
        },
    },
    Case {
        name: "a Service comes and is refused, one full pool of N",
        sizes: &[100, 1_000, 10_000, 65_536],
        ops: Ops::Batch,
        make: |n| come(World::holding(n, n), newcomers(BATCH)),
    },
    Case {
        name: "a Service comes and is refused, N wait already",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| {
            let waiting = (0..n).map(|i| observed(service("waiting", i))).collect();
            let mut world = World::new(vec![pool("p", BASE, 1)], waiting);
            world.take();
            come(world, newcomers(BATCH))
        },
    },
    Case {
        name: "a Service goes, and of N that wait one gets its address",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: hand_over,
    },
    Case {
        name: "a Service joins the first of N shared addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| {
            let mut list: Vec<LoadBalancer> = (0..n).map(|i| sharing("held", i, &[80])).collect();
            let held = list.drain(..).enumerate().map(|(i, service)| holds(service, nth(BASE, i), "p"));
            let mut world = World::new(vec![pool("p", BASE, PLENTY)], held.collect());
            world.expect_nothing_to_write();
            come(world, (0..BATCH).map(|i| observed(sharing("new", i, &[443]))).collect())
        },
    },
    Case {
        name: "an address is adopted when the controller starts, N of them",
        sizes: &[100, 1_000, 10_000, 100_000],
        ops: Ops::EachOfN,
        make: |n| {
            let list = held(n);
            let restore = move |world: &mut World| {
                *world = World::listed(vec![pool("p", BASE, PLENTY)], list.clone());
            };
            let act = |world: &mut World| {
                world.index.begin(Vec::new(), world.now);
                world.take();
            };
            subject(World::default(), restore, act)
        },
    },
    Case {
        name: "their pool is edited, for each of N holders",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::EachOfN,
        make: |n| edit(n, "p"),
    },
    Case {
        name: "another pool is edited, N hold one",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::One,
        make: |n| edit(n, "q"),
    },
    Case {
        name: "an advertisement of another pool is edited, N hold one",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::One,
        make: |n| {
            let mut config = two_pools();
            config.l2_advertisements.insert("q".into(), advertisement("q", &["q"]));
            let mut times = 0;
            let restore = move |world: &mut World| {
                times += 1;
                let selector = selector("times", &times.to_string());
                if let Some(ad) = config.l2_advertisements.get_mut("q") {
                    ad.service_selectors = selector.into_iter().collect();
                }
                world.config = config.clone();
            };
            subject(World::with(two_pools(), held(n)), restore, World::reconfigure)
        },
    },
    Case {
        name: "labels of another namespace change, N hold one",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::One,
        make: |n| {
            let mut config = two_pools();
            if let Some(pool) = config.pools.get_mut("q") {
                let namespace_selectors = selector("net", "q").into_iter().collect();
                pool.allocation =
                    Some(ServiceAllocation { namespace_selectors, ..ServiceAllocation::default() });
            }
            let mut times = 0;
            let restore = move |world: &mut World| {
                times += 1;
                let value = if times % 2 == 0 { "q" } else { "p" };
                world.labels = [("net".to_owned(), value.to_owned())].into();
            };
            let act = |world: &mut World| {
                world.index.namespace_applied("other".into(), std::mem::take(&mut world.labels), world.now);
                world.take();
            };
            subject(World::with(config, held(n)), restore, act)
        },
    },
    Case {
        name: "a claim comes, N hold an address",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: |n| {
            let restore = |world: &mut World| {
                (0..BATCH).for_each(|i| world.index.claim_deleted(&key("claim", i), world.now));
                world.take();
            };
            let act = |world: &mut World| {
                for i in 0..BATCH {
                    world.index.claim_applied(claim(i).0, world.now);
                    world.take();
                }
            };
            subject(World::holding(PLENTY, n), restore, act)
        },
    },
    Case {
        name: "a released address is free again, N others are still kept",
        sizes: &[100, 1_000, 10_000, 60_000],
        ops: Ops::Batch,
        make: cool_down,
    },
];

/// An index, and what is about to happen.
struct World {
    index: Index,
    config: Config,
    now: Timestamp,
    labels: Labels,
    inbox: Vec<ObservedService>,
    going: Vec<ObjectKey>,
}

impl Default for World {
    fn default() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap_or_default();
        let (index, config) = Default::default();
        Self { index, config, now, labels: Labels::new(), inbox: Vec::new(), going: Vec::new() }
    }
}

impl World {
    fn new(pools: Vec<Pool>, list: Vec<ObservedService>) -> Self {
        Self::with(covered(pools), list)
    }

    /// Everything was listed, and decided.
    fn with(config: Config, list: Vec<ObservedService>) -> Self {
        let mut world = Self { config, ..Self::default() };
        world.list(list);
        world.index.begin(Vec::new(), world.now);
        world
    }

    /// Everything was listed, nothing decided yet.
    fn listed(pools: Vec<Pool>, list: Vec<ObservedService>) -> Self {
        let mut world = Self { config: covered(pools), ..Self::default() };
        world.list(list);
        world
    }

    fn list(&mut self, list: Vec<ObservedService>) {
        self.index.set_config(self.config.clone(), self.now);
        let namespaces = ["default", "other"].map(|name| (name.to_owned(), Labels::new()));
        self.index.namespaces_reset(namespaces.to_vec(), self.now);
        self.index.services_reset(list, self.now);
        self.index.claims_reset(Vec::new(), self.now);
    }

    /// One pool of `size`, of which `n` Services hold an address.
    fn holding(size: usize, n: usize) -> Self {
        let mut world = Self::new(vec![pool("p", BASE, size)], held(n));
        world.expect_nothing_to_write();
        world
    }

    fn take(&mut self) {
        black_box(self.index.take_decisions());
        black_box(self.index.take_touched_pools());
    }

    /// The Services made here look as those that were written: else more is measured than is meant.
    fn expect_nothing_to_write(&mut self) {
        let decisions = self.index.take_decisions();
        let mut writes = decisions.iter().filter(|one| !matches!(one, Decision::Status { patch: None, .. }));
        assert_eq!(writes.next(), None);
        self.take();
    }

    /// The watch tells of what is in the inbox, one by one.
    fn receive(&mut self) {
        for observed in std::mem::take(&mut self.inbox) {
            self.index.service_applied(observed, self.now);
            self.take();
        }
    }

    /// The same. Returns the Services as they are once what was decided is written.
    fn receive_and_write(&mut self) -> Vec<ObservedService> {
        let inbox = std::mem::take(&mut self.inbox);
        for observed in &inbox {
            self.index.service_applied(observed.clone(), self.now);
        }
        let patches = patches(self.index.take_decisions());
        let written = |observed: ObservedService| {
            let patch = patches.iter().rfind(|patch| patch.service == observed.balancer.key);
            patch.map(|patch| written(observed.balancer, &patch.ingress, patch))
        };
        inbox.into_iter().filter_map(written).collect()
    }

    fn lose(&mut self) {
        for key in std::mem::take(&mut self.going) {
            self.index.service_deleted(&key, self.now);
            self.take();
        }
    }

    fn forget_newcomers(&mut self) {
        self.going = (0..BATCH).map(|i| key("new", i)).collect();
        self.lose();
    }

    fn reconfigure(&mut self) {
        self.index.set_config(std::mem::take(&mut self.config), self.now);
        self.take();
    }
}

/// Newcomers come.
fn come(world: World, newcomers: Vec<ObservedService>) -> Box<dyn Subject> {
    let restore = move |world: &mut World| {
        world.forget_newcomers();
        world.inbox.clone_from(&newcomers);
    };
    subject(world, restore, World::receive)
}

/// One of two pools gets another label each time; `n` hold addresses of `p`.
fn edit(n: usize, which: &'static str) -> Box<dyn Subject> {
    let mut config = two_pools();
    let mut times = 0;
    let restore = move |world: &mut World| {
        times += 1;
        if let Some(pool) = config.pools.get_mut(which) {
            pool.labels.insert("times".into(), times.to_string());
        }
        world.config = config.clone();
    };
    subject(World::with(two_pools(), held(n)), restore, World::reconfigure)
}

/// A pool of [`BATCH`] addresses: its holders go, the oldest of those who wait become holders, and as many come and wait.
fn hand_over(n: usize) -> Box<dyn Subject> {
    struct State {
        world: World,
        decisions: Vec<Decision>,
        came: usize,
    }
    let list = (0..BATCH + n).map(|i| observed(service("waiting", i))).collect();
    let mut world = World::new(vec![pool("p", BASE, BATCH)], list);
    let decisions = world.index.take_decisions();
    let restore = move |State { world, decisions, came }: &mut State| {
        let given = patches(std::mem::take(decisions)).into_iter().filter(|patch| !patch.ingress.is_empty());
        world.going = given.map(|patch| patch.service).collect();
        assert_eq!(world.going.len(), BATCH);
        // As many wait as at first.
        while world.index.service_counts().1 < n {
            world.index.service_applied(observed(service("waiting", *came)), world.now);
            *came += 1;
        }
        world.take();
    };
    let act = |State { world, decisions, .. }: &mut State| {
        for key in std::mem::take(&mut world.going) {
            world.index.service_deleted(&key, world.now);
            decisions.extend(world.index.take_decisions());
        }
    };
    subject(State { world, decisions, came: BATCH + n }, restore, act)
}

/// `n` addresses are kept for an hour for those who released them, and [`BATCH`] of another pool for ten seconds.
fn cool_down(n: usize) -> Box<dyn Subject> {
    let cooling = |name: &str, first: u32, size: usize, time: u64| Pool {
        reuse_after: Duration::from_secs(time),
        auto_assign: false,
        ..pool(name, first, size)
    };
    let of_pool = |mut service: LoadBalancer, pool: String| {
        service.requested.pools.push(pool);
        observed(service)
    };
    let slow = (0..n.div_ceil(COOLING_PER_POOL))
        .map(|p| cooling(&format!("slow{p}"), BASE + (p * 1024) as u32, 1024, 1_000_000_000));
    let quick = cooling("quick", BASE + (1 << 20), 256, 10);
    let slowly = (0..n).map(|i| of_pool(service("slow", i), format!("slow{}", i / COOLING_PER_POOL)));
    let mut world = World::new(slow.chain([quick]).collect(), slowly.collect());
    world.take();
    world.going = (0..n).map(|i| key("slow", i)).collect();
    world.lose();
    let restore = move |world: &mut World| {
        world.inbox = (0..BATCH).map(|i| of_pool(service("new", i), "quick".into())).collect();
        world.receive();
        world.forget_newcomers();
        world.now = Timestamp::from_second(world.now.as_second() + 20).unwrap_or_default();
    };
    let act = |world: &mut World| {
        world.index.handle_timeout(world.now);
        world.take();
    };
    subject(world, restore, act)
}

fn covered(pools: Vec<Pool>) -> Config {
    Config {
        pools: pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect(),
        l2_advertisements: [("all".to_owned(), advertisement("all", &[]))].into(),
        ..Config::default()
    }
}

fn two_pools() -> Config {
    covered(vec![pool("p", BASE, PLENTY), pool("q", BASE + (1 << 20), 256)])
}

fn advertisement(name: &str, pools: &[&str]) -> L2Advertisement {
    let names = pools.iter().map(|pool| (*pool).to_owned()).collect();
    L2Advertisement {
        name: name.into(),
        pools: PoolSelection { names, selectors: Vec::new() },
        node_selectors: Vec::new(),
        preferred_nodes: Vec::new(),
        service_selectors: Vec::new(),
        interfaces: Default::default(),
    }
}

fn selector(key: &str, value: &str) -> Option<Selector> {
    let match_labels = Some([(key.to_owned(), value.to_owned())].into());
    Selector::try_from(&LabelSelector { match_labels, match_expressions: None }).ok()
}

/// A Service whose status says nothing.
fn observed(balancer: LoadBalancer) -> ObservedService {
    ObservedService {
        balancer,
        pool_annotation: None,
        is_malformed: false,
        conditions: ConditionDigests::default(),
        other_conditions: Vec::new(),
    }
}

fn newcomers(n: usize) -> Vec<ObservedService> {
    (0..n).map(|i| observed(service("new", i))).collect()
}

/// `n` Services that hold the first addresses of pool `p`.
fn held(n: usize) -> Vec<ObservedService> {
    (0..n).map(|i| holds(service("held", i), nth(BASE, i), "p")).collect()
}

fn patches(decisions: Vec<Decision>) -> Vec<StatusPatch> {
    let patch = |decision| match decision {
        Decision::Status { patch, .. } => patch.map(|patch| *patch),
        _ => None,
    };
    decisions.into_iter().filter_map(patch).collect()
}

/// The Service as it is after a patch.
fn written(balancer: LoadBalancer, ingress: &[IpAddr], patch: &StatusPatch) -> ObservedService {
    let pool = patch.pool_annotation.clone().flatten();
    let conditions = serde_json::from_value(patch.body()["status"]["conditions"].take()).unwrap_or_default();
    as_written(balancer, ingress.to_vec(), pool, conditions)
}

/// The Service as it is when it holds an address and its status says so.
fn holds(balancer: LoadBalancer, ip: IpAddr, pool: &str) -> ObservedService {
    let condition = |type_: &str, reason: &str, message: String| Condition {
        type_: type_.into(),
        status: "True".into(),
        reason: reason.into(),
        message,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
        observed_generation: None,
    };
    let conditions = vec![
        condition(names::ALLOCATED, "Allocated", format!("{ip} from IPAddressPool {pool}")),
        condition(names::ADVERTISED, "Covered", "an advertisement covers these addresses".into()),
    ];
    as_written(balancer, vec![ip], Some(pool.into()), conditions)
}

fn as_written(
    mut balancer: LoadBalancer,
    ingress: Vec<IpAddr>,
    pool: Option<String>,
    conditions: Vec<Condition>,
) -> ObservedService {
    let service = Service {
        spec: Some(ServiceSpec { type_: Some("LoadBalancer".into()), ..ServiceSpec::default() }),
        status: Some(ServiceStatus { conditions: Some(conditions), ..ServiceStatus::default() }),
        ..Service::default()
    };
    let conditions =
        ObservedService::of(&service, None).map(|observed| observed.conditions).unwrap_or_default();
    balancer.resource_version.push('1');
    balancer.ingress = ingress;
    balancer.allocated_from.clone_from(&pool);
    ObservedService { pool_annotation: pool, conditions, ..observed(balancer) }
}
