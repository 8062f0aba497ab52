//! What an `IPClaim` says, as far as decisions need it.

use std::net::IpAddr;

use kube::ResourceExt;

use crate::model::family::Family;
use crate::model::service::ObjectKey;
use crate::names::reasons;
use crate::resolve::{ObjectRefusal, RefusalReason};
use crate::{conditions, names, v1beta1};

/// Addresses that are kept for a Service.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Namespace and name.
    pub key: ObjectKey,
    /// UID, to tell a claim made again from the old one.
    pub uid: String,
    /// `metadata.resourceVersion` that was seen.
    pub resource_version: String,
    /// Creation time, seconds since the epoch: of two claims to one address the older has it.
    pub created: i64,
    /// The Service, in the namespace of the claim.
    pub service: ObjectKey,
    /// What is claimed; or why that cannot be understood.
    pub wanted: Result<Wanted, ObjectRefusal>,
    /// Status as last seen.
    pub status: v1beta1::IPClaimStatus,
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// These addresses, at most one of each family.
    Addresses(Vec<IpAddr>),
    /// Any address of each of these families.
    OfPool {
        /// The pool to choose from.
        pool: String,
        /// The families, without repetition.
        families: Vec<Family>,
    },
}

impl Claim {
    /// Reads a claim.
    pub fn from_object(object: &v1beta1::IPClaim) -> Self {
        let namespace = object.namespace().unwrap_or_default();
        Self {
            service: ObjectKey { namespace: namespace.clone(), name: object.spec.service_name.clone() },
            key: ObjectKey { namespace, name: object.name_any() },
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
            created: object.creation_timestamp().map_or(0, |time| time.0.as_second()),
            wanted: wanted(&object.spec)
                .map_err(|message| ObjectRefusal { reason: RefusalReason::InvalidClaim, message }),
            status: object.status.clone().unwrap_or_default(),
        }
    }

    /// The addresses that its status says are reserved; none if they are of another pool than it asks for now.
    pub fn shown(&self) -> Vec<IpAddr> {
        if let Ok(Wanted::OfPool { pool, .. }) = &self.wanted
            && self.status.pool.as_ref() != Some(pool)
        {
            return Vec::new();
        }
        self.status.addresses.iter().filter_map(|ip| ip.parse().ok()).collect()
    }

    /// Whether the status says that all it asked for is reserved.
    pub fn had_all(&self) -> bool {
        !self.status.addresses.is_empty() && conditions::is_true(&self.status.conditions, names::RESERVED)
    }

    /// Whether the status says that some of its addresses are reserved. Else they are only noted, to be had again.
    pub fn had_some(&self) -> bool {
        let bound = conditions::find(&self.status.conditions, names::BOUND);
        self.had_all()
            || (!self.status.addresses.is_empty() && bound.is_some_and(|c| c.reason != reasons::NOT_RESERVED))
    }
}

fn wanted(spec: &v1beta1::IPClaimSpec) -> Result<Wanted, String> {
    if spec.service_name.is_empty() {
        return Err("serviceName is not set".to_owned());
    }
    let pool = spec.pool.as_deref().filter(|pool| !pool.is_empty());
    match (pool, spec.addresses.is_empty()) {
        (Some(_), false) => Err("both addresses and pool are set: give one of them".to_owned()),
        (None, true) => Err("neither addresses nor pool is set".to_owned()),
        (None, false) => addresses(&spec.addresses).map(Wanted::Addresses),
        (Some(pool), true) => {
            Ok(Wanted::OfPool { pool: pool.to_owned(), families: families(&spec.ip_families)? })
        }
    }
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, String> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in texts {
        let ip: IpAddr = text.trim().parse().map_err(|_| format!("{text:?} is not an IP address"))?;
        if let Some(other) = addresses.iter().find(|other| Family::of(**other) == Family::of(ip)) {
            return Err(format!("{other} and {ip} are of one address family: at most one of each"));
        }
        addresses.push(ip);
    }
    Ok(addresses)
}

fn families(names: &[String]) -> Result<Vec<Family>, String> {
    let mut families = Vec::new();
    for name in names {
        let family = Family::parse(name);
        let family = family.ok_or_else(|| format!("ipFamilies has {name:?}: it must be IPv4 or IPv6"))?;
        if !families.contains(&family) {
            families.push(family);
        }
    }
    if families.is_empty() {
        families.push(Family::V4);
    }
    Ok(families)
}
