//! `fairlead explain address`: who has an address, and what prevents others from getting it.

use std::net::IpAddr;

use anyhow::Result;
use fairlead_allocator::ipam::{AllocationRequest, Ipam, Sharing};
use fairlead_allocator::reconcile::Index;
use fairlead_crds::model::range::IpRange;
use fairlead_crds::model::service::{LoadBalancer, ObjectKey};
use fairlead_crds::objects::{Service, ServiceSpec};

use super::Chain;
use super::announcements::NotAnnouncedAddresses;
use super::decision::Decisions;
use super::service::announcement;
use crate::cluster::Snapshot;
use crate::network::Network;

/// The part of the allocator in the explanation of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressExplanation {
    /// Whether another Service could get the address.
    pub state: String,
    /// The Services to which the allocator gives the address.
    pub holders: Vec<ObjectKey>,
    /// True if no new Service can get the address.
    pub is_refused: bool,
    /// The ranges of the cluster that contain the address.
    pub ranges: Vec<String>,
}

impl AddressExplanation {
    pub(super) fn new(index: &Index, address: IpAddr) -> Self {
        let ipam = index.ipam();
        let holders = ipam.holders(address).iter().map(|holder| ObjectKey::clone(holder)).collect();
        let (is_refused, state) = state(ipam, address);
        Self { state, is_refused, holders, ranges: ranges(ipam, address) }
    }
}

/// Explains an address.
///
/// # Errors
/// Returns an error if the configuration was not listed.
pub(super) fn explain(snapshot: &Snapshot, address: IpAddr) -> Result<Chain> {
    let decisions = Decisions::of(snapshot)?;
    let own = AddressExplanation::new(&decisions.index, address);
    let holders: Vec<LoadBalancer> = snapshot
        .balancers()
        .map(|(_, balancer)| balancer)
        .filter(|balancer| balancer.ingress.contains(&address))
        .collect();
    let names: Vec<String> = holders.iter().map(|holder| holder.key.to_string()).collect();
    let is_held = !holders.is_empty();
    let (state, message) = match (is_held, own.holders.is_empty()) {
        (true, _) => ("InUse", format!("{address} is in use by Service {}", names.join(", "))),
        // A controller would allocate it now.
        (false, false) => ("Pending", format!("no Service has {address} in its status")),
        (false, true) => ("Free", own.state.clone()),
    };
    let state = if own.is_refused && state == "Free" { "Unavailable" } else { state };
    let mut chain = Chain {
        subject: format!("Address {address}"),
        state: state.to_owned(),
        message,
        is_well: is_held,
        succeeds: is_held,
        steps: Vec::new(),
        unread: Vec::new(),
    };
    let pending = own.holders.iter().filter(|key| !holders.iter().any(|holder| holder.key == **key));
    let pending = pending.map(|key| format!("a controller would give it to Service {key}"));
    let mut lines: Vec<String> = own.ranges.into_iter().chain(pending).collect();
    lines.extend(super::decision::note_of_unread(snapshot).filter(|_| !is_held));
    chain.push("Allocation", lines);
    if let Some(holder) = holders.first() {
        let network = Network::of(snapshot, decisions.configuration.resolution().config.clone());
        announcement(&mut chain, snapshot, network, &holder.key, &[address]);
    }
    let silent = NotAnnouncedAddresses::of(snapshot, |entry| entry.address.parse() == Ok(address));
    chain.push("Speakers that do not announce", silent.lines());
    let kept = decisions.kept(snapshot, |service| service.ingress.contains(&address));
    chain.push("Refused objects that stay in force", kept);
    Ok(chain)
}

/// Returns if the allocator refuses the address to a new Service that requests it and shares none, and why.
fn state(ipam: &Ipam, address: IpAddr) -> (bool, String) {
    let spec = ServiceSpec { type_: Some("LoadBalancer".to_owned()), ..ServiceSpec::default() };
    let service = Service { spec: Some(spec), ..Service::default() };
    let Some(balancer) = LoadBalancer::from_service(&service, None) else {
        return (true, String::new());
    };
    let request = AllocationRequest {
        service: &balancer.key,
        labels: &balancer.labels,
        namespace_labels: None,
        sharing: Sharing::of(&balancer),
    };
    match (ipam.check_taking(&request, address), ipam.pool_name_of(address)) {
        (Err(refusal), _) => (true, refusal.to_string()),
        (Ok(()), pool) => (false, format!("{address} is free in IPAddressPool {}", pool.unwrap_or_default())),
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
