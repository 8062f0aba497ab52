//! Selection of Services by type and class, and the values that are read from them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use fairlead_crds::model::labels::PodSelector;
use fairlead_crds::model::service::{
    Excess, IpFamilyPolicy, LoadBalancer, MAX_PORTS, TooLong, TrafficPolicy,
};
use fairlead_crds::names;
use fairlead_crds::objects::Service;
use kube::ResourceExt;
use serde_json::{Value, json};

fn service(yaml: &str) -> Service {
    let given: Value = serde_yaml::from_str(yaml).unwrap();
    let mut service = json!({ "apiVersion": "v1", "kind": "Service" });
    service["metadata"] = json!({ "name": "web", "namespace": "shop" });
    for (key, value) in given["metadata"].as_object().into_iter().flatten() {
        service["metadata"][key] = value.clone();
    }
    service["spec"] = given["spec"].clone();
    service["status"] = given["status"].clone();
    serde_json::from_value(service).unwrap()
}

#[test]
fn services_are_selected_by_type_and_class() {
    let table = [
        ("{type: LoadBalancer}", None, true),
        ("{type: LoadBalancer}", Some(""), true),
        ("{type: LoadBalancer}", Some("fairlead.dev/lan"), false),
        ("{type: LoadBalancer, loadBalancerClass: fairlead.dev/lan}", Some("fairlead.dev/lan"), true),
        ("{type: LoadBalancer, loadBalancerClass: fairlead.dev/lan}", None, false),
        ("{type: LoadBalancer, loadBalancerClass: other}", Some("fairlead.dev/lan"), false),
        ("{type: ClusterIP}", None, false),
        ("{type: NodePort}", None, false),
        ("{}", None, false),
    ];
    for (spec, class, ours) in table {
        let service = service(&format!("spec: {spec}"));
        assert_eq!(
            LoadBalancer::from_service(&service, class).is_some(),
            ours,
            "{spec} with class {class:?}"
        );
    }
}

#[test]
fn service_fields_are_read() {
    let service = service(
        "
metadata:
  uid: 1b3
  resourceVersion: '77'
  creationTimestamp: '1970-01-01T00:01:40Z'
  labels: {app: web}
  annotations:
    fairlead.dev/ip-allocated-from-pool: lan
    fairlead.dev/allow-shared-ip: ' key '
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.9
  clusterIPs: [10.96.0.9, 'fd00::9']
  ipFamilyPolicy: RequireDualStack
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80}, {port: 80, protocol: UDP}, {port: 443, protocol: TCP}]
status:
  loadBalancer:
    ingress: [{ip: 192.0.2.200}, {hostname: example.org}, {ip: nonsense}, {ip: '2001:db8:1::200'}]
",
    );
    let read = LoadBalancer::from_service(&service, None).unwrap();
    assert_eq!(read.key.to_string(), "shop/web");
    assert_eq!((read.uid.as_str(), read.resource_version.as_str(), read.created), ("1b3", "77", 100));
    assert_eq!(
        read.cluster_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.96.0.9", "fd00::9"]
    );
    assert_eq!(
        read.ingress.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.200", "2001:db8:1::200"]
    );
    assert_eq!(read.ip_family_policy, IpFamilyPolicy::RequireDualStack);
    assert_eq!(read.traffic_policy, TrafficPolicy::Local);
    assert_eq!(
        read.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["TCP/80", "TCP/443", "UDP/80"]
    );
    assert_eq!(read.allocated_from.as_deref(), Some("lan"));
    assert_eq!(read.sharing_key.as_deref(), Some("key"));
    assert_eq!(read.labels.get("app"), Some("web"));
    assert_eq!(read.selector, PodSelector::from(service.labels()));
}

