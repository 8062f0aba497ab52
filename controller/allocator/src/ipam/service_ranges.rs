//! Part of [`Ipam`]: the ranges of the cluster IPs of Services. A pool that overlaps one is in force, with a
//! warning: its addresses may be assigned to other Services inside the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fairlead_crds::model::range::IpRange;
use fairlead_crds::objects::ServiceCIDR;

use super::Ipam;

/// Returns the ranges of a ServiceCIDR. Texts that are no CIDRs are ignored.
pub fn service_ranges(object: &ServiceCIDR) -> BTreeSet<IpRange> {
    let cidrs = object.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| IpRange::parse_cidr(cidr)).collect()
}

/// The ranges of all ServiceCIDRs, by name. Ranges of several objects may overlap. A cluster has few.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceRanges(BTreeMap<Arc<str>, BTreeSet<IpRange>>);

impl ServiceRanges {
    /// Returns the first range that overlaps `range`, with its ServiceCIDR.
    fn overlapping(&self, range: &IpRange) -> Option<(&IpRange, &Arc<str>)> {
        let all = self.0.iter().flat_map(|(name, ranges)| ranges.iter().map(move |one| (one, name)));
        all.into_iter().find(|(one, _)| one.overlaps(range))
    }

    /// Sets the ranges of a ServiceCIDR. Returns what it gained or lost.
    fn set(&mut self, name: &str, new: BTreeSet<IpRange>) -> Vec<IpRange> {
        let old = match new.is_empty() {
            true => self.0.remove(name),
            false => self.0.insert(name.into(), new.clone()),
        };
        old.unwrap_or_default().symmetric_difference(&new).copied().collect()
    }
}

impl Ipam {
    /// Sets the ranges of a ServiceCIDR; none if it was deleted. Returns the pools that overlap something
    /// that it gained or lost.
    pub fn set_service_ranges(&mut self, name: &str, ranges: BTreeSet<IpRange>) -> BTreeSet<Arc<str>> {
        let changed = self.service_ranges.set(name, ranges);
        changed.iter().flat_map(|range| self.pools.overlapping(range)).collect()
    }

    /// Returns the names of the ServiceCIDRs.
    pub fn service_cidrs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.service_ranges.0.keys()
    }

    /// Returns a range of Services that overlaps a range, with the name of its ServiceCIDR.
    pub fn service_range_in(&self, range: &IpRange) -> Option<(&IpRange, &Arc<str>)> {
        self.service_ranges.overlapping(range)
    }
}

#[cfg(test)]
mod tests {
    use fairlead_crds::read::decode;

    use super::*;

    #[test]
    fn service_cidr_has_the_ranges_that_can_be_read() {
        let both = vec!["10.96.0.0-10.96.0.3", "fd00::-fd00::1"];
        for (object, expected) in [
            (r#"{ "spec": { "cidrs": ["10.96.0.0/30", "fd00::/127"] } }"#, both.clone()),
            (r#"{ "spec": { "cidrs": [7, "10.96.0.0/30", "nonsense", null, "fd00::/127"] } }"#, both),
            (r#"{ "metadata": { "name": "empty" }, "spec": null }"#, vec![]),
        ] {
            let ranges = service_ranges(&decode(object).value);
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            assert_eq!(ranges, expected, "{object}");
        }
    }
}
