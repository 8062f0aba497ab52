//! The decision for one claim.

use std::net::IpAddr;

use fairlead_crds::model::claim::{Claim, Wanted};
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::names::reasons::NOT_RESERVED;
use fairlead_crds::names::{BOUND, RESERVED};
use fairlead_crds::v1beta1::IPClaimStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::service_request::{families, request};
use super::status::whole_seconds;
use super::wait_queue::{Age, Asker, For};
use super::{AllocationReason, Decision, Index};
use crate::ipam::{AllocationRefusal, Claimed, Families, Family, Holding, Retained};

/// What is known of a claim.
#[derive(Debug)]
pub(super) struct ClaimRecord {
    pub(super) claim: Claim,
    /// Why it has not reserved all that it asks for; `None` when it has.
    refused: Option<(AllocationReason, String)>,
}

/// A claim that has not got what it is to have for its Service.
#[derive(Debug)]
pub(super) struct PendingClaim {
    pub(super) claim: ObjectKey,
    /// Why it has not.
    pub(super) why: String,
    /// What it is to have.
    pub(super) families: Vec<Family>,
}

/// What to write to a claim: one merge patch on its `status` subresource.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimPatch {
    /// The claim.
    pub claim: ObjectKey,
    /// The version that was decided on.
    pub resource_version: String,
    /// The status that it should have.
    pub status: IPClaimStatus,
}

impl ClaimPatch {
    /// The body of the merge patch.
    pub fn body(&self) -> Value {
        let IPClaimStatus { addresses, pool, bound_service, conditions } = &self.status;
        json!({
            "metadata": { "resourceVersion": self.resource_version },
            // Null takes a field away.
            "status": {
                "addresses": addresses, "pool": pool, "boundService": bound_service, "conditions": conditions,
            },
        })
    }
}

impl Index {
    /// Takes note of what a claim says now. Returns whether its status has other addresses than those it has reserved, and
    /// the Service that it was for until now, if that was another.
    pub(super) fn take_in_claim(&mut self, claim: Claim) -> (bool, Option<ObjectKey>) {
        let old = self.claims.get(&claim.key).map(|record| &record.claim);
        let shown = claim.shown();
        let news = old.is_none_or(|old| old.shown() != shown);
        let has = self.ipam.claimed(&claim.key).is_some_and(|claimed| {
            // Where something is missing, what it had is noted beside what it has.
            let noted = !claim.had_all() && claimed.addresses.iter().all(|ip| shown.contains(ip));
            claimed.addresses == shown || noted
        });
        let wants = match &claim.wanted {
            Ok(Wanted::Addresses(wanted)) => shown.iter().all(|ip| wanted.contains(ip)),
            Ok(Wanted::OfPool { .. }) | Err(_) => true,
        };
        let foreign = news && wants && !has && !shown.is_empty() && claim.had_some();
        let mut left = None;
        if old.is_some_and(|old| old.uid != claim.uid || old.service != claim.service) {
            left = self.forget_claim(&claim.key).filter(|service| *service != claim.service);
        }
        let of_service = self.claims_of.entry(claim.service.clone()).or_default();
        of_service.insert((claim.created, claim.key.clone()));
        match self.claims.get_mut(&claim.key) {
            Some(record) => record.claim = claim,
            None => drop(self.claims.insert(claim.key.clone(), ClaimRecord { claim, refused: None })),
        }
        (foreign, left)
    }

    /// Another controller that believes it leads has reserved addresses for a claim. What the API shows counts, as with
    /// Services: whoever was only meant to get one of them, and does not show it, gets another.
    pub(super) fn heed_claim(&mut self, key: &ObjectKey, now: Timestamp) {
        let Some(ClaimRecord { claim, .. }) = self.claims.get(key) else { return };
        let (age, service, shown) = ((claim.created, key), claim.service.clone(), claim.shown());
        let (mut services, mut claims) = (Vec::new(), Vec::new());
        for ip in shown {
            for holder in self.ipam.holders(ip) {
                let record = self.services.get(&**holder);
                let shows = record.is_some_and(|record| record.observed.balancer.ingress.contains(&ip));
                if **holder != service && !shows {
                    services.push(holder.clone());
                }
            }
            if let Some((other, _)) = self.ipam.claim_of(ip)
                && let Some(record) = self.claims.get(other)
                && other != key
                && !(record.claim.had_some()
                    && record.claim.shown().contains(&ip)
                    && (record.claim.created, other) < age)
            {
                claims.push(other.clone());
            }
            self.ipam.end_cooldown(ip);
        }
        self.ipam.unclaim(key);
        claims.iter().for_each(|other| self.ipam.unclaim(other));
        for loser in &services {
            self.ipam.release_without_cooldown(loser);
            if let Some(record) = self.services.get_mut(&**loser) {
                record.depart(&mut self.ipam);
            }
        }
        self.converge_claim(key, now);
        claims.iter().for_each(|other| self.converge_claim(other, now));
        services.iter().for_each(|loser| self.converge(loser, now));
    }

