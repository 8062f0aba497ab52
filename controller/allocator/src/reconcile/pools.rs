//! The status and the finalizers of pools: counts, users that block a deletion, and reserved addresses.

use std::collections::BTreeMap;

use fairlead_crds::conditions::{self, NewCondition, RawCondition};
use fairlead_crds::kinds::{ConfigurationObject, Kind, ObjectRef, ObjectView};
use fairlead_crds::model::config::Reclaim;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::names::{ACCEPTED, EXHAUSTED, IN_USE, READY, STALLED, reasons};
use fairlead_crds::resolve::Accepted;
use fairlead_crds::v1beta1::{IPAddressPool, IPAddressPoolStatus, ReleasedAddress};
use jiff::Timestamp;
use serde_json::Value;

use super::cooldowns::RecordedCooldown;
use super::finalizers::{deletion_waits, finalizer_patch};
use super::health::health;
use super::objects::{Configuration, ObjectPatch, status_patch};
use crate::ipam::{Family, Ipam, PoolCounts, Released};

/// The conditions of pools.
pub(super) const POOL_CONDITIONS: [&str; 5] = [ACCEPTED, READY, STALLED, EXHAUSTED, IN_USE];
/// Maximum number of Services, and of claims, that a message names.
const MAX_NAMED: usize = 5;

impl Configuration {
    /// Returns the patch of a pool's finalizers, if it needs one: a pool in use has the finalizer of its
    /// kind, any other pool does not, and none while Fairlead is removed
    /// ([`Removal`](crate::reconcile::Removal)).
    pub fn finalizer_patch(&self, name: &str, ipam: &Ipam) -> Option<ObjectPatch> {
        let Some((pool, _)) = self.pool(name) else {
            return self.departure_finalizer_patch(&pool_reference(name));
        };
        let pool = ObjectView::new(pool);
        finalizer_patch(&pool, needs_protection(name, ipam) && !self.removal().exempts(&pool))
    }

    /// Applies the patch `body` of a pool's finalizers that the API server has written as `resource_version`,
    /// so that the status can be written before the watch delivers that version. Does nothing if the watch
    /// has delivered a version newer than the patch since.
    pub fn finalizers_written(&mut self, name: &str, body: &Value, resource_version: &str) {
        let patched = &body["metadata"];
        let Some(pool) = self.pool_mut(name) else { return };
        if patched["resourceVersion"].as_str() == pool.metadata.resource_version.as_deref() {
            pool.metadata.resource_version = Some(resource_version.to_owned());
            let finalizers = patched["finalizers"].as_array().into_iter().flatten();
            let finalizers = finalizers.filter_map(Value::as_str).map(str::to_owned);
            pool.metadata.finalizers = Some(finalizers.collect());
        }
    }

    /// Returns the patch of a pool's status, if it must change.
    pub fn pool_status_patch(&self, name: &str, ipam: &Ipam, now: Timestamp) -> Option<ObjectPatch> {
        let Some((pool, accepted)) = self.pool(name) else {
            return self.departure_patch(&pool_reference(name), now);
        };
        let old = pool.status.clone().unwrap_or_default();
        let mut new = status(pool, &accepted, ipam, now);
        if self.cooldowns().patch(pool, ipam).is_some() {
            // The addresses are not recorded yet where this version expects them.
            new.recently_released.clone_from(&old.recently_released);
        }
        (new != old).then(|| status_patch(&ObjectView::new(pool), body(&old, &new)))
    }

    /// Returns whether the condition `Accepted` of a pool contradicts the verdict on it, or is missing.
    pub fn lacks_verdict(&self, name: &str) -> bool {
        self.pool(name).is_some_and(|(pool, accepted)| {
            let shown = conditions::find(pool.conditions(), ACCEPTED);
            shown.is_none_or(|shown| shown.status() != conditions::status(accepted.status))
        })
    }

    /// Stores a list of all `PoolCooldown` objects, by name of the pool.
    pub fn cooldowns_listed(&mut self, list: BTreeMap<String, RecordedCooldown>) {
        self.cooldowns_mut().reset(list);
    }

    /// Returns true if the `PoolCooldown` objects were listed since the last [`Configuration::forget_lists`].
    pub fn has_cooldowns(&self) -> bool {
        self.cooldowns().is_listed()
    }

