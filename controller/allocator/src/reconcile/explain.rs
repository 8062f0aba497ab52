//! Why a Service got what it got: each pool's part in it, by the same functions that decide.

use std::fmt;
use std::net::IpAddr;

use fairlead_crds::model::service::ObjectKey;

use super::pool_evaluation::{Judge, needed};
use super::service_decision::claimed;
use super::service_request::{families, request};
use super::status::summary;
use super::{AllocationOutcome, Index, allocation_request};
use crate::ipam::Families;

/// Why a Service has its addresses, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The Service.
    pub service: ObjectKey,
    /// What came out: the reason and the message of its condition.
    pub outcome: String,
    /// What it needs and asks for.
    pub wants: String,
    /// Every pool, in the order in which they are tried.
    pub pools: Vec<PoolPart>,
    /// The claims for it, and what they say.
    pub claims: Vec<(ObjectKey, String)>,
}

/// The part of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPart {
    /// The pool.
    pub pool: String,
    /// What it is to the Service.
    pub part: Part,
}

/// What a pool is to a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The Service holds these addresses of it.
    Used(Vec<IpAddr>),
    /// It would give these, did the Service hold nothing; but another comes first.
    Fits {
        /// The addresses.
        offer: Vec<IpAddr>,
        /// Why another comes first that has less.
        but: Option<String>,
    },
    /// It would give nothing.
    Unfit {
        /// Why.
        because: Vec<String>,
        /// What would all have to be different.
        unless: Vec<String>,
    },
}

impl Index {
    /// Explains what came out for a Service; `None` for one that is unknown or none of ours.
    pub fn explain(&self, key: &ObjectKey) -> Option<Explanation> {
        let record = self.services.get(key)?;
        let balancer = &record.observed.balancer;
        // As if the Service held nothing: what would each pool give it?
        let mut ipam = self.ipam.clone();
        ipam.release_without_cooldown(key);
        let allocation_request = allocation_request(&self.namespaces, balancer);
        let families = families(balancer);
        let request = request(balancer);
        let mut wants = match &families {
            Ok(Families::Both { first, required: false }) => {
                format!("an {first} and an {} address, or one of them", first.other())
            }
            Ok(families) => needed(*families),
            Err((_, why)) => why.clone(),
        };
        let asked = request.iter().flat_map(|request| &request.addresses);
        let asked: Vec<String> = asked.map(ToString::to_string).collect();
        if !asked.is_empty() {
            wants += &format!("; asks for {}", asked.join(" and "));
        }
        if let Some(pool) = request.as_ref().ok().and_then(|request| request.pool.as_ref()) {
            wants += &format!("; asks for IPAddressPool {pool}");
        }
        if let Some(sharing) = &balancer.sharing_key {
            wants += &format!("; shares with Services of key {sharing:?}");
        }
        let judge = match (&families, &request) {
            (Ok(families), Ok(request)) => {
                // What is asked for, and what a claim has, does not wait for another claim.
                let waits =
                    request.addresses.is_empty() && claimed(&ipam, key, request, *families).is_empty();
                let pending =
                    self.pending_claims(key).into_iter().find(|_| waits).map(|pending| pending.claim);
                Ok(Judge {
                    ipam: &ipam,
                    allocation_request: &allocation_request,
                    request,
                    families: *families,
                    pending,
                })
            }
            (Err((_, why)), _) => Err(Part::Unfit { because: vec![why.clone()], unless: Vec::new() }),
            (_, Err(why)) => Err(Part::Unfit {
                because: vec![why.clone()],
                unless: vec!["what the Service asks for could be understood".to_owned()],
            }),
        };
        let names = ipam.pools_in_order().chain(ipam.refused_pools()).cloned().collect::<Vec<_>>();
        let pools = names
            .into_iter()
            .map(|name| {
                let held = self.ipam.holding(key).into_iter().flat_map(|holding| &holding.held);
                let used: Vec<IpAddr> = held.filter(|held| held.pool == name).map(|held| held.ip).collect();
                let part = match (&judge, &record.outcome) {
                    _ if !used.is_empty() => Part::Used(used),
                    (Err(unfit), _) => unfit.clone(),
                    (Ok(judge), outcome) => match (judge.part(&name), outcome) {
                        // It has what is needed, but something else is in the way.
                        (Part::Fits { .. }, AllocationOutcome::Refused { message, .. }) => {
                            Part::Unfit { because: vec![message.clone()], unless: Vec::new() }
                        }
                        (part, _) => part,
                    },
                };
                PoolPart { pool: name.to_string(), part }
            })
            .collect();
        let claims = self.claims_of.get(key).into_iter().flatten();
        let claims = claims.map(|(_, claim)| (claim.clone(), self.say_claim(claim))).collect();
        let outcome = summary(&record.outcome);
        Some(Explanation { service: key.clone(), outcome, wants, pools, claims })
    }

    fn say_claim(&self, claim: &ObjectKey) -> String {
        let record = self.claims.get(claim);
        match (self.ipam.claimed(claim), record) {
            (Some(_), Some(record)) if let Some((_, why)) = record.refused() => {
                format!("has not all reserved: {why}")
            }
            (Some(claimed), _) => {
                let ips: Vec<String> = claimed.addresses.iter().map(ToString::to_string).collect();
                format!("has reserved {} of IPAddressPool {}", ips.join(" and "), claimed.pool)
            }
            (None, Some(record)) => {
                let why = record.refused().map_or("it was not looked at yet", |(_, why)| why);
                format!("has nothing reserved: {why}")
            }
            (None, None) => String::new(),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Service {}: {}", self.service, self.outcome)?;
        writeln!(f, "needs {}", self.wants)?;
        for (claim, says) in &self.claims {
            writeln!(f, "IPClaim {claim} {says}")?;
        }
        if self.pools.is_empty() {
            return writeln!(f, "there is no IPAddressPool");
        }
        writeln!(f, "IPAddressPools, in the order in which they are tried:")?;
        let width = self.pools.iter().map(|part| part.pool.len()).max().unwrap_or_default();
        let ips = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        for PoolPart { pool, part } in &self.pools {
            match part {
                Part::Used(used) => writeln!(f, "  {pool:width$}  USED  {}", ips(used))?,
                Part::Fits { offer, but } => {
                    let but = but.as_ref().map(|but| format!(", but {but}")).unwrap_or_default();
                    writeln!(f, "  {pool:width$}  fits  would give {}{but}", ips(offer))?;
                }
                Part::Unfit { because, unless } => {
                    writeln!(f, "  {pool:width$}  no    {}", because.join("; "))?;
                    if !unless.is_empty() {
                        writeln!(f, "  {:width$}        would fit if {}", "", unless.join(" and "))?;
                    }
                }
            }
        }
        Ok(())
    }
}
