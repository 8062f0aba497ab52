//! Builds the network of a lab: namespaces, cables, addresses, routes.
//!
//! ```text
//!   remote ──── router ──┐
//!                        │            ┌── n1 ── cni0 ── n1-p1, n1-p2, …
//!   client ──────────── lan (bridge) ─┼── n2 ── cni0 ── n2-p1, …
//!                        │            └── …
//!   cp (API server, controller) ──┘
//! ```
//!
//! Every cable is a veth pair that is created inside the namespace of one of its ends, so that no interface
//! ever exists in the namespace of the host.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;

use crate::addresses::{self, Dual, LAN_LEN_V4, LEN_V6, Mac};
use crate::netns::{self, Netns};

/// Name of the bridge inside the namespace `lan`.
pub(crate) const BRIDGE: &str = "br0";
/// LAN interface of every host.
pub const LAN_INTERFACE: &str = "eth0";

/// Kernel parameters of every namespace. New interfaces take the `default` ones.
const SYSCTLS: &[(&str, &str)] = &[
    // Return paths behind a load balancer are often asymmetric.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    // Without duplicate address detection an IPv6 address is usable at once.
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    // A client that accepts a redirect would bypass the router afterwards.
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
];

/// Kernel parameters of hosts that forward.
const FORWARDING: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv6/conf/default/forwarding", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    // Distributes flows, not hosts, over next hops.
    ("net/ipv4/fib_multipath_hash_policy", "1"),
    ("net/ipv6/fib_multipath_hash_policy", "1"),
];

/// Size of a lab.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Pods on each node.
    pub pods_per_node: usize,
}

/// The namespaces of a lab.
#[derive(Debug)]
pub struct Network {
    /// The bridge.
    pub lan: Netns,
    /// Control plane.
    pub control_plane: Netns,
    /// FRR.
    pub router: Netns,
    /// Client on the LAN.
    pub client: Netns,
    /// Client behind the router.
    pub remote: Netns,
    /// Node `i` at `i - 1`.
    pub nodes: Vec<NodeNetwork>,
}

/// The namespaces of a node.
#[derive(Debug)]
pub struct NodeNetwork {
    /// `n1`, `n2`, …; also the name of its bridge port.
    pub name: String,
    /// Counted from 1.
    pub index: usize,
    /// The node's own namespace.
    pub netns: Netns,
    /// One namespace per pod.
    pub pods: Vec<Netns>,
}

/// Builds the network of the lab `id`.
pub(crate) fn build(id: &str, size: Size) -> Result<Network> {
    let ns = |name: &str| format!("{id}-{name}");
    let mut names: Vec<String> = ["lan", "cp", "router", "client", "remote"].map(ns).into();
    for i in 1..=size.nodes {
        names.push(ns(&format!("n{i}")));
        names.extend((1..=size.pods_per_node).map(|k| ns(&format!("n{i}-p{k}"))));
    }
    netns::create(&names)?;
    let open = |name: &str| Netns::open(&ns(name));
    let network = Network {
        lan: open("lan")?,
        control_plane: open("cp")?,
        router: open("router")?,
        client: open("client")?,
        remote: open("remote")?,
        nodes: (1..=size.nodes)
            .map(|i| {
                let pods: Result<_> = (1..=size.pods_per_node).map(|k| open(&format!("n{i}-p{k}"))).collect();
                Ok(NodeNetwork {
                    name: format!("n{i}"),
                    index: i,
                    netns: open(&format!("n{i}"))?,
                    pods: pods?,
                })
            })
            .collect::<Result<_>>()?,
    };
    network.configure()?;
    Ok(network)
}

