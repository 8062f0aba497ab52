//! The explanation of an allocation: the reasons for which a Service has its addresses or none, pool by pool.
//! It uses the functions that also decide.

use std::fmt;
use std::net::IpAddr;

use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::text::{message, quoted};

use crate::ipam::{Families, Ipam};
use crate::reconcile::allocations::Allocations;
use crate::reconcile::pool_evaluation::{PoolEvaluation, PoolFit, Unfit, describe};
use crate::reconcile::service_decision::reserved_by_claims;
use crate::reconcile::service_request::{ServiceRequest, needed_families};
use crate::reconcile::status::summary;
use crate::reconcile::{AllocationOutcome, AllocationReason, Index};

/// The explanation for one Service. Its `Display` form is for tests and logs; `fairlead
/// explain service` shows the same parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The Service.
    pub service: ObjectKey,
    /// Reason and message of the condition `fairlead.dev/Allocated`.
    pub outcome: String,
    /// The addresses that the Service needs and requests.
    pub needs: String,
    /// Every pool, in allocation order.
    pub pools: Vec<PoolPart>,
    /// The claims for the Service, each with its state.
    pub claims: Vec<(ObjectKey, String)>,
}

/// A pool in an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PoolPart {
    pub pool: String,
    pub part: Part,
}

/// The part of a pool in the allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The Service holds these addresses of the pool.
    Used(Vec<IpAddr>),
    /// The pool could allocate these addresses if the Service held none, but another pool comes first.
    Fits {
        /// The addresses.
        offer: Vec<IpAddr>,
        /// The reason why another pool comes first, if it offers fewer addresses.
        but: Option<String>,
    },
    /// The pool could allocate nothing.
    Unfit {
        /// The reasons.
        because: Vec<String>,
        /// The conditions under which the pool would fit, all of them.
        unless: Vec<String>,
    },
}

impl Explanation {
    /// Explains the last decision on a Service. Returns `None` for a Service that the index does not contain.
    pub fn new(index: &Index, key: &ObjectKey) -> Option<Self> {
        let state = index.allocations();
        let record = state.services().get(key)?;
        let balancer = record.balancer();
        // Evaluate the pools as if the Service held no address.
        let mut ipam = state.ipam().clone();
        ipam.release_without_cooldown(key);
        let families = needed_families(balancer);
        let request = ServiceRequest::parse(balancer);
        let names = ipam.pools_in_order().chain(ipam.refused_pools()).cloned().collect::<Vec<_>>();
        let allocation_request = state.namespaces().allocation_request(balancer);
        let evaluation = match (&families, &request) {
            (Ok(families), Ok(request)) => Ok(PoolEvaluation {
                ipam: &ipam,
                allocation_request: &allocation_request,
                request,
                families: *families,
                pending: pending_claim(state, &ipam, key, request, *families),
            }),
            (Err((_, why)), _) => Err(Part::Unfit { because: vec![why.clone()], unless: Vec::new() }),
            (_, Err(why)) => Err(Part::Unfit {
                because: vec![why.clone()],
                unless: vec!["the request of the Service were valid".to_owned()],
            }),
        };
        let part = |name: &str| {
            let held = state.ipam().holding(key).into_iter().flat_map(|holding| &holding.held);
            let used: Vec<IpAddr> = held.filter(|held| &*held.pool == name).map(|held| held.ip).collect();
            match (&evaluation, record.outcome()) {
                _ if !used.is_empty() => Part::Used(used),
                (Err(unfit), _) => unfit.clone(),
                (Ok(evaluation), outcome) => match (evaluation.evaluate(name), outcome) {
                    // The pool has the addresses, but the Service was refused for another reason.
                    (PoolFit::Fits { .. }, AllocationOutcome::Refused { message, .. }) => {
                        Part::Unfit { because: vec![message.clone()], unless: Vec::new() }
                    }
                    (PoolFit::Fits { offer, but }, _) => Part::Fits { offer, but },
                    (PoolFit::Unfit(Unfit { because, unless }), _) => Part::Unfit { because, unless },
                },
            }
        };
        let pools = names.iter().map(|name| PoolPart { pool: name.to_string(), part: part(name) }).collect();
        let claims = state.claims().of_service(key);
        let claims = claims.map(|claim| (claim.clone(), describe_claim(state, claim))).collect();
        let needs = describe_needs(balancer, &families, &request);
        Some(Self { service: key.clone(), outcome: summary(record.outcome()), needs, pools, claims })
    }

