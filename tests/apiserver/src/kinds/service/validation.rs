//! Validation of Services: the rules that Fairlead or its users can meet.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ServiceSpec, ServiceStatus};
use serde_json::json;

use super::{is_external, is_headless, needs_cluster_ip, needs_health_check_port, needs_node_port, type_of};
use crate::failure::Cause;
use fairlead_schema::names::{is_dns_label, is_port_name, is_qualified_name, is_subdomain};

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// Validates a completed spec.
pub(super) fn spec(spec: &ServiceSpec) -> Vec<Cause> {
    let mut causes = Vec::new();
    let sort = type_of(spec);
    if !TYPES.contains(&sort) {
        causes.push(Cause::unsupported("spec.type", &json!(sort), &TYPES));
    }
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !is_headless(spec) && sort != "ExternalName" {
        causes.push(Cause::required("spec.ports", ""));
    }
    match sort {
        "LoadBalancer" if is_headless(spec) => causes.push(Cause::invalid(
            "spec.clusterIPs[0]",
            &json!("None"),
            "may not be set to 'None' for LoadBalancer services",
        )),
        "NodePort" if is_headless(spec) => causes.push(Cause::invalid(
            "spec.clusterIPs[0]",
            &json!("None"),
            "may not be set to 'None' for NodePort services",
        )),
        "ExternalName" => {
            if spec.cluster_ips.as_ref().is_some_and(|ips| !ips.is_empty()) {
                causes.push(Cause::forbidden(
                    "spec.clusterIPs",
                    "may not be set when `type` is 'ExternalName'",
                ));
            }
            match spec.external_name.as_deref() {
                None => causes.push(Cause::required("spec.externalName", "")),
                Some(name) if !is_subdomain(name.trim_end_matches('.')) => {
                    causes.push(Cause::invalid(
                        "spec.externalName",
                        &json!(name),
                        "a lowercase RFC 1123 subdomain",
                    ));
                }
                Some(_) => {}
            }
        }
        _ => {}
    }
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let path = |field: &str| format!("spec.ports[{at}].{field}");
        let name = port.name.as_deref().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(path("name"), ""));
        } else if !name.is_empty() && !is_dns_label(name) {
            causes.push(Cause::invalid(path("name"), &json!(name), "a lowercase RFC 1123 label"));
        } else if !name.is_empty() && !names.insert(name) {
            causes.push(Cause::duplicate(path("name"), &json!(name)));
        }
        if !(1..=65535).contains(&port.port) {
            causes.push(Cause::invalid(
                path("port"),
                &json!(port.port),
                "must be between 1 and 65535, inclusive",
            ));
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            causes.push(Cause::unsupported(path("protocol"), &json!(protocol), &["SCTP", "TCP", "UDP"]));
        }
        if !numbers.insert((port.port, protocol)) {
            let port = json!({ "port": port.port, "protocol": protocol });
            causes.push(Cause::duplicate(format!("spec.ports[{at}]"), &port));
        }
        if !needs_node_port(spec) && port.node_port.is_some() {
            causes.push(Cause::forbidden(
                path("nodePort"),
                &format!("may not be used when `type` is '{sort}'"),
            ));
        }
        use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
        match &port.target_port {
            Some(IntOrString::Int(number)) if !(1..=65535).contains(number) => causes.push(Cause::invalid(
                path("targetPort"),
                &json!(number),
                "must be between 1 and 65535, inclusive",
            )),
            Some(IntOrString::String(name)) if !is_port_name(name) => causes.push(Cause::invalid(
                path("targetPort"),
                &json!(name),
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            )),
            _ => {}
        }
    }
    policies(spec, &mut causes);
    load_balancer(spec, &mut causes);
    for (at, ip) in spec.external_ips.iter().flatten().enumerate() {
        if ip.parse::<IpAddr>().is_err() {
            causes.push(Cause::invalid(
                format!("spec.externalIPs[{at}]"),
                &json!(ip),
                "must be a valid IP address",
            ));
        }
    }
    causes
}

fn policies(spec: &ServiceSpec, causes: &mut Vec<Cause>) {
    let one_of = |path: &str, value: &Option<String>, allowed: &[&str]| {
        value
            .as_deref()
            .filter(|value| !allowed.contains(value))
            .map(|value| Cause::unsupported(path, &json!(value), allowed))
    };
    let traffic = ["Cluster", "Local"];
    causes.extend(one_of("spec.sessionAffinity", &spec.session_affinity, &["ClientIP", "None"]));
    causes.extend(one_of("spec.internalTrafficPolicy", &spec.internal_traffic_policy, &traffic));
    match &spec.external_traffic_policy {
        Some(policy) if !is_external(spec) => causes.push(Cause::invalid(
            "spec.externalTrafficPolicy",
            &json!(policy),
            "may only be set for externally-accessible services",
        )),
        policy => causes.extend(one_of("spec.externalTrafficPolicy", policy, &traffic)),
    }
    if spec.health_check_node_port.is_some() && !needs_health_check_port(spec) {
        causes.push(Cause::invalid(
            "spec.healthCheckNodePort",
            &json!(spec.health_check_node_port),
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ));
    }
}