    /// Reserves for a claim that is seen for the first time what its status says it has reserved, before anything is given
    /// to anybody. What it asks for besides, it gets in its turn.
    pub(super) fn adopt_claim(&mut self, key: &ObjectKey) {
        let Some(ClaimRecord { claim, .. }) = self.claims.get(key) else { return };
        if claim.had_all() {
            self.ipam.adopt_claim(claim);
        }
    }

    /// The same for a claim that has not all that it asks for: its status shows what it has, and what it had. Those that
    /// have all come before it, and those for whom an address is kept.
    pub(super) fn adopt_rest_of_claim(&mut self, key: &ObjectKey) {
        let Some(ClaimRecord { claim, .. }) = self.claims.get(key) else { return };
        if claim.had_some() && !claim.had_all() {
            self.ipam.adopt_claim(claim);
        }
    }

    /// A claim is gone. Returns the Service that it was for.
    pub(super) fn forget_claim(&mut self, key: &ObjectKey) -> Option<ObjectKey> {
        let ClaimRecord { claim, .. } = self.claims.remove(key)?;
        self.ipam.unclaim(key);
        self.waiting.remove(&Asker::Claim(key.clone()));
        if let Some(of_service) = self.claims_of.get_mut(&claim.service) {
            of_service.remove(&(claim.created, key.clone()));
            if of_service.is_empty() {
                self.claims_of.remove(&claim.service);
            }
        }
        self.decisions.push(Decision::Claim { claim: key.clone(), patch: None });
        Some(claim.service)
    }

    /// Decides on one claim, and on its Service if that waits for it.
    pub(super) fn converge_claim(&mut self, key: &ObjectKey, now: Timestamp) {
        if let Some(service) = self.reserve(key) {
            self.converge_if_waiting(&service, now);
            self.tell_claim(key, now);
        }
    }

    /// Reserves for a claim what it wants, if that can be had. Returns the Service that it is for.
    pub(super) fn reserve(&mut self, key: &ObjectKey) -> Option<ObjectKey> {
        if self.is_blind(&key.namespace) {
            self.waiting.insert(self.claims.get(key)?.age(), vec![For::Config]);
            return None;
        }
        let record = self.claims.get_mut(key)?;
        let claim = &record.claim;
        let labels = self.namespaces.get(&key.namespace);
        let (mut refused, waits) = match &claim.wanted {
            Err(why) => {
                self.ipam.adopt_claim(claim);
                (Some((AllocationReason::InvalidClaim, why.message.clone())), Vec::new())
            }
            Ok(wanted) => match self.ipam.claim(claim, wanted, labels) {
                Ok(_) => (None, Vec::new()),
                Err(why) => {
                    let held = self.ipam.holding(&claim.service).into_iter().flat_map(Holding::ips);
                    (
                        Some((AllocationReason::of(&why), why.to_string())),
                        waits_for(claim, wanted, held, &why),
                    )
                }
            },
        };
        if let (Some((_, message)), Some(claimed)) = (&mut refused, self.ipam.claimed(key)) {
            *message += &format!("; {}", stays_reserved(&claimed.addresses));
        }
        record.refused = refused;
        self.waiting.insert(record.age(), waits);
        Some(record.claim.service.clone())
    }

