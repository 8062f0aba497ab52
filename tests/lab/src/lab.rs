//! A whole lab: what is started, in which order, and the handles on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use crate::addresses::{self, MAX_NODES, Mac, POD_PORT};
use crate::api::Api;
use crate::api_server::ApiServer;
use crate::binaries;
use crate::capture::Capture;
use crate::probe::Client;
use crate::process::{Process, Spec};
use crate::router::Router;
use crate::state::{self, Reaper};
use crate::sys;
use crate::topology::{self, LAN_INTERFACE, Network, Size};
use crate::wait::wait_for;

/// Namespace of Fairlead's own objects.
pub const NAMESPACE: &str = "fairlead-system";
/// Port of the metrics of the first controller; the others have the ports after it.
const CONTROLLER_METRICS: u16 = 7472;
/// Ports of the bridge whose frames are dropped.
const CUT_TABLE: &str = "\
table bridge cut {
 set ports { type ifname; }
 chain forward {
  type filter hook forward priority 0;
  iifname @ports drop
  oifname @ports drop
 }
}
";

/// What happens to the link light when a cable is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The host sees its link go down.
    Lost,
    /// Frames vanish between host and switch, the link stays up.
    Kept,
}

/// Which parts of a lab are started.
#[derive(Clone, Debug)]
pub struct Builder {
    size: Size,
    router_config: String,
    api: bool,
    controllers: usize,
    speakers: bool,
    controller_args: Vec<String>,
    speaker_args: Vec<String>,
    env: Vec<(String, String)>,
}

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
    // Last: when it goes, so does the lab.
    reaper: Mutex<Reaper>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            size: Size { nodes: 3, pods_per_node: 1 },
            router_config: String::new(),
            api: true,
            controllers: 1,
            speakers: true,
            controller_args: Vec::new(),
            speaker_args: Vec::new(),
            env: Vec::new(),
        }
    }
}

