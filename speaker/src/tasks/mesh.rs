//! The shell of the mesh: one UDP socket, and the key from a Secret.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fairlead_mesh::{Config, Identity, Mesh, MeshEvent};
use fairlead_net::DualStackUdpSocket;
use fairlead_runtime::backoff::Backoff;
use fairlead_runtime::client::chain;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::tasks::until;
use fairlead_plan::NodeName;

/// Name of the Secret that the controller makes.
pub(crate) const SECRET: &str = "fairlead-mesh";
/// Key in it.
pub(crate) const SECRET_KEY: &str = "key";

/// The longest time that leaving may take.
const FAREWELL: Duration = Duration::from_millis(200);

/// What the mesh needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The node's own address; `None` while the Node object has none.
    pub own: Option<IpAddr>,
    /// Where the other speakers are; `None` until they were listed.
    pub peers: Option<Peers>,
}

/// Where speakers are, by node name. Shared: it is looked at with every event, and seldom another one.
pub(crate) type Peers = Arc<BTreeMap<String, SocketAddr>>;

/// Who takes part in the mesh; `None` while this speaker does not.
pub(crate) type Live = Option<Members>;

/// Who takes part in the mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    /// The live speakers, this one included.
    pub alive: BTreeSet<NodeName>,
    /// How often another speaker came (back): from where it could hear nobody it may have claimed everything.
    pub arrivals: u64,
}

/// What the engine works with.
pub(crate) struct Shell {
    /// For the Secret.
    pub client: Client,
    /// Namespace of the Secret.
    pub namespace: String,
    /// Name of this node.
    pub node: String,
    /// UDP port of the mesh.
    pub port: u16,
    /// Addresses of this speaker and of the others.
    pub surroundings: watch::Receiver<Surroundings>,
    /// Where the outcome goes.
    pub live: watch::Sender<Live>,
    /// Told to leave.
    pub leave: CancellationToken,
    /// Counters.
    pub metrics: Metrics,
}

impl Shell {
    /// Takes part in the mesh until told to leave.
    pub(crate) async fn run(mut self) {
        let leave = self.leave.clone();
        let ready = async {
            let key = self.key().await;
            let socket = self.socket().await;
            (key, socket)
        };
        let (key, socket) = tokio::select! {
            ready = ready => ready,
            () = leave.cancelled() => return,
        };
        loop {
            let known = self.surroundings.wait_for(|s| s.own.is_some() && s.peers.is_some());
            let own = tokio::select! {
                known = known => match known {
                    Ok(known) => known.own,
                    Err(_) => return,
                },
                () = leave.cancelled() => return,
            };
            let Some(own) = own else { continue };
            let identity = Identity {
                node: self.node.clone(),
                address: SocketAddr::new(own, self.port),
                generation: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
            };
            tracing::info!(address = %identity.address, "taking part in the mesh");
            let mesh = Mesh::new(Instant::now(), Config::default(), identity, &key, rand::random());
            if !self.take_part(mesh, &socket, own).await {
                return;
            }
        }
    }

