//! Follows the router on the link of an unnumbered peer: a task with a socket for router discovery.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fairlead_l2::{NdpPacket, RouterDiscovery};
use fairlead_net::RouterDiscoverySocket;
use fairlead_net::links::{Link, Links};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::sleep;

use super::endpoint::{FoundRouter, usable_link};
use crate::tasks::links::LinksReceiver;
use crate::tasks::sleep_until_or_forever;

/// Time between two attempts to open the socket.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Longest frame that is read. Larger ones are truncated, and then have a wrong checksum.
const BUFFER_SIZE: usize = 2048;

/// The router on the link of one peer. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct RouterWatch {
    found: watch::Receiver<FoundRouter>,
    released: Arc<Notify>,
    task: AbortHandle,
}

impl RouterWatch {
    /// Starts router discovery on an interface, whenever it exists and is up. Needs a Tokio runtime.
    pub(super) fn start(interface: &str, links: LinksReceiver) -> Self {
        let (sender, found) = watch::channel(FoundRouter::default());
        let released = Arc::new(Notify::new());
        let task = tokio::spawn(follow(interface.to_owned(), links, sender, released.clone()));
        Self { found, released, task: task.abort_handle() }
    }

    /// Returns what is known now.
    pub(super) fn found(&self) -> FoundRouter {
        self.found.borrow().clone()
    }

    /// Waits until [`RouterWatch::found`] changes. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.found.changed().await.is_err() {
            // The interfaces are not followed any more: the process ends.
            std::future::pending::<()>().await;
        }
    }

    /// Handles that the session with the router ended: another router may take its place.
    pub(super) fn release(&self) {
        self.released.notify_one();
    }
}

impl Drop for RouterWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    interface: String,
    mut links: LinksReceiver,
    found: watch::Sender<FoundRouter>,
    released: Arc<Notify>,
) {
    let mut logged = String::new();
    loop {
        let link = usable_link(&links.borrow_and_update(), &interface).cloned();
        let problem = match link {
            Ok(link) => match discover(&link, &mut links, &found, &released).await {
                Ok(()) => None,
                Err(error) => Some(format!("cannot listen for routers on interface {interface}: {error}")),
            },
            Err(_) => {
                if links.changed().await.is_err() {
                    return;
                }
                None
            }
        };
        if let Some(problem) = &problem
            && *problem != logged
        {
            tracing::warn!(%problem, "router discovery failed; retrying");
            logged.clone_from(problem);
        }
        let waits = problem.is_some();
        publish(&found, FoundRouter { problem, ..FoundRouter::default() });
        if waits {
            sleep(RETRY_INTERVAL).await;
        }
    }
}

/// Runs router discovery until the interface changes.
async fn discover(
    link: &Link,
    links: &mut LinksReceiver,
    found: &watch::Sender<FoundRouter>,
    released: &Notify,
) -> io::Result<()> {
    let Some(mac) = link.mac else {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the interface is not Ethernet"));
    };
    let socket = RouterDiscoverySocket::open(link.index, &link.name)?;
    let mut discovery = RouterDiscovery::new(Instant::now(), mac);
    discovery.set_own_addresses(own_addresses(&links.borrow()));
    let mut buffer = [0; BUFFER_SIZE];
    loop {
        while let Some((destination, message)) = discovery.poll_transmit() {
            // The next message may succeed: the address of the interface may be new.
            if let Err(error) = socket.send(destination, &message) {
                tracing::debug!(interface = %link.name, %error, "cannot send router discovery message");
            }
        }
        let now = Instant::now();
        let others = discovery.has_other_routers(now);
        publish(found, FoundRouter { address: discovery.router(), others, problem: None });
        // A socket that is always readable takes no part in the cooperative scheduling of Tokio.
        yield_now().await;
        let read_after = discovery.read_after(now);
        let timeout = read_after.into_iter().chain([discovery.poll_timeout()]).min();
        tokio::select! {
            biased;
            () = sleep_until_or_forever(timeout) => {}
            changed = links.changed() => {
                let links = links.borrow_and_update();
                if changed.is_err() || !is_same(link, &links) {
                    return Ok(());
                }
                discovery.set_own_addresses(own_addresses(&links));
            }
            () = released.notified() => discovery.release(Instant::now()),
            received = socket.recv(&mut buffer), if read_after.is_none() => {
                let received = received?;
                let packet = NdpPacket {
                    source: received.source,
                    destination: received.destination,
                    hop_limit: received.hop_limit,
                    message: buffer.get(..received.len).unwrap_or_default(),
                };
                discovery.handle_message(Instant::now(), &packet);
            }
        }
        discovery.handle_timeout(Instant::now());
    }
}

/// Returns the link-local addresses of the node with the link-layer addresses of their interfaces.
fn own_addresses(links: &Links) -> BTreeSet<(Ipv6Addr, [u8; 6])> {
    let with_mac = links.by_index.values().filter_map(|link| Some((link, link.mac?)));
    let addresses = with_mac.flat_map(|(link, mac)| link.addresses.iter().map(move |net| (net.addr(), mac)));
    let link_local = addresses.filter_map(|(address, mac)| match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some((v6, mac)),
        _ => None,
    });
    link_local.collect()
}

/// Returns whether the socket on a link remains usable.
fn is_same(link: &Link, links: &Links) -> bool {
    usable_link(links, &link.name)
        .is_ok_and(|now| (now.index, now.mac, now.link_local()) == (link.index, link.mac, link.link_local()))
}

fn publish(found: &watch::Sender<FoundRouter>, value: FoundRouter) {
    found.send_if_modified(|current| {
        let changed = *current != value;
        if changed {
            *current = value;
        }
        changed
    });
}