    /// The claims for a Service that have not all reserved, or have what no pool can give now, the oldest first. Only those
    /// that may come to have something that the Service could take.
    pub(super) fn pending_claims(&self, service: &ObjectKey) -> Vec<PendingClaim> {
        let Some(claims) = self.claims_of.get(service) else { return Vec::new() };
        let Some(balancer) = self.services.get(service).map(|record| &record.observed.balancer) else {
            return Vec::new();
        };
        let (Ok(wanted), Ok(request)) = (families(balancer), request(balancer)) else { return Vec::new() };
        let claims = claims.iter().filter_map(|(_, key)| self.claims.get_key_value(key));
        let claims =
            claims.filter(|(_, record)| self.may_serve(&record.claim, wanted, request.pool.as_deref()));
        let pending = claims.filter_map(|(key, record)| {
            let why = match &record.refused {
                Some((_, why)) => why.clone(),
                None => {
                    let claimed = self.ipam.claimed(key)?;
                    let why = self.ipam.retained_by_claim(claimed)?;
                    let nowhere = claimed.addresses.iter().any(|ip| self.ipam.pool_name_of(*ip).is_none());
                    nowhere.then(|| stays(claimed, why))?
                }
            };
            let families = match &record.claim.wanted {
                Ok(Wanted::Addresses(wanted)) => wanted.iter().map(|ip| Family::of(*ip)).collect(),
                Ok(Wanted::OfPool { families, .. }) => families.clone(),
                Err(_) => Family::BOTH.to_vec(),
            };
            Some(PendingClaim { claim: key.clone(), why, families })
        });
        pending.collect()
    }

    /// Whether a claim, once it has what it asks for, has an address of one of these families, and of `pool` if that is
    /// named. Of what is not known it is assumed.
    fn may_serve(&self, claim: &Claim, families: Families, pool: Option<&str>) -> bool {
        let is_wanted = |family: Family| families.wanted().contains(&family);
        let is_of_pool = |of: Option<&str>| pool.is_none() || of.is_none() || pool == of;
        match &claim.wanted {
            Ok(Wanted::OfPool { pool, families }) => {
                is_of_pool(Some(pool)) && families.iter().copied().any(is_wanted)
            }
            Ok(Wanted::Addresses(addresses)) => {
                let claimed = self.ipam.claimed(&claim.key).map(|claimed| &*claimed.pool);
                let of = |ip: IpAddr| self.ipam.pool_name_of(ip).or(claimed);
                addresses.iter().any(|ip| is_wanted(Family::of(*ip)) && is_of_pool(of(*ip)))
            }
            Err(_) => true,
        }
    }

    /// What a Service holds has changed: its claims say so.
    pub(super) fn tell_claims_of(&mut self, service: &ObjectKey, now: Timestamp) {
        let claims = self.claims_of.get(service).into_iter().flatten();
        let claims: Vec<ObjectKey> = claims.map(|(_, key)| key.clone()).collect();
        for key in claims {
            // What its Service holds is there for a claim that could not have it before.
            if self.claims.get(&key).is_some_and(|record| record.refused.is_some()) {
                self.reserve(&key);
            }
            self.tell_claim(&key, now);
        }
    }

    pub(super) fn tell_claim(&mut self, key: &ObjectKey, now: Timestamp) {
        let Some(record) = self.claims.get(key) else { return };
        let status = self.claim_status(record, now);
        let claim = &record.claim;
        let patch = (status != claim.status).then(|| {
            let resource_version = claim.resource_version.clone();
            Box::new(ClaimPatch { claim: key.clone(), resource_version, status })
        });
        self.decisions.push(Decision::Claim { claim: key.clone(), patch });
    }

