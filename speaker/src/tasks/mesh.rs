//! The task of the mesh: one UDP socket, and the key from a Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fairlead_l2::ServedInterfaces;
use fairlead_mesh::{Config, Evidence, Identity, IsolationCause, Mesh, MeshEvent};
use fairlead_net::DualStackUdpSocket;
use fairlead_plan::membership_gate::Members;
use fairlead_plan::{NodeInterfaces, NodeName};
use fairlead_probe::{Detection, watched_by};
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::tasks::inquiry::inquire;
use crate::tasks::links::LinksReceiver;
use crate::tasks::mesh_key::{MeshKey, read_key};
use crate::tasks::probe::{Probe, Silences};
use crate::tasks::sleep_until_or_forever;

/// Longest time to leave the mesh.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(200);

/// Time between two attempts to bind the socket.
const BIND_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Most datagrams that are read before timers are handled, so that an answer that has arrived is not missed.
const MAX_DRAINED: usize = 256;

/// Size of the receive buffer; longer datagrams are cut, and then fail authentication.
const BUFFER_SIZE: usize = 2048;

/// Addresses that the mesh needs before it can start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MeshInput {
    /// This node's address; `None` while the Node object has none.
    pub own: Option<IpAddr>,
    /// Addresses of the other speakers; `None` until they were listed.
    pub peers: Option<MeshPeers>,
    /// The interfaces on which this node can announce; `None` until they were listed.
    pub interfaces: Option<Arc<ServedInterfaces>>,
}

/// Addresses of speakers, by node name. Shared, because they are compared with every event and rarely change.
pub(crate) type MeshPeers = Arc<BTreeMap<String, SocketAddr>>;

/// What the mesh knows of the other speakers; `None` while this speaker takes no part in it.
pub(crate) type Membership = Option<MeshView>;

/// What the mesh knows of the other speakers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MeshView {
    pub members: Members,
    /// Nodes whose speakers announced that they leave, and have not joined again.
    pub departed: BTreeSet<NodeName>,
    /// See [`Mesh::arrivals`].
    pub arrivals: u64,
    /// The interfaces that the other speakers reported. Shared, because they rarely change.
    pub interfaces: Arc<NodeInterfaces>,
    /// Grows with each change of `interfaces`.
    pub interfaces_version: u64,
}

/// Parameters and channels of the task.
pub(crate) struct MeshTask {
    pub client: Client,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of this node.
    pub node: String,
    /// UDP port of the mesh.
    pub port: u16,
    pub input: watch::Receiver<MeshInput>,
    pub links: LinksReceiver,
    pub membership: watch::Sender<Membership>,
    pub key: watch::Sender<MeshKey>,
    /// Leaves the mesh and ends the task.
    pub stop: CancellationToken,
    /// How failures of other nodes are detected.
    pub detection: Detection,
    pub metrics: Metrics,
}

impl MeshTask {
    /// Takes part in the mesh until stopped.
    pub(crate) async fn run(mut self) {
        let stop = self.stop.clone();
        let prepare = async {
            let key = read_key(&self.client, &self.namespace, &self.key).await;
            let socket = self.open_socket().await;
            (key, socket)
        };
        let (key, socket) = tokio::select! {
            prepared = prepare => prepared,
            () = stop.cancelled() => return,
        };
        let complete = self.input.wait_for(|input| input.own.is_some() && input.peers.is_some());
        let own = tokio::select! {
            input = complete => input.ok().and_then(|input| input.own),
            () = stop.cancelled() => return,
        };
        // Otherwise the coordinator has ended.
        let Some(own) = own else { return };
        let identity = Identity {
            node: self.node.clone(),
            address: SocketAddr::new(own, self.port),
            generation: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
        };
        tracing::info!(address = %identity.address, "joining the mesh");
        let mesh = Mesh::new(Instant::now(), Config::default(), identity, &key, rand::random());
        self.run_mesh(mesh, &socket, own).await;
    }

