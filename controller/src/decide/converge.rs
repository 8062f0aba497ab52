//! The decision for one Service.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::config::Config;
use fairlead_crds::service::{LoadBalancer, ObjectKey};
use jiff::Timestamp;

use super::request::{Request, families, of_families, request};
use super::waiting::For;
use super::{Decision, Index, Outcome, Reason, demand, in_order};
use crate::ipam::{Demand, Families, Family, Holding, Ipam, Refusal, named};

/// An outcome, and what may change it.
struct Verdict {
    outcome: Outcome,
    waits: Vec<For>,
}

impl Index {
    /// Decides on one Service and says what is to be written, if anything.
    pub(super) fn converge(&mut self, key: &ObjectKey, now: Timestamp) {
        let Some(mut record) = self.services.remove(key) else { return };
        self.counters.evaluations += 1;
        let balancer = &record.observed.balancer;
        // A Service may be seen before its namespace. Deciding without the namespace's labels could put it in a
        // pool where it then stays.
        let blind =
            !self.namespaces.contains_key(&key.namespace) && self.namespace_selectors().next().is_some();
        if !blind {
            let before = self.ipam.holding(key).cloned();
            let demand = demand(&self.namespaces, balancer);
            let verdict = verdict(&mut self.ipam, &self.config, balancer, &demand);
            if let Outcome::Allocated { holding, .. } = &verdict.outcome
                && before.as_ref() != Some(holding)
            {
                self.counters.allocations += 1;
            }
            self.waiting.insert((balancer.created, key.clone()), verdict.waits);
            record.outcome = verdict.outcome;
            record.depart(&mut self.ipam);
            let (patch, events) = record.told.tell(&record.observed, &record.outcome, now);
            if let (Outcome::Refused { reason, .. }, false) = (&record.outcome, events.is_empty()) {
                *self.counters.failures.entry(*reason).or_default() += 1;
            }
            for ip in patch.iter().flat_map(|patch| &patch.ingress) {
                if !record.promised.contains(ip) {
                    record.promised.push(*ip);
                }
            }
            self.decisions.push(Decision::Status { service: key.clone(), patch: patch.map(Box::new) });
            self.decisions.extend(events.into_iter().map(|event| Decision::Event(Box::new(event))));
        }
        self.services.insert(key.clone(), record);
    }
}

fn verdict(ipam: &mut Ipam, config: &Config, service: &LoadBalancer, demand: &Demand<'_>) -> Verdict {
    let families = match families(service) {
        Ok(families) => families,
        Err((reason, message)) => {
            ipam.release(&service.key);
            return Verdict { outcome: Outcome::Refused { reason, message }, waits: Vec::new() };
        }
    };
    keep(ipam, demand, families);
    let request = match request(service) {
        Ok(request) => request,
        Err(why) => return keep_despite(ipam, config, service, why),
    };
    let unwanted = ipam.holding(&service.key).is_some_and(|held| !request.is_met_by(held));
    if unwanted {
        ipam.release(&service.key);
    }
    let result = match ipam.holding(&service.key) {
        Some(held) => Ok(held.clone()),
        None => give(ipam, demand, &request, families),
    };
    match result {
        Ok(mut holding) => {
            let mut waits = Vec::new();
            // One address will do, two were better: the other may come from the same pool.
            if matches!(families, Families::Both { required: false, .. }) && holding.addresses.len() == 1 {
                match ipam.extend(demand, families.first()) {
                    Ok(both) => holding = both.clone(),
                    Err(why) => waits = waits_for(&why, demand),
                }
            }
            Verdict { outcome: allocated(ipam, config, service, holding, None), waits }
        }
        Err(Failure::Request(reason, message)) => {
            Verdict { outcome: Outcome::Refused { reason, message }, waits: vec![For::Config] }
        }
        Err(Failure::Refusal(why)) => {
            let mut message = why.to_string();
            if request.pool.is_none() {
                message += &refused_pools(ipam, &why);
            }
            let outcome = Outcome::Refused { reason: Reason::of(&why), message };
            Verdict { outcome, waits: waits_for(&why, demand) }
        }
    }
}

/// Lets the Service keep what it holds as far as it still may and its families still want it; else it holds nothing.
fn keep(ipam: &mut Ipam, demand: &Demand<'_>, families: Families) {
    let Some(held) = ipam.holding(demand.service) else { return };
    let wanted = families.wanted();
    let one_of = |family: &Family| held.addresses.iter().copied().find(|ip| Family::of(*ip) == *family);
    let kept: Vec<IpAddr> = wanted.iter().filter_map(one_of).collect();
    let mut keeps = !kept.is_empty() && ipam.assign(demand, &kept).is_ok();
    if keeps && kept.len() < wanted.len() && matches!(families, Families::Both { required: true, .. }) {
        keeps = ipam.extend(demand, families.first()).is_ok();
    }
    if !keeps {
        ipam.release(demand.service);
    }
}

