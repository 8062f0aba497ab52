//! Stands in for kube-proxy: translates Services and EndpointSlices into nftables rules, one table per node.
//!
//! It matches kube-proxy where traffic can tell: destination NAT in prerouting, a random ready endpoint, only
//! the node's own endpoints and the client's address under `externalTrafficPolicy: Local`, masquerade
//! otherwise. It does not implement source ranges, session affinity and health-check ports.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// Label of a slice with the name of its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Mark of packets that leave with the node's own address.
const MASQUERADE: &str = "0x4000";

/// The initial table of every node.
///
/// Packets from the LAN for an address that is not served are dropped. If the node returned them to the LAN,
/// connection tracking would keep them untranslated, and a client that reuses the port would get no answer.
/// kube-proxy removes such entries instead.
const TABLE: &str = "\
table inet fairlead-lab
delete table inet fairlead-lab
table inet fairlead-lab {
 map v4 { type ipv4_addr . inet_proto . inet_service : verdict; }
 map v6 { type ipv6_addr . inet_proto . inet_service : verdict; }
 chain services {
  ip daddr . meta l4proto . th dport vmap @v4
  ip6 daddr . meta l4proto . th dport vmap @v6
 }
 chain prerouting {
  type nat hook prerouting priority dstnat;
  jump services
 }
 chain output {
  type nat hook output priority -100;
  jump services
 }
 chain forward {
  type filter hook forward priority filter;
  iifname eth0 oifname eth0 ct status dnat accept
  iifname eth0 oifname eth0 drop
 }
 chain postrouting {
  type nat hook postrouting priority srcnat;
  meta mark & 0x4000 == 0x4000 masquerade
 }
}
";

/// A translated frontend: address, `tcp` or `udp`, port.
type Frontend = (IpAddr, &'static str, u16);

/// The rules of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Chains by name. The name is a hash of the content, so that equal backends share one.
    chains: BTreeMap<String, Vec<String>>,
    /// The chain of each frontend.
    frontends: BTreeMap<Frontend, String>,
}

/// The node that rules are computed for.
#[derive(Clone, Debug)]
pub struct Node {
    /// Name, as in `EndpointSlice.endpoints.nodeName`.
    pub name: String,
    /// Its own addresses, on which node ports are served.
    pub addresses: Vec<IpAddr>,
}

