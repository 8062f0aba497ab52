//! The request of a Service: families, pool and addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use fairlead_crds::model::service::{IpFamilyPolicy, LoadBalancer};
use fairlead_crds::model::special_use::SpecialUse;
use fairlead_crds::text::{is_name, quoted};

use super::outcome::AllocationReason;
use crate::ipam::{Families, Family, Holding};

/// The parsed request of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceRequest {
    /// The requested pool.
    pub(crate) pool: Option<String>,
    /// The requested addresses, at most one of each family. If empty, any address will do.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl ServiceRequest {
    /// Parses the annotations and `spec.loadBalancerIP`.
    ///
    /// # Errors
    /// If a value is malformed or two values contradict each other. The error is a message for the user.
    pub(crate) fn parse(service: &LoadBalancer) -> Result<Self, String> {
        if let Some(too_long) = service.requested.too_long {
            return Err(too_long.to_string());
        }
        if let Some(excess) = service.requested.excess {
            return Err(excess.to_string());
        }
        let mut pools = service.requested.pools.iter();
        if let Some(invalid) = pools.clone().find(|pool| !is_name(pool)) {
            let invalid = quoted(invalid);
            return Err(format!("the Service requests the IPAddressPool {invalid}, which is no valid name"));
        }
        let pool = pools.next().cloned();
        if let (Some(one), Some(other)) = (&pool, pools.next()) {
            return Err(format!("the Service requests two different IPAddressPools: {one} and {other}"));
        }
        if let [one, other, ..] = &service.requested.sharing_keys[..] {
            let (one, other) = (quoted(one), quoted(other));
            return Err(format!("the Service sets two different sharing keys: {one} and {other}"));
        }
        let mut addresses: Option<BTreeSet<IpAddr>> = None;
        for text in &service.requested.addresses {
            let list = parse_addresses(text)?;
            match &addresses {
                Some(first) if *first != list => {
                    let texts = service.requested.addresses.iter().map(|text| quoted(text).to_string());
                    let texts: Vec<String> = texts.collect();
                    return Err(format!("the Service requests different addresses: {}", texts.join(" and ")));
                }
                _ => addresses = Some(list),
            }
        }
        Ok(Self { pool, addresses: addresses.unwrap_or_default() })
    }

    /// Returns true if the Service requests a pool or addresses.
    pub(super) fn names_pool(&self) -> bool {
        self.pool.is_some() || !self.addresses.is_empty()
    }

    /// Returns true if the held addresses satisfy the request.
    pub(super) fn is_met_by(&self, held: &Holding) -> bool {
        let addresses: BTreeSet<IpAddr> = held.ips().collect();
        self.pool.as_deref().is_none_or(|pool| held.held.iter().all(|held| *held.pool == *pool))
            && (self.addresses.is_empty() || self.addresses == addresses)
    }

    /// Checks that the requested addresses are of exactly the families that the Service needs.
    ///
    /// # Errors
    /// A message for the user.
    pub(super) fn check_families(&self, families: Families) -> Result<(), String> {
        let requested: BTreeSet<Family> = self.addresses.iter().map(|ip| Family::of(*ip)).collect();
        let needed: BTreeSet<Family> = families.wanted().into_iter().collect();
        if requested == needed {
            return Ok(());
        }
        let names = |families: BTreeSet<Family>| {
            families.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
        };
        let (requested, needed) = (names(requested), names(needed));
        Err(format!(
            "the requested addresses are {requested}, but the cluster IPs of the Service are {needed}"
        ))
    }
}

/// Returns the families that a Service needs. They follow from its cluster IPs: the API server allocates
/// those according to `ipFamilies` and `ipFamilyPolicy`.
pub(crate) fn needed_families(service: &LoadBalancer) -> Result<Families, (AllocationReason, String)> {
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

fn parse_addresses(text: &str) -> Result<BTreeSet<IpAddr>, String> {
    let mut addresses = BTreeSet::new();
    for part in text.split(',').map(str::trim) {
        let ip: IpAddr = part.parse().map_err(|_| format!("{} is not an IP address", quoted(part)))?;
        if let Some(special_use) = SpecialUse::unusable(ip) {
            return Err(format!("{ip} cannot be the address of a Service: it is one of {special_use}"));
        }
        addresses.insert(ip);
    }
    let families: BTreeSet<Family> = addresses.iter().map(|ip| Family::of(*ip)).collect();
    if families.len() != addresses.len() {
        return Err(format!("{} contains several addresses of one family", quoted(text)));
    }
    Ok(addresses)
}
