//! The objects that tests apply.

use std::net::IpAddr;

use anyhow::{Context as _, Result, anyhow};
use fairlead_lab::{Lab, addresses, wait_for};
use serde_json::{Value, json};

use crate::{SECOND, SOON, expect_owner, nodes, reach};

/// A pool for each protocol, one without an advertisement, and the router as a peer in both families.
///
/// The sessions have a short connect time, because a test that ends a session waits for the next one.
pub const CONFIG: &str = "
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: l2 }
spec:
  addresses: [192.0.2.200-192.0.2.230, 2001:db8:1::200-2001:db8:1::2ff]
---
apiVersion: fairlead.dev/v1beta1
kind: L2Advertisement
metadata: { name: l2 }
spec: { ipAddressPools: [l2] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: bgp }
spec:
  autoAssign: false
  addresses: [198.51.100.0/24, 2001:db8:100::/64]
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: bgp }
spec: { ipAddressPools: [bgp] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: silent }
spec:
  autoAssign: false
  addresses: [192.0.2.240-192.0.2.249]
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: router-v4 }
spec: { myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, holdTime: 9s, keepaliveTime: 3s, connectTime: 1s }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: router-v6 }
spec: { myASN: 64513, peerASN: 64512, peerAddress: '2001:db8:1::1', holdTime: 9s, keepaliveTime: 3s, connectTime: 1s }
";

/// `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Policy {
    Cluster,
    Local,
}

/// The state of a pod behind a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodState {
    /// It takes connections.
    Ready,
    /// It is being deleted, and still takes connections where no other pod is ready.
    Terminating,
}

/// A Service of type LoadBalancer, by default in the namespace `default`, with TCP and UDP on port 80,
/// dual-stack.
#[derive(Clone, Debug)]
pub struct LbService {
    object: Value,
}

/// Applies [`CONFIG`], and waits for the BGP sessions and the mesh.
pub fn configure(lab: &Lab) -> Result<()> {
    lab.api()?.apply(CONFIG)?;
    crate::expect_sessions(lab, SOON)?;
    crate::expect_mesh(lab, SOON)
}

/// Merges a patch into a Service of the namespace `default`.
pub fn merge_service(lab: &Lab, name: &str, patch: Value) -> Result<()> {
    let object = json!({ "apiVersion": "v1", "kind": "Service",
                         "metadata": { "name": name, "namespace": "default" } });
    lab.api()?.merge(object, patch)
}

