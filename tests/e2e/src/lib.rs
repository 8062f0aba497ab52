//! End-to-end tests: real packets, a real router, clients that must reach a pod.
//!
//! Every file of `tests/` has one lab, which its first test starts and one test at a time uses. A test that
//! fails discards the lab: its logs are kept, and the next test gets a new lab. The tests need root and the
//! built programs: `make test`.

#![allow(missing_docs, reason = "names of test helpers explain themselves")]

mod ledger;
mod objects;
mod pool;
mod rest;
mod scene;
mod shared;

pub use ledger::Ledger;
pub use objects::{CONFIG, LbService, PodState, Policy, configure, merge_service, service_off_its_owner};
pub use pool::Pool;
pub use rest::{versions, wait_for_rest};
pub use scene::{Scene, Seen, VERSION};
pub use shared::{Shared, Turn};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use fairlead_lab::{Client, Family, Lab, Stream, Transport, ensure, wait_for};
use ipnet::IpNet;
use serde_json::Value;

pub const SECOND: Duration = Duration::from_secs(1);
/// Limit for any step on a busy machine. Only failures wait this long.
pub const SOON: Duration = Duration::from_secs(20);
/// Interval of the streams: 100 packets per second.
pub const PACE: Duration = Duration::from_millis(10);
/// Port of the Services.
pub const PORT: u16 = 80;

/// Returns both clients with their names.
pub fn clients(lab: &Lab) -> [(&'static str, Client); 2] {
    [("LAN client", lab.client()), ("remote client", lab.remote())]
}

/// Returns the names of all nodes.
pub fn all_nodes(lab: &Lab) -> BTreeSet<String> {
    lab.nodes().iter().map(|node| node.name().to_owned()).collect()
}

/// Returns a set of node names.
pub fn nodes<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Waits until every client reaches `ip` by TCP and UDP once, and then `times` more in a row: routers and
/// nodes learn a new address one after the other, so one answer does not prove every path. Returns the nodes
/// whose pods answered after the first request.
pub fn reach(lab: &Lab, ip: IpAddr, times: usize) -> Result<BTreeSet<String>> {
    let to = SocketAddr::new(ip, PORT);
    let mut answered = BTreeSet::new();
    for (name, client) in clients(lab) {
        for transport in Transport::BOTH {
            let row = wait_for(format!("{transport} from the {name} to {to}"), SOON, || {
                // The kernel retries a lost first packet to a new neighbor, for UDP within three seconds.
                let asks = (0..=times).map(|_| client.ask(to, transport, 3 * SECOND));
                asks.collect::<Result<Vec<_>>>()
            })?;
            answered.extend(row.into_iter().skip(1).map(|answer| answer.node));
        }
    }
    Ok(answered)
}

/// Waits until the LAN client gets an answer at `ip` and `port`.
pub fn reach_on_lan(lab: &Lab, ip: IpAddr, port: u16) -> Result<()> {
    let to = SocketAddr::new(ip, port);
    wait_for(format!("TCP from the LAN client to {to}"), SOON, || {
        lab.client().ask(to, Transport::Tcp, SECOND).map(drop)
    })
}

/// Starts a stream of packets to `ip` from every client, and waits until each has sent 100. A kube-proxy may
/// need a second for a new Service, so that the streams start when a first request was answered.
pub fn streams(lab: &Lab, ip: IpAddr) -> Vec<(&'static str, Stream)> {
    let to = SocketAddr::new(ip, PORT);
    for (name, client) in clients(lab) {
        let answer = || client.ask(to, Transport::Udp, SECOND / 5);
        if let Err(error) = wait_for(format!("{name} to reach {ip}"), SOON, answer) {
            panic!("{error:#}");
        }
    }
    let streams: Vec<_> = clients(lab).map(|(name, client)| (name, client.stream(to, PACE))).into();
    for (name, stream) in &streams {
        if let Err(error) = stream.wait_for_sent(100, SOON) {
            panic!("{name}: {error:#}");
        }
    }
    streams
}

/// Returns the nodes that the router uses as next hops of `ip`, in its BGP table and in its kernel, which
/// must agree.
pub fn next_hops(lab: &Lab, ip: IpAddr) -> Result<BTreeSet<String>> {
    let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
    let prefix = IpNet::from(ip);
    let hops = lab.router().bgp_routes(family)?.remove(&prefix).unwrap_or_default();
    let kernel = lab.router().kernel_routes(family)?.remove(&prefix).unwrap_or_default();
    // For IPv6, zebra forwards to the link-local address if a peer announced one.
    let comparable = kernel.iter().all(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()));
    if comparable && hops != kernel {
        bail!("bgpd has {hops:?}, the kernel has {kernel:?}");
    }
    if hops.len() != kernel.len() {
        bail!("bgpd has {} next hops, the kernel {}", hops.len(), kernel.len());
    }
    hops.into_iter()
        .map(|hop| {
            let node = lab.nodes().iter().find(|node| node.addresses().contains(&hop));
            Ok(node.with_context(|| format!("next hop {hop} is no node"))?.name().to_owned())
        })
        .collect()
}

