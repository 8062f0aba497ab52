//! Pools and Services for the scenarios.

use std::net::{IpAddr, Ipv4Addr};

use fairlead_allocator::ipam::{AllocationRequest, Families, Family, Ipam, Sharing};
use fairlead_crds::model::config::{Labels, Pool};
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey, Port, Protocol};

/// The number of operations in a run, where one operation is too short for a clock.
pub(crate) const BATCH: usize = 50;
/// The families that every Service here needs.
pub(crate) const V4: Families = Families::One(Family::V4);
/// The first address of [`pool`].
pub(crate) const BASE: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// Returns the `n`th address from `first`.
pub(crate) fn nth(first: u32, n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(first + n as u32))
}

/// Returns a pool of `size` addresses.
pub(crate) fn pool(name: &str, first: u32, size: usize) -> Pool {
    Pool::new(name, IpRange::new(nth(first, 0), nth(first, size - 1)).into_iter().collect())
}

/// Returns an allocator with these pools.
pub(crate) fn ipam(pools: &[Pool]) -> Ipam {
    let mut ipam = Ipam::default();
    let by_name = pools.iter().map(|pool| (pool.name.clone(), pool.clone())).collect();
    ipam.set_pools(&by_name, &Default::default());
    ipam
}

/// Returns the name of the `i`th object of a kind. The order of names differs from the order of creation.
pub(crate) fn key(kind: &str, i: usize) -> ObjectKey {
    let spread = (i as u32).wrapping_mul(0x9e37_79b1);
    ObjectKey { namespace: "default".into(), name: format!("{spread:08x}-{kind}") }
}

/// Returns the `i`th IPv4 Service of a kind.
pub(crate) fn service(kind: &str, i: usize) -> LoadBalancer {
    LoadBalancer {
        key: key(kind, i),
        uid: format!("00000000-0000-0000-0000-{i:012}"),
        resource_version: i.to_string(),
        created: i as i64,
        cluster_ips: vec![nth(u32::from_be_bytes([172, 16, 0, 0]), i)],
        ..fairlead_test_support::service(kind)
    }
}

/// Returns the `i`th IPv4 Service of a kind that shares its address and has these ports, in ascending order.
pub(crate) fn sharing(kind: &str, i: usize, ports: &[usize]) -> LoadBalancer {
    LoadBalancer {
        sharing_key: Some("key".into()),
        ports: ports.iter().map(|port| Port { protocol: Protocol::Tcp, number: *port as u16 }).collect(),
        ..service(kind, i)
    }
}

/// A Service that requests an address, with the fields that the allocator reads.
pub(crate) struct Requester {
    key: ObjectKey,
    labels: Labels,
    sharing: Sharing,
}

impl Requester {
    pub(crate) fn new(service: &LoadBalancer) -> Self {
        Self { key: service.key.clone(), labels: Labels::new(), sharing: Sharing::of(service) }
    }

    pub(crate) fn key(&self) -> &ObjectKey {
        &self.key
    }

    pub(crate) fn allocation_request(&self) -> AllocationRequest<'_> {
        AllocationRequest {
            service: &self.key,
            labels: &self.labels,
            namespace_labels: Some(&self.labels),
            sharing: self.sharing.clone(),
        }
    }
}

/// Returns `n` requesters of a kind.
pub(crate) fn requesters(kind: &str, n: usize) -> Vec<Requester> {
    (0..n).map(|i| Requester::new(&service(kind, i))).collect()
}
