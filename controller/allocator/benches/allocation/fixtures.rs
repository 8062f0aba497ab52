//! Pools and Services to measure with.

use std::net::{IpAddr, Ipv4Addr};

use fairlead_allocator::ipam::{AllocationRequest, Families, Family, Ipam, Sharing};
use fairlead_crds::model::config::{Labels, Pool};
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::{IpFamilyPolicy, LoadBalancer, ObjectKey, Requested, TrafficPolicy};

/// How many operations one act is, where one alone is too short for a clock.
pub(crate) const BATCH: usize = 50;
/// What every Service here needs.
pub(crate) const V4: Families = Families::One(Family::V4);
/// The first address of [`pool`].
pub(crate) const BASE: u32 = u32::from_be_bytes([10, 0, 0, 0]);

/// The `n`th address from `first`.
pub(crate) fn nth(first: u32, n: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(first + n as u32))
}

/// A pool of `size` addresses.
pub(crate) fn pool(name: &str, first: u32, size: usize) -> Pool {
    Pool::new(name, IpRange::new(nth(first, 0), nth(first, size - 1)).into_iter().collect())
}

/// An allocator with these pools.
pub(crate) fn ipam(pools: &[Pool]) -> Ipam {
    let mut ipam = Ipam::default();
    let by_name = pools.iter().map(|pool| (pool.name.clone(), pool.clone())).collect();
    ipam.set_pools(&by_name, &Default::default());
    ipam
}

/// A name for the `i`th Service. Names are spread: Services do not come in the order of their names.
pub(crate) fn key(kind: &str, i: usize) -> ObjectKey {
    let spread = (i as u32).wrapping_mul(0x9e37_79b1);
    ObjectKey { namespace: "default".into(), name: format!("{spread:08x}-{kind}") }
}

/// An IPv4 Service, the `i`th of its kind.
pub(crate) fn service(kind: &str, i: usize) -> LoadBalancer {
    LoadBalancer {
        key: key(kind, i),
        uid: format!("00000000-0000-0000-0000-{i:012}"),
        resource_version: i.to_string(),
        created: i as i64,
        labels: Labels::new(),
        cluster_ips: vec![nth(u32::from_be_bytes([172, 16, 0, 0]), i)],
        ip_family_policy: IpFamilyPolicy::SingleStack,
        requested: Requested::default(),
        sharing_key: None,
        ports: Default::default(),
        selector: Labels::new(),
        traffic_policy: TrafficPolicy::Cluster,
        ingress: Vec::new(),
        allocated_from: None,
    }
}

/// The same, sharing, with these ports.
pub(crate) fn sharing(kind: &str, i: usize, ports: &[usize]) -> LoadBalancer {
    LoadBalancer {
        sharing_key: Some("key".into()),
        ports: ports.iter().map(|port| ("TCP".to_owned(), *port as u16)).collect(),
        ..service(kind, i)
    }
}

/// What the allocator is told of a Service.
pub(crate) struct Asker {
    key: ObjectKey,
    labels: Labels,
    sharing: Sharing,
}

impl Asker {
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

/// `n` of a kind.
pub(crate) fn askers(kind: &str, n: usize) -> Vec<Asker> {
    (0..n).map(|i| Asker::new(&service(kind, i))).collect()
}
