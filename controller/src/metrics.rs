//! Metrics of the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fairlead_allocator::ipam;
use fairlead_allocator::reconcile::{Counters, Index};
use fairlead_crds::kinds::Kind;
use fairlead_runtime::http;
use fairlead_runtime::watch::Monitor;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::write_queue::{WriteQueue, WriteResult};

/// The maximum number of pools with series of their own: ten for each pool. The other pools are summed up.
const MAX_POOLS: usize = 500;
/// The value of the label `pool` for the sum of the other pools. No pool can have this name.
const OTHER_POOLS: &str = "(others)";

/// The metrics of the controller.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    allocations: Counter,
    failures: Family<ReasonLabel, Counter>,
    evaluations: Counter,
    resolutions: Counter,
    status_replacements: Family<KindLabel, Counter>,
    writes: Family<ResultLabel, Counter>,
    write_durations: WriteDurations,
    retries: Counter,
    events_dropped: Counter,
    services: Gauge,
    waiting: Gauge,
    writes_pending: Gauge,
    writes_in_flight: Gauge,
    window: Gauge,
    messages_queued: Gauge,
    leading: Gauge,
    decision_durations: DecisionDurations,
    pool_total: PoolGauge,
    pool_assigned: PoolGauge,
    pool_available: PoolGauge,
    pool_retained: PoolGauge,
    pool_reserved: PoolGauge,
    watches: Monitor,
    /// Pools with series of their own; at most [`MAX_POOLS`].
    pools: BTreeSet<String>,
    /// The counts of the other pools, IPv4 first. One series is their sum.
    other_pools: BTreeMap<String, [ipam::PoolCounts; 2]>,
    other_pools_sum: [ipam::PoolCounts; 2],
    /// The counters of the index at the last update.
    counted: Counters,
    /// The retries of the current write queue at the last update.
    counted_retries: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
    family: String,
}

type PoolGauge = Family<PoolLabels, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// Buckets from 1 µs to 1 s.
#[derive(Clone, Debug)]
struct DecisionDurations(Histogram);

/// Buckets from 1 ms to 16 s.
#[derive(Clone, Debug)]
struct WriteDurations(Histogram);

impl Metrics {
    /// Returns the part that the watches update.
    pub fn watches(&self) -> &Monitor {
        &self.watches
    }

