//! The checks whether a Service may join the holders of an address.

use std::net::IpAddr;
use std::sync::Arc;

use super::Ipam;
use super::pool_state::PoolState;
use super::refusal::AllocationRefusal;
use super::request::AllocationRequest;
use super::sharing::{SharingConflict, SharingGroup};

impl Ipam {
    /// Checks that the Service may take an address of the pool that contains it, given its holders and
    /// reservations.
    ///
    /// # Errors
    /// If a holder or reservation obstructs it, or no pool contains the address.
    pub fn check_taking(&self, request: &AllocationRequest<'_>, ip: IpAddr) -> Result<(), AllocationRefusal> {
        let pool = self.pools.containing(ip).ok_or(AllocationRefusal::NotInPool(ip))?;
        self.check_joining(request, pool, ip)
    }

    /// Checks that the Service may newly hold `ip` of `pool` together with its holders.
    pub(super) fn check_joining(
        &self,
        request: &AllocationRequest<'_>,
        pool: &Arc<str>,
        ip: IpAddr,
    ) -> Result<(), AllocationRefusal> {
        self.check_node_address(ip, request.service)?;
        self.check_holders(request, pool, ip)?;
        let holders = self.holders(ip);
        let one_namespace = self.pools.state(pool).is_some_and(PoolState::shares_within_namespace);
        if !one_namespace || holders.iter().any(|holder| **holder == *request.service) {
            return Ok(());
        }
        match holders.iter().find(|holder| holder.namespace != request.service.namespace) {
            Some(holder) => Err(AllocationRefusal::InUse {
                address: ip,
                holder: holder.clone(),
                conflict: SharingConflict::OtherNamespace(pool.clone()),
            }),
            None => Ok(()),
        }
    }

    /// Like [`Ipam::check_joining`], without the pool's limit to one namespace, which applies to new holders
    /// only.
    pub(super) fn check_holders(
        &self,
        request: &AllocationRequest<'_>,
        pool: &Arc<str>,
        ip: IpAddr,
    ) -> Result<(), AllocationRefusal> {
        let Some(occupied) = self.ledger.occupied(ip) else {
            return self.check_reservation(ip, request.service);
        };
        if !occupied.is_held_by(request.service) {
            self.check_reservation(ip, request.service)?;
        }
        for holder in occupied.holders().iter().filter(|holder| ***holder != *request.service) {
            let Some(entry) = self.ledger.entry(holder) else { continue };
            // No further Service can join an address that is retained of another pool.
            let joined = if occupied.pool() == pool {
                request.sharing.join(&entry.sharing)
            } else {
                Err(SharingConflict::HolderDoesNotShare)
            };
            joined.map_err(|conflict| AllocationRefusal::InUse {
                address: ip,
                holder: holder.clone(),
                conflict,
            })?;
        }
        Ok(())
    }

    /// Returns the group within which a Service shares in a pool; None if it does not share.
    pub fn group_in(&self, pool: &str, request: &AllocationRequest<'_>) -> Option<Arc<SharingGroup>> {
        Some(self.pools.state(pool)?.group(request.sharing.group()?, request.service))
    }
}
