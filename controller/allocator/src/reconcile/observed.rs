//! What the watch tells of a Service, trimmed to what decisions need.

use fairlead_crds::model::service::LoadBalancer;
use fairlead_crds::names;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::condition_digest::{Said, is_ours};

/// A Service of ours and its status as last seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The Service.
    pub balancer: LoadBalancer,
    /// Value of the annotation that we write, in our spelling only.
    pub pool_annotation: Option<String>,
    /// Something of ours in the status is not as we write it.
    pub odd: bool,
    /// Our conditions.
    pub said: Said,
    /// Conditions of others: a merge patch replaces the whole list.
    pub other_conditions: Vec<Condition>,
}

impl Observed {
    /// The Service, if it is one of ours (see [`LoadBalancer::from_service`]).
    pub fn of(service: &Service, lb_class: Option<&str>) -> Option<Self> {
        let balancer = LoadBalancer::from_service(service, lb_class)?;
        let status = service.status.as_ref();
        let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_deref());
        let annotations = service.metadata.annotations.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let said = Said::by(conditions);
        Some(Self {
            odd: ingress.unwrap_or_default().iter().any(is_odd) || said.is_none(),
            pool_annotation: annotations.and_then(|a| a.get(names::ALLOCATED_FROM_POOL)).cloned(),
            said: said.unwrap_or_default(),
            other_conditions: conditions.iter().filter(|c| !is_ours(c)).cloned().collect(),
            balancer,
        })
    }
}

/// Whether an entry is not `{ip, ipMode: VIP}`. An API server may leave `ipMode` out, which means the same.
fn is_odd(ingress: &LoadBalancerIngress) -> bool {
    let is_ip = ingress.ip.as_ref().is_some_and(|ip| ip.parse::<std::net::IpAddr>().is_ok());
    let is_vip = ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP");
    let has_ports = ingress.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    !is_ip || !is_vip || has_ports || ingress.hostname.as_ref().is_some_and(|name| !name.is_empty())
}