/// Waits until exactly `expected` are the next hops of `ip`.
pub fn expect_next_hops(lab: &Lab, ip: IpAddr, expected: &BTreeSet<String>, limit: Duration) -> Result<()> {
    wait_for(format!("{ip} via {expected:?}"), limit, || {
        let seen = next_hops(lab, ip)?;
        ensure(seen == *expected, seen).map_err(|seen| anyhow!("via {seen:?}"))
    })
}

/// Waits until every node has an established session with the router in each family.
pub fn expect_sessions(lab: &Lab, limit: Duration) -> Result<()> {
    wait_for("all BGP sessions", limit, || {
        let sessions = lab.router().sessions()?;
        for node in lab.nodes() {
            for address in node.addresses() {
                match sessions.get(&address) {
                    Some(session) if session.state == "Established" => {}
                    other => bail!("{} ({address}): {other:?}", node.name()),
                }
            }
        }
        Ok(())
    })
}

/// Waits until every speaker has discovered every other; a speaker that joins later takes over addresses.
pub fn expect_mesh(lab: &Lab, limit: Duration) -> Result<()> {
    let expected = lab.nodes().len() as u64;
    for node in lab.nodes() {
        wait_for(format!("{expected} speakers in the mesh of {}", node.name()), limit, || {
            let seen = node.speaker()?.metric("fairlead_speaker_mesh_members")?;
            ensure(seen == expected, seen).map_err(|seen| anyhow!("{seen}"))
        })?;
    }
    Ok(())
}

/// Returns when each established session of a node came up, by name of the peer, from its Speaker object.
pub fn established_since(lab: &Lab, node: &str) -> Result<BTreeMap<String, String>> {
    let speaker = lab.api()?.get(VERSION, "Speaker", None, node)?;
    let sessions = speaker.pointer("/status/sessions").and_then(Value::as_array);
    let since = |session: &Value| {
        let field = |name: &str| session.get(name).and_then(Value::as_str).map(str::to_owned);
        Some((field("peer")?, field("uptimeSince")?))
    };
    Ok(sessions.into_iter().flatten().filter_map(since).collect())
}

/// Waits until the Speaker object of a node reports `count` established sessions. Returns when each came up,
/// by name of the peer.
pub fn expect_established(lab: &Lab, node: &str, count: usize) -> Result<BTreeMap<String, String>> {
    wait_for(format!("{count} sessions in the Speaker object of {node}"), SOON, || {
        let since = established_since(lab, node)?;
        if since.len() == count { Ok(since) } else { Err(anyhow!("{since:?}")) }
    })
}

/// Returns how often a test repeats what fails only sometimes: `FAIRLEAD_E2E_ROUNDS`, or `default`.
pub fn rounds(default: usize) -> usize {
    let set = std::env::var("FAIRLEAD_E2E_ROUNDS").ok().filter(|value| !value.is_empty());
    match set.map(|value| (value.parse(), value)) {
        None => default,
        Some((Ok(rounds), _)) if rounds > 0 => rounds,
        Some((_, value)) => panic!("FAIRLEAD_E2E_ROUNDS is {value:?}: set a number of at least 1"),
    }
}

/// Waits until the LAN client resolves `ip` to exactly `node`.
pub fn expect_owner(lab: &Lab, ip: IpAddr, node: &str, limit: Duration) -> Result<()> {
    wait_for(format!("{ip} at {node}"), limit, || match lab.owner(ip)? {
        Some(owner) if owner == node => Ok(()),
        other => Err(anyhow!("at {other:?}")),
    })
}