#[test]
fn service_without_cluster_ip_has_none() {
    for ip in ["clusterIP: None", "clusterIPs: [None]", "clusterIP: ''", "externalName: a"] {
        let service = service(&format!("spec: {{type: LoadBalancer, {ip}}}"));
        assert!(LoadBalancer::from_service(&service, None).unwrap().cluster_ips.is_empty(), "{ip}");
    }
    let service = service("spec: {type: LoadBalancer, clusterIP: 10.96.0.9}");
    assert_eq!(LoadBalancer::from_service(&service, None).unwrap().cluster_ips.len(), 1);
}

#[test]
fn metallb_annotations_are_aliases() {
    let table = [
        ("fairlead.dev/address-pool: lan", &["lan"][..], &[][..]),
        ("metallb.io/address-pool: lan", &["lan"], &[]),
        ("metallb.universe.tf/address-pool: lan", &["lan"], &[]),
        ("fairlead.dev/address-pool: ''", &[], &[]),
        // Different values are both kept; equal values are one request.
        ("{fairlead.dev/address-pool: lan, metallb.io/address-pool: wan}", &["lan", "wan"], &[]),
        ("{fairlead.dev/address-pool: lan, metallb.io/address-pool: lan}", &["lan"], &[]),
        ("fairlead.dev/load-balancer-ips: '192.0.2.1, 2001:db8::1'", &[], &["192.0.2.1, 2001:db8::1"]),
        ("metallb.io/loadBalancerIPs: 192.0.2.1", &[], &["192.0.2.1"]),
        ("metallb.universe.tf/loadBalancerIPs: 192.0.2.1", &[], &["192.0.2.1"]),
    ];
    for (annotations, pools, addresses) in table {
        let annotations = annotations.trim_matches(['{', '}']);
        let service = service(&format!(
            "{{metadata: {{annotations: {{{annotations}}}}}, spec: {{type: LoadBalancer}}}}"
        ));
        let requested = LoadBalancer::from_service(&service, None).unwrap().requested;
        assert_eq!(requested.pools.iter().collect::<Vec<_>>(), pools, "{annotations}");
        assert_eq!(requested.addresses.iter().collect::<Vec<_>>(), addresses, "{annotations}");
    }
    let both = service(
        "{metadata: {annotations: {metallb.io/loadBalancerIPs: 192.0.2.1}}, spec: {type: LoadBalancer, \
         loadBalancerIP: 192.0.2.2}}",
    );
    let requested = LoadBalancer::from_service(&both, None).unwrap().requested;
    assert_eq!(requested.addresses.iter().collect::<Vec<_>>(), ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn too_long_request_is_not_stored() {
    let spellings = [names::ADDRESS_POOL_SPELLINGS, names::LOAD_BALANCER_IPS_SPELLINGS];
    let keys = names::ALLOW_SHARED_IP_SPELLINGS;
    for (key, octets) in spellings.concat().iter().chain(&keys).flat_map(|key| [(key, 257), (key, 261_000)]) {
        let read = |octets: usize| {
            let annotations = serde_json::json!({ *key: "x".repeat(octets) });
            let object = serde_json::json!({
                "metadata": { "annotations": annotations }, "spec": { "type": "LoadBalancer" },
            });
            LoadBalancer::from_service(&serde_json::from_value(object).unwrap(), None).unwrap()
        };
        let balancer = read(octets);
        assert_eq!(balancer.requested.too_long, Some(TooLong { source: key, length: octets }));
        assert!(format!("{balancer:?}").len() < 2000, "{key}");
        assert_eq!(balancer.requested.lacks_sharing_key(), keys.contains(key));
        assert_eq!(read(256).requested.too_long, None);
    }
}

#[test]
fn labels_and_ports_beyond_the_bounds_are_not_stored() {
    let read = |labels: usize, ports: usize, annotations: Value| {
        let labels: Value =
            (0..labels).map(|n| (format!("l{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
        let ports: Vec<Value> =
            (1..=ports).rev().map(|port| json!({ "port": port, "protocol": "UDP" })).collect();
        let object = json!({
            "metadata": { "labels": labels, "annotations": annotations },
            "spec": { "type": "LoadBalancer", "ports": ports },
        });
        LoadBalancer::from_service(&serde_json::from_value(object).unwrap(), None).unwrap()
    };
    let shares = json!({ "fairlead.dev/allow-shared-ip": "k" });
    let within = read(256, MAX_PORTS, shares.clone());
    assert_eq!((within.labels.len(), within.ports.len(), within.requested.excess), (256, MAX_PORTS, None));
    let beyond = read(1, 50_000, shares);
    assert_eq!(beyond.requested.excess, Some(Excess::Ports(50_000)));
    assert_eq!(beyond.ports.last().unwrap().to_string(), format!("UDP/{MAX_PORTS}"));
    // Ports matter only for sharing.
    assert_eq!(read(1, 50_000, json!({})).requested.excess, None);
    let beyond = read(100_000, 1, json!({}));
    assert!(beyond.labels.is_empty());
    let message = beyond.requested.excess.unwrap().to_string();
    assert!(
        message.starts_with("the Service has 100000 labels with 688890 octets, and at most 256"),
        "{message}"
    );
}

#[test]
fn pool_annotation_no_controller_wrote_is_ignored() {
    let long = format!("{0},{0}", "x".repeat(253));
    for (value, expected) in [
        ("a", Some("a")),
        ("a,b", Some("a,b")),
        (" a, b ", Some("a, b")),
        (&long, Some(&*long)),
        ("", None),
        ("a,b,c", None),
        ("a\nb", None),
        ("A", None),
        (&long.replace(',', ""), None),
    ] {
        let object = serde_json::json!({
            "metadata": { "annotations": { names::ALLOCATED_FROM_POOL: value } },
            "spec": { "type": "LoadBalancer" },
        });
        let read = LoadBalancer::from_service(&serde_json::from_value(object).unwrap(), None).unwrap();
        assert_eq!(read.allocated_from.as_deref(), expected, "{value:?}");
    }
}

#[test]
fn different_sharing_keys_are_all_listed() {
    let table = [
        ("fairlead.dev/allow-shared-ip: a", &[][..]),
        ("fairlead.dev/allow-shared-ip: a, metallb.io/allow-shared-ip: a", &[]),
        ("fairlead.dev/allow-shared-ip: a, metallb.io/allow-shared-ip: ''", &[]),
        ("fairlead.dev/allow-shared-ip: a, metallb.io/allow-shared-ip: b", &["a", "b"]),
        ("fairlead.dev/allow-shared-ip: a, metallb.universe.tf/allow-shared-ip: b", &["a", "b"]),
    ];
    for (annotations, expected) in table {
        let service = service(&format!(
            "{{metadata: {{annotations: {{{annotations}}}}}, spec: {{type: LoadBalancer}}}}"
        ));
        let read = LoadBalancer::from_service(&service, None).unwrap();
        assert_eq!(read.requested.sharing_keys, expected, "{annotations}");
        assert_eq!(read.sharing_key.as_deref(), Some("a"), "{annotations}");
    }
}

#[test]
fn ports_and_selector_are_read_only_for_sharing() {
    let kept = |annotations: serde_json::Value, policy: &str| {
        let object = serde_json::from_value(serde_json::json!({
            "metadata": { "namespace": "a", "name": "s", "annotations": annotations },
            "spec": {
                "type": "LoadBalancer", "externalTrafficPolicy": policy, "selector": { "app": "web" },
                "ports": [{ "port": 80 }],
            },
        }));
        let service = LoadBalancer::from_service(&object.unwrap(), None).unwrap();
        (service.ports.len(), usize::from(service.selector != PodSelector::default()))
    };
    let shares = serde_json::json!({ "fairlead.dev/allow-shared-ip": "k" });
    assert_eq!(kept(serde_json::json!({}), "Local"), (0, 0));
    assert_eq!(kept(shares.clone(), "Cluster"), (1, 0));
    assert_eq!(kept(shares, "Local"), (1, 1));
}
