//! The task that accepts connections in one place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fairlead_net::tcp::{Accepted, ListenOptions, Listener};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use super::problem::open_problem;
use super::rate::AcceptRate;
use super::{Entry, Expected, Place};
use crate::metrics::Metrics;
use crate::tasks::bgp::passwords::Key;

/// Time between two attempts to open the port.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Pause after a connection could not be accepted, for example without a free file descriptor.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Opens the port, and accepts connections until the registrations end.
pub(super) async fn listen(
    place: Place,
    port: u16,
    mut expected: watch::Receiver<Expected>,
    metrics: Metrics,
) {
    let Some(listener) = open(&place, port, &mut expected).await else { return };
    tracing::info!(port, ipv4 = place.ipv4, vrf = ?place.device, "listening for passive BGP peers");
    let mut routers = Routers { listener: &listener, keys: BTreeMap::new(), connections: BTreeMap::new() };
    routers.update(&expected.borrow_and_update());
    let mut rate = AcceptRate::new(Instant::now());
    loop {
        let next = rate.next();
        let accept = async {
            if next > Instant::now() {
                sleep_until(next.into()).await;
            }
            listener.accept().await
        };
        tokio::select! {
            // Registrations first: a router that was removed must not be accepted.
            biased;
            changed = expected.changed() => match changed {
                Ok(()) => routers.update(&expected.borrow_and_update()),
                Err(_) => return,
            },
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

/// Opens the port when it is free. Returns `None` if no router may connect any more.
async fn open(place: &Place, port: u16, expected: &mut watch::Receiver<Expected>) -> Option<Listener> {
    let options = ListenOptions { ipv4: place.ipv4, port, device: place.device.clone() };
    let mut logged = None;
    loop {
        let problem = match Listener::open(&options) {
            Ok(listener) => return Some(listener),
            Err(error) => open_problem(&error, place, port),
        };
        if logged.as_ref() != Some(&problem) {
            tracing::warn!(%problem, "cannot listen for passive BGP peers; retrying");
        }
        expected.borrow_and_update().values().for_each(|entry| set_problem(entry, Some(&problem)));
        logged = Some(problem);
        tokio::select! {
            changed = expected.changed() => changed.ok()?,
            () = sleep(RETRY_INTERVAL) => {}
        }
    }
}

/// The routers that may connect, with the keys that the listening socket has.
struct Routers<'a> {
    listener: &'a Listener,
    keys: BTreeMap<IpAddr, Key>,
    /// By address, and interface of a link-local address.
    connections: BTreeMap<(IpAddr, Option<u32>), mpsc::Sender<Accepted>>,
}

impl Routers<'_> {
    fn update(&mut self, expected: &Expected) {
        self.connections.clear();
        let mut unused = std::mem::take(&mut self.keys);
        for entry in expected.values() {
            let router = &entry.router;
            let place = (router.remote, router.interface);
            // Of two registrations for one router, which overlap only for a moment, the older one counts.
            if self.connections.contains_key(&place) {
                continue;
            }
            let earlier = unused.remove(&router.remote);
            if let Err(problem) = self.set_key(router.remote, router.key.as_ref(), earlier) {
                set_problem(entry, Some(&problem));
                continue;
            }
            set_problem(entry, None);
            self.connections.insert(place, entry.connections.clone());
        }
        for (remote, _) in unused {
            self.remove_key(remote);
        }
    }

    fn set_key(&mut self, remote: IpAddr, key: Option<&Key>, earlier: Option<Key>) -> Result<(), String> {
        match key {
            Some(key) => {
                if earlier.as_ref() != Some(key) {
                    self.listener
                        .set_md5_key(remote, key.octets())
                        .map_err(|error| format!("cannot listen for the router: {error}"))?;
                }
                self.keys.insert(remote, key.clone());
            }
            // Link-local addresses of several interfaces share the key.
            None if earlier.is_some() => self.remove_key(remote),
            None => {}
        }
        Ok(())
    }

    fn remove_key(&self, remote: IpAddr) {
        if let Err(error) = self.listener.remove_md5_key(remote) {
            tracing::debug!(%remote, %error, "cannot remove a TCP-MD5 key");
        }
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
        match self.connections.get(&place) {
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
