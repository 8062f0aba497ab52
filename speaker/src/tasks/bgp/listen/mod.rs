//! Listens for the routers of passive peers. The port is open while a session of this node waits for one, at
//! the local addresses of these sessions.
//!
//! The kernel drops what comes from other hosts. A connection that passes its filter although no passive peer
//! has the address is reset as soon as it is accepted. Accepting is limited to [`rate::MAX_PER_SECOND`]
//! connections per second; more of them wait in the kernel, whose queue is short.

mod keys;
mod problem;
mod rate;
mod sockets;
mod task;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use fairlead_net::tcp::Accepted;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::passwords::Key;
use crate::metrics::Metrics;

/// Connections of one router that wait for the task of its peer, which takes them in every turn.
const WAITING: usize = 4;

/// The ports that are open for passive peers.
pub(crate) struct Listeners {
    port: u16,
    metrics: Metrics,
    open: Mutex<BTreeMap<Place, Weak<ListenTask>>>,
    next_id: AtomicU64,
}

/// What sessions have in common that share a task: sockets for single addresses conflict with one for all
/// addresses of the family in the same VRF.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    ipv4: bool,
    /// The VRF device.
    device: Option<String>,
}

/// A router that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExpectedRouter {
    /// The address and port that it connects to; the unspecified address of its family for all addresses of
    /// the node.
    pub(super) local: SocketAddr,
    /// The VRF device.
    pub(super) device: Option<String>,
    pub(super) remote: IpAddr,
    /// Index of the interface of a link-local address.
    pub(super) interface: Option<u32>,
    /// TCP-MD5 key: connections without it are not accepted.
    pub(super) key: Option<Key>,
}

/// The task that accepts connections in one place.
struct ListenTask {
    expected: watch::Sender<Expected>,
    _task: AbortOnDropHandle<()>,
}

/// The routers that may connect, the oldest registration first.
type Expected = BTreeMap<u64, Entry>;

#[derive(Clone)]
struct Entry {
    router: ExpectedRouter,
    connections: mpsc::Sender<Accepted>,
    problem: watch::Sender<Option<String>>,
}

/// The registration of one router. Dropping it ends the right to connect, and closes the port with the last
/// one.
pub(super) struct Registration {
    id: u64,
    task: Arc<ListenTask>,
    connections: mpsc::Receiver<Accepted>,
    problem: watch::Receiver<Option<String>>,
}

impl Listeners {
    pub(crate) fn new(port: u16, metrics: Metrics) -> Self {
        Self { port, metrics, open: Mutex::default(), next_id: AtomicU64::default() }
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Lets a router connect. Needs a Tokio runtime.
    pub(super) fn register(&self, router: ExpectedRouter) -> Registration {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, task| task.strong_count() > 0);
        let place = Place { ipv4: router.local.is_ipv4(), device: router.device.clone() };
        let task = open.get(&place).and_then(Weak::upgrade).unwrap_or_else(|| {
            let (expected, receiver) = watch::channel(Expected::new());
            let task = task::listen(place.device.clone(), receiver, self.metrics.clone());
            let task = Arc::new(ListenTask { expected, _task: AbortOnDropHandle::new(tokio::spawn(task)) });
            open.insert(place, Arc::downgrade(&task));
            task
        });
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, connections) = mpsc::channel(WAITING);
        let (problem_sender, problem) = watch::channel(None);
        let entry = Entry { router, connections: sender, problem: problem_sender };
        task.expected.send_modify(|expected| drop(expected.insert(id, entry)));
        Registration { id, task, connections, problem }
    }
}

impl Registration {
    /// Replaces the TCP-MD5 key for connections from now on.
    pub(super) fn set_key(&self, key: Option<Key>) {
        self.task.expected.send_modify(|expected| {
            if let Some(entry) = expected.get_mut(&self.id) {
                entry.router.key = key;
            }
        });
    }

    /// Waits for a connection of the router. Returns `None` if [`Registration::problem`] changes first.
    /// Cancel safe.
    pub(super) async fn accept(&mut self) -> Option<Accepted> {
        tokio::select! {
            biased;
            Ok(()) = self.problem.changed() => None,
            Some(accepted) = self.connections.recv() => Some(accepted),
            // The task ends only with its registrations.
            else => std::future::pending().await,
        }
    }

    /// Returns why no connection can be accepted; `None` if one can.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.task.expected.send_modify(|expected| drop(expected.remove(&self.id)));
    }
}
