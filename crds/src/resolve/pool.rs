//! Resolution of `IPAddressPool` objects.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use kube::ResourceExt;

use super::fields::{selectors, set_of};
use super::refusal::{ObjectRefusal, RefusalReason, refuse};
use super::{Warning, duration};
use crate::model::config::{Closed, Pool, PoolRanges, Reclaim, ServiceAllocation, SharingScope};
use crate::model::labels::{LabelBounds, Labels};
use crate::model::range::IpRange;
use crate::model::special_use::SpecialUse;
use crate::text::quoted;
use crate::v1beta1;

/// One year. A longer time is probably a mistake.
const MAX_REUSE_AFTER: Duration = Duration::from_secs(8760 * 3600);

/// The ranges of all pools in force. They are disjoint, so that the one that may overlap a given range is
/// found by its first address.
#[derive(Default)]
pub(super) struct UsedRanges(PoolRanges);

#[cfg(test)]
thread_local! {
    /// Number of pools that were validated.
    pub(super) static PARSED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Validates a pool on its own.
pub(super) fn pool(object: &v1beta1::IPAddressPool) -> Result<Pool, ObjectRefusal> {
    #[cfg(test)]
    PARSED.set(PARSED.get() + 1);
    let spec = &object.spec;
    if spec.addresses.is_empty() {
        return refuse(RefusalReason::NoAddresses, "addresses must contain at least one entry");
    }
    let ranges: Vec<IpRange> = spec.addresses.iter().map(|entry| range(entry)).collect::<Result<_, _>>()?;
    disjoint(&ranges)?;
    Ok(Pool {
        name: object.name_any(),
        labels: Labels::within(LabelBounds::Administrators, object.labels()),
        ranges,
        auto_assign: spec.auto_assign,
        avoid_buggy_ips: spec.avoid_buggy_ips,
        allocation: spec.service_allocation.as_ref().map(allocation).transpose()?,
        reclaim: reclaim(&spec.reclaim)?,
        closed: closed(object),
        reuse_after: reuse_after(spec.reuse_after.as_deref())?,
        sharing: sharing(&spec.sharing)?,
        class: class(object),
    })
}

/// Returns the load balancer class of the instance that uses a pool.
fn class(object: &v1beta1::IPAddressPool) -> Option<String> {
    object.spec.load_balancer_class.clone().filter(|class| !class.is_empty())
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
            format!("reclaim is {}: it must be Retain or Reassign", quoted(text)),
        ),
    }
}

fn sharing(text: &str) -> Result<SharingScope, ObjectRefusal> {
    match text {
        "SameNamespace" => Ok(SharingScope::SameNamespace),
        "" | "AnyNamespace" => Ok(SharingScope::AnyNamespace),
        _ => refuse(
            RefusalReason::InvalidSharing,
            format!("sharing is {}: it must be SameNamespace or AnyNamespace", quoted(text)),
        ),
    }
}

fn reuse_after(text: Option<&str>) -> Result<Duration, ObjectRefusal> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    match duration::parse(text) {
        Some(time) if time <= MAX_REUSE_AFTER => Ok(time),
        _ => refuse(
            RefusalReason::InvalidReuseAfter,
            format!(
                "reuseAfter is {}: it must be a duration between 0s and 8760h, such as 10m",
                quoted(text)
            ),
        ),
    }
}

/// Returns the parts of a refused pool that the holders of its addresses need.
pub(super) fn refused(object: &v1beta1::IPAddressPool) -> Pool {
    Pool {
        name: object.name_any(),
        labels: Labels::within(LabelBounds::Administrators, object.labels()),
        ranges: object.spec.addresses.iter().filter_map(|entry| range(entry).ok()).collect(),
        auto_assign: false,
        avoid_buggy_ips: false,
        allocation: None,
        reclaim: reclaim(&object.spec.reclaim).unwrap_or_default(),
        closed: closed(object),
        reuse_after: reuse_after(object.spec.reuse_after.as_deref()).unwrap_or_default(),
        sharing: SharingScope::default(),
        class: class(object),
    }
}

/// Returns what is probably a mistake in an accepted pool.
pub(super) fn warnings(object: &v1beta1::IPAddressPool) -> Vec<Warning> {
    object.spec.addresses.iter().flat_map(|entry| warnings_of_entry(entry)).collect()
}

fn warnings_of_entry(entry: &str) -> impl Iterator<Item = Warning> {
    let net = network(entry.trim());
    let off_boundary = net.filter(|net| net.addr() != net.network()).map(|net| Warning {
        reason: RefusalReason::HostBitsSet,
        message: format!(
            "{} begins at {}, not at {}: write {} or a range \"first-last\"",
            quoted(entry),
            net.network(),
            net.addr(),
            net.trunc()
        ),
    });
    let link_local = range(entry).is_ok_and(|range| SpecialUse::has_link_local(&range)).then(|| Warning {
        reason: RefusalReason::LinkLocalAddress,
        message: format!(
            "{} contains {}, which only hosts on the same link can reach: use other addresses",
            quoted(entry),
            SpecialUse::LinkLocal
        ),
    });
    [off_boundary, link_local].into_iter().flatten()
}

