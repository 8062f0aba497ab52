//! Scenarios of the whole decision: from a watch event to the patch.

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use fairlead_allocator::reconcile::{ConditionDigests, Decision, Index, ObservedService, StatusPatch};
use fairlead_crds::conditions::{NewCondition, RawCondition};
use fairlead_crds::model::config::{Config, L2Advertisement, Labels, Pool, PoolSelection, ServiceAllocation};
use fairlead_crds::model::selector::Selector;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::names;
use fairlead_crds::objects::{Service, ServiceSpec, ServiceStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::fixtures::*;
use crate::ipam::claim;
use crate::scenario::{Case, Operations, Scenario, scenario};

const LARGE: usize = 1 << 18;
/// The maximum number of addresses in cool-down per pool.
const MAX_COOLDOWNS_PER_POOL: usize = 1_000;

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "create N Services in sequence",
        sizes: &[100, 1_000, 10_000, 100_000],
        operations: Operations::N,
        make: |n| {
            let restore = move |cluster: &mut Cluster| {
                *cluster = Cluster::new(vec![pool("p", BASE, LARGE)], Vec::new());
                cluster.inbox = new_services(n);
            };
            scenario(Cluster::default(), restore, Cluster::apply_inbox)
        },
    },
    Case {
        name: "create a Service, N others hold addresses",
        sizes: &[1, 10, 100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| create(Cluster::holding(LARGE, n), new_services(BATCH)),
    },
    Case {
        name: "observe the written status of a Service, N others hold addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| {
            let restore = |cluster: &mut Cluster| {
                cluster.delete_new_services();
                cluster.inbox = new_services(BATCH);
                cluster.inbox = cluster.apply_and_patch_inbox();
            };
            scenario(Cluster::holding(LARGE, n), restore, Cluster::apply_inbox)
        },
    },
    Case {
        name: "change the labels of a Service, N others hold addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| {
            let mut cluster = Cluster::holding(LARGE, n);
            cluster.inbox = new_services(BATCH);
            let mut seen = cluster.apply_and_patch_inbox();
            let restore = move |cluster: &mut Cluster| {
                for observed in &mut seen {
                    let times = observed.balancer.labels.get("times").map_or(0, str::len) + 1;
                    observed.balancer.labels = [("times".into(), "x".repeat(times % 8))].into();
                }
                cluster.inbox.clone_from(&seen);
            };
            scenario(cluster, restore, Cluster::apply_inbox)
        },
    },
    Case {
        name: "delete a Service, N others hold addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| {
            let restore = |cluster: &mut Cluster| {
                cluster.inbox = new_services(BATCH);
                cluster.inbox = cluster.apply_and_patch_inbox();
                cluster.apply_inbox();
                cluster.to_delete = new_services(BATCH).into_iter().map(|new| new.balancer.key).collect();
            };
            scenario(Cluster::holding(LARGE, n), restore, Cluster::delete_listed)
        },
    },
    Case {
        name: "refuse a Service, one full pool of N addresses",
        sizes: &[100, 1_000, 10_000, 65_536],
        operations: Operations::Batch,
        make: |n| create(Cluster::holding(n, n), new_services(BATCH)),
    },
    Case {
        name: "refuse a Service, N others wait",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| {
            let waiting = (0..n).map(|i| observed(service("waiting", i))).collect();
            let mut cluster = Cluster::new(vec![pool("p", BASE, 1)], waiting);
            cluster.take();
            create(cluster, new_services(BATCH))
        },
    },
    Case {
        name: "delete a Service, one of N waiters gets its address",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: replace_holders,
    },
    Case {
        name: "create a Service that joins the first of N shared addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| {
            let mut list: Vec<LoadBalancer> = (0..n).map(|i| sharing("held", i, &[80])).collect();
            let held =
                list.drain(..).enumerate().map(|(i, service)| with_address(service, nth(BASE, i), "p"));
            let mut cluster = Cluster::new(vec![pool("p", BASE, LARGE)], held.collect());
            cluster.expect_no_writes();
            create(cluster, (0..BATCH).map(|i| observed(sharing("new", i, &[443]))).collect())
        },
    },
    Case {
        name: "adopt N addresses when leadership begins",
        sizes: &[100, 1_000, 10_000, 100_000],
        operations: Operations::N,
        make: |n| {
            let list = services_with_address(n);
            let restore = move |cluster: &mut Cluster| {
                *cluster = Cluster::listed(vec![pool("p", BASE, LARGE)], list.clone());
            };
            let run = |cluster: &mut Cluster| {
                cluster.index.begin(Vec::new(), cluster.now);
                cluster.take();
            };
            scenario(Cluster::default(), restore, run)
        },
    },
    Case {
        name: "edit a pool with N holders, per holder",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::N,
        make: |n| edit(n, "p"),
    },
    Case {
        name: "edit another pool, N Services hold addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::One,
        make: |n| edit(n, "q"),
    },
    Case {
        name: "edit an advertisement of another pool, N Services hold addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::One,
        make: |n| {
            let mut config = two_pools();
            config.l2_advertisements.insert("q".into(), advertisement("q", &["q"]));
            let mut times = 0;
            let restore = move |cluster: &mut Cluster| {
                times += 1;
                let selector = selector("times", &times.to_string());
                if let Some(ad) = config.l2_advertisements.get_mut("q") {
                    ad.service_selectors = selector.into_iter().collect();
                }
                cluster.config = config.clone();
            };
            scenario(Cluster::with(two_pools(), services_with_address(n)), restore, Cluster::reconfigure)
        },
    },
    Case {
        name: "change the labels of another namespace, N Services hold addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::One,
        make: |n| {
            let mut config = two_pools();
            if let Some(pool) = config.pools.get_mut("q") {
                let namespace_selectors = selector("net", "q").into_iter().collect();
                pool.allocation =
                    Some(ServiceAllocation { namespace_selectors, ..ServiceAllocation::default() });
            }
            let mut times = 0;
            let restore = move |cluster: &mut Cluster| {
                times += 1;
                let value = if times % 2 == 0 { "q" } else { "p" };
                cluster.labels = [("net".to_owned(), value.to_owned())].into();
            };
            let run = |cluster: &mut Cluster| {
                cluster.index.namespace_applied(
                    "other".into(),
                    std::mem::take(&mut cluster.labels),
                    cluster.now,
                );
                cluster.take();
            };
            scenario(Cluster::with(config, services_with_address(n)), restore, run)
        },
    },
    Case {
        name: "create a claim, N Services hold addresses",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: |n| {
            let restore = |cluster: &mut Cluster| {
                (0..BATCH).for_each(|i| cluster.index.claim_deleted(&key("claim", i), cluster.now));
                cluster.take();
            };
            let run = |cluster: &mut Cluster| {
                for i in 0..BATCH {
                    cluster.index.claim_applied(claim(i).0, cluster.now);
                    cluster.take();
                }
            };
            scenario(Cluster::holding(LARGE, n), restore, run)
        },
    },
    Case {
        name: "end a cool-down, N other addresses in cool-down",
        sizes: &[100, 1_000, 10_000, 60_000],
        operations: Operations::Batch,
        make: end_cooldown,
    },
];