    /// Drives the mesh until the task is stopped. Whatever ends it, the other members are told, because they
    /// would otherwise detect the end as a failure. `own` is the address of this node.
    async fn run_mesh(&mut self, mut mesh: Mesh, socket: &DualStackUdpSocket, mut own: IpAddr) {
        let mut buffer = vec![0; BUFFER_SIZE];
        let mut peers = None;
        let mut interfaces = None;
        let mut isolation = None;
        let mut inquiry: Option<JoinHandle<Evidence>> = None;
        let mut probe = Probe::start(self.detection, self.metrics.clone()).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot send echo requests; failures of other nodes are detected later");
            None
        });
        loop {
            let now = Instant::now();
            let input = self.input.borrow_and_update().clone();
            // Without an address, for example while the Node object is missing, the last one remains valid.
            if let Some(address) = input.own.filter(|address| *address != own) {
                own = address;
                let address = SocketAddr::new(own, self.port);
                tracing::info!(%address, "the address of this node in the mesh changed");
                mesh.set_address(now, address);
            }
            if let Some(usable) = input.interfaces.filter(|usable| interfaces.as_ref() != Some(usable)) {
                mesh.set_interfaces(now, ServedInterfaces::clone(&usable));
                interfaces = Some(usable);
            }
            if let Some(listed) = input.peers.filter(|listed| peers.as_ref() != Some(listed)) {
                mesh.set_peers(now, BTreeMap::clone(&listed));
                if let Some(probe) = &probe {
                    probe.set_peers(self.probed(&listed));
                }
                peers = Some(listed);
            }
            for address in socket.take_refused() {
                mesh.handle_refusal(now, address);
            }
            let output = self.handle_output(&mut mesh, socket);
            if let Some(probe) = &probe {
                output.refuted.into_iter().for_each(|node| probe.refute(node));
            }
            if output.evidence_needed && inquiry.is_none() {
                let (links, peers) = (self.links.borrow().clone(), mesh.peers().clone());
                inquiry = Some(tokio::spawn(async move { inquire(&links, own, &peers).await }));
            }
            if isolation != mesh.isolation() {
                isolation = mesh.isolation();
                log_isolation(isolation);
            }
            self.publish(&mesh);
            let deadline = mesh.poll_timeout();
            let stopped = tokio::select! {
                // Datagrams come last: a host that sends many must not delay the timers or the leave message.
                biased;
                () = self.stop.cancelled() => true,
                () = sleep_until_or_forever(deadline) => {
                    drain(&mut mesh, socket, &mut buffer);
                    mesh.handle_timeout(Instant::now());
                    false
                }
                silences = changed_silences(&mut probe) => {
                    drain(&mut mesh, socket, &mut buffer);
                    mesh.handle_silences(Instant::now(), silences);
                    false
                }
                evidence = finished(&mut inquiry) => {
                    // An inquiry that failed is repeated like one without an answer.
                    mesh.handle_evidence(Instant::now(), &evidence.unwrap_or_default());
                    false
                }
                // The coordinator ends at the same time as this task, or before it if it panicked.
                changed = self.input.changed() => changed.is_err(),
                received = socket.recv_from(&mut buffer) => {
                    // An error concerns an earlier datagram (ICMP unreachable). The mesh detects its loss.
                    if let Ok((length, from)) = received {
                        mesh.handle_datagram(Instant::now(), from, buffer.get(..length).unwrap_or_default());
                    }
                    false
                }
            };
            if stopped {
                let _ = timeout(LEAVE_TIMEOUT, self.leave(&mut mesh, socket)).await;
                return;
            }
        }
    }

    /// Returns the nodes that this one probes.
    fn probed(&self, peers: &MeshPeers) -> BTreeMap<String, IpAddr> {
        let names: Vec<&str> = peers.keys().map(String::as_str).collect();
        let watched = watched_by(&self.node, &names).into_iter();
        watched.filter_map(|node| Some((node.to_owned(), peers.get(node)?.ip()))).collect()
    }

    /// Announces to the members that this node leaves, several times because datagrams can be lost.
    async fn leave(&self, mesh: &mut Mesh, socket: &DualStackUdpSocket) {
        mesh.leave(Instant::now());
        self.handle_output(mesh, socket);
        while let Some(deadline) = mesh.poll_timeout() {
            sleep_until(deadline.into()).await;
            mesh.handle_timeout(Instant::now());
            self.handle_output(mesh, socket);
        }
    }

    /// Logs events and sends datagrams.
    fn handle_output(&self, mesh: &mut Mesh, socket: &DualStackUdpSocket) -> Output {
        let mut output = Output::default();
        while let Some(event) = mesh.poll_event() {
            match event {
                MeshEvent::Up(node) => tracing::info!(%node, "speaker joined the mesh"),
                MeshEvent::Down(node) => tracing::warn!(%node, "speaker left the mesh or failed"),
                MeshEvent::EvidenceNeeded => output.evidence_needed = true,
                MeshEvent::SilenceRefuted(node) => {
                    tracing::info!(%node, "the node answers no echo requests, but its speaker is alive");
                    output.refuted.push(node);
                }
            }
        }
        while let Some((to, datagram)) = mesh.poll_transmit() {
            // The protocol tolerates loss.
            if let Err(error) = socket.try_send_to(&datagram, to) {
                tracing::debug!(%to, %error, "cannot send mesh datagram");
            }
        }
        let members = mesh.alive().len() - mesh.doubted().len();
        self.metrics.count_mesh(members, mesh.take_counters());
        output
    }

    fn publish(&self, mesh: &Mesh) {
        let arrivals = mesh.arrivals();
        self.membership.send_if_modified(|membership| {
            // Compared in place, so that nothing is allocated at rest.
            let equal = |known: &BTreeSet<NodeName>, now: &BTreeSet<String>| {
                known.len() == now.len() && known.iter().zip(now).all(|(a, b)| **a == **b)
            };
            let isolated = mesh.isolation().is_some();
            let unchanged = membership.as_ref().is_some_and(|view| {
                let MeshView { members, departed, arrivals: before, interfaces: _, interfaces_version } =
                    view;
                *before == arrivals
                    && *interfaces_version == mesh.interfaces_version()
                    && equal(departed, mesh.departed())
                    && members.isolated == isolated
                    && equal(&members.alive, mesh.alive())
                    && equal(&members.doubted, mesh.doubted())
            });
            if !unchanged {
                let names = |names: &BTreeSet<String>| {
                    names.iter().map(|name| NodeName::from(name.as_str())).collect()
                };
                let members =
                    Members { alive: names(mesh.alive()), doubted: names(mesh.doubted()), isolated };
                let departed = names(mesh.departed());
                let interfaces_version = mesh.interfaces_version();
                let known = membership.as_ref().filter(|view| view.interfaces_version == interfaces_version);
                let interfaces = match known {
                    Some(view) => view.interfaces.clone(),
                    None => {
                        let shared = mesh
                            .interfaces()
                            .map(|(node, interfaces)| (NodeName::from(node.as_str()), interfaces.clone()));
                        Arc::new(shared.collect())
                    }
                };
                *membership = Some(MeshView { members, departed, arrivals, interfaces, interfaces_version });
            }
            !unchanged
        });
    }

    async fn open_socket(&self) -> DualStackUdpSocket {
        let mut logged = false;
        loop {
            match DualStackUdpSocket::bind(self.port) {
                Ok(socket) => {
                    // Before the first readiness event, tokio refuses to send.
                    let _ = socket.writable().await;
                    return socket;
                }
                Err(error) if !logged => {
                    let port = self.port;
                    tracing::error!(port, %error, "cannot bind the UDP port of the mesh; retrying");
                    logged = true;
                }
                Err(_) => {}
            }
            sleep(BIND_RETRY_INTERVAL).await;
        }
    }
}

