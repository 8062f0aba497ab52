//! Fault injection: a server that is slow, overloaded, failing, has lost its history, or is unavailable.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A fault that affects some requests. Empty lists select every verb and every resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Verbs: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verbs: Vec<String>,
    /// Resources by plural name, with a subresource after a slash: `services`, `services/status`. `services`
    /// alone does not select `services/status`.
    pub resources: Vec<String>,
    /// Share of the matching requests that are affected, 0 to 1.
    pub probability: f64,
    /// Delay before the response, in milliseconds.
    pub latency_ms: u64,
    /// Status that is returned instead of executing the request: 409, 429, 500, 503, 504 or another status
    /// from 400.
    pub status: Option<u16>,
    /// `Retry-After` of that response, in seconds.
    pub retry_after: Option<u32>,
    /// Number of affected requests after which the fault ends.
    pub times: Option<u64>,
}

impl Default for Fault {
    fn default() -> Self {
        Fault {
            verbs: Vec::new(),
            resources: Vec::new(),
            probability: 1.0,
            latency_ms: 0,
            status: None,
            retry_after: None,
            times: None,
        }
    }
}

/// The kinds of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outage {
    /// Connections are reset and new ones refused.
    Refuse,
    /// Connections stay open and new ones are accepted, but requests get no response.
    Hang,
}

/// The faults of one server. Clones share them.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Inner>);

struct Inner {
    rules: Mutex<Rules>,
    outage: watch::Sender<Option<(Outage, Instant)>>,
    watches: watch::Sender<WatchOrder>,
    compact: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct Rules {
    next: u64,
    active: Vec<(u64, Fault)>,
    dice: SmallRng,
}

/// Signals to running watches; a watch acts when a counter changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchOrder {
    /// Incremented when watches must end without an event.
    pub close: u64,
    /// Incremented when watches must end with an ERROR event, 410 Expired.
    pub expire: u64,
}

/// The effect on one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub delay: Duration,
    pub status: Option<(u16, Option<u32>)>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Faults {
        Faults(Arc::new(Inner {
            rules: Mutex::new(Rules { next: 1, active: Vec::new(), dice: SmallRng::seed_from_u64(seed) }),
            outage: watch::Sender::new(None),
            watches: watch::Sender::new(WatchOrder::default()),
            compact: OnceLock::new(),
        }))
    }

    /// Adds a fault. The returned number removes it.
    pub fn add(&self, fault: Fault) -> u64 {
        let mut rules = self.rules();
        let id = rules.next;
        rules.next += 1;
        rules.active.push((id, fault));
        id
    }

    /// Removes a fault.
    pub fn remove(&self, id: u64) {
        self.rules().active.retain(|(other, _)| *other != id);
    }

    /// Removes all faults and ends an outage.
    pub fn clear(&self) {
        self.rules().active.clear();
        self.end_outage();
    }

    /// Returns the active faults with their numbers.
    pub fn active(&self) -> Vec<(u64, Fault)> {
        self.rules().active.clone()
    }

    /// Delays every response.
    pub fn latency(&self, delay: Duration) -> u64 {
        let latency_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.add(Fault { latency_ms, ..Fault::default() })
    }

    /// Fails a share of the requests with an HTTP status, without executing them.
    pub fn fail(&self, status: u16, probability: f64, verbs: &[&str], resources: &[&str]) -> u64 {
        self.add(Fault {
            verbs: verbs.iter().map(ToString::to_string).collect(),
            resources: resources.iter().map(ToString::to_string).collect(),
            probability,
            status: Some(status),
            ..Fault::default()
        })
    }

    /// Ends all running watches like a closed connection.
    pub fn close_watches(&self) {
        self.0.watches.send_modify(|order| order.close += 1);
    }

    /// Ends all running watches with an ERROR event: 410, reason Expired.
    pub fn expire_watches(&self) {
        self.0.watches.send_modify(|order| order.expire += 1);
    }

    /// Discards all history: a watch or an exact list at an earlier revision gets 410 Gone. Running watches
    /// continue.
    pub fn compact(&self) {
        if let Some(compact) = self.0.compact.get() {
            compact();
        }
    }

    /// Starts an outage of limited duration.
    pub fn outage(&self, outage: Outage, duration: Duration) {
        let now = Instant::now();
        let until = now.checked_add(duration).unwrap_or(now + Duration::from_secs(86_400 * 365));
        self.0.outage.send_replace(Some((outage, until)));
    }

    /// Ends an outage.
    pub fn end_outage(&self) {
        self.0.outage.send_replace(None);
    }

    pub(crate) fn on_compact(&self, compact: Box<dyn Fn() + Send + Sync>) {
        // Set once, by the server that owns these faults.
        let _ = self.0.compact.set(compact);
    }

    pub(crate) fn outages(&self) -> watch::Receiver<Option<(Outage, Instant)>> {
        self.0.outage.subscribe()
    }

    pub(crate) fn watch_orders(&self) -> watch::Receiver<WatchOrder> {
        self.0.watches.subscribe()
    }

    /// Decides randomly which faults affect a request.
    pub(crate) fn decide(&self, verb: &str, resource: &str) -> Verdict {
        let mut verdict = Verdict::default();
        let Rules { active, dice, .. } = &mut *self.rules();
        active.retain_mut(|(_, fault)| {
            let listed = |list: &[String], what: &str| list.is_empty() || list.iter().any(|x| x == what);
            if verdict.status.is_some()
                || !listed(&fault.verbs, verb)
                || !listed(&fault.resources, resource)
                || !dice.random_bool(fault.probability.clamp(0.0, 1.0))
            {
                return true;
            }
            verdict.delay += Duration::from_millis(fault.latency_ms);
            verdict.status = fault.status.map(|status| (status, fault.retry_after));
            match &mut fault.times {
                Some(times) => {
                    *times = times.saturating_sub(1);
                    *times > 0
                }
                None => true,
            }
        });
        verdict
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("outage", &*self.outage.borrow()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_affects_only_selected_requests() {
        let faults = Faults::new(1);
        faults.add(Fault {
            verbs: vec!["patch".into()],
            resources: vec!["services/status".into()],
            status: Some(409),
            times: Some(2),
            ..Fault::default()
        });
        assert_eq!(faults.decide("get", "services/status").status, None);
        assert_eq!(faults.decide("patch", "services").status, None);
        assert_eq!(faults.decide("patch", "services/status").status, Some((409, None)));
        assert_eq!(faults.decide("patch", "services/status").status, Some((409, None)));
        assert_eq!(faults.decide("patch", "services/status").status, None);
        assert_eq!(faults.active(), vec![]);
    }

    #[test]
    fn delays_add_up_and_first_status_applies() {
        let faults = Faults::new(1);
        faults.latency(Duration::from_millis(20));
        faults.latency(Duration::from_millis(5));
        faults.fail(429, 1.0, &[], &[]);
        faults.fail(500, 1.0, &[], &[]);
        let verdict = faults.decide("get", "nodes");
        assert_eq!(verdict.delay, Duration::from_millis(25));
        assert_eq!(verdict.status, Some((429, None)));
    }

    #[test]
    fn fault_probability_is_respected() {
        let faults = Faults::new(7);
        faults.fail(500, 0.25, &[], &[]);
        let hits = (0..4000).filter(|_| faults.decide("get", "nodes").status.is_some()).count();
        assert!((850..1150).contains(&hits), "{hits}");
    }
}
