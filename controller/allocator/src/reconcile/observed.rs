//! A Service as the watch reports it, trimmed to what decisions need.

use std::net::IpAddr;

use fairlead_crds::model::service::LoadBalancer;
use fairlead_crds::{names, text};
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::condition_digest::{ConditionDigests, is_ours};

/// A load balancer Service of this controller's class, and its status as last observed.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedService {
    /// The fields that decisions need.
    pub balancer: LoadBalancer,
    /// Value of the annotation `fairlead.dev/ip-allocated-from-pool`, or the empty text if it is longer than
    /// any value that this controller writes. Aliases of the annotation are not read.
    pub pool_annotation: Option<String>,
    /// True if an ingress entry or a condition of this controller does not have the form that this controller
    /// writes.
    pub is_malformed: bool,
    /// The conditions that this controller writes.
    pub conditions: ConditionDigests,
    /// All other conditions. They are part of every patch, because a merge patch replaces the whole list.
    pub other_conditions: Vec<Condition>,
}

impl ObservedService {
    /// Returns the Service if it is a load balancer of class `lb_class` (see [`LoadBalancer::from_service`]).
    pub fn of(service: &Service, lb_class: Option<&str>) -> Option<Self> {
        let balancer = LoadBalancer::from_service(service, lb_class)?;
        let status = service.status.as_ref();
        let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref());
        let annotations = service.metadata.annotations.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let digests = ConditionDigests::parse(conditions);
        Some(Self {
            is_malformed: ingress.unwrap_or_default().iter().any(is_malformed) || digests.is_none(),
            pool_annotation: annotations.and_then(|a| a.get(names::ALLOCATED_FROM_POOL)).map(|value| {
                let is_possible = value.len() <= 2 * text::MAX_NAME + 1;
                if is_possible { value.clone() } else { String::new() }
            }),
            conditions: digests.unwrap_or_default(),
            other_conditions: conditions.iter().filter(|c| !is_ours(c)).cloned().collect(),
            balancer,
        })
    }
}

/// Returns true if an entry is not `{ip, ipMode: VIP}`. An absent `ipMode` means the same as `VIP`.
fn is_malformed(ingress: &LoadBalancerIngress) -> bool {
    let is_ip = ingress.ip.as_ref().is_some_and(|ip| ip.parse::<IpAddr>().is_ok());
    let is_vip = ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP");
    let has_ports = ingress.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    !is_ip || !is_vip || has_ports || ingress.hostname.as_ref().is_some_and(|name| !name.is_empty())
}