/// Creates a Service with one L2 address whose owner has no pod of it, and returns it with its address and
/// the owner. Without the owner, the address is served as soon as it moves.
pub fn service_off_its_owner(lab: &Lab, name: &str, family: &str) -> Result<(LbService, IpAddr, String)> {
    let service = LbService::new(name, "l2").single(family);
    let ip = *service.up(lab)?.first().context("the Service has no address")?;
    // A node that handed the address over a moment ago, for an earlier Service, still answers for 300 ms.
    let owner = wait_for(format!("an owner of {ip} that stays"), SOON, || {
        let first = lab.wait_for_owner(ip, SOON)?;
        std::thread::sleep(SECOND / 2);
        let second = lab.wait_for_owner(ip, SOON)?;
        if first == second { Ok(first.to_owned()) } else { Err(anyhow!("{first}, then {second}")) }
    })?;
    let others = lab.nodes().iter().map(|node| node.name());
    let backend = others.into_iter().find(|name| *name != owner).context("a lab of one node")?;
    merge_service(lab, name, json!({ "spec": { "selector": { "node": backend } } }))?;
    wait_for("only the chosen pod", SOON, || match reach(lab, ip, 5) {
        Ok(answered) if answered == nodes([backend]) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    expect_owner(lab, ip, &owner, SOON)?;
    Ok((service, ip, owner))
}

impl LbService {
    /// Returns a Service whose backends are the pods of all nodes, with addresses of `pool`.
    pub fn new(name: &str, pool: &str) -> Self {
        Self {
            object: json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": name, "namespace": "default",
                              "annotations": { "fairlead.dev/address-pool": pool } },
                "spec": {
                    "type": "LoadBalancer",
                    "ipFamilyPolicy": "RequireDualStack",
                    "selector": { "app": "web" },
                    "ports": [
                        { "name": "tcp", "protocol": "TCP", "port": 80, "targetPort": 8080 },
                        { "name": "udp", "protocol": "UDP", "port": 80, "targetPort": 8080 },
                    ],
                },
            }),
        }
    }

    /// Sets `externalTrafficPolicy`.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.object["spec"]["externalTrafficPolicy"] = json!(format!("{policy:?}"));
        self
    }

    /// Selects only the pods of one node.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.object["spec"]["selector"]["node"] = json!(node);
        self
    }

    /// Removes the selector: the test writes the endpoints.
    #[must_use]
    pub fn without_selector(mut self) -> Self {
        if let Some(spec) = self.object["spec"].as_object_mut() {
            spec.remove("selector");
        }
        self
    }

    /// Applies the EndpointSlice of one family, with these addresses of pods on `node`, which are ready.
    pub fn apply_endpoints(&self, lab: &Lab, family: &str, node: &str, pods: &[IpAddr]) -> Result<()> {
        let endpoints: Vec<_> = pods.iter().map(|ip| (node, *ip, PodState::Ready)).collect();
        self.apply_pods(lab, family, &endpoints)
    }

    /// Applies the EndpointSlice of one family, with these pods, each with its node and address.
    pub fn apply_pods(&self, lab: &Lab, family: &str, pods: &[(&str, IpAddr, PodState)]) -> Result<()> {
        let endpoints: Vec<Value> = pods
            .iter()
            .map(|(node, ip, state)| {
                let is_ready = *state == PodState::Ready;
                let conditions = json!({ "ready": is_ready, "serving": true, "terminating": !is_ready });
                json!({ "addresses": [ip], "nodeName": node, "conditions": conditions })
            })
            .collect();
        let port = |protocol: &str| json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": addresses::POD_PORT });
        lab.api()?
            .apply_object(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": { "name": format!("{}-{}", self.name(), family.to_lowercase()),
                              "namespace": self.namespace(),
                              "labels": { "kubernetes.io/service-name": self.name() } },
                "addressType": family,
                "endpoints": endpoints,
                "ports": [port("TCP"), port("UDP")],
            }))
            .map(drop)
    }

    /// Requests a single family, `IPv4` or `IPv6`.
    #[must_use]
    pub fn single(mut self, family: &str) -> Self {
        self.object["spec"]["ipFamilyPolicy"] = json!("SingleStack");
        self.object["spec"]["ipFamilies"] = json!([family]);
        self
    }

    /// Sets the namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.object["metadata"]["namespace"] = json!(namespace);
        self
    }

    /// Sets `ipFamilyPolicy`, and the families in this order.
    #[must_use]
    pub fn families(mut self, policy: &str, families: [&str; 2]) -> Self {
        self.object["spec"]["ipFamilyPolicy"] = json!(policy);
        self.object["spec"]["ipFamilies"] = json!(families);
        self
    }

    /// Sets the port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        for entry in self.object["spec"]["ports"].as_array_mut().into_iter().flatten() {
            entry["port"] = json!(port);
        }
        self
    }

    /// Sets `loadBalancerClass`.
    #[must_use]
    pub fn class(mut self, class: &str) -> Self {
        self.object["spec"]["loadBalancerClass"] = json!(class);
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.object["metadata"]["labels"][name] = json!(value);
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, name: &str, value: &str) -> Self {
        self.object["metadata"]["annotations"][name] = json!(value);
        self
    }

    /// Removes the request for a pool.
    #[must_use]
    pub fn any_pool(mut self) -> Self {
        self.object["metadata"]["annotations"] = json!({});
        self
    }

    /// Returns the object.
    pub fn object(&self) -> &Value {
        &self.object
    }

    pub fn name(&self) -> &str {
        self.object["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.object["metadata"]["namespace"].as_str().unwrap_or_default()
    }

    /// Applies the Service.
    pub fn apply(&self, lab: &Lab) -> Result<()> {
        lab.api()?.apply_object(self.object.clone()).map(drop)
    }

    /// Applies the Service and waits for its addresses, IPv4 first.
    pub fn up(&self, lab: &Lab) -> Result<Vec<IpAddr>> {
        self.apply(lab)?;
        let count = if self.object["spec"]["ipFamilyPolicy"] == "SingleStack" { 1 } else { 2 };
        let mut held = lab.api()?.wait_for_addresses(self.name(), count, SOON)?;
        held.sort();
        Ok(held)
    }

    /// Deletes the Service.
    pub fn delete(&self, lab: &Lab) -> Result<()> {
        lab.api()?.delete(&self.object.to_string())
    }
}
