//! The addresses that the status of a Service displays, and their adoption.

use std::net::IpAddr;
use std::sync::Arc;

use fairlead_crds::conditions::ConditionStatus;
use fairlead_crds::model::service::pool_of_nth;

use super::observed::ObservedService;
use super::outcome::AllocationReason;
use crate::ipam::{AllocationRefusal, AllocationRequest, Ipam};

/// An address, and its pool if that is known.
pub(super) type PooledAddress = (IpAddr, Option<Arc<str>>);

/// The displayed addresses with their pools, in two readings.
#[derive(Debug)]
pub(super) struct DisplayedAddresses {
    /// Each address with the pool in force that contains it, else with the pool that the annotation names.
    /// `None` if the condition states that the addresses are retained: then only the annotation names their
    /// pools.
    pub(super) by_range: Option<Vec<PooledAddress>>,
    /// Each address with the pool that the annotation names.
    pub(super) by_annotation: Vec<PooledAddress>,
}

impl DisplayedAddresses {
    /// Reads the status of a Service. `by_range` has precedence, because every user who may edit the Service
    /// may edit the annotation, and an edit must not move an address to another pool.
    pub(super) fn read(ipam: &Ipam, observed: &ObservedService) -> Self {
        let ObservedService { balancer, conditions, .. } = observed;
        let named = |n| balancer.allocated_from.as_deref().map(|names| Arc::from(pool_of_nth(names, n)));
        let by_annotation: Vec<PooledAddress> =
            balancer.ingress.iter().enumerate().map(|(n, ip)| (*ip, named(n))).collect();
        let retained = conditions.allocated.is_some_and(|condition| condition.reason.is_retention());
        let by_range = (!retained).then(|| {
            let pooled = |(ip, named): &PooledAddress| {
                let is_refused = named.as_deref().is_some_and(|name| ipam.is_refused(name));
                let containing = ipam.pool_name_of(*ip).filter(|_| !is_refused).map(Arc::from);
                (*ip, containing.or_else(|| named.clone()))
            };
            by_annotation.iter().map(pooled).collect()
        });
        Self { by_range, by_annotation }
    }
}

/// Gives a Service the addresses in its status.
///
/// # Errors
/// If the Service may not keep them.
pub(super) fn keep_displayed(
    ipam: &mut Ipam,
    request: &AllocationRequest<'_>,
    observed: &ObservedService,
) -> Result<(), AllocationRefusal> {
    let DisplayedAddresses { by_range, by_annotation } = DisplayedAddresses::read(ipam, observed);
    // Addresses that this controller has allocated stay if their pool disappeared with all others.
    let allocated =
        observed.conditions.allocated.filter(|condition| condition.status == ConditionStatus::True);
    if let Some(allocated) = allocated.filter(|_| observed.pool_annotation.is_some()) {
        for pool in by_annotation.iter().filter_map(|(_, pool)| pool.as_ref()) {
            ipam.adopt_orphans_of(pool, allocated.reason == AllocationReason::PoolGone);
        }
    }
    let mut keep = |displayed: &[PooledAddress]| {
        let displayed: Vec<_> = displayed.iter().map(|(ip, pool)| (*ip, pool.as_deref())).collect();
        ipam.keep(request, &displayed).map(drop)
    };
    if by_range.is_some_and(|displayed| displayed != by_annotation && keep(&displayed).is_ok()) {
        return Ok(());
    }
    keep(&by_annotation)
}
