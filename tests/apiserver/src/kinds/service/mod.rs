//! Completes and validates Services.

mod defaults;
mod families;
mod validation;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{LoadBalancerStatus, Service, ServiceSpec, ServiceStatus};
use serde_json::Value;

use super::Door;
use super::addresses::Addresses;
use crate::failure::Cause;

/// Completes and validates a Service. The caller commits or rolls back allocations in `addresses`.
///
/// # Errors
/// All field errors.
pub(crate) fn admit(
    new: Value,
    old: Option<&Value>,
    door: Door,
    addresses: &mut Addresses,
) -> Result<Value, Vec<Cause>> {
    let raw = Raw::of(&new, old, door);
    let mut new: Service = read(&new)?;
    let old: Option<Service> = old.map(read).transpose()?;
    let mut spec = new.spec.take().unwrap_or_default();
    match (door, &old) {
        (Door::Status, Some(old)) => {
            // Status updates also change metadata, but not the spec.
            spec = old.spec.clone().unwrap_or_default();
            let status = new.status.get_or_insert_default();
            defaults::status(status);
            let causes = validation::status(status, &spec);
            if !causes.is_empty() {
                return Err(causes);
            }
        }
        (Door::Status, None) | (Door::Object, _) => {
            let old_spec = old.as_ref().and_then(|old| old.spec.clone());
            new.status = old.and_then(|old| old.status).or_else(|| Some(ServiceStatus::default()));
            spec = complete(spec, old_spec.as_ref(), addresses)?;
            let status = new.status.get_or_insert_default();
            if type_of(&spec) != "LoadBalancer" {
                status.load_balancer = Some(LoadBalancerStatus::default());
            }
        }
    }
    new.status.get_or_insert_default().load_balancer.get_or_insert_default();
    new.spec = Some(spec);
    let mut object = write(&new)?;
    raw.put_into(&mut object);
    Ok(object)
}

/// Parts of a Service that typed objects cannot hold without loss. Nothing here decides by them.
struct Raw {
    metadata: Value,
    conditions: Option<Value>,
}

impl Raw {
    fn of(new: &Value, old: Option<&Value>, door: Door) -> Raw {
        let status = match door {
            Door::Status => Some(new),
            Door::Object => old,
        };
        Raw {
            metadata: new["metadata"].clone(),
            conditions: status.and_then(|object| object["status"].get("conditions")).cloned(),
        }
    }

    fn put_into(self, object: &mut Value) {
        object["metadata"] = self.metadata;
        if let Some(conditions) = self.conditions {
            object["status"]["conditions"] = conditions;
        }
    }
}

/// Releases the allocations of a deleted Service.
pub(crate) fn release(service: &Value, addresses: &mut Addresses) {
    let Ok(service) = read(service) else { return };
    let spec = service.spec.unwrap_or_default();
    cluster_ips(&spec).into_iter().for_each(|ip| addresses.free_ip(ip));
    node_ports(&spec).into_iter().for_each(|port| addresses.free_port(port));
}

fn complete(
    mut spec: ServiceSpec,
    old: Option<&ServiceSpec>,
    addresses: &mut Addresses,
) -> Result<ServiceSpec, Vec<Cause>> {
    defaults::spec(&mut spec);
    if let Some(old) = old {
        defaults::keep_allocated(&mut spec, old);
        defaults::drop_of_other_type(&mut spec, old);
    }
    let mut causes = families::complete(&mut spec, old, &addresses.families());
    causes.extend(validation::spec(&spec));
    if let Some(old) = old {
        causes.extend(validation::update(&spec, old));
    }
    if !causes.is_empty() {
        return Err(causes);
    }
    allocate_ips(&mut spec, old, addresses)?;
    allocate_ports(&mut spec, old, addresses)?;
    Ok(spec)
}

fn allocate_ips(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    addresses: &mut Addresses,
) -> Result<(), Vec<Cause>> {
    let held = old.map(cluster_ips).unwrap_or_default();
    if !needs_cluster_ip(spec) || is_headless(spec) {
        held.into_iter().for_each(|ip| addresses.free_ip(ip));
        return Ok(());
    }
    let wanted = spec.cluster_ips.take().unwrap_or_default();
    let mut given = Vec::new();
    for (at, family) in families::of(spec).into_iter().enumerate() {
        let ip = match wanted.get(at).map(|ip| ip.parse::<IpAddr>()) {
            Some(Ok(ip)) => {
                if !held.contains(&ip) {
                    addresses.take_ip(ip).map_err(|why| {
                        vec![Cause::invalid("spec.clusterIPs", &serde_json::json!(wanted), &why)]
                    })?;
                }
                ip
            }
            _ => addresses.take_any_ip(family).ok_or_else(|| {
                let why = "failed to allocate a serviceIP: range is full";
                vec![Cause { reason: "InternalError", field: "spec.clusterIPs".into(), message: why.into() }]
            })?,
        };
        given.push(ip);
    }
    held.into_iter().filter(|ip| !given.contains(ip)).for_each(|ip| addresses.free_ip(ip));
    let given: Vec<String> = given.iter().map(IpAddr::to_string).collect();
    spec.cluster_ip = given.first().cloned();
    spec.cluster_ips = Some(given);
    Ok(())
}

