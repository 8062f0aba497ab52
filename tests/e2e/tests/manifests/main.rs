//! The rendered manifests (`kubectl kustomize`, `helm template`), compared with the flags and ports of the
//! programs and with each other, and applied. `tests/setup.sh` installs the tools; without them the tests
//! fail.

#![allow(clippy::unwrap_used)]

mod chart;
mod overlays;
mod ports;
mod tools;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;
use std::sync::Arc;

use fairlead_crds::stopped_speaker;
use fairlead_lab::{Lab, NAMESPACE, binaries, netns};
use kube_cel::cel::Value as Cel;
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

/// A request that a policy decides on.
struct Admission<'a> {
    user_info: &'a Value,
    /// Empty for the object itself.
    subresource: &'a str,
    /// `Null` for a new object.
    before: &'a Value,
    object: &'a Value,
}

/// Returns a value as the API server passes it to an expression: its integers are signed.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(truth) => Cel::Bool(*truth),
        Value::Number(number) => Cel::Int(number.as_i64().unwrap()),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), to_cel(value)));
            fields.collect::<HashMap<String, Cel>>().into()
        }
    }
}

/// kube-apiserver refuses literals of maps and lists whose values have different types; the evaluation in
/// these tests does not.
#[test]
fn policies_contain_no_literals_of_maps() {
    let objects = rendered("config/default");
    for policy in names(&objects, "ValidatingAdmissionPolicy") {
        let spec = &find(&objects, "ValidatingAdmissionPolicy", &policy)["spec"];
        let lists = ["matchConditions", "variables", "validations"].map(|list| spec[list].as_array());
        let entries: Vec<&Value> = lists.into_iter().flatten().flatten().collect();
        assert!(entries.len() >= 2, "{policy}: {entries:?}");
        for entry in entries {
            let expression = entry["expression"].as_str().unwrap();
            assert!(!expression.contains('{'), "{policy}: {expression}");
        }
    }
}

/// Returns true if the policy of this name admits a request.
fn admits(objects: &[Value], policy: &str, request: &Admission<'_>) -> bool {
    let spec = &find(objects, "ValidatingAdmissionPolicy", policy)["spec"];
    let mut context = kube_cel::cel::Context::default();
    let operation = if request.before.is_null() { "CREATE" } else { "UPDATE" };
    let of_request = json!({
        "userInfo": request.user_info, "operation": operation, "subResource": request.subresource,
    });
    context.add_variable_from_value("request", to_cel(&of_request));
    context.add_variable_from_value("object", to_cel(request.object));
    context.add_variable_from_value("oldObject", to_cel(request.before));
    let execute = |context: &kube_cel::cel::Context<'_>, entry: &Value| {
        let expression = entry["expression"].as_str().unwrap();
        kube_cel::cel::Program::compile(expression).unwrap().execute(context)
    };
    let truth = Ok(Cel::Bool(true));
    let entries = |list: &str| spec[list].as_array().cloned().unwrap_or_default();
    if !entries("matchConditions").iter().all(|entry| execute(&context, entry) == truth) {
        return true;
    }
    // All variables of our policies are conditions. An error is handled as a refusal (failurePolicy).
    let mut variables = serde_json::Map::new();
    for entry in entries("variables") {
        variables
            .insert(entry["name"].as_str().unwrap().to_owned(), json!(execute(&context, &entry) == truth));
    }
    context.add_variable_from_value("variables", to_cel(&Value::Object(variables)));
    entries("validations").iter().all(|entry| execute(&context, entry) == truth)
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
        let request = Admission { user_info: &user, subresource: "", before: &Value::Null, object };
        assert_eq!(admits(&objects, "fairlead-speaker", &request), expected, "{user} {object}");
    }
    let controller = json!({ "username": account("fairlead-controller") });
    for (name, type_, expected) in [
        ("fairlead-mesh", "Opaque", true),
        ("fairlead-mesh", "kubernetes.io/service-account-token", false),
        ("other", "Opaque", false),
    ] {
        let secret = json!({ "metadata": { "name": name }, "type": type_ });
        let request =
            Admission { user_info: &controller, subresource: "", before: &Value::Null, object: &secret };
        assert_eq!(admits(&objects, "fairlead-controller", &request), expected, "{secret}");
    }
}