    /// Returns the `PoolCooldown` object of a pool for a server-side apply, if it must change.
    pub fn cooldown_patch(&mut self, name: &str, ipam: &Ipam) -> Option<Value> {
        match self.pool(name) {
            Some((pool, _)) => self.cooldowns().patch(pool, ipam),
            None => {
                self.cooldowns_mut().remove(name);
                None
            }
        }
    }

    /// Stores that the API server has written the `PoolCooldown` object `body` of a pool.
    pub fn cooldown_written(&mut self, pool: &str, body: &Value) {
        self.cooldowns_mut().written(pool, body);
    }

    /// Returns the addresses that are reserved for their last holders, by pool, as the `PoolCooldown` objects
    /// list them. Earlier versions listed them in the statuses of the pools.
    pub fn released(&self) -> Vec<(String, Released)> {
        let entries = self.pools().flat_map(|pool| {
            let name = pool.metadata.name.clone().unwrap_or_default();
            let earlier = pool.status.iter().flat_map(|status| &status.recently_released);
            let earlier = earlier.filter_map(parse_released);
            let mut all: Vec<Released> = earlier.chain(self.cooldowns().released(pool)).collect();
            // The last release of an address counts.
            all.sort_by_key(|released| released.at);
            all.into_iter().map(move |released| (name.clone(), released))
        });
        entries.collect()
    }
}

fn pool_reference(name: &str) -> ObjectRef {
    ObjectRef { kind: Kind::IPAddressPool, name: name.to_owned() }
}

/// Returns whether Services or claims use a pool and retain its addresses when it is deleted.
fn needs_protection(pool: &str, ipam: &Ipam) -> bool {
    let retains = ipam.reclaim(pool) != Some(Reclaim::Reassign);
    retains && (ipam.holders_of(pool).len() > 0 || ipam.claims_on(pool).len() > 0)
}

fn status(pool: &IPAddressPool, accepted: &Accepted, ipam: &Ipam, now: Timestamp) -> IPAddressPoolStatus {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let counts = Family::BOTH.map(|family| ipam.counts(name, family));
    let saturated = |n: u128| Some(i64::try_from(n).unwrap_or(i64::MAX));
    let [v4, v6] = counts;
    IPAddressPoolStatus {
        observed_generation: pool.metadata.generation,
        free: free([v4, v6]),
        total_ipv4: saturated(v4.total),
        total_ipv6: saturated(v6.total),
        assigned_ipv4: saturated(v4.assigned),
        assigned_ipv6: saturated(v6.assigned),
        available_ipv4: saturated(v4.available),
        available_ipv6: saturated(v6.available),
        retained_ipv4: saturated(v4.retained),
        retained_ipv6: saturated(v6.retained),
        reserved_ipv4: saturated(v4.reserved),
        reserved_ipv6: saturated(v6.reserved),
        recently_released: Vec::new(),
        conditions: conditions(pool, accepted, counts, ipam, now),
    }
}

/// Formats the numbers of free addresses of the families in the pool.
fn free(counts: [PoolCounts; 2]) -> Option<String> {
    let number = |n: u128| i64::try_from(n).map_or_else(|_| ">=2^63".to_owned(), |n| n.to_string());
    let present = counts.iter().filter(|counts| counts.total > 0);
    let numbers: Vec<String> = present.map(|counts| number(counts.available)).collect();
    (!numbers.is_empty()).then(|| numbers.join(","))
}

/// Returns the merge patch from `old` to `new`; it removes a list that is now empty.
fn body(old: &IPAddressPoolStatus, new: &IPAddressPoolStatus) -> Value {
    let mut status = serde_json::to_value(new).unwrap_or_default();
    if new.recently_released.is_empty() && !old.recently_released.is_empty() {
        status["recentlyReleased"] = Value::Null;
    }
    if new.free.is_none() && old.free.is_some() {
        status["free"] = Value::Null;
    }
    status
}

