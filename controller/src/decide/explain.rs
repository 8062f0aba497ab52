//! Why a Service got what it got: each pool's part in it, by the same functions that decide.

use std::fmt;
use std::net::IpAddr;

use fairlead_crds::service::ObjectKey;

use super::converge::claimed;
use super::request::{Request, families, request};
use super::status::summary;
use super::{Index, demand};
use crate::ipam::{Demand, Families, Family, Ipam};

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
    Fits(Vec<IpAddr>),
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
        ipam.give_way(key);
        let demand = demand(&self.namespaces, balancer);
        let families = families(balancer);
        let request = request(balancer).unwrap_or_default();
        let mut wants = match &families {
            Ok(Families::One(family)) => format!("an {family} address"),
            Ok(Families::Both { required: true, .. }) => "an IPv4 and an IPv6 address".to_owned(),
            Ok(Families::Both { first, .. }) => {
                format!("an {first} and an {} address, or one of them", first.other())
            }
            Err((_, why)) => why.clone(),
        };
        let asked: Vec<String> = request.addresses.iter().map(ToString::to_string).collect();
        if !asked.is_empty() {
            wants += &format!("; asks for {}", asked.join(" and "));
        }
        if let Some(pool) = &request.pool {
            wants += &format!("; asks for IPAddressPool {pool}");
        }
        if let Some(sharing) = &balancer.sharing_key {
            wants += &format!("; shares with Services of key {sharing:?}");
        }
        let names = ipam.pools_in_order().chain(ipam.refused_pools()).cloned().collect::<Vec<_>>();
        let pools = names
            .into_iter()
            .map(|name| {
                let held = self.ipam.holding(key).into_iter().flat_map(|holding| &holding.held);
                let used: Vec<IpAddr> = held.filter(|held| held.pool == name).map(|held| held.ip).collect();
                let part = match &families {
                    _ if !used.is_empty() => Part::Used(used),
                    Ok(families) => {
                        let (needs, of) = needs(&ipam, key, &request, *families);
                        judge(&ipam, &demand, &name, needs, &request, of == Some(&*name))
                    }
                    Err((_, why)) => Part::Unfit { because: vec![why.clone()], unless: Vec::new() },
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

/// What a pool has to give: not the family of an address that a claim has reserved, where the other may be another pool's.
/// And the pool of that address, which gives the other as if it were named.
fn needs<'a>(
    ipam: &'a Ipam,
    service: &ObjectKey,
    request: &Request,
    families: Families,
) -> (Families, Option<&'a str>) {
    let required = matches!(families, Families::Both { required: true, .. });
    match claimed(ipam, service, request, families)[..] {
        [ip] if required && request.addresses.is_empty() => {
            (Families::One(Family::of(ip).other()), ipam.pool_name_of(ip))
        }
        _ => (families, None),
    }
}

/// What one pool would do for a Service that holds nothing.
fn judge(
    ipam: &Ipam,
    demand: &Demand<'_>,
    pool: &str,
    families: Families,
    request: &Request,
    has_one_of_it: bool,
) -> Part {
    let named = request.pool.as_deref();
    let is_named = named == Some(pool);
    let (mut because, mut unless) = (Vec::new(), Vec::new());
    if let Some(named) = named.filter(|_| !is_named) {
        because.push(format!("is not the one that the Service asks for, {named}"));
        unless.push("the Service asked for it".to_owned());
    }
    let exact = !request.addresses.is_empty();
    for ip in request.addresses.iter().copied() {
        if ipam.pool_name_of(ip) != Some(pool) {
            because.push(format!("does not have {ip}, which the Service asks for"));
            unless.push(format!("it had {ip}"));
        } else if let Err(why) = ipam.check_taking(demand, ip) {
            because.push(why.to_string());
            unless.push(format!("{ip} were free"));
        }
    }
    // Whoever asks for an address names its pool by that.
    let obstacles = ipam.obstacles(pool, demand, families, is_named || exact || has_one_of_it);
    for obstacle in obstacles.iter().filter(|obstacle| !exact || !obstacle.is_about_free_addresses()) {
        because.push(
            ipam.pool(pool)
                .map_or("is refused: see its condition Accepted".to_owned(), |pool| obstacle.explain(pool)),
        );
        unless.push(obstacle.counterfactual(demand));
    }
    if because.is_empty() {
        Part::Fits(ipam.offer(pool, demand, families))
    } else {
        Part::Unfit { because, unless }
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
                Part::Fits(offer) => writeln!(f, "  {pool:width$}  fits  would give {}", ips(offer))?,
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
