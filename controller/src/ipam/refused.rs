//! What is held of pools that are refused: their holders keep it, nobody gets more.
//!
//! Which ranges such a pool had is known no longer. All that says that an address is of it is the Service, in its
//! annotation; so that is believed when a Service is seen for the first time.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::service::ObjectKey;

use super::{Counts, Demand, Family, Holding, Ipam, Refusal};

impl Ipam {
    /// Whether a pool of this name exists but is refused.
    pub fn is_refused(&self, pool: &str) -> bool {
        self.refused.contains_key(pool)
    }

    /// Names of the refused pools.
    pub fn refused_pools(&self) -> impl Iterator<Item = &Arc<str>> {
        self.refused.keys()
    }

    /// Gives a Service that holds nothing the addresses that its status has. If `pool`, which the Service says they are
    /// of, is refused now, they are kept of it; else this is [`Ipam::assign`].
    ///
    /// # Errors
    /// When it may not hold them. Nothing has changed then.
    pub fn adopt(
        &mut self,
        demand: &Demand<'_>,
        pool: Option<&str>,
        addresses: &[IpAddr],
    ) -> Result<&Holding, Refusal> {
        let refused = pool.and_then(|pool| self.refused.get_key_value(pool)).map(|(name, _)| name.clone());
        match refused {
            Some(pool) => self.keep_of_refused(demand, &pool, addresses),
            None => self.assign(demand, addresses),
        }
    }

    /// The refused pool that a Service holds all of `addresses` of.
    pub(super) fn keeps_of_refused(&self, service: &ObjectKey, addresses: &[IpAddr]) -> Option<Arc<str>> {
        let Holding { pool, addresses: held } = self.holding(service)?;
        (self.is_refused(pool) && addresses.iter().all(|ip| held.contains(ip))).then(|| pool.clone())
    }

    pub(super) fn keep_of_refused(
        &mut self,
        demand: &Demand<'_>,
        pool: &Arc<str>,
        addresses: &[IpAddr],
    ) -> Result<&Holding, Refusal> {
        for &ip in addresses {
            self.joinable(demand, pool, ip)?;
        }
        Ok(self.hold(demand, Holding { pool: pool.clone(), addresses: addresses.to_vec() }))
    }

    /// Why there is no pool of this name to allocate from.
    pub fn why_no_pool(&self, pool: &str) -> Refusal {
        match self.refused.get_key_value(pool) {
            Some((name, _)) => Refusal::PoolRefused(name.clone()),
            None => Refusal::NoSuchPool(pool.to_owned()),
        }
    }

    pub(super) fn why_no_pool_matches(&self) -> Refusal {
        Refusal::NoPoolMatches { none_exist: self.pools.is_empty() && self.refused.is_empty() }
    }

    pub(super) fn counts_of_refused(&self, pool: &str, family: Family) -> Counts {
        let held = self.held_of_refused(pool).filter(|ip| Family::of(*ip) == family);
        let assigned = held.collect::<BTreeSet<IpAddr>>().len() as u128;
        Counts { total: assigned, assigned }
    }

    /// Addresses held of a refused pool; a shared one several times.
    pub(super) fn held_of_refused(&self, pool: &str) -> impl Iterator<Item = IpAddr> {
        let holders = self.refused.get(pool).into_iter().flatten();
        holders.filter_map(|service| self.holding(service)).flat_map(|held| held.addresses.iter().copied())
    }
}
