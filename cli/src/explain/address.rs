//! `fairlead explain address`: who has an address, and what prevents others from getting it.

use std::fmt;
use std::net::IpAddr;

use fairlead_allocator::explain::Explanation;
use fairlead_allocator::ipam::{AllocationRequest, Ipam, Sharing};
use fairlead_allocator::reconcile::Index;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::LoadBalancer;
use fairlead_crds::objects::{Service, ServiceSpec};
use fairlead_crds::text::message;

/// The explanation of an address. Its `Display` form has one line for each fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressExplanation {
    /// Whether another Service could get the address.
    pub state: String,
    /// The Services that hold the address, each with reason and message of its condition.
    pub holders: Vec<String>,
    /// The ranges of the cluster that contain the address.
    pub ranges: Vec<String>,
}

impl AddressExplanation {
    pub(super) fn new(index: &Index, address: IpAddr) -> Self {
        let ipam = index.ipam();
        let holders = ipam.holders(address).iter().filter_map(|holder| {
            let explanation = Explanation::new(index, holder)?;
            Some(format!("Service {holder}: {}", explanation.outcome))
        });
        Self { state: state(ipam, address), holders: holders.collect(), ranges: ranges(ipam, address) }
    }
}

/// Each text is escaped and cut, because it can quote what users write into objects.
impl fmt::Display for AddressExplanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        [&self.state]
            .into_iter()
            .chain(&self.holders)
            .chain(&self.ranges)
            .try_for_each(|line| writeln!(f, "{}", message(&**line)))
    }
}

/// Returns the verdict of the allocator on a new Service that requests the address and shares none.
fn state(ipam: &Ipam, address: IpAddr) -> String {
    let spec = ServiceSpec { type_: Some("LoadBalancer".to_owned()), ..ServiceSpec::default() };
    let service = Service { spec: Some(spec), ..Service::default() };
    let Some(balancer) = LoadBalancer::from_service(&service, None) else { return String::new() };
    let request = AllocationRequest {
        service: &balancer.key,
        labels: &balancer.labels,
        namespace_labels: None,
        sharing: Sharing::of(&balancer),
    };
    match (ipam.check_taking(&request, address), ipam.pool_name_of(address)) {
        (Err(refusal), _) => refusal.to_string(),
        (Ok(()), pool) => format!("{address} is free in IPAddressPool {}", pool.unwrap_or_default()),
    }
}

fn ranges(ipam: &Ipam, address: IpAddr) -> Vec<String> {
    let Some(range) = IpRange::new(address, address) else { return Vec::new() };
    let pods = ipam.pod_range_in(&range);
    let pods = pods.map(|(range, node)| format!("{address} is in the Pod range {range} of Node {node}"));
    let services = ipam.service_range_in(&range);
    let services = services
        .map(|(range, name)| format!("{address} is in the Service range {range} of ServiceCIDR {name}"));
    pods.into_iter().chain(services).collect()
}
