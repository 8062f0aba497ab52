//! Starts the tasks of the speaker, and stops them in order.
//!
//! # Tasks
//!
//! The tasks of BGP peers run on a thread of their own. So do BFD and the probe of other nodes, without
//! Tokio; all others run on the main thread. Each task owns its state; tasks share nothing but channels.
//!
//! | task | number | owns |
//! |---|---|---|
//! | watch (`watches`) | one per kind: ten | the list and watch of one kind |
//! | password (`tasks::bgp::passwords`) | one per Secret of a BGPPeer | the list and watch of one Secret |
//! | coordinator (`coordinator`) | one | cluster state, plan, membership gate |
//! | links (`tasks::links`) | one | netlink socket |
//! | gateways (`tasks::gateways`) | one | netlink socket |
//! | mesh (`tasks::mesh`) | one; none without L2 | UDP socket, SWIM state |
//! | probe (`tasks::probe`) | one thread; none without L2 | echo requests, ICMP sockets |
//! | L2 (`tasks::l2`) | one | responder |
//! | L2 interface (`tasks::l2::interface_task`) | one per usable interface | ARP and NDP sockets |
//! | BFD (`tasks::bfd`) | one thread | BFD sessions, UDP sockets |
//! | BGP peer (`tasks::bgp::peer`) | one per BGPPeer that selects this node | session, TCP connection |
//! | BGP listener (`tasks::bgp::listen`) | one per address family and VRF with a passive peer | listening sockets |
//! | data path (`tasks::data_path`) | one | nothing between probes |
//! | router (`tasks::bgp::router`) | one per unnumbered BGP peer | socket of router discovery |
//! | Speaker object (`tasks::speaker_object`) | one | what was written last |
//! | events (`tasks::events`) | one | Events that wait |
//! | silent speakers (`tasks::silent_speakers`) | one | which speakers it reported |
//! | lateness events (`tasks::lateness_events`) | one | the lateness that was reported |
//! | metrics server | one | HTTP listener |
//!
//! # Channels
//!
//! | from | to | content | bound |
//! |---|---|---|---|
//! | watches | coordinator | [`crate::watches::WatchEvent`] | 1024; the watches wait |
//! | links | coordinator, mesh, L2, BGP peers | network interfaces | the latest value |
//! | gateways | coordinator, BGP peers | gateways of the default routes | the latest value |
//! | mesh | coordinator, silent speakers | members, state of the key | the latest values |
//! | mesh | probe | nodes to probe | the latest value |
//! | probe | mesh | nodes that do not answer | the latest value |
//! | coordinator | mesh, silent speakers | own address, addresses of the peers | the latest value |
//! | coordinator | L2 | announce, withdraw | two commands per address |
//! | L2 | coordinator | other hosts that use addresses, and addresses that none uses | one per address |
//! | coordinator | events | conflicts about L2 addresses | one per address of a Service |
//! | coordinator | BGP peer | announce, withdraw, start, stop | one command per prefix |
//! | passwords | BGP peers | the TCP-MD5 key of a Secret | the latest value |
//! | coordinator | BGP peers | addresses of the node | the latest value |
//! | BGP peer | BGP listener | the router that may connect, its key | one per passive peer |
//! | BGP listener | BGP peer | connections of the router | 4 per peer; then connections are reset |
//! | router | BGP peer | the router on the link | the latest value |
//! | BGP peer | BFD | the session that it needs | one command per peer |
//! | BFD | BGP peer | state of the session | the latest value |
//! | coordinator | data path | whether to probe | the latest value |
//! | data path | coordinator | answers to probes | 1; the task waits |
//! | coordinator, BGP peers | Speaker object | report, sessions | the latest values |
//! | BGP peers | lateness events, events | sessions | the latest value |
//! | coordinator | events | L2 addresses that this node takes over | one per address of a Service |
//! | L2 | L2 interface | frames to send | 4096; then frames are dropped |
//! | L2 | L2 interface | multicast groups | one command per group |
//! | L2 interfaces | L2 | received frames | 128 per interface; then frames are dropped |
//!
//! # Strangers
//!
//! Routers, hosts on the link and tenants decide how much arrives. Nothing that they keep ready delays a
//! timer or the shutdown:
//! - Each loop handles its timers in every turn, not only when their branch of `select!` is chosen.
//! - Each turn does a bounded amount of work. Receiving from a channel or a socket takes part in the
//!   cooperative scheduling of Tokio, which makes the task yield; waiting for the readiness of a socket does
//!   not, so that the loop of a peer yields in every turn.
//! - The frames of one interface cannot take the room of another interface.
//!
//! Only watches and the data path task ever wait for a receiver. The coordinator never does: its commands
//! replace pending ones with the same key (`tasks::command_queue`).
//!
//! # Cancel safety
//!
//! Each task is a loop around `select!`. Its branches only wait: they receive from a channel, wait for
//! readiness of a socket, or sleep, and lose nothing when another branch completes first. Three branches are
//! futures that the task stores and continues in the next iteration: the TCP connection attempt of a peer
//! task, the inquiry of an isolated mesh task, and the coordinator in [`run`]. The write of the Speaker
//! object is awaited outside of `select!`. Only L2 interface tasks are aborted, when the interface disappears
//! or its sockets must be opened again.
//!
//! # Order of shutdown
//!
//! 1. A signal arrives, or a task ends that must not end.
//! 2. The L2 task begins to hand over every address: it keeps answering for the overlap, and announces and
//!    defends nothing any more, because a frame that followed the announcement of a new owner would undo the
//!    move.
//! 3. The coordinator stops: no change that other nodes make in response is carried out. The mesh task
//!    announces to the other members that this node leaves, and ends.
//! 4. At the same time:
//!    - BGP peers ask the routers to prefer other paths, wait (`--drain-wait`), withdraw their routes and
//!      send Cease, within [`BGP_SHUTDOWN_TIMEOUT`] after the wait. A peer with graceful restart retains its
//!      routes, unless the node remains without a speaker: it is being drained, or the DaemonSet was
//!      deleted. After the BGP session of a peer, its BFD session announces AdminDown, all within
//!      [`BFD_SHUTDOWN_TIMEOUT`] after the last BGP session. FRR would end the BGP session for an AdminDown
//!      that comes first.
//!    - The process remains for [`L2_HANDOVER`] after the mesh was left, so that the overlap ends first. In
//!      this time the new owners announce.
//! 5. The Speaker object shows that the speaker has stopped, within [`LAST_WRITE_TIMEOUT`]. Since step 2 it
//!    has shown that the speaker is stopping.
//! 6. The process exits, which closes all other sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use fairlead_plan::Protocol;
use fairlead_plan::announced_lists::AnnouncedLists;
use fairlead_plan::speaker_object::{SpeakerReport, StopPhase};
use fairlead_runtime::client::{self, Connection};
use fairlead_runtime::http::{self, Health};
use fairlead_runtime::signal;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cluster_state::ClusterState;
use crate::coordinator::Coordinator;
use crate::flags::Flags;
use crate::metrics::Metrics;
use crate::tasks::bfd::BfdSessions;
use crate::tasks::bgp::{BgpPeers, Listeners, NodeRouterId, Passwords, PeerContext, ProcessStart};
use crate::tasks::data_path::DataPathTask;
use crate::tasks::events::{EventsTask, conflict_channel, takeover_channel};
use crate::tasks::gateways;
use crate::tasks::l2::{self, L2Task};
use crate::tasks::lateness_events::LatenessEventsTask;
use crate::tasks::links;
use crate::tasks::mesh::{MeshInput, MeshTask};
use crate::tasks::mesh_key::MeshKey;
use crate::tasks::silent_speakers::SilentSpeakersTask;
use crate::tasks::speaker_object::SpeakerObjectTask;
use crate::watches::{self, WatchOptions};

