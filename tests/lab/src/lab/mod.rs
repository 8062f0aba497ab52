//! A running lab: its parts, and operations on them.

mod builder;
mod objects;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::addresses::{self, Mac};
use crate::api::Api;
use crate::api_server::ApiServer;
use crate::capture::Capture;
use crate::probe::Client;
use crate::process::Process;
use crate::router::Router;
use crate::state::{self, Reaper};
use crate::topology::{self, LAN_INTERFACE, Network};
use crate::wait::wait_for;

pub use builder::Builder;
pub use objects::{NAMESPACE, pod_name};

/// The speakers' default.
const MESH_PORT: u16 = 7947;
/// Table in the namespace of a node.
const BLOCK_TABLE: &str = "blocked";

/// A node of the lab.
#[derive(Debug)]
pub struct LabNode {
    name: String,
    index: usize,
    pods: Vec<Process>,
    speaker: Option<Process>,
}

/// A running lab. Dropping it takes everything down.
#[derive(Debug)]
pub struct Lab {
    id: String,
    network: Network,
    router: Router,
    nodes: Vec<LabNode>,
    api_server: Option<ApiServer>,
    api: Option<Api>,
    controllers: Vec<Process>,
    cluster: Option<Process>,
    // The last field: dropping it removes the lab.
    reaper: Mutex<Reaper>,
}

/// What the host sees of a cut cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The link goes down.
    Lost,
    /// Frames are lost between host and switch, and the link stays up.
    Kept,
}

/// Frames that a damaged cable loses. The link stays up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Those to the node.
    Incoming,
    /// Those of the node.
    Outgoing,
}

impl LabNode {
    /// `n1`, `n2`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its addresses on the LAN.
    pub fn addresses(&self) -> [IpAddr; 2] {
        addresses::node(self.index).both()
    }

    /// Returns the Ethernet address of its LAN interface.
    pub fn mac(&self) -> Mac {
        addresses::lan_mac(addresses::node(self.index))
    }

    /// Returns the addresses of its pod `k`, counted from 1.
    pub fn pod_addresses(&self, k: usize) -> [IpAddr; 2] {
        addresses::pod(self.index, k).both()
    }

    /// Returns the server processes of its pods.
    pub fn pods(&self) -> &[Process] {
        &self.pods
    }

    /// Returns its speaker.
    ///
    /// # Errors
    /// If the lab has no speakers.
    pub fn speaker(&self) -> Result<&Process> {
        self.speaker.as_ref().context("this lab has no speakers")
    }
}

impl Lab {
    /// Returns a builder of a lab with three nodes and all parts.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the id, which prefixes the names of the namespaces.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the folder of its files.
    pub fn dir(&self) -> PathBuf {
        state::dir(&self.id)
    }

    /// Returns its namespaces.
    pub fn network(&self) -> &Network {
        &self.network
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    pub fn nodes(&self) -> &[LabNode] {
        &self.nodes
    }

    /// Returns a node by name.
    pub fn node(&self, name: &str) -> Result<&LabNode> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .with_context(|| format!("node {name} does not exist"))
    }

    /// Returns the client on the LAN.
    pub fn client(&self) -> Client {
        Client::new(&self.network.client)
    }

    /// Returns the client behind the router.
    pub fn remote(&self) -> Client {
        Client::new(&self.network.remote)
    }

    /// Returns the API client.
    ///
    /// # Errors
    /// If the lab has no API server.
    pub fn api(&self) -> Result<&Api> {
        self.api.as_ref().context("this lab has no API server")
    }

    /// Returns the API server.
    ///
    /// # Errors
    /// If the lab has none.
    pub fn api_server(&self) -> Result<&ApiServer> {
        self.api_server.as_ref().context("this lab has no API server")
    }

    /// Returns the first controller.
    ///
    /// # Errors
    /// If the lab has none.
    pub fn controller(&self) -> Result<&Process> {
        self.controllers.first().context("this lab has no controller")
    }

    /// Returns all controllers in the order of their names.
    pub fn controllers(&self) -> &[Process] {
        &self.controllers
    }

    /// Returns the process that stands in for the EndpointSlice controller and kube-proxy.
    ///
    /// # Errors
    /// If the lab has none.
    pub fn cluster(&self) -> Result<&Process> {
        self.cluster.as_ref().context("this lab has no API server")
    }

    /// Cuts the cable between a node and the switch.
    pub fn cut(&self, node: &str, carrier: Carrier) -> Result<()> {
        let port = &self.node(node)?.name;
        match carrier {
            Carrier::Lost => topology::batch(&self.network.lan, &format!("link set {port} down\n")),
            Carrier::Kept => {
                self.cut_one_way(node, Lost::Incoming)?;
                self.cut_one_way(node, Lost::Outgoing)
            }
        }
    }

