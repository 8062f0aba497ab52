//! The shell: watches, one task that decides, writes.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Context;
use fairlead_crds::api::{BFDProfile, BGPAdvertisement, BGPPeer, Community, IPAddressPool, L2Advertisement};
use fairlead_crds::config::Labels;
use fairlead_crds::service::ObjectKey;
use fairlead_runtime::watch::{self, Change};
use fairlead_runtime::{client, http, signal};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::Client;
use kube::api::Api;
use kube::core::{PartialObjectMeta, ResourceExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::decide::objects::{Configuration, Configures, ObjectPatch, trim};
use crate::decide::{Decision, Index, Observed};
use crate::events::Events;
use crate::flags::Flags;
use crate::metrics::Metrics;
use crate::secret::ensure_mesh_secret;
use crate::send::send;
use crate::writer::{Answer, Target, Write, Writer};

/// Changes that wait to be taken in. When as many wait, the watches wait.
const QUEUE: usize = 1024;
/// Counts of pools are written at most this often.
const POOL_STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// What the watches tell.
enum Message {
    Services(Change<Seen>),
    Namespaces(Change<(String, Labels)>),
    Pools(Change<IPAddressPool>),
    L2Advertisements(Change<L2Advertisement>),
    BgpAdvertisements(Change<BGPAdvertisement>),
    Peers(Change<BGPPeer>),
    BfdProfiles(Change<BFDProfile>),
    Communities(Change<Community>),
}

/// A Service; `ours` is `None` when it is of another class.
struct Seen {
    key: ObjectKey,
    ours: Option<Box<Observed>>,
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
    let class = flags.common.lb_class().map(str::to_owned);
    tokio::select! {
        served = http::serve(flags.metrics_addr, health.clone(), registry) => served.context("metrics"),
        () = control(client, flags.common.namespace.clone(), class, health, metrics) => Ok(()),
        signal = signal::terminated() => {
            tracing::info!(signal = signal.context("signals")?, "stopping");
            Ok(())
        }
    }
}

/// Watches, decides and writes, for ever. `health` becomes ready after the first pass.
pub async fn control(
    client: Client,
    namespace: String,
    class: Option<String>,
    health: http::Health,
    metrics: Metrics,
) {
    let (sink, mut messages) = mpsc::channel(QUEUE);
    let mut background = watch_all(&client, class, &sink);
    background.spawn(ensure_mesh_secret(client.clone(), namespace));
    drop(sink);

    let mut task = Task {
        events: Events::start(client.clone()),
        client,
        health,
        metrics,
        index: Index::default(),
        configuration: Configuration::default(),
        writer: Writer::default(),
        in_flight: JoinSet::new(),
        dirty_pools: BTreeSet::new(),
        pools_written: None,
    };
    let mut batch = Vec::new();
    loop {
        let wake = task.wake_at().map(tokio::time::Instant::from_std);
        tokio::select! {
            received = messages.recv_many(&mut batch, QUEUE) => {
                if received == 0 {
                    return;
                }
                let now = Timestamp::now();
                batch.drain(..).for_each(|message| task.take_in(message, now));
            }
            Some(done) = task.in_flight.join_next() => {
                if let Ok((target, answer)) = done {
                    task.done(&target, &answer);
                }
            }
            () = tokio::time::sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)), if wake.is_some() => {}
        }
        task.act();
    }
}

fn watch_all(client: &Client, class: Option<String>, sink: &mpsc::Sender<Message>) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    // A Service whose type changes is deleted for this watch. The API server clears its status itself.
    let balancers = watch::config().fields("spec.type=LoadBalancer");
    let seen = move |service: Service| Seen {
        key: ObjectKey { namespace: service.namespace().unwrap_or_default(), name: service.name_any() },
        ours: Observed::of(&service, class.as_deref()).map(Box::new),
    };
    let services = Api::<Service>::all(client.clone());
    watches.spawn(watch::follow(services, balancers, seen, Message::Services, sink.clone()));
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

/// The one task that decides.
struct Task {
    client: Client,
    health: http::Health,
    metrics: Metrics,
    events: Events,
    index: Index,
    configuration: Configuration,
    writer: Writer,
    in_flight: JoinSet<(Target, Answer)>,
    /// Pools whose status may have to be written.
    dirty_pools: BTreeSet<String>,
    pools_written: Option<Instant>,
}

impl Task {
    fn take_in(&mut self, message: Message, now: Timestamp) {
        match message {
            Message::Services(change) => self.services(change, now),
            Message::Namespaces(Change::Apply((name, labels))) => {
                self.index.namespace_applied(name, labels, now)
            }
            Message::Namespaces(Change::Delete((name, _))) => self.index.namespace_deleted(&name),
            Message::Namespaces(Change::Reset(list)) => self.index.namespaces_reset(list, now),
            Message::Pools(change) => self.objects(change, now),
            Message::L2Advertisements(change) => self.objects(change, now),
            Message::BgpAdvertisements(change) => self.objects(change, now),
            Message::Peers(change) => self.objects(change, now),
            Message::BfdProfiles(change) => self.objects(change, now),
            Message::Communities(change) => self.objects(change, now),
        }
    }