/// How long the process remains after this node has left the mesh: at least the overlap in which the L2 task
/// keeps answering while the new owners announce.
const L2_HANDOVER: Duration = Duration::from_millis(300);

/// Longest time for BFD sessions to announce AdminDown, which takes 200 ms.
const BFD_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(400);

/// Longest time for BGP peers to receive withdrawals and Cease, after the drain wait.
const BGP_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(1500);

/// Longest time for the last write of the Speaker object. An API server that is gone must not delay the end
/// further.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Shutdown communication in the Cease NOTIFICATION (RFC 9003).
const SHUTDOWN_TEXT: &str = "the speaker on this node is stopping";

/// Most watch events that wait for the coordinator. A watch waits while the channel is full.
const EVENT_CAPACITY: usize = 1024;

/// Runs until a signal arrives, then withdraws all announcements.
///
/// # Errors
/// Returns an error if the Kubernetes client cannot be configured, if the metrics address cannot be bound, or
/// if a task ends that the speaker cannot run without.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    // Before the other threads start, which inherit it.
    if let Err(error) = fairlead_net::shorten_slice() {
        tracing::debug!(%error, "the kernel refuses a shorter slice of the processor");
    }
    let Connection { client, server } = client::connect(&flags.common).await?;
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let monitor = metrics.watches.clone();
    let health = Health::new("the first lists");
    monitor.set_server(&server, health.clone());
    let server = http::serve(
        flags.metrics_addr,
        health.clone(),
        Arc::new(Mutex::new(registry)),
        flags.common.metrics_authorizer(&client),
    );
    let stop = CancellationToken::new();
    let instance = flags.common.instance();

    let (links_sender, links) = watch::channel(Default::default());
    let (gateways_sender, gateways) = watch::channel(Default::default());
    let (mesh_input_sender, mesh_input) = watch::channel(MeshInput::default());
    let (membership_sender, membership) = watch::channel(None);
    let silent_membership = membership.clone();
    // L2 needs the mesh, which elects the owners.
    let disabled: Vec<Protocol> = flags.disabled_protocols().collect();
    let l2_enabled = !disabled.contains(&Protocol::L2);
    let key = if l2_enabled { MeshKey::default() } else { MeshKey::NotNeeded };
    let (mesh_key_sender, mesh_key) = watch::channel(key);
    let (node_addresses_sender, node_addresses) = watch::channel(Vec::new());
    let (turn_sender, turn) = watch::channel(std::time::Duration::ZERO);
    let (report_sender, report) = watch::channel(SpeakerReport::default());
    let sessions = watch::Sender::new(Default::default());
    let (stop_phase, stop_phases) = watch::channel(None);
    let (l2_sender, l2_commands) = l2::command_channel();
    let l2_sender = Arc::new(l2_sender);
    let (l2_report_sender, l2_reports) = l2::report_channel();
    let (conflict_sender, conflicts) = conflict_channel();
    let (probe_wanted, wanted) = watch::channel(false);
    let (answers, probe_answers) = mpsc::channel(1);
    let (event_sender, events) = mpsc::channel(EVENT_CAPACITY);
    let (takeover_sender, takeovers) = takeover_channel();

    let bfd = BfdSessions::start(metrics.clone()).context("cannot start the thread of the BFD sessions")?;
    let process = ProcessStart::now();
    let bgp = BgpPeers::start(PeerContext {
        node: flags.node_name.as_str().into(),
        bfd: bfd.clone(),
        links: links.clone(),
        gateways: gateways.clone(),
        node_addresses,
        turn,
        router_id: NodeRouterId::default(),
        process,
        drain_wait: flags.drain_wait,
        listeners: Arc::new(Listeners::new(flags.bgp_listen_port, metrics.clone())),
        passwords: Arc::new(Passwords::new(client.clone(), &flags.common.namespace, monitor.clone())),
        sessions: sessions.clone(),
        metrics: metrics.clone(),
    })
    .context("cannot start the thread of the BGP sessions")?;
    let mut state = ClusterState::new(&flags.node_name, &instance);
    disabled.iter().for_each(|protocol| state.disable(*protocol));
    if flags.l2_probe {
        state.enable_probes();
    }
    state.set_drain_wait(flags.drain_wait);
    state.set_data_path_wait(flags.data_path_wait, process.node_uptime);
    let coordinator = Coordinator {
        state,
        events,
        membership,
        mesh_key,
        links: links.clone(),
        gateways,
        excluded_interfaces: flags.exclude_interfaces.clone(),
        l2_detection: l2_enabled.then_some(flags.l2_detection),
        mesh_port: flags.mesh_port,
        l2: l2_sender.clone(),
        l2_reports,
        bgp,
        node_addresses: node_addresses_sender,
        turn: turn_sender,
        mesh_input: mesh_input_sender,
        probe_wanted,
        probe_answers,
        report: report_sender,
        health,
        announced: AnnouncedLists::default(),
        takeovers: takeover_sender,
        conflicts: conflict_sender,
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let silent_speakers = SilentSpeakersTask {
        client: client.clone(),
        node: flags.node_name.clone(),
        instance: instance.clone(),
        input: mesh_input.clone(),
        membership: silent_membership,
        stop: stop.clone(),
    };
    let mesh = MeshTask {
        client: client.clone(),
        namespace: flags.common.namespace.clone(),
        node: flags.node_name.clone(),
        port: flags.mesh_port,
        input: mesh_input,
        links: links.clone(),
        membership: membership_sender,
        key: mesh_key_sender,
        stop: stop.clone(),
        detection: flags.l2_detection,
        metrics: metrics.clone(),
    };
    let l2_task = L2Task {
        commands: l2_commands,
        reports: l2_report_sender,
        links,
        excluded_interfaces: flags.exclude_interfaces.clone(),
        metrics: metrics.clone(),
    };
    let data_path =
        DataPathTask { url: flags.data_path_probe.clone(), wanted, answers, metrics: metrics.clone() };
    let events_task = EventsTask {
        client: client.clone(),
        node: flags.node_name.clone(),
        takeovers,
        conflicts,
        sessions: sessions.subscribe(),
        stop: stop.clone(),
    };
    let lateness_events = LatenessEventsTask {
        client: client.clone(),
        node: flags.node_name.clone(),
        sessions: sessions.subscribe(),
    };
    let speaker_object = SpeakerObjectTask {
        client: client.clone(),
        node: flags.node_name.clone(),
        instance: instance.clone(),
        report,
        sessions: sessions.subscribe(),
        stop: stop_phases,
        metrics,
    };

    #[cfg(debug_assertions)]
    tokio::spawn(crate::stall::on_signal("main"));
    tokio::spawn(links::follow(links_sender));
    tokio::spawn(gateways::follow(gateways_sender));
    if l2_enabled {
        tokio::spawn(l2_task.run());
        tokio::spawn(silent_speakers.run());
    }
    tokio::spawn(data_path.run());
    let speaker_object = tokio::spawn(speaker_object.run());
    tokio::spawn(lateness_events.run());
    tokio::spawn(events_task.run());
    let mesh = l2_enabled.then(|| tokio::spawn(mesh.run()));
    let options = WatchOptions {
        instance: instance.clone(),
        drain_cordoned: flags.drain_cordoned,
        daemon_set: flags.daemonset.map(|name| (flags.common.namespace.clone(), name)),
    };
    let mut watches = watches::spawn(&client, options, &monitor, &event_sender);
    let mut coordinator = tokio::spawn(coordinator.run());

    let mut coordinator_result = None;
    let outcome = tokio::select! {
        signal = signal::terminated() => signal.map_err(anyhow::Error::from),
        served = server => match served {
            Ok(()) => Err(anyhow::anyhow!("the metrics server ended unexpectedly")),
            Err(error) => Err(error.into()),
        },
        ended = &mut coordinator => {
            let error = unexpected_end("the coordinator", ended.as_ref().err());
            coordinator_result = Some(ended);
            Err(error)
        }
        ended = watches.join_next() => {
            Err(unexpected_end("a watch", ended.and_then(Result::err).as_ref()))
        }
    };
    match &outcome {
        Ok(signal) => tracing::info!(signal, "stopping"),
        Err(error) => tracing::error!(%error, "stopping"),
    }

    // Before the leave message, to which other nodes respond with announcements.
    l2_sender.hand_over_all();
    stop.cancel();
    stop_phase.send_replace(Some(StopPhase::Stopping));
    let mut is_expected = true;
    let stop_bgp = async {
        let result = match coordinator_result {
            Some(result) => result,
            None => coordinator.await,
        };
        // After a panic of the coordinator there is nothing to shut down: its BGP connections are closed.
        if let Ok((mut peers, departure)) = result {
            let (text, restart) = match departure {
                Some(departure) => (format!("{SHUTDOWN_TEXT}: {departure}"), false),
                None => (SHUTDOWN_TEXT.to_owned(), true),
            };
            is_expected = restart;
            peers.shut_down(&text, restart, flags.drain_wait, BGP_SHUTDOWN_TIMEOUT).await;
            // After BGP: FRR would end an established BGP session for an AdminDown.
            bfd.shut_down(BFD_SHUTDOWN_TIMEOUT).await;
        }
    };
    let hand_over_l2 = async {
        if let Some(mesh) = mesh {
            // The other members detect a mesh task that panicked; the handover is the same.
            let _ = mesh.await;
            sleep(L2_HANDOVER).await;
        }
    };
    tokio::join!(stop_bgp, hand_over_l2);
    // Kept until here: the L2 task ends with the last sender of its commands.
    drop(l2_sender);
    stop_phase.send_replace(Some(StopPhase::Stopped { is_expected }));
    if timeout(LAST_WRITE_TIMEOUT, speaker_object).await.is_err() {
        tracing::warn!(
            "no response from the API server: the Speaker object does not show that the speaker has stopped"
        );
    }
    let signal = outcome.context("cannot continue")?;
    tracing::info!(signal, "stopped");
    Ok(())
}

/// Returns the error of a task that must not end. Without a cause, it returned; a panic has written its own
/// message.
fn unexpected_end(task: &str, cause: Option<&JoinError>) -> anyhow::Error {
    match cause {
        Some(cause) => anyhow::anyhow!("{task} ended unexpectedly: {cause}"),
        None => anyhow::anyhow!("{task} ended unexpectedly"),
    }
}