    /// Returns true when the node's own address has changed, false when the mesh was left.
    async fn take_part(&mut self, mut mesh: Mesh, socket: &DualStackUdpSocket, own: IpAddr) -> bool {
        let mut buffer = vec![0; 2048];
        let mut peers = None;
        let mut arrivals = 0;
        loop {
            let now = Instant::now();
            let seen = self.surroundings.borrow_and_update().clone();
            if seen.own != Some(own) {
                return true;
            }
            if let Some(listed) = seen.peers.filter(|listed| peers.as_ref() != Some(listed)) {
                mesh.set_peers(now, BTreeMap::clone(&listed));
                peers = Some(listed);
            }
            arrivals += self.drain(&mut mesh, socket);
            self.publish(&mesh, arrivals);
            let wake = mesh.poll_timeout();
            tokio::select! {
                received = socket.recv_from(&mut buffer) => {
                    // An error here is news of an earlier datagram (ICMP unreachable): the mesh finds out itself.
                    if let Ok((length, from)) = received {
                        mesh.handle_datagram(Instant::now(), from, buffer.get(..length).unwrap_or_default());
                    }
                }
                () = until(wake) => {
                    mesh.handle_timeout(Instant::now());
                }
                changed = self.surroundings.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                }
                () = self.leave.cancelled() => {
                    let _ = timeout(FAREWELL, self.say_goodbye(&mut mesh, socket)).await;
                    return false;
                }
            }
        }
    }

    /// Says so more than once: a datagram may be lost.
    async fn say_goodbye(&self, mesh: &mut Mesh, socket: &DualStackUdpSocket) {
        mesh.leave(Instant::now());
        self.drain(mesh, socket);
        while let Some(wake) = mesh.poll_timeout() {
            sleep_until(wake.into()).await;
            mesh.handle_timeout(Instant::now());
            self.drain(mesh, socket);
        }
    }

    /// Sends what is to be sent. Returns how many speakers came.
    fn drain(&self, mesh: &mut Mesh, socket: &DualStackUdpSocket) -> u64 {
        let mut arrivals = 0;
        while let Some(event) = mesh.poll_event() {
            match event {
                MeshEvent::Up(node) => {
                    arrivals += 1;
                    tracing::info!(%node, "speaker is alive");
                }
                MeshEvent::Down(node) => tracing::warn!(%node, "speaker is gone"),
            }
        }
        while let Some((to, datagram)) = mesh.poll_transmit() {
            // A datagram that cannot be sent is a lost one; the protocol lives with those.
            if let Err(error) = socket.try_send_to(&datagram, to) {
                tracing::debug!(%to, %error, "datagram of the mesh not sent");
            }
        }
        let counters = mesh.counters();
        self.metrics.mesh_members.set(mesh.alive().len() as i64);
        self.metrics.set_mesh(counters);
        arrivals
    }

    fn publish(&self, mesh: &Mesh, arrivals: u64) {
        self.live.send_if_modified(|live| {
            let known = live.as_ref().is_some_and(|known| {
                known.arrivals == arrivals
                    && known.alive.len() == mesh.alive().len()
                    && known.alive.iter().zip(mesh.alive()).all(|(a, b)| **a == **b)
            });
            if !known {
                let alive = mesh.alive().iter().map(|name| NodeName::from(name.as_str())).collect();
                *live = Some(Members { alive, arrivals });
            }
            !known
        });
    }

    /// The key, waited for: the controller makes it when it starts.
    async fn key(&self) -> Vec<u8> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut said = String::new();
        loop {
            let why = match timeout(Duration::from_secs(5), secrets.get_opt(SECRET)).await {
                Ok(Ok(Some(secret))) => match secret.data.and_then(|mut data| data.remove(SECRET_KEY)) {
                    Some(key) if !key.0.is_empty() => return key.0,
                    _ => format!("it has no {SECRET_KEY}"),
                },
                Ok(Ok(None)) => "it does not exist (yet); the controller makes it".to_owned(),
                Ok(Err(error)) => chain(&error),
                Err(_) => "the API server does not answer".to_owned(),
            };
            if why != said {
                tracing::warn!(namespace = %self.namespace, why, "waiting for the Secret {SECRET}");
                said = why;
            }
            sleep(backoff.fail(rand::random())).await;
        }
    }

    async fn socket(&self) -> DualStackUdpSocket {
        let mut said = false;
        loop {
            match DualStackUdpSocket::bind(self.port) {
                // Until it is known to be writable, the first datagrams would be lost.
                Ok(socket) => {
                    let _ = socket.writable().await;
                    return socket;
                }
                Err(error) if !said => {
                    tracing::error!(port = self.port, %error, "cannot bind the mesh's UDP port; retrying");
                    said = true;
                }
                Err(_) => {}
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}
