//! Validation of ServiceCIDRs (`ValidateServiceCIDR` and `ValidateServiceCIDRUpdate` of Kubernetes). The
//! server allocates only from the ranges of its options: ranges of further objects are stored and not used.

use ipnet::IpNet;
use serde_json::Value;

use super::addresses::Family;
use crate::failure::Cause;

const IMMUTABLE: &str = "field is immutable";

/// Returns all field errors.
pub(super) fn validate(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let cidrs = list(object);
    match old {
        None => validate_new(object, cidrs),
        Some(old) => validate_update(object, cidrs, list(old)),
    }
}

fn validate_new(object: &Value, cidrs: &[Value]) -> Vec<Cause> {
    if cidrs.is_empty() {
        return vec![Cause::required("spec.cidrs", "at least one CIDR required")];
    }
    if cidrs.len() > 2 {
        return vec![Cause::invalid("spec.cidrs", &object["spec"], "may only hold up to 2 values")];
    }
    let ranges: Vec<Option<IpNet>> = cidrs.iter().map(|cidr| cidr.as_str()?.parse().ok()).collect();
    if let [Some(one), Some(other)] = ranges[..]
        && Family::of(one.addr()) == Family::of(other.addr())
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
        return vec![Cause::invalid("spec.cidrs", &object["spec"], why)];
    }
    let checked = ranges.iter().zip(cidrs).enumerate();
    checked
        .filter(|(_, (range, _))| range.is_none_or(|range| range != range.trunc()))
        .map(|(at, (_, cidr))| {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            Cause::invalid(format!("spec.cidrs[{at}]"), cidr, why)
        })
        .collect()
}

/// A range of the other family may be added, to convert the cluster to dual stack.
fn validate_update(object: &Value, cidrs: &[Value], old: &[Value]) -> Vec<Cause> {
    if cidrs.len() != old.len() && (old.len(), cidrs.len()) != (1, 2) {
        return vec![Cause::invalid("spec.cidrs", &object["spec"]["cidrs"], IMMUTABLE)];
    }
    let changed = cidrs.iter().zip(old).enumerate().filter(|(_, (new, old))| new != old);
    changed.map(|(at, (new, _))| Cause::invalid(format!("spec.cidrs[{at}]"), new, IMMUTABLE)).collect()
}

fn list(object: &Value) -> &[Value] {
    object["spec"]["cidrs"].as_array().map(Vec::as_slice).unwrap_or_default()
}