/// What is asked for cannot be understood: nothing is changed for it, and nothing given.
fn keep_despite(ipam: &Ipam, config: &Config, service: &LoadBalancer, why: String) -> Verdict {
    let outcome = match ipam.holding(&service.key) {
        Some(holding) => allocated(ipam, config, service, holding.clone(), Some(why)),
        None => Outcome::Refused { reason: Reason::InvalidRequest, message: why },
    };
    Verdict { outcome, waits: Vec::new() }
}

/// Why a Service got nothing.
enum Failure {
    /// What it asks for contradicts what it is, or itself.
    Request(Reason, String),
    /// It cannot be had.
    Refusal(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

fn give(
    ipam: &mut Ipam,
    demand: &Demand<'_>,
    request: &Request,
    families: Families,
) -> Result<Holding, Failure> {
    if request.addresses.is_empty() {
        return Ok(match &request.pool {
            Some(pool) => ipam.allocate_from(demand, pool, families)?.clone(),
            None => ipam.allocate(demand, families)?.clone(),
        });
    }
    of_families(&request.addresses, families)
        .map_err(|message| Failure::Request(Reason::FamilyMismatch, message))?;
    if let Some(pool) = &request.pool {
        if ipam.pool(pool).is_none() {
            return Err(ipam.why_no_pool(pool).into());
        }
        if let Some(ip) = request.addresses.iter().find(|ip| ipam.pool_name_of(**ip) != Some(pool)) {
            let message = format!("{ip} is not in IPAddressPool {pool}, which is asked for too");
            return Err(Failure::Request(Reason::AddressNotInPool, message));
        }
    }
    let addresses = in_order(request.addresses.iter().copied().collect(), families.first());
    Ok(ipam.assign(demand, &addresses)?.clone())
}

impl Request {
    /// Whether what is held is what is asked for.
    fn is_met_by(&self, held: &Holding) -> bool {
        let addresses: BTreeSet<IpAddr> = held.addresses.iter().copied().collect();
        self.pool.as_deref().is_none_or(|pool| *pool == *held.pool)
            && (self.addresses.is_empty() || self.addresses == addresses)
    }
}

/// What may help a Service that was refused.
fn waits_for(why: &Refusal, demand: &Demand<'_>) -> Vec<For> {
    let mut waits = vec![For::Config];
    match why {
        Refusal::Exhausted { full, .. } => {
            for (pool, family) in full {
                waits.push(For::Free(pool.clone(), *family));
                if let Some(group) = demand.sharing.group() {
                    let join = For::Join(pool.clone(), group.clone());
                    if !waits.contains(&join) {
                        waits.push(join);
                    }
                }
            }
        }
        Refusal::InUse { address, .. } => waits.push(For::Address(*address)),
        _ => {}
    }
    waits
}

fn allocated(
    ipam: &Ipam,
    config: &Config,
    service: &LoadBalancer,
    holding: Holding,
    invalid_request: Option<String>,
) -> Outcome {
    let covered = config.pool(&holding.pool).is_some_and(|pool| {
        config.l2_for(pool, &service.labels).next().is_some()
            || config.bgp_for(pool, &service.labels).next().is_some()
    });
    Outcome::Allocated { pool_refused: ipam.is_refused(&holding.pool), holding, covered, invalid_request }
}

/// Which pools might have served a Service that names none, were they not refused.
fn refused_pools(ipam: &Ipam, why: &Refusal) -> String {
    let refused: Vec<Arc<str>> = ipam.refused_pools().cloned().collect();
    let may_help = match why {
        Refusal::NoPoolMatches { .. }
        | Refusal::FamilyMismatch(..)
        | Refusal::Exhausted { .. }
        | Refusal::NotInPool(_)
        | Refusal::SeveralPools(_) => true,
        Refusal::NoSuchPool(_)
        | Refusal::PoolRefused(_)
        | Refusal::NotAdmitted(..)
        | Refusal::InUse { .. } => false,
    };
    match refused.len() {
        0 => String::new(),
        _ if !may_help => String::new(),
        1 => format!("; {} is refused", named(&refused)),
        _ => format!("; {} are refused", named(&refused)),
    }
}
