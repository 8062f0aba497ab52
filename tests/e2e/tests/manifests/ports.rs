//! The ports on the network of the nodes, compared with those of others that run there.

use super::*;
use crate::tools::try_chart;

/// Ports that others use on the network of a node, in their default configuration. Sources: the manifests and
/// charts of each project, and the lists of firewall rules in the documentation of Cilium and Calico.
const OTHERS: &[(&str, &[u16])] = &[
    // memberlist, metrics, metrics of FRR, both behind TLS; frr-k8s: the same, its webhook, its status.
    ("MetalLB", &[7946, 7472, 7473, 9120, 9121, 7572, 7573, 9140, 9141, 19443, 8081]),
    // Health, Hubble, authentication, profiling, Envoy, gops, metrics, overlays, WireGuard, the operator.
    ("Cilium", &[4240, 4244, 4245, 4250, 4251, 6060, 6061, 6062, 6081, 8472, 9234]),
    ("Cilium", &[9878, 9879, 9890, 9891, 9892, 9893, 9901, 9962, 9963, 9964, 9965, 51871]),
    // BGP, VXLAN, Typha, metrics, health, WireGuard.
    ("Calico", &[179, 4789, 5473, 9081, 9091, 9092, 9093, 9094, 9098, 9099, 51820, 51821]),
    ("Kubernetes", &[2379, 2380, 2381, 6443, 10248, 10249, 10250, 10255, 10256, 10257, 10259]),
    ("the node exporter of Prometheus", &[9100]),
    // RFC 5881 and RFC 5883: BFD sessions of the speakers, and of FRR on the same node.
    ("BFD", &[3784, 3785, 4784]),
];

/// Returns the ports that containers open on the network of the node, with the name of the port.
fn host_ports(objects: &[Value]) -> BTreeMap<u16, String> {
    let mut ports = BTreeMap::new();
    for object in objects {
        let pod = &object["spec"]["template"]["spec"];
        let on_host = pod["hostNetwork"] == true;
        for container in pod["containers"].as_array().into_iter().flatten() {
            for port in container["ports"].as_array().into_iter().flatten() {
                let declared = if on_host { &port["containerPort"] } else { &port["hostPort"] };
                if on_host {
                    // The scheduler then lets no two pods with the same port on one node.
                    assert_eq!(port["hostPort"], port["containerPort"], "{port}");
                }
                if let Some(number) = declared.as_u64() {
                    let name = format!("{} {}", object["metadata"]["name"], port["name"]);
                    ports.insert(u16::try_from(number).unwrap(), name);
                }
            }
        }
    }
    ports
}

#[test]
fn declared_host_ports_are_used_by_no_other_project() {
    let ports = host_ports(&rendered("config/default"));
    assert_eq!(ports.keys().copied().collect::<Vec<_>>(), [7474, 7947]);
    for (project, theirs) in OTHERS {
        for port in *theirs {
            assert_eq!(ports.get(port), None, "{project} uses port {port}");
        }
    }
    for (port, name) in &ports {
        assert!(!(30_000..=32_767).contains(port), "{name} is a node port");
    }
    let chart = fairlead_lab::api::documents(&try_chart(NAMESPACE, "").unwrap()).unwrap();
    assert_eq!(host_ports(&chart), ports);
}
