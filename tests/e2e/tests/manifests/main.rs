//! The rendered manifests (`kubectl kustomize`, `helm template`), compared with the flags and ports of the
//! programs and with each other, and applied. `tests/setup.sh` installs the tools; without them the tests
//! fail.

#![allow(clippy::unwrap_used)]

mod chart;
mod overlays;
mod ports;
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use fairlead_lab::{Lab, NAMESPACE, binaries, netns};
use serde_json::{Value, json};

use tools::{kubectl, rendered, repository};

/// A program and the location of its manifests.
struct Program {
    name: &'static str,
    kind: &'static str,
    /// A port besides metrics: name, flag of the port, protocol.
    ports: &'static [(&'static str, &'static str, &'static str)],
    /// Capabilities that it keeps.
    capabilities: &'static [&'static str],
    /// Variables that take a field of the Pod.
    fields: &'static [(&'static str, &'static str)],
}

const PROGRAMS: [Program; 2] = [
    Program {
        name: "fairlead-controller",
        kind: "Deployment",
        ports: &[],
        capabilities: &[],
        fields: &[("FAIRLEAD_NAMESPACE", "metadata.namespace"), ("FAIRLEAD_POD_NAME", "metadata.name")],
    },
    Program {
        name: "fairlead-speaker",
        kind: "DaemonSet",
        ports: &[("mesh", "--mesh-port", "UDP")],
        capabilities: &["NET_RAW"],
        fields: &[
            ("FAIRLEAD_NODE_NAME", "spec.nodeName"),
            ("FAIRLEAD_NAMESPACE", "metadata.namespace"),
            ("HOST_IP", "status.hostIP"),
        ],
    },
];

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

