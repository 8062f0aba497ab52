//! Fields of a Service that the server sets, keeps or clears.

use k8s_openapi::api::core::v1::{ClientIPConfig, ServiceSpec, ServiceStatus, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{is_external, needs_cluster_ip, needs_health_check_port, needs_node_port, type_of};

/// Defaults that depend on the Service alone.
pub(super) fn spec(spec: &mut ServiceSpec) {
    spec.type_.get_or_insert_with(|| "ClusterIP".into());
    spec.session_affinity.get_or_insert_with(|| "None".into());
    match spec.session_affinity.as_deref() {
        Some("None") => spec.session_affinity_config = None,
        Some("ClientIP") => {
            let config = spec.session_affinity_config.get_or_insert_with(SessionAffinityConfig::default);
            let client = config.client_ip.get_or_insert_with(ClientIPConfig::default);
            client.timeout_seconds.get_or_insert(10_800);
        }
        _ => {}
    }
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".into());
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
        if port.node_port == Some(0) {
            port.node_port = None;
        }
    }
    if spec.external_traffic_policy.as_deref() == Some("") {
        spec.external_traffic_policy = None;
    }
    if is_external(spec) {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".into());
    }
    if needs_cluster_ip(spec) {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".into());
    }
    if type_of(spec) == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    for text in [&mut spec.cluster_ip, &mut spec.load_balancer_ip, &mut spec.external_name] {
        if text.as_deref() == Some("") {
            *text = None;
        }
    }
    if spec.health_check_node_port == Some(0) {
        spec.health_check_node_port = None;
    }
}

/// An ingress address is a virtual IP by default.
pub(super) fn status(status: &mut ServiceStatus) {
    let balancer = status.load_balancer.get_or_insert_default();
    for ingress in balancer.ingress.iter_mut().flatten() {
        if ingress.ip.as_deref().is_some_and(|ip| !ip.is_empty()) {
            ingress.ip_mode.get_or_insert_with(|| "VIP".into());
        }
    }
}

/// An update that omits allocated values keeps them.
pub(super) fn keep_allocated(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(new) && needs_cluster_ip(old) {
        if new.cluster_ip.is_none() && new.cluster_ips.as_ref().is_none_or(Vec::is_empty) {
            new.cluster_ip.clone_from(&old.cluster_ip);
        }
        if new.cluster_ips.as_ref().is_none_or(Vec::is_empty) && new.cluster_ip == old.cluster_ip {
            new.cluster_ips.clone_from(&old.cluster_ips);
        }
        if new.ip_family_policy.is_none() {
            new.ip_family_policy.clone_from(&old.ip_family_policy);
        }
        if new.ip_families.as_ref().is_none_or(Vec::is_empty) {
            new.ip_families.clone_from(&old.ip_families);
        }
    }
    if needs_node_port(new) && needs_node_port(old) {
        let mut used: Vec<i32> = new.ports.iter().flatten().filter_map(|port| port.node_port).collect();
        for port in new.ports.iter_mut().flatten().filter(|port| port.node_port.is_none()) {
            let same =
                old.ports.iter().flatten().find(|old| old.port == port.port && old.protocol == port.protocol);
            if let Some(kept) = same.and_then(|same| same.node_port)
                && !used.contains(&kept)
            {
                port.node_port = Some(kept);
                used.push(kept);
            }
        }
    }
    if needs_health_check_port(new) && needs_health_check_port(old) && new.health_check_node_port.is_none() {
        new.health_check_node_port = old.health_check_node_port;
    }
}

/// A change of type clears the fields of the old type, unless the same update sets them.
pub(super) fn drop_of_other_type(new: &mut ServiceSpec, old: &ServiceSpec) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        let same = new.cluster_ip == old.cluster_ip || new.cluster_ip.is_none();
        let same_list = new.cluster_ips == old.cluster_ips || new.cluster_ips.is_none();
        if same && same_list {
            new.cluster_ip = None;
            new.cluster_ips = None;
        }
        if new.ip_families == old.ip_families {
            new.ip_families = None;
        }
        if new.ip_family_policy == old.ip_family_policy {
            new.ip_family_policy = None;
        }
        new.internal_traffic_policy = None;
    }
    if needs_node_port(old) && !needs_node_port(new) {
        let numbers = |spec: &ServiceSpec| -> Vec<Option<i32>> {
            spec.ports.iter().flatten().map(|port| port.node_port).collect()
        };
        if numbers(new) == numbers(old) {
            new.ports.iter_mut().flatten().for_each(|port| port.node_port = None);
        }
    }
    if needs_health_check_port(old)
        && !needs_health_check_port(new)
        && new.health_check_node_port == old.health_check_node_port
    {
        new.health_check_node_port = None;
    }
    if type_of(old) == "LoadBalancer" && type_of(new) != "LoadBalancer" {
        if new.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = None;
        }
        if new.load_balancer_class == old.load_balancer_class {
            new.load_balancer_class = None;
        }
    }
    if is_external(old) && !is_external(new) && new.external_traffic_policy == old.external_traffic_policy {
        new.external_traffic_policy = None;
    }
}
