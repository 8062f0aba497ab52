//! A cluster with the CRDs of Fairlead, and controllers that run against it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fairlead_apiserver::Cluster;
use fairlead_controller::leader::Election;
use fairlead_controller::metrics::Metrics;
use fairlead_controller::run::{Scope, run_controller};
use fairlead_crds::manifests;
use fairlead_crds::v1beta1::{IPAddressPool, L2Advertisement};
use fairlead_runtime::http;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The name of the controller in Events.
pub(crate) const INSTANCE: &str = "fairlead-controller-7d4b9c-x2x2x";
pub(crate) const NAMESPACE: &str = "fairlead-system";

/// A cluster with the CRDs of Fairlead, and one controller.
pub(crate) struct World {
    pub cluster: Cluster,
    pub client: Client,
    controller: Option<JoinHandle<()>>,
    health: http::Health,
    metrics: http::Metrics,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(manifests::definitions()).await
    }

    /// Starts a cluster with these CRDs, which must contain that of IPAddressPools.
    pub(crate) async fn start_with(definitions: Vec<CustomResourceDefinition>) -> Self {
        let cluster = Cluster::start().await.unwrap();
        let client = cluster.client().await.unwrap();
        for definition in definitions {
            create::<CustomResourceDefinition>(&Api::all(client.clone()), &definition).await;
        }
        let health = http::Health::new("the start");
        let world = Self { cluster, client, controller: None, health, metrics: http::Metrics::default() };
        let pools = Api::<IPAddressPool>::all(world.client.clone());
        eventually("the CRDs are served", async || pools.list(&ListParams::default()).await.is_ok()).await;
        let namespace = object(json!({ "metadata": { "name": NAMESPACE } }));
        create::<Namespace>(&Api::all(world.client.clone()), &namespace).await;
        world
    }

    pub(crate) async fn start_controller(&mut self) {
        self.health = http::Health::new("the start");
        // Each process has a client of its own: its connections end with it.
        let client = self.cluster.client().await.unwrap();
        self.metrics = http::Metrics::default();
        let metrics = Metrics::register(&self.metrics);
        let scope = Scope {
            namespace: NAMESPACE.to_owned(),
            class: None,
            instance: INSTANCE.to_owned(),
            with_mesh: true,
        };
        let health = self.health.clone();
        self.controller = Some(tokio::spawn(async move {
            let stop = CancellationToken::new();
            let election = Election::unopposed(stop.clone());
            run_controller(client, scope, &election, health, metrics, stop).await;
        }));
        eventually("the controller is ready", async || self.health.is_ready()).await;
    }

    /// Starts a second controller with this load balancer class, which runs until the world is dropped.
    pub(crate) async fn start_instance(&self, class: &str) {
        let health = http::Health::new("the start");
        let client = self.cluster.client().await.unwrap();
        let metrics = Metrics::register(&http::Metrics::default());
        let scope = Scope {
            namespace: NAMESPACE.to_owned(),
            class: Some(class.to_owned()),
            instance: INSTANCE.to_owned(),
            with_mesh: true,
        };
        let ready = health.clone();
        tokio::spawn(async move {
            let stop = CancellationToken::new();
            let election = Election::unopposed(stop.clone());
            run_controller(client, scope, &election, health, metrics, stop).await;
        });
        eventually("the second controller is ready", async || ready.is_ready()).await;
    }

    /// Returns the metrics of the controller, in the text format.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics.lock().unwrap()).unwrap();
        text
    }

    /// Returns the remark that `/readyz` adds to its text.
    pub(crate) fn note(&self) -> String {
        self.health.note().unwrap_or_default()
    }

    pub(crate) async fn stop_controller(&mut self) {
        if let Some(task) = self.controller.take() {
            task.abort();
            let _ = task.await;
        }
    }

    pub(crate) fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) async fn pool(&self, name: &str, addresses: &[&str]) {
        let pool = object(json!({ "metadata": { "name": name }, "spec": { "addresses": addresses } }));
        create::<IPAddressPool>(&Api::all(self.client.clone()), &pool).await;
    }

    pub(crate) async fn service(&self, name: &str, annotations: Value) {
        create::<Service>(&self.services(), &load_balancer(name, annotations)).await;
    }

    pub(crate) async fn read(&self, name: &str) -> Service {
        self.services().get(name).await.unwrap()
    }

    /// Returns the addresses of each Service that has some.
    pub(crate) async fn addresses(&self) -> BTreeMap<String, Vec<String>> {
        let list = self.services().list(&ListParams::default()).await.unwrap();
        list.into_iter().map(|s| (s.name_any(), ingress(&s))).filter(|(_, ips)| !ips.is_empty()).collect()
    }

    /// Returns the resourceVersions of all objects that the controller writes.
    pub(crate) async fn versions(&self) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        let mut add = |kind: &str, name: String, version: Option<String>| {
            versions.insert(format!("{kind}/{name}"), version.unwrap_or_default());
        };
        let kinds = [
            ApiResource::erase::<Service>(&()),
            ApiResource::erase::<IPAddressPool>(&()),
            ApiResource::erase::<L2Advertisement>(&()),
        ];
        for kind in kinds {
            // Typed objects cannot hold everything that an API server stores.
            let api = Api::<DynamicObject>::all_with(self.client.clone(), &kind);
            for object in api.list(&ListParams::default()).await.unwrap() {
                add(&kind.kind, object.name_any(), object.resource_version());
            }
        }
        let events = Api::<Event>::all(self.client.clone()).list(&ListParams::default()).await.unwrap();
        for event in
            events.into_iter().filter(|e| e.reporting_controller.as_deref() == Some("fairlead-controller"))
        {
            add("Event", event.name_any(), event.resource_version());
        }
        versions
    }

    /// Waits until the controller writes nothing for 3 s: a change of the reason alone of `Advertised` is
    /// written after 2 s. Returns the resourceVersions.
    pub(crate) async fn at_rest(&self) -> BTreeMap<String, String> {
        let mut before = self.versions().await;
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let now = self.versions().await;
            if now == before {
                return now;
            }
            before = now;
        }
    }
}

pub(crate) fn load_balancer(name: &str, annotations: Value) -> Service {
    object(json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": {
            "type": "LoadBalancer", "selector": { "app": "web" }, "allocateLoadBalancerNodePorts": false,
            "ports": [{ "port": 80, "protocol": "TCP" }],
        },
    }))
}

pub(crate) fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub(crate) async fn create<K>(api: &Api<K>, object: &K)
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    api.create(&PostParams::default(), object).await.unwrap();
}

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the resourceVersion as a number: later writes have higher numbers.
pub(crate) fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

pub(crate) fn ingress(service: &Service) -> Vec<String> {
    let status = service.status.clone().unwrap_or_default();
    let ingress = status.load_balancer.and_then(|lb| lb.ingress).unwrap_or_default();
    ingress.into_iter().filter_map(|ingress| ingress.ip).collect()
}

pub(crate) fn reason(service: &Service, type_: &str) -> String {
    let status = service.status.clone().unwrap_or_default();
    let condition = status.conditions.unwrap_or_default().into_iter().find(|c| c.type_ == type_);
    condition.map(|c| format!("{}/{}", c.status, c.reason)).unwrap_or_default()
}
