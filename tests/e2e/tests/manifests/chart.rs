//! The Helm chart.

use super::*;
use crate::tools::{tool, try_chart, validate};

/// Labels and annotations that only the chart has, or that have another value there.
const OWN_LABELS: [&str; 3] = ["helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by"];
const KEEP: &str = "helm.sh/resource-policy";

fn chart(namespace: &str, values: &str) -> Vec<Value> {
    fairlead_lab::api::documents(&try_chart(namespace, values).unwrap()).unwrap()
}

/// Returns the objects by kind and name, without what only the chart has.
fn normalized(objects: Vec<Value>) -> BTreeMap<(String, String), Value> {
    let without_own = |metadata: &mut Value| {
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            OWN_LABELS.iter().for_each(|label| drop(labels.remove(*label)));
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(KEEP);
            if annotations.is_empty() {
                metadata.as_object_mut().unwrap().remove("annotations");
            }
        }
    };
    let by_name = objects.into_iter().map(|mut object| {
        without_own(&mut object["metadata"]);
        if let Some(metadata) = object.pointer_mut("/spec/template/metadata") {
            without_own(metadata);
        }
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        ((text(&object["kind"]), text(&object["metadata"]["name"])), object)
    });
    by_name.collect()
}

#[test]
fn chart_passes_strict_lint() {
    let output =
        tool("helm").args(["lint", "--strict", "deploy/helm/fairlead"]).current_dir(repository()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let chart = std::fs::read_to_string(repository().join("deploy/helm/fairlead/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for line in [format!("version: {version}"), format!("appVersion: v{version}")] {
        assert!(chart.lines().any(|known| known == line), "Chart.yaml has no {line}");
    }
}

#[test]
fn default_chart_equals_default_manifests() {
    let mut manifests = normalized(rendered("config/default"));
    // `helm install --create-namespace` creates the namespace.
    manifests.remove(&("Namespace".to_owned(), NAMESPACE.to_owned())).unwrap();
    let chart = normalized(chart(NAMESPACE, ""));
    assert_eq!(
        chart.keys().collect::<Vec<_>>(),
        manifests.keys().collect::<Vec<_>>(),
        "change deploy/helm/fairlead/templates, or run: make manifests"
    );
    for (name, object) in &manifests {
        assert_eq!(chart[name], *object, "{name:?}: change config/ and deploy/helm/fairlead/templates alike");
    }
}

type Texts = &'static [&'static str];

/// Given values: what the objects contain and what they do not, as text.
const VALUES: [(&str, &str, &str, Texts, Texts); 9] = [
    (
        "L2 only",
        NAMESPACE,
        "protocols: [l2]",
        &["value: \"l2\"", "add: [NET_RAW]", "fairlead-speaker-mesh"],
        &["fairlead-bgp-password"],
    ),
    (
        "BGP only",
        NAMESPACE,
        "{protocols: [bgp], bgpPasswordSecrets: [tor-a, tor-b]}",
        &["value: \"bgp\"", "- tor-b"],
        &["add: [", "name: mesh", "fairlead-mesh\n", "fairlead-speaker-mesh", "- --bgp-listen-port"],
    ),
    (
        "passive and unnumbered peers",
        NAMESPACE,
        "{protocols: [bgp], speaker: {bgp: {listenPort: 179, unnumbered: true}}}",
        &["- --bgp-listen-port=179", "add: [NET_RAW, NET_BIND_SERVICE]"],
        &[],
    ),
    (
        "passive peers on a port without privileges",
        NAMESPACE,
        "speaker: {bgp: {listenPort: 1790}}",
        &["- --bgp-listen-port=1790", "add: [NET_RAW]"],
        &[],
    ),
    (
        "passive peers without BGP",
        NAMESPACE,
        "{protocols: [l2], speaker: {bgp: {listenPort: 179}}}",
        &["add: [NET_RAW]"],
        &["- --bgp-listen-port", "NET_BIND_SERVICE"],
    ),
    (
        "second instance",
        "second",
        "{lbClass: example.com/second, mesh: {port: 7950}, speaker: {metricsPort: 7951}, crds: {install: false}}",
        &[
            "value: \"example.com/second\"",
            "--mesh-port=7950",
            "$(HOST_IP):7951",
            "name: fairlead-controller-second",
            "system:serviceaccount:second:fairlead-speaker",
        ],
        &["CustomResourceDefinition", "fairlead-system"],
    ),
    (
        "private registry",
        NAMESPACE,
        "
image:
  repository: registry.example:5000/fairlead
  digest: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  pullPolicy: Always
imagePullSecrets: [{name: registry}]
controller: {nodeSelector: {pool: infra}, affinity: {nodeAffinity: {}}, priorityClassName: ''}
speaker: {tolerations: [], excludeInterfaces: ['docker*', eth9], l2Detection: swim,
          l2Probe: false, extraArgs: [--drain-wait=5s]}
",
        &[
            "image: registry.example:5000/fairlead@sha256:01234567",
            "- name: registry",
            "pool: infra",
            "--l2-detection=swim",
            "--l2-probe=false",
            "--exclude-interfaces=docker*,eth9",
            "--drain-wait=5s",
        ],
        &["system-cluster-critical", "operator: Exists, effect: NoExecute"],
    ),
    (
        "monitoring",
        NAMESPACE,
        "
metrics:
  auth: kubernetes
  podMonitor: {enabled: true, labels: {release: prometheus}, interval: 30s}
  serviceMonitor: {enabled: true}
  prometheusRule: {enabled: true}
",
        &[
            "kind: PodMonitor",
            "kind: ServiceMonitor",
            "kind: PrometheusRule",
            "release: prometheus",
            "interval: 30s",
            "IPAddressPool {{ $labels.pool }}",
            "name: FAIRLEAD_METRICS_AUTH",
            "- tokenreviews",
        ],
        &[],
    ),
    (
        "small cluster",
        NAMESPACE,
        "
commonLabels: {team: net}
commonAnnotations: {owner: ops}
log: {level: 'info,fairlead_bgp=debug', format: json}
networkPolicy: {enabled: false}
podDisruptionBudget: {enabled: false}
crds: {keep: false}
controller: {replicas: 1, metricsPort: 8472, podLabels: {tier: control}, podAnnotations: {note: a}}
speaker: {updateStrategy: {type: OnDelete}, terminationGracePeriodSeconds: 70}
",
        &[
            "team: net",
            "owner: ops",
            "value: \"info,fairlead_bgp=debug\"",
            "value: \"json\"",
            "--metrics-addr=:8472",
            "type: OnDelete",
            "tier: control",
        ],
        &["kind: NetworkPolicy", "kind: PodDisruptionBudget", KEEP],
    ),
];

#[test]
fn chart_renders_valid_manifests_for_each_set_of_values() {
    let programs = PROGRAMS.map(|program| {
        let flags = flags(program.name);
        (program, flags)
    });
    for (what, namespace, values, present, absent) in VALUES {
        let text = try_chart(namespace, values).unwrap_or_else(|error| panic!("{what}: {error}"));
        validate(what, &text);
        for part in present {
            assert!(text.contains(part), "{what}: no {part:?} in {text}");
        }
        for part in absent {
            assert!(!text.contains(part), "{what}: {part:?} in {text}");
        }
        assert!(!text.contains("helm.sh/hook"), "{what}: hooks can fail half way");
        let objects = fairlead_lab::api::documents(&text).unwrap();
        for (Program { name, kind, .. }, flags) in &programs {
            let container = &find(&objects, kind, name)["spec"]["template"]["spec"]["containers"][0];
            given_variables(name, container, flags);
        }
        let keys: BTreeSet<String> = objects
            .iter()
            .map(|object| {
                let metadata = &object["metadata"];
                format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"])
            })
            .collect();
        assert_eq!(keys.len(), objects.len(), "{what}: each object once");
    }
}

#[test]
fn two_releases_share_no_object_but_the_definitions() {
    let names = |objects: Vec<Value>| -> BTreeSet<String> {
        let of = |object: &Value| {
            format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"])
        };
        objects.iter().map(of).collect()
    };
    let auth = "metrics: {auth: kubernetes}";
    let (first, second) = (names(chart(NAMESPACE, auth)), names(chart("second", auth)));
    let shared: Vec<&String> = first.intersection(&second).collect();
    assert!(shared.iter().all(|name| name.contains("CustomResourceDefinition")), "{shared:?}");
}

#[test]
fn definitions_are_kept_at_uninstall() {
    let objects = chart(NAMESPACE, "");
    for object in objects {
        let keep = object["metadata"]["annotations"][KEEP] == "keep";
        assert_eq!(keep, object["kind"] == "CustomResourceDefinition", "{}", object["metadata"]["name"]);
    }
}

#[test]
fn chart_refuses_wrong_values() {
    for (values, part) in [
        ("mesh: {port: 70000}", "/mesh/port"),
        ("mesh: {prot: 7947}", "prot"),
        ("protocols: []", "/protocols"),
        ("protocols: [ospf]", "/protocols/0"),
        ("log: {format: xml}", "/log/format"),
        ("log: {level: loud}", "/log/level"),
        ("image: {tag: 'v1:2'}", "/image/tag"),
        ("image: {digest: abc}", "/image/digest"),
        ("imagePullSecrets: [registry]", "/imagePullSecrets/0"),
        ("controller: {replicas: two}", "/controller/replicas"),
        ("speaker: {excludeInterfaces: 'docker*'}", "/speaker/excludeInterfaces"),
        ("speaker: {l2Detection: slow}", "/speaker/l2Detection"),
        ("speaker: {extraArgs: [drain-wait]}", "/speaker/extraArgs/0"),
        ("metrics: {auth: basic}", "/metrics/auth"),
        ("lbclass: a", "lbclass"),
    ] {
        let error = try_chart(NAMESPACE, values).expect_err(values);
        assert!(
            error.contains("values don't meet the specifications") && error.contains(part),
            "{values}: {error}"
        );
    }
}