    fn claim_status(&self, record: &ClaimRecord, now: Timestamp) -> IPClaimStatus {
        let claim = &record.claim;
        let claimed = self.ipam.claimed(&claim.key);
        let mut addresses = claimed.map(|claimed| claimed.addresses.clone()).unwrap_or_default();
        if let Ok(Wanted::OfPool { families, .. }) = &claim.wanted {
            // What was chosen stays noted, to be had again.
            let all = [addresses, claim.shown()].concat();
            let one = |family: &Family| all.iter().find(|ip| Family::of(**ip) == *family).copied();
            addresses = families.iter().filter_map(one).collect();
        }
        let noted = claim.status.pool.clone().filter(|_| !addresses.is_empty());
        let pool = claimed.map(|claimed| claimed.pool.to_string()).or(noted);
        let retained = claimed.and_then(|claimed| self.ipam.retained_by_claim(claimed));
        let reserved = match (&record.refused, claimed, retained) {
            (Some((reason, message)), ..) => (false, reason.to_string(), message.clone()),
            (None, Some(claimed), Some(why)) => {
                let reason = match why {
                    Retained::PoolRefused => AllocationReason::PoolRefused,
                    Retained::NoLongerInPool | Retained::NotAdmitted(_) => AllocationReason::Retained,
                };
                (true, reason.to_string(), stays(claimed, why))
            }
            (None, Some(claimed), None) => (
                true,
                "Reserved".to_owned(),
                format!("{} of IPAddressPool {}", in_words(&addresses), claimed.pool),
            ),
            (None, None, _) => (false, "Pending".to_owned(), String::new()),
        };
        let bound = self.bound(claim);
        let bound_service = bound.0.then(|| claim.service.name.clone());
        let conditions = [(RESERVED, reserved), (BOUND, bound)].map(|(type_, (status, reason, message))| {
            let status = if status { "True" } else { "False" };
            let old = claim.status.conditions.iter().find(|c| c.type_ == type_ && c.status == status);
            let since = old.map_or_else(|| Time(whole_seconds(now)), |c| c.last_transition_time.clone());
            Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason,
                message,
                last_transition_time: since,
                observed_generation: None,
            }
        });
        let others = claim.status.conditions.iter().filter(|c| c.type_ != RESERVED && c.type_ != BOUND);
        let conditions = others.cloned().chain(conditions).collect();
        let addresses = addresses.iter().map(ToString::to_string).collect();
        IPClaimStatus { addresses, pool, bound_service, conditions }
    }

    /// Whether the Service holds what is claimed: status, reason and message of the condition.
    fn bound(&self, claim: &Claim) -> (bool, String, String) {
        let service = &claim.service;
        let no = |reason: &str, message: String| (false, reason.to_owned(), message);
        let Some(claimed) = self.ipam.claimed(&claim.key) else {
            return no(NOT_RESERVED, "nothing is reserved".to_owned());
        };
        if !self.services.contains_key(service) {
            return no("ServiceNotFound", format!("Service {service} does not exist, or is none of ours"));
        }
        let held: Vec<_> = self.ipam.holding(service).into_iter().flat_map(|held| held.ips()).collect();
        if held.is_empty() {
            return no("ServiceHasNoAddress", format!("Service {service} has none: see its conditions"));
        }
        if claimed.addresses.iter().any(|ip| held.contains(ip)) {
            return (true, "Bound".to_owned(), format!("Service {service} holds what is reserved"));
        }
        let held: Vec<String> = held.iter().map(ToString::to_string).collect();
        let held = held.join(" and ");
        no("ServiceHoldsAnother", format!("Service {service} holds {held} until it releases that"))
    }
}

impl ClaimRecord {
    pub(super) fn age(&self) -> Age {
        (self.claim.created, Asker::Claim(self.claim.key.clone()))
    }

    /// Why it has not reserved all that it asks for.
    pub(super) fn refused(&self) -> Option<&(AllocationReason, String)> {
        self.refused.as_ref()
    }

    /// Forgets what was decided.
    pub(super) fn forget(&mut self) {
        self.refused = None;
    }
}

fn in_words(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

fn stays_reserved(addresses: &[IpAddr]) -> String {
    let stay = if addresses.len() == 1 { "stays" } else { "stay" };
    format!("{} {stay} reserved", in_words(addresses))
}

/// That a claim has reserved what its pool would not give it now.
fn stays(claimed: &Claimed, why: Retained) -> String {
    let Claimed { addresses, pool, .. } = claimed;
    format!("{}: IPAddressPool {pool} {}", stays_reserved(addresses), why.explain())
}

/// What may help a claim that was refused, or give another reason why.
fn waits_for(
    claim: &Claim,
    wanted: &Wanted,
    held: impl Iterator<Item = IpAddr>,
    why: &AllocationRefusal,
) -> Vec<For> {
    let mut waits = vec![For::Config];
    match why {
        AllocationRefusal::Exhausted { full, .. } => {
            waits.extend(full.iter().map(|(pool, family)| For::Free(pool.clone(), *family)));
        }
        AllocationRefusal::InUse { address, .. } | AllocationRefusal::Reserved { address, .. } => {
            waits.push(For::Address(*address));
        }
        _ => {}
    }
    let addresses = match wanted {
        Wanted::Addresses(wanted) => wanted.clone(),
        // What it had, it may have again, and what its Service holds.
        Wanted::OfPool { .. } => claim.shown().into_iter().chain(held).collect(),
    };
    for ip in addresses {
        if !waits.contains(&For::Address(ip)) {
            waits.push(For::Address(ip));
        }
    }
    waits
}
