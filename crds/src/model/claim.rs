//! The parts of an `IPClaim` that decisions need.

use std::net::IpAddr;

use kube::ResourceExt;

use crate::model::family::Family;
use crate::model::service::ObjectKey;
use crate::model::special_use::SpecialUse;
use crate::names::reasons;
use crate::read::Custom;
use crate::resolve::{ObjectRefusal, RefusalReason};
use crate::text::{is_name, quoted};
use crate::{conditions, names, v1beta1};

/// An `IPClaim`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Claim {
    pub key: ObjectKey,
    /// The UID, which differs if the claim is deleted and created again.
    pub uid: String,
    /// `metadata.resourceVersion` of the object that this value was read from.
    pub resource_version: String,
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// True if the claim is being deleted.
    pub is_deleting: bool,
    /// Creation time in seconds since the epoch. If two claims request the same address, the older one gets
    /// it.
    pub created: i64,
    /// The Service, in the namespace of the claim.
    pub service: ObjectKey,
    /// The load balancer class of the instance that handles the claim.
    pub class: Option<String>,
    /// The requested addresses, or the reason why the request is invalid.
    pub request: Result<ClaimRequest, ObjectRefusal>,
    pub status: v1beta1::IPClaimStatus,
}

/// The addresses that a claim requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimRequest {
    /// These addresses, at most one of each family.
    Addresses(Vec<IpAddr>),
    /// Any address of each of these families, from this pool.
    #[allow(missing_docs)]
    FromPool {
        pool: String,
        /// Without duplicates.
        families: Vec<Family>,
    },
}

impl Claim {
    /// Reads the claim from its object. The request of a claim with an unreadable spec is invalid, so that it
    /// keeps what it has reserved.
    pub fn from_read(read: &Custom<v1beta1::IPClaim>) -> Self {
        let mut claim = Self::from_object(&read.object);
        if let Some(cause) = &read.unreadable {
            let message = format!("the spec cannot be read: {cause}");
            claim.request = Err(ObjectRefusal { reason: RefusalReason::InvalidClaim, message });
        }
        claim
    }

    /// Reads the claim from its object.
    pub fn from_object(object: &v1beta1::IPClaim) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        // No Service has an invalid name, and `request` refuses it.
        let service = Some(&object.spec.service_name).filter(|name| is_name(name)).cloned();
        Self {
            service: ObjectKey { namespace: namespace.clone(), name: service.unwrap_or_default() },
            key: ObjectKey { namespace, name: object.name_any() },
            class: object.spec.load_balancer_class.clone().filter(|class| !class.is_empty()),
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            generation: object.metadata.generation,
            is_deleting: object.metadata.deletion_timestamp.is_some(),
            created: object.creation_timestamp().map_or(0, |time| time.0.as_second()),
            request: request(&object.spec)
                .map_err(|message| ObjectRefusal { reason: RefusalReason::InvalidClaim, message }),
            status: object.status.clone().unwrap_or_default(),
        }
    }

    /// Returns the addresses in the status. Returns none if the claim now requests another pool than the one
    /// they are from.
    pub fn status_addresses(&self) -> Vec<IpAddr> {
        if let Ok(ClaimRequest::FromPool { pool, .. }) = &self.request
            && self.status.pool.as_ref() != Some(pool)
        {
            return Vec::new();
        }
        self.status.addresses.iter().filter_map(|ip| ip.parse().ok()).collect()
    }

    /// Returns true if, according to the status, all requested addresses are reserved.
    pub fn is_fully_reserved(&self) -> bool {
        !self.status.addresses.is_empty() && conditions::is_true(&self.status.conditions, names::RESERVED)
    }

    /// Returns true if, according to the status, at least one of the addresses is reserved. Otherwise the
    /// status only lists them to be reserved again.
    pub fn is_partly_reserved(&self) -> bool {
        let bound = conditions::find(&self.status.conditions, names::BOUND);
        self.is_fully_reserved()
            || (!self.status.addresses.is_empty()
                && bound.is_some_and(|c| c.reason() != reasons::NOT_RESERVED))
    }
}

fn request(spec: &v1beta1::IPClaimSpec) -> Result<ClaimRequest, String> {
    if spec.service_name.is_empty() {
        return Err("serviceName must be set".to_owned());
    }
    if !is_name(&spec.service_name) {
        return Err(format!(
            "serviceName is {}: it must be the name of a Service",
            quoted(&spec.service_name)
        ));
    }
    let pool = spec.pool.as_deref().filter(|pool| !pool.is_empty());
    if let Some(pool) = pool.filter(|pool| !is_name(pool)) {
        return Err(format!("pool is {}: it must be the name of an IPAddressPool", quoted(pool)));
    }
    match (pool, spec.addresses.is_empty()) {
        (Some(_), false) => Err("addresses and pool are both set: set exactly one of them".to_owned()),
        (None, true) => Err("neither addresses nor pool is set: set exactly one of them".to_owned()),
        (None, false) => addresses(&spec.addresses).map(ClaimRequest::Addresses),
        (Some(pool), true) => {
            Ok(ClaimRequest::FromPool { pool: pool.to_owned(), families: families(&spec.ip_families)? })
        }
    }
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, String> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in texts {
        let ip: IpAddr = text.trim().parse().map_err(|_| format!("{} is not an IP address", quoted(text)))?;
        if let Some(special_use) = SpecialUse::unusable(ip) {
            return Err(format!("{ip} cannot be the address of a Service: it is one of {special_use}"));
        }
        if let Some(other) = addresses.iter().find(|other| Family::of(**other) == Family::of(ip)) {
            return Err(format!(
                "{other} and {ip} are of the same address family: request at most one address of each family"
            ));
        }
        addresses.push(ip);
    }
    Ok(addresses)
}

fn families(names: &[String]) -> Result<Vec<Family>, String> {
    let mut families = Vec::new();
    for name in names {
        let family = Family::parse(name);
        let family =
            family.ok_or_else(|| format!("ipFamilies contains {}: it must be IPv4 or IPv6", quoted(name)))?;
        if !families.contains(&family) {
            families.push(family);
        }
    }
    if families.is_empty() {
        families.push(Family::V4);
    }
    Ok(families)
}
