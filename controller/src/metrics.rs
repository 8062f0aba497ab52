//! Metrics of the controller.

use std::collections::BTreeSet;
use std::time::Duration;

use fairlead_runtime::http;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::write_queue::{WriteQueue, WriteResult};
use fairlead_allocator::ipam;
use fairlead_allocator::reconcile::{Counters, Index};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pool {
    pool: String,
    family: String,
}

type PoolGauge = Family<Pool, Gauge<f64, std::sync::atomic::AtomicU64>>;

/// How long decisions took: 1 µs to 1 s.
#[derive(Clone, Debug)]
struct DecisionTimes(Histogram);

impl Default for DecisionTimes {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(1e-6, 4.0, 11)))
    }
}

/// How long writes took: 1 ms to 16 s.
#[derive(Clone, Debug)]
struct Times(Histogram);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.001, 2.0, 15)))
    }
}

/// All metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    allocations: Counter,
    failures: Family<Reason, Counter>,
    evaluations: Counter,
    writes: Family<Result, Counter>,
    write_times: Times,
    retries: Counter,
    events_dropped: Counter,
    services: Gauge,
    waiting: Gauge,
    writes_pending: Gauge,
    writes_in_flight: Gauge,
    window: Gauge,
    messages_queued: Gauge,
    leading: Gauge,
    decision_times: DecisionTimes,
    pool_total: PoolGauge,
    pool_assigned: PoolGauge,
    pool_available: PoolGauge,
    pool_retained: PoolGauge,
    pool_reserved: PoolGauge,
    pools: BTreeSet<String>,
    counted: Counters,
    /// Of the present queue.
    repeats: u64,
}