    /// Loses the frames of one direction between a node and the switch.
    pub fn cut_one_way(&self, node: &str, lost: Lost) -> Result<()> {
        let (port, set) = (&self.node(node)?.name, format!("{lost:?}").to_lowercase());
        self.nft_lan(&format!("add element bridge cut {set} {{ \"{port}\" }}\n"))
    }

    /// Drops the datagrams of the mesh on a node, as its own firewall would. Everything else passes.
    pub fn block_mesh(&self, node: &str) -> Result<()> {
        let drop = format!("udp dport {MESH_PORT} drop");
        let chain = |hook: &str| format!("chain {hook} {{ type filter hook {hook} priority 0; {drop}; }}");
        self.nft_node(
            node,
            &format!("table inet {BLOCK_TABLE} {{ {}\n{}\n}}\n", chain("input"), chain("output")),
        )
    }

    /// Ends [`Self::block_mesh`]. Does nothing if it is not blocked.
    pub fn unblock_mesh(&self, node: &str) -> Result<()> {
        self.nft_node(node, &format!("add table inet {BLOCK_TABLE}\ndelete table inet {BLOCK_TABLE}\n"))
    }

    /// Restores all cables, and the mesh on every node.
    pub fn mend(&self) -> Result<()> {
        let up: String = self.nodes.iter().map(|node| format!("link set {} up\n", node.name)).collect();
        topology::batch(&self.network.lan, &up)?;
        self.nft_lan("flush set bridge cut outgoing\nflush set bridge cut incoming\n")?;
        self.nodes.iter().try_for_each(|node| self.unblock_mesh(&node.name))
    }

    /// Captures the frames on the cable of `node`, at the switch.
    pub fn capture_node(&self, node: &str) -> Result<Capture> {
        Capture::start(&self.network.lan, &self.node(node)?.name)
    }

    /// Captures the frames that the LAN client sends and receives.
    pub fn capture_client(&self) -> Result<Capture> {
        Capture::start(&self.network.client, LAN_INTERFACE)
    }

    /// Captures the frames that the router sends and receives on the LAN.
    pub fn capture_router(&self) -> Result<Capture> {
        Capture::start(&self.network.router, LAN_INTERFACE)
    }

    /// Returns the name of the node with this Ethernet address.
    pub fn node_of(&self, mac: Mac) -> Option<&str> {
        self.nodes.iter().find(|node| node.mac() == mac).map(LabNode::name)
    }

    /// Returns the node that answers a new ARP or NDP request of the LAN client for `ip`; `None` if no node
    /// answers.
    pub fn owner(&self, ip: IpAddr) -> Result<Option<&str>> {
        match self.client().resolve(ip)? {
            None => Ok(None),
            Some(mac) => Ok(Some(
                self.node_of(mac).with_context(|| format!("{ip} is at {mac}, which belongs to no node"))?,
            )),
        }
    }

    /// Waits until a node answers for `ip`.
    pub fn wait_for_owner(&self, ip: IpAddr, limit: Duration) -> Result<&str> {
        wait_for(format!("a node to answer for {ip}"), limit, || self.owner(ip)?.context("no host answers"))
    }

    /// Sets the readiness of pod `k`, counted from 1.
    pub fn set_ready(&self, node: &str, k: usize, ready: bool) -> Result<()> {
        let node = self.node(node)?;
        self.api()?.apply_status(objects::pod_object(node.index, &node.name, k, ready))
    }

    /// Lets the lab outlive this process.
    pub fn keep(&self) -> Result<()> {
        self.reaper.lock().unwrap_or_else(PoisonError::into_inner).keep()
    }

    /// Keeps the logs when the lab ends, and returns their folder.
    pub fn keep_logs(&self) -> Result<PathBuf> {
        self.reaper.lock().unwrap_or_else(PoisonError::into_inner).keep_logs(&self.id)
    }

    fn nft_node(&self, node: &str, script: &str) -> Result<()> {
        let network = self.network.nodes.iter().find(|network| network.name == node);
        let netns = &network.with_context(|| format!("node {node} does not exist"))?.netns;
        netns.feed(Command::new("nft").args(["-f", "-"]), script).map(drop)
    }

    fn nft_lan(&self, script: &str) -> Result<()> {
        self.network.lan.feed(Command::new("nft").args(["-f", "-"]), script).map(drop)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(logs) = self.keep_logs()
        {
            eprintln!("logs of lab {} will be in {}", self.id, logs.display());
        }
    }
}
