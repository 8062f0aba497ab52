//! The overlays in `config/overlays`.

use super::*;
use crate::tools::validate;

const OVERLAYS: [&str; 6] = [
    "config/default",
    "config/overlays/l2-only",
    "config/overlays/bgp-only",
    "config/overlays/with-prometheus",
    "config/overlays/metrics-auth",
    "deploy/kind",
];

/// Returns the Secrets that a Role or ClusterRole grants to read, by name; `*` if all.
fn readable_secrets(objects: &[Value]) -> BTreeSet<String> {
    let rules = objects.iter().filter_map(|object| object["rules"].as_array()).flatten();
    let of_secrets = rules.filter(|rule| {
        rule["resources"].as_array().is_some_and(|resources| resources.contains(&json!("secrets")))
    });
    of_secrets
        .flat_map(|rule| match rule["resourceNames"].as_array() {
            Some(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => vec!["*".to_owned()],
        })
        .collect()
}

fn container(objects: &[Value]) -> Value {
    find(objects, "DaemonSet", "fairlead-speaker")["spec"]["template"]["spec"]["containers"][0].clone()
}

fn protocols(objects: &[Value]) -> Vec<Value> {
    let containers = PROGRAMS.map(|Program { name, kind, .. }| {
        find(objects, kind, name)["spec"]["template"]["spec"]["containers"][0]["env"].clone()
    });
    let variables = containers.iter().flat_map(|env| env.as_array().unwrap());
    variables
        .filter(|entry| entry["name"] == "FAIRLEAD_PROTOCOLS")
        .map(|entry| entry["value"].clone())
        .collect()
}

#[test]
fn every_object_has_the_recommended_labels() {
    let mut all = Vec::new();
    for overlay in OVERLAYS {
        let objects = rendered(overlay);
        all.extend(objects.iter().map(Value::to_string));
        for object in &objects {
            for label in ["name", "component", "version", "part-of", "managed-by"] {
                let value = &object["metadata"]["labels"][format!("app.kubernetes.io/{label}")];
                let name = format!("{overlay}: {} {}", object["kind"], object["metadata"]["name"]);
                assert!(value.is_string(), "{name} has no label {label}");
            }
        }
    }
    validate("the overlays", &all.join("\n---\n"));
}

#[test]
fn l2_only_overlay_grants_no_right_to_passwords() {
    let all = readable_secrets(&rendered("config/default"));
    assert_eq!(all, ["fairlead-bgp-password".to_owned(), "fairlead-mesh".to_owned()].into());
    let objects = rendered("config/overlays/l2-only");
    assert_eq!(readable_secrets(&objects), ["fairlead-mesh".to_owned()].into());
    assert_eq!(protocols(&objects), ["l2", "l2"]);
}

#[test]
fn bgp_only_overlay_has_no_mesh_and_no_capability() {
    let objects = rendered("config/overlays/bgp-only");
    assert_eq!(readable_secrets(&objects), ["fairlead-bgp-password".to_owned()].into());
    assert_eq!(names(&objects, "Secret"), BTreeSet::new());
    assert_eq!(protocols(&objects), ["bgp", "bgp"]);
    let container = container(&objects);
    assert_eq!(container["securityContext"]["capabilities"], json!({ "drop": ["ALL"], "add": [] }));
    let ports = container["ports"].as_array().unwrap().iter().map(|port| port["name"].clone());
    assert_eq!(ports.collect::<Vec<_>>(), ["metrics"]);
}

#[test]
fn component_for_passive_peers_adds_one_capability_to_each_overlay() {
    for (base, expected) in [
        ("config/default", &["NET_RAW", "NET_BIND_SERVICE"][..]),
        ("config/overlays/bgp-only", &["NET_BIND_SERVICE"]),
    ] {
        // kustomize refuses absolute paths.
        let folder = format!("target/kustomization-{}", base.replace('/', "-"));
        let kustomization =
            format!("resources: [../../{base}]\ncomponents: [../../config/components/passive-peers]\n");
        std::fs::create_dir_all(repository().join(&folder)).unwrap();
        std::fs::write(repository().join(&folder).join("kustomization.yaml"), kustomization).unwrap();
        let capabilities = container(&rendered(&folder))["securityContext"]["capabilities"].clone();
        assert_eq!(capabilities, json!({ "drop": ["ALL"], "add": expected }), "{base}");
    }
}

#[test]
fn prometheus_overlay_adds_monitors_and_rules_with_existing_metrics() {
    let objects = rendered("config/overlays/with-prometheus");
    let added: Vec<&Value> =
        objects.iter().filter(|object| object["apiVersion"] == "monitoring.coreos.com/v1").collect();
    assert_eq!(added.len(), 3);
    assert_eq!(objects.len(), rendered("config/default").len() + added.len());
    for component in ["controller", "speaker"] {
        let monitor = find(&objects, "PodMonitor", &format!("fairlead-{component}"));
        let kind = if component == "controller" { "Deployment" } else { "DaemonSet" };
        let pods = &find(&objects, kind, &format!("fairlead-{component}"))["spec"]["template"]["metadata"];
        for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(pods["labels"][label], *value, "{component}");
        }
    }
    // A test of each program compares this page with what it exports.
    let documented = std::fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let rules = find(&objects, "PrometheusRule", "fairlead")["spec"]["groups"][0]["rules"].clone();
    let rules = rules.as_array().unwrap();
    assert!(rules.len() >= 5, "{rules:?}");
    for rule in rules {
        let expression = rule["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics: Vec<&str> = words.filter(|word| word.starts_with("fairlead_")).collect();
        assert!(!metrics.is_empty() || expression.contains("up{"), "{expression}");
        for metric in metrics {
            assert!(documented.contains(&format!("`{metric}`")), "{}: no metric {metric}", rule["alert"]);
        }
    }
}

/// What a user may do to whom Kubernetes' own ClusterRoles are bound: verbs for IPClaims, and for pools.
#[test]
fn users_with_aggregated_roles_read_all_and_admins_write_claims() {
    let objects = rendered("config/default");
    let verbs = |role: &str, resource: &str| -> BTreeSet<String> {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{role}");
        let roles = objects.iter().filter(|object| object["metadata"]["labels"][&label] == "true");
        let rules = roles.flat_map(|role| role["rules"].as_array().unwrap());
        let rules = rules.filter(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource)));
        rules
            .flat_map(|rule| rule["verbs"].as_array().unwrap())
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    };
    let definitions = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
    for definition in definitions {
        let resource = definition["spec"]["names"]["plural"].as_str().unwrap();
        for role in ["view", "edit", "admin"] {
            let read: BTreeSet<String> = ["get", "list", "watch"].map(str::to_owned).into();
            let verbs = verbs(role, resource);
            assert!(verbs.is_superset(&read), "{role} {resource}: {verbs:?}");
            assert_eq!(
                verbs.len() > read.len(),
                (role, resource) == ("admin", "ipclaims"),
                "{role} {resource}"
            );
        }
    }
}
