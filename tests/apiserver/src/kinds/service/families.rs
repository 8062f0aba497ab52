//! `clusterIP(s)`, `ipFamilies` and `ipFamilyPolicy`: mutual defaulting, limited to the cluster's families.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;
use serde_json::json;

use super::super::addresses::Family;
use super::{is_headless, needs_cluster_ip};
use crate::failure::Cause;

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Returns the families of a completed Service.
pub(super) fn of(spec: &ServiceSpec) -> Vec<Family> {
    spec.ip_families.iter().flatten().filter_map(|name| Family::parse(name)).collect()
}

/// Completes the three fields from each other and from the cluster's families, the primary first.
pub(super) fn complete(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, cluster: &[Family]) -> Vec<Cause> {
    let mut causes = Vec::new();
    if !needs_cluster_ip(spec) {
        return causes;
    }
    one_and_list(spec, old, &mut causes);
    if let Some(old) = old {
        shrink(spec, old);
    }
    let ips = spec.cluster_ips.clone().unwrap_or_default();
    let mut families = Vec::new();
    for (at, name) in spec.ip_families.iter().flatten().enumerate() {
        match Family::parse(name) {
            Some(family) => families.push(family),
            None => {
                let path = format!("spec.ipFamilies[{at}]");
                causes.push(Cause::unsupported(path, &json!(name), &["IPv4", "IPv6"]));
                return causes;
            }
        }
    }
    let headless = is_headless(spec);
    if !headless {
        for (at, text) in ips.iter().enumerate() {
            let path = format!("spec.clusterIPs[{at}]");
            let Ok(ip) = text.parse::<IpAddr>() else {
                causes.push(Cause::invalid(path, &json!(text), "must be a valid IP address"));
                return causes;
            };
            match families.get(at) {
                None => families.push(Family::of(ip)),
                Some(family) if *family == Family::of(ip) => {}
                Some(family) => {
                    let why =
                        format!("expected an {} value as indicated by `ipFamilies[{at}]`", family.name());
                    causes.push(Cause::invalid(path, &json!(text), &why));
                    return causes;
                }
            }
        }
    }

    let selectorless = spec.selector.as_ref().is_none_or(std::collections::BTreeMap::is_empty);
    if headless && selectorless && spec.ip_family_policy.is_none() && families.len() < 2 {
        // The families of manual endpoints are unknown, so both apply.
        let first = families.first().copied().or(cluster.first().copied()).unwrap_or(Family::V4);
        write(spec, &[first, first.other()], REQUIRE);
        return causes;
    }
    let policy = match spec.ip_family_policy.clone() {
        Some(policy) => policy,
        None if families.len() == 2 || ips.len() == 2 => REQUIRE.into(),
        None => SINGLE.into(),
    };
    if ![SINGLE, PREFER, REQUIRE].contains(&policy.as_str()) {
        let allowed = &[SINGLE, PREFER, REQUIRE];
        causes.push(Cause::unsupported("spec.ipFamilyPolicy", &json!(policy), allowed));
        return causes;
    }
    if policy == SINGLE && families.len() == 2 {
        let why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        causes.push(Cause::invalid("spec.ipFamilyPolicy", &json!(policy), why));
    }
    let free = headless && selectorless;
    for (at, family) in families.iter().enumerate() {
        if !free && !cluster.contains(family) {
            let path = format!("spec.ipFamilies[{at}]");
            causes.push(Cause::invalid(path, &json!(family.name()), "not configured on this cluster"));
        }
    }
    if families.len() > 2 || (families.len() == 2 && families[0] == families[1]) {
        causes.push(Cause::duplicate("spec.ipFamilies[1]", &json!(families[1].name())));
    }
    if policy == REQUIRE && cluster.len() < 2 && !free {
        let why = "this cluster is not configured for dual-stack services";
        causes.push(Cause::invalid("spec.ipFamilyPolicy", &json!(policy), why));
    }
    if families.is_empty() {
        families.extend(cluster.first());
    }
    if policy != SINGLE && families.len() == 1 && cluster.contains(&families[0].other()) {
        families.push(families[0].other());
    }
    write(spec, &families, &policy);
    causes
}

fn write(spec: &mut ServiceSpec, families: &[Family], policy: &str) {
    spec.ip_families = Some(families.iter().map(|family| family.name().to_owned()).collect());
    spec.ip_family_policy = Some(policy.to_owned());
}

/// `clusterIP` equals the first of `clusterIPs`; older clients use only `clusterIP`.
fn one_and_list(spec: &mut ServiceSpec, old: Option<&ServiceSpec>, causes: &mut Vec<Cause>) {
    let list = spec.cluster_ips.get_or_insert_default();
    if let Some(old) = old
        && spec.cluster_ip != old.cluster_ip
        && Some(&*list) == old.cluster_ips.as_ref()
    {
        // Only `clusterIP` changed, so the list follows.
        list.clear();
    }
    match (&spec.cluster_ip, list.first()) {
        (Some(one), None) => list.push(one.clone()),
        (None, Some(first)) => spec.cluster_ip = Some(first.clone()),
        (Some(one), Some(first)) if one != first => {
            causes.push(Cause::invalid(
                "spec.clusterIPs",
                &json!(list),
                "first value must match `clusterIP`",
            ));
        }
        _ => {}
    }
    if list.is_empty() {
        spec.cluster_ips = None;
    }
}

/// A change to single stack drops the second family and its address if the update did not change them.
fn shrink(spec: &mut ServiceSpec, old: &ServiceSpec) {
    let was_dual = old.ip_families.as_ref().is_some_and(|families| families.len() == 2);
    if spec.ip_family_policy.as_deref() != Some(SINGLE) || !was_dual {
        return;
    }
    if spec.ip_families == old.ip_families
        && let Some(families) = &mut spec.ip_families
    {
        families.truncate(1);
    }
    if spec.cluster_ips == old.cluster_ips
        && let Some(ips) = &mut spec.cluster_ips
    {
        ips.truncate(1);
    }
}