/// A Speaker object as its speaker writes it, with a session.
fn running_speaker() -> Value {
    let condition = |type_: &str, reason: &str| {
        json!({ "type": type_, "status": "True", "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z" })
    };
    json!({
        "apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker",
        "metadata": { "name": "n2", "resourceVersion": "7", "generation": 1 },
        "spec": {},
        "status": {
            "version": "1.2.3", "ready": true, "establishedSessions": "1/1", "notAnnouncedCount": 0,
            "sessions": [{ "peer": "tor", "address": "192.0.2.1", "state": "Established", "flaps": 2,
                           "prefixes": 1, "phase": "Established" }],
            "l2": { "announced": 1, "addresses": ["192.0.2.200"], "complete": true },
            "bgp": { "announced": 0, "complete": true },
            "conditions": [condition("Eligible", "Eligible"), condition("Ready", "Running")],
        },
    })
}

#[test]
fn policy_admits_only_reports_in_foreign_speaker_objects() {
    let objects = rendered("config/default");
    let account = |name: &str| format!("system:serviceaccount:{NAMESPACE}:{name}");
    let on_n1 = json!({ "authentication.kubernetes.io/node-name": ["n1"] });
    let speaker = json!({ "username": account("fairlead-speaker"), "extra": on_n1 });
    let controller = json!({ "username": account("fairlead-controller"), "extra": on_n1 });
    let before = running_speaker();
    let read = serde_json::from_value(before.clone()).unwrap();
    let patch = stopped_speaker::report(&read, k8s_openapi::jiff::Timestamp::now()).unwrap();
    let mut report = before.clone();
    report["status"] = patch["status"].clone();
    let admitted = |user_info: &Value, subresource: &str, before: &Value, object: &Value| {
        let request = Admission { user_info, subresource, before, object };
        admits(&objects, "fairlead-speaker", &request)
    };
    for user in [&speaker, &controller] {
        assert!(admitted(user, "status", &before, &report), "{report}");
        assert!(!admitted(user, "", &before, &report), "not in the object itself");
        assert!(!admitted(user, "status", &Value::Null, &report), "not in a new object");
        assert!(!admitted(user, "status", &report, &report), "not in an object that is not ready");
        assert!(!admitted(user, "status", &before, &before), "nothing else");
    }
    let without_session = |object: &Value| {
        let mut object = object.clone();
        let status = object["status"].as_object_mut().unwrap();
        status.remove("sessions");
        status.remove("establishedSessions");
        object
    };
    assert!(admitted(&speaker, "status", &without_session(&before), &without_session(&report)));
    let established = json!({ "peer": "tor", "address": "192.0.2.1", "state": "Established", "flaps": 0,
                              "prefixes": 0 });
    let other = json!({ "type": "Other", "status": "True", "reason": "A", "message": "",
                        "lastTransitionTime": "2026-01-01T00:00:00Z" });
    for (path, value) in [
        ("/status/ready", json!(true)),
        ("/status/version", json!("9.9.9")),
        ("/status/establishedSessions", json!("1/1")),
        ("/status/notAnnouncedCount", json!(1)),
        ("/status/l2/announced", json!(1)),
        ("/status/l2/addresses", json!(["192.0.2.200"])),
        ("/status/bgp/complete", json!(false)),
        ("/status/notAnnounced", json!([])),
        ("/status/sessions/0", established),
        ("/status/sessions/0/peer", json!("other")),
        ("/status/sessions/0/messages", json!(["text"])),
        ("/status/conditions/0/status", json!("False")),
        ("/status/conditions/0", other),
        ("/status/conditions/1/status", json!("True")),
        ("/status/conditions/1/reason", json!("Stopped")),
        ("/status/conditions/1/message", json!("text")),
    ] {
        let mut forged = report.clone();
        let (parent, field) = path.rsplit_once('/').unwrap();
        let parent = forged.pointer_mut(parent).unwrap();
        match field.parse::<usize>() {
            Ok(index) => parent[index] = value,
            Err(_) => parent[field] = value,
        }
        assert!(!admitted(&speaker, "status", &before, &forged), "{path}");
    }
}
