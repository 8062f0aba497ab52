//! A Service as the watch reports it, trimmed to what decisions need.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fairlead_crds::conditions::RawCondition;
use fairlead_crds::model::service::LoadBalancer;
use fairlead_crds::objects::{LoadBalancerIngress, Service};
use fairlead_crds::{names, text};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;

use super::condition_digest::{ConditionDigests, is_ours};

/// The maximum size of what others write into the status of a Service and the controller writes back, in
/// octets of JSON, for conditions and ingress entries each. Only programs with the right to write the status
/// can exceed it, and what exceeds it is removed with the next write.
const MAX_FOREIGN: usize = 32 * 1024;

/// A load balancer Service of this controller's class, and its status as last observed.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservedService {
    /// The fields that decisions need.
    pub balancer: LoadBalancer,
    /// Value of the annotation `fairlead.dev/ip-allocated-from-pool`, or the empty text if it is longer than
    /// any value that this controller writes. Aliases of the annotation are not read.
    pub pool_annotation: Option<String>,
    /// Octets of all other annotations, keys and values.
    pub other_annotations: usize,
    /// The ingress entries that contain anything but an address with `ipMode: VIP`, up to 32 KiB.
    /// Those without an address belong to other programs.
    pub special_ingress: Vec<LoadBalancerIngress>,
    /// True if a condition of this controller does not have the form that this controller writes.
    pub is_malformed: bool,
    /// The conditions that this controller writes.
    pub conditions: ConditionDigests,
    /// All other conditions, up to 32 KiB. They are part of every patch, because a merge patch
    /// replaces the whole list.
    pub other_conditions: Vec<RawCondition>,
    /// The field manager that last wrote the status, except this controller, as far as the object tells.
    pub status_writer: Option<Box<str>>,
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
        let special = ingress.unwrap_or_default().iter().filter(|entry| is_special(entry));
        Some(Self {
            other_annotations: annotations.map_or(0, other_annotations),
            special_ingress: bounded(special, serde_json::to_vec),
            is_malformed: digests.is_none(),
            status_writer: service.metadata.managed_fields.as_deref().and_then(status_writer),
            pool_annotation: annotations.and_then(|a| a.get(names::ALLOCATED_FROM_POOL)).map(|value| {
                let is_possible = value.len() <= 2 * text::MAX_NAME + 1;
                if is_possible { value.clone() } else { String::new() }
            }),
            conditions: digests.unwrap_or_default(),
            other_conditions: bounded(conditions.iter().filter(|c| !is_ours(c)), serde_json::to_vec),
            balancer,
        })
    }
}

/// Returns elements of a list that together have at most [`MAX_FOREIGN`] octets as JSON. An element that does
/// not fit into the rest is left out; smaller ones after it may fit.
fn bounded<'a, T: Clone + 'a>(
    list: impl Iterator<Item = &'a T>,
    json: impl Fn(&T) -> serde_json::Result<Vec<u8>>,
) -> Vec<T> {
    let mut rest = MAX_FOREIGN;
    let fits = |element: &&T| {
        let octets = json(element).map_or(usize::MAX, |json| json.len());
        rest.checked_sub(octets).inspect(|left| rest = *left).is_some()
    };
    let mut kept: Vec<T> = list.filter(fits).cloned().collect();
    kept.shrink_to_fit();
    kept
}

/// Returns true if an entry is not `{ip, ipMode: VIP}`. An absent `ipMode` means the same as `VIP`.
fn is_special(ingress: &LoadBalancerIngress) -> bool {
    let is_vip = ingress.ip_mode.as_deref().is_none_or(|mode| mode == "VIP");
    let has_ports = ingress.ports.as_ref().is_some_and(|ports| !ports.is_empty());
    let has_hostname = ingress.hostname.as_ref().is_some_and(|name| !name.is_empty());
    address_of(ingress).is_none() || !is_vip || has_ports || has_hostname
}

/// Returns the address of an ingress entry.
pub(super) fn address_of(ingress: &LoadBalancerIngress) -> Option<IpAddr> {
    ingress.ip.as_ref()?.parse().ok()
}

/// Returns the octets of all annotations except the one that this controller writes, as the API server counts
/// them.
fn other_annotations(annotations: &BTreeMap<String, String>) -> usize {
    let others = annotations.iter().filter(|(key, _)| *key != names::ALLOCATED_FROM_POOL);
    others.map(|(key, value)| key.len() + value.len()).sum()
}

/// Returns the last other manager of the status.
fn status_writer(managed_fields: &[ManagedFieldsEntry]) -> Option<Box<str>> {
    let is_other = |entry: &&ManagedFieldsEntry| {
        entry.subresource.as_deref() == Some("status") && entry.manager.as_deref() != Some(names::CONTROLLER)
    };
    let last =
        managed_fields.iter().filter(is_other).max_by_key(|entry| entry.time.as_ref().map(|time| time.0))?;
    last.manager.as_deref().filter(|manager| manager.len() <= text::MAX_REQUEST).map(Box::from)
}
