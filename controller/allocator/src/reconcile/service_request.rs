//! What a Service asks for: families, pool, addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fairlead_crds::model::service::{IpFamilyPolicy, LoadBalancer};

use super::AllocationReason;
use crate::ipam::{Families, Family};

/// What a Service asks for, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// The pool it names.
    pub(super) pool: Option<String>,
    /// The addresses it names, at most one of each family; none means any.
    pub(super) addresses: BTreeSet<IpAddr>,
}

/// The families that a Service needs, after its cluster IPs: the API server has settled them from `ipFamilies` and
/// `ipFamilyPolicy`.
pub(super) fn families(service: &LoadBalancer) -> Result<Families, (AllocationReason, String)> {
    let mut families: Vec<Family> = Vec::new();
    for family in service.cluster_ips.iter().map(|ip| Family::of(*ip)) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    match (families[..].first(), families.len(), service.ip_family_policy) {
        (None, ..) => Err((AllocationReason::NoClusterIP, "the Service has no cluster IP".to_owned())),
        (Some(only), 1, IpFamilyPolicy::RequireDualStack) => Err((
            AllocationReason::FamilyMismatch,
            format!("ipFamilyPolicy is RequireDualStack, but the Service has only an {only} cluster IP"),
        )),
        (Some(&first), 1, _) | (Some(&first), _, IpFamilyPolicy::SingleStack) => Ok(Families::One(first)),
        (Some(&first), _, policy) => {
            Ok(Families::Both { first, required: policy == IpFamilyPolicy::RequireDualStack })
        }
    }
}

/// What a Service asks for; the error says what cannot be understood.
pub(super) fn request(service: &LoadBalancer) -> Result<Request, String> {
    let mut pools = service.requested.pools.iter();
    let pool = pools.next().cloned();
    if let (Some(one), Some(other)) = (&pool, pools.next()) {
        return Err(format!("two different pools are asked for: {one} and {other}"));
    }
    if let [one, other, ..] = &service.requested.sharing_keys[..] {
        return Err(format!("two different sharing keys are asked for: {one} and {other}"));
    }
    let mut addresses: Option<BTreeSet<IpAddr>> = None;
    for text in &service.requested.addresses {
        let list = parse(text)?;
        match &addresses {
            Some(first) if *first != list => {
                let texts: Vec<&str> = service.requested.addresses.iter().map(String::as_str).collect();
                return Err(format!("different addresses are asked for: {}", texts.join(" and ")));
            }
            _ => addresses = Some(list),
        }
    }
    Ok(Request { pool, addresses: addresses.unwrap_or_default() })
}

fn parse(text: &str) -> Result<BTreeSet<IpAddr>, String> {
    let mut addresses = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let ip: IpAddr = part.parse().map_err(|_| format!("{part:?} is not an IP address"))?;
        addresses.insert(ip);
    }
    let families: BTreeSet<Family> = addresses.iter().map(|ip| Family::of(*ip)).collect();
    if families.len() != addresses.len() {
        return Err(format!("{text:?} has several addresses of one family"));
    }
    Ok(addresses)
}

/// Whether the addresses asked for are of exactly the families needed.
pub(super) fn of_families(addresses: &BTreeSet<IpAddr>, families: Families) -> Result<(), String> {
    let asked: BTreeSet<Family> = addresses.iter().map(|ip| Family::of(*ip)).collect();
    let needed: BTreeSet<Family> = families.wanted().into_iter().collect();
    if asked == needed {
        return Ok(());
    }
    let names = |families: BTreeSet<Family>| {
        families.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
    };
    Err(format!("{} is asked for, but the Service's cluster IPs are {}", names(asked), names(needed)))
}