impl Network {
    fn configure(&self) -> Result<()> {
        self.all().try_for_each(|netns| netns.sysctl(SYSCTLS))?;
        self.forwarders().try_for_each(|netns| netns.sysctl(FORWARDING))?;
        // A switch has no addresses and must not send IPv6 on its ports.
        self.lan.sysctl(&[("net/ipv6/conf/default/disable_ipv6", "1")])?;
        self.cables()?;
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                self.hosts().map(|(netns, lines)| scope.spawn(move || batch(netns, &lines))).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    /// Creates all veth pairs; their far ends appear in the namespaces of their hosts.
    fn cables(&self) -> Result<()> {
        let mut lan = format!("link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n");
        let mut plug = |port: &str, host: &Netns, mac: Mac| {
            let _ = writeln!(
                lan,
                "link add {port} type veth peer name {LAN_INTERFACE} address {mac} netns {}\n\
                 link set {port} master {BRIDGE} up",
                host.name()
            );
        };
        plug("router", &self.router, addresses::lan_mac(addresses::router()));
        plug("cp", &self.control_plane, addresses::lan_mac(addresses::control_plane()));
        plug("client", &self.client, addresses::lan_mac(addresses::client()));
        for node in &self.nodes {
            plug(&node.name, &node.netns, addresses::lan_mac(addresses::node(node.index)));
        }
        let _ = writeln!(lan, "link set {BRIDGE} up");
        batch(&self.lan, &lan)?;
        batch(
            &self.router,
            &format!("link add eth1 type veth peer name {LAN_INTERFACE} netns {}\n", self.remote.name()),
        )?;
        for node in &self.nodes {
            let mut lines =
                "link add cni0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n".to_owned();
            for (k, pod) in node.pods.iter().enumerate() {
                let _ = writeln!(
                    lines,
                    "link add pod{k} type veth peer name {LAN_INTERFACE} netns {}\n\
                     link set pod{k} master cni0 up",
                    pod.name(),
                    k = k + 1
                );
            }
            batch(&node.netns, &lines)?;
        }
        Ok(())
    }

    /// Configures each host's end: addresses and routes.
    fn hosts(&self) -> impl Iterator<Item = (&Netns, String)> {
        let gateway = addresses::router();
        let lan =
            move |address: Dual| interface(LAN_INTERFACE, address, LAN_LEN_V4) + &default_route(gateway);
        let router = interface(LAN_INTERFACE, addresses::router(), LAN_LEN_V4)
            + &interface("eth1", addresses::router_remote(), 24);
        let remote = interface(LAN_INTERFACE, addresses::remote_client(), 24)
            + &default_route(addresses::router_remote());
        let single = [
            (&self.router, router),
            (&self.remote, remote),
            (&self.client, lan(addresses::client())),
            (&self.control_plane, lan(addresses::control_plane())),
        ];
        let nodes = self.nodes.iter().map(move |node| {
            let mut lines = lan(addresses::node(node.index));
            lines += &interface("cni0", addresses::pod_gateway(node.index), 24);
            for other in self.nodes.iter().filter(|other| other.index != node.index) {
                let via = addresses::node(other.index);
                let [v4, v6] = addresses::pod_networks(other.index);
                let _ = writeln!(lines, "route add {v4} via {}\nroute add {v6} via {}", via.v4, via.v6);
            }
            (&node.netns, lines)
        });
        let pods = self.nodes.iter().flat_map(|node| {
            let gateway = addresses::pod_gateway(node.index);
            node.pods.iter().enumerate().map(move |(k, pod)| {
                let address = addresses::pod(node.index, k + 1);
                (pod, interface(LAN_INTERFACE, address, 24) + &default_route(gateway))
            })
        });
        single.into_iter().chain(nodes).chain(pods)
    }

    /// Returns every namespace of the lab.
    pub fn all(&self) -> impl Iterator<Item = &Netns> {
        [&self.lan, &self.control_plane, &self.router, &self.client, &self.remote]
            .into_iter()
            .chain(self.nodes.iter().flat_map(|node| std::iter::once(&node.netns).chain(&node.pods)))
    }

    fn forwarders(&self) -> impl Iterator<Item = &Netns> {
        std::iter::once(&self.router).chain(self.nodes.iter().map(|node| &node.netns))
    }
}

/// Runs lines of `ip -batch` inside a namespace.
pub(crate) fn batch(netns: &Netns, lines: &str) -> Result<()> {
    netns.feed(Command::new("ip").args(["-batch", "-"]), lines).map(drop)
}

fn interface(name: &str, address: Dual, len_v4: u8) -> String {
    format!(
        "link set lo up\nlink set {name} up\naddr add {}/{len_v4} dev {name}\n\
         addr add {}/{LEN_V6} dev {name} nodad\n",
        address.v4, address.v6
    )
}

fn default_route(gateway: Dual) -> String {
    format!("route add default via {}\nroute add default via {}\n", gateway.v4, gateway.v6)
}
