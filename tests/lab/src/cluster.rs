//! Stands in for the parts of a cluster that Fairlead expects and the lab does not run: EndpointSlices for
//! Services, and nftables rules on every node. One process in the control plane's namespace does both. On
//! every node it serves the metrics by which kube-proxy reports its progress.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher::watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;

use crate::api::FIELD_MANAGER;
use crate::endpoints;
use crate::netns::Netns;
use crate::proxy::{Node, Rules, SERVICE_NAME};
use crate::proxy_metrics::ProxyMetrics;

/// Changes that follow each other within this time are processed together.
const SETTLE: Duration = Duration::from_millis(10);

/// A node whose data plane is programmed.
#[derive(Debug)]
pub struct DataPlane {
    /// The node that the rules are computed for.
    pub node: Node,
    /// The namespace that the rules are written into.
    pub netns: Netns,
}

/// Time until a failed step is retried if nothing changes before.
const RETRY: Duration = Duration::from_secs(1);

/// Annotation of a Service: while a Service has it, the rules of all nodes follow each change this many
/// milliseconds later.
pub const PROXY_DELAY: &str = "fairlead-lab/proxy-delay-ms";

type Key = (String, String);

/// Boxed, because an event is as large as its object.
enum Change {
    Service(Box<Event<DynamicObject>>),
    Slice(Box<Event<DynamicObject>>),
    Pod(Box<Event<DynamicObject>>),
}

/// The objects of one kind, as last reported by the watch.
struct Store<K> {
    objects: BTreeMap<Key, K>,
    listing: BTreeMap<Key, K>,
    complete: bool,
}

impl<K: DeserializeOwned> Store<K> {
    fn new() -> Self {
        Self { objects: BTreeMap::new(), listing: BTreeMap::new(), complete: false }
    }

    fn take(&mut self, event: Event<DynamicObject>) {
        let key = |object: &DynamicObject| (object.namespace().unwrap_or_default(), object.name_any());
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                let key = key(&object);
                if let Some(object) = read(object) {
                    self.listing.insert(key, object);
                }
            }
            Event::InitDone => {
                self.objects = std::mem::take(&mut self.listing);
                self.complete = true;
            }
            Event::Apply(object) => {
                let key = key(&object);
                match read(object) {
                    Some(object) => self.objects.insert(key, object),
                    None => self.objects.remove(&key),
                };
            }
            Event::Delete(object) => {
                self.objects.remove(&key(&object));
            }
        }
    }
}

/// Reads an object without the times of its conditions, which a typed object may be unable to hold.
fn read<K: DeserializeOwned>(object: DynamicObject) -> Option<K> {
    let name = object.name_any();
    let mut object = serde_json::to_value(object).ok()?;
    for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastProbeTime");
            fields.insert("lastTransitionTime".into(), json!("2000-01-01T00:00:00Z"));
        }
    }
    serde_json::from_value(object).inspect_err(|error| tracing::warn!(%error, name, "unreadable object")).ok()
}

struct Cluster {
    client: Client,
    services: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
    nodes: Vec<(DataPlane, Option<Rules>)>,
    metrics: ProxyMetrics,
    /// The time at which to write the rules; `None` if they are current.
    due: Option<Instant>,
}

/// Runs until the process ends. Without `nodes`, another program is the data plane; without `endpoints`,
/// another one creates the EndpointSlices.
pub async fn run(kubeconfig: &Path, nodes: Vec<DataPlane>, endpoints: bool) -> Result<()> {
    let client = crate::api::connect(kubeconfig).await?;
    let (sink, mut changes) = mpsc::channel(1024);
    follow::<Service>(&client, Change::Service, sink.clone());
    follow::<EndpointSlice>(&client, Change::Slice, sink.clone());
    follow::<Pod>(&client, Change::Pod, sink);
    let metrics = ProxyMetrics::serve(nodes.iter().map(|plane| &plane.netns))?;
    let mut cluster = Cluster {
        client,
        services: Store::new(),
        slices: Store::new(),
        pods: Store::new(),
        nodes: nodes.into_iter().map(|plane| (plane, None)).collect(),
        metrics,
        due: None,
    };
    let mut batch = Vec::new();
    let mut failed = false;
    loop {
        let wait = cluster.due.map(|due| due.saturating_duration_since(Instant::now()));
        let wait = wait.into_iter().chain(failed.then_some(RETRY)).min();
        tokio::select! {
            count = changes.recv_many(&mut batch, 1024) => {
                if count == 0 {
                    return Ok(());
                }
                tokio::time::sleep(SETTLE).await;
            }
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
        while let Ok(change) = changes.try_recv() {
            batch.push(change);
        }
        let is_changed = !batch.is_empty();
        for change in batch.drain(..) {
            match change {
                Change::Service(event) => cluster.services.take(*event),
                Change::Slice(event) => cluster.slices.take(*event),
                Change::Pod(event) => cluster.pods.take(*event),
            }
        }
        if cluster.services.complete && cluster.slices.complete && cluster.pods.complete {
            cluster.program_if_due(is_changed);
            failed = endpoints && !cluster.write_slices().await;
        }
    }
}

fn follow<K: Resource<DynamicType = ()>>(
    client: &Client,
    wrap: fn(Box<Event<DynamicObject>>) -> Change,
    sink: mpsc::Sender<Change>,
) {
    let api = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<K>(&()));
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).backoff(Soon).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if sink.send(wrap(Box::new(event))).await.is_err() {
                        return;
                    }
                }
                Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "watch"),
            }
        }
    });
}

