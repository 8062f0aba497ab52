//! Another program that replaces the status of a Service, such as a second load balancer implementation.
//!
//! Each writes after the other, as fast as the API server allows. So the controller counts how often its
//! status was replaced, writes less and less often, and names the other program on the Service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fairlead_crds::text::quoted;
use jiff::{SignedDuration, Timestamp};

use super::observed::ObservedService;

/// Number of replacements after which the controller writes at once: a person may have edited the status.
const TOLERATED: u32 = 3;
/// First and longest time between a replacement and the next write.
const DELAY: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(1), SignedDuration::from_secs(300));
/// Time without a replacement after which a conflict is over.
const QUIET: SignedDuration = SignedDuration::from_secs(600);
/// The maximum number of ingress entries in the message.
const MAX_LISTED: usize = 4;

/// The replacements of the status of a Service.
#[derive(Clone, Debug)]
pub(super) struct StatusConflict {
    replacements: u32,
    /// Time of the last one.
    last: Timestamp,
    /// Who writes what, when this controller last wrote; empty until more than [`TOLERATED`] replacements.
    message: String,
}

impl StatusConflict {
    /// Returns the state before the first replacement.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { replacements: 0, last: now, message: String::new() }
    }

    /// Handles that the status which this controller wrote was replaced. Returns true for the first
    /// replacement that is not tolerated.
    pub(super) fn handle_replacement(&mut self, now: Timestamp) -> bool {
        self.replacements = self.replacements.saturating_add(1);
        self.last = now;
        self.replacements == TOLERATED + 1
    }

    /// Returns the number of replacements.
    pub(super) fn replacements(&self) -> u32 {
        self.replacements
    }

    /// Returns when the status may be written again.
    pub(super) fn next_write(&self) -> Timestamp {
        self.after(self.delay())
    }

    /// Returns when the conflict is over unless the status is replaced again.
    pub(super) fn end(&self) -> Timestamp {
        self.after(self.delay().saturating_add(QUIET))
    }

    /// Returns the message of the condition; `None` while replacements are tolerated.
    pub(super) fn message(&self) -> Option<&str> {
        Some(self.message.as_str()).filter(|message| !message.is_empty())
    }

    /// Sets the message to what the status contains now, instead of `wanted`, unless replacements are
    /// tolerated.
    pub(super) fn describe(&mut self, observed: &ObservedService, wanted: &[IpAddr]) {
        if self.replacements <= TOLERATED {
            return;
        }
        let who = match &observed.status_writer {
            Some(manager) => format!("field manager {}", quoted(manager)),
            None => "another program".to_owned(),
        };
        let balancer = &observed.balancer;
        let what = if balancer.ingress == wanted {
            "replaces the conditions or the annotation of Fairlead".to_owned()
        } else if balancer.ingress.is_empty() {
            "removes the addresses from status.loadBalancer.ingress".to_owned()
        } else {
            let mut listed: Vec<String> =
                balancer.ingress.iter().take(MAX_LISTED).map(ToString::to_string).collect();
            if balancer.ingress.len() > MAX_LISTED {
                listed.push(format!("{} more", balancer.ingress.len() - MAX_LISTED));
            }
            format!("writes {} to status.loadBalancer.ingress", listed.join(", "))
        };
        self.message = format!(
            "{who} {what} each time that Fairlead writes the status: let only one program handle this \
             Service, for example by spec.loadBalancerClass"
        );
    }

    fn delay(&self) -> SignedDuration {
        match self.replacements.checked_sub(TOLERATED + 1) {
            None => SignedDuration::ZERO,
            Some(doublings) => DELAY.0.saturating_mul(1 << doublings.min(16)).min(DELAY.1),
        }
    }

    fn after(&self, time: SignedDuration) -> Timestamp {
        self.last.checked_add(time).unwrap_or(Timestamp::MAX)
    }
}

/// The objects whose status was replaced, by the time at which they must be reconciled.
#[derive(Debug)]
pub(super) struct ConflictTimers<K> {
    due: BTreeMap<K, Timestamp>,
    by_time: BTreeSet<(Timestamp, K)>,
}

impl<K> Default for ConflictTimers<K> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> ConflictTimers<K> {
    /// Sets the time of an object, or removes it.
    pub(super) fn set(&mut self, object: &K, due: Option<Timestamp>) {
        if self.due.is_empty() && due.is_none() {
            return;
        }
        if let Some(old) = self.due.remove(object) {
            self.by_time.remove(&(old, object.clone()));
        }
        if let Some(due) = due {
            self.due.insert(object.clone(), due);
            self.by_time.insert((due, object.clone()));
        }
    }

    /// Returns the earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Removes and returns the objects that are due.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<K> {
        let mut taken = Vec::new();
        while let Some((due, _)) = self.by_time.first()
            && *due <= now
            && let Some((_, object)) = self.by_time.pop_first()
        {
            self.due.remove(&object);
            taken.push(object);
        }
        taken
    }
}
