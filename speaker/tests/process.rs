//! The speaker's program against an API server and a router on the loopback interface: the built-in API server, or a
//! real kube-apiserver where `KUBEBUILDER_ASSETS` names one. Nothing is announced by L2 here.

#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

use std::net::Ipv4Addr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairlead_apiserver::Cluster;
use fairlead_crds::manifests;
use fairlead_crds::v1beta1::{BGPAdvertisement, BGPPeer, IPAddressPool, Speaker};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(30);
const ROUTER_ASN: u16 = 64512;

/// Message types of RFC 4271 §4.1.
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

/// Messages as `(type, body)`.
type Heard = Arc<Mutex<Vec<(u8, Vec<u8>)>>>;

/// A router that accepts every session and notes what it hears.
struct Router {
    port: u16,
    heard: Heard,
}

impl Router {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Heard::default();
        let noted = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, noted.clone()));
            }
        });
        Self { port, heard }
    }

    /// Bodies of the messages of one type.
    fn heard(&self, kind: u8) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(k, _)| *k == kind).map(|(_, body)| body.clone()).collect()
    }
}

async fn converse(mut stream: TcpStream, heard: Heard) {
    // Version 4, hold time 90 s, 192.0.2.1, and nothing but the capability of four-octet AS numbers.
    let mut open = vec![4];
    open.extend(ROUTER_ASN.to_be_bytes());
    open.extend([0, 90, 192, 0, 2, 1, 8, 2, 6, 65, 4, 0, 0]);
    open.extend(ROUTER_ASN.to_be_bytes());
    loop {
        let mut header = [0; 19];
        if stream.read_exact(&mut header).await.is_err() {
            return;
        }
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let mut body = vec![0; length - 19];
        stream.read_exact(&mut body).await.unwrap();
        heard.lock().unwrap().push((header[18], body));
        if header[18] == OPEN {
            stream.write_all(&message(OPEN, &open)).await.unwrap();
            stream.write_all(&message(KEEPALIVE, &[])).await.unwrap();
        }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend(u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// An API server with Fairlead's kinds.
struct World {
    client: Client,
    router: Router,
    folder: std::path::PathBuf,
    _cluster: Cluster,
}

impl World {
    async fn start(name: &str) -> Self {
        let cluster = Cluster::start().await.unwrap();
        let client = cluster.client().await.unwrap();
        for definition in manifests::definitions() {
            create::<CustomResourceDefinition>(&Api::all(client.clone()), &definition).await;
        }
        let speakers = Api::<Speaker>::all(client.clone());
        eventually("the kinds are served", async || speakers.list(&ListParams::default()).await.is_ok())
            .await;
        let folder = std::env::temp_dir().join(format!("fairlead-speaker-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("kubeconfig"), cluster.kubeconfig()).unwrap();
        Self { client, router: Router::start().await, folder, _cluster: cluster }
    }

    /// Starts the program for node n1.
    fn speaker(&self) -> Running {
        let metrics = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_fairlead-speaker"))
            .args(["--kubeconfig", self.folder.join("kubeconfig").to_str().unwrap()])
            .args(["--node-name", "n1", "--exclude-interfaces", "*", "--metrics-addr", &metrics.to_string()])
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Running { child, metrics }
    }

    /// The node, a peer, a pool with its advertisement, and a Service that holds an address of it.
    async fn furnish(&self) {
        let all = || self.client.clone();
        let node = json!({"metadata": {"name": "n1"}});
        create::<Node>(&Api::all(all()), &object(node)).await;
        let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}});
        let nodes = Api::<Node>::all(all());
        nodes.patch_status("n1", &PatchParams::default(), &Patch::Merge(addresses)).await.unwrap();
        let pool = json!({"metadata": {"name": "pool"}, "spec": {"addresses": ["198.51.100.0/24"]}});
        create::<IPAddressPool>(&Api::all(all()), &object(pool)).await;
        create::<BGPAdvertisement>(
            &Api::all(all()),
            &object(json!({"metadata": {"name": "ad"}, "spec": {}})),
        )
        .await;
        let peer = json!({"myASN": 64513, "peerASN": ROUTER_ASN, "peerAddress": "127.0.0.1",
            "peerPort": self.router.port});
        create::<BGPPeer>(&Api::all(all()), &object(json!({"metadata": {"name": "tor"}, "spec": peer})))
            .await;
        let slice = json!({
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": {"ready": true}}],
        });
        create::<EndpointSlice>(&Api::namespaced(all(), "default"), &object(slice)).await;
        let services = Api::<Service>::namespaced(all(), "default");
        let service = json!({"metadata": {"name": "web"},
            "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
        create::<Service>(&services, &object(service)).await;
        let held = json!({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}});
        services.patch_status("web", &PatchParams::default(), &Patch::Merge(held)).await.unwrap();
    }

    async fn object(&self) -> Option<Speaker> {
        Api::<Speaker>::all(self.client.clone()).get_opt("n1").await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The program, running; killed at the end of the test if need be.
struct Running {
    child: Child,
    metrics: std::net::SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Status and text of a page, if it is served.
    async fn page(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.metrics).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: speaker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    async fn shows(&self, path: &str, text: &str) -> bool {
        self.page(path).await.is_some_and(|page| page.contains(text))
    }

    /// Sends SIGTERM and waits for the end.
    async fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < PATIENCE, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

async fn create<K>(api: &Api<K>, object: &K)
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    api.create(&PostParams::default(), object).await.unwrap();
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether an UPDATE has the prefix 198.51.100.7/32 in its last octets, as NLRI.
fn announces(body: &[u8]) -> bool {
    body.ends_with(&[32, 198, 51, 100, 7])
}

/// Whether an UPDATE withdraws 198.51.100.7/32 and nothing else.
fn withdraws(body: &[u8]) -> bool {
    body == [0, 5, 32, 198, 51, 100, 7, 0, 0]
}

#[tokio::test]
async fn it_waits_for_its_node_then_announces_and_reports_and_takes_leave() {
    let world = World::start("life").await;
    let mut speaker = world.speaker();
    eventually("it says what it waits for", async || {
        speaker.shows("/readyz", "the Node object of this node").await
    })
    .await;
    assert!(speaker.shows("/readyz", "503").await);
    assert_eq!(world.object().await, None, "nothing owns a Speaker object yet");

    world.furnish().await;
    eventually("it is ready", async || speaker.shows("/readyz", "200").await).await;
    eventually("the router hears the route", async || {
        world.router.heard(UPDATE).iter().any(|body| announces(body))
    })
    .await;
    eventually("the object tells of it", async || {
        let status = world.object().await.and_then(|speaker| speaker.status).unwrap_or_default();
        let sessions: Vec<_> =
            status.sessions.iter().map(|s| (s.peer.as_str(), s.state.as_str(), s.prefixes)).collect();
        sessions == [("tor", "Established", 1)] && status.bgp.is_some_and(|bgp| bgp.announced == 1)
    })
    .await;
    let speaker_object = world.object().await.unwrap();
    let node = Api::<Node>::all(world.client.clone()).get("n1").await.unwrap();
    let owner = &speaker_object.owner_references()[0];
    assert_eq!((owner.kind.as_str(), Some(owner.uid.clone())), ("Node", node.uid()));
    let mesh = speaker_object.spec.mesh.unwrap();
    assert_eq!((mesh.address.as_str(), mesh.port), ("127.0.0.1", 7946));
    assert!(speaker.shows("/metrics", "fairlead_speaker_bgp_session_up{peer=\"tor\"} 1").await);

    let before = world.router.heard(UPDATE).len();
    let (status, took) = speaker.terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let said = |kind| !world.router.heard(kind).is_empty();
    eventually("the router hears the last words", async || said(NOTIFICATION)).await;
    let last: Vec<_> = world.router.heard.lock().unwrap().iter().rev().take(2).rev().cloned().collect();
    let [(UPDATE, update), (NOTIFICATION, notification)] = last.as_slice() else { panic!("{last:?}") };
    assert!(withdraws(update), "{update:?}");
    assert_eq!(world.router.heard(UPDATE).len(), before + 1);
    // Cease, Administrative Shutdown, and a text (RFC 9003).
    assert_eq!(notification[..2], [6, 2]);
    assert!(String::from_utf8_lossy(&notification[3..]).contains("stopping"), "{notification:?}");
}

#[tokio::test]
async fn its_object_comes_back_when_it_is_deleted() {
    let world = World::start("object").await;
    world.furnish().await;
    let _speaker = world.speaker();
    let established = async || {
        let status = world.object().await.and_then(|speaker| speaker.status).unwrap_or_default();
        status.sessions.iter().any(|session| session.state == "Established")
    };
    eventually("there is an object", established).await;
    let first = world.object().await.unwrap();
    let api = Api::<Speaker>::all(world.client.clone());
    api.delete("n1", &DeleteParams::default()).await.unwrap();
    eventually("it is back, with its status", async || {
        established().await && world.object().await.unwrap().uid() != first.uid()
    })
    .await;
}
