//! When the speaker sends Kubernetes Events, and what they say.
//!
//! What happens to an object within [`INTERVAL`] of its last Event is one Event at the end of that time. All
//! Events together are [`PACE`] apart, so that a failover with thousands of addresses does not load the API
//! server. The number of objects bounds the queue.
//!
//! ```text
//! push ───────────┐                   ┌─▶ poll_event     the Event to send now
//! handle_failure ─┴──▶ EventQueue ────┴─▶ poll_timeout   when to call poll_event again
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

/// Minimum time between two Events about one object.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Minimum time between two Events.
pub const PACE: Duration = Duration::from_millis(40);

/// The object that an Event is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum EventSubject {
    Service(Arc<ObjectKey>),
    BgpPeer(Arc<str>),
}

/// Something that happened to a part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// True if an operator should look at it.
    pub is_warning: bool,
    /// A CamelCase word.
    pub reason: &'static str,
    #[allow(missing_docs)]
    pub message: String,
    #[allow(missing_docs)]
    pub at: Timestamp,
}

/// An Event to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedEvent {
    #[allow(missing_docs)]
    pub subject: EventSubject,
    /// The last occurrence for each part of the object, such as an address. Never empty.
    pub occurrences: BTreeMap<String, Occurrence>,
}

/// The Events that wait.
#[derive(Clone, Debug, Default)]
pub struct EventQueue {
    pending: BTreeMap<EventSubject, BTreeMap<String, Occurrence>>,
    /// When the last Event about each object was sent, for [`INTERVAL`].
    sent: BTreeMap<EventSubject, Instant>,
    not_before: Option<Instant>,
}

impl QueuedEvent {
    /// Returns the first occurrence, which gives the Event its reason.
    fn first(&self) -> Option<&Occurrence> {
        self.occurrences.values().next()
    }

    /// Returns the reason.
    pub fn reason(&self) -> &'static str {
        self.first().map_or("", |first| first.reason)
    }

    /// Returns whether an operator should look at it.
    pub fn is_warning(&self) -> bool {
        self.occurrences.values().any(|occurrence| occurrence.is_warning)
    }

    /// Returns the time of the last occurrence.
    pub fn at(&self) -> Timestamp {
        self.occurrences.values().map(|occurrence| occurrence.at).max().unwrap_or_default()
    }

    /// Returns the messages of all parts.
    pub fn message(&self) -> String {
        let messages: Vec<&str> = self.occurrences.values().map(|one| one.message.as_str()).collect();
        messages.join("; ")
    }
}

impl EventQueue {
    /// Adds an occurrence, in place of one that waits for the same part of the object.
    pub fn push(&mut self, subject: EventSubject, part: String, occurrence: Occurrence) {
        self.pending.entry(subject).or_default().insert(part, occurrence);
    }

    /// Returns the Event to send now.
    pub fn poll_event(&mut self, now: Instant) -> Option<QueuedEvent> {
        self.sent.retain(|_, sent| now < *sent + INTERVAL);
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return None;
        }
        let subject = self.pending.keys().find(|subject| !self.sent.contains_key(*subject))?.clone();
        let occurrences = self.pending.remove(&subject)?;
        self.sent.insert(subject.clone(), now);
        self.not_before = Some(now + PACE);
        Some(QueuedEvent { subject, occurrences })
    }

    /// Returns an Event that was not sent to the queue, and sends nothing before `retry`.
    pub fn handle_failure(&mut self, event: QueuedEvent, retry: Instant) {
        self.sent.remove(&event.subject);
        let pending = self.pending.entry(event.subject).or_default();
        for (part, occurrence) in event.occurrences {
            pending.entry(part).or_insert(occurrence);
        }
        self.not_before = self.not_before.max(Some(retry));
    }

    /// Returns when to call [`Self::poll_event`]; `None` if nothing waits.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let due =
            self.pending.keys().map(|subject| self.sent.get(subject).map_or(now, |sent| *sent + INTERVAL));
        let first = due.min()?;
        Some(self.not_before.map_or(first, |not_before| not_before.max(first)))
    }
}

#[cfg(test)]
mod tests {
    use fairlead_test_support::key;

    use super::*;

    /// A queue and the simulated time in milliseconds.
    struct Bench {
        start: Instant,
        queue: EventQueue,
    }

    impl Bench {
        fn new() -> Self {
            Self { start: Instant::now(), queue: EventQueue::default() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn push(&mut self, service: &str, part: &str, message: &str) {
            let message = message.to_owned();
            let occurrence =
                Occurrence { is_warning: false, reason: "Moved", message, at: Timestamp::UNIX_EPOCH };
            self.queue.push(EventSubject::Service(Arc::new(key(service))), part.to_owned(), occurrence);
        }

        /// Returns the Events from one time to another, as `ms service message`.
        fn run(&mut self, from: u64, until: u64) -> Vec<String> {
            let mut events = Vec::new();
            let mut now = self.at(from);
            while let Some(due) = self.queue.poll_timeout(now).filter(|due| *due <= self.at(until)) {
                now = due.max(now);
                let event = self.queue.poll_event(now).expect("an Event is due");
                let EventSubject::Service(service) = &event.subject else { panic!("{event:?}") };
                let ms = (now - self.start).as_millis();
                events.push(format!("{ms} {} {}", service.name, event.message()));
            }
            events
        }
    }

    #[test]
    fn object_gets_one_event_per_interval() {
        let mut bench = Bench::new();
        bench.push("web", "192.0.2.1", "first");
        assert_eq!(bench.run(0, 0), ["0 web first"]);
        bench.push("web", "192.0.2.1", "second");
        bench.push("web", "192.0.2.1", "third");
        bench.push("web", "2001:db8::1", "other");
        assert_eq!(bench.run(5_000, 9_999), Vec::<String>::new());
        assert_eq!(bench.run(9_999, 60_000), ["10000 web third; other"]);
        bench.push("web", "192.0.2.1", "last");
        assert_eq!(bench.run(60_000, 60_000), ["60000 web last"]);
    }

    #[test]
    fn thousand_objects_get_a_thousand_events_in_pace() {
        let mut bench = Bench::new();
        (0..1_000).for_each(|n| bench.push(&format!("s{n:03}"), "192.0.2.1", "moved"));
        let events = bench.run(0, 600_000);
        assert_eq!(events.len(), 1_000);
        assert_eq!((events[1].as_str(), events[999].as_str()), ("40 s001 moved", "39960 s999 moved"));
        assert!(bench.queue.sent.len() <= 251, "what was sent long ago is forgotten");
    }

    #[test]
    fn failed_event_is_sent_again_unless_a_newer_one_waits() {
        let mut bench = Bench::new();
        bench.push("web", "192.0.2.1", "old");
        bench.push("web", "192.0.2.2", "other");
        let event = bench.queue.poll_event(bench.at(0)).unwrap();
        bench.push("web", "192.0.2.1", "new");
        let retry = bench.at(3_000);
        bench.queue.handle_failure(event, retry);
        assert_eq!(bench.run(0, 60_000), ["3000 web new; other"]);
    }
}