fn names(objects: &[Value], kind: &str) -> BTreeSet<String> {
    let of_kind = objects.iter().filter(|object| object["kind"] == kind);
    of_kind.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Parses the `--help` of a program: flag → (environment variable, default).
fn flags(program: &str) -> BTreeMap<String, (String, String)> {
    let help = netns::output(Command::new(binaries::find(program).unwrap()).arg("--help")).unwrap();
    let mut flags = BTreeMap::new();
    let mut current = String::new();
    for line in help.lines().map(str::trim) {
        let word = line.split_whitespace().find(|word| word.starts_with("--"));
        if line.starts_with('-')
            && let Some(flag) = word
        {
            current = flag.to_owned();
            flags.insert(current.clone(), (String::new(), String::new()));
        }
        let bracket = |name: &str| line.strip_prefix(name)?.strip_suffix(']').map(str::to_owned);
        if let Some(entry) = flags.get_mut(&current) {
            if let Some(variable) = bracket("[env: ") {
                // `--help` includes the current value.
                entry.0 = variable.split('=').next().unwrap().to_owned();
            }
            if let Some(default) = bracket("[default: ") {
                entry.1 = default;
            }
        }
    }
    flags
}

fn port_of(default: &str) -> u16 {
    default.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn manifests_reference_existing_objects() {
    let objects = rendered("config/default");
    let namespace = find(&objects, "Namespace", NAMESPACE);
    // The speaker needs the host network, which no stricter Pod Security level admits.
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
    for object in &objects {
        let kind = object["kind"].as_str().unwrap();
        let cluster = [
            "Namespace",
            "CustomResourceDefinition",
            "ClusterRole",
            "ClusterRoleBinding",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
        ]
        .contains(&kind);
        let expected = if cluster { Value::Null } else { json!(NAMESPACE) };
        assert_eq!(object["metadata"]["namespace"], expected, "{kind} {}", object["metadata"]["name"]);
    }
    let accounts = names(&objects, "ServiceAccount");
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        for binding in objects.iter().filter(|object| object["kind"] == kind) {
            let role = &binding["roleRef"];
            find(&objects, role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
            for subject in binding["subjects"].as_array().unwrap() {
                assert_eq!(
                    (&subject["kind"], &subject["namespace"]),
                    (&json!("ServiceAccount"), &json!(NAMESPACE))
                );
                assert!(accounts.contains(subject["name"].as_str().unwrap()), "{subject}");
            }
        }
    }
    for Program { name, kind, .. } in PROGRAMS {
        let spec = &find(&objects, kind, name)["spec"];
        assert_eq!(spec["template"]["spec"]["serviceAccountName"], name);
        let labels = &spec["template"]["metadata"]["labels"];
        for (label, value) in spec["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels[label], *value, "{name} selects itself");
        }
    }
    let definitions = names(&objects, "CustomResourceDefinition");
    let kinds =
        ["bfdprofiles", "bgpadvertisements", "bgppeers", "communities", "ipaddresspools", "l2advertisements"];
    for kind in kinds.into_iter().chain(["speakers", "poolcooldowns"]) {
        assert!(definitions.contains(&format!("{kind}.fairlead.dev")), "{kind}");
    }
}

#[test]
fn manifests_grant_minimal_privileges() {
    let objects = rendered("config/default");
    for Program { name, kind, capabilities, .. } in PROGRAMS {
        let pod = &find(&objects, kind, name)["spec"]["template"]["spec"];
        assert_eq!(pod["containers"].as_array().unwrap().len(), 1, "{name}");
        let (container, speaker) = (&pod["containers"][0], name == "fairlead-speaker");
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
        assert_ne!(security["privileged"], true, "{name}");
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{name}");
        let kept = security["capabilities"]["add"].as_array().cloned().unwrap_or_default();
        assert_eq!(kept, *capabilities, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(pod["hostNetwork"].as_bool().unwrap_or_default(), speaker, "{name}");
        for forbidden in ["hostPID", "hostIPC", "volumes"] {
            assert_eq!(pod[forbidden], Value::Null, "{name}: {forbidden}");
        }
        // A program without file capabilities loses the capabilities of a user other than root.
        let non_root = &pod["securityContext"]["runAsNonRoot"];
        assert_eq!(non_root.as_bool().unwrap_or_default(), !speaker, "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name} has a memory limit");
    }
}

#[test]
fn manifests_match_program_flags() {
    let objects = rendered("config/default");
    let dockerfile = std::fs::read_to_string(repository().join("deploy/Dockerfile")).unwrap();
    for Program { name, kind, ports, fields, .. } in PROGRAMS {
        let flags = flags(name);
        let own = flags.iter().filter(|(flag, _)| !["--help", "--version"].contains(&flag.as_str()));
        for (flag, (variable, _)) in own {
            assert!(!variable.is_empty(), "{name} {flag} has no environment variable");
        }
        let container = &find(&objects, kind, name)["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["command"], json!([format!("/{name}")]));
        assert!(dockerfile.contains(&format!("-p {name} ")), "{name} is in the image");

        let mut expected = BTreeMap::from([("metrics", (port_of(&flags["--metrics-addr"].1), "TCP"))]);
        expected.extend(
            ports.iter().map(|(name, flag, protocol)| (*name, (port_of(&flags[*flag].1), *protocol))),
        );
        let declared: BTreeMap<&str, (u16, &str)> = container["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|port| {
                let number = u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap();
                (port["name"].as_str().unwrap(), (number, port["protocol"].as_str().unwrap_or("TCP")))
            })
            .collect();
        assert_eq!(declared, expected, "{name}");
        for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
            let get = &container[probe]["httpGet"];
            assert_eq!((&get["path"], &get["port"]), (&json!(path), &json!("metrics")), "{name} {probe}");
        }

        let given = given_variables(name, container, &flags);
        let of_fields = given.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        assert_eq!(of_fields.collect::<BTreeMap<_, _>>(), fields.iter().copied().collect(), "{name}");
    }
}

/// Returns the variables of a container, with the field of the Pod that each takes. Panics if the program has
/// no such variable or flag.
fn given_variables<'a>(
    program: &str,
    container: &'a Value,
    flags: &BTreeMap<String, (String, String)>,
) -> BTreeMap<&'a str, Option<String>> {
    let args: Vec<&str> =
        container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for arg in &args {
        let flag = arg.split('=').next().unwrap();
        assert!(flags.contains_key(flag), "{program} has no {flag}");
    }
    let variables: BTreeSet<&str> = flags.values().map(|(variable, _)| variable.as_str()).collect();
    let mut given = BTreeMap::new();
    for variable in container["env"].as_array().unwrap() {
        let of = variable["name"].as_str().unwrap();
        let in_args = args.iter().any(|arg| arg.contains(&format!("$({of})")));
        assert!(variables.contains(of) || in_args, "{program} reads no {of}, only {variables:?}");
        let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str().map(str::to_owned);
        given.insert(of, field);
    }
    given
}

#[test]
fn overlay_authorizes_requests_for_metrics() {
    let objects = rendered("config/overlays/metrics-auth");
    for Program { name, kind, .. } in PROGRAMS {
        let (variable, _) = &flags(name)["--metrics-auth"];
        let container = &find(&objects, kind, name)["spec"]["template"]["spec"]["containers"][0];
        let set = json!({ "name": variable, "value": "kubernetes" });
        assert!(container["env"].as_array().unwrap().contains(&set), "{name}");
        let subjects = &find(&objects, "ClusterRoleBinding", "fairlead-metrics-auth")["subjects"];
        assert!(subjects.as_array().unwrap().iter().any(|subject| subject["name"] == name), "{name}");
    }
}

#[test]
fn manifests_name_release_image() {
    let release = format!("fairlead/fairlead:v{}", env!("CARGO_PKG_VERSION"));
    for (folder, image) in [("config/default", release.as_str()), ("deploy/kind", "fairlead:dev")] {
        let objects = rendered(folder);
        for Program { name, kind, .. } in PROGRAMS {
            let container = &find(&objects, kind, name)["spec"]["template"]["spec"]["containers"][0];
            assert_eq!(container["image"], image, "{folder} {name}");
        }
        assert_eq!(objects.len(), rendered("config/default").len(), "{folder} has all objects");
    }
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    for object in rendered("config/overlays/with-prometheus") {
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/version"], version, "{}", object["kind"]);
    }
}

