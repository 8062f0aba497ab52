//! The side effects of foca as queues: datagrams to send, notifications, timers.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use foca::{Notification, OwnedNotification, Runtime, Timer};

use crate::Identity;

pub(crate) struct FocaRuntime {
    /// The time of the current call into foca.
    pub(crate) now: Instant,
    pub(crate) sends: VecDeque<(Identity, Vec<u8>)>,
    pub(crate) notifications: VecDeque<OwnedNotification<Identity>>,
    /// By due time; the number orders timers with the same due time as they were set.
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    timers_set: u64,
}

impl FocaRuntime {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            now,
            sends: VecDeque::new(),
            notifications: VecDeque::new(),
            timers: BTreeMap::new(),
            timers_set: 0,
        }
    }

    /// Returns when the next timer is due.
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((due, _), _)| *due)
    }

    /// Removes and returns the next timer that is due.
    pub(crate) fn pop_timer(&mut self) -> Option<Timer<Identity>> {
        let entry = self.timers.first_entry().filter(|entry| entry.key().0 <= self.now)?;
        Some(entry.remove())
    }

    pub(crate) fn clear_timers(&mut self) {
        self.timers.clear();
    }
}

impl Runtime<Identity> for &mut FocaRuntime {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        self.notifications.push_back(notification.to_owned());
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.sends.push_back((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers_set += 1;
        self.timers.insert((self.now + after, self.timers_set), event);
    }
}