fn load_balancer(spec: &ServiceSpec, causes: &mut Vec<Cause>) {
    if type_of(spec) != "LoadBalancer" {
        let why = "may only be used when `type` is 'LoadBalancer'";
        if spec.load_balancer_class.is_some() {
            causes.push(Cause::forbidden("spec.loadBalancerClass", why));
        }
        if spec.allocate_load_balancer_node_ports.is_some() {
            causes.push(Cause::forbidden("spec.allocateLoadBalancerNodePorts", why));
        }
        if spec.load_balancer_source_ranges.as_ref().is_some_and(|ranges| !ranges.is_empty()) {
            causes.push(Cause::forbidden("spec.LoadBalancerSourceRanges", why));
        }
        return;
    }
    if let Some(class) = &spec.load_balancer_class
        && !is_qualified_name(class)
    {
        causes.push(Cause::invalid(
            "spec.loadBalancerClass",
            &json!(class),
            "must be a label-style identifier",
        ));
    }
    for (at, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        if range.trim().parse::<IpNet>().is_err() {
            causes.push(Cause::invalid(
                format!("spec.LoadBalancerSourceRanges[{at}]"),
                &json!(range),
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ));
        }
    }
}

/// Validates immutable fields.
pub(super) fn update(new: &ServiceSpec, old: &ServiceSpec) -> Vec<Cause> {
    let mut causes = Vec::new();
    let fixed = "may not change once set";
    if needs_cluster_ip(new) && needs_cluster_ip(old) {
        let first = |spec: &ServiceSpec| spec.cluster_ips.iter().flatten().next().cloned();
        if let (Some(was), now) = (first(old), first(new))
            && now.as_ref() != Some(&was)
        {
            causes.push(Cause::invalid("spec.clusterIPs[0]", &json!(now), fixed));
        }
        let family = |spec: &ServiceSpec| spec.ip_families.iter().flatten().next().cloned();
        if let (Some(was), Some(now)) = (family(old), family(new))
            && was != now
        {
            causes.push(Cause::invalid("spec.ipFamilies[0]", &json!(now), fixed));
        }
    }
    if type_of(new) == "LoadBalancer"
        && type_of(old) == "LoadBalancer"
        && new.load_balancer_class != old.load_balancer_class
    {
        causes.push(Cause::invalid("spec.loadBalancerClass", &json!(new.load_balancer_class), fixed));
    }
    if needs_health_check_port(new)
        && needs_health_check_port(old)
        && new.health_check_node_port != old.health_check_node_port
    {
        causes.push(Cause::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
    causes
}

/// Validates `status.loadBalancer` of a Service with this spec.
pub(super) fn status(status: &ServiceStatus, spec: &ServiceSpec) -> Vec<Cause> {
    let mut causes = Vec::new();
    let ingress = status.load_balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    for (at, ingress) in ingress.enumerate() {
        let path = |field: &str| format!("status.loadBalancer.ingress[{at}].{field}");
        if type_of(spec) != "LoadBalancer" {
            causes.push(Cause::forbidden(
                "status.loadBalancer.ingress",
                "may only be used when `spec.type` is LoadBalancer",
            ));
            break;
        }
        let ip = ingress.ip.as_deref().unwrap_or_default();
        if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.push(Cause::invalid(path("ip"), &json!(ip), why));
        }
        match ingress.ip_mode.as_deref() {
            Some(mode) if ip.is_empty() => {
                let _ = mode;
                causes.push(Cause::forbidden(path("ipMode"), "may not be specified when `ip` is not set"));
            }
            Some(mode) if !["Proxy", "VIP"].contains(&mode) => {
                causes.push(Cause::unsupported(path("ipMode"), &json!(mode), &["Proxy", "VIP"]));
            }
            _ => {}
        }
        if let Some(name) = ingress.hostname.as_deref().filter(|name| !name.is_empty()) {
            if name.parse::<IpAddr>().is_ok() {
                causes.push(Cause::invalid(
                    path("hostname"),
                    &json!(name),
                    "must be a DNS name, not an IP address",
                ));
            } else if !is_subdomain(name) {
                causes.push(Cause::invalid(path("hostname"), &json!(name), "a lowercase RFC 1123 subdomain"));
            }
        }
    }
    causes
}
