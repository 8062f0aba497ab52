//! kubectl against the built-in server. Skipped without kubectl.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

use std::process::Stdio;
use std::time::Duration;

use fairlead_apiserver::{ApiServer, Options};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

const MANIFEST: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pools.example.dev}
spec:
  group: example.dev
  scope: Cluster
  names: {kind: Pool, plural: pools, shortNames: [pl]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Auto, type: boolean, jsonPath: .spec.auto}
    schema:
      openAPIV3Schema:
        type: object
        description: Addresses to give out.
        properties:
          spec:
            type: object
            required: [addresses]
            properties:
              auto: {type: boolean, default: true}
              addresses: {type: array, items: {type: string}, description: Ranges of addresses.}
          status:
            type: object
            properties:
              conditions:
                type: array
                items: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web}}
spec:
  type: LoadBalancer
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{port: 80, name: http}, {port: 53, protocol: UDP, name: dns}]
";

const POOL: &str = "
apiVersion: example.dev/v1
kind: Pool
metadata: {name: lan}
spec: {addresses: [192.0.2.0/24]}
";

/// A server, its kubeconfig file and a folder for kubectl's cache.
struct Shell {
    _server: ApiServer,
    home: std::path::PathBuf,
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

impl Shell {
    /// Returns None without kubectl.
    async fn start(name: &str) -> Option<Shell> {
        let found =
            Command::new("kubectl").args(["version", "--client"]).stdout(Stdio::null()).status().await;
        if !found.is_ok_and(|status| status.success()) {
            println!("skipped: kubectl is not installed");
            return None;
        }
        let server =
            ApiServer::start(Options { tls: true, token: Some("t".into()), ..Options::default() }).await;
        let server = server.unwrap();
        let home = std::env::temp_dir().join(format!("fairlead-kubectl-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&home).unwrap();
        server.access().write_kubeconfig(&home.join("kubeconfig")).unwrap();
        Some(Shell { _server: server, home })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(arguments)
            .env("KUBECONFIG", self.home.join("kubeconfig"))
            .env("HOME", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn output(&self, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = self.command(arguments).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output());
        let output = output.await.unwrap_or_else(|_| panic!("kubectl {arguments:?} does not end")).unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Runs a command that must succeed.
    async fn run(&self, line: &str) -> String {
        self.run_with(line, "").await
    }

    async fn run_with(&self, line: &str, input: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        let (good, text) = self.output(&arguments, input).await;
        assert!(good, "kubectl {line}\n{text}");
        text
    }

    /// Runs a command that must fail.
    async fn refused(&self, line: &str, input: &str) -> String {
        let arguments: Vec<&str> = line.split(' ').collect();
        let (good, text) = self.output(&arguments, input).await;
        assert!(!good, "kubectl {line}\n{text}");
        text
    }
}

fn contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_manages_services() {
    let Some(shell) = Shell::start("services").await else { return };
    contains(&shell.run_with("apply -f -", SERVICE).await, &["service/web created"]);
    contains(&shell.run_with("apply -f -", SERVICE).await, &["service/web unchanged"]);
    contains(
        &shell.run("get services").await,
        &["NAME", "EXTERNAL-IP", "<pending>", "LoadBalancer", "80:", "/UDP"],
    );
    let wide = shell.run("get svc -A -o wide").await;
    contains(&wide, &["NAMESPACE", "SELECTOR", "app=web", "kubernetes", "443/TCP"]);

    // Client-side apply of fewer ports removes the other: a strategic merge by port number.
    let fewer = SERVICE.replace(", {port: 53, protocol: UDP, name: dns}", "");
    contains(&shell.run_with("apply -f -", &fewer).await, &["service/web configured"]);
    assert_eq!(shell.run("get svc web -o jsonpath={.spec.ports[*].port}").await, "80");

    shell.run("annotate svc web fairlead.dev/address-pool=lan").await;
    shell.run("label svc web tier=front").await;
    shell.run("label svc web tier-").await;
    let status = r#"patch svc web --subresource=status --type=merge -p {"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}"#;
    shell.run(status).await;
    contains(&shell.run("get svc web").await, &["192.0.2.1"]);
    shell
        .run("wait --for=jsonpath={.status.loadBalancer.ingress[0].ip}=192.0.2.1 svc/web --timeout=20s")
        .await;
    let described = shell.run("describe svc web").await;
    contains(&described, &["fairlead.dev/address-pool: lan", "LoadBalancer Ingress", "IPv4,IPv6"]);
    shell.run(r#"patch svc web --type=json -p [{"op":"replace","path":"/spec/externalTrafficPolicy","value":"Local"}]"#).await;
    contains(
        &shell.run("get svc web -o yaml").await,
        &["externalTrafficPolicy: Local", "healthCheckNodePort"],
    );

    contains(&shell.run("delete svc web --timeout=20s").await, &["service \"web\" deleted"]);
    contains(
        &shell.refused("get svc web", "").await,
        &["Error from server (NotFound): services \"web\" not found"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_manages_custom_resources() {
    let Some(shell) = Shell::start("custom").await else { return };
    shell.run_with("apply -f -", MANIFEST).await;
    shell.run("wait --for=condition=Established crd/pools.example.dev --timeout=20s").await;
    contains(&shell.run_with("apply -f -", POOL).await, &["pool.example.dev/lan created"]);
    contains(&shell.run("get pl").await, &["NAME", "AUTO", "lan", "true"]);
    contains(&shell.run("explain pool.spec.addresses").await, &["Ranges of addresses."]);
    contains(&shell.run("api-resources --api-group=example.dev").await, &["pools", "pl", "Pool"]);

    let unknown = POOL.replace("spec: {", "spec: {oops: 1, ");
    contains(&shell.refused("apply -f -", &unknown).await, &["unknown field \"spec.oops\""]);
    let wrong = POOL.replace("[192.0.2.0/24]", "5");
    contains(&shell.refused("apply -f -", &wrong).await, &["spec.addresses", "array"]);

    shell.run_with("apply --server-side --force-conflicts --field-manager=one -f -", POOL).await;
    let other = POOL.replace("192.0.2.0/24", "198.51.100.0/24");
    let conflict = shell.refused("apply --server-side --field-manager=two -f -", &other).await;
    contains(&conflict, &["conflict", "spec.addresses"]);
    shell.run_with("delete -f - --timeout=20s", POOL).await;
    shell.run_with("delete -f - --timeout=20s", MANIFEST).await;
    contains(&shell.refused("get pools", "").await, &["resource"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_manages_core_objects() {
    let Some(shell) = Shell::start("others").await else { return };
    shell.run_with("apply -f -", "{apiVersion: v1, kind: Node, metadata: {name: n1}}").await;
    let ready = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}],"addresses":[{"type":"InternalIP","address":"192.0.2.9"}]}}"#;
    shell.run(&format!("patch node n1 --subresource=status --type=strategic -p {ready}")).await;
    contains(&shell.run("get nodes -o wide").await, &["n1", "Ready", "192.0.2.9"]);
    contains(&shell.run("describe node n1").await, &["InternalIP:  192.0.2.9"]);

    contains(&shell.run("create namespace lab").await, &["namespace/lab created"]);
    shell.run("create secret generic peer -n lab --type=kubernetes.io/basic-auth --from-literal=password=geheim").await;
    contains(&shell.run("get secret -n lab peer").await, &["kubernetes.io/basic-auth", "1"]);
    assert_eq!(shell.run("get secret -n lab peer -o jsonpath={.data.password}").await, "Z2VoZWlt");
    shell.run("create configmap c -n lab --from-literal=a=b").await;
    contains(&shell.run("describe configmap -n lab c").await, &["a:", "b"]);

    let event = "{apiVersion: v1, kind: Event, metadata: {name: e, namespace: lab}, type: Warning, reason: PoolExhausted, message: no address is left, count: 1, lastTimestamp: '2026-01-01T00:00:00Z', involvedObject: {kind: Service, name: web, namespace: lab}}";
    shell.run_with("apply -f -", event).await;
    contains(&shell.run("events -n lab").await, &["Warning", "PoolExhausted", "no address is left"]);
    contains(&shell.run("get events -n lab").await, &["service/web", "no address is left"]);
    shell.run("delete namespace lab --timeout=20s").await;
    contains(&shell.run("get ns").await, &["default", "Active"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watch_prints_changes() {
    let Some(shell) = Shell::start("watch").await else { return };
    let mut child = shell.command(&["get", "svc", "-w", "--no-headers"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        line.expect("no line in time").unwrap().expect("kubectl ended")
    };
    contains(&next().await, &["kubernetes"]);
    shell.run_with("apply -f -", SERVICE).await;
    contains(&next().await, &["web", "<pending>"]);
    child.kill().await.unwrap();
}
