//! `IPAddressPool` → [`Pool`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use kube::ResourceExt;

use super::duration;
use super::fields::{selectors, set_of};
use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use crate::kinds::ConfigurationObject;
use crate::model::config::{Closed, Pool, Reclaim, ServiceAllocation, SharingScope};
use crate::model::range::IpRange;
use crate::{conditions, names, v1beta1};

/// A year: longer is a mistake.
const LONGEST_REUSE_AFTER: Duration = Duration::from_secs(8760 * 3600);

/// The ranges of all pools in force. They are disjoint, so the one that could overlap a given range is found by
/// its first address.
#[derive(Default)]
pub(super) struct Taken(BTreeMap<IpAddr, (IpRange, String)>);

/// Validates a pool by itself.
pub(super) fn pool(object: &v1beta1::IPAddressPool) -> Result<Pool, ObjectRefusal> {
    let spec = &object.spec;
    if spec.addresses.is_empty() {
        return refuse(RefusalReason::NoAddresses, "addresses is empty");
    }
    let ranges: Vec<IpRange> = spec.addresses.iter().map(|entry| range(entry)).collect::<Result<_, _>>()?;
    disjoint(&ranges)?;
    Ok(Pool {
        name: object.name_any(),
        labels: object.labels().clone(),
        ranges,
        auto_assign: spec.auto_assign,
        avoid_buggy_ips: spec.avoid_buggy_ips,
        allocation: spec.service_allocation.as_ref().map(allocation).transpose()?,
        reclaim: reclaim(&spec.reclaim)?,
        closed: closed(object),
        reuse_after: reuse_after(spec.reuse_after.as_deref())?,
        sharing: sharing(&spec.sharing)?,
    })
}

fn closed(object: &v1beta1::IPAddressPool) -> Option<Closed> {
    if object.metadata.deletion_timestamp.is_some() {
        return Some(Closed::Deleting);
    }
    object.spec.disabled.then_some(Closed::Disabled)
}

fn reclaim(text: &str) -> Result<Reclaim, ObjectRefusal> {
    match text {
        "" | "Retain" => Ok(Reclaim::Retain),
        "Reassign" => Ok(Reclaim::Reassign),
        _ => refuse(
            RefusalReason::InvalidReclaim,
            format!("reclaim is {text:?}: it must be Retain or Reassign"),
        ),
    }
}

fn sharing(text: &str) -> Result<SharingScope, ObjectRefusal> {
    match text {
        "SameNamespace" => Ok(SharingScope::SameNamespace),
        "" | "AnyNamespace" => Ok(SharingScope::AnyNamespace),
        _ => refuse(
            RefusalReason::InvalidSharing,
            format!("sharing is {text:?}: it must be SameNamespace or AnyNamespace"),
        ),
    }
}

fn reuse_after(text: Option<&str>) -> Result<Duration, ObjectRefusal> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    match duration::parse(text) {
        Some(time) if time <= LONGEST_REUSE_AFTER => Ok(time),
        _ => refuse(
            RefusalReason::InvalidReuseAfter,
            format!("reuseAfter is {text:?}: it must be a duration between 0s and 8760h, such as 10m"),
        ),
    }
}

/// What remains of a refused pool for those who hold addresses of it.
pub(super) fn refused(object: &v1beta1::IPAddressPool) -> Pool {
    Pool {
        name: object.name_any(),
        labels: object.labels().clone(),
        ranges: object.spec.addresses.iter().filter_map(|entry| range(entry).ok()).collect(),
        auto_assign: false,
        avoid_buggy_ips: false,
        allocation: None,
        reclaim: reclaim(&object.spec.reclaim).unwrap_or_default(),
        closed: closed(object),
        reuse_after: reuse_after(object.spec.reuse_after.as_deref()).unwrap_or_default(),
        sharing: SharingScope::default(),
    }
}

/// Sorts pools by who keeps a range that several have, after they were sorted by name: one that is being deleted makes
/// way, then the older keeps it. Creation is known to the second only: of the same second, who is in force already.
pub(super) fn precedence(object: &v1beta1::IPAddressPool) -> impl Ord + use<> {
    let created = object.creation_timestamp().map(|time| time.0);
    let in_force = conditions::is_true(object.conditions(), names::ACCEPTED);
    (object.metadata.deletion_timestamp.is_some(), created.is_none(), created, !in_force)
}

