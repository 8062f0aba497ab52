//! The objects that the measures create.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use fairlead_lab::addresses;
use fairlead_lab::proxy::SERVICE_NAME;

/// Pools large enough for any number of Services (RFC 2544 reserves the range for benchmarks), some addresses
/// of the LAN, and the router as a peer.
pub(crate) const CONFIG: &str = "
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: bench-bgp }
spec: { autoAssign: false, addresses: [198.18.0.0/16] }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPAdvertisement
metadata: { name: bench-bgp }
spec: { ipAddressPools: [bench-bgp] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: bench-l2 }
spec: { autoAssign: false, addresses: [198.19.0.0/16] }
---
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: { name: lan }
spec: { autoAssign: false, addresses: [192.0.2.200-192.0.2.231] }
---
apiVersion: fairlead.dev/v1beta1
kind: L2Advertisement
metadata: { name: bench-l2 }
spec: { ipAddressPools: [bench-l2, lan] }
---
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: { name: router }
spec: { myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1, holdTime: 9s, keepaliveTime: 3s, connectTime: 1s }
";

/// A load-balancer class that no controller serves.
const NO_CLASS: &str = "fairlead.dev/unserved";

/// A pool of [`CONFIG`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Announced by BGP.
    Bgp,
    /// Announced by L2, outside the LAN's own range.
    L2,
    /// Announced by L2, on the LAN.
    Lan,
}

impl Pool {
    fn name(self) -> &'static str {
        match self {
            Self::Bgp => "bench-bgp",
            Self::L2 => "bench-l2",
            Self::Lan => "lan",
        }
    }
}

/// A Service of type LoadBalancer with one IPv4 address and no selector: its slices are created with it, so
/// that no other part of the lab acts on it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Name, in the namespace `default`.
    pub name: String,
    /// The pool of its address.
    pub pool: Pool,
    /// The address that it requests.
    pub address: Option<Ipv4Addr>,
    /// `externalTrafficPolicy: Local`.
    pub local: bool,
    /// True if the Service has [`NO_CLASS`].
    pub nobodys: bool,
}

impl Plan {
    /// Returns a Service that takes any address of `pool`.
    pub(crate) fn new(name: impl Into<String>, pool: Pool) -> Self {
        Self { name: name.into(), pool, address: None, local: false, nobodys: false }
    }

    /// Returns `count` Services, numbered from `first`, that use `pools` in turn.
    pub(crate) fn many(prefix: &str, first: usize, count: usize, pools: &[Pool]) -> Vec<Self> {
        let pool = |i: usize| pools.get(i % pools.len().max(1)).copied().unwrap_or(Pool::Bgp);
        (first..first + count).map(|i| Self::new(format!("{prefix}-{i:05}"), pool(i))).collect()
    }

    /// Returns the Service.
    pub(crate) fn service(&self) -> serde_json::Result<Service> {
        let mut annotations = json!({ "fairlead.dev/address-pool": self.pool.name() });
        if let Some(address) = self.address {
            annotations["fairlead.dev/load-balancer-ips"] = json!(address);
        }
        let mut object = json!({
            "metadata": { "name": self.name, "namespace": "default", "annotations": annotations },
            "spec": {
                "type": "LoadBalancer",
                "ipFamilyPolicy": "SingleStack",
                "ipFamilies": ["IPv4"],
                "allocateLoadBalancerNodePorts": false,
                "externalTrafficPolicy": if self.local { "Local" } else { "Cluster" },
                "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }],
            },
        });
        if self.nobodys {
            object["spec"]["loadBalancerClass"] = json!(NO_CLASS);
        }
        serde_json::from_value(object)
    }

    /// Returns its endpoints: a pod on the first node, and one on the second unless the policy is `Local`.
    pub(crate) fn slice(&self) -> serde_json::Result<EndpointSlice> {
        let nodes = if self.local { 1..=1 } else { 1..=2 };
        let endpoints: Vec<Value> = nodes
            .map(|i| {
                json!({ "addresses": [addresses::pod(i, 1).v4], "nodeName": format!("n{i}"),
                        "conditions": { "ready": true, "serving": true, "terminating": false } })
            })
            .collect();
        serde_json::from_value(json!({
            "metadata": { "name": self.name, "namespace": "default", "labels": { SERVICE_NAME: self.name } },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
        }))
    }
}

/// Returns the merge patch that sets the readiness of all endpoints of a slice of a `Local` Service.
pub(crate) fn readiness(ready: bool) -> Value {
    json!({ "endpoints": [{ "addresses": [addresses::pod(1, 1).v4], "nodeName": "n1",
            "conditions": { "ready": ready, "serving": ready, "terminating": false } }] })
}

/// Returns a status patch like the controller's: resourceVersion, pool, an address of it, three conditions.
/// `round` makes successive patches of the `i`th Service differ.
pub(crate) fn status_patch(version: &str, i: usize, round: usize) -> Value {
    let [high, low] = u16::try_from(i).unwrap_or_default().to_be_bytes();
    let address = Ipv4Addr::new(198, 18, high, low);
    let condition = |kind: &str, reason: &str, message: String| {
        json!({ "type": kind, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    json!({
        "metadata": {
            "resourceVersion": version,
            "annotations": { "fairlead.dev/ip-allocated-from-pool": "bench-bgp" },
        },
        "status": {
            "loadBalancer": { "ingress": [{ "ip": address, "ipMode": "VIP" }] },
            "conditions": [
                condition("fairlead.dev/Allocated", "Allocated", format!("{address} from IPAddressPool bench-{round:03}")),
                condition("fairlead.dev/Covered", "Covered", "an advertisement covers these addresses".to_owned()),
                condition("fairlead.dev/Advertised", "Announced", format!("{address} by BGP")),
            ],
        },
    })
}

/// Returns the status patch that removes the address.
pub(crate) fn no_status_patch(version: &str) -> Value {
    json!({
        "metadata": { "resourceVersion": version, "annotations": { "fairlead.dev/ip-allocated-from-pool": null } },
        "status": { "loadBalancer": { "ingress": null }, "conditions": [] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_spread_over_pools() {
        let plans = Plan::many("s", 10, 4, &[Pool::Bgp, Pool::L2]);
        let shown: Vec<_> = plans.iter().map(|plan| (plan.name.as_str(), plan.pool)).collect();
        assert_eq!(
            shown,
            [("s-00010", Pool::Bgp), ("s-00011", Pool::L2), ("s-00012", Pool::Bgp), ("s-00013", Pool::L2)]
        );
    }

    #[test]
    fn objects_parse_as_kubernetes_types() {
        let mut plan = Plan::new("a", Pool::Lan);
        plan.local = true;
        plan.nobodys = true;
        let spec = plan.service().unwrap().spec.unwrap();
        assert_eq!(spec.load_balancer_class.as_deref(), Some(NO_CLASS));
        assert_eq!(plan.slice().unwrap().endpoints.len(), 1);
        assert_eq!(Plan::new("b", Pool::Bgp).slice().unwrap().endpoints.len(), 2);
    }
}
