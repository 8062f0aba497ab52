//! The shell: leadership, watches, one task that decides, writes.

use std::time::{Duration, Instant};

use anyhow::Context;
use fairlead_runtime::{client, http, signal};
use jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::flags::Flags;
use crate::leader::{Candidate, Election};
use crate::metrics::Metrics;
use crate::reconciler::Task;
use crate::watches::watch_all;

/// Changes that wait to be taken in. When as many wait, the watches wait.
const QUEUE: usize = 1024;
/// How long a controller that is told to stop goes on writing what it has decided, before it lets another lead.
const LAST_WRITES: Duration = Duration::from_millis(500);

/// What the controller works for.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Namespace of Fairlead's own objects.
    pub namespace: String,
    /// `spec.loadBalancerClass` of the Services that are ours.
    pub class: Option<String>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start: no usable kubeconfig, no signal handler, or the metrics address is taken.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let client = client::connect(&flags.common).await?;
    let health = http::Health::new("the first list of all kinds");
    let registry = http::Metrics::default();
    let metrics = Metrics::register(&registry);
    let scope = Scope {
        namespace: flags.common.namespace.clone(),
        class: flags.common.lb_class().map(str::to_owned),
    };
    let give_up = CancellationToken::new();
    let election = if flags.leader_election.enabled {
        let timing = flags.leader_election.timing;
        let candidate = Candidate::new(flags.pod_name.as_deref());
        Election::start(client.clone(), &scope.namespace, candidate, timing, give_up.clone())
    } else {
        Election::unopposed(give_up.clone())
    };
    let stop = CancellationToken::new();
    let control = control(client, scope, &election, health.clone(), metrics, stop.clone());
    let stopped = async {
        let signal = signal::terminated().await.context("signals")?;
        tracing::info!(signal, "stopping");
        stop.cancel();
        // The task that decides ends by itself now, and everything with it.
        std::future::pending::<anyhow::Result<()>>().await
    };
    let settled = tokio::select! {
        served = http::serve(flags.metrics_addr, health.clone(), registry) => return served.context("metrics"),
        failed = stopped => return failed,
        settled = control => settled,
    };
    if settled {
        // Only now, after the last write was answered, another may lead.
        give_up.cancel();
        election.ended().await;
    } else {
        tracing::warn!("a write was not answered and may still arrive: the Lease is left to run out");
    }
    Ok(())
}

/// Watches, and while this controller leads, decides and writes, until told to stop. `health` becomes ready when everything
/// was listed, and decided by the one that leads. Returns whether all that was sent has been answered.
pub async fn control(
    client: Client,
    scope: Scope,
    election: &Election,
    health: http::Health,
    metrics: Metrics,
    stop: CancellationToken,
) -> bool {
    let (sink, mut messages) = mpsc::channel(QUEUE);
    let mut leadership = election.leadership();
    let mut task = Task::new(client.clone(), scope.namespace, leadership.clone(), health, metrics);
    task.act(0);
    let mut round = task.round();
    let mut watches = watch_all(&client, scope.class.as_deref(), round, &sink);
    let mut batch = Vec::new();
    loop {
        let wake = task.wake_at(Instant::now()).map(tokio::time::Instant::from_std);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // Gained, extended or lost.
            Ok(()) = leadership.changed() => {}
            Some(done) = task.next_written() => task.done(done),
            _ = messages.recv_many(&mut batch, QUEUE) => {
                let now = Timestamp::now();
                batch.drain(..).for_each(|news| task.take_in(news, now));
            }
            () = tokio::time::sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)), if wake.is_some() => {}
        }
        task.act(messages.len());
        if task.round() != round {
            round = task.round();
            watches = watch_all(&client, scope.class.as_deref(), round, &sink);
        }
    }
    drop(watches);
    let _ = tokio::time::timeout(LAST_WRITES, task.finish()).await;
    task.settle().await
}
