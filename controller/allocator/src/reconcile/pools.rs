//! The status of pools: how full they are, who is in the way of a deletion, and what is kept for whom.

use std::time::Duration;

use fairlead_crds::model::config::Reclaim;
use fairlead_crds::model::service::ObjectKey;
use fairlead_crds::names::POOL_PROTECTION;
use fairlead_crds::resolve::Accepted;
use fairlead_crds::v1beta1::{
    ACCEPTED, EXHAUSTED, IN_USE, IPAddressPool, IPAddressPoolStatus, ReleasedAddress,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};

use super::objects::{Configuration, Configures, ObjectPatch, Part, dated, object_patch};
use crate::ipam::{Family, Ipam, PoolCounts, Released};

/// PoolCounts of pools are written at most this often.
pub const POOL_STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// The same where an address was released that is kept for its last holder: what is not written yet, a crash forgets.
pub const RELEASED_INTERVAL: Duration = Duration::from_millis(100);
/// At most this many Services are named in one message.
const MAX_NAMED: usize = 5;

impl Configuration {
    /// What to write to a pool's finalizers: ours on one that is in use, off one that is not.
    pub fn finalizer_patch(&self, name: &str, ipam: &Ipam) -> Option<ObjectPatch> {
        finalizer_patch(self.pool(name)?.0, ipam)
    }

    /// The patch `body` of a pool's finalizers is written; the pool has this resourceVersion now. So its status can be
    /// written before the watch shows that. Of no effect where the watch has shown something newer since.
    pub fn finalizers_written(&mut self, name: &str, body: &Value, resource_version: &str) {
        let written = &body["metadata"];
        self.update_pool(name, |pool| {
            if written["resourceVersion"].as_str() == pool.metadata.resource_version.as_deref() {
                pool.metadata.resource_version = Some(resource_version.to_owned());
                let finalizers = written["finalizers"].as_array().into_iter().flatten();
                let finalizers = finalizers.filter_map(Value::as_str).map(str::to_owned);
                pool.metadata.finalizers = Some(finalizers.collect());
            }
        });
    }

    /// What to write to a pool's status.
    pub fn pool_patch(&self, name: &str, ipam: &Ipam, now: Timestamp) -> Option<ObjectPatch> {
        let (pool, accepted) = self.pool(name)?;
        let old = pool.status.clone().unwrap_or_default();
        let new = status(pool, &accepted, ipam, now);
        (new != old).then(|| object_patch(pool, body(&old, &new)))
    }

    /// The addresses that are kept for those who released them, by pool, as the pools' statuses say.
    pub fn released(&self) -> Vec<(String, Released)> {
        let entries = self.pools().iter().flat_map(|pool| {
            let name = pool.metadata.name.clone().unwrap_or_default();
            let list = pool.status.iter().flat_map(|status| &status.recently_released);
            list.filter_map(move |entry| Some((name.clone(), read(entry)?)))
        });
        entries.collect()
    }
}

fn finalizer_patch(pool: &IPAddressPool, ipam: &Ipam) -> Option<ObjectPatch> {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let has: Vec<&str> = finalizers(pool).collect();
    let is_going = pool.metadata.deletion_timestamp.is_some();
    let mut finalizers: Vec<&str> = has.iter().copied().filter(|one| *one != POOL_PROTECTION).collect();
    if is_needed(name, ipam) && (!is_going || has.contains(&POOL_PROTECTION)) {
        finalizers.push(POOL_PROTECTION);
    }
    if finalizers.len() == has.len() {
        return None;
    }
    let resource_version = pool.metadata.resource_version.clone().unwrap_or_default();
    Some(ObjectPatch {
        object: pool.reference(),
        part: Part::Main,
        body: json!({ "metadata": { "resourceVersion": resource_version, "finalizers": finalizers } }),
        resource_version,
    })
}

fn finalizers(pool: &IPAddressPool) -> impl Iterator<Item = &str> {
    pool.metadata.finalizers.iter().flatten().map(String::as_str)
}

