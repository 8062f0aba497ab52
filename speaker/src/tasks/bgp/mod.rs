//! BGP: one task per peer, on a thread of their own, and the coordinator's access to them.

mod bfd;
mod commands;
mod connect;
mod connection;
mod endpoint;
mod listen;
mod next_hops;
mod passwords;
mod peer;
mod router;
mod router_id;
mod session_link;
mod session_view;
mod thread;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_bgp::{Attributes, CeaseSubcode};
use fairlead_crds::model::config::{Peer, PeerAddress};
use fairlead_plan::node_status::Sessions;
use ipnet::IpNet;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use listen::Listeners;
pub(crate) use passwords::Passwords;
pub(crate) use router_id::NodeRouterId;

use crate::metrics::Metrics;
use crate::tasks::bfd::BfdSessions;
use crate::tasks::gateways::GatewaysReceiver;
use crate::tasks::links::LinksReceiver;
use commands::{Cause, PeerCommandSender, Stop, command_channel};
use peer::PeerTask;
use thread::BgpThread;

/// Parameters and channels that all peer tasks share.
#[derive(Clone)]
pub(crate) struct PeerContext {
    /// Name of this node.
    pub node: Arc<str>,
    pub links: LinksReceiver,
    pub gateways: GatewaysReceiver,
    /// InternalIP addresses of the Node object.
    pub node_addresses: watch::Receiver<Vec<std::net::IpAddr>>,
    /// How long after a change that all nodes see this one moves its sessions.
    pub turn: watch::Receiver<Duration>,
    pub router_id: NodeRouterId,
    pub bfd: BfdSessions,
    /// The port to which the routers of passive peers connect.
    pub listeners: Arc<Listeners>,
    /// TCP-MD5 keys.
    pub passwords: Arc<Passwords>,
    pub process: ProcessStart,
    /// Time for a router to move traffic to other paths before a session is shut down.
    pub drain_wait: Duration,
    /// Sessions as the Speaker object shows them. Each task writes its own entry.
    pub sessions: watch::Sender<Sessions>,
    pub metrics: Metrics,
}

/// When this process started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessStart {
    pub started: Instant,
    /// How long the node had been up.
    pub node_uptime: Duration,
}

impl ProcessStart {
    /// Returns the start of a process that starts now.
    pub(crate) fn now() -> Self {
        let uptime = std::fs::read_to_string("/proc/uptime").ok();
        let seconds = uptime.and_then(|text| text.split_whitespace().next()?.parse().ok());
        let node_uptime = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        // Without the file, the node is not Linux and forwards nothing.
        Self { started: Instant::now(), node_uptime: node_uptime.unwrap_or_default() }
    }
}

/// The BGP peers of this node. No method waits for a peer, except [`BgpPeers::shut_down`].
pub(crate) struct BgpPeers {
    context: PeerContext,
    thread: BgpThread,
    peers: BTreeMap<Arc<str>, PeerHandle>,
    /// Tasks of closed sessions, with the addresses of their peers. Each ends within about a second.
    closing: Vec<(PeerAddress, JoinHandle<()>)>,
    /// Peers that [`BgpPeers::start_opened`] starts.
    opened: Vec<Arc<str>>,
    /// True if the peers should prefer other paths.
    graceful_shutdown: bool,
    /// The cause of the changes of routes, see [`BgpPeers::set_cause`].
    cause: Cause,
}

struct PeerHandle {
    address: PeerAddress,
    commands: PeerCommandSender,
    task: JoinHandle<()>,
}