impl Metrics {
    /// Metrics that `registry` exports.
    pub fn register(registry: &http::Metrics) -> Self {
        let new = Self::default();
        let mut registry = registry.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let registry = registry.sub_registry_with_prefix("fairlead_controller");
        registry.register(
            "allocations",
            "Times a Service got addresses it did not hold",
            new.allocations.clone(),
        );
        registry.register(
            "allocation_failures",
            "Times a Service was refused, by reason",
            new.failures.clone(),
        );
        registry.register("evaluations", "Decisions on a Service", new.evaluations.clone());
        registry.register("status_writes", "Status writes, by result", new.writes.clone());
        registry.register(
            "status_write_retries",
            "Status writes sent again, after a failure, a conflict or a refusal",
            new.retries.clone(),
        );
        registry.register(
            "status_write_duration_seconds",
            "Time from sending a status write to its answer, or to giving up",
            new.write_times.0.clone(),
        );
        registry.register(
            "events_dropped",
            "Events not sent because too many waited",
            new.events_dropped.clone(),
        );
        registry.register("services", "Services of ours", new.services.clone());
        registry.register("services_waiting", "Services that wait for an address", new.waiting.clone());
        registry.register("status_writes_pending", "Status writes that wait", new.writes_pending.clone());
        registry.register(
            "status_writes_in_flight",
            "Status writes on the way",
            new.writes_in_flight.clone(),
        );
        registry.register(
            "status_write_window",
            "Status writes that may be on the way at once, by what the API server was seen to bear",
            new.window.clone(),
        );
        registry.register(
            "messages_queued",
            "Changes seen that wait to be decided on",
            new.messages_queued.clone(),
        );
        registry.register("leading", "1 while this controller leads", new.leading.clone());
        registry.register(
            "decision_duration_seconds",
            "Time to decide on one change",
            new.decision_times.0.clone(),
        );
        for (name, help, gauge) in [
            ("pool_addresses", "Addresses of a pool", &new.pool_total),
            ("pool_assigned_addresses", "Addresses of a pool that Services hold", &new.pool_assigned),
            ("pool_available_addresses", "Addresses of a pool that are free", &new.pool_available),
            (
                "pool_retained_addresses",
                "Addresses held of a pool that would not give them now",
                &new.pool_retained,
            ),
            (
                "pool_reserved_addresses",
                "Addresses of a pool that are kept for a Service",
                &new.pool_reserved,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        new
    }

    /// A change was decided on, which took this long.
    pub fn decided(&self, time: Duration) {
        self.decision_times.0.observe(time.as_secs_f64());
    }

    /// Whether this controller leads.
    pub fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// How a write went, and how long it took.
    pub fn wrote(&self, answer: &WriteResult, time: Duration) {
        self.write_times.0.observe(time.as_secs_f64());
        let result = match answer {
            WriteResult::Written(_) => "written",
            WriteResult::Conflict => "conflict",
            WriteResult::Gone => "gone",
            WriteResult::Invalid => "invalid",
            WriteResult::Failed => "failed",
            WriteResult::Unavailable(_) => "unavailable",
        };
        self.writes.get_or_create(&Result { result: result.to_owned() }).inc();
    }

    /// An event was not sent.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Takes over what the index and the queue count.
    pub fn update(&mut self, index: &Index, queue: &WriteQueue, queued: usize) {
        let now = index.counters();
        self.allocations.inc_by(now.allocations - self.counted.allocations);
        self.evaluations.inc_by(now.evaluations - self.counted.evaluations);
        for (reason, count) in &now.failures {
            let before = self.counted.failures.get(reason).copied().unwrap_or_default();
            if *count > before {
                let reason = Reason { reason: reason.to_string() };
                self.failures.get_or_create(&reason).inc_by(count - before);
            }
        }
        self.counted.clone_from(now);
        // With each term comes a new queue.
        let before = if queue.retries() < self.repeats { 0 } else { self.repeats };
        self.retries.inc_by(queue.retries() - before);
        self.repeats = queue.retries();
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

    /// Sets the gauges of a pool, or removes them when it does not exist.
    pub fn pool(&mut self, index: &Index, name: &str) {
        if index.ipam().pool(name).is_none() && !index.ipam().is_refused(name) {
            return self.forget_pool(name);
        }
        self.pools.insert(name.to_owned());
        for family in ipam::Family::BOTH {
            let labels = Pool { pool: name.to_owned(), family: family.to_string() };
            let ipam::PoolCounts { total, assigned, available, retained, reserved } =
                index.ipam().counts(name, family);
            for (gauge, count) in self.pool_gauges().zip([total, assigned, available, retained, reserved]) {
                gauge.get_or_create(&labels).set(count as f64);
            }
        }
    }

    /// Exports no counts any more: only one controller has them, the one that leads.
    pub fn forget_pools(&mut self) {
        self.pools().iter().for_each(|name| self.forget_pool(name));
    }

    fn forget_pool(&mut self, name: &str) {
        self.pools.remove(name);
        for family in ipam::Family::BOTH {
            let labels = Pool { pool: name.to_owned(), family: family.to_string() };
            for gauge in self.pool_gauges() {
                gauge.remove(&labels);
            }
        }
    }

    /// Total, assigned, available, retained, reserved.
    fn pool_gauges(&self) -> impl Iterator<Item = &PoolGauge> {
        let all = [&self.pool_total, &self.pool_assigned, &self.pool_available];
        all.into_iter().chain([&self.pool_retained, &self.pool_reserved])
    }

    /// Pools that have gauges.
    pub fn pools(&self) -> Vec<String> {
        self.pools.iter().cloned().collect()
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
    use fairlead_allocator::reconcile::Observed;
    use fairlead_test_support::{key, pool, pools};

    /// One that sent a write this often.
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
    fn repeated_writes_are_counted_over_all_terms() {
        let mut metrics = Metrics::default();
        for (times, sum) in [(1, 0), (2, 1), (2, 1), (4, 3), (1, 3), (3, 5)] {
            metrics.update(&Index::default(), &queue(times), 0);
            assert_eq!(metrics.retries.get(), sum);
        }
    }

    #[test]
    fn everything_is_exported_and_a_pool_that_is_gone_is_not() {
        let registry = http::Metrics::default();
        let mut metrics = Metrics::register(&registry);
        let now = Timestamp::UNIX_EPOCH;
        let mut index = Index::default();
        let config = |list| fairlead_crds::model::config::Config {
            pools: pools(list),
            ..fairlead_crds::model::config::Config::default()
        };
        index.set_config(config(vec![pool("p", &["192.0.2.0"])]), now);
        index.namespaces_reset(vec![("default".into(), Default::default())], now);
        index.claims_reset(Vec::new(), now);
        let service = |name: &str| {
            let service = serde_json::json!({
                "metadata": { "namespace": "default", "name": name, "uid": name },
                "spec": { "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"] },
            });
            Observed::of(&serde_json::from_value(service).unwrap(), None).unwrap()
        };
        index.services_reset(vec![service("a"), service("b")], now);
        index.begin(Vec::new(), now);
        metrics.leads(true);
        metrics.decided(Duration::from_micros(3));
        metrics.wrote(&WriteResult::Failed, Duration::from_millis(3));
        metrics.update(&index, &queue(2), 7);
        metrics.pool(&index, "p");
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
            assert!(before.lines().any(|has| has == line), "{line} is not in\n{before}");
        }
        metrics.forget_pools();
        assert!(!text(&registry).contains("pool=\"p\""), "who no longer leads has no counts");
        metrics.pool(&index, "p");
        index.set_config(config(Vec::new()), now);
        metrics.pool(&index, "p");
        assert!(!text(&registry).contains("pool=\"p\""));
    }
}