/// Whether somebody has addresses of a pool and is to keep them when it is deleted.
fn is_needed(pool: &str, ipam: &Ipam) -> bool {
    let retains = ipam.reclaim(pool) != Some(Reclaim::Reassign);
    retains && (ipam.holders_of(pool).len() > 0 || ipam.claims_on(pool).len() > 0)
}

fn status(pool: &IPAddressPool, accepted: &Accepted, ipam: &Ipam, now: Timestamp) -> IPAddressPoolStatus {
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let counts = Family::BOTH.map(|family| ipam.counts(name, family));
    let saturated = |n: u128| Some(i64::try_from(n).unwrap_or(i64::MAX));
    let [v4, v6] = counts;
    IPAddressPoolStatus {
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
        recently_released: ipam.released(name).map(written).collect(),
        conditions: conditions(pool, accepted, counts, ipam, now),
    }
}

/// A merge patch: what is no longer there must be taken away.
fn body(old: &IPAddressPoolStatus, new: &IPAddressPoolStatus) -> Value {
    let mut status = serde_json::to_value(new).unwrap_or_default();
    if new.recently_released.is_empty() && !old.recently_released.is_empty() {
        status["recentlyReleased"] = Value::Null;
    }
    status
}

fn conditions(
    pool: &IPAddressPool,
    accepted: &Accepted,
    counts: [PoolCounts; 2],
    ipam: &Ipam,
    now: Timestamp,
) -> Vec<Condition> {
    let is_ours = |c: &Condition| [ACCEPTED, EXHAUSTED, IN_USE].contains(&c.type_.as_str());
    let mut all: Vec<Condition> = pool.conditions().iter().filter(|c| !is_ours(c)).cloned().collect();
    let Accepted { status, reason, message } = accepted.clone();
    all.push(dated(pool, ACCEPTED, status, reason, message, now));
    if accepted.status {
        let full: Vec<String> = Family::BOTH
            .into_iter()
            .zip(counts)
            .filter(|(_, counts)| counts.total > 0 && counts.available == 0)
            .map(|(family, _)| format!("no free {family} address"))
            .collect();
        let reason = if full.is_empty() { "AddressesAvailable" } else { "NoFreeAddress" };
        all.push(dated(pool, EXHAUSTED, !full.is_empty(), reason.to_owned(), full.join(" and "), now));
    }
    let name = pool.metadata.name.as_deref().unwrap_or_default();
    let is_going = pool.metadata.deletion_timestamp.is_some();
    // Without our finalizer it waits for somebody else's.
    if is_going && is_needed(name, ipam) && finalizers(pool).any(|one| one == POOL_PROTECTION) {
        let message = format!("deletion waits for {}", users(name, ipam));
        all.push(dated(pool, IN_USE, true, "AddressesHeld".to_owned(), message, now));
    }
    all
}

/// Who uses a pool, in words.
fn users(pool: &str, ipam: &Ipam) -> String {
    let some = |count: usize, kind: &str, names: Vec<String>| {
        let plural = if count == 1 { "" } else { "s" };
        let rest = count.saturating_sub(names.len());
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        (count > 0).then(|| format!("{count} {kind}{plural}: {}{more}", names.join(", ")))
    };
    let (services, claims) = (ipam.holders_of(pool), ipam.claims_on(pool));
    let (holders, claimants) = (services.len(), claims.len());
    let services = services.take(MAX_NAMED).map(ToString::to_string).collect();
    let claims = claims.take(MAX_NAMED).map(ToString::to_string).collect();
    let all = [some(holders, "Service", services), some(claimants, "IPClaim", claims)];
    all.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn written(released: Released) -> ReleasedAddress {
    ReleasedAddress {
        address: released.address.to_string(),
        service: released.service.to_string(),
        released: Time(released.at),
    }
}

fn read(entry: &ReleasedAddress) -> Option<Released> {
    let (namespace, name) = entry.service.split_once('/')?;
    Some(Released {
        address: entry.address.parse().ok()?,
        service: ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() },
        at: entry.released.0,
    })
}
