//! Selects the parts of a lab and starts them in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use super::objects::{install, install_definitions, pod_name};
use super::{Lab, LabNode};
use crate::addresses::{MAX_NODES, POD_PORT};
use crate::api::Api;
use crate::api_server::ApiServer;
use crate::binaries;
use crate::process::{Process, Spec};
use crate::router::Router;
use crate::state::{self, Reaper};
use crate::sys;
use crate::topology::{self, Network, Size};

/// Metrics port of the first controller; each further one uses the next port.
const CONTROLLER_METRICS: u16 = 7472;
/// Metrics port of a speaker.
const SPEAKER_METRICS: u16 = 7474;
/// Bridge ports whose frames are dropped, by the direction as their node sees it.
const CUT_TABLE: &str = "\
table bridge cut {
 set outgoing { type ifname; }
 set incoming { type ifname; }
 chain forward {
  type filter hook forward priority 0;
  iifname @outgoing drop
  oifname @incoming drop
 }
}
";

/// Selects the parts of a lab.
#[derive(Clone, Debug)]
pub struct Builder {
    size: Size,
    router_config: String,
    api: bool,
    definitions: bool,
    controllers: usize,
    speakers: bool,
    controller_args: Vec<String>,
    speaker_args: Vec<String>,
    speaker_launcher: Vec<String>,
    env: Vec<(String, String)>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            size: Size { nodes: 3, pods_per_node: 1 },
            router_config: String::new(),
            api: true,
            definitions: true,
            controllers: 1,
            speakers: true,
            controller_args: Vec::new(),
            speaker_args: Vec::new(),
            speaker_launcher: Vec::new(),
            env: Vec::new(),
        }
    }
}