fn allocate_ports(
    spec: &mut ServiceSpec,
    old: Option<&ServiceSpec>,
    addresses: &mut Addresses,
) -> Result<(), Vec<Cause>> {
    let held = old.map(node_ports).unwrap_or_default();
    let mut kept: Vec<u16> = Vec::new();
    // TCP and UDP ports of one number share a node port, so allocations are keyed by number.
    let mut shared: Vec<(i32, String, u16)> = Vec::new();
    let may_allocate = may_allocate_node_ports(spec);
    for (at, port) in spec.ports.iter_mut().flatten().enumerate() {
        let path = format!("spec.ports[{at}].nodePort");
        let protocol = port.protocol.clone().unwrap_or_default();
        if let Some(wanted) =
            port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
        {
            if !kept.contains(&wanted) && !held.contains(&wanted) {
                addresses
                    .take_port(wanted)
                    .map_err(|why| vec![Cause::invalid(&path, &serde_json::json!(wanted), &why)])?;
            }
            kept.push(wanted);
            shared.push((port.port, protocol, wanted));
        } else if may_allocate {
            let same = shared.iter().find(|(number, other, _)| *number == port.port && *other != protocol);
            let given = match same {
                Some((_, _, given)) => Some(*given),
                None => addresses.take_any_port(),
            };
            let given = given.ok_or_else(|| {
                let message = "failed to allocate a nodePort: range is full".into();
                vec![Cause { reason: "InternalError", field: path, message }]
            })?;
            port.node_port = Some(given.into());
            kept.push(given);
            shared.push((port.port, protocol, given));
        }
    }
    if needs_health_check_port(spec) {
        let wanted =
            spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let given = match wanted {
            Some(wanted) => {
                if !held.contains(&wanted) {
                    addresses.take_port(wanted).map_err(|why| {
                        vec![Cause::invalid("spec.healthCheckNodePort", &serde_json::json!(wanted), &why)]
                    })?;
                }
                Some(wanted)
            }
            None => addresses.take_any_port(),
        };
        let given = given.ok_or_else(|| {
            let message = "failed to allocate a HealthCheck NodePort: range is full".into();
            vec![Cause { reason: "InternalError", field: "spec.healthCheckNodePort".into(), message }]
        })?;
        spec.health_check_node_port = Some(given.into());
        kept.push(given);
    }
    held.into_iter().filter(|port| !kept.contains(port)).for_each(|port| addresses.free_port(port));
    Ok(())
}

fn type_of(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn needs_cluster_ip(spec: &ServiceSpec) -> bool {
    matches!(type_of(spec), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn may_allocate_node_ports(spec: &ServiceSpec) -> bool {
    match type_of(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

fn needs_node_port(spec: &ServiceSpec) -> bool {
    matches!(type_of(spec), "NodePort" | "LoadBalancer")
}

fn needs_health_check_port(spec: &ServiceSpec) -> bool {
    type_of(spec) == "LoadBalancer" && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips.iter().flatten().next().is_some_and(|ip| ip == "None")
}

fn is_external(spec: &ServiceSpec) -> bool {
    needs_node_port(spec)
        || (type_of(spec) == "ClusterIP" && spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()))
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect()
}

/// Node ports of the ports and of the health check.
fn node_ports(spec: &ServiceSpec) -> Vec<u16> {
    let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
    ports
        .chain(spec.health_check_node_port)
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
        .collect()
}

/// Reads a stored or decoded Service without its metadata and conditions.
fn read(service: &Value) -> Result<Service, Vec<Cause>> {
    let mut status = service["status"].clone();
    if let Value::Object(fields) = &mut status {
        fields.remove("conditions");
    }
    let plain = serde_json::json!({ "spec": service["spec"], "status": status });
    serde_json::from_value(plain).map_err(|error| {
        vec![Cause { reason: "FieldValueInvalid", field: String::new(), message: error.to_string() }]
    })
}

fn write(service: &Service) -> Result<Value, Vec<Cause>> {
    serde_json::to_value(service).map_err(|error| {
        vec![Cause { reason: "FieldValueInvalid", field: String::new(), message: error.to_string() }]
    })
}