/// An index, and the input of the next run.
struct Cluster {
    index: Index,
    config: Config,
    now: Timestamp,
    labels: Labels,
    /// Services to apply.
    inbox: Vec<ObservedService>,
    /// Services to delete.
    to_delete: Vec<ObjectKey>,
}

impl Default for Cluster {
    fn default() -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap_or_default();
        let (index, config) = Default::default();
        Self { index, config, now, labels: Labels::new(), inbox: Vec::new(), to_delete: Vec::new() }
    }
}

impl Cluster {
    fn new(pools: Vec<Pool>, list: Vec<ObservedService>) -> Self {
        Self::with(covered(pools), list)
    }

    /// Returns a cluster after the first reconciliation.
    fn with(config: Config, list: Vec<ObservedService>) -> Self {
        let mut cluster = Self { config, ..Self::default() };
        cluster.list(list);
        cluster.index.begin(Vec::new(), cluster.now);
        cluster
    }

    /// Returns a cluster whose objects were listed and not reconciled yet.
    fn listed(pools: Vec<Pool>, list: Vec<ObservedService>) -> Self {
        let mut cluster = Self { config: covered(pools), ..Self::default() };
        cluster.list(list);
        cluster
    }

    fn list(&mut self, list: Vec<ObservedService>) {
        self.index.set_config(&self.config, self.now);
        let namespaces = ["default", "other"].map(|name| (name.to_owned(), Labels::new()));
        self.index.namespaces_reset(namespaces.to_vec(), self.now);
        self.index.services_reset(list, self.now);
        self.index.claims_reset(Vec::new(), self.now);
    }