    /// Returns one or two lines for each pool. Each text in them is escaped and cut.
    pub fn pool_lines(&self) -> Vec<String> {
        let width = self.pools.iter().map(|part| part.pool.len()).max().unwrap_or_default();
        let mut lines = Vec::new();
        for PoolPart { pool, part } in &self.pools {
            match part {
                Part::Used(used) => lines.push(format!("{pool:width$}  USED  {}", list(used))),
                Part::Fits { offer, but } => {
                    let but = but.as_ref().map(|but| format!(", but {but}")).unwrap_or_default();
                    let text = format!("would allocate {}{but}", list(offer));
                    lines.push(format!("{pool:width$}  fits  {}", message(text)));
                }
                Part::Unfit { because, unless } => {
                    lines.push(format!("{pool:width$}  no    {}", message(because.join("; "))));
                    if !unless.is_empty() {
                        let text = format!("would fit if {}", unless.join(" and "));
                        lines.push(format!("{:width$}        {}", "", message(text)));
                    }
                }
            }
        }
        lines
    }
}

/// Each text is escaped and cut, because it can quote what users write into objects.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Service {}: {}", self.service, message(&*self.outcome))?;
        writeln!(f, "needs {}", message(&*self.needs))?;
        for (claim, state) in &self.claims {
            writeln!(f, "IPClaim {claim} {}", message(&**state))?;
        }
        if self.pools.is_empty() {
            return writeln!(f, "no IPAddressPool exists");
        }
        writeln!(f, "IPAddressPools, in the order in which they are tried:")?;
        self.pool_lines().iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

/// Returns the claim that a Service waits for. Requested addresses and addresses that another claim has
/// reserved are allocated without waiting.
fn pending_claim(
    state: &Allocations,
    ipam: &Ipam,
    key: &ObjectKey,
    request: &ServiceRequest,
    families: Families,
) -> Option<ObjectKey> {
    let waits = request.addresses.is_empty() && reserved_by_claims(ipam, key, request, families).is_empty();
    if !waits {
        return None;
    }
    state.pending_claims(key).into_iter().next().map(|pending| pending.claim)
}

fn describe_needs(
    balancer: &LoadBalancer,
    families: &Result<Families, (AllocationReason, String)>,
    request: &Result<ServiceRequest, String>,
) -> String {
    let mut needs = match families {
        Ok(Families::Both { first, required: false }) => {
            format!("an {first} and an {} address, or one of them", first.other())
        }
        Ok(families) => describe(*families),
        Err((_, why)) => why.clone(),
    };
    if let Ok(ServiceRequest { pool, addresses }) = request {
        if !addresses.is_empty() {
            needs += &format!("; requests {}", list(addresses));
        }
        if let Some(pool) = pool {
            needs += &format!("; requests IPAddressPool {pool}");
        }
    }
    if let Some(sharing_key) = &balancer.sharing_key {
        needs += &format!("; may share an address with Services of sharing key {}", quoted(sharing_key));
    }
    needs
}

/// Describes the state of a claim, in a sentence whose subject is the claim.
fn describe_claim(state: &Allocations, claim: &ObjectKey) -> String {
    let refusal = state.claims().get(claim).map(|record| record.refusal());
    match (state.ipam().claimed(claim), refusal) {
        (Some(_), Some(Some((_, why)))) => format!("has not reserved all of its addresses: {why}"),
        (Some(claimed), _) => {
            format!("has reserved {} from IPAddressPool {}", list(&claimed.addresses), claimed.pool)
        }
        (None, Some(refusal)) => {
            let why = refusal.map_or("not reconciled yet", |(_, why)| why);
            format!("has reserved no address: {why}")
        }
        (None, None) => String::new(),
    }
}

fn list<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    addresses.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