impl Builder {
    /// Sets the number of nodes. Default: 3.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.size.nodes = nodes;
        self
    }

    /// Sets the number of pods on each node. Default: 1.
    #[must_use]
    pub fn pods_per_node(mut self, pods: usize) -> Self {
        self.size.pods_per_node = pods;
        self
    }

    /// Adds lines to the router's configuration, inside `router bgp`.
    #[must_use]
    pub fn router_config(mut self, lines: &str) -> Self {
        self.router_config = lines.to_owned();
        self
    }

    /// Starts only the network, the router and the pods.
    #[must_use]
    pub fn network_only(mut self) -> Self {
        self.api = false;
        self
    }

    /// Starts an API server, but neither controller nor speakers.
    #[must_use]
    pub fn without_fairlead(mut self) -> Self {
        self.controllers = 0;
        self.speakers = false;
        self
    }

    /// Starts an API server without the custom resources and the namespace of Fairlead, and neither
    /// controller nor speakers: a cluster before Fairlead is installed.
    #[must_use]
    pub fn before_installation(mut self) -> Self {
        self.definitions = false;
        self.without_fairlead()
    }

    /// Sets the number of controllers. Default: 1. Their identities are `controller-1`, `controller-2`, …
    #[must_use]
    pub fn controllers(mut self, controllers: usize) -> Self {
        self.controllers = controllers;
        self
    }

    /// Adds arguments for every controller.
    #[must_use]
    pub fn controller_arg(mut self, arg: &str) -> Self {
        self.controller_args.push(arg.to_owned());
        self
    }

    /// Adds arguments for every speaker.
    #[must_use]
    pub fn speaker_arg(mut self, arg: &str) -> Self {
        self.speaker_args.push(arg.to_owned());
        self
    }

    /// Starts every speaker by a program that replaces itself with the command line in its last arguments,
    /// such as `setpriv --bounding-set=-sys_nice`.
    #[must_use]
    pub fn speaker_launcher(mut self, command: &[&str]) -> Self {
        self.speaker_launcher = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Sets an environment variable for controllers and speakers.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the lab.
    ///
    /// # Errors
    /// If the caller is not root, a program is missing, or a part does not start. Parts that did start are
    /// stopped.
    pub fn start(self) -> Result<Lab> {
        if !sys::is_root() {
            bail!("the lab makes network namespaces and needs root; run it with sudo");
        }
        if self.size.nodes == 0 || self.size.nodes > MAX_NODES || self.size.pods_per_node > 200 {
            bail!("a lab has 1 to {MAX_NODES} nodes and at most 200 pods on each");
        }
        state::sweep()?;
        let id = state::claim()?;
        // From here on the reaper cleans up.
        let mut reaper = Reaper::start(&binaries::find("fairlead-lab")?, &id)?;
        match self.build(&id) {
            Ok(parts) => Ok(parts.into_lab(id, reaper)),
            Err(error) => {
                let logs = reaper.keep_logs(&id)?;
                Err(error.context(format!("lab {id} did not start; its logs are in {}", logs.display())))
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
        // FRR and the API server start slowly and do not depend on each other.
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
        api.wait_until_ready().context("wait for the API server")?;
        if self.definitions {
            install_definitions(&api).context("install the custom resources")?;
        }
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
        // The stand-in takes the place of what the folder lacks.
        if server.is_real()
            && let Some(manager) = binaries::kubernetes("kube-controller-manager")
        {
            cluster = cluster.arg("--no-endpoints");
            Process::start(controller_manager_spec(&manager, &kubeconfig), &network.control_plane, logs)?;
        }
        let cluster = Process::start(cluster, &network.control_plane, logs)?;

        let daemon = |name: &str, program: &str, launcher: &[String], args: &[String]| -> Result<Spec> {
            let program = binaries::find(program)?;
            let spec = match launcher.split_first() {
                Some((launcher, words)) => Spec::new(name, launcher).args(words).arg(program),
                None => Spec::new(name, program),
            };
            let mut spec = spec.arg("--kubeconfig").arg(&kubeconfig).args(args.iter().cloned());
            for (name, value) in &self.env {
                spec = spec.env(name, value.clone());
            }
            Ok(spec)
        };
        let mut controllers = Vec::new();
        for (k, port) in (1..=self.controllers).zip(CONTROLLER_METRICS..) {
            let name = controller_name(k);
            let spec = daemon(&name, "fairlead-controller", &[], &self.controller_args)?
                .env("FAIRLEAD_POD_NAME", &name)
                .env("FAIRLEAD_METRICS_ADDR", format!(":{port}"))
                .http(port);
            controllers.push(Process::start(spec, &network.control_plane, logs)?);
        }
        let mut speakers = BTreeMap::new();
        if self.speakers {
            for node in &network.nodes {
                let name = format!("speaker-{}", node.name);
                let spec = daemon(&name, "fairlead-speaker", &self.speaker_launcher, &self.speaker_args)?
                    .args(["--node-name", &node.name])
                    .env("FAIRLEAD_METRICS_ADDR", format!(":{SPEAKER_METRICS}"))
                    .http(SPEAKER_METRICS);
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

/// Returns the name of controller `k`, counted from 1, for its process and as its `--pod-name`.
fn controller_name(k: usize) -> String {
    format!("controller-{k}")
}

/// Of the node controllers there is none: without kubelets, they would taint every node and evict its pods.
fn controller_manager_spec(program: &Path, kubeconfig: &Path) -> Spec {
    let controllers = [
        "namespace-controller",
        "garbage-collector-controller",
        "endpointslice-controller",
        "serviceaccount-controller",
        "root-ca-certificate-publisher-controller",
    ];
    Spec::new("kube-controller-manager", program)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--controllers", &controllers.join(",")])
        .args(["--leader-elect=false", "--secure-port=0", "--kube-api-qps=200", "--kube-api-burst=400"])
}

fn kube_proxy_spec(program: &Path, kubeconfig: &Path, node: &str) -> Spec {
    Spec::new(format!("kube-proxy-{node}"), program)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--proxy-mode", "nftables", "--hostname-override", node])
        .args(["--conntrack-max-per-core", "0", "--conntrack-min", "0"])
        .args(["--conntrack-tcp-timeout-established", "0", "--conntrack-tcp-timeout-close-wait", "0"])
}