impl Rules {
    /// Returns the rules of `node` for all Services.
    pub fn of<'a>(
        node: &Node,
        services: impl IntoIterator<Item = (&'a Service, Vec<&'a EndpointSlice>)>,
    ) -> Self {
        let mut rules = Self::default();
        for (service, slices) in services {
            rules.add(node, service, &slices);
        }
        rules
    }

    /// Returns the nftables script that installs these rules on a node without rules.
    pub fn script(&self) -> String {
        TABLE.to_owned() + &self.change_from(&Self::default())
    }

    /// Returns the nftables script that turns the rules `old` into these; empty if they are equal.
    pub fn change_from(&self, old: &Self) -> String {
        let mut script = String::new();
        for (name, lines) in &self.chains {
            if !old.chains.contains_key(name) {
                let _ = writeln!(script, "add chain inet fairlead-lab {name}");
                for line in lines {
                    let _ = writeln!(script, "add rule inet fairlead-lab {name} {line}");
                }
            }
        }
        for (frontend, chain) in &old.frontends {
            if self.frontends.get(frontend) != Some(chain) {
                let _ = writeln!(script, "delete element inet fairlead-lab {}", element(frontend, None));
            }
        }
        for (frontend, chain) in &self.frontends {
            if old.frontends.get(frontend) != Some(chain) {
                let _ = writeln!(script, "add element inet fairlead-lab {}", element(frontend, Some(chain)));
            }
        }
        for name in old.chains.keys().filter(|name| !self.chains.contains_key(*name)) {
            let _ = writeln!(script, "flush chain inet fairlead-lab {name}");
            let _ = writeln!(script, "delete chain inet fairlead-lab {name}");
        }
        script
    }

    fn add(&mut self, node: &Node, service: &Service, slices: &[&EndpointSlice]) {
        let Some(spec) = &service.spec else { return };
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        let parse =
            |texts: &[String]| -> Vec<IpAddr> { texts.iter().filter_map(|ip| ip.parse().ok()).collect() };
        let cluster = parse(spec.cluster_ips.as_deref().unwrap_or_default());
        let mut external = parse(spec.external_ips.as_deref().unwrap_or_default());
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        for ingress in balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten() {
            // `Proxy`: the load balancer delivers to node addresses and expects traffic to reach it.
            if ingress.ip_mode.as_deref() != Some("Proxy") {
                external.extend(ingress.ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok()));
            }
        }
        for port in spec.ports.iter().flatten() {
            let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
                "TCP" => "tcp",
                "UDP" => "udp",
                _ => continue,
            };
            let mut open = |ip: IpAddr, number: Option<i32>, local: bool| {
                let Some(number) = number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0) else {
                    return;
                };
                let chain = self.chain(&backends(node, port, slices, ip, local), !local);
                self.frontends.insert((ip, protocol, number), chain);
            };
            cluster.iter().for_each(|ip| open(*ip, Some(port.port), false));
            external.iter().for_each(|ip| open(*ip, Some(port.port), local));
            node.addresses.iter().for_each(|ip| open(*ip, port.node_port, local));
        }
    }

    /// Returns the chain for these backends, and creates it if necessary.
    fn chain(&mut self, backends: &BTreeSet<(IpAddr, u16)>, masquerade: bool) -> String {
        let mut lines = Vec::new();
        match backends.first() {
            // A nat chain sees only the first packet of a connection; this rule drops every packet.
            None => lines.push("drop".to_owned()),
            Some((first, _)) => {
                if masquerade {
                    lines.push(format!("meta mark set meta mark or {MASQUERADE}"));
                }
                let family = if first.is_ipv4() { "ip" } else { "ip6" };
                let choices: Vec<String> = backends
                    .iter()
                    .enumerate()
                    .map(|(n, (ip, port))| format!("{n} : {ip} . {port}"))
                    .collect();
                lines.push(format!(
                    "meta l4proto {{ tcp, udp }} dnat {family} to numgen random mod {} map {{ {} }}",
                    choices.len(),
                    choices.join(", ")
                ));
            }
        }
        let mut hasher = DefaultHasher::new();
        lines.hash(&mut hasher);
        let name = format!("s{:016x}", hasher.finish());
        self.chains.entry(name.clone()).or_insert(lines);
        name
    }
}