    /// Registers all metrics with `registry`.
    pub fn register(registry: &http::Metrics) -> Self {
        let mut registry = registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let registry = registry.sub_registry_with_prefix("fairlead_controller");
        let new = Self { watches: Monitor::register(registry), ..Self::default() };
        registry.register(
            "allocations",
            "Services that were allocated addresses they did not hold",
            new.allocations.clone(),
        );
        registry.register(
            "allocation_failures",
            "Services that were refused an address, by reason",
            new.failures.clone(),
        );
        registry.register("evaluations", "Evaluations of a Service", new.evaluations.clone());
        registry.register(
            "resolutions",
            "Resolutions of the configuration objects that changed, once for each batch of changes",
            new.resolutions.clone(),
        );
        registry.register(
            "status_replacements",
            "Times that another program replaced the status or the finalizer of an object, by kind",
            new.status_replacements.clone(),
        );
        // An increase from an absent series is not seen.
        for kind in ["Service".to_owned(), "IPClaim".to_owned()]
            .into_iter()
            .chain(Kind::ALL.iter().map(ToString::to_string))
        {
            drop(new.status_replacements.get_or_create(&KindLabel { kind }));
        }
        registry.register("status_writes", "Status writes, by result", new.writes.clone());
        registry.register(
            "status_write_retries",
            "Status writes sent again after a failure, a conflict or a rejection",
            new.retries.clone(),
        );
        registry.register(
            "status_write_duration_seconds",
            "Time from sending a status write to its response or its time limit",
            new.write_durations.0.clone(),
        );
        registry.register(
            "events_dropped",
            "Events dropped because the queue was full",
            new.events_dropped.clone(),
        );
        registry.register("services", "Services handled by this controller", new.services.clone());
        registry.register("services_waiting", "Services without an address", new.waiting.clone());
        registry.register(
            "status_writes_pending",
            "Status writes that wait to be sent",
            new.writes_pending.clone(),
        );
        registry.register("status_writes_in_flight", "Status writes in flight", new.writes_in_flight.clone());
        registry.register(
            "status_write_window",
            "Status writes that may be in flight, adjusted to the capacity of the API server",
            new.window.clone(),
        );
        registry.register(
            "messages_queued",
            "Watch events that wait to be handled",
            new.messages_queued.clone(),
        );
        registry.register("leading", "1 if this controller leads, otherwise 0", new.leading.clone());
        registry.register(
            "decision_duration_seconds",
            "Time to handle one watch event",
            new.decision_durations.0.clone(),
        );
        for (name, help, gauge) in [
            ("pool_addresses", "Addresses of a pool", &new.pool_total),
            ("pool_assigned_addresses", "Addresses of a pool that Services hold", &new.pool_assigned),
            ("pool_available_addresses", "Free addresses of a pool", &new.pool_available),
            (
                "pool_retained_addresses",
                "Addresses held although their pool no longer offers them",
                &new.pool_retained,
            ),
            (
                "pool_reserved_addresses",
                "Addresses of a pool that are reserved for a Service",
                &new.pool_reserved,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        new
    }

    /// Records how long it took to handle a watch event.
    pub(crate) fn observe_decision(&self, time: Duration) {
        self.decision_durations.0.observe(time.as_secs_f64());
    }

    /// Records whether this controller leads.
    pub(crate) fn set_leading(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// Records the result of a write and how long it was in flight.
    pub(crate) fn observe_write(&self, result: &WriteResult, time: Duration) {
        self.write_durations.0.observe(time.as_secs_f64());
        let result = match result {
            WriteResult::Written(_) => "written",
            WriteResult::Conflict => "conflict",
            WriteResult::Gone => "gone",
            WriteResult::Refused => "invalid",
            WriteResult::Denied(_) => "denied",
            WriteResult::Failed => "failed",
            WriteResult::Unavailable(_) => "unavailable",
        };
        self.writes.get_or_create(&ResultLabel { result: result.to_owned() }).inc();
    }

    /// Counts that another program replaced what this controller wrote into an object of this kind.
    pub(crate) fn count_replacement(&self, kind: &str) {
        self.replacements_of(kind).inc();
    }

    fn replacements_of(&self, kind: &str) -> Counter {
        self.status_replacements.get_or_create_owned(&KindLabel { kind: kind.to_owned() })
    }

    /// Counts events that were not sent because the queue was full.
    pub(crate) fn count_dropped_events(&self, count: usize) {
        self.events_dropped.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Copies the counters of the index and the write queue. `queued` is the number of watch events that
    /// wait.
    pub(crate) fn update(&mut self, index: &Index, queue: &WriteQueue, queued: usize) {
        let now = index.counters();
        self.allocations.inc_by(now.allocations - self.counted.allocations);
        self.evaluations.inc_by(now.evaluations - self.counted.evaluations);
        let replacements = now.status_replacements - self.counted.status_replacements;
        self.replacements_of("Service").inc_by(replacements);
        for (reason, count) in &now.failures {
            let before = self.counted.failures.get(reason).copied().unwrap_or_default();
            if *count > before {
                let reason = ReasonLabel { reason: reason.to_string() };
                self.failures.get_or_create(&reason).inc_by(count - before);
            }
        }
        self.counted.clone_from(now);
        // Each term has a new write queue.
        let before = if queue.retries() < self.counted_retries { 0 } else { self.counted_retries };
        self.retries.inc_by(queue.retries() - before);
        self.counted_retries = queue.retries();
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let (services, waiting) = index.service_counts();
        let (pending, in_flight) = queue.depth();
        self.messages_queued.set(gauge(queued));
        self.services.set(gauge(services));
        self.waiting.set(gauge(waiting));
        self.writes_pending.set(gauge(pending));
        self.writes_in_flight.set(gauge(in_flight));
        self.window.set(gauge(queue.window_size()));
    }

    /// Sets the number of resolutions of the configuration since the process started.
    pub(crate) fn update_resolutions(&self, resolutions: u64) {
        self.resolutions.inc_by(resolutions.saturating_sub(self.resolutions.get()));
    }

    /// Sets the gauges of a pool, or removes them if it does not exist.
    pub(crate) fn update_pool(&mut self, index: &Index, name: &str) {
        if index.ipam().pool(name).is_none() && !index.ipam().is_refused(name) {
            return self.remove_pool(name);
        }
        let counts = ipam::Family::BOTH.map(|family| index.ipam().counts(name, family));
        if !self.pools.contains(name) && self.pools.len() >= MAX_POOLS {
            let before = self.other_pools.insert(name.to_owned(), counts);
            self.change_sum(before, Some(counts));
            return;
        }
        self.pools.insert(name.to_owned());
        self.set_counts(name, counts);
    }

    /// Changes the counts of one of the other pools in their sum.
    fn change_sum(&mut self, before: Option<[ipam::PoolCounts; 2]>, now: Option<[ipam::PoolCounts; 2]>) {
        let [before, now] = [before, now].map(Option::unwrap_or_default);
        for (sum, (before, now)) in self.other_pools_sum.iter_mut().zip(before.into_iter().zip(now)) {
            // Pools are disjoint, so a sum does not exceed the number of addresses.
            let change = |sum: &mut u128, before: u128, now: u128| {
                *sum = sum.wrapping_sub(before).wrapping_add(now);
            };
            change(&mut sum.total, before.total, now.total);
            change(&mut sum.assigned, before.assigned, now.assigned);
            change(&mut sum.available, before.available, now.available);
            change(&mut sum.retained, before.retained, now.retained);
            change(&mut sum.reserved, before.reserved, now.reserved);
        }
        self.set_counts(OTHER_POOLS, self.other_pools_sum);
    }

    /// Sets the gauges of a pool, IPv4 first.
    fn set_counts(&self, pool: &str, counts: [ipam::PoolCounts; 2]) {
        for (family, counts) in ipam::Family::BOTH.into_iter().zip(counts) {
            let labels = PoolLabels { pool: pool.to_owned(), family: family.to_string() };
            let ipam::PoolCounts { total, assigned, available, retained, reserved } = counts;
            for (gauge, count) in self.pool_gauges().zip([total, assigned, available, retained, reserved]) {
                gauge.get_or_create(&labels).set(count as f64);
            }
        }
    }

    /// Removes the gauges of all pools: only the leader exports them.
    pub(crate) fn remove_pools(&mut self) {
        for name in std::mem::take(&mut self.pools) {
            self.remove_pool(&name);
        }
        self.other_pools.clear();
        self.other_pools_sum = Default::default();
        self.remove_pool(OTHER_POOLS);
    }

    fn remove_pool(&mut self, name: &str) {
        self.pools.remove(name);
        if let Some(before) = self.other_pools.remove(name) {
            return self.change_sum(Some(before), None);
        }
        for family in ipam::Family::BOTH {
            let labels = PoolLabels { pool: name.to_owned(), family: family.to_string() };
            for gauge in self.pool_gauges() {
                gauge.remove(&labels);
            }
        }
    }

    /// Returns the gauges in the order total, assigned, available, retained, reserved.
    fn pool_gauges(&self) -> impl Iterator<Item = &PoolGauge> {
        let all = [&self.pool_total, &self.pool_assigned, &self.pool_available];
        all.into_iter().chain([&self.pool_retained, &self.pool_reserved])
    }
}

impl Default for DecisionDurations {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1e-6, 4.0, 11)))
    }
}