    fn services(&mut self, change: Change<Seen>, now: Timestamp) {
        match change {
            Change::Apply(Seen { ours: Some(service), .. }) => self.index.service_applied(*service, now),
            // Not ours (any more).
            Change::Apply(Seen { key, ours: None }) | Change::Delete(Seen { key, .. }) => {
                self.index.service_deleted(&key, now);
            }
            Change::Reset(list) => {
                let ours = list.into_iter().filter_map(|seen| Some(*seen.ours?)).collect();
                self.index.services_reset(ours, now);
            }
        }
    }

    fn objects<K: Configures>(&mut self, change: Change<K>, now: Timestamp) {
        let seen = match &change {
            Change::Apply(object) => vec![object.clone()],
            Change::Reset(objects) => objects.clone(),
            Change::Delete(_) => Vec::new(),
        };
        let names: Vec<String> = seen.iter().filter_map(|object| object.metadata().name.clone()).collect();
        if self.configuration.change(change) {
            if let Some(resolution) = self.configuration.resolve() {
                self.index.set_config(resolution.config.clone(), now);
                self.dirty_pools.extend(self.configuration.pool_names().map(str::to_owned));
                self.dirty_pools.extend(self.metrics.pools());
                let patches = self.configuration.patches(now);
                patches.into_iter().for_each(|patch| self.write(patch));
            }
        } else if K::is_pool() {
            self.dirty_pools.extend(names);
        } else {
            // Its status changed: by us, or it is put right.
            let patches: Vec<_> =
                seen.iter().filter_map(|object| self.configuration.patch(object, now)).collect();
            patches.into_iter().for_each(|patch| self.write(patch));
        }
    }

    /// A write came back.
    fn done(&mut self, target: &Target, answer: &Answer) {
        self.metrics.wrote(answer);
        self.writer.done(Instant::now(), target, answer, rand::random());
        // After a write that was done, the watch shows what is there; after one without an answer, it may yet arrive.
        let settled = !matches!(answer, Answer::Written(_) | Answer::Unavailable(_));
        if let Target::Service(service) = target
            && settled
            && !self.writer.is_busy(target)
        {
            self.index.nothing_on_the_way(service, Timestamp::now());
        }
    }

    /// Does what was decided.
    fn act(&mut self) {
        let mut decisions = VecDeque::from(self.index.take_decisions());
        while let Some(decision) = decisions.pop_front() {
            match decision {
                Decision::Status { service, patch } => {
                    let write = patch
                        .map(|patch| Write { version: patch.resource_version.clone(), body: patch.body() });
                    let target = Target::Service(service);
                    self.writer.put(target.clone(), write);
                    if let Target::Service(service) = &target
                        && !self.writer.is_busy(&target)
                    {
                        self.index.nothing_on_the_way(service, Timestamp::now());
                        decisions.extend(self.index.take_decisions());
                    }
                }
                Decision::Event(event) => {
                    tracing::info!(service = %event.service, reason = %event.reason, "{}", event.message);
                    if !self.events.send(*event) {
                        self.metrics.event_dropped();
                    }
                }
            }
        }
        self.write_pools();
        while let Some((target, write)) = self.writer.poll(Instant::now()) {
            let client = self.client.clone();
            self.in_flight.spawn(async move {
                let answer = send(client, &target, &write).await;
                (target, answer)
            });
        }
        self.metrics.update(&self.index, &self.writer);
        if self.index.is_ready() && !self.health.is_ready() {
            let (services, waiting) = self.index.service_counts();
            tracing::info!(services, waiting, "first pass done");
            self.health.set_ready();
        }
    }

    /// Writes the status of pools that changed, but not more often than the interval says.
    fn write_pools(&mut self) {
        if !self.index.is_ready() {
            return;
        }
        self.dirty_pools.extend(self.index.take_touched_pools().iter().map(|name| name.to_string()));
        let now = Instant::now();
        if self.dirty_pools.is_empty() || self.pools_due().is_some_and(|due| now < due) {
            return;
        }
        self.pools_written = Some(now);
        for name in std::mem::take(&mut self.dirty_pools) {
            self.metrics.pool(&self.index, &name);
            if let Some(patch) = self.configuration.pool_patch(&name, self.index.ipam(), Timestamp::now()) {
                self.write(patch);
            }
        }
    }

    fn pools_due(&self) -> Option<Instant> {
        Some(self.pools_written? + POOL_STATUS_INTERVAL)
    }

    fn wake_at(&self) -> Option<Instant> {
        let pools = if self.dirty_pools.is_empty() { None } else { self.pools_due() };
        [pools, self.writer.poll_timeout()].into_iter().flatten().min()
    }

    fn write(&mut self, patch: ObjectPatch) {
        let write = Write { version: patch.resource_version, body: patch.body };
        self.writer.put(Target::Object(patch.object), Some(write));
    }
}