impl Builder {
    /// Number of nodes; 3 unless said.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.size.nodes = nodes;
        self
    }

    /// Number of pods on each node; 1 unless said.
    #[must_use]
    pub fn pods_per_node(mut self, pods: usize) -> Self {
        self.size.pods_per_node = pods;
        self
    }

    /// Lines added to the router's configuration, inside `router bgp`.
    #[must_use]
    pub fn router_config(mut self, lines: &str) -> Self {
        self.router_config = lines.to_owned();
        self
    }

    /// Only the network, the router and the pods.
    #[must_use]
    pub fn network_only(mut self) -> Self {
        self.api = false;
        self
    }

    /// With an API server, but without controller and speakers.
    #[must_use]
    pub fn without_fairlead(mut self) -> Self {
        self.controllers = 0;
        self.speakers = false;
        self
    }

    /// Number of controllers; 1 unless said. They are `controller-1`, `controller-2`, … to each other.
    #[must_use]
    pub fn controllers(mut self, controllers: usize) -> Self {
        self.controllers = controllers;
        self
    }

    /// More arguments for every controller.
    #[must_use]
    pub fn controller_arg(mut self, arg: &str) -> Self {
        self.controller_args.push(arg.to_owned());
        self
    }

    /// More arguments for every speaker.
    #[must_use]
    pub fn speaker_arg(mut self, arg: &str) -> Self {
        self.speaker_args.push(arg.to_owned());
        self
    }

    /// A variable for controllers and speakers.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Brings the lab up.
    ///
    /// # Errors
    /// Without root, with a program missing, or when a part does not come up; what came up is taken down again.
    pub fn start(self) -> Result<Lab> {
        if !sys::is_root() {
            bail!("the lab makes network namespaces and needs root; run it with sudo");
        }
        if self.size.nodes == 0 || self.size.nodes > MAX_NODES || self.size.pods_per_node > 200 {
            bail!("a lab has 1 to {MAX_NODES} nodes and at most 200 pods on each");
        }
        state::sweep()?;
        let id = state::claim()?;
        // From here on the reaper cleans up, whatever happens.
        let mut reaper = Reaper::start(&binaries::find("fairlead-lab")?, &id)?;
        match self.build(&id) {
            Ok(parts) => Ok(parts.into_lab(id, reaper)),
            Err(error) => {
                let logs = reaper.keep_logs(&id)?;
                Err(error.context(format!("lab {id} did not come up; its logs are in {}", logs.display())))
            }
        }
    }

    fn build(&self, id: &str) -> Result<Parts> {
        let (dir, logs) = (state::dir(id), state::logs(id));
        let network = topology::build(id, self.size).context("build the network")?;
        network
            .lan
            .feed(Command::new("nft").args(["-f", "-"]), CUT_TABLE)
            .context("nftables in the bridge's namespace")?;
        // FRR and the API server take their time, and do not need each other.
        std::thread::scope(|scope| {
            let router = scope.spawn(|| Router::start(&network.router, &dir, &logs, &self.router_config));
            let pods = self.start_pods(&network, &logs)?;
            let control =
                self.api.then(|| self.start_control_plane(id, &network, &dir, &logs)).transpose()?;
            let router = match router.join() {
                Ok(router) => router.context("start FRR")?,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            anyhow::Ok((router, pods, control))
        })
        .map(|(router, nodes, control)| Parts { network, router, nodes, control })
    }

    fn start_pods(&self, network: &Network, logs: &Path) -> Result<Vec<LabNode>> {
        let program = binaries::find("fairlead-lab")?;
        let mut nodes = Vec::new();
        for node in &network.nodes {
            let mut pods = Vec::new();
            for (k, netns) in node.pods.iter().enumerate() {
                let name = pod_name(&node.name, k + 1);
                let spec = Spec::new(&name, &program)
                    .args(["pod", "--name", &name, "--node", &node.name, "--port"])
                    .arg(POD_PORT.to_string());
                pods.push(Process::start(spec, netns, logs)?);
            }
            nodes.push(LabNode { name: node.name.clone(), index: node.index, pods, speaker: None });
        }
        Ok(nodes)
    }

    fn start_control_plane(&self, id: &str, network: &Network, dir: &Path, logs: &Path) -> Result<Control> {
        let server = ApiServer::start(&network.control_plane, dir, logs).context("start the API server")?;
        let api = Api::connect(&network.control_plane, server.kubeconfig())?;
        install(&api, network).context("install the cluster's objects")?;
        let kubeconfig = server.kubeconfig().to_owned();

        let mut cluster = Spec::new("cluster", binaries::find("fairlead-lab")?)
            .args(["cluster", "--lab", id, "--kubeconfig"])
            .arg(&kubeconfig)
            .arg("--nodes")
            .arg(self.size.nodes.to_string());
        if let Some(kube_proxy) = binaries::kubernetes("kube-proxy") {
            cluster = cluster.arg("--no-proxy");
            for node in &network.nodes {
                Process::start(kube_proxy_spec(&kube_proxy, &kubeconfig, &node.name), &node.netns, logs)?;
            }
        }
        let cluster = Process::start(cluster, &network.control_plane, logs)?;

        let daemon = |name: &str, program: &str, args: &[String]| -> Result<Spec> {
            let mut spec = Spec::new(name, binaries::find(program)?)
                .arg("--kubeconfig")
                .arg(&kubeconfig)
                .args(args.iter().cloned());
            for (name, value) in &self.env {
                spec = spec.env(name, value.clone());
            }
            Ok(spec)
        };
        let mut controllers = Vec::new();
        for (k, port) in (1..=self.controllers).zip(CONTROLLER_METRICS..) {
            let name = controller_name(k);
            let spec = daemon(&name, "fairlead-controller", &self.controller_args)?
                .env("FAIRLEAD_POD_NAME", &name)
                .env("FAIRLEAD_METRICS_ADDR", format!(":{port}"));
            controllers.push(Process::start(spec, &network.control_plane, logs)?);
        }
        let mut speakers = BTreeMap::new();
        if self.speakers {
            for node in &network.nodes {
                let spec = daemon(&format!("speaker-{}", node.name), "fairlead-speaker", &self.speaker_args)?
                    .args(["--node-name", &node.name]);
                speakers.insert(node.name.clone(), Process::start(spec, &node.netns, logs)?);
            }
        }
        Ok(Control { server, api, cluster, controllers, speakers })
    }
}

struct Control {
    server: ApiServer,
    api: Api,
    cluster: Process,
    controllers: Vec<Process>,
    speakers: BTreeMap<String, Process>,
}

struct Parts {
    network: Network,
    router: Router,
    nodes: Vec<LabNode>,
    control: Option<Control>,
}

