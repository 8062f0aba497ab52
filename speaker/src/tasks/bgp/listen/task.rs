//! The task that accepts connections on the sockets of one address family in one VRF.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fairlead_net::tcp::Accepted;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use super::rate::AcceptRate;
use super::sockets::Sockets;
use super::{Entry, Expected};
use crate::metrics::Metrics;
use crate::tasks::sleep_until_or_forever;

/// Pause after a connection could not be accepted, for example without a free file descriptor.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Opens the port, and accepts connections until the registrations end.
pub(super) async fn listen(
    device: Option<String>,
    mut expected: watch::Receiver<Expected>,
    metrics: Metrics,
) {
    let mut sockets = Sockets::new(device);
    let mut routers = Routers::default();
    let mut rate = AcceptRate::new(Instant::now());
    let mut retry_at = routers.update(&mut sockets, &expected.borrow_and_update());
    loop {
        let next = rate.next();
        let accept = async {
            if next > Instant::now() {
                sleep_until(next.into()).await;
            }
            poll_fn(|cx| sockets.poll_accept(cx)).await
        };
        tokio::select! {
            // Registrations first: a router that was removed must not be accepted.
            biased;
            changed = expected.changed() => match changed {
                Ok(()) => retry_at = routers.update(&mut sockets, &expected.borrow_and_update()),
                Err(_) => return,
            },
            () = sleep_until_or_forever(retry_at) => {
                retry_at = routers.update(&mut sockets, &expected.borrow_and_update());
            }
            accepted = accept => {
                rate.count(Instant::now());
                match accepted {
                    Ok(accepted) => {
                        if !routers.dispatch(accepted) {
                            metrics.bgp_refused_connections.inc();
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a connection");
                        sleep(ERROR_PAUSE).await;
                    }
                }
            }
        }
    }
}

/// The routers that may connect, by address, and interface of a link-local address.
#[derive(Default)]
struct Routers(BTreeMap<(IpAddr, Option<u32>), mpsc::Sender<Accepted>>);

impl Routers {
    /// Adapts the sockets to the registrations. Returns when to call this again although they are the same.
    fn update(&mut self, sockets: &mut Sockets, expected: &Expected) -> Option<Instant> {
        let mut entries: BTreeMap<_, &Entry> = BTreeMap::new();
        for entry in expected.values() {
            // Of two registrations for one router, which overlap only for a moment, the older one counts.
            entries.entry((entry.router.remote, entry.router.interface)).or_insert(entry);
        }
        let routers: Vec<_> = entries.values().map(|entry| &entry.router).collect();
        let (problems, retry_at) = sockets.update(&routers, Instant::now());
        self.0.clear();
        for ((place, entry), problem) in entries.into_iter().zip(problems) {
            set_problem(entry, problem.as_deref());
            if problem.is_none() {
                self.0.insert(place, entry.connections.clone());
            }
        }
        retry_at
    }

    /// Passes a connection to its peer, or resets it. Returns false if no peer has its address.
    fn dispatch(&self, accepted: Accepted) -> bool {
        let place = match accepted.remote {
            SocketAddr::V4(v4) => (IpAddr::from(*v4.ip()), None),
            SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
                (IpAddr::from(*v6.ip()), Some(v6.scope_id()))
            }
            SocketAddr::V6(v6) => (IpAddr::from(*v6.ip()), None),
        };
        match self.0.get(&place) {
            Some(connections) => {
                if let Err(error) = connections.try_send(accepted) {
                    error.into_inner().reset();
                }
                true
            }
            None => {
                accepted.reset();
                false
            }
        }
    }
}

fn set_problem(entry: &Entry, problem: Option<&str>) {
    entry.problem.send_if_modified(|current| {
        let changed = current.as_deref() != problem;
        if changed {
            *current = problem.map(str::to_owned);
        }
        changed
    });
}
