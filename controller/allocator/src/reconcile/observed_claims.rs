//! The observed IPClaims, with the last decision on each, and the claims by Service.

use std::collections::BTreeMap;

use fairlead_crds::model::claim::Claim;
use fairlead_crds::model::service::ObjectKey;

use super::outcome::AllocationReason;
use super::wait_queue::{Priority, Waiter};
use crate::ipam::ClaimsByService;

/// All observed claims.
#[derive(Debug, Default)]
pub(crate) struct ObservedClaims {
    records: BTreeMap<ObjectKey, ClaimRecord>,
    by_service: ClaimsByService,
}

/// A claim and the last decision on it.
#[derive(Debug)]
pub(crate) struct ClaimRecord {
    claim: Claim,
    refusal: Option<ClaimRefusal>,
}

/// Reason and message for a claim that has not reserved all the addresses that it asks for.
pub(crate) type ClaimRefusal = (AllocationReason, String);

impl ObservedClaims {
    /// Returns the keys of all claims, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.records.keys()
    }

    /// Returns the keys of the claims in a Namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<ObjectKey> {
        let first = ObjectKey { namespace: namespace.to_owned(), name: String::new() };
        let keys = self.records.range(first..).map(|(key, _)| key);
        keys.take_while(|key| key.namespace == namespace).cloned().collect()
    }

    /// Returns the keys of the claims for a Service, the oldest first.
    pub(crate) fn of_service(&self, service: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.by_service.of(service)
    }

    /// Returns the keys of the claims that were refused.
    pub(super) fn refused(&self) -> Vec<ObjectKey> {
        let refused = self.records.iter().filter(|(_, record)| record.refusal.is_some());
        refused.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&ClaimRecord> {
        self.records.get(key)
    }

    /// Returns the claim's priority in the order of reconciliation.
    pub(super) fn priority(&self, key: &ObjectKey) -> Option<Priority> {
        let record = self.records.get(key)?;
        Some((record.claim.created, Waiter::Claim(key.clone())))
    }

    /// Sorts claims, the oldest first.
    pub(super) fn by_age(&self, claims: &[ObjectKey]) -> Vec<ObjectKey> {
        let mut by_age: Vec<(i64, &ObjectKey)> =
            claims.iter().filter_map(|key| Some((self.records.get(key)?.claim.created, key))).collect();
        by_age.sort();
        by_age.into_iter().map(|(_, key)| key.clone()).collect()
    }

    /// Stores a claim. A record of the same name but for another Service must have been removed before.
    pub(super) fn insert(&mut self, claim: Claim) {
        self.by_service.insert(&claim.service, claim.created, &claim.key);
        match self.records.get_mut(&claim.key) {
            Some(record) => record.claim = claim,
            None => drop(self.records.insert(claim.key.clone(), ClaimRecord { claim, refusal: None })),
        }
    }

    /// Removes and returns a claim.
    pub(super) fn remove(&mut self, key: &ObjectKey) -> Option<Claim> {
        let ClaimRecord { claim, .. } = self.records.remove(key)?;
        self.by_service.remove(&claim.service, claim.created, key);
        Some(claim)
    }

    /// Stores the decision on a claim.
    pub(super) fn set_refusal(&mut self, key: &ObjectKey, refusal: Option<ClaimRefusal>) {
        if let Some(record) = self.records.get_mut(key) {
            record.refusal = refusal;
        }
    }

    /// Forgets all decisions.
    pub(super) fn forget_decisions(&mut self) {
        for record in self.records.values_mut() {
            record.refusal = None;
        }
    }
}

impl ClaimRecord {
    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Returns why the claim has not reserved all the addresses that it asks for; `None` if it has.
    pub(crate) fn refusal(&self) -> Option<&ClaimRefusal> {
        self.refusal.as_ref()
    }
}
