//! Puts the shells together, and takes them apart again in the right order.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use fairlead_runtime::http::{self, Health};
use fairlead_runtime::{client, signal};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::cluster_state::Known;
use crate::coordinator::Deciding;
use crate::flags::Flags;
use crate::metrics::Metrics;
use crate::tasks::links;
use crate::tasks::speaker_object::{Report, Writer};
use crate::tasks::{bgp, l2, mesh};
use crate::watches;

/// How long this node keeps answering for its L2 addresses after it has said that it leaves: the others announce
/// them first.
const OVERLAP: Duration = Duration::from_millis(300);

/// How long BGP peers may take to be told.
const FAREWELL: Duration = Duration::from_millis(1500);

/// What peers are told when this process is asked to stop (RFC 9003).
const LEAVING: &str = "the speaker on this node is stopping";

/// Runs until a signal, then withdraws everything.
///
/// # Errors
/// When there is no client, the metrics address cannot be bound, or a part fails that nothing works without.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let client = client::connect(&flags.common).await?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let health = Health::new("the first lists");
    let server = http::serve(flags.metrics_addr, health.clone(), Arc::new(Mutex::new(registry)));
    let stop = CancellationToken::new();
    let leave = CancellationToken::new();

    let (links_sender, links) = watch::channel(Default::default());
    let (surroundings, surroundings_seen) = watch::channel(mesh::Surroundings::default());
    let (live_sender, live) = watch::channel(None);
    let (node_addresses, node_addresses_seen) = watch::channel(Vec::new());
    let (report, report_seen) = watch::channel(Report::default());
    let sessions = watch::Sender::new(Default::default());
    let (l2, l2_commands) = mpsc::unbounded_channel();
    let (inputs_sender, inputs) = mpsc::channel(1024);

    let engine = bgp::Engine::new(bgp::Shared {
        node: flags.node_name.as_str().into(),
        links: links.clone(),
        node_addresses: node_addresses_seen,
        passwords: Arc::new(bgp::Passwords::new(client.clone(), &flags.common.namespace)),
        sessions: sessions.clone(),
        metrics: metrics.clone(),
    });
    let deciding = Deciding {
        known: Known::new(&flags.node_name),
        inputs,
        live,
        links: links.clone(),
        excluded: flags.exclude_interfaces.clone(),
        mesh_port: flags.mesh_port,
        l2: l2.clone(),
        bgp: engine,
        node_addresses,
        surroundings,
        report,
        health,
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let mesh = mesh::Shell {
        client: client.clone(),
        namespace: flags.common.namespace.clone(),
        node: flags.node_name.clone(),
        port: flags.mesh_port,
        surroundings: surroundings_seen,
        live: live_sender,
        leave: leave.clone(),
        metrics: metrics.clone(),
    };
    let responder = l2::Shell {
        commands: l2_commands,
        links,
        excluded: flags.exclude_interfaces.clone(),
        metrics: metrics.clone(),
    };
    let writer = Writer {
        client: client.clone(),
        node: flags.node_name.clone(),
        report: report_seen,
        sessions: sessions.subscribe(),
        metrics,
    };

    tokio::spawn(links::follow(links_sender));
    tokio::spawn(responder.run());
    tokio::spawn(writer.run());
    let mesh = tokio::spawn(mesh.run());
    let mut watches = watches::spawn(&client, flags.common.lb_class(), &inputs_sender);
    let mut deciding = tokio::spawn(deciding.run());

    let mut decided = None;
    let outcome = tokio::select! {
        signal = signal::terminated() => signal.map_err(anyhow::Error::from),
        served = server => match served {
            Ok(()) => Err(anyhow::anyhow!("the metrics server ended")),
            Err(error) => Err(error.into()),
        },
        ended = &mut deciding => {
            let error = anyhow::anyhow!("the deciding task ended: {:?}", ended.as_ref().err());
            decided = Some(ended);
            Err(error)
        }
        ended = watches.join_next() => Err(anyhow::anyhow!("a watch ended: {ended:?}")),
    };
    match &outcome {
        Ok(signal) => tracing::info!(signal, "leaving"),
        Err(error) => tracing::error!(%error, "leaving"),
    }

    // Nothing is decided any more: what the others do about this node's leaving is theirs.
    stop.cancel();
    leave.cancel();
    let bgp = async {
        let decided = match decided {
            Some(decided) => decided,
            None => deciding.await,
        };
        if let Ok(mut engine) = decided {
            engine.shut_down(LEAVING, FAREWELL).await;
        }
    };
    let l2_overlap = async {
        // It says that it leaves and ends; whether it failed does not matter any more.
        let _ = mesh.await;
        sleep(OVERLAP).await;
    };
    tokio::join!(bgp, l2_overlap);
    // The sockets close with the process, and with them the answers.
    drop(l2);
    let signal = outcome.context("the speaker cannot go on")?;
    tracing::info!(signal, "gone");
    Ok(())
}
