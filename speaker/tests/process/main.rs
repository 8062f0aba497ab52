//! Runs the program `fairlead-speaker` with an API server and a BGP router on the loopback interface. The API
//! server is the one in `tests/apiserver`, or a kube-apiserver if `KUBEBUILDER_ASSETS` is set. L2
//! announcements are disabled.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod aggregation;
mod odd_objects;
mod passwords;
mod peer_edits;

use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fairlead_apiserver::{Cluster, Outage};
use fairlead_crds::v1beta1::{BGPAdvertisement, BGPPeer, IPAddressPool, Speaker};
use fairlead_crds::{manifests, stopped_speaker};
use fairlead_net::tcp::set_md5_key;
use fairlead_test_support::daemon::Daemon;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest time for an expected state to be reached.
const TIMEOUT: Duration = Duration::from_secs(30);
const ROUTER_ASN: u16 = 64512;

/// Message types of RFC 4271 §4.1.
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;

/// Messages as `(type, body)`.
type Messages = Arc<Mutex<Vec<(u8, Vec<u8>)>>>;

/// A router that accepts every session and records the messages it receives.
struct Router {
    port: u16,
    received: Messages,
    /// The listening socket, and the sockets of all connections.
    sockets: Arc<Mutex<Vec<OwnedFd>>>,
}

