//! Metrics of the controller.

use std::collections::BTreeSet;

use fairlead_runtime::http;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::decide::{Counters, Index};
use crate::ipam;
use crate::writer::{Answer, Writer};

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

/// All metrics.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    allocations: Counter,
    failures: Family<Reason, Counter>,
    evaluations: Counter,
    writes: Family<Result, Counter>,
    retries: Counter,
    events_dropped: Counter,
    services: Gauge,
    waiting: Gauge,
    writes_pending: Gauge,
    writes_in_flight: Gauge,
    pool_addresses: Family<Pool, Gauge<f64, std::sync::atomic::AtomicU64>>,
    pool_assigned: Family<Pool, Gauge<f64, std::sync::atomic::AtomicU64>>,
    pools: BTreeSet<String>,
    counted: Counters,
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
            "Status writes that must be sent again",
            new.retries.clone(),
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
        registry.register("pool_addresses", "Addresses of a pool", new.pool_addresses.clone());
        registry.register(
            "pool_assigned_addresses",
            "Addresses of a pool that are held",
            new.pool_assigned.clone(),
        );
        new
    }

    /// How a write went.
    pub fn wrote(&self, answer: &Answer) {
        let result = match answer {
            Answer::Written(_) => "written",
            Answer::Conflict => "conflict",
            Answer::Gone => "gone",
            Answer::Invalid => "invalid",
            Answer::Failed => "failed",
            Answer::Unavailable(_) => "unavailable",
        };
        self.writes.get_or_create(&Result { result: result.to_owned() }).inc();
        if matches!(answer, Answer::Failed | Answer::Unavailable(_)) {
            self.retries.inc();
        }
    }

    /// An event was not sent.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Takes over what the index and the writer count.
    pub fn update(&mut self, index: &Index, writer: &Writer) {
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
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let (services, waiting) = index.service_counts();
        let (pending, in_flight) = writer.depth();
        self.services.set(gauge(services));
        self.waiting.set(gauge(waiting));
        self.writes_pending.set(gauge(pending));
        self.writes_in_flight.set(gauge(in_flight));
    }

    /// Sets the gauges of a pool, or removes them when it does not exist.
    pub fn pool(&mut self, index: &Index, name: &str) {
        let families = [ipam::Family::V4, ipam::Family::V6];
        let labels = |family: ipam::Family| Pool { pool: name.to_owned(), family: family.to_string() };
        if index.ipam().pool(name).is_none() && !index.ipam().is_refused(name) {
            self.pools.remove(name);
            for family in families {
                self.pool_addresses.remove(&labels(family));
                self.pool_assigned.remove(&labels(family));
            }
            return;
        }
        self.pools.insert(name.to_owned());
        for family in families {
            let counts = index.ipam().counts(name, family);
            self.pool_addresses.get_or_create(&labels(family)).set(counts.total as f64);
            self.pool_assigned.get_or_create(&labels(family)).set(counts.assigned as f64);
        }
    }

    /// Pools that have gauges.
    pub fn pools(&self) -> Vec<String> {
        self.pools.iter().cloned().collect()
    }
}
