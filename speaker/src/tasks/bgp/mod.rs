//! The shell of BGP: one task per peer.

mod connect;
mod next_hops;
mod passwords;
mod peer;
mod router_id;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fairlead_bgp::{Attributes, CeaseSubcode};
use fairlead_crds::model::config::Peer;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use passwords::Passwords;
pub(crate) use router_id::router_id;

use crate::metrics::Metrics;
use crate::tasks::links;
use fairlead_plan::node_status::Sessions;
use peer::PeerTask;

/// What a peer's task is told. These are differences, so they may queue without bound: a task never waits for its
/// peer before it takes the next.
#[derive(Debug)]
enum Command {
    /// The peer should know this route.
    Announce(IpNet, Arc<Attributes>),
    /// The peer should not know it.
    Withdraw(IpNet),
    /// All that is to be announced at first has been said.
    Start,
    /// Withdraw everything, say why, and end.
    Stop { subcode: CeaseSubcode, text: String },
}

/// What all peers share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Name of this node.
    pub node: Arc<str>,
    /// The node's interfaces.
    pub links: links::Known,
    /// Addresses of the Node object.
    pub node_addresses: watch::Receiver<Vec<std::net::IpAddr>>,
    /// TCP-MD5 keys.
    pub passwords: Arc<Passwords>,
    /// What is reported.
    pub sessions: watch::Sender<Sessions>,
    /// Counters.
    pub metrics: Metrics,
}

/// All sessions of this node.
pub(crate) struct Engine {
    shared: Shared,
    peers: BTreeMap<Arc<str>, Handle>,
    /// Closed sessions that are still saying goodbye.
    closing: Vec<JoinHandle<()>>,
    opened: Vec<Arc<str>>,
}

struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

impl Engine {
    /// No sessions yet.
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared, peers: BTreeMap::new(), closing: Vec::new(), opened: Vec::new() }
    }

    /// Opens a session, after closing the one of the same name. It starts with [`Engine::start`], so that its first
    /// routes are there when it comes up.
    pub(crate) fn open(&mut self, peer: Peer) {
        let name: Arc<str> = peer.name.as_str().into();
        let before = self.peers.remove(&name).map(|handle| {
            handle.stop(CeaseSubcode::OtherConfigurationChange, "the BGPPeer was changed");
            handle.task
        });
        tracing::info!(peer = %name, "opening session");
        let (commands, received) = mpsc::unbounded_channel();
        let task = tokio::spawn(PeerTask::run(peer, received, self.shared.clone(), before));
        self.opened.push(name.clone());
        self.peers.insert(name, Handle { commands, task });
    }

    /// Closes a session: routes are withdrawn, then the peer is told.
    pub(crate) fn close(&mut self, name: &str) {
        if let Some(handle) = self.peers.remove(name) {
            tracing::info!(peer = %name, "closing session");
            handle.stop(CeaseSubcode::PeerDeconfigured, "the BGPPeer does not select this node any more");
            self.closing.retain(|task| !task.is_finished());
            self.closing.push(handle.task);
        }
    }

    /// Announces a route.
    pub(crate) fn announce(&self, peer: &str, prefix: IpNet, attributes: Arc<Attributes>) {
        self.tell(peer, Command::Announce(prefix, attributes));
    }

    /// Withdraws a route.
    pub(crate) fn withdraw(&self, peer: &str, prefix: IpNet) {
        self.tell(peer, Command::Withdraw(prefix));
    }

    /// Starts what was opened.
    pub(crate) fn start(&mut self) {
        for name in std::mem::take(&mut self.opened) {
            self.tell(&name, Command::Start);
        }
    }

    /// Withdraws everything everywhere and ends the sessions, within `limit`.
    pub(crate) async fn shut_down(&mut self, text: &str, limit: Duration) {
        let mut ending = std::mem::take(&mut self.closing);
        for (_, handle) in std::mem::take(&mut self.peers) {
            handle.stop(CeaseSubcode::AdministrativeShutdown, text);
            ending.push(handle.task);
        }
        if timeout(limit, futures::future::join_all(ending)).await.is_err() {
            tracing::warn!("a peer did not take the withdrawals in time");
        }
    }

    fn tell(&self, peer: &str, command: Command) {
        if let Some(handle) = self.peers.get(peer) {
            // A task that ended has said why.
            let _ = handle.commands.send(command);
        }
    }
}

impl Handle {
    fn stop(&self, subcode: CeaseSubcode, text: &str) {
        let _ = self.commands.send(Command::Stop { subcode, text: text.to_owned() });
    }
}
