//! Starts and stops the tasks of the controller.
//!
//! The process has one thread. Its tasks, what each owns, and its channels with their bounds:
//!
//! - The reconcile loop, [`run_controller`]: all state and decisions, the write queue. Receives watch events
//!   (at most `WATCH_EVENTS`) and the leadership (a watch channel, latest value only). Ends at the stop
//!   signal, after its last writes.
//! - One task per watched kind, `watch_all`: its list and watch requests. Sends watch events, and waits
//!   while their channel is full. Ends when its set is dropped: at a relist and at the end of the loop.
//! - One task per write in flight: its request. Returns the result through a `JoinSet`, whose size is bounded
//!   by the window of the write queue (256). Ends with the response, the time limit or the term.
//! - The election, [`Election`]: the Lease. Publishes the leadership. Ends after the release of the Lease.
//! - The event sender, `EventSender`: events that wait to be sent, at most 8192; more are
//!   dropped and counted. It has at most 8 requests in flight, a task each. Ends when the reconcile loop
//!   drops it.
//! - The mesh Secret, `MeshSecretTask`: the watch of that Secret, and one request at a time. Ends with the
//!   term.
//! - Departed Services, `Departures`: their queue and at most 4 requests. Ends with the term.
//! - Speaker reports, `SpeakerReports`: at most 256 nodes to report, and one request at a time. Ends with the
//!   term.
//! - HTTP: the listener of /metrics, /healthz and /readyz. Ends with the process.
//!
//! # Cancel safety
//!
//! The loop selects over cancel-safe futures only: `changed`, `recv_many`, `JoinSet::join_next` and a timer.
//! No input is lost when another branch wins. Everything that must not be interrupted runs between two
//! selects, without `await`. Dropping the watches loses no state: a relist lists everything again. A write
//! whose task is aborted at the end of a term is in doubt: the reconciler keeps its addresses reserved until
//! the write can no longer be applied, and does not release the Lease before.

use std::time::{Duration, Instant};

use anyhow::Context;
use fairlead_crds::model::instance::Instance;
use fairlead_runtime::client::{self, Connection};
use fairlead_runtime::flags::EnabledProtocol;
use fairlead_runtime::{http, signal};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::flags::Flags;
use crate::leader::{Candidate, Election};
use crate::metrics::Metrics;
use crate::reconciler::Reconciler;
use crate::timer::sleep_until;
use crate::watches::watch_all;

/// Bound of the channel of watch events. While it is full, the watches wait.
const WATCH_EVENTS: usize = 1024;
/// Time limit for writing the remaining decisions when the controller stops, before it releases the Lease.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// The part of the cluster that the controller handles, and its name there.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Namespace of Fairlead's own objects.
    pub namespace: String,
    /// `spec.loadBalancerClass` of the Services to handle; `None` handles Services without a class.
    pub class: Option<String>,
    /// Name of this process in the Events that it reports: the name of its pod.
    pub instance: String,
    /// The speakers need the key of the mesh.
    pub with_mesh: bool,
}

impl Scope {
    /// Returns the instance of Fairlead.
    pub(crate) fn fairlead_instance(&self) -> Instance {
        Instance { class: self.class.clone(), namespace: self.namespace.clone() }
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// Returns an error if there is no usable kubeconfig, a signal handler cannot be installed, or the metrics
/// address is in use.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let Connection { client, server } = client::connect(&flags.common).await?;
    let health = http::Health::new("the first list of all kinds");
    let registry = http::Metrics::default();
    let metrics = Metrics::register(&registry);
    metrics.watches().set_server(&server, health.clone());
    let scope = Scope {
        namespace: flags.common.namespace.clone(),
        class: flags.common.lb_class().map(str::to_owned),
        instance: flags.instance(),
        with_mesh: flags.common.enables(EnabledProtocol::L2),
    };
    let release = CancellationToken::new();
    let election = if flags.leader_election.enabled {
        let timing = flags.leader_election.timing;
        let candidate = Candidate::new(flags.pod_name.as_deref());
        Election::start(client.clone(), &scope.namespace, candidate, timing, release.clone())
    } else {
        Election::unopposed(release.clone())
    };
    let stop = CancellationToken::new();
    let authorizer = flags.common.metrics_authorizer(&client);
    let controller = run_controller(client, scope, &election, health.clone(), metrics, stop.clone());
    let stop_at_signal = async {
        let signal = signal::terminated().await.context("cannot install signal handlers")?;
        tracing::info!(signal, "stopping");
        stop.cancel();
        // The reconcile loop ends, which ends the select below.
        std::future::pending::<anyhow::Result<()>>().await
    };
    let all_answered = tokio::select! {
        served = http::serve(flags.metrics_addr, health.clone(), registry, authorizer) => {
            return served.context("cannot serve metrics");
        }
        failed = stop_at_signal => return failed,
        all_answered = controller => all_answered,
    };
    if all_answered {
        // Another controller may lead only after the last write was answered.
        release.cancel();
        election.ended().await;
    } else {
        tracing::warn!("a write without a response may still be applied; leaving the Lease to expire");
    }
    Ok(())
}

/// Runs the reconcile loop until `stop` is cancelled. `health` becomes ready when every kind was listed and,
/// on the leader, the first pass is complete. Returns whether every write was answered, so that the Lease may
/// be released.
pub async fn run_controller(
    client: Client,
    scope: Scope,
    election: &Election,
    health: http::Health,
    metrics: Metrics,
    stop: CancellationToken,
) -> bool {
    let (sink, mut watch_events) = mpsc::channel(WATCH_EVENTS);
    let mut leadership = election.leadership();
    let monitor = metrics.watches().clone();
    let instance = scope.fairlead_instance();
    let mut reconciler = Reconciler::new(client.clone(), scope.clone(), leadership.clone(), health, metrics);
    reconciler.end_turn(0);
    let mut relist = reconciler.relist();
    let mut watches = watch_all(&client, &instance, relist, &monitor, &sink);
    let mut batch = Vec::new();
    loop {
        let wake = reconciler.poll_timeout(Instant::now());
        tokio::select! {
            // The timer comes last, because it only wakes the loop: `end_turn` handles what is due in every
            // turn.
            biased;
            () = stop.cancelled() => break,
            // The term began, was extended or ended.
            Ok(()) = leadership.changed() => {}
            Some(finished) = reconciler.next_finished_write() => reconciler.handle_finished_write(&finished),
            _ = watch_events.recv_many(&mut batch, WATCH_EVENTS) => {
                reconciler.handle_watch_events(&mut batch, Timestamp::now());
            }
            () = sleep_until(wake) => {}
        }
        reconciler.end_turn(watch_events.len());
        if reconciler.relist() != relist {
            relist = reconciler.relist();
            watches = watch_all(&client, &instance, relist, &monitor, &sink);
        }
    }
    drop(watches);
    // The next leader writes what is left.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, reconciler.drain()).await;
    reconciler.finish_writes().await
}
