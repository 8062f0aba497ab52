//! What foca wants done: its `Runtime` as plain queues.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use foca::{Notification, OwnedNotification, Runtime, Timer};

use crate::Identity;

pub(crate) struct Outbox {
    /// The time of the call under way.
    pub(crate) now: Instant,
    pub(crate) sends: VecDeque<(Identity, Vec<u8>)>,
    pub(crate) notifications: VecDeque<OwnedNotification<Identity>>,
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    count: u64,
}

impl Outbox {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            sends: VecDeque::new(),
            notifications: VecDeque::new(),
            timers: BTreeMap::new(),
            count: 0,
        }
    }

    /// When the next timer is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes out the next due timer; those of one moment in the order they were set.
    pub(crate) fn pop_due(&mut self) -> Option<Timer<Identity>> {
        let entry = self.timers.first_entry().filter(|entry| entry.key().0 <= self.now)?;
        Some(entry.remove())
    }

    pub(crate) fn clear_timers(&mut self) {
        self.timers.clear();
    }
}

impl Runtime<Identity> for &mut Outbox {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        self.notifications.push_back(notification.to_owned());
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.sends.push_back((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.count += 1;
        self.timers.insert((self.now + after, self.count), event);
    }
}
