//! Fault injection: a server that is slow, overloaded, failing, has lost its history, or is unavailable.

use std::sync::atomic::{AtomicUsize, Ordering};
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
    /// Names of objects, as `namespace/name`, or `name` for cluster-scoped kinds. A final `*` selects all
    /// names that begin so.
    pub names: Vec<String>,
    /// Share of the matching requests that are affected, 0 to 1.
    pub probability: f64,
    /// Delay before the response, in milliseconds.
    pub latency_ms: u64,
    /// Status that is returned instead of executing the request: 409, 429, 500, 503, 504 or another status
    /// from 400.
    pub status: Option<u16>,
    /// Message of that response instead of the usual one.
    pub message: Option<String>,
    /// `Retry-After` of that response, in seconds.
    pub retry_after: Option<u32>,
    /// Number of matching requests that may be executed at one time, like the seats of a priority level whose
    /// limit response is `Reject`; one more gets 429. Combine it with a latency. Watches take no seat.
    pub seats: Option<usize>,
    /// Number of affected requests after which the fault ends.
    pub times: Option<u64>,
}

impl Default for Fault {
    fn default() -> Self {
        Fault {
            verbs: Vec::new(),
            resources: Vec::new(),
            names: Vec::new(),
            probability: 1.0,
            latency_ms: 0,
            status: None,
            message: None,
            retry_after: None,
            seats: None,
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
    active: Vec<Rule>,
    dice: SmallRng,
}

struct Rule {
    id: u64,
    fault: Fault,
    /// Number of taken seats.
    seated: Arc<AtomicUsize>,
}

/// A request as faults select it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selected<'a> {
    pub verb: &'a str,
    /// Plural name, with a subresource after a slash.
    pub resource: &'a str,
    /// `namespace/name`, or `name`; empty for a collection.
    pub name: &'a str,
}

/// Signals to running watches; a watch acts when a counter changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchOrder {
    /// Incremented when watches must end without an event.
    pub close: u64,
    /// Incremented when watches must end with an ERROR event, 410 Expired.
    pub expire: u64,
    /// Number of bookmarks that watches must have sent on demand.
    pub bookmarks: u64,
    /// Number of bookmarks with which a new watch begins.
    pub first_bookmarks: u64,
}

/// The effect on one request.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub delay: Duration,
    pub refusal: Option<Refusal>,
    /// Taken until the request is executed.
    pub seats: Vec<Seat>,
}

/// A response instead of executing a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub message: Option<String>,
    pub retry_after: Option<u32>,
}

/// A seat of a fault, free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(seated: &Arc<AtomicUsize>, seats: usize) -> Option<Seat> {
        let taken = seated
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < seats).then_some(taken + 1));
        taken.is_ok().then(|| Seat(seated.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Fault {
    fn selects(&self, request: Selected<'_>) -> bool {
        let listed = |list: &[String], what: &str| list.is_empty() || list.iter().any(|x| x == what);
        let named = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => request.name.starts_with(beginning),
            None => request.name == pattern,
        };
        listed(&self.verbs, request.verb)
            && listed(&self.resources, request.resource)
            && (self.names.is_empty() || (!request.name.is_empty() && self.names.iter().any(named)))
    }
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
        rules.active.push(Rule { id, fault, seated: Arc::default() });
        id
    }

    /// Removes a fault.
    pub fn remove(&self, id: u64) {
        self.rules().active.retain(|rule| rule.id != id);
    }

    /// Removes all faults, ends an outage, and lets new watches begin without bookmarks.
    pub fn clear(&self) {
        self.rules().active.clear();
        self.begin_with_bookmarks(0);
        self.end_outage();
    }

    /// Returns the active faults with their numbers.
    pub fn active(&self) -> Vec<(u64, Fault)> {
        self.rules().active.iter().map(|rule| (rule.id, rule.fault.clone())).collect()
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

    /// Refuses writes of these objects as a ValidatingAdmissionPolicy does: 422, reason Invalid.
    pub fn refuse(&self, resources: &[&str], names: &[&str], message: &str) -> u64 {
        let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        self.add(Fault {
            verbs: own(&["create", "update", "patch"]),
            resources: own(resources),
            names: own(names),
            status: Some(422),
            message: Some(message.to_owned()),
            ..Fault::default()
        })
    }

    /// Makes every running watch that accepts bookmarks send some now.
    pub fn send_bookmarks(&self, count: u64) {
        self.0.watches.send_modify(|order| order.bookmarks += count);
    }

    /// Makes every new watch that accepts bookmarks begin with some, before any change that follows the list.
    pub fn begin_with_bookmarks(&self, count: u64) {
        self.0.watches.send_modify(|order| order.first_bookmarks = count);
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
    pub(crate) fn decide(&self, request: Selected<'_>) -> Verdict {
        let mut verdict = Verdict::default();
        let Rules { active, dice, .. } = &mut *self.rules();
        active.retain_mut(|Rule { fault, seated, .. }| {
            if verdict.refusal.is_some()
                || !fault.selects(request)
                || !dice.random_bool(fault.probability.clamp(0.0, 1.0))
            {
                return true;
            }
            let refusal =
                |status| Refusal { status, message: fault.message.clone(), retry_after: fault.retry_after };
            verdict.refusal = fault.status.map(refusal);
            if let Some(seats) = fault.seats
                && request.verb != "watch"
                && verdict.refusal.is_none()
            {
                match Seat::take(seated, seats) {
                    Some(seat) => verdict.seats.push(seat),
                    None => verdict.refusal = Some(refusal(429)),
                }
            }
            // A request without a seat is refused at once.
            if fault.seats.is_none() || verdict.refusal.is_none() {
                verdict.delay += Duration::from_millis(fault.latency_ms);
            }
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

    /// Returns true if a fault selects objects by name.
    pub(crate) fn by_name(&self) -> bool {
        self.rules().active.iter().any(|rule| !rule.fault.names.is_empty())
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
mod tests;
