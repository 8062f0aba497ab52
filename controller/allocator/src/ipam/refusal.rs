//! The reason why a Service or claim gets no address, as a value and as a message.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::model::config::Closed;
use fairlead_crds::model::family::Family;
use fairlead_crds::model::service::ObjectKey;
use jiff::Timestamp;

use super::request::Families;
use super::sharing::SharingConflict;

/// The reason why a Service or claim does not get an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocationRefusal {
    /// No pool exists, not even a refused one.
    NoPool,
    /// Every pool is restricted for a Service that names none. Each pool with its restriction, a predicate;
    /// empty if there are too many to name.
    NoPoolMatches(Vec<(Arc<str>, String)>),
    /// The named pool does not exist.
    NoSuchPool(String),
    /// The named pool is refused.
    PoolRefused(Arc<str>),
    /// The pool allocates nothing.
    PoolClosed(Arc<str>, Closed),
    /// The pool does not admit the Service. The pool with its restriction, a predicate.
    NotAdmitted(Arc<str>, String),
    /// The pools that are open to the Service lack a family that it needs. They are not named if there are
    /// too many.
    FamilyMismatch(Vec<Arc<str>>, Families),
    /// The pools that are open to the Service are full.
    Exhausted {
        /// The pools that have addresses of a family in `families`; empty if there are too many to name. Both
        /// depend on the configuration only, so that the message does not change with every allocation.
        pools: Vec<Arc<str>>,
        /// The families that the Service needs.
        families: Families,
        /// Full pools. The Service waits until one has a free address of the family.
        full: Vec<(Arc<str>, Family)>,
        /// The families of which no pool that is open to all Services has an address, in addition to `full`.
        open_full: Vec<Family>,
    },
    /// No pool in force contains this address.
    NotInPool(IpAddr),
    /// The addresses are of several pools.
    SeveralPools(Vec<IpAddr>),
    /// The address has a holder that does not share it with the Service.
    InUse {
        #[allow(missing_docs)]
        address: IpAddr,
        /// The Service that holds the address, or whose status still shows it.
        holder: Arc<ObjectKey>,
        /// The reason why the Services cannot share it.
        conflict: SharingConflict,
    },
    /// The address is that of a Node.
    #[allow(missing_docs)]
    NodeAddress { address: IpAddr, node: Arc<str> },
    /// The address has no holder, but is reserved for another Service.
    Reserved {
        #[allow(missing_docs)]
        address: IpAddr,
        #[allow(missing_docs)]
        by: ReservedFor,
    },
}

/// The Service that an address is reserved for, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservedFor {
    /// A claim has reserved it.
    Claim {
        #[allow(missing_docs)]
        claim: ObjectKey,
        /// The Service of the claim.
        service: ObjectKey,
    },
    /// The address is in cool-down.
    LastHolder {
        /// The Service that released it.
        service: ObjectKey,
        /// End of the cool-down.
        until: Timestamp,
    },
}

/// The maximum number of pools listed in one message.
pub(super) const MAX_LISTED: usize = 5;

impl fmt::Display for AllocationRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPool => write!(f, "there is no IPAddressPool"),
            Self::NoPoolMatches(closed) if closed.is_empty() => write!(
                f,
                "no IPAddressPool is open to this Service: \"fairlead explain service\" shows the reason for \
                 each"
            ),
            Self::NoPoolMatches(closed) => {
                write!(f, "no IPAddressPool is open to this Service")?;
                for (i, (pool, why)) in closed.iter().take(MAX_LISTED).enumerate() {
                    write!(f, "{} {pool} {why}", if i == 0 { ":" } else { ";" })?;
                }
                Ok(())
            }
            Self::NoSuchPool(pool) => write!(f, "IPAddressPool {pool} does not exist"),
            Self::PoolRefused(pool) => {
                write!(f, "IPAddressPool {pool} is refused: see its condition Accepted")
            }
            Self::PoolClosed(pool, Closed::Disabled) => write!(f, "IPAddressPool {pool} is disabled"),
            Self::PoolClosed(pool, Closed::Deleting) => write!(f, "IPAddressPool {pool} is being deleted"),
            Self::NotAdmitted(pool, open_to) => write!(f, "IPAddressPool {pool} {open_to}"),
            Self::FamilyMismatch(pools, families) => {
                let required = match families {
                    Families::One(family) => format!("an {family} address is"),
                    Families::Both { required: true, .. } => "an IPv4 and an IPv6 address are".to_owned(),
                    Families::Both { required: false, .. } => "an IPv4 or an IPv6 address is".to_owned(),
                };
                write!(f, "{required} required, but not available in {}", list_pools(pools))
            }
            Self::Exhausted { pools, families, .. } => {
                let families = match families {
                    Families::One(family) => family.to_string(),
                    Families::Both { required: true, .. } => "IPv4 and IPv6".to_owned(),
                    Families::Both { required: false, .. } => "IPv4 or IPv6".to_owned(),
                };
                write!(f, "no free {families} address in {}", list_pools(pools))
            }
            Self::NotInPool(ip) => write!(f, "{ip} is in no IPAddressPool, or avoidBuggyIPs excludes it"),
            Self::SeveralPools(ips) => {
                let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "{} are in different IPAddressPools, which only ipFamilyPolicy RequireDualStack allows",
                    ips.join(" and ")
                )
            }
            Self::InUse { address, holder, conflict } => {
                write!(f, "{address} is {}", conflict.explain(holder))
            }
            Self::NodeAddress { address, node } => {
                write!(f, "{address} is an address of Node {node}, which no Service can use")
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
                write!(f, "in cool-down until {until} for Service {service}, which released it")
            }
        }
    }
}

/// Returns the names of pools for a message. Without pools, describes those that the Service may use.
pub(crate) fn list_pools(pools: &[Arc<str>]) -> String {
    let names: Vec<&str> = pools.iter().take(MAX_LISTED).map(|pool| &**pool).collect();
    match names[..] {
        [] => "any IPAddressPool that is open to this Service".to_owned(),
        [name] => format!("IPAddressPool {name}"),
        _ => format!("IPAddressPools {}", names.join(", ")),
    }
}