impl Parts {
    fn into_lab(self, id: String, reaper: Reaper) -> Lab {
        let Self { network, router, mut nodes, control } = self;
        let mut lab = Lab {
            id,
            network,
            router,
            nodes: Vec::new(),
            api_server: None,
            api: None,
            controllers: Vec::new(),
            cluster: None,
            reaper: Mutex::new(reaper),
        };
        if let Some(mut control) = control {
            for node in &mut nodes {
                node.speaker = control.speakers.remove(&node.name);
            }
            lab.api_server = Some(control.server);
            lab.api = Some(control.api);
            lab.controllers = control.controllers;
            lab.cluster = Some(control.cluster);
        }
        lab.nodes = nodes;
        lab
    }
}

impl LabNode {
    /// `n1`, `n2`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses on the LAN.
    pub fn addresses(&self) -> [IpAddr; 2] {
        addresses::node(self.index).both()
    }

    /// The Ethernet address of its LAN interface.
    pub fn mac(&self) -> Mac {
        addresses::lan_mac(addresses::node(self.index))
    }

    /// Addresses of its pod `k`, counted from 1.
    pub fn pod_addresses(&self, k: usize) -> [IpAddr; 2] {
        addresses::pod(self.index, k).both()
    }

    /// The servers of its pods.
    pub fn pods(&self) -> &[Process] {
        &self.pods
    }

    /// Its speaker.
    ///
    /// # Errors
    /// When the lab was made without.
    pub fn speaker(&self) -> Result<&Process> {
        self.speaker.as_ref().context("this lab has no speakers")
    }
}

impl Lab {
    /// A lab of three nodes with everything, unless told otherwise.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Its id: the prefix of its namespaces.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Folder of its files.
    pub fn dir(&self) -> PathBuf {
        state::dir(&self.id)
    }