impl BgpPeers {
    /// Starts the thread of the sessions.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub(crate) fn start(context: PeerContext) -> std::io::Result<Self> {
        let thread = BgpThread::start()?;
        #[cfg(debug_assertions)]
        drop(thread.spawn(crate::stall::on_signal("bgp")));
        Ok(Self {
            context,
            thread,
            peers: BTreeMap::new(),
            closing: Vec::new(),
            opened: Vec::new(),
            graceful_shutdown: false,
            cause: None,
        })
    }

    /// Creates a session. [`BgpPeers::start_opened`] starts it, so that it has its first routes before it is
    /// established. It connects when closed sessions with the same address have ended: a router accepts only
    /// one from this node.
    pub(crate) fn open(&mut self, peer: Peer) {
        let name: Arc<str> = peer.name.as_str().into();
        let (previous, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.closing)
            .into_iter()
            .partition(|(address, _)| address.may_be_same_router(&peer.address));
        self.closing = others;
        tracing::info!(peer = %name, "opening BGP session");
        let (commands, receiver) = command_channel();
        let address = peer.address.clone();
        let previous = previous.into_iter().map(|(_, task)| task).collect();
        let task = self.thread.spawn(PeerTask::run(peer, receiver, self.context.clone(), previous));
        if self.graceful_shutdown {
            commands.set_graceful_shutdown(true);
        }
        self.opened.push(name.clone());
        self.peers.insert(name, PeerHandle { address, commands, task });
    }

    /// Changes the parameters of a session, and its name to that of `wanted`. If they need a new session, the
    /// established one is replaced after `delay`. The routes remain.
    pub(crate) fn update(&mut self, name: &str, wanted: Box<Peer>, delay: Duration) {
        if let Some(handle) = self.peers.remove(name) {
            let (name, address) = (wanted.name.as_str().into(), wanted.address.clone());
            handle.commands.update(wanted, delay);
            self.peers.insert(name, PeerHandle { address, ..handle });
        }
    }

    /// Closes a session: withdraws its routes, then sends Cease.
    pub(crate) fn close(&mut self, name: &str) {
        if let Some(PeerHandle { address, commands, task }) = self.peers.remove(name) {
            tracing::info!(peer = %name, "closing BGP session");
            let text = "the BGPPeer does not select this node any more";
            commands.stop(Stop {
                subcode: CeaseSubcode::PeerDeconfigured,
                text: text.to_owned(),
                restart: false,
                drain: Duration::ZERO,
            });
            self.closing.retain(|(_, task)| !task.is_finished());
            self.closing.push((address, task));
        }
    }

    /// Sets the cause of the changes of routes from now on: the EndpointSlice event that arrived at this
    /// time; `None` for another cause.
    pub(crate) fn set_cause(&mut self, endpoint_event: Option<Instant>) {
        self.cause = endpoint_event;
    }

    /// Announces a route to a peer, or replaces its attributes.
    pub(crate) fn announce(&self, peer: &str, prefix: IpNet, attributes: Arc<Attributes>) {
        if let Some(peer) = self.peers.get(peer) {
            peer.commands.announce(prefix, attributes, self.cause);
        }
    }

    /// Withdraws a route from a peer.
    pub(crate) fn withdraw(&self, peer: &str, prefix: IpNet) {
        if let Some(peer) = self.peers.get(peer) {
            peer.commands.withdraw(prefix, self.cause);
        }
    }

    /// Starts the sessions that were opened since the last call.
    pub(crate) fn start_opened(&mut self) {
        for name in std::mem::take(&mut self.opened) {
            if let Some(peer) = self.peers.get(&name) {
                peer.commands.start();
            }
        }
    }

    /// Sets whether the peers should prefer other paths to all routes, on present and future sessions (RFC
    /// 8326).
    pub(crate) fn set_graceful_shutdown(&mut self, graceful_shutdown: bool) {
        self.graceful_shutdown = graceful_shutdown;
        for peer in self.peers.values() {
            peer.commands.set_graceful_shutdown(graceful_shutdown);
        }
    }

    /// Ends all sessions. If this process restarts, peers with graceful restart retain the routes. All others
    /// are asked to prefer other paths, and after `drain` the routes are withdrawn. Returns `limit` later at
    /// the latest.
    pub(crate) async fn shut_down(&mut self, text: &str, restart: bool, drain: Duration, limit: Duration) {
        let mut tasks: Vec<_> = std::mem::take(&mut self.closing).into_iter().map(|(_, task)| task).collect();
        for (_, PeerHandle { commands, task, .. }) in std::mem::take(&mut self.peers) {
            let subcode = CeaseSubcode::AdministrativeShutdown;
            commands.stop(Stop { subcode, text: text.to_owned(), restart, drain });
            tasks.push(task);
        }
        if timeout(drain + limit, futures::future::join_all(tasks)).await.is_err() {
            tracing::warn!(?limit, "BGP sessions did not end in time; closing their connections");
        }
    }
}
