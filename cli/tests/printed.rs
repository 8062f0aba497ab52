//! What `fairlead` prints in typical situations, compared whole with the files in `expected/`. The documents
//! show parts of these files.
//!
//! With `FAIRLEAD_UPDATE_EXPECTED=1`, the test writes the files.
#![allow(clippy::unwrap_used)]

mod kubectl;
mod scene;

use std::path::{Path, PathBuf};

use fairlead_apiserver::Fault;
use fairlead_crds::stopped_speaker;
use scene::{LONG_AGO, Scene, ago, announced, condition, daemonset, down, interfaces, refused, silent};
use serde_json::{Value, json};

fn expected(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(format!("{name}.txt"))
}

/// Runs the commands and compares what they print with a file.
fn check(scene: &Scene, name: &str, commands: &[(&str, i32)]) {
    let mut printed = String::new();
    for (command, status) in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let (code, out, error) = scene.run(&arguments);
        assert_eq!(code, *status, "{command}\n{out}{error}");
        printed += &format!("$ fairlead {command}\n{out}{error}\n");
    }
    compare(name, &printed);
}

/// Compares what `kubectl get` prints with a file, if kubectl is installed.
fn check_kubectl(scene: &Scene, name: &str) {
    let Some(kubectl) = kubectl::path() else { return };
    let commands = ["services -A", "ipaddresspools", "bgppeers", "speakers"].map(|what| {
        let printed = kubectl::get(&kubectl, scene.kubeconfig(), what);
        format!("$ kubectl get {what}\n{printed}\n")
    });
    compare(&format!("kubectl-{name}"), &commands.concat());
}