    /// Returns a cluster with one pool of `size` addresses, of which `n` have a holder.
    fn holding(size: usize, n: usize) -> Self {
        let mut cluster = Self::new(vec![pool("p", BASE, size)], services_with_address(n));
        cluster.expect_no_writes();
        cluster
    }

    fn take(&mut self) {
        black_box(self.index.take_decisions());
        black_box(self.index.take_touched_pools());
    }

    /// Asserts that no write is due, because writes would be measured too.
    fn expect_no_writes(&mut self) {
        let decisions = self.index.take_decisions();
        let mut writes = decisions.iter().filter(|one| !matches!(one, Decision::Status { patch: None, .. }));
        assert_eq!(writes.next(), None);
        self.take();
    }

    /// Applies the Services in `inbox`, one event each.
    fn apply_inbox(&mut self) {
        for observed in std::mem::take(&mut self.inbox) {
            self.index.service_applied(observed, self.now);
            self.take();
        }
    }

    /// Applies the Services in `inbox`. Returns them with the patches applied.
    fn apply_and_patch_inbox(&mut self) -> Vec<ObservedService> {
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

    fn delete_listed(&mut self) {
        for key in std::mem::take(&mut self.to_delete) {
            self.index.service_deleted(&key, self.now);
            self.take();
        }
    }

    fn delete_new_services(&mut self) {
        self.to_delete = (0..BATCH).map(|i| key("new", i)).collect();
        self.delete_listed();
    }

    fn reconfigure(&mut self) {
        let config = std::mem::take(&mut self.config);
        self.index.set_config(&config, self.now);
        self.take();
    }
}

/// Applies new Services.
fn create(cluster: Cluster, new: Vec<ObservedService>) -> Box<dyn Scenario> {
    let restore = move |cluster: &mut Cluster| {
        cluster.delete_new_services();
        cluster.inbox.clone_from(&new);
    };
    scenario(cluster, restore, Cluster::apply_inbox)
}

/// Changes a label of one of two pools in each run; `n` Services hold addresses of `p`.
fn edit(n: usize, which: &'static str) -> Box<dyn Scenario> {
    let mut config = two_pools();
    let mut times = 0;
    let restore = move |cluster: &mut Cluster| {
        times += 1;
        if let Some(pool) = config.pools.get_mut(which) {
            pool.labels = [("times".into(), times.to_string())].into();
        }
        cluster.config = config.clone();
    };
    scenario(Cluster::with(two_pools(), services_with_address(n)), restore, Cluster::reconfigure)
}

/// Deletes the holders of a pool of [`BATCH`] addresses, so that the oldest of `n` waiters become holders.
/// New waiters replace them before the next run.
fn replace_holders(n: usize) -> Box<dyn Scenario> {
    struct State {
        cluster: Cluster,
        decisions: Vec<Decision>,
        came: usize,
    }
    let list = (0..BATCH + n).map(|i| observed(service("waiting", i))).collect();
    let mut cluster = Cluster::new(vec![pool("p", BASE, BATCH)], list);
    let decisions = cluster.index.take_decisions();
    let restore = move |State { cluster, decisions, came }: &mut State| {
        let given = patches(std::mem::take(decisions)).into_iter().filter(|patch| !patch.ingress.is_empty());
        cluster.to_delete = given.map(|patch| patch.service).collect();
        assert_eq!(cluster.to_delete.len(), BATCH);
        while cluster.index.service_counts().1 < n {
            cluster.index.service_applied(observed(service("waiting", *came)), cluster.now);
            *came += 1;
        }
        cluster.take();
    };
    let run = |State { cluster, decisions, .. }: &mut State| {
        for key in std::mem::take(&mut cluster.to_delete) {
            cluster.index.service_deleted(&key, cluster.now);
            decisions.extend(cluster.index.take_decisions());
        }
    };
    scenario(State { cluster, decisions, came: BATCH + n }, restore, run)
}

/// Ends the cool-down of [`BATCH`] addresses while `n` addresses of other pools stay in cool-down.
fn end_cooldown(n: usize) -> Box<dyn Scenario> {
    let cooling = |name: &str, first: u32, size: usize, time: u64| Pool {
        reuse_after: Duration::from_secs(time),
        auto_assign: false,
        ..pool(name, first, size)
    };
    let of_pool = |mut service: LoadBalancer, pool: String| {
        service.requested.pools.push(pool);
        observed(service)
    };
    let slow = (0..n.div_ceil(MAX_COOLDOWNS_PER_POOL))
        .map(|p| cooling(&format!("slow{p}"), BASE + (p * 1024) as u32, 1024, 1_000_000_000));
    let quick = cooling("quick", BASE + (1 << 20), 256, 10);
    let slowly = (0..n).map(|i| of_pool(service("slow", i), format!("slow{}", i / MAX_COOLDOWNS_PER_POOL)));
    let mut cluster = Cluster::new(slow.chain([quick]).collect(), slowly.collect());
    cluster.take();
    cluster.to_delete = (0..n).map(|i| key("slow", i)).collect();
    cluster.delete_listed();
    let restore = move |cluster: &mut Cluster| {
        cluster.inbox = (0..BATCH).map(|i| of_pool(service("new", i), "quick".into())).collect();
        cluster.apply_inbox();
        cluster.delete_new_services();
        cluster.now = Timestamp::from_second(cluster.now.as_second() + 20).unwrap_or_default();
    };
    let run = |cluster: &mut Cluster| {
        cluster.index.handle_timeout(cluster.now);
        cluster.take();
    };
    scenario(cluster, restore, run)
}

fn covered(pools: Vec<Pool>) -> Config {
    Config {
        pools: pools.into_iter().map(|pool| (pool.name.clone(), pool)).collect(),
        l2_advertisements: [("all".to_owned(), advertisement("all", &[]))].into(),
        ..Config::default()
    }
}

fn two_pools() -> Config {
    covered(vec![pool("p", BASE, LARGE), pool("q", BASE + (1 << 20), 256)])
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
        on_conflict: Default::default(),
    }
}