impl Taken {
    /// Takes the ranges of a pool, unless another pool has addresses of them.
    pub(super) fn take(&mut self, pool: &Pool) -> Result<(), ObjectRefusal> {
        for range in &pool.ranges {
            let below = self.0.range(..=range.last()).next_back();
            if let Some((_, (other, owner))) = below
                && other.overlaps(range)
            {
                return refuse(
                    RefusalReason::Overlap,
                    match pool.closed {
                        Some(Closed::Deleting) => format!(
                            "{range} overlaps {other} of IPAddressPool {owner:?}, while this one is being deleted"
                        ),
                        _ => format!("{range} overlaps {other} of IPAddressPool {owner:?}, which is older"),
                    },
                );
            }
        }
        self.0.extend(pool.ranges.iter().map(|range| (range.first(), (*range, pool.name.clone()))));
        Ok(())
    }
}

/// Reads an entry of `addresses`: a CIDR, whose host bits do not matter, or `first-last`.
pub(super) fn range(entry: &str) -> Result<IpRange, ObjectRefusal> {
    let trimmed = entry.trim();
    let range = if trimmed.contains('/') {
        let Ok(net) = trimmed.parse::<IpNet>() else {
            return refuse(RefusalReason::InvalidRange, format!("{entry:?} is not a CIDR"));
        };
        let net = net.trunc();
        IpRange::new(net.addr(), last_of(net))
    } else if let Some((first, last)) = trimmed.split_once('-') {
        let (first, last) = (end(entry, first)?, end(entry, last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return refuse(
                RefusalReason::MixedFamilies,
                format!("the ends of {entry:?} are of different address families"),
            );
        }
        if first > last {
            return refuse(
                RefusalReason::ReversedRange,
                format!("{first} is higher than {last}, the end of the range"),
            );
        }
        IpRange::new(first, last)
    } else {
        None
    };
    let Some(range) = range else {
        return refuse(
            RefusalReason::InvalidRange,
            format!(
                "{entry:?} is neither a CIDR nor a range \"first-last\"; a single address is written as /32 or /128"
            ),
        );
    };
    if is_everything(&range) {
        return refuse(RefusalReason::WholeAddressSpace, format!("{entry:?} is the whole address space"));
    }
    if range.contains_mapped() {
        return refuse(RefusalReason::InvalidRange, format!("{entry:?} has IPv4-mapped IPv6 addresses"));
    }
    Ok(range)
}

fn end(entry: &str, text: &str) -> Result<IpAddr, ObjectRefusal> {
    text.trim().parse().map_err(|_| ObjectRefusal {
        reason: RefusalReason::InvalidRange,
        message: format!("{:?} in {entry:?} is not an IP address", text.trim()),
    })
}

fn last_of(net: IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => IpAddr::V4(net.broadcast()),
        IpNet::V6(net) => IpAddr::V6(net.broadcast()),
    }
}

fn is_everything(range: &IpRange) -> bool {
    match (range.first(), range.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            first == Ipv4Addr::UNSPECIFIED && last == Ipv4Addr::BROADCAST
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            first == Ipv6Addr::UNSPECIFIED && last == Ipv6Addr::from(u128::MAX)
        }
        _ => false,
    }
}

fn disjoint(ranges: &[IpRange]) -> Result<(), ObjectRefusal> {
    let mut sorted = ranges.to_vec();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0].overlaps(&pair[1])) {
        Some(pair) => {
            refuse(RefusalReason::Overlap, format!("{} overlaps {} of the same pool", pair[0], pair[1]))
        }
        None => Ok(()),
    }
}

fn allocation(spec: &v1beta1::ServiceAllocation) -> Result<ServiceAllocation, ObjectRefusal> {
    let priority = spec.priority.unwrap_or(0);
    let Ok(priority) = u32::try_from(priority) else {
        return refuse(
            RefusalReason::InvalidPriority,
            format!(
                "serviceAllocation.priority is {priority}: it must not be negative or above {}",
                u32::MAX
            ),
        );
    };
    Ok(ServiceAllocation {
        priority,
        namespaces: set_of("serviceAllocation.namespaces", &spec.namespaces)?,
        namespace_selectors: selectors("serviceAllocation.namespaceSelectors", &spec.namespace_selectors)?,
        service_selectors: selectors("serviceAllocation.serviceSelectors", &spec.service_selectors)?,
    })
}