fn compare(name: &str, printed: &str) {
    let file = expected(name);
    if std::env::var_os("FAIRLEAD_UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, printed).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(printed == expected, "{} differs; printed:\n{printed}\nexpected:\n{expected}", file.display());
}

/// Without kubectl, the other tests compare only what `fairlead` prints. `make unit` leaves this test out.
#[test]
fn kubectl_is_installed() {
    let place = kubectl::PLACE;
    assert!(kubectl::path().is_some(), "kubectl is not installed in {place}; run: make setup");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn healthy_cluster_has_no_problems() {
    let scene = Scene::start("healthy").await;
    scene.healthy().await;
    check(
        &scene,
        "healthy",
        &[
            ("status", 0),
            ("status service", 0),
            ("status service -n shop web -o wide", 0),
            ("status node", 0),
            ("status node n1", 0),
            ("status peer", 0),
            ("status pool -o wide", 0),
            ("explain service shop/web", 0),
            ("explain service -n shop api", 0),
            ("explain address 192.0.2.10", 0),
            ("explain address 192.0.2.11", 1),
            ("explain address 192.0.2.9", 1),
            ("explain pool public", 0),
            ("explain peer tor1", 0),
            ("explain node n1", 0),
            ("routes n1", 0),
            ("routes n1 tor2", 0),
            ("version", 0),
            ("status pool lan -o yaml", 0),
            ("explain service shop/absent", 2),
        ],
    );
    check_kubectl(&scene, "healthy");
}

/// The order of the nodes is the one that the speakers compute: a node without the interface is not in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_without_interface_is_no_candidate() {
    let scene = Scene::start("interfaces").await;
    scene.healthy().await;
    let l2 = |interfaces| json!({ "l2": { "announced": 0, "addresses": [], "complete": true, "interfaces": interfaces } });
    scene.speaker("n2", l2(json!([]))).await;
    scene.speaker("n3", l2(interfaces(&["IPv6"]))).await;
    check(&scene, "interfaces", &[("explain service shop/web", 0), ("explain node n2", 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_stopped_speakers_are_named() {
    let scene = Scene::start("speakers").await;
    scene.healthy().await;
    let idle = |peer: &str, address: &str| json!({ "peer": peer, "address": address, "state": "Idle" });
    let dead = |reason: &str, message: &str| {
        json!({ "ready": false, "conditions": [condition("Ready", "False", reason, message)],
                "sessions": [idle("tor1", "10.0.0.1"), idle("tor2", "10.0.0.2")],
                "establishedSessions": "0/2", "l2": { "announced": 0, "complete": true, "addresses": [] },
                "bgp": { "announced": 0, "complete": true, "addresses": [] } })
    };
    scene.speaker("n2", dead("NotResponding", stopped_speaker::NOT_RESPONDING)).await;
    scene.speaker("n3", dead("Stopped", stopped_speaker::STOPPED)).await;
    for peer in ["tor1", "tor2"] {
        scene.sessions(peer, "1/3").await;
    }
    let pods = json!({ "metadata": { "name": "fairlead-speaker", "namespace": "fairlead-system" },
                       "status": daemonset(1) });
    scene.put("DaemonSet", pods).await;
    check(
        &scene,
        "speakers",
        &[
            ("status", 1),
            ("status node", 1),
            ("explain node n2", 1),
            ("explain node n3", 1),
            ("explain service shop/web", 0),
            ("explain service shop/api", 0),
        ],
    );
    check_kubectl(&scene, "speakers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absent_controller_is_the_reason_for_pending_services() {
    let scene = Scene::start("controller").await;
    scene.healthy().await;
    scene.lease("fairlead-controller-7d9f-abcde", 250).await;
    scene.service("late", "", "", json!([])).await;
    check(
        &scene,
        "controller",
        &[("status", 1), ("explain service shop/late", 1), ("explain address 192.0.2.11", 1)],
    );
    check_kubectl(&scene, "controller");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_speaker_announces_nothing() {
    let scene = Scene::start("no-speaker").await;
    scene.healthy().await;
    for node in ["n1", "n2", "n3"] {
        scene.delete("Speaker", node).await;
    }
    // The controller has not noticed yet.
    check(&scene, "no-speaker", &[("status", 1), ("explain service shop/web", 0), ("explain node n1", 1)]);
    check_kubectl(&scene, "no-speaker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_down_have_a_cause() {
    let scene = Scene::start("sessions").await;
    scene.healthy().await;
    let sessions = json!({ "sessions": [down("tor1", "10.0.0.1"), down("tor2", "10.0.0.2")],
                           "establishedSessions": "0/2",
                           "bgp": { "announced": 0, "complete": true, "addresses": [] } });
    for node in ["n1", "n2", "n3"] {
        scene.speaker(node, sessions.clone()).await;
    }
    for peer in ["tor1", "tor2"] {
        scene.sessions(peer, "0/3").await;
    }
    let why = "198.51.100.1: no BGP session that carries it is established";
    scene.service("api", "198.51.100.1", "public", silent("NoSession", why)).await;
    check(
        &scene,
        "sessions",
        &[
            ("status", 1),
            ("status peer", 1),
            ("explain service shop/api", 0),
            ("explain peer tor1", 1),
            ("routes n1 tor1", 1),
        ],
    );
    check_kubectl(&scene, "sessions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_is_shut_down_is_not_established() {
    let scene = Scene::start("shutdown").await;
    scene.healthy().await;
    let mut session = down("tor1", "10.0.0.1");
    session["state"] = "Idle".into();
    session["phase"] = "Shutdown".into();
    for field in ["lastError", "lastErrorSince", "lastErrorCount", "attempts"] {
        session.as_object_mut().unwrap().remove(field);
    }
    for node in ["n1", "n2", "n3"] {
        scene.speaker(node, json!({ "sessions": [session] })).await;
    }
    check(&scene, "shutdown", &[("status peer tor1", 0), ("explain peer tor1", 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passive_peer_names_the_port_to_connect_to() {
    let scene = Scene::start("passive").await;
    scene.healthy().await;
    scene
        .put(
            "BGPPeer",
            json!({ "metadata": { "name": "tor1" },
                    "spec": { "myASN": 64512, "peerASN": 64513, "peerAddress": "10.0.0.1", "passive": true },
                    "status": { "conditions": [condition("Accepted", "True", "Accepted", "")] } }),
        )
        .await;
    let mut session = down("tor1", "10.0.0.1");
    session["phase"] = "Listening".into();
    session["lastError"] = "the router has not connected to port 179 of this node within 15s".into();
    for node in ["n1", "n2", "n3"] {
        scene.speaker(node, json!({ "sessions": [session] })).await;
    }
    check(&scene, "passive", &[("explain peer tor1", 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_without_endpoints_is_not_announced() {
    let scene = Scene::start("endpoints").await;
    scene.healthy().await;
    scene.endpoints("web", &[]).await;
    let entry = json!({ "service": "shop/web", "address": "192.0.2.10", "reason": "NoEndpoints",
                        "message": "the Service has no endpoint that is ready to serve" });
    let nothing = json!({ "announced": 0, "complete": true, "addresses": [] });
    for node in ["n1", "n2", "n3"] {
        let status = json!({ "notAnnounced": [entry], "notAnnouncedCount": 1, "l2": nothing });
        scene.speaker(node, status).await;
    }
    let why = "192.0.2.10: the Service has no endpoint that is ready to serve";
    scene.service("web", "192.0.2.10", "lan", silent("NoEndpoints", why)).await;
    check(&scene, "endpoints", &[("status", 1), ("explain service shop/web", 0)]);
    check_kubectl(&scene, "endpoints");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_of_another_class_is_explained() {
    let scene = Scene::start("class").await;
    scene.healthy().await;
    let spec = json!({ "type": "LoadBalancer", "loadBalancerClass": "example.com/other",
                       "selector": { "app": "x" }, "ports": [{ "port": 80 }] });
    scene.put("Service", json!({ "metadata": { "name": "other", "namespace": "shop" }, "spec": spec })).await;
    check(&scene, "class", &[("status", 0), ("explain service shop/other", 1)]);
    check_kubectl(&scene, "class");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhausted_pool_is_explained() {
    let scene = Scene::start("exhausted").await;
    scene.healthy().await;
    let why = "no address of IPAddressPool lan is free";
    scene
        .put(
            "IPAddressPool",
            json!({ "metadata": { "name": "lan" }, "spec": { "addresses": ["192.0.2.10/32"] },
                    "status": { "totalIPv4": 1, "assignedIPv4": 1, "availableIPv4": 0, "free": "0", "conditions": [
                        condition("Accepted", "True", "Accepted", ""),
                        condition("Ready", "True", "Accepted", ""),
                        condition("Exhausted", "True", "NoFreeAddress", why) ] } }),
        )
        .await;
    scene
        .service("late", "", "", refused("PoolExhausted", "no free IPv4 address in IPAddressPool lan"))
        .await;
    check(&scene, "exhausted", &[("status", 1), ("explain service shop/late", 1), ("explain pool lan", 0)]);
    check_kubectl(&scene, "exhausted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_pool_is_no_problem_while_another_has_room() {
    let scene = Scene::start("full").await;
    scene.healthy().await;
    let full = |name: &str, available: u32, conditions: serde_json::Value| {
        json!({ "metadata": { "name": name }, "spec": { "addresses": ["192.0.2.10/32"] },
                "status": { "totalIPv4": 1, "assignedIPv4": 1 - available, "availableIPv4": available, "conditions": conditions } })
    };
    let accepted = condition("Accepted", "True", "Accepted", "");
    let exhausted =
        condition("Exhausted", "True", "NoFreeAddress", "no address of IPAddressPool lan is free");
    scene.put("IPAddressPool", full("lan", 0, json!([accepted, exhausted]))).await;
    scene.put("IPAddressPool", full("spare", 1, json!([accepted]))).await;
    check(&scene, "full", &[("status", 0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_object_is_explained() {
    let scene = Scene::start("refused").await;
    scene.healthy().await;
    let why = "192.0.2.15-192.0.2.30 overlaps 192.0.2.10-192.0.2.19 of IPAddressPool lan: change one of them";
    scene
        .put(
            "IPAddressPool",
            json!({ "metadata": { "name": "lan2" }, "spec": { "addresses": ["192.0.2.15-192.0.2.30"] },
                    "status": { "conditions": [condition("Accepted", "False", "Overlap", why),
                                               condition("Ready", "False", "Overlap", why),
                                               condition("Stalled", "True", "Overlap", why)] } }),
        )
        .await;
    let pool = json!({ "fairlead.dev/address-pool": "lan2" });
    let spec = json!({ "type": "LoadBalancer", "selector": { "app": "x" }, "ports": [{ "port": 80 }] });
    let conditions = refused("PoolRefused", "IPAddressPool lan2 is refused");
    scene
        .put(
            "Service",
            json!({ "metadata": { "name": "late", "namespace": "shop", "annotations": pool }, "spec": spec,
                    "status": { "conditions": conditions } }),
        )
        .await;
    check(&scene, "refused", &[("status", 1), ("explain service shop/late", 1), ("explain pool lan2", 1)]);
    check_kubectl(&scene, "refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forbidden_kinds_are_named_and_the_rest_is_shown() {
    let scene = Scene::start("forbidden").await;
    scene.healthy().await;
    let faults = scene.cluster.as_built_in().unwrap().faults();
    for (resource, group) in
        [("nodes", ""), ("leases", "coordination.k8s.io"), ("servicecidrs", "networking.k8s.io")]
    {
        faults.add(Fault {
            resources: vec![resource.to_owned()],
            status: Some(403),
            message: Some(format!(
                "{resource}{}{group} is forbidden: User \"ann\" cannot list resource \"{resource}\" in API group \
                 \"{group}\" at the cluster scope",
                if group.is_empty() { "" } else { "." },
            )),
            ..Fault::default()
        });
    }
    check(&scene, "forbidden", &[("status", 0), ("explain service shop/web", 0), ("routes n1", 2)]);
}

/// A user finds the output of a symptom in the documents.
#[test]
fn documents_show_real_output() {
    let mut blocks = 0;
    let all: String = std::fs::read_dir(expected("x").parent().unwrap())
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for document in ["troubleshooting.md", "cli.md"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(document);
        let text = std::fs::read_to_string(file).unwrap();
        for block in text.split("```console\n").skip(1) {
            let block = block.split("```").next().unwrap();
            assert!(all.contains(&format!("{block}\n")), "{document} shows what is not printed:\n{block}");
            blocks += 1;
        }
    }
    assert!(blocks >= 10, "{blocks} blocks");
}

/// The shape of JSON output, which docs/cli.md documents: the names of the fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_has_the_documented_shape() {
    let scene = Scene::start("json").await;
    scene.healthy().await;
    let fields = |command: &str| {
        let arguments: Vec<&str> = command.split(' ').chain(["-o", "json"]).collect();
        let (_, out, error) = scene.run(&arguments);
        let value: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{command}: {out}{error}"));
        assert_eq!(value["apiVersion"], "cli.fairlead.dev/v1beta1", "{command}");
        let kind = value["kind"].as_str().unwrap().to_owned();
        let mut names: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        names.retain(|name| name != "apiVersion" && name != "kind");
        (kind, names.join(" "))
    };
    let document =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md")).unwrap();
    for command in [
        "status",
        "status service",
        "status node",
        "status peer",
        "status pool",
        "explain service shop/web",
        "routes n1",
        "version",
    ] {
        let (kind, names) = fields(command);
        for name in names.split(' ') {
            assert!(document.contains(&format!("`{name}`")), "docs/cli.md lacks field {name} of {kind}");
        }
        assert!(document.contains(&format!("`{kind}`")), "docs/cli.md lacks {kind}");
    }
}

/// kubectl merges the files of the list, ignores absent ones, and takes the namespace of the context.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_follows_the_rules_of_kubectl() {
    let scene = Scene::start("kubeconfig").await;
    scene.healthy().await;
    let contexts = std::env::temp_dir().join(format!("fairlead-contexts-{}", std::process::id()));
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "shop", "clusters": [], "users": [],
        "contexts": [
            { "name": "shop", "context": { "cluster": "fairlead", "user": "admin", "namespace": "shop" } },
            { "name": "plain", "context": { "cluster": "fairlead", "user": "admin" } },
        ],
    });
    std::fs::write(&contexts, text.to_string()).unwrap();
    let list = format!("/nonexistent::{}:{}", contexts.display(), scene.kubeconfig().display());
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_fairlead"))
            .args(arguments)
            .env("KUBECONFIG", &list)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = run(&["explain", "service", "web"]);
    assert!(code == Some(0) && text.starts_with("Service shop/web: Announced"), "{text}");
    let (code, text) = run(&["explain", "service", "web", "--context", "plain"]);
    assert!(code == Some(2) && text.contains("there is no Service default/web"), "{text}");
    let (code, text) = run(&["--context", "plain", "explain", "service", "web", "-n", "shop"]);
    assert!(code == Some(0) && text.starts_with("Service shop/web: Announced"), "{text}");
    let (code, text) = run(&["status", "--context", "absent"]);
    assert!(code == Some(2) && text.contains("absent"), "{text}");
    std::fs::remove_file(&contexts).unwrap();
}

#[test]
fn plugin_of_kubectl_shows_its_name() {
    let link = std::env::temp_dir().join(format!("fairlead-plugin-{}", std::process::id()));
    std::fs::create_dir_all(&link).unwrap();
    let program = link.join("kubectl-fairlead");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fairlead"), &program).unwrap();
    let output = std::process::Command::new(&program).args(["status", "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Usage: kubectl fairlead status"), "{text}");
    std::fs::remove_dir_all(&link).unwrap();
}

#[test]
fn completion_and_manual_pages_are_generated() {
    let run = |arguments: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_fairlead")).args(arguments).output().unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = String::from_utf8(run(&["completion", shell]).stdout).unwrap();
        assert!(script.contains("explain"), "{shell}");
    }
    let directory = std::env::temp_dir().join(format!("fairlead-man-{}", std::process::id()));
    assert!(run(&["man", directory.to_str().unwrap()]).status.success());
    for page in ["fairlead.1", "fairlead-status.1", "fairlead-explain-service.1"] {
        assert!(directory.join(page).exists(), "{page}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let output = run(&["version", "--client"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "Client      0.1.0\n");
}

#[test]
fn times_of_the_scene_are_stable() {
    assert!(ago(LONG_AGO).ends_with('Z') && announced("").is_array());
}