#[test]
fn manifests_and_samples_apply_twice() {
    let lab = Lab::builder().nodes(1).without_fairlead().start().unwrap();
    let kubectl = |args: &[&str]| {
        let mut command = kubectl();
        command
            .arg("--kubeconfig")
            .arg(lab.api_server().unwrap().kubeconfig())
            .arg("--cache-dir")
            .arg(lab.dir().join("kubectl-cache"))
            .args(args)
            .current_dir(repository());
        lab.network().control_plane.output(&mut command).unwrap()
    };
    for what in [
        ["-f", "dist/crds.yaml"],
        ["-f", "dist/install.yaml"],
        ["-k", "config/overlays/l2-only"],
        ["-k", "config/overlays/bgp-only"],
        ["-k", "deploy/kind"],
        ["-k", "config/samples"],
        ["-f", "deploy/kind/workload.yaml"],
    ] {
        let apply = |args: &[&str]| kubectl(&[&["apply", "--server-side"], what.as_slice(), args].concat());
        // The lab installs the definitions itself.
        let applied = apply(&["--force-conflicts"]);
        assert!(applied.lines().all(|line| line.ends_with("serverside-applied")), "{what:?}: {applied}");
        let columns = "custom-columns=:.kind,:.metadata.name,:.metadata.resourceVersion";
        let versions = || kubectl(&["get", what[0], what[1], "--no-headers", "-o", columns]);
        let before = versions();
        assert_eq!(before.lines().count(), applied.lines().count(), "{before}");
        apply(&[]);
        assert_eq!(versions(), before, "{what:?}: applying it again changes nothing");
    }
}

/// Returns true if the policy of this name admits an object of a writer.
fn admits(objects: &[Value], policy: &str, user_info: &Value, object: &Value) -> bool {
    let spec = &find(objects, "ValidatingAdmissionPolicy", policy)["spec"];
    let holds = |list: &Value| {
        list.as_array().into_iter().flatten().all(|entry| {
            let expression = entry["expression"].as_str().unwrap();
            let mut context = kube_cel::cel::Context::default();
            context.add_variable("request", json!({ "userInfo": user_info })).unwrap();
            context.add_variable("object", object.clone()).unwrap();
            let value = kube_cel::cel::Program::compile(expression).unwrap().execute(&context);
            value == Ok(kube_cel::cel::Value::Bool(true))
        })
    };
    !holds(&spec["matchConditions"]) || holds(&spec["validations"])
}

#[test]
fn policies_restrict_writers_to_their_own_objects() {
    let objects = rendered("config/default");
    for policy in names(&objects, "ValidatingAdmissionPolicy") {
        let binding = &find(&objects, "ValidatingAdmissionPolicyBinding", &policy)["spec"];
        assert_eq!(binding["policyName"], policy.as_str());
        assert_eq!(binding["validationActions"], json!(["Deny"]), "{policy}");
    }
    let account = |name: &str| format!("system:serviceaccount:{NAMESPACE}:{name}");
    let on_node = |node: &str| json!({ "authentication.kubernetes.io/node-name": [node] });
    let speaker = |extra: Value| json!({ "username": account("fairlead-speaker"), "extra": extra });
    let n1 = json!({ "metadata": { "name": "n1" }, "spec": {} });
    let with_class =
        |name: &str| json!({ "metadata": { "name": name }, "spec": { "loadBalancerClass": "a" } });
    for (user, object, expected) in [
        (speaker(on_node("n1")), &n1, true),
        (speaker(on_node("n2")), &n1, false),
        (speaker(json!({})), &n1, false),
        (json!({ "username": account("fairlead-speaker") }), &n1, false),
        (json!({ "username": "admin", "extra": on_node("n2") }), &n1, true),
        (speaker(on_node("n1")), &with_class("n1.fairlead-system"), true),
        (speaker(on_node("n2")), &with_class("n1.fairlead-system"), false),
        (speaker(on_node("n1")), &with_class("n1"), false),
    ] {
        assert_eq!(admits(&objects, "fairlead-speaker", &user, object), expected, "{user} {object}");
    }
    let controller = json!({ "username": account("fairlead-controller") });
    for (name, type_, expected) in [
        ("fairlead-mesh", "Opaque", true),
        ("fairlead-mesh", "kubernetes.io/service-account-token", false),
        ("other", "Opaque", false),
    ] {
        let secret = json!({ "metadata": { "name": name }, "type": type_ });
        assert_eq!(admits(&objects, "fairlead-controller", &controller, &secret), expected, "{secret}");
    }
}