fn conditions(
    pool: &IPAddressPool,
    accepted: &Accepted,
    counts: [PoolCounts; 2],
    ipam: &Ipam,
    now: Timestamp,
) -> Vec<RawCondition> {
    let generation = pool.metadata.generation;
    let condition = |type_, status, reason: String, message: String| {
        NewCondition::new(type_, status, reason, message).observed_generation(generation)
    };
    let Accepted { status, reason, message } = with_cluster_warnings(pool, accepted, ipam);
    let health: Vec<NewCondition> = health(&pool.metadata, status, &reason, &message).collect();
    let mut new = vec![condition(ACCEPTED, status, reason, message)];
    new.extend(health);
    if accepted.status {
        let full: Vec<String> = Family::BOTH
            .into_iter()
            .zip(counts)
            .filter(|(_, counts)| counts.total > 0 && counts.available == 0)
            .map(|(family, _)| format!("no free {family} address"))
            .collect();
        let reason = if full.is_empty() { reasons::ADDRESSES_AVAILABLE } else { reasons::NO_FREE_ADDRESS };
        new.push(condition(EXHAUSTED, !full.is_empty(), reason.to_owned(), full.join(" and ")));
    }
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    if deletion_waits(&ObjectView::new(pool)) && needs_protection(name, ipam) {
        let message = format!("deletion waits for {}", users(name, ipam));
        new.push(condition(IN_USE, true, reasons::ADDRESSES_HELD.to_owned(), message));
    }
    conditions::merge(pool.conditions(), &POOL_CONDITIONS, new, now)
}

/// Adds warnings about addresses of a pool in force that the cluster itself uses.
fn with_cluster_warnings(pool: &IPAddressPool, accepted: &Accepted, ipam: &Ipam) -> Accepted {
    let mut accepted = accepted.clone();
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let Some(in_force) = ipam.pool(name).filter(|_| accepted.status) else { return accepted };
    let mut nodes: Vec<String> = Vec::new();
    for (ip, node) in in_force.ranges.iter().flat_map(|range| ipam.node_addresses_in(range)) {
        if nodes.len() == MAX_NAMED {
            nodes.push("others".to_owned());
            break;
        }
        nodes.push(format!("{ip} of Node {node}"));
    }
    let nodes = (!nodes.is_empty()).then(|| {
        let message = format!("no Service gets {}: exclude the addresses of Nodes", nodes.join(", "));
        (reasons::NODE_ADDRESS, message)
    });
    let pods = in_force.ranges.iter().find_map(|range| Some((range, ipam.pod_range_in(range)?)));
    let pods = pods.map(|(range, (pod_range, node))| {
        let message = format!("{range} overlaps the Pod range {pod_range} of Node {node}: exclude it");
        (reasons::POD_RANGE, message)
    });
    let services = in_force.ranges.iter().find_map(|range| Some((range, ipam.service_range_in(range)?)));
    let services = services.map(|(range, (service_range, name))| {
        let message =
            format!("{range} overlaps the Service range {service_range} of ServiceCIDR {name}: exclude it");
        (reasons::SERVICE_RANGE, message)
    });
    for (reason, message) in nodes.into_iter().chain(pods).chain(services) {
        if accepted.message.is_empty() {
            accepted.reason = reason.to_owned();
        } else {
            accepted.message += "; ";
        }
        accepted.message += &message;
    }
    accepted
}

/// Describes the Services and claims that use a pool.
fn users(pool: &str, ipam: &Ipam) -> String {
    let list = |count: usize, kind: &str, names: Vec<String>| {
        let plural = if count == 1 { "" } else { "s" };
        let rest = count.saturating_sub(names.len());
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        (count > 0).then(|| format!("{count} {kind}{plural}: {}{more}", names.join(", ")))
    };
    let (services, claims) = (ipam.holders_of(pool), ipam.claims_on(pool));
    let (holders, claimants) = (services.len(), claims.len());
    let services = services.take(MAX_NAMED).map(ToString::to_string).collect();
    let claims = claims.take(MAX_NAMED).map(ToString::to_string).collect();
    let all = [list(holders, "Service", services), list(claimants, "IPClaim", claims)];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Parses an entry of the status that an earlier version wrote.
fn parse_released(entry: &ReleasedAddress) -> Option<Released> {
    let (namespace, name) = entry.service.split_once('/')?;
    Some(Released {
        address: entry.address.parse().ok()?,
        service: ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() },
        at: entry.released.0,
    })
}