impl Router {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Messages::default();
        let record = received.clone();
        let sockets = Arc::new(Mutex::new(vec![listener.as_fd().try_clone_to_owned().unwrap()]));
        let all = sockets.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                all.lock().unwrap().push(stream.as_fd().try_clone_to_owned().unwrap());
                tokio::spawn(serve(stream, record.clone()));
            }
        });
        Self { port, received, sockets }
    }

    /// Sets the TCP-MD5 key of all connections, present and future.
    fn set_key(&self, key: &str) {
        for socket in self.sockets.lock().unwrap().iter() {
            set_md5_key(socket, Ipv4Addr::LOCALHOST.into(), key.as_bytes()).unwrap();
        }
    }

    /// Closes all connections.
    fn close_connections(&self) {
        for socket in self.sockets.lock().unwrap().iter().skip(1) {
            let stream = std::net::TcpStream::from(socket.try_clone().unwrap());
            // Fails for connections that ended before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Returns the bodies of the received messages of one type.
    fn received(&self, kind: u8) -> Vec<Vec<u8>> {
        let received = self.received.lock().unwrap();
        received.iter().filter(|(k, _)| *k == kind).map(|(_, body)| body.clone()).collect()
    }
}

async fn serve(mut stream: TcpStream, received: Messages) {
    // Version 4, hold time 90 s, identifier 192.0.2.1, and the capability of four-octet AS numbers.
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
        received.lock().unwrap().push((header[18], body));
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

/// An API server with the CRDs of Fairlead, and a router.
struct Environment {
    client: Client,
    router: Router,
    /// Contains the kubeconfig.
    directory: std::path::PathBuf,
    cluster: Cluster,
}

impl Environment {
    async fn start(name: &str) -> Self {
        Self::start_with(name, manifests::definitions()).await
    }

    /// Starts an API server with these CRDs, which must contain that of Speakers.
    async fn start_with(name: &str, definitions: Vec<CustomResourceDefinition>) -> Self {
        let cluster = Cluster::start().await.unwrap();
        let client = cluster.client().await.unwrap();
        for definition in definitions {
            create::<CustomResourceDefinition>(&Api::all(client.clone()), &definition).await;
        }
        let speakers = Api::<Speaker>::all(client.clone());
        eventually("CRDs are served", async || speakers.list(&ListParams::default()).await.is_ok()).await;
        let directory = std::env::temp_dir().join(format!("fairlead-speaker-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("kubeconfig"), cluster.kubeconfig()).unwrap();
        Self { client, router: Router::start().await, directory, cluster }
    }

    /// Starts the program for node n1.
    fn start_speaker(&self) -> SpeakerProcess {
        self.start_speaker_with(&[])
    }

    /// Does the same with more arguments.
    fn start_speaker_with(&self, arguments: &[&str]) -> SpeakerProcess {
        let metrics = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_fairlead-speaker"))
            .args(["--kubeconfig", self.directory.join("kubeconfig").to_str().unwrap()])
            .args(["--node-name", "n1", "--exclude-interfaces", "*", "--metrics-addr", &metrics.to_string()])
            .args(arguments)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        SpeakerProcess { child, metrics }
    }

    /// Creates the key of the mesh. Without it the speaker is not ready.
    async fn create_key(&self) {
        let namespace = json!({"metadata": {"name": "fairlead-system"}});
        create::<Namespace>(&Api::all(self.client.clone()), &object(namespace)).await;
        // The octets `secret`.
        let secret = json!({"metadata": {"name": "fairlead-mesh"}, "data": {"key": "c2VjcmV0"}});
        create::<Secret>(&Api::namespaced(self.client.clone(), "fairlead-system"), &object(secret)).await;
    }

    /// Creates the node, a peer, a pool with an advertisement, and a Service that holds an address of the
    /// pool.
    async fn create_objects(&self) {
        let client = || self.client.clone();
        let node = json!({"metadata": {"name": "n1"}});
        create::<Node>(&Api::all(client()), &object(node)).await;
        let addresses = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}});
        let nodes = Api::<Node>::all(client());
        nodes.patch_status("n1", &PatchParams::default(), &Patch::Merge(addresses)).await.unwrap();
        let pool = json!({"metadata": {"name": "pool"}, "spec": {"addresses": ["198.51.100.0/24"]}});
        create::<IPAddressPool>(&Api::all(client()), &object(pool)).await;
        create::<BGPAdvertisement>(
            &Api::all(client()),
            &object(json!({"metadata": {"name": "ad"}, "spec": {}})),
        )
        .await;
        let peer = json!({"myASN": 64513, "peerASN": ROUTER_ASN, "peerAddress": "127.0.0.1",
            "peerPort": self.router.port});
        create::<BGPPeer>(&Api::all(client()), &object(json!({"metadata": {"name": "tor"}, "spec": peer})))
            .await;
        let slice = json!({
            "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": {"ready": true}}],
        });
        create::<EndpointSlice>(&Api::namespaced(client(), "default"), &object(slice)).await;
        self.create_service().await;
    }

    /// Creates the Service that holds an address of the pool.
    async fn create_service(&self) {
        let services = Api::<Service>::namespaced(self.client.clone(), "default");
        let service = json!({"metadata": {"name": "web"},
            "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}});
        create::<Service>(&services, &object(service)).await;
        let held = json!({"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.7"}]}}});
        services.patch_status("web", &PatchParams::default(), &Patch::Merge(held)).await.unwrap();
    }

    async fn speaker_object(&self) -> Option<Speaker> {
        Api::<Speaker>::all(self.client.clone()).get_opt("n1").await.unwrap()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The running program. It is killed at the end of the test.
struct SpeakerProcess {
    child: Child,
    metrics: std::net::SocketAddr,
}

impl Drop for SpeakerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl SpeakerProcess {
    /// Returns the HTTP response for a path; `None` if the server does not respond.
    async fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.metrics).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: speaker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.ok()?;
        Some(response)
    }

    /// Returns whether the response for a path contains a text.
    async fn response_contains(&self, path: &str, text: &str) -> bool {
        self.get(path).await.is_some_and(|response| response.contains(text))
    }

    /// Sends SIGTERM and waits until the program exits. Returns its status and how long that took.
    async fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < TIMEOUT, "the program does not exit");
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