impl UsedRanges {
    /// Adds the ranges of a pool, unless another pool contains addresses of them.
    pub(super) fn add(&mut self, pool: &Pool) -> Result<(), ObjectRefusal> {
        overlap(pool, &self.0, |_| true)?;
        self.0.extend(pool.ranges.iter().map(|range| (range.first(), (*range, pool.name.clone()))));
        Ok(())
    }
}

/// Returns an error if a pool overlaps one of `ranges` whose pool has precedence. Asks `has_precedence` for
/// every pool that overlaps, until there is one.
pub(super) fn overlap(
    pool: &Pool,
    ranges: &PoolRanges,
    mut has_precedence: impl FnMut(&str) -> bool,
) -> Result<(), ObjectRefusal> {
    for range in &pool.ranges {
        let below = ranges.range(..=range.last()).rev().map(|(_, other)| other);
        let mut overlapping = below.take_while(|(other, _)| other.overlaps(range));
        if let Some((other, owner)) = overlapping.find(|(_, owner)| has_precedence(owner)) {
            let precedence = match pool.closed {
                Some(Closed::Deleting) => "because this pool is being deleted",
                _ => "because it is already in force or older",
            };
            return refuse(
                RefusalReason::Overlap,
                format!(
                    "{range} overlaps {other} of IPAddressPool {}, which takes precedence \
                     {precedence}: remove the common addresses from one of the pools",
                    quoted(owner)
                ),
            );
        }
    }
    Ok(())
}

/// Parses an entry of `addresses`: a CIDR, whose host bits are ignored, or `first-last`.
pub(super) fn range(entry: &str) -> Result<IpRange, ObjectRefusal> {
    let trimmed = entry.trim();
    let range = if trimmed.contains('/') {
        let Some(net) = network(trimmed) else {
            return refuse(
                RefusalReason::InvalidRange,
                format!("{} is not a valid CIDR such as 198.51.100.0/24", quoted(entry)),
            );
        };
        let net = net.trunc();
        IpRange::new(net.addr(), last_of(net))
    } else if let Some((first, last)) = trimmed.split_once('-') {
        let (first, last) = (endpoint(entry, first)?, endpoint(entry, last)?);
        if first.is_ipv4() != last.is_ipv4() {
            return refuse(
                RefusalReason::MixedFamilies,
                format!(
                    "the first and the last address of {} must be of the same address family",
                    quoted(entry)
                ),
            );
        }
        if first > last {
            return refuse(
                RefusalReason::ReversedRange,
                format!("{first}-{last} is reversed: the first address must not be higher than the last"),
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
                "{} is neither a CIDR nor a range \"first-last\": write a single address as a /32 or \
                 /128",
                quoted(entry)
            ),
        );
    };
    if is_everything(&range) {
        return refuse(
            RefusalReason::WholeAddressSpace,
            format!("{} is the whole address space: use longer prefixes", quoted(entry)),
        );
    }
    if let Some(special_use) = SpecialUse::unusable_in(&range) {
        let reason = match special_use {
            SpecialUse::Mapped => RefusalReason::InvalidRange,
            _ => RefusalReason::UnusableAddress,
        };
        return refuse(
            reason,
            format!("{} contains {special_use}, which no Service can use: exclude them", quoted(entry)),
        );
    }
    Ok(range)
}

fn endpoint(entry: &str, text: &str) -> Result<IpAddr, ObjectRefusal> {
    text.trim().parse().map_err(|_| ObjectRefusal {
        reason: RefusalReason::InvalidRange,
        message: format!("{} in {} is not an IP address", quoted(text.trim()), quoted(entry)),
    })
}

/// Parses a CIDR as Go and the schema do: `ipnet` alone accepts octets with leading zeros, which some
/// programs read as octal.
fn network(text: &str) -> Option<IpNet> {
    let (ip, length) = text.split_once('/')?;
    let plain = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length = length.parse().ok().filter(|_| plain)?;
    IpNet::new(ip.parse().ok()?, length).ok()
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
        Some(pair) => refuse(
            RefusalReason::Overlap,
            format!("{} overlaps {} of the same pool: remove one of them", pair[0], pair[1]),
        ),
        None => Ok(()),
    }
}

fn allocation(spec: &v1beta1::ServiceAllocation) -> Result<ServiceAllocation, ObjectRefusal> {
    let priority = spec.priority.unwrap_or(0);
    let Ok(priority) = u32::try_from(priority) else {
        return refuse(
            RefusalReason::InvalidPriority,
            format!("serviceAllocation.priority is {priority}: it must be between 0 and {}", u32::MAX),
        );
    };
    Ok(ServiceAllocation {
        priority,
        namespaces: set_of("serviceAllocation.namespaces", &spec.namespaces)?,
        namespace_selectors: selectors("serviceAllocation.namespaceSelectors", &spec.namespace_selectors)?,
        service_selectors: selectors("serviceAllocation.serviceSelectors", &spec.service_selectors)?,
    })
}