/// Returns the endpoints of a port of the same family as `frontend`: the ready ones, else those that
/// terminate but serve.
fn backends(
    node: &Node,
    port: &ServicePort,
    slices: &[&EndpointSlice],
    frontend: IpAddr,
    local: bool,
) -> BTreeSet<(IpAddr, u16)> {
    let pick = |usable: fn(&Endpoint) -> bool| -> BTreeSet<(IpAddr, u16)> {
        let mut found = BTreeSet::new();
        for slice in slices {
            let target = slice.ports.iter().flatten().find(|p| {
                p.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default()
                    && p.protocol.as_deref().unwrap_or("TCP") == port.protocol.as_deref().unwrap_or("TCP")
            });
            let Some(number) = target.and_then(|p| u16::try_from(p.port?).ok()) else { continue };
            for endpoint in &slice.endpoints {
                if !usable(endpoint) || (local && endpoint.node_name.as_deref() != Some(&node.name)) {
                    continue;
                }
                let address = endpoint.addresses.first().and_then(|ip| ip.parse::<IpAddr>().ok());
                found.extend(address.filter(|ip| ip.is_ipv4() == frontend.is_ipv4()).map(|ip| (ip, number)));
            }
        }
        found
    };
    let ready = pick(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    if !ready.is_empty() {
        return ready;
    }
    pick(|e| e.conditions.as_ref().is_some_and(|c| c.terminating == Some(true) && c.serving.unwrap_or(false)))
}

fn element((ip, protocol, port): &Frontend, chain: Option<&str>) -> String {
    let map = if ip.is_ipv4() { "v4" } else { "v6" };
    let verdict = chain.map(|chain| format!(" : goto {chain}")).unwrap_or_default();
    format!("{map} {{ {ip} . {protocol} . {port}{verdict} }}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(policy: &str) -> Service {
        serde_json::from_value(json!({
            "metadata": { "name": "echo", "namespace": "default" },
            "spec": { "type": "LoadBalancer", "externalTrafficPolicy": policy, "clusterIPs": ["10.96.0.7"],
                      "ports": [{ "name": "u", "port": 53, "protocol": "UDP", "nodePort": 30053 }] },
            "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.200", "ipMode": "VIP" }] } },
        }))
        .unwrap()
    }

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "metadata": { "name": "echo-ipv4" }, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{ "name": "u", "port": 8080, "protocol": "UDP" }],
        }))
        .unwrap()
    }

    fn rules(node: &str, policy: &str, endpoints: serde_json::Value) -> String {
        let node = Node { name: node.into(), addresses: vec!["192.0.2.11".parse().unwrap()] };
        Rules::of(&node, [(&service(policy), vec![&slice(endpoints)])]).script()
    }

    fn two() -> serde_json::Value {
        json!([{ "addresses": ["10.244.1.2"], "nodeName": "n1", "conditions": { "ready": true } },
               { "addresses": ["10.244.2.2"], "nodeName": "n2" }])
    }

    #[test]
    fn cluster_policy_balances_and_masquerades() {
        let script = rules("n1", "Cluster", two());
        assert!(script.contains("mod 2 map { 0 : 10.244.1.2 . 8080, 1 : 10.244.2.2 . 8080 }"), "{script}");
        for frontend in ["192.0.2.200 . udp . 53", "10.96.0.7 . udp . 53", "192.0.2.11 . udp . 30053"] {
            assert!(script.contains(frontend), "{frontend} in {script}");
        }
        assert_eq!(script.matches("add chain").count(), 1, "equal backends share a chain: {script}");
    }

    #[test]
    fn local_policy_keeps_client_address() {
        let script = rules("n2", "Local", two());
        let external = script.lines().find(|line| line.contains("192.0.2.200")).unwrap();
        let chain = external.split("goto ").nth(1).unwrap().split(' ').next().unwrap();
        let lines: Vec<_> = script
            .lines()
            .filter(|line| line.starts_with(&format!("add rule inet fairlead-lab {chain}")))
            .collect();
        assert_eq!(lines.len(), 1, "no masquerade: {lines:?}");
        assert!(lines[0].contains("mod 1 map { 0 : 10.244.2.2 . 8080 }"), "{lines:?}");
    }

    #[test]
    fn terminating_endpoint_serves_without_ready_one() {
        let endpoints = json!([
            { "addresses": ["10.244.1.2"], "conditions": { "ready": false, "serving": true, "terminating": true } },
            { "addresses": ["10.244.2.2"], "conditions": { "ready": false } }]);
        let script = rules("n1", "Cluster", endpoints);
        assert!(script.contains("mod 1 map { 0 : 10.244.1.2 . 8080 }"), "{script}");
        assert!(rules("n1", "Cluster", json!([])).contains(" drop"));
    }

    #[test]
    fn rules_diff_contains_only_changes() {
        let node = Node { name: "n1".into(), addresses: Vec::new() };
        let service = service("Cluster");
        let (one, other) = (slice(two()), slice(json!([{ "addresses": ["10.244.3.2"] }])));
        let before = Rules::of(&node, [(&service, vec![&one])]);
        let after = Rules::of(&node, [(&service, vec![&other])]);
        assert_eq!(before.change_from(&before), "");
        let script = after.change_from(&before);
        let verbs: Vec<String> =
            script.lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            verbs,
            [
                "add chain",
                "add rule",
                "add rule",
                "delete element",
                "delete element",
                "add element",
                "add element",
                "flush chain",
                "delete chain"
            ]
        );
    }
}