/// What [`MeshTask::handle_output`] found.
#[derive(Default)]
struct Output {
    /// An inquiry is due.
    evidence_needed: bool,
    /// Nodes that drop echo requests.
    refuted: Vec<String>,
}

/// Handles the datagrams that have arrived.
fn drain(mesh: &mut Mesh, socket: &DualStackUdpSocket, buffer: &mut [u8]) {
    for _ in 0..MAX_DRAINED {
        match socket.try_recv_from(buffer) {
            Ok((length, from)) => {
                mesh.handle_datagram(Instant::now(), from, buffer.get(..length).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // It concerns an earlier datagram.
            Err(_) => {}
        }
    }
}

/// Waits for other silences. Without a thread that probes, it waits forever. Cancel safe.
async fn changed_silences(probe: &mut Option<Probe>) -> Silences {
    let Some(running) = probe else { return std::future::pending().await };
    if running.silences.changed().await.is_err() {
        tracing::error!("the thread that probes other nodes has ended; failures are detected later");
        *probe = None;
        return Silences::default();
    }
    running.silences.borrow_and_update().clone()
}

/// Waits for the end of the inquiry, if there is one. `None` if it panicked. Cancel safe.
async fn finished(inquiry: &mut Option<JoinHandle<Evidence>>) -> Option<Evidence> {
    let Some(running) = inquiry else { return std::future::pending().await };
    let evidence = running.await;
    *inquiry = None;
    evidence.ok()
}

fn log_isolation(cause: Option<IsolationCause>) {
    const CONSEQUENCE: &str = "until one answers, this node keeps the L2 addresses that it announces, and \
                               takes over no others";
    match cause {
        None => tracing::info!("no longer isolated from the other speakers"),
        Some(IsolationCause::Unknown) => {
            tracing::debug!("no other speaker answers; asking the hosts on the link")
        }
        Some(IsolationCause::NothingAnswers) => tracing::warn!(
            "no other speaker and no host on the link answers: this node is cut off; {CONSEQUENCE}"
        ),
        Some(IsolationCause::OthersAlive) => tracing::warn!(
            "other nodes are alive, but no speaker answers; check that UDP port of the mesh is open in both \
             directions, and that all speakers were started with the present mesh Secret; {CONSEQUENCE}"
        ),
    }
}