    /// Its namespaces.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The router.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The nodes.
    pub fn nodes(&self) -> &[LabNode] {
        &self.nodes
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Result<&LabNode> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| format!("no node {name}"))
    }

    /// The client on the LAN.
    pub fn client(&self) -> Client {
        Client::new(&self.network.client)
    }

    /// The client behind the router.
    pub fn remote(&self) -> Client {
        Client::new(&self.network.remote)
    }

    /// The API.
    ///
    /// # Errors
    /// When the lab was made without.
    pub fn api(&self) -> Result<&Api> {
        self.api.as_ref().context("this lab has no API server")
    }

    /// The API server.
    ///
    /// # Errors
    /// When the lab was made without.
    pub fn api_server(&self) -> Result<&ApiServer> {
        self.api_server.as_ref().context("this lab has no API server")
    }

    /// The first controller.
    ///
    /// # Errors
    /// When the lab was made without.
    pub fn controller(&self) -> Result<&Process> {
        self.controllers.first().context("this lab has no controller")
    }

    /// All controllers, in the order of their names.
    pub fn controllers(&self) -> &[Process] {
        &self.controllers
    }

    /// The process that stands in for EndpointSlice controller and kube-proxy.
    ///
    /// # Errors
    /// When the lab was made without.
    pub fn cluster(&self) -> Result<&Process> {
        self.cluster.as_ref().context("this lab has no API server")
    }

    /// Cuts the cable between a node and the switch.
    pub fn cut(&self, node: &str, carrier: Carrier) -> Result<()> {
        let port = &self.node(node)?.name;
        match carrier {
            Carrier::Lost => topology::batch(&self.network.lan, &format!("link set {port} down\n")),
            Carrier::Kept => self.nft_lan(&format!("add element bridge cut ports {{ \"{port}\" }}\n")),
        }
    }

    /// Mends all cables.
    pub fn mend(&self) -> Result<()> {
        let up: String = self.nodes.iter().map(|node| format!("link set {} up\n", node.name)).collect();
        topology::batch(&self.network.lan, &up)?;
        self.nft_lan("flush set bridge cut ports\n")
    }

    /// Captures what passes the cable of `node`, seen at the switch.
    pub fn capture_node(&self, node: &str) -> Result<Capture> {
        Capture::start(&self.network.lan, &self.node(node)?.name)
    }

    /// Captures what the LAN client sends and receives.
    pub fn capture_client(&self) -> Result<Capture> {
        Capture::start(&self.network.client, LAN_INTERFACE)
    }

    /// Captures what the router sends and receives on the LAN.
    pub fn capture_router(&self) -> Result<Capture> {
        Capture::start(&self.network.router, LAN_INTERFACE)
    }

    /// The name of the node with this Ethernet address.
    pub fn node_of(&self, mac: Mac) -> Option<&str> {
        self.nodes.iter().find(|node| node.mac() == mac).map(LabNode::name)
    }

    /// The node that answers ARP or NDP for `ip` when the LAN client asks anew; `None` when nobody does.
    pub fn owner(&self, ip: IpAddr) -> Result<Option<&str>> {
        match self.client().resolve(ip)? {
            None => Ok(None),
            Some(mac) => Ok(Some(self.node_of(mac).with_context(|| format!("{ip} is at {mac}, no node's"))?)),
        }
    }

    /// Waits until some node answers for `ip`.
    pub fn wait_for_owner(&self, ip: IpAddr, limit: Duration) -> Result<&str> {
        wait_for(format!("a node to answer for {ip}"), limit, || self.owner(ip)?.context("nobody answers"))
    }

    /// Sets the readiness of a pod, `k` counted from 1.
    pub fn set_ready(&self, node: &str, k: usize, ready: bool) -> Result<()> {
        let node = self.node(node)?;
        self.api()?.apply_status(pod_object(node.index, &node.name, k, ready))
    }

    /// Leaves the lab running after the end of this process.
    pub fn keep(&self) -> Result<()> {
        self.reaper.lock().unwrap_or_else(PoisonError::into_inner).keep()
    }

    /// Keeps the logs when the lab goes; where they will be.
    pub fn keep_logs(&self) -> Result<PathBuf> {
        self.reaper.lock().unwrap_or_else(PoisonError::into_inner).keep_logs(&self.id)
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

/// Name of the controller `k`, counted from 1: that of its process and that of the pod it says it is.
fn controller_name(k: usize) -> String {
    format!("controller-{k}")
}

/// Name of the pod `k` of a node.
pub fn pod_name(node: &str, k: usize) -> String {
    if k == 1 { format!("web-{node}") } else { format!("web-{node}-{k}") }
}

/// The custom resources, and nodes, pods and namespaces as a cluster would have them.
fn install(api: &Api, network: &Network) -> Result<()> {
    let kinds = api.apply_dir(&binaries::config_dir().join("crd"))?;
    wait_for("the custom resources to be served", Duration::from_secs(30), || {
        kinds.iter().try_for_each(|kind| api.is_established(kind))
    })?;
    api.apply_object(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
    for node in &network.nodes {
        let object = node_object(node.index, &node.name);
        api.apply_object(json!({ "apiVersion": "v1", "kind": "Node", "metadata": object["metadata"],
                                 "spec": object["spec"] }))?;
        api.apply_status(object)?;
        for k in 1..=node.pods.len() {
            let object = pod_object(node.index, &node.name, k, true);
            let mut without_status = object.clone();
            if let Some(fields) = without_status.as_object_mut() {
                fields.remove("status");
            }
            api.apply_object(without_status)?;
            api.apply_status(object)?;
        }
    }
    Ok(())
}

fn node_object(index: usize, name: &str) -> serde_json::Value {
    let [v4, v6] = addresses::node(index).both();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            // Odd nodes in zone a, even ones in zone b.
            "topology.kubernetes.io/zone": if index % 2 == 1 { "a" } else { "b" },
        } },
        "spec": { "podCIDRs": addresses::pod_networks(index), "podCIDR": addresses::pod_networks(index)[0] },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": v4 }, { "type": "InternalIP", "address": v6 },
                          { "type": "Hostname", "address": name }],
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Lab", "message": "" }],
        },
    })
}

fn pod_object(index: usize, node: &str, k: usize, ready: bool) -> serde_json::Value {
    let [v4, v6] = addresses::pod(index, k).both();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": pod_name(node, k), "namespace": "default", "labels": { "app": "web", "node": node } },
        "spec": { "nodeName": node, "containers": [{ "name": "web", "image": "fairlead-lab/pod",
                  "ports": [{ "name": "tcp", "containerPort": POD_PORT }] }] },
        "status": { "phase": "Running", "podIP": v4, "podIPs": [{ "ip": v4 }, { "ip": v6 }],
                    "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }] },
    })
}

fn kube_proxy_spec(program: &Path, kubeconfig: &Path, node: &str) -> Spec {
    Spec::new(format!("kube-proxy-{node}"), program)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--proxy-mode", "nftables", "--hostname-override", node])
        .args(["--conntrack-max-per-core", "0", "--conntrack-min", "0"])
        .args(["--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0"])
}