/// Waits until a condition holds.
async fn eventually(condition: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + TIMEOUT;
    while !holds().await {
        assert!(Instant::now() < end, "not within {TIMEOUT:?}: {condition}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns whether an UPDATE ends with the NLRI 198.51.100.7/32.
fn announces(body: &[u8]) -> bool {
    body.ends_with(&[32, 198, 51, 100, 7])
}

/// Returns whether an UPDATE withdraws 198.51.100.7/32 and nothing else.
fn withdraws(body: &[u8]) -> bool {
    body == [0, 5, 32, 198, 51, 100, 7, 0, 0]
}

#[tokio::test]
async fn speaker_announces_reports_and_withdraws_at_exit() {
    let environment = Environment::start("life").await;
    let mut speaker = environment.start_speaker();
    eventually("/readyz names the missing Node", async || {
        speaker.response_contains("/readyz", "the Node object of this node").await
    })
    .await;
    assert!(speaker.response_contains("/readyz", "503").await);
    assert_eq!(
        environment.speaker_object().await,
        None,
        "without a Node there is no owner of a Speaker object"
    );

    environment.create_objects().await;
    eventually("/readyz names the missing Secret", async || {
        speaker.response_contains("/readyz", "waiting for the Secret fairlead-mesh: it does not exist").await
    })
    .await;
    // BGP needs no mesh.
    eventually("the router has the route", async || {
        environment.router.received(UPDATE).iter().any(|body| announces(body))
    })
    .await;
    eventually("the Speaker object shows the session", async || {
        let status =
            environment.speaker_object().await.and_then(|speaker| speaker.status).unwrap_or_default();
        let sessions: Vec<_> =
            status.sessions.iter().map(|s| (s.peer.as_str(), s.state.as_str(), s.prefixes)).collect();
        sessions == [("tor", "Established", 1)] && status.bgp.is_some_and(|bgp| bgp.announced == 1)
    })
    .await;
    let speaker_object = environment.speaker_object().await.unwrap();
    let node = Api::<Node>::all(environment.client.clone()).get("n1").await.unwrap();
    let owner = &speaker_object.owner_references()[0];
    assert_eq!((owner.kind.as_str(), Some(owner.uid.clone())), ("Node", node.uid()));
    assert_eq!(speaker_object.spec.mesh, None, "a speaker without a key takes no part in the mesh");
    assert!(speaker.response_contains("/readyz", "503").await);
    environment.create_key().await;
    eventually("the speaker is ready", async || speaker.response_contains("/readyz", "200").await).await;
    eventually("the Speaker object has the address of the mesh and the fingerprint of the key", async || {
        let mesh = environment.speaker_object().await.unwrap().spec.mesh;
        mesh.is_some_and(|mesh| {
            let fingerprint = mesh.key_fingerprint.as_deref();
            (mesh.address.as_str(), mesh.port, fingerprint) == ("127.0.0.1", 7947, Some("1a30ee5d22fa3af2"))
        })
    })
    .await;
    assert!(speaker.response_contains("/metrics", "fairlead_speaker_bgp_session_up{peer=\"tor\"} 1").await);

    let before = environment.router.received(UPDATE).len();
    let (status, took) = speaker.terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    let status = environment.speaker_object().await.unwrap().status.unwrap();
    let ready = status.conditions.iter().find(|condition| condition.type_() == "Ready").unwrap();
    assert_eq!((status.ready, ready.status(), ready.reason()), (Some(false), "False", "Stopped"));
    let generation = environment.speaker_object().await.unwrap().metadata.generation;
    assert!(generation.is_some() && ready.observed_generation() == generation, "{status:?}");
    let announced = status.bgp.unwrap();
    assert_eq!((announced.announced, announced.addresses.len()), (0, 0));
    // It is expected to start again, so that its session is wanted and not established.
    let sessions = status.sessions.iter().map(|session| (session.peer.as_str(), session.state.as_str()));
    assert_eq!(sessions.collect::<Vec<_>>(), [("tor", "Idle")]);
    assert_eq!(status.established_sessions.as_deref(), Some("0/1"));
    eventually("the router has a NOTIFICATION", async || {
        !environment.router.received(NOTIFICATION).is_empty()
    })
    .await;
    let last: Vec<_> =
        environment.router.received.lock().unwrap().iter().rev().take(2).rev().cloned().collect();
    let [(UPDATE, update), (NOTIFICATION, notification)] = last.as_slice() else { panic!("{last:?}") };
    assert!(withdraws(update), "{update:?}");
    // One more asked the router to prefer other paths.
    assert_eq!(environment.router.received(UPDATE).len(), before + 2);
    // Cease, Administrative Shutdown, with a shutdown communication (RFC 9003).
    assert_eq!(notification[..2], [6, 2]);
    assert!(String::from_utf8_lossy(&notification[3..]).contains("stopping"), "{notification:?}");
}

#[tokio::test]
async fn metrics_show_endpoint_changes_and_why_sessions_ended() {
    let environment = Environment::start("metrics").await;
    environment.create_objects().await;
    let speaker = environment.start_speaker();
    let has = async |metric: &str| {
        speaker.response_contains("/metrics", &format!("fairlead_speaker_bgp_{metric}\n")).await
    };
    eventually("the router has the route", async || {
        environment.router.received(UPDATE).iter().any(|body| announces(body))
    })
    .await;
    for metric in ["opens_sent_total", "opens_received_total"] {
        let condition = format!("{metric} is 1");
        eventually(&condition, async || has(&format!("{metric}{{peer=\"tor\"}} 1")).await).await;
    }
    eventually("a KEEPALIVE was counted", async || {
        let text = speaker.get("/metrics").await.unwrap_or_default();
        let metric = "fairlead_speaker_bgp_keepalives_received_total{peer=\"tor\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(metric));
        value.is_some_and(|number| number.parse::<u64>().unwrap() >= 1)
    })
    .await;
    // The first list is no change.
    assert!(has("endpoint_change_duration_seconds_count{peer=\"tor\"} 0").await);

    let slices = Api::<EndpointSlice>::namespaced(environment.client.clone(), "default");
    let endpoint = json!({"addresses": ["10.0.0.1"], "nodeName": "n1", "conditions": {"ready": false}});
    let patch = Patch::Merge(json!({"endpoints": [endpoint]}));
    slices.patch("web-1", &PatchParams::default(), &patch).await.unwrap();
    eventually("the router has no route", async || {
        environment.router.received(UPDATE).last().is_some_and(|body| withdraws(body))
    })
    .await;
    eventually("the change was measured", async || {
        has("endpoint_change_duration_seconds_count{peer=\"tor\"} 1").await
            && has("endpoint_change_duration_seconds_bucket{le=\"+Inf\",peer=\"tor\"} 1").await
    })
    .await;

    environment.router.close_connections();
    eventually("the end of the session was counted", async || {
        has("session_drops_total{peer=\"tor\",reason=\"connection-closed\"} 1").await
    })
    .await;
    assert!(has("session_drops_total{peer=\"tor\",reason=\"hold-timer-expired\"} 0").await);
}

#[tokio::test]
async fn speaker_stops_in_time_without_an_api_server() {
    let environment = Environment::start("hang").await;
    let Some(server) = environment.cluster.as_built_in() else { return };
    environment.create_objects().await;
    let mut speaker = environment.start_speaker();
    eventually("the Speaker object exists", async || environment.speaker_object().await.is_some()).await;
    server.faults().outage(Outage::Hang, Duration::from_secs(60));
    let (status, took) = speaker.terminate().await;
    assert!(status.success(), "{status}");
    // Drain wait 2 s, end of the sessions, last write 1 s.
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[tokio::test]
async fn speaker_that_is_reported_by_mistake_writes_its_status_again() {
    let environment = Environment::start("reported").await;
    environment.create_objects().await;
    let _speaker = environment.start_speaker();
    let is_ready = async || {
        let speaker = environment.speaker_object().await;
        speaker.and_then(|speaker| speaker.status).is_some_and(|status| {
            let ready = status.conditions.iter().find(|condition| condition.type_() == "Ready");
            status.ready == Some(true) && ready.is_some_and(|ready| ready.status() == "True")
        })
    };
    eventually("the Speaker object is ready", is_ready).await;
    let before = environment.speaker_object().await.unwrap();
    let status = stopped_speaker::not_responding(&before.status.unwrap(), None, Timestamp::now());
    let patch = json!({"apiVersion": "fairlead.dev/v1beta1", "kind": "Speaker", "metadata": {"name": "n1"},
        "status": status});
    let api = Api::<Speaker>::all(environment.client.clone());
    let parameters = PatchParams::apply("fairlead-speaker").force();
    let reported = api.patch_status("n1", &parameters, &Patch::Apply(patch)).await.unwrap();
    assert_eq!(reported.status.unwrap().ready, Some(false));
    eventually("the Speaker object is ready again", is_ready).await;
    let after = environment.speaker_object().await.unwrap();
    assert_eq!(after.status.unwrap().bgp.unwrap().complete, Some(true));
}

#[tokio::test]
async fn deleted_speaker_object_is_written_again() {
    let environment = Environment::start("object").await;
    environment.create_objects().await;
    let _speaker = environment.start_speaker();
    let established = async || {
        let status =
            environment.speaker_object().await.and_then(|speaker| speaker.status).unwrap_or_default();
        status.sessions.iter().any(|session| session.state == "Established")
    };
    eventually("the Speaker object exists", established).await;
    let first = environment.speaker_object().await.unwrap();
    let api = Api::<Speaker>::all(environment.client.clone());
    api.delete("n1", &DeleteParams::default()).await.unwrap();
    eventually("the object exists again, with its status", async || {
        established().await && environment.speaker_object().await.unwrap().uid() != first.uid()
    })
    .await;
}

#[tokio::test]
async fn speaker_object_that_others_replace_is_rarely_written() {
    let environment = Environment::start("replaced").await;
    environment.create_objects().await;
    let speaker = environment.start_speaker();
    let api = Api::<Speaker>::all(environment.client.clone());
    eventually("the Speaker object exists", async || environment.speaker_object().await.is_some()).await;
    let writes = async || {
        let text = speaker.get("/metrics").await.unwrap();
        let written = text
            .lines()
            .find_map(|line| line.strip_prefix("fairlead_speaker_api_writes_total{result=\"ok\"} "));
        written.map_or(0, |number| number.trim().parse::<u32>().unwrap())
    };
    // Another program that rewrites the status.
    let before = writes().await;
    let (end, mut replaced) = (Instant::now() + Duration::from_secs(2), 0);
    while Instant::now() < end {
        replaced += 1;
        let status = json!({ "status": { "l2": { "announced": replaced }, "conditions": [] } });
        let parameters = PatchParams { field_manager: Some("other".into()), ..PatchParams::default() };
        api.patch_status("n1", &parameters, &Patch::Merge(status)).await.unwrap();
    }
    let written = writes().await - before;
    assert!(written <= 3, "{written} writes in 2 s, after {replaced} of another program");

    // And one that deletes the object whenever it exists.
    let before = writes().await;
    let (end, mut deleted) = (Instant::now() + Duration::from_secs(6), 0);
    while Instant::now() < end {
        deleted += u32::from(api.delete("n1", &DeleteParams::default()).await.is_ok());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let written = writes().await - before;
    assert!((1..=6).contains(&written), "{written} writes, {deleted} deletions in 6 s");
    eventually("the deletions are counted", async || {
        let text = speaker.get("/metrics").await.unwrap();
        let counted =
            text.lines().find_map(|line| line.strip_prefix("fairlead_speaker_object_deletions_total "));
        let counted = counted.map_or(0, |number| number.trim().parse::<u32>().unwrap());
        (1..=deleted).contains(&counted)
    })
    .await;
    eventually("the object exists again", async || environment.speaker_object().await.is_some()).await;
}

#[test]
fn unreachable_api_server_is_named_in_log_and_readyz() {
    let program = env!("CARGO_BIN_EXE_fairlead-speaker");
    let arguments = ["--node-name", "n1", "--exclude-interfaces", "*"];
    let (daemon, url) = Daemon::start_without_api_server(program, &arguments);
    daemon.assert_names_server(&url);
}
