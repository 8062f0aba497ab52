//! The shell: leadership, watches, one task that decides, writes.

use std::time::{Duration, Instant};

use anyhow::Context;
use fairlead_crds::api::IPClaim;
use fairlead_crds::claim::Claim;
use fairlead_crds::service::ObjectKey;
use fairlead_runtime::lean::Lean;
use fairlead_runtime::watch;
use fairlead_runtime::{client, http, signal};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::Client;
use kube::api::Api;
use kube::core::{PartialObjectMeta, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::decide::Observed;
use crate::decide::objects::trim;
use crate::flags::Flags;
use crate::lease::{Candidate, Election};
use crate::metrics::Metrics;
use crate::task::{Message, Seen, Task};

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
    tokio::select! {
        served = http::serve(flags.metrics_addr, health.clone(), registry) => served.context("metrics")?,
        failed = stopped => failed?,
        () = control => {}
    }
    // Only now, after the last write was answered, another may lead.
    give_up.cancel();
    election.ended().await;
    Ok(())
}

/// Watches, and while this controller leads, decides and writes, until told to stop. `health` becomes ready when everything
/// was listed, and decided by the one that leads.
pub async fn control(
    client: Client,
    scope: Scope,
    election: &Election,
    health: http::Health,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let (sink, mut messages) = mpsc::channel(QUEUE);
    let _watches = watch_all(&client, scope.class.clone(), &sink);
    drop(sink);
    let mut leadership = election.leadership();
    let mut task = Task::new(client, scope.namespace, leadership.clone(), health, metrics);
    let mut batch = Vec::new();
    loop {
        let wake = task.wake_at(Instant::now()).map(tokio::time::Instant::from_std);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // Gained, extended or lost.
            Ok(()) = leadership.changed() => {}
            Some(done) = task.next_written() => task.done(done),
            received = messages.recv_many(&mut batch, QUEUE) => {
                if received == 0 {
                    return;
                }
                let now = Timestamp::now();
                batch.drain(..).for_each(|message| task.take_in(message, now));
            }
            () = tokio::time::sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)), if wake.is_some() => {}
        }
        task.act(messages.len());
    }
    let _ = tokio::time::timeout(LAST_WRITES, task.finish()).await;
}

fn watch_all(client: &Client, class: Option<String>, sink: &mpsc::Sender<Message>) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    // A Service whose type changes is deleted for this watch. The API server clears its status itself.
    let balancers = watch::config().fields("spec.type=LoadBalancer");
    let seen = move |Lean(service): Lean<Service>| Seen {
        key: ObjectKey { namespace: service.namespace().unwrap_or_default(), name: service.name_any() },
        ours: Observed::of(&service, class.as_deref()).map(Box::new),
    };
    let services = Api::<Lean<Service>>::all(client.clone());
    watches.spawn(watch::follow(services, balancers, seen, Message::Services, sink.clone()));
    let claims = Api::<IPClaim>::all(client.clone());
    let claim = |claim: IPClaim| Box::new(Claim::from_object(&claim));
    watches.spawn(watch::follow(claims, watch::config(), claim, Message::Claims, sink.clone()));
    let namespaces = Api::<PartialObjectMeta<Namespace>>::all(client.clone());
    let labels = |namespace: PartialObjectMeta<Namespace>| (namespace.name_any(), namespace.labels().clone());
    watches.spawn(watch::follow(namespaces, watch::config(), labels, Message::Namespaces, sink.clone()));
    macro_rules! objects {
        ($($wrap:path),*) => {$(
            watches.spawn(watch::follow(Api::all(client.clone()), watch::config(), trim, $wrap, sink.clone()));
        )*};
    }
    objects!(
        Message::Pools,
        Message::L2Advertisements,
        Message::BgpAdvertisements,
        Message::Peers,
        Message::BfdProfiles,
        Message::Communities
    );
    watches
}
