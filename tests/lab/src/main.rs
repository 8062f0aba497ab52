//! `fairlead-lab`: the command-line interface of the lab.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use fairlead_lab::netns::Netns;
use fairlead_lab::pod::{self, Identity};
use fairlead_lab::proxy::Node;
use fairlead_lab::{addresses, cluster, demo, state};
use tracing_subscriber::EnvFilter;

/// A cluster made of network namespaces on one machine, with a real router, clients and pods.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job step by step, then stop; with KEEP=1 the lab keeps running
    Demo {
        /// Number of nodes
        #[arg(long, default_value_t = 3)]
        nodes: usize,
        /// Leave the lab running
        #[arg(long, env = "KEEP", default_value = "", hide_default_value = true)]
        keep: String,
    },
    /// Start a lab and leave it running
    Up {
        /// Number of nodes
        #[arg(long, default_value_t = 3)]
        nodes: usize,
    },
    /// Stop labs that were left running: one by its id, or all
    Down {
        /// Id of a lab, such as fl03af
        id: Option<String>,
    },
    /// Remove the remains of crashed labs
    Clean,
    /// Serve as a pod
    #[command(hide = true)]
    Pod {
        #[arg(long)]
        name: String,
        #[arg(long)]
        node: String,
        #[arg(long)]
        port: u16,
    },
    /// Maintain the EndpointSlices and nftables rules of a lab
    #[command(hide = true)]
    Cluster {
        #[arg(long)]
        lab: String,
        #[arg(long)]
        kubeconfig: PathBuf,
        #[arg(long)]
        nodes: usize,
        #[arg(long)]
        no_proxy: bool,
        #[arg(long)]
        no_endpoints: bool,
    },
    /// Start a network without API server, and hold it until this process ends
    #[command(hide = true)]
    Hold,
    /// Wait for the end of a lab's process, then clean up
    #[command(hide = true)]
    Reap { id: String },
}

fn main() -> Result<()> {
    let flags = Flags::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("FAIRLEAD_LAB_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    match flags.command {
        Command::Pod { name, node, port } => {
            single_threaded()?.block_on(pod::serve(Identity { pod: name, node }, port))
        }
        Command::Cluster { lab, kubeconfig, nodes, no_proxy, no_endpoints } => {
            let planes = if no_proxy { Ok(Vec::new()) } else { planes(&lab, nodes) };
            single_threaded()?.block_on(cluster::run(&kubeconfig, planes?, !no_endpoints))
        }
        Command::Reap { id } => state::reap(&id),
        Command::Hold => {
            let lab = fairlead_lab::Lab::builder().nodes(1).network_only().start()?;
            println!("{}", lab.id());
            loop {
                std::thread::park();
            }
        }
        Command::Demo { nodes, keep } => {
            fairlead_lab::root::become_root()?;
            demo::demo(nodes, !matches!(keep.as_str(), "" | "0" | "no" | "false"))
        }
        Command::Up { nodes } => {
            fairlead_lab::root::become_root()?;
            demo::up(nodes)
        }
        Command::Down { id } => {
            fairlead_lab::root::become_root()?;
            down(id.as_deref())
        }
        Command::Clean => {
            fairlead_lab::root::become_root()?;
            for id in state::sweep()? {
                println!("removed {id}");
            }
            Ok(())
        }
    }
}

fn single_threaded() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn planes(lab: &str, nodes: usize) -> Result<Vec<cluster::DataPlane>> {
    (1..=nodes)
        .map(|i| {
            let name = format!("n{i}");
            let netns = Netns::open(&format!("{lab}-{name}"))?;
            Ok(cluster::DataPlane { node: Node { name, addresses: addresses::node(i).both().into() }, netns })
        })
        .collect()
}

fn down(id: Option<&str>) -> Result<()> {
    let labs = state::labs()?;
    if let Some(id) = id
        && !labs.iter().any(|lab| lab == id)
    {
        bail!("lab {id} does not exist; existing labs: {labs:?}");
    }
    for lab in labs.iter().filter(|lab| id.map_or_else(|| state::is_kept(lab), |id| *lab == id)) {
        state::destroy(lab, false)?;
        println!("removed {lab}");
    }
    Ok(())
}
