//! The thread that sends ICMP echo requests to the other nodes, and the access of the mesh task to it.
//!
//! The thread shares nothing with the Tokio runtimes but its input and the silences that it finds. Whatever
//! delays those, its requests leave on time, and it reads the times at which the kernel received the replies.
//! The core ([`fairlead_probe::Prober`]) makes all decisions.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fairlead_net::bfd::{BfdBatch, BfdPoller, BfdReceiver, BfdWaker};
use fairlead_net::{EchoSocket, Scheduling};
use fairlead_probe::{Counters, Detection, EchoIdentity, EchoRequest, Prober, Silence};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// Batches of replies that a turn reads from one socket, 16 replies each.
const MAX_BATCHES_PER_TURN: usize = 16;

/// Nodes whose kernels do not answer although they did before.
pub(crate) type Silences = BTreeMap<String, Silence>;

/// Access to the thread. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    input: Arc<Mutex<Input>>,
    waker: BfdWaker,
    /// The latest value.
    pub silences: watch::Receiver<Silences>,
}

/// What the thread has not yet read.
#[derive(Debug, Default)]
struct Input {
    peers: Option<BTreeMap<String, IpAddr>>,
    /// Nodes that drop echo requests; at most one entry per peer.
    refuted: Vec<String>,
    stop: bool,
}

struct ProbeThread {
    input: Arc<Mutex<Input>>,
    poller: BfdPoller,
    prober: Prober,
    identity: EchoIdentity,
    /// For IPv4 and, unless the kernel has none, for IPv6.
    sockets: (EchoSocket, Option<EchoSocket>),
    batch: BfdBatch,
    silences: watch::Sender<Silences>,
    counted: Counters,
    metrics: Metrics,
}

impl Probe {
    /// Starts the thread. Returns `None` if `detection` needs no requests.
    ///
    /// # Errors
    /// Returns an error if the sockets cannot be opened or the thread cannot be started.
    pub(crate) fn start(detection: Detection, metrics: Metrics) -> io::Result<Option<Self>> {
        let Some(timing) = detection.timing() else { return Ok(None) };
        let identity = EchoIdentity { identifier: rand::random(), cookie: rand::random() };
        let v6 = match EchoSocket::open(false, identity.identifier) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::debug!(%error, "no echo requests by IPv6");
                None
            }
        };
        let sockets = (EchoSocket::open(true, identity.identifier)?, v6);
        let (poller, waker) = BfdPoller::new()?;
        let input = Arc::new(Mutex::new(Input::default()));
        let (sender, silences) = watch::channel(Silences::default());
        let thread = ProbeThread {
            input: input.clone(),
            poller,
            prober: Prober::new(timing),
            identity,
            sockets,
            batch: BfdBatch::new(),
            silences: sender,
            counted: Counters::default(),
            metrics,
        };
        std::thread::Builder::new().name("probe".to_owned()).spawn(move || thread.run())?;
        Ok(Some(Self { input, waker, silences }))
    }

    /// Replaces the nodes to probe.
    pub(crate) fn set_peers(&self, peers: BTreeMap<String, IpAddr>) {
        self.change(|input| {
            input.refuted.retain(|node| peers.contains_key(node));
            input.peers = Some(peers);
        });
    }

    /// Notes that a speaker answers although the kernel of its node does not.
    pub(crate) fn refute(&self, node: String) {
        self.change(|input| {
            if !input.refuted.contains(&node) {
                input.refuted.push(node);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Input)) {
        change(&mut self.input.lock().unwrap_or_else(PoisonError::into_inner));
        self.waker.wake();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.change(|input| input.stop = true);
    }
}

impl ProbeThread {
    fn run(mut self) {
        let scheduling = Scheduling::raise();
        if scheduling != Scheduling::Fifo {
            tracing::info!(
                %scheduling,
                "the thread that probes other nodes runs without SCHED_FIFO; on busy nodes, failures of other \
                 nodes are detected later"
            );
        }
        while self.take_input() {
            let now = self.receive();
            self.prober.handle_timeout(now);
            self.send();
            self.report();
            let timeout = self.prober.poll_timeout().map(|at| at.saturating_duration_since(Instant::now()));
            // Replies need not wake the thread: the kernel notes when they arrive.
            if let Err(error) = self.poller.wait(std::iter::empty::<&BfdReceiver>(), timeout) {
                tracing::error!(%error, "cannot wait for the next probe of other nodes");
                return;
            }
        }
    }

    /// Returns false if the thread must end.
    fn take_input(&mut self) -> bool {
        let input = std::mem::take(&mut *self.input.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(peers) = input.peers {
            self.prober.set_peers(Instant::now(), &peers);
        }
        input.refuted.iter().for_each(|node| self.prober.refute(node));
        !input.stop
    }

    /// Reads the replies. Returns the time until which everything that arrived was read.
    fn receive(&mut self) -> Instant {
        let mut until = Instant::now();
        let (v4, v6) = &mut self.sockets;
        for socket in std::iter::once(v4).chain(v6) {
            for round in 1..=MAX_BATCHES_PER_TURN {
                let more = match socket.receive(&mut self.batch) {
                    Ok(more) => more,
                    Err(error) => {
                        tracing::debug!(%error, "cannot receive echo replies");
                        break;
                    }
                };
                for packet in self.batch.datagrams() {
                    if let Some(tick) = self.identity.reply(packet.source, packet.payload) {
                        self.prober.handle_reply(packet.arrived, packet.source, tick);
                    }
                    if more && round == MAX_BATCHES_PER_TURN {
                        until = until.min(packet.arrived);
                    }
                }
                if !more {
                    break;
                }
            }
        }
        until
    }

    fn send(&mut self) {
        let mut any = false;
        while let Some(request) = self.prober.poll_transmit() {
            any = true;
            if let Err(error) = self.send_one(request) {
                tracing::debug!(to = %request.to, %error, "cannot send an echo request");
                self.prober.handle_unsent(request);
            }
        }
        if any {
            self.prober.handle_sent(Instant::now());
        }
    }

    fn send_one(&self, request: EchoRequest) -> io::Result<()> {
        let socket = match request.to {
            IpAddr::V4(_) => &self.sockets.0,
            IpAddr::V6(_) => self.sockets.1.as_ref().ok_or(io::ErrorKind::Unsupported)?,
        };
        socket.send(request.to, &self.identity.request(request.to, request.tick))
    }

    /// Passes on what changed.
    fn report(&mut self) {
        let mut same = 0;
        let known = self.silences.borrow().len();
        let equal = self.prober.silences().all(|(node, silence)| {
            same += 1;
            self.silences.borrow().get(node) == Some(&silence)
        });
        if !equal || same != known {
            let silences = self.prober.silences().map(|(node, silence)| (node.to_owned(), silence));
            self.silences.send_replace(silences.collect());
        }
        let counters = self.prober.counters();
        self.metrics.count_probes(self.counted, counters);
        self.counted = counters;
    }
}
