//! What a node that hears no other speaker learns beside the mesh: who answers on its link.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fairlead_l2::{answered, inquiry};
use fairlead_mesh::Evidence;
use fairlead_net::links::{Link, Links};
use fairlead_net::{InquirySocket, neighbors};
use tokio::time::{Instant, timeout_at};

/// Number of times that each host is asked, because frames can be lost.
const ATTEMPTS: u32 = 3;
/// Time for the answers to one attempt.
const ATTEMPT_TIME: Duration = Duration::from_millis(50);
/// Most other hosts that are asked, besides the nodes.
const MAX_NEIGHBORS: usize = 16;
/// Most nodes that are asked. In a larger cluster, the others count as alive while datagrams arrive from
/// them.
const MAX_NODES: usize = 100;
/// Size of the receive buffer; longer frames are cut.
const BUFFER_SIZE: usize = 256;

/// Asks the kernels of the other nodes, and other hosts on the link that holds `own`, whether they are there.
/// Takes less than 200 ms.
pub(crate) async fn inquire(links: &Links, own: IpAddr, peers: &BTreeMap<String, SocketAddr>) -> Evidence {
    let peers: Vec<(&String, SocketAddr)> =
        peers.iter().take(MAX_NODES).map(|(node, address)| (node, *address)).collect();
    let answers = ask_hosts(links.holding(own), own, &peers).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot ask the hosts on the link whether they are there");
        Answers::default()
    });
    let (present, absent): (Vec<_>, Vec<_>) =
        answers.asked.iter().partition(|(_, address)| answers.answered.contains(address));
    let names = |nodes: Vec<&(String, IpAddr)>| nodes.into_iter().map(|(node, _)| node.clone()).collect();
    Evidence { link: !answers.answered.is_empty(), present: names(present), absent: names(absent) }
}

#[derive(Default)]
struct Answers {
    /// The nodes that can be asked because they are on the link, and their addresses.
    asked: Vec<(String, IpAddr)>,
    /// Addresses that answered, of nodes and of other hosts.
    answered: BTreeSet<IpAddr>,
}

async fn ask_hosts(link: Option<&Link>, own: IpAddr, peers: &[(&String, SocketAddr)]) -> io::Result<Answers> {
    let mut answers = Answers::default();
    let Some((link, mac)) = link.and_then(|link| Some((link, link.mac?))) else { return Ok(answers) };
    let on_link = |address: IpAddr| link.addresses.iter().any(|net| net.contains(&address));
    let nodes = peers.iter().map(|(node, address)| ((*node).clone(), address.ip()));
    answers.asked = nodes.filter(|(_, address)| on_link(*address)).collect();
    let others = neighbors(link.index, own, MAX_NEIGHBORS).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot list the neighbors");
        Vec::new()
    });
    let socket = InquirySocket::open(link.index, own)?;
    let targets: BTreeSet<IpAddr> = answers.asked.iter().map(|(_, address)| *address).chain(others).collect();
    let mut buffer = [0; BUFFER_SIZE];
    for _ in 0..ATTEMPTS {
        let left = targets.iter().filter(|target| !answers.answered.contains(target));
        for frame in left.filter_map(|target| inquiry(mac, own, *target)) {
            // Equal to a lost frame.
            if let Err(error) = socket.send(&frame) {
                tracing::debug!(%error, "cannot ask a host");
            }
        }
        let deadline = Instant::now() + ATTEMPT_TIME;
        while let Ok(length) = timeout_at(deadline, socket.recv(&mut buffer)).await {
            let address = answered(mac, buffer.get(..length?).unwrap_or_default());
            answers.answered.extend(address.filter(|address| targets.contains(address)));
        }
    }
    Ok(answers)
}
