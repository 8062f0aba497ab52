//! Decisions on what the speakers announce of the addresses of Services.

use std::collections::BTreeSet;

use fairlead_crds::conditions::ConditionStatus;
use fairlead_crds::model::config::Config;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use jiff::Timestamp;

use super::Allocations;
use crate::reconcile::announcement::{SpeakerChange, Speakers, Verdict};
use crate::reconcile::coverage;
use crate::reconcile::outcome::AllocationOutcome;

impl Allocations {
    /// Decides on the announcements of a Service and publishes the decision.
    pub(super) fn publish_announcements(&mut self, key: &ObjectKey, now: Timestamp) {
        let Some(record) = self.services.get_mut(key) else { return };
        let new = verdict(&self.speakers, &self.config, record.balancer(), record.outcome());
        if new.is_none() || (new.as_ref() == record.verdict() && record.hold_timeout().is_none()) {
            return;
        }
        let is_unannounced = new.as_ref().is_some_and(|verdict| verdict.status != ConditionStatus::True);
        let (patch, events) = record.publish_verdict(new, &mut self.ipam, now);
        self.holds.set(key, record.hold_timeout());
        if is_unannounced {
            self.unannounced.insert(key.clone());
        } else {
            self.unannounced.remove(key);
        }
        self.outbox.push_status(key.clone(), patch);
        self.outbox.push_events(events);
    }

    /// Publishes the Services that a change of speakers concerns.
    pub(in crate::reconcile) fn handle_speaker_change(&mut self, change: &SpeakerChange, now: Timestamp) {
        let mut services: BTreeSet<ObjectKey> = BTreeSet::new();
        for range in &change.ranges {
            services.extend(self.ipam.holders_in(range).map(|key| ObjectKey::clone(key)));
        }
        for address in &change.addresses {
            services.extend(self.ipam.holders(*address).iter().map(|key| ObjectKey::clone(key)));
        }
        if change.all_unannounced {
            services.extend(self.unannounced.iter().cloned());
        }
        for service in services {
            self.publish_announcements(&service, now);
        }
    }

    /// Returns the speakers.
    pub(in crate::reconcile) fn speakers(&self) -> &Speakers {
        &self.speakers
    }

    /// Returns the speakers for an update. The caller then calls [`Allocations::handle_speaker_change`], if
    /// this controller leads.
    pub(in crate::reconcile) fn speakers_mut(&mut self) -> &mut Speakers {
        &mut self.speakers
    }
}

/// Returns the verdict on the announcements of a Service; `None` if it holds no address.
pub(super) fn verdict(
    speakers: &Speakers,
    config: &Config,
    service: &LoadBalancer,
    outcome: &AllocationOutcome,
) -> Option<Verdict> {
    let AllocationOutcome::Allocated { holding, uncovered, .. } = outcome else { return None };
    if uncovered.is_some() {
        return Some(Verdict::not_covered());
    }
    let addresses =
        holding.held.iter().map(|held| (held.ip, coverage::protocols(config, &held.pool, &service.labels)));
    Some(Verdict::new(speakers, &service.key.to_string(), addresses))
}
