//! Part of [`Ipam`](super::Ipam): what each claim has reserved.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::service::ObjectKey;

/// The addresses that a claim has reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its Service.
    pub service: ObjectKey,
    /// The pool of the addresses.
    pub pool: Arc<str>,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// Creation time of the claim, seconds since the epoch.
    pub(super) created: i64,
}

/// Claims by name and by Service; both sides always agree.
#[derive(Clone, Debug, Default)]
pub(super) struct ClaimRecords {
    claims: BTreeMap<ObjectKey, Claimed>,
    by_service: ClaimsByService,
}

/// The claims for each Service, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimsByService {
    claims: BTreeMap<ObjectKey, BTreeSet<(i64, ObjectKey)>>,
}

impl ClaimsByService {
    /// Returns the claims for a Service, the oldest first.
    pub(crate) fn of(&self, service: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.claims.get(service).into_iter().flatten().map(|(_, claim)| claim)
    }

    /// Adds a claim that was created at `created`, seconds since the epoch.
    pub(crate) fn insert(&mut self, service: &ObjectKey, created: i64, claim: &ObjectKey) {
        self.claims.entry(service.clone()).or_default().insert((created, claim.clone()));
    }

    /// Reverts [`ClaimsByService::insert`] with the same arguments.
    pub(crate) fn remove(&mut self, service: &ObjectKey, created: i64, claim: &ObjectKey) {
        if let Some(claims) = self.claims.get_mut(service) {
            claims.remove(&(created, claim.clone()));
            if claims.is_empty() {
                self.claims.remove(service);
            }
        }
    }
}

impl ClaimRecords {
    pub(super) fn get(&self, claim: &ObjectKey) -> Option<&Claimed> {
        self.claims.get(claim)
    }

    /// Returns what the claims for a Service have reserved, the oldest claim first.
    pub(super) fn for_service(&self, service: &ObjectKey) -> impl Iterator<Item = &Claimed> {
        self.by_service.of(service).filter_map(|claim| self.claims.get(claim))
    }

    /// Sets what a claim has reserved. Returns the previous value.
    pub(super) fn insert(&mut self, claim: &ObjectKey, claimed: Claimed) -> Option<Claimed> {
        self.by_service.insert(&claimed.service, claimed.created, claim);
        self.claims.insert(claim.clone(), claimed)
    }

    pub(super) fn remove(&mut self, claim: &ObjectKey) -> Option<Claimed> {
        let claimed = self.claims.remove(claim)?;
        self.by_service.remove(&claimed.service, claimed.created, claim);
        Some(claimed)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&ObjectKey, &Claimed)> {
        self.claims.iter()
    }
}
