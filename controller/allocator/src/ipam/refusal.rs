//! Why a Service gets no address, in words for the operator.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Closed;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::request::Families;
use super::sharing::SharingConflict;

/// Why an address, or any address, was not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocationRefusal {
    /// There is no pool at all, not even a refused one.
    NoPool,
    /// No pool may be used for this Service without being named: why not each of them.
    NoPoolMatches(Vec<(Arc<str>, String)>),
    /// The pool that was named does not exist.
    NoSuchPool(String),
    /// The pool that was named is refused.
    PoolRefused(Arc<str>),
    /// The pool gives nothing more.
    PoolClosed(Arc<str>, Closed),
    /// The pool is not open to this Service; whom it is open to.
    NotAdmitted(Arc<str>, String),
    /// The pools that may be used have no addresses of a family that is needed.
    FamilyMismatch(Vec<Arc<str>>, Families),
    /// The pools that may be used are full.
    Exhausted {
        /// The pools that have what is needed. Like `families`, this follows from the configuration alone, so that the
        /// message does not change with every address that others take or free.
        pools: Vec<Arc<str>>,
        /// What is needed.
        families: Families,
        /// What is full now: one of these must become free.
        full: Vec<(Arc<str>, Family)>,
    },
    /// No pool has this address.
    NotInPool(IpAddr),
    /// The addresses are not all in one pool.
    SeveralPools(Vec<IpAddr>),
    /// The address is in use and cannot be shared.
    InUse {
        /// The address.
        address: IpAddr,
        /// The Service in the way.
        holder: Arc<ObjectKey>,
        /// Why they cannot share it.
        conflict: SharingConflict,
    },
    /// The address is free, but kept for another Service.
    Reserved {
        /// The address.
        address: IpAddr,
        /// For whom, and why.
        by: ReservedFor,
    },
}

/// For whom an address is kept, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservedFor {
    /// The Service of a claim.
    Claim {
        /// The claim.
        claim: ObjectKey,
        /// Its Service.
        service: ObjectKey,
    },
    /// The Service that had it last.
    LastHolder {
        /// That Service.
        service: ObjectKey,
        /// Until then.
        until: Timestamp,
    },
}

/// At most this many pools are named in one message.
const MAX_NAMED: usize = 5;

impl fmt::Display for AllocationRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool => write!(f, "there is no IPAddressPool"),
            Self::NoPoolMatches(closed) => {
                write!(f, "no IPAddressPool is open to this Service")?;
                for (i, (pool, why)) in closed.iter().take(MAX_NAMED).enumerate() {
                    write!(f, "{} {pool} {why}", if i == 0 { ":" } else { ";" })?;
                }
                match closed.len().saturating_sub(MAX_NAMED) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
            Self::NoSuchPool(pool) => write!(f, "IPAddressPool {pool} does not exist"),
            Self::PoolRefused(pool) => {
                write!(f, "IPAddressPool {pool} is refused: see its condition Accepted")
            }
            Self::PoolClosed(pool, Closed::Disabled) => write!(f, "IPAddressPool {pool} is disabled"),
            Self::PoolClosed(pool, Closed::Deleting) => write!(f, "IPAddressPool {pool} is being deleted"),
            Self::NotAdmitted(pool, open_to) => write!(f, "IPAddressPool {pool} {open_to}"),
            Self::FamilyMismatch(pools, families) => {
                write!(f, "{families} needed, but not in {}", list_pools(pools))
            }
            Self::Exhausted { pools, families, .. } => {
                let what = match families {
                    Families::One(family) => family.to_string(),
                    Families::Both { required: true, .. } => "IPv4 and IPv6".to_owned(),
                    Families::Both { required: false, .. } => "IPv4 or IPv6".to_owned(),
                };
                write!(f, "no free {what} address in {}", list_pools(pools))
            }
            Self::NotInPool(ip) => write!(f, "{ip} is in no IPAddressPool, or not usable there"),
            Self::SeveralPools(ips) => {
                let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "{} are not in one IPAddressPool, which only ipFamilyPolicy RequireDualStack allows",
                    ips.join(" and ")
                )
            }
            Self::InUse { address, holder, conflict } => {
                write!(f, "{address} is {}", conflict.explain(holder))
            }
            Self::Reserved { address, by } => write!(f, "{address} is {by}"),
        }
    }
}

impl fmt::Display for ReservedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { claim, service } => {
                write!(f, "reserved for Service {service} by IPClaim {claim}")
            }
            Self::LastHolder { service, until } => {
                write!(f, "kept until {until} for Service {service}, which released it")
            }
        }
    }
}

/// Names pools, not too many.
pub(crate) fn list_pools(pools: &[Arc<str>]) -> String {
    let first: Vec<&str> = pools.iter().take(MAX_NAMED).map(|pool| &**pool).collect();
    let kind = if pools.len() == 1 { "IPAddressPool" } else { "IPAddressPools" };
    let rest = pools.len().saturating_sub(MAX_NAMED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{kind} {}{more}", first.join(", "))
}
