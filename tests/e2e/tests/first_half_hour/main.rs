//! The first half hour of a new user, with real kubectl: installation, the first Service, and four mistakes,
//! each of which one command names. What every command prints is compared whole with `expected.txt`.
//!
//! With `FAIRLEAD_UPDATE_EXPECTED=1`, the test writes that file.

#![allow(clippy::unwrap_used)]

mod transcript;

use std::path::Path;

use fairlead_e2e::SOON;
use fairlead_lab::{Lab, NAMESPACE, Process, Spec, api, binaries, state};
use serde_json::{Value, json};

use transcript::{Transcript, repository};

const POOL: &str = "\
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: {name: lan}
spec:
  addresses: [192.0.2.200-192.0.2.201]
";

const ADVERTISEMENT: &str = "\
apiVersion: fairlead.dev/v1beta1
kind: L2Advertisement
metadata: {name: lan}
spec: {ipAddressPools: [lan]}
";

fn service(name: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: LoadBalancer
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"
    )
}

fn more(addresses: &str) -> String {
    format!(
        "\
apiVersion: fairlead.dev/v1beta1
kind: IPAddressPool
metadata: {{name: more}}
spec:
  addresses: [{addresses}]
"
    )
}

fn peer(asn: u32) -> String {
    format!(
        "\
apiVersion: fairlead.dev/v1beta1
kind: BGPPeer
metadata: {{name: router}}
spec: {{myASN: 64513, peerASN: {asn}, peerAddress: 192.0.2.1, connectTime: 1s}}
"
    )
}

/// Starts what the Deployment and the DaemonSet in `dist/install.yaml` describe, and writes their statuses:
/// the lab has no kubelet.
fn run_workloads(lab: &Lab) -> Vec<Process> {
    let objects = api::documents(&std::fs::read_to_string(repository().join("dist/install.yaml")).unwrap());
    let objects = objects.unwrap();
    let workload = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
    let (deployment, daemonset) = (workload("Deployment"), workload("DaemonSet"));
    let mut processes = Vec::new();
    let replicas = deployment["spec"]["replicas"].as_u64().unwrap();
    for (n, port) in (1..=replicas).zip(7472_u16..) {
        let name = format!("fairlead-controller-{n}");
        let spec = spec(lab, &name, deployment, port).env("FAIRLEAD_POD_NAME", &name);
        let process = Process::start(spec, &lab.network().control_plane, &state::logs(lab.id())).unwrap();
        // The first one leads.
        process.wait_until_ready(SOON).unwrap();
        processes.push(process);
    }
    for node in &lab.network().nodes {
        let spec = spec(lab, &format!("fairlead-speaker-{}", node.name), daemonset, 7474)
            .env("FAIRLEAD_NODE_NAME", &node.name);
        processes.push(Process::start(spec, &node.netns, &state::logs(lab.id())).unwrap());
    }
    for process in &processes {
        process.wait_until_ready(SOON).unwrap();
    }
    let status = |object: &Value, status: Value| {
        let status = json!({ "apiVersion": object["apiVersion"], "kind": object["kind"],
                             "metadata": { "name": object["metadata"]["name"], "namespace": NAMESPACE },
                             "status": status });
        lab.api().unwrap().apply_status(status).unwrap();
    };
    status(deployment, json!({ "replicas": replicas, "readyReplicas": replicas }));
    let nodes = lab.nodes().len();
    status(
        daemonset,
        json!({ "currentNumberScheduled": nodes, "desiredNumberScheduled": nodes, "numberMisscheduled": 0,
                "numberReady": nodes }),
    );
    processes
}

/// Returns the process of a container.
fn spec(lab: &Lab, name: &str, workload: &Value, port: u16) -> Spec {
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    let program = Path::new(container["command"][0].as_str().unwrap()).file_name().unwrap();
    let program = binaries::find(program.to_str().unwrap()).unwrap();
    let arguments = container["args"].as_array().into_iter().flatten();
    // The lab reads metrics over the loopback interface, and its controllers share an address.
    let arguments = arguments
        .map(|argument| argument.as_str().unwrap())
        .filter(|argument| !argument.starts_with("--metrics-addr"));
    Spec::new(name, program)
        .arg("--kubeconfig")
        .arg(lab.api_server().unwrap().kubeconfig())
        .args(arguments)
        .env("FAIRLEAD_NAMESPACE", NAMESPACE)
        .env("FAIRLEAD_METRICS_ADDR", format!(":{port}"))
        .http(port)
}

#[test]
fn first_half_hour_succeeds_and_mistakes_are_named() {
    let lab = Lab::builder().nodes(2).before_installation().start().unwrap();
    let mut shell = Transcript::new(&lab);

    shell.title("Install");
    shell.once("kubectl apply --server-side -f install.yaml", 0);
    let _processes = run_workloads(&lab);
    shell.until("fairlead status", 0, &["2 of 2 ready", "2 of 2 pods ready"], &[]);

    shell.title("A Service without a pool");
    shell.apply("web.yaml", &service("web"));
    shell.until("kubectl get service web", 0, &["<pending>"], &[]);
    shell.until("fairlead explain service web", 1, &["NoPoolMatches"], &[]);

    shell.title("A pool");
    shell.apply("pool.yaml", POOL);
    shell.until("kubectl get service web", 0, &["192.0.2.200"], &[]);
    shell.until("fairlead status", 1, &["NoAdvertisement"], &[]);

    shell.title("An advertisement");
    shell.apply("advertisement.yaml", ADVERTISEMENT);
    shell.until("fairlead status", 0, &["No problems", "1 announced"], &[]);
    shell.until("fairlead explain service web", 0, &["Announced"], &[]);
    shell.curl("http://192.0.2.200/");

    shell.title("A typo in a CIDR that the API server refuses");
    shell.file("more.yaml", &more("192.0.2.208/82"));
    shell.once("fairlead validate -f more.yaml", 1);
    shell.once("kubectl apply -f more.yaml", 1);

    shell.title("A typo in a CIDR that overlaps another pool");
    shell.apply("more.yaml", &more("192.0.2.208/24"));
    shell.until("fairlead status", 1, &["Overlap"], &[]);
    shell.until("kubectl get ipaddresspools", 0, &["Overlap"], &[]);
    shell.once("fairlead validate -f pool.yaml -f more.yaml", 1);
    shell.once("kubectl delete -f more.yaml", 0);

    shell.title("All addresses are used");
    shell.apply("second.yaml", &service("second"));
    shell.apply("third.yaml", &service("third"));
    shell.until("fairlead status", 1, &["PoolExhausted", "2 announced"], &[]);
    shell.until("kubectl get services", 0, &["<pending>"], &[]);
    shell.apply("more.yaml", &more("192.0.2.208/28"));
    shell.apply("advertisement.yaml", &ADVERTISEMENT.replace("[lan]", "[lan, more]"));
    // The first pool is still full, which is a warning.
    shell.until("fairlead status", 0, &["3 announced"], &["ERROR"]);

    shell.title("A peer with the wrong ASN");
    shell.apply("peer.yaml", &peer(64999));
    shell.until("fairlead status", 1, &["Bad Peer AS", "on n1, n2:"], &[]);
    shell.apply("peer.yaml", &peer(64512));
    shell.until("fairlead status", 0, &["2 of 2 established"], &["ERROR"]);

    shell.compare();
}