impl Default for WriteDurations {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.001, 2.0, 15)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use jiff::Timestamp;
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::write_queue::{PatchBody, Write, WriteTarget};
    use fairlead_allocator::reconcile::ObservedService;
    use fairlead_test_support::{key, pool, pools};

    /// Returns a queue that sent a write this many times.
    fn queue(times: u32) -> WriteQueue {
        let (mut queue, mut now) = (WriteQueue::default(), Instant::now());
        let body = Arc::new(PatchBody::Json(serde_json::Value::Null));
        queue.replace(
            WriteTarget::ServiceStatus(key("s")),
            Some(Write { resource_version: "1".into(), body }),
        );
        for _ in 0..times {
            let (target, _) = queue.poll_transmit(now).unwrap();
            queue.handle_write_result(now, &target, &WriteResult::Failed, 1.0);
            now = queue.poll_timeout().unwrap();
        }
        queue
    }

    #[test]
    fn retries_are_counted_over_all_terms() {
        let mut metrics = Metrics::default();
        for (times, sum) in [(1, 0), (2, 1), (2, 1), (4, 3), (1, 3), (3, 5)] {
            metrics.update(&Index::default(), &queue(times), 0);
            assert_eq!(metrics.retries.get(), sum);
        }
    }

    #[test]
    fn all_metrics_are_exported_and_deleted_pools_are_not() {
        let registry = http::Metrics::default();
        let mut metrics = Metrics::register(&registry);
        let now = Timestamp::UNIX_EPOCH;
        let mut index = Index::default();
        let config = |list| fairlead_crds::model::config::Config {
            pools: pools(list),
            ..fairlead_crds::model::config::Config::default()
        };
        index.set_config(&config(vec![pool("p", &["192.0.2.0"])]), now);
        index.namespaces_reset(vec![("default".into(), Default::default())], now);
        index.claims_reset(Vec::new(), now);
        let service = |name: &str| {
            let service = serde_json::json!({
                "metadata": { "namespace": "default", "name": name, "uid": name },
                "spec": { "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"] },
            });
            ObservedService::of(&serde_json::from_value(service).unwrap(), None).unwrap()
        };
        index.services_reset(vec![service("a"), service("b")], now);
        index.begin(Vec::new(), now);
        metrics.set_leading(true);
        metrics.observe_decision(Duration::from_micros(3));
        metrics.observe_write(&WriteResult::Failed, Duration::from_millis(3));
        metrics.update(&index, &queue(2), 7);
        metrics.update_pool(&index, "p");
        let text = |registry: &http::Metrics| {
            let mut text = String::new();
            encode(&mut text, &registry.lock().unwrap()).unwrap();
            text
        };
        let before = text(&registry);
        for line in [
            "fairlead_controller_allocations_total 1",
            "fairlead_controller_allocation_failures_total{reason=\"PoolExhausted\"} 1",
            "fairlead_controller_leading 1",
            "fairlead_controller_messages_queued 7",
            "fairlead_controller_services_waiting 1",
            "fairlead_controller_decision_duration_seconds_count 1",
            "fairlead_controller_status_write_duration_seconds_count 1",
            "fairlead_controller_status_write_retries_total 1",
            "fairlead_controller_pool_addresses{pool=\"p\",family=\"IPv4\"} 1.0",
            "fairlead_controller_pool_assigned_addresses{pool=\"p\",family=\"IPv4\"} 1.0",
            "fairlead_controller_pool_available_addresses{pool=\"p\",family=\"IPv4\"} 0.0",
            "fairlead_controller_pool_retained_addresses{pool=\"p\",family=\"IPv6\"} 0.0",
            "fairlead_controller_pool_reserved_addresses{pool=\"p\",family=\"IPv4\"} 0.0",
        ] {
            assert!(before.lines().any(|found| found == line), "{line} is not in\n{before}");
        }
        metrics.remove_pools();
        assert!(!text(&registry).contains("pool=\"p\""), "a standby exports no counts");
        metrics.update_pool(&index, "p");
        index.set_config(&config(Vec::new()), now);
        metrics.update_pool(&index, "p");
        assert!(!text(&registry).contains("pool=\"p\""));
    }

    #[test]
    fn series_of_pools_are_bounded_and_the_rest_is_summed_up() {
        let registry = http::Metrics::default();
        let mut metrics = Metrics::register(&registry);
        let mut index = Index::default();
        let names: Vec<String> = (0..MAX_POOLS + 30).map(|n| format!("p{n:04}")).collect();
        let list = names.iter().enumerate().map(|(n, name)| {
            let address = format!("10.0.{}.{}", n / 256, n % 256);
            pool(name, &[&address])
        });
        let config = fairlead_crds::model::config::Config { pools: pools(list), ..Default::default() };
        index.set_config(&config, Timestamp::UNIX_EPOCH);
        let series = || {
            let mut text = String::new();
            encode(&mut text, &registry.lock().unwrap()).unwrap();
            let own = |line: &&str| line.starts_with("fairlead_controller_pool_addresses{");
            text.lines().filter(own).map(str::to_owned).collect::<Vec<_>>()
        };
        let others = |count| {
            format!("fairlead_controller_pool_addresses{{pool=\"(others)\",family=\"IPv4\"}} {count}.0")
        };
        for _ in 0..2 {
            names.iter().for_each(|name| metrics.update_pool(&index, name));
            assert_eq!(series().len(), 2 * (MAX_POOLS + 1));
            assert!(series().contains(&others(30)));
        }
        index.set_config(&Default::default(), Timestamp::UNIX_EPOCH);
        names.iter().rev().take(10).for_each(|name| metrics.update_pool(&index, name));
        assert!(series().contains(&others(20)));
        metrics.remove_pools();
        assert_eq!(series(), Vec::<String>::new());
    }

    #[test]
    fn exported_metrics_are_documented() {
        let registry = http::Metrics::default();
        let metrics = Metrics::register(&registry);
        // A family is exported once it has a series.
        drop(metrics.failures.get_or_create(&ReasonLabel { reason: String::new() }));
        drop(metrics.writes.get_or_create(&ResultLabel { result: String::new() }));
        let labels = PoolLabels { pool: String::new(), family: String::new() };
        for pool in [
            &metrics.pool_total,
            &metrics.pool_assigned,
            &metrics.pool_available,
            &metrics.pool_retained,
            &metrics.pool_reserved,
        ] {
            drop(pool.get_or_create(&labels));
        }
        let mut text = String::new();
        encode(&mut text, &registry.lock().unwrap()).unwrap();
        fairlead_test_support::metrics::check_documented("fairlead_controller", &text);
    }
}