impl Cluster {
    /// Writes the rules when they are due: after a change, or later if a Service has [`PROXY_DELAY`].
    fn program_if_due(&mut self, is_changed: bool) {
        let now = Instant::now();
        if is_changed {
            let delays = self.services.objects.values().filter_map(|service| {
                service.annotations().get(PROXY_DELAY)?.parse().ok().map(Duration::from_millis)
            });
            let delay = delays.max().unwrap_or_default();
            self.due.get_or_insert(now + delay);
        }
        if self.due.take_if(|due| *due <= now).is_none() {
            return;
        }
        // A proxy that is late may have received the changes late.
        self.metrics.set_queued();
        if self.program_nodes() {
            self.metrics.set_synced();
        } else {
            self.due = Some(now + RETRY);
        }
    }

    /// Returns true if all nodes have their rules.
    fn program_nodes(&mut self) -> bool {
        let mut by_service: BTreeMap<Key, Vec<&EndpointSlice>> = BTreeMap::new();
        for ((namespace, _), slice) in &self.slices.objects {
            if let Some(name) = slice.labels().get(SERVICE_NAME) {
                by_service.entry((namespace.clone(), name.clone())).or_default().push(slice);
            }
        }
        let services: Vec<_> = self
            .services
            .objects
            .iter()
            .map(|(key, service)| (service, by_service.get(key).cloned().unwrap_or_default()))
            .collect();
        for (plane, installed) in &mut self.nodes {
            let rules = Rules::of(&plane.node, services.iter().cloned());
            let script = match &*installed {
                Some(old) => rules.change_from(old),
                None => rules.script(),
            };
            if script.is_empty() {
                continue;
            }
            *installed = match plane.netns.feed(Command::new("nft").args(["-f", "-"]), &script) {
                Ok(_) => Some(rules),
                Err(error) => {
                    // The next round writes all rules, whatever exists now.
                    tracing::error!("{}: {error:#}", plane.node.name);
                    None
                }
            };
        }
        self.nodes.iter().all(|(_, installed)| installed.is_some())
    }

    /// Returns true if all slices are correct or a write for them is in progress.
    async fn write_slices(&self) -> bool {
        let mut written = true;
        let mut wanted = BTreeMap::new();
        for service in self.services.objects.values() {
            for slice in endpoints::slices(service, self.pods.objects.values()) {
                wanted.insert((slice.namespace().unwrap_or_default(), slice.name_any()), slice);
            }
        }
        for (key, slice) in &wanted {
            let same = self.slices.objects.get(key).is_some_and(|seen| {
                seen.endpoints == slice.endpoints
                    && seen.ports == slice.ports
                    && seen.address_type == slice.address_type
            });
            if !same {
                let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.0);
                let apply = PatchParams::apply(FIELD_MANAGER).force();
                if let Err(error) = api.patch(&key.1, &apply, &Patch::Apply(slice)).await {
                    tracing::warn!(%error, "write EndpointSlice {}/{}", key.0, key.1);
                    written = false;
                }
            }
        }
        for (key, slice) in &self.slices.objects {
            let ours = slice.labels().get(endpoints::MANAGED_BY.0).map(String::as_str)
                == Some(endpoints::MANAGED_BY.1);
            if ours && !wanted.contains_key(key) {
                let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.0);
                written &= api.delete(&key.1, &Default::default()).await.is_ok();
            }
        }
        written
    }
}

/// Retry policy of a watch. Tests wait for the back-off of the daemons after an outage and must not wait for
/// this process as well.
struct Soon;

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}