fn selector(key: &str, value: &str) -> Option<Selector> {
    let match_labels = Some([(key.to_owned(), value.to_owned())].into());
    Selector::try_from(&LabelSelector { match_labels, match_expressions: None }).ok()
}

/// Returns a Service with an empty status.
fn observed(balancer: LoadBalancer) -> ObservedService {
    ObservedService {
        balancer,
        pool_annotation: None,
        other_annotations: 0,
        special_ingress: Vec::new(),
        is_malformed: false,
        status_writer: None,
        conditions: ConditionDigests::default(),
        other_conditions: Vec::new(),
    }
}

fn new_services(n: usize) -> Vec<ObservedService> {
    (0..n).map(|i| observed(service("new", i))).collect()
}

/// Returns `n` Services that hold the first addresses of pool `p`.
fn services_with_address(n: usize) -> Vec<ObservedService> {
    (0..n).map(|i| with_address(service("held", i), nth(BASE, i), "p")).collect()
}

fn patches(decisions: Vec<Decision>) -> Vec<StatusPatch> {
    let patch = |decision| match decision {
        Decision::Status { patch, .. } => patch.map(|patch| *patch),
        _ => None,
    };
    decisions.into_iter().filter_map(patch).collect()
}

/// Returns the Service after a patch.
fn written(balancer: LoadBalancer, ingress: &[IpAddr], patch: &StatusPatch) -> ObservedService {
    let pool = patch.pool_annotation.clone().flatten();
    let conditions = serde_json::from_value(patch.body()["status"]["conditions"].take()).unwrap_or_default();
    as_written(balancer, ingress.to_vec(), pool, conditions)
}

/// Returns a Service whose status shows that it holds an address.
fn with_address(balancer: LoadBalancer, ip: IpAddr, pool: &str) -> ObservedService {
    let condition = |type_, reason, message: String| {
        NewCondition::new(type_, true, reason, message).since(Timestamp::UNIX_EPOCH)
    };
    let conditions = vec![
        condition(names::ALLOCATED, "Allocated", format!("{ip} from IPAddressPool {pool}")),
        condition(names::COVERED, "Covered", "an advertisement covers these addresses".into()),
    ];
    as_written(balancer, vec![ip], Some(pool.into()), conditions)
}

fn as_written(
    mut balancer: LoadBalancer,
    ingress: Vec<IpAddr>,
    pool: Option<String>,
    conditions: Vec<RawCondition>,
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
