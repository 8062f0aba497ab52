//! What is known of each Service, and what it holds and shows.

use std::net::IpAddr;

use fairlead_crds::service::ObjectKey;

use super::status::Told;
use super::{Decision, Index, Observed, Outcome, demand};
use crate::ipam::Ipam;

/// What is known of a Service.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) observed: Observed,
    pub(super) outcome: Outcome,
    pub(super) told: Told,
    /// Addresses it no longer holds, but that its status still shows, or that a write on the way may still put there.
    /// Nobody else gets them before: at no time does the API show an address twice, and a restart cannot find it so.
    pub(super) departing: Vec<IpAddr>,
    /// Addresses in patches decided on the version last seen. Once there is a newer one, they cannot arrive any more.
    pub(super) promised: Vec<IpAddr>,
}

impl Index {
    /// Takes note of what a Service says now.
    pub(super) fn take_in(&mut self, observed: Observed) {
        let key = &observed.balancer.key;
        match self.services.get_mut(key) {
            Some(record) if record.observed.balancer.uid == observed.balancer.uid => {
                if record.observed.balancer.resource_version != observed.balancer.resource_version {
                    record.promised.clear();
                }
                record.observed = observed;
            }
            Some(_) => {
                // Deleted and made again without our seeing it in between: what the old one held is free.
                self.forget(&key.clone());
                self.take_in(observed);
            }
            None => {
                let told = Told::by(&observed);
                let outcome = Outcome::Undecided;
                let record = Record { observed, outcome, told, departing: Vec::new(), promised: Vec::new() };
                self.services.insert(record.observed.balancer.key.clone(), record);
            }
        }
    }

    /// Lets a Service that is seen for the first time keep the addresses in its status, as far as they may be its, and
    /// sees to it that nobody else gets the others yet.
    pub(super) fn adopt(&mut self, key: &ObjectKey) {
        let Some(record) = self.services.get_mut(key) else { return };
        let balancer = &record.observed.balancer;
        let is_new = record.outcome == Outcome::Undecided && self.ipam.holding(key).is_none();
        if is_new && !balancer.ingress.is_empty() {
            let demand = demand(&self.namespaces, balancer);
            if let Err(why) = self.ipam.adopt(&demand, balancer.allocated_from.as_deref(), &balancer.ingress)
            {
                tracing::debug!(service = %key, ingress = ?balancer.ingress, %why, "cannot keep what its status has");
            }
        }
        record.depart(&mut self.ipam);
    }

    pub(super) fn forget(&mut self, key: &ObjectKey) {
        self.ipam.release(key);
        self.waiting.remove(key);
        if let Some(record) = self.services.remove(key) {
            for ip in record.departing {
                self.ipam.unreserve(ip, key);
            }
            self.decisions.push(Decision::Status { service: key.clone(), patch: None });
        }
    }
}

impl Record {
    pub(super) fn created(&self) -> i64 {
        self.observed.balancer.created
    }

    /// Keeps what its status shows beyond what it holds from everybody else, and gives back what it shows no longer.
    pub(super) fn depart(&mut self, ipam: &mut Ipam) {
        let balancer = &self.observed.balancer;
        let held = ipam.holding(&balancer.key).map(|held| held.addresses.clone()).unwrap_or_default();
        let shown = balancer.ingress.iter().chain(&self.promised);
        let shown = shown.filter(|ip| !held.contains(ip)).copied().collect();
        for ip in std::mem::replace(&mut self.departing, shown) {
            if !self.departing.contains(&ip) {
                ipam.unreserve(ip, &balancer.key);
            }
        }
        for ip in &self.departing {
            ipam.reserve(*ip, &balancer.key);
        }
    }
}
